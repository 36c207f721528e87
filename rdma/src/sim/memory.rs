//! Memory of simulated regions: zeroed heap, aligned to a cache line, read word by word.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::FabricError;
use crate::region::{Region, RegionId, RegionSpec};

/// Regions are whole pages, as those of the other providers.
const PAGE_BYTES: usize = 4096;

/// Alignment of a region's first byte.
const LINE_BYTES: usize = 64;

/// A zeroed heap block, freed on drop.
struct Block {
    start: NonNull<u8>,
}

// SAFETY: the block is plain memory that this value alone frees; access is by raw pointer.
unsafe impl Send for Block {}
// SAFETY: as above, the value has no methods.
unsafe impl Sync for Block {}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: `start` came from `calloc` and is freed here only.
        unsafe { libc::free(self.start.as_ptr().cast()) };
    }
}

/// Allocates a region. `calloc` gives pages that cost nothing until they are touched.
pub(super) fn allocate(id: RegionId, spec: RegionSpec) -> Result<Region, FabricError> {
    let refused = |reason: &str| FabricError::OutOfMemory {
        bytes: spec.bytes,
        what: spec.name.to_owned(),
        reason: reason.to_owned(),
    };
    let bytes = spec
        .bytes
        .max(1)
        .checked_next_multiple_of(PAGE_BYTES)
        .and_then(|bytes| bytes.checked_add(LINE_BYTES))
        .ok_or_else(|| refused("the size is beyond the address space"))?
        - LINE_BYTES;
    // SAFETY: `calloc` has no preconditions; the sum was checked above.
    let start = unsafe { libc::calloc(bytes + LINE_BYTES, 1) };
    let start = NonNull::new(start.cast::<u8>())
        .ok_or_else(|| refused("the heap is exhausted: use smaller tables"))?;
    let skip = start.as_ptr().align_offset(LINE_BYTES);
    // SAFETY: `skip` is below `LINE_BYTES`, which the block has beyond `bytes`.
    let base = unsafe { start.add(skip) };
    // SAFETY: `base` points to `bytes` bytes of the block, aligned to 64, which live as long as
    // `Block`; nobody makes references to them.
    Ok(unsafe { Region::new(id, base, bytes, spec.rights, Box::new(Block { start })) })
}

/// Loads the word at `offset`. Acquire, so that the loads of a READ happen in the order in which
/// the simulator makes them, also if nodes run in threads of their own.
pub(super) fn load_word(region: &Region, offset: usize) -> u64 {
    assert!(offset.is_multiple_of(8) && offset + 8 <= region.bytes(), "checked when posted");
    // SAFETY: within the region by the assertion, which lives as long as the borrow; aligned to 8
    // since the base is aligned to 64; all concurrent access is by atomic or raw word copies.
    let word = unsafe { AtomicU64::from_ptr(region.base().as_ptr().add(offset).cast()) };
    word.load(Ordering::Acquire)
}

/// Loads `out.len()` bytes (a multiple of 8) from `offset`.
pub(super) fn load_bytes(region: &Region, offset: usize, out: &mut [u8]) {
    for (at, word) in out.chunks_exact_mut(8).enumerate() {
        word.copy_from_slice(&load_word(region, offset + at * 8).to_ne_bytes());
    }
}
