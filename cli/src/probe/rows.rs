//! The memory that a party lets others read, filled so that every line tells whose it is and where.

use std::sync::Arc;

use sterna_kernels::RowPtr;
use sterna_rdma::{Rank, Region};

/// Bytes that hold the same value.
pub(super) const LINE_BYTES: usize = 64;

const LINE_FLOATS: usize = LINE_BYTES / size_of::<f32>();

/// Fills `region` for its owner.
pub(super) fn fill(region: &Arc<Region>, owner: Rank) {
    for line in 0..region.bytes() / LINE_BYTES {
        // SAFETY: the line is inside the region, which `region` keeps alive during the call; it is aligned, and nobody makes
        // references to a region's content.
        let row: RowPtr =
            unsafe { RowPtr::new(region.base().add(line * LINE_BYTES).cast(), LINE_FLOATS) };
        row.fill(value(owner, line));
    }
}

/// What a line of `owner` holds: a small integer, which a float holds exactly.
fn value(owner: Rank, line: usize) -> f32 {
    let mixed = (owner.index() + 1).wrapping_mul(1_000_003).wrapping_add(line) % (1 << 24);
    #[allow(clippy::cast_precision_loss, reason = "below 2^24, so exact")]
    let value = mixed as f32;
    value
}

/// Whether `bytes` are what `owner` has from `offset`, a multiple of the line.
pub(super) fn holds(bytes: &[u8], owner: Rank, offset: usize) -> bool {
    debug_assert!(offset.is_multiple_of(LINE_BYTES));
    bytes.chunks(LINE_BYTES).zip(offset / LINE_BYTES..).all(|(part, line)| {
        let expected = value(owner, line).to_le_bytes();
        part.chunks(4).all(|float| float == &expected[..float.len()])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_another_owner_or_another_place_are_told_apart() {
        let mut bytes = Vec::new();
        for line in 4..8 {
            bytes.extend(value(Rank(1), line).to_le_bytes().repeat(LINE_FLOATS));
        }
        assert!(holds(&bytes, Rank(1), 4 * LINE_BYTES));
        assert!(holds(&bytes[..72], Rank(1), 4 * LINE_BYTES));
        assert!(!holds(&bytes, Rank(0), 4 * LINE_BYTES));
        assert!(!holds(&bytes, Rank(1), 5 * LINE_BYTES));
        bytes[200] ^= 1;
        assert!(!holds(&bytes, Rank(1), 4 * LINE_BYTES));
    }
}
