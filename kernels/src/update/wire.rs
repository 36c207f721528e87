//! Updates as bytes: the block without its unused parts, little endian.

use super::{GRADIENTS_ROOM, HEADER_LEN, MAP_PRESENT, Update};
use crate::optimizer::RowShape;

const WORD_BYTES: usize = size_of::<f32>();

/// Bytes that are no update of the expected shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpdateError {
    /// Shorter or longer than its own header says.
    #[error("an update of {found} bytes where its header asks for {expected}")]
    Length {
        /// Bytes that are there.
        found: usize,
        /// Bytes that the header and the table's shape ask for.
        expected: usize,
    },
    /// A header that no node writes.
    #[error("an update's header holds the unknown counts {0:#x}")]
    Header(u32),
}

impl Update<'_> {
    /// Length of the update on the wire.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        WORD_BYTES * encoded_words(self.shape, self.counts())
    }

    /// Length on the wire of an update that changes nothing: zeros.
    #[must_use]
    pub const fn empty_bytes() -> usize {
        HEADER_LEN * WORD_BYTES
    }

    /// Appends the update to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.resize(start + self.encoded_len(), 0);
        self.encode_to(&mut out[start..]);
    }

    /// Writes the update to `out`.
    ///
    /// # Panics
    /// If `out` is not [`Update::encoded_len`] long.
    pub fn encode_to(&self, out: &mut [u8]) {
        assert_eq!(out.len(), self.encoded_len(), "room for exactly the update");
        let map = if self.has_map() { self.map() } else { &[] };
        let gradients = &self.block[self.gradient_at(0)..self.gradient_at(self.gradients())];
        let words = self.block[..HEADER_LEN].iter().chain(map).chain(gradients);
        for (bytes, word) in out.chunks_exact_mut(WORD_BYTES).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
    }

    /// Reads an update into `block`. Any bytes may come; values may be anything, also infinite.
    ///
    /// # Errors
    /// [`UpdateError`] when the bytes are not an update of this shape.
    ///
    /// # Panics
    /// If `block` is shorter than the shape asks for.
    pub fn decode<'a>(
        shape: &'a RowShape,
        bytes: &[u8],
        block: &'a mut [f32],
    ) -> Result<Update<'a>, UpdateError> {
        let word = |at: usize| {
            let start = at * WORD_BYTES;
            let bytes = bytes.get(start..start + WORD_BYTES)?;
            Some(f32::from_le_bytes(bytes.try_into().expect("four bytes")))
        };
        let too_short =
            UpdateError::Length { found: bytes.len(), expected: HEADER_LEN * WORD_BYTES };
        let counts = word(0).ok_or(too_short)?.to_bits();
        let gradients = (counts & 0xFF) as usize;
        let room = if shape.optimizer.is_linear() { 0 } else { GRADIENTS_ROOM };
        if counts & !(MAP_PRESENT | 0xFF) != 0 || gradients > room {
            return Err(UpdateError::Header(counts));
        }
        let words = encoded_words(shape, counts);
        if bytes.len() != words * WORD_BYTES {
            return Err(UpdateError::Length { found: bytes.len(), expected: words * WORD_BYTES });
        }
        let update = Update::in_block(shape, block);
        let mut words = bytes
            .chunks_exact(WORD_BYTES)
            .map(|bytes| f32::from_le_bytes(bytes.try_into().expect("four bytes")));
        let mut fill = |part: &mut [f32]| {
            for (slot, word) in part.iter_mut().zip(&mut words) {
                *slot = word;
            }
        };
        let map = HEADER_LEN + shape.map_len();
        fill(&mut update.block[..HEADER_LEN]);
        if counts & MAP_PRESENT != 0 {
            fill(&mut update.block[HEADER_LEN..map]);
        }
        fill(&mut update.block[map..map + gradients * (1 + shape.dim)]);
        Ok(update)
    }
}

const fn encoded_words(shape: &RowShape, counts: u32) -> usize {
    let map = if counts & MAP_PRESENT != 0 { shape.map_len() } else { 0 };
    HEADER_LEN + map + (counts & 0xFF) as usize * (1 + shape.dim)
}
