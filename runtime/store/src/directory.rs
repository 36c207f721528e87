//! The directory of a table at one home: a word per home slot, readable by peers.
//!
//! Word `i` tells where the key of home slot `i` lives. Only the home's engine writes it, and only
//! with newer epochs; workers and peers read. Beside it, private and only there once somebody needs
//! it, stands a counter per home slot: how many intents of this node's workers name its key now.

use std::fmt;
use std::sync::OnceLock;

use sterna_protocol::{DirectoryWord, SlotId};

use crate::chunks::{ChunkError, ChunkList};
use crate::memory::{ChunkMemory, word};
use crate::shape::chunk_bytes_for;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// Bytes of a directory word.
const WORD_BYTES: usize = 8;

/// The locations of one table's home keys.
pub struct Directory {
    slots: u32,
    words_per_chunk_shift: u32,
    chunks: ChunkList,
    references: OnceLock<Box<[AtomicU32]>>,
}

impl Directory {
    /// A directory for `slots` home slots in chunks of at most `chunk_bytes_max` bytes, rounded up to
    /// a power of two, or smaller ones that waste less; it is usable once [`Directory::chunks_needed`] chunks are there.
    #[must_use]
    pub fn new(slots: u32, chunk_bytes_max: usize) -> Self {
        let shift = Self::chunk_shift(slots, chunk_bytes_max);
        let chunks = (slots as usize).div_ceil(1 << shift);
        Self {
            slots,
            words_per_chunk_shift: shift,
            chunks: ChunkList::new(WORD_BYTES << shift, chunks),
            references: OnceLock::new(),
        }
    }

    /// The logarithm of how many words a chunk has.
    fn chunk_shift(slots: u32, chunk_bytes_max: usize) -> u32 {
        let wanted = chunk_bytes_for(slots.max(8), WORD_BYTES) / WORD_BYTES;
        let words = wanted.min((chunk_bytes_max / WORD_BYTES).max(8).next_power_of_two());
        words.trailing_zeros()
    }

    /// How many home slots it covers.
    #[must_use]
    pub fn slots(&self) -> u32 {
        self.slots
    }

    /// Bytes of each chunk.
    #[must_use]
    pub fn chunk_bytes(&self) -> usize {
        WORD_BYTES << self.words_per_chunk_shift
    }

    /// How many chunks it takes.
    #[must_use]
    pub fn chunks_needed(&self) -> usize {
        self.chunks.limit()
    }

    /// Appends a chunk of zeroed memory.
    ///
    /// # Errors
    /// If the memory is smaller than a chunk, or all chunks are there.
    pub fn grow(&self, memory: ChunkMemory) -> Result<usize, ChunkError> {
        self.chunks.publish(memory)
    }

    /// Where the word of a home slot lies: chunk and offset in bytes.
    #[must_use]
    pub fn place(&self, slot: SlotId) -> (usize, usize) {
        place(self.words_per_chunk_shift, slot)
    }

    /// The same in the directory of a home with so many slots.
    #[must_use]
    pub fn place_in(slots: u32, chunk_bytes_max: usize, slot: SlotId) -> (usize, usize) {
        place(Self::chunk_shift(slots, chunk_bytes_max), slot)
    }

    /// How many chunks the directory of a home with so many slots takes.
    #[must_use]
    pub fn chunks_for(slots: u32, chunk_bytes_max: usize) -> usize {
        (slots as usize).div_ceil(1 << Self::chunk_shift(slots, chunk_bytes_max))
    }

    /// The memory of a chunk.
    #[must_use]
    pub fn chunk(&self, chunk: usize) -> Option<ChunkMemory> {
        self.chunks.memory(chunk)
    }

    /// Where the key of this home slot lives, or nothing if there is no such slot.
    #[must_use]
    #[inline]
    pub fn load(&self, slot: SlotId) -> Option<DirectoryWord> {
        Some(DirectoryWord(self.word(slot)?.load(Ordering::Acquire)))
    }

    /// Writes a word without looking at the one before, when the table is set up.
    ///
    /// # Panics
    /// If there is no such home slot.
    pub fn set(&self, slot: SlotId, word: DirectoryWord) {
        self.word(slot).expect("a home slot").store(word.0, Ordering::Release);
    }

    /// Takes a location if its epoch is newer than the one known, or the same and disclosed only now.
    /// For the home's engine alone. Gives whether it was taken.
    pub fn advance(&self, slot: SlotId, word: DirectoryWord) -> bool {
        let Some(cell) = self.word(slot) else { return false };
        let known = DirectoryWord(cell.load(Ordering::Relaxed));
        let disclosed = word.epoch() == known.epoch()
            && word.owner() == known.owner()
            && known.slot() == SlotId::UNDISCLOSED;
        let taken = word.epoch().newer_than(known.epoch()) || disclosed;
        if taken {
            cell.store(word.0, Ordering::Release);
        }
        taken
    }

    /// How many intents name the key of a home slot; the first call allocates all counters.
    #[must_use]
    pub fn references(&self, slot: SlotId) -> Option<&AtomicU32> {
        let made = || (0..self.slots).map(|_| AtomicU32::new(0)).collect();
        self.references.get_or_init(made).get(slot.0 as usize)
    }

    /// Starts loading the count of a home slot.
    #[inline]
    pub(crate) fn prefetch_references(&self, slot: SlotId) {
        if let Some(count) = self.references.get().and_then(|all| all.get(slot.0 as usize)) {
            crate::prefetch::write(std::ptr::from_ref(count).cast());
        }
    }

    /// Starts loading the word of a home slot.
    #[inline]
    pub(crate) fn prefetch_word(&self, slot: SlotId) {
        if let Some(word) = self.word(slot) {
            crate::prefetch::write(std::ptr::from_ref(word).cast());
        }
    }

    /// Whether an intent names the key of a home slot.
    #[must_use]
    pub fn wanted(&self, slot: SlotId) -> bool {
        let counters = self.references.get().and_then(|counters| counters.get(slot.0 as usize));
        counters.is_some_and(|count| count.load(Ordering::Relaxed) > 0)
    }

    #[inline]
    fn word(&self, slot: SlotId) -> Option<&AtomicU64> {
        if slot.0 >= self.slots {
            return None;
        }
        let (chunk, offset) = self.place(slot);
        let base = self.chunks.base(chunk)?;
        // SAFETY: the offset is inside the chunk, which the list keeps; all access is atomic.
        Some(unsafe { word(base, offset) })
    }
}

fn place(shift: u32, slot: SlotId) -> (usize, usize) {
    let index = slot.0 as usize;
    (index >> shift, (index & ((1 << shift) - 1)) * WORD_BYTES)
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory")
            .field("slots", &self.slots)
            .field("chunks", &self.chunks.len())
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use sterna_protocol::{Epoch, Rank};

    use super::*;

    fn word(owner: u16, epoch: u32, slot: u32) -> DirectoryWord {
        DirectoryWord::new(Rank(owner), Epoch::new(epoch), SlotId(slot))
    }

    #[test]
    fn only_newer_locations_and_late_disclosures_are_taken() {
        let directory = Directory::new(100, 256);
        assert_eq!((directory.chunk_bytes(), directory.chunks_needed()), (256, 4));
        assert_eq!(directory.load(SlotId(3)), None);
        for _ in 0..4 {
            directory.grow(ChunkMemory::heap(256)).unwrap();
        }
        assert!(matches!(
            directory.grow(ChunkMemory::heap(256)),
            Err(ChunkError::Full { limit: 4 })
        ));
        let slot = SlotId(99);
        directory.set(slot, word(0, 1, 99));
        assert!(!directory.advance(slot, word(2, 1, 5)));
        assert!(directory.advance(slot, word(2, 2, SlotId::UNDISCLOSED.0)));
        assert!(directory.advance(slot, word(2, 2, 5)));
        assert!(!directory.advance(slot, word(2, 2, 6)));
        assert!(!directory.advance(slot, word(1, 1, 7)));
        assert_eq!(directory.load(slot), Some(word(2, 2, 5)));
        assert_eq!(directory.load(SlotId(98)), Some(DirectoryWord(0)));
        assert_eq!(directory.load(SlotId(100)), None);
        assert!(!directory.advance(SlotId(100), word(1, 5, 7)));
    }

    #[test]
    fn references_start_at_zero() {
        let directory = Directory::new(3, 4096);
        assert!(!directory.wanted(SlotId(2)));
        directory.references(SlotId(2)).unwrap().store(7, Ordering::Relaxed);
        assert!(!directory.wanted(SlotId(1)) && directory.wanted(SlotId(2)));
        assert!(directory.references(SlotId(3)).is_none() && !directory.wanted(SlotId(3)));
    }
}
