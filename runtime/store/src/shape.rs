//! The form of a table's slots and of the chunks that hold them.
//!
//! ```text
//!  0        8        16                16 + 4 dim        16 + 4 (dim + state)    slot_bytes      (with 4-byte elements)
//! +--------+--------+-----------------+-----------------+-----------------------+
//! | key    | meta   | values          | optimizer state | pad to 16             |
//! +--------+--------+-----------------+-----------------+-----------------------+
//! ```
//! All chunks of a table have the same power of two of bytes; a slot never lies in two chunks. Peers
//! compute the same chunk and offset from a slot's number, so nothing but the number travels.

use sterna_kernels::ElementType;
use sterna_protocol::SlotId;
use thiserror::Error;

/// Bytes of a slot's header: the key, then the meta word.
pub const HEADER_BYTES: usize = 16;

/// The largest row, values and state together.
pub const ROW_BYTES_MAX: usize = 1 << 20;

/// What chunks are not larger than, unless one slot is.
pub const CHUNK_BYTES_DEFAULT: usize = 64 << 20;

/// What chunks of larger tables are not smaller than: a huge page.
const CHUNK_BYTES_MIN: usize = 2 << 20;

/// Why a table cannot have this form.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum ShapeError {
    /// No values, or too many for one row.
    #[error("a row of {bytes} bytes: rows have 4 bytes to 1 MiB, split larger ones over keys")]
    RowBytes {
        /// What the row would take.
        bytes: usize,
    },
    /// A chunk's size is no power of two or cannot hold a slot.
    #[error("chunks of {chunk_bytes} bytes: a power of two of at least {slot_bytes} is needed")]
    ChunkBytes {
        /// What was asked for.
        chunk_bytes: usize,
        /// What a slot takes.
        slot_bytes: usize,
    },
}

/// Where a slot lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotPlace {
    /// The chunk's place in the list of chunks.
    pub chunk: usize,
    /// The slot's first byte in the chunk.
    pub offset: usize,
}

/// Sizes of a table's rows, slots and chunks; the same on all nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableShape {
    element: ElementType,
    dim: usize,
    state_len: usize,
    slot_bytes: usize,
    chunk_bytes: usize,
    slots_per_chunk: u32,
    /// `2^64 / slots_per_chunk`, rounded up: exact for dividends of 32 bits.
    reciprocal: u64,
}

impl TableShape {
    /// The shape of rows with `dim` values of this type and `state_len` floats of optimizer state, in chunks that
    /// suit `slots` slots: at most [`CHUNK_BYTES_DEFAULT`], and smaller where the last chunk would stay half empty.
    ///
    /// # Errors
    /// If the row is empty or too large.
    pub fn new(
        element: ElementType,
        dim: usize,
        state_len: usize,
        slots: u32,
    ) -> Result<Self, ShapeError> {
        let chunk_bytes = chunk_bytes_for(slots, slot_bytes(element, dim, state_len)?);
        Self::with_chunk_bytes(element, dim, state_len, chunk_bytes)
    }

    /// The same with chunks of a given size.
    ///
    /// # Errors
    /// If the row is empty or too large, or a chunk is no power of two or cannot hold a slot.
    pub fn with_chunk_bytes(
        element: ElementType,
        dim: usize,
        state_len: usize,
        chunk_bytes: usize,
    ) -> Result<Self, ShapeError> {
        let slot_bytes = slot_bytes(element, dim, state_len)?;
        let slots_per_chunk = u32::try_from(chunk_bytes / slot_bytes).unwrap_or(0);
        if !chunk_bytes.is_power_of_two() || slots_per_chunk == 0 {
            return Err(ShapeError::ChunkBytes { chunk_bytes, slot_bytes });
        }
        // One slot in a chunk would need 2^64; 2^64 - 1 is short by less than 2^32, see `place`.
        let reciprocal = (u64::MAX / u64::from(slots_per_chunk)).saturating_add(1);
        Ok(Self { element, dim, state_len, slot_bytes, chunk_bytes, slots_per_chunk, reciprocal })
    }

    /// The type of a row's values.
    #[must_use]
    #[inline]
    pub fn element(&self) -> ElementType {
        self.element
    }

    /// Values of a row.
    #[must_use]
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Floats of optimizer state of a row.
    #[must_use]
    pub fn state_len(&self) -> usize {
        self.state_len
    }

    /// Values and state of a row.
    #[must_use]
    pub fn row_len(&self) -> usize {
        self.dim + self.state_len
    }

    /// Bytes of a slot, a multiple of 16.
    #[must_use]
    pub fn slot_bytes(&self) -> usize {
        self.slot_bytes
    }

    /// Bytes of each chunk, a power of two.
    #[must_use]
    pub fn chunk_bytes(&self) -> usize {
        self.chunk_bytes
    }

    /// Slots in each chunk.
    #[must_use]
    pub fn slots_per_chunk(&self) -> u32 {
        self.slots_per_chunk
    }

    /// How many chunks `slots` slots need.
    #[must_use]
    pub fn chunks_for(&self, slots: u32) -> usize {
        slots.div_ceil(self.slots_per_chunk) as usize
    }

    /// Where a slot lies.
    #[must_use]
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the quotient is below 2^32")]
    pub fn place(&self, slot: SlotId) -> SlotPlace {
        let chunk = if self.slots_per_chunk == 1 {
            slot.0
        } else {
            ((u128::from(slot.0) * u128::from(self.reciprocal)) >> 64) as u32
        };
        let index = slot.0 - chunk * self.slots_per_chunk;
        SlotPlace { chunk: chunk as usize, offset: index as usize * self.slot_bytes }
    }
}

fn slot_bytes(element: ElementType, dim: usize, state_len: usize) -> Result<usize, ShapeError> {
    // State behind values of any size starts at a multiple of its own.
    let values = dim.saturating_mul(element.bytes()).div_ceil(size_of::<f32>());
    let bytes = values.saturating_add(state_len).saturating_mul(size_of::<f32>());
    if dim == 0 || bytes > ROW_BYTES_MAX {
        return Err(ShapeError::RowBytes { bytes });
    }
    Ok((HEADER_BYTES + bytes).next_multiple_of(HEADER_BYTES))
}

/// Bytes of the chunks for so many slots: one chunk for few, else the largest up to [`CHUNK_BYTES_DEFAULT`] that leave at most a sixteenth
/// of all memory unused. Where huge pages are made at once, all of a chunk is taken from the machine, used or not.
pub(crate) fn chunk_bytes_for(slots: u32, slot_bytes: usize) -> usize {
    let slots = slots.max(1) as usize;
    let needed = slots.saturating_mul(slot_bytes);
    if needed <= CHUNK_BYTES_MIN {
        return needed.next_power_of_two();
    }
    let mut chunk_bytes = CHUNK_BYTES_DEFAULT;
    while chunk_bytes > CHUNK_BYTES_MIN && chunk_bytes / 2 >= slot_bytes {
        let chunks = slots.div_ceil((chunk_bytes / slot_bytes).max(1));
        if chunks.saturating_mul(chunk_bytes).saturating_sub(needed) <= needed / 16 {
            break;
        }
        chunk_bytes /= 2;
    }
    chunk_bytes.max(slot_bytes.next_power_of_two())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn slots_lie_side_by_side_inside_chunks(
            dim in 1_usize..2000, state in 0_usize..2000, shift in 0_u32..10, slot in any::<u32>(),
        ) {
            let least = slot_bytes(ElementType::F32, dim, state).unwrap().next_power_of_two();
            let shape = TableShape::with_chunk_bytes(ElementType::F32, dim, state, least << shift).unwrap();
            let place = shape.place(SlotId(slot));
            prop_assert_eq!(
                place.chunk * shape.slots_per_chunk() as usize + place.offset / shape.slot_bytes(),
                slot as usize
            );
            prop_assert_eq!(place.offset % shape.slot_bytes(), 0);
            prop_assert!(place.offset + shape.slot_bytes() <= shape.chunk_bytes());
        }
    }

    proptest! {
        #[test]
        fn little_memory_is_left_unused(slots in 1_u32..20_000_000, words in 1_usize..600) {
            let slot_bytes = 8 * words;
            let chunk_bytes = chunk_bytes_for(slots, slot_bytes);
            prop_assert!(chunk_bytes.is_power_of_two() && chunk_bytes <= CHUNK_BYTES_DEFAULT);
            let (slots, per_chunk) = (slots as usize, chunk_bytes / slot_bytes);
            let unused = slots.div_ceil(per_chunk) * chunk_bytes - slots * slot_bytes;
            let allowed = (slots * slot_bytes / 16).max(CHUNK_BYTES_MIN);
            prop_assert!(unused <= allowed, "{unused} bytes of chunks of {chunk_bytes}");
        }
    }

    #[test]
    fn small_tables_get_small_chunks_and_large_ones_the_default() {
        let small = TableShape::new(ElementType::F32, 16, 0, 11).unwrap();
        assert_eq!((small.slot_bytes(), small.chunk_bytes()), (80, 1024));
        assert!(small.slots_per_chunk() >= 11);
        let large = TableShape::new(ElementType::F32, 128, 0, 1 << 21).unwrap();
        assert_eq!(large.chunk_bytes(), CHUNK_BYTES_DEFAULT);
        assert_eq!(TableShape::new(ElementType::F32, 1, 0, 0).unwrap().slot_bytes(), 32);
    }

    #[test]
    fn impossible_shapes_are_errors() {
        assert!(matches!(
            TableShape::new(ElementType::F32, 0, 3, 1),
            Err(ShapeError::RowBytes { .. })
        ));
        assert!(matches!(
            TableShape::new(ElementType::F32, 1 << 19, 0, 1),
            Err(ShapeError::RowBytes { .. })
        ));
        assert!(matches!(
            TableShape::new(ElementType::F32, usize::MAX, 1, 1),
            Err(ShapeError::RowBytes { .. })
        ));
        assert!(matches!(
            TableShape::with_chunk_bytes(ElementType::F32, 16, 0, 64),
            Err(ShapeError::ChunkBytes { slot_bytes: 80, .. })
        ));
    }
}
