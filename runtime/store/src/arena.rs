//! A table's slots at one node: a list of chunks, and a slot's number as the way to its words.

use std::fmt;

use sterna_protocol::{Epoch, Key, MetaWord, SlotId, SlotState};

use crate::chunks::{ChunkError, ChunkList};
use crate::memory::ChunkMemory;
use crate::shape::TableShape;
use crate::slot::Slot;
use crate::sync::Ordering;

/// Slots of one size class, numbered from 0 through all chunks. Grows while others read it.
pub struct SlotArena {
    shape: TableShape,
    chunks: ChunkList,
}

impl SlotArena {
    /// An empty arena that can hold `chunks_max` chunks.
    #[must_use]
    pub fn new(shape: TableShape, chunks_max: usize) -> Self {
        Self { shape, chunks: ChunkList::new(shape.chunk_bytes(), chunks_max) }
    }

    /// The form of the slots.
    #[must_use]
    pub fn shape(&self) -> &TableShape {
        &self.shape
    }

    /// Appends a chunk of zeroed memory, whose slots are Free, and gives its place in the list.
    /// Peers are told of it before any of its slots is disclosed.
    ///
    /// # Errors
    /// If the memory is smaller than a chunk, or the arena has all the chunks it can have.
    pub fn grow(&self, memory: ChunkMemory) -> Result<usize, ChunkError> {
        self.chunks.publish(memory)
    }

    /// How many chunks there are now.
    #[must_use]
    pub fn chunks(&self) -> usize {
        self.chunks.len()
    }

    /// How many chunks there can be.
    #[must_use]
    pub fn chunks_max(&self) -> usize {
        self.chunks.limit()
    }

    /// The memory of a chunk.
    #[must_use]
    pub fn chunk(&self, chunk: usize) -> Option<ChunkMemory> {
        self.chunks.memory(chunk)
    }

    /// A slot, or nothing if its chunk does not exist yet.
    #[must_use]
    #[inline]
    pub fn slot(&self, slot: SlotId) -> Option<Slot<'_>> {
        let place = self.shape.place(slot);
        let base = self.chunks.base(place.chunk)?;
        // SAFETY: `place` gives an offset at which a whole slot lies inside the chunk, the list keeps
        // the chunk for as long as the arena lives, and its first words are only used as atomics.
        Some(unsafe { Slot::new(base, place.offset, &self.shape) })
    }

    /// Makes a slot the main copy of a row, before any peer or worker has been told of it.
    ///
    /// # Panics
    /// If the chunk does not exist, `row` is not a whole row, or the slot is not Free.
    pub fn install(&self, slot: SlotId, key: Key, epoch: Epoch, row: &[f32]) {
        let slot = self.slot(slot).expect("the chunk was appended before");
        let free = MetaWord(slot.meta().load(Ordering::Relaxed));
        assert_eq!(free.state(), SlotState::Free, "a slot is installed once");
        slot.key_word().store(key.0, Ordering::Relaxed);
        slot.fill_row(row);
        slot.meta().store(MetaWord::new(SlotState::Live, epoch, 0).0, Ordering::Release);
    }
}

impl fmt::Debug for SlotArena {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SlotArena")
            .field("shape", &self.shape)
            .field("chunks", &self.chunks())
            .field("chunks_max", &self.chunks_max())
            .finish()
    }
}
