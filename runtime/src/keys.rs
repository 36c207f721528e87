//! Keys as users give them (`u64`) and as the layers below name them.

use sterna_protocol::Key;

/// The same keys, without a copy.
pub(crate) fn as_keys(keys: &[u64]) -> &[Key] {
    // SAFETY: `Key` is `repr(transparent)` over `u64`.
    unsafe { std::slice::from_raw_parts(keys.as_ptr().cast(), keys.len()) }
}
