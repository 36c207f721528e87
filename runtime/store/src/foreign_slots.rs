//! The slots of a table at a node that hold rows of other homes: which are free, and where a key's is.
//!
//! Such slots lie behind the home slots, in chunks that are added when they are needed and up to a
//! limit. Workers find a key's slot without a lock, in an open-addressed index whose candidates the
//! slots' own headers confirm; who adds, removes or takes slots holds one mutex. A reader that races
//! with a change may miss a key; it then asks the key's entry, under whose lock slots come and go.

use std::collections::VecDeque;
use std::sync::{OnceLock, PoisonError};

use sterna_protocol::{Key, SlotId};

use crate::arena::SlotArena;
use crate::foreign::Index;
use crate::slot::Slot;
use crate::sync::{AtomicUsize, Mutex, MutexGuard, Ordering};

/// Words of the first index; it doubles whenever it is half full.
const INDEX_WORDS: usize = if cfg!(loom) { 4 } else { 256 };

pub(crate) struct ForeignSlots {
    /// The first slot behind those of the home keys, at the start of a chunk.
    first: u32,
    /// One past the last slot that there may be.
    end: u32,
    /// Index `i` has `INDEX_WORDS << i` words; earlier ones stay for readers that still probe them.
    indexes: Box<[OnceLock<Index>]>,
    current: AtomicUsize,
    keys: AtomicUsize,
    inner: Mutex<Inner>,
}

struct Inner {
    /// Slots that were used before; the one that was given back first comes first, so that a Moved slot
    /// leads READs on for as long as possible.
    free: VecDeque<u32>,
    /// Slots that a READ may still name, and the times from which none does, in order.
    resting: VecDeque<(u64, u32)>,
    /// The first slot that was never used.
    next: u32,
}

/// Why there is no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoSlot {
    /// The arena's next chunk is needed.
    Chunk,
    /// All slots that there may be are in use.
    Full,
}

impl ForeignSlots {
    /// Slots from `first` on, at most `count` of them.
    pub(crate) fn new(first: u32, count: u32) -> Self {
        let words = (count as usize * 2).next_power_of_two().max(INDEX_WORDS);
        let levels = (words / INDEX_WORDS).trailing_zeros();
        let indexes: Box<[OnceLock<Index>]> = (0..=levels).map(|_| OnceLock::new()).collect();
        let _ = indexes[0].set(Index::new(INDEX_WORDS));
        Self {
            first,
            end: first + count,
            indexes,
            current: AtomicUsize::new(0),
            keys: AtomicUsize::new(0),
            inner: Mutex::new(Inner {
                free: VecDeque::new(),
                resting: VecDeque::new(),
                next: first,
            }),
        }
    }

    /// Whether no key has a slot here.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.keys.load(Ordering::Relaxed) == 0
    }

    /// How many slots hold, or wait for, a row.
    pub(crate) fn used(&self) -> usize {
        let inner = self.lock();
        (inner.next - self.first) as usize - inner.free.len() - inner.resting.len()
    }

    /// The slot of a key, if it has one.
    #[inline]
    pub(crate) fn find<'a>(&self, arena: &'a SlotArena, key: Key) -> Option<(SlotId, Slot<'a>)> {
        if self.is_empty() {
            return None;
        }
        self.index().candidates(tag(key)).find_map(|slot| {
            let found = arena.slot(SlotId(slot))?;
            (found.key_word().load(Ordering::Acquire) == key.0).then_some((SlotId(slot), found))
        })
    }

    /// The same, and none is missed: nothing changes meanwhile.
    pub(crate) fn find_surely<'a>(
        &self,
        arena: &'a SlotArena,
        key: Key,
    ) -> Option<(SlotId, Slot<'a>)> {
        self.find(arena, key).or_else(|| {
            let _writers_wait = self.lock();
            self.find(arena, key)
        })
    }

    /// Starts loading the part of the index that [`ForeignSlots::find`] will look at first.
    #[inline]
    pub(crate) fn prefetch(&self, key: Key) {
        self.index().prefetch(tag(key));
    }

    /// The slot that a key is likely to have, by the index alone: without a look at the slot, which may be far away.
    #[inline]
    pub(crate) fn guess(&self, key: Key) -> Option<SlotId> {
        if self.is_empty() {
            return None;
        }
        self.index().candidates(tag(key)).next().map(SlotId)
    }

    /// Takes a slot, if one is free in the arena as it is now.
    pub(crate) fn take(&self, arena: &SlotArena, now_ns: u64) -> Result<SlotId, NoSlot> {
        let mut inner = self.lock();
        while inner.resting.front().is_some_and(|&(until_ns, _)| until_ns <= now_ns) {
            let rested = inner.resting.pop_front().map(|(_, slot)| slot);
            inner.free.extend(rested);
        }
        let there = u64::from(arena.shape().slots_per_chunk()) * arena.chunks() as u64;
        if inner.next < self.end && u64::from(inner.next) < there {
            inner.next += 1;
            return Ok(SlotId(inner.next - 1));
        }
        match inner.free.pop_front() {
            Some(slot) => Ok(SlotId(slot)),
            None if inner.next < self.end => Err(NoSlot::Chunk),
            None => Err(NoSlot::Full),
        }
    }

    /// Gives a slot back that no key has, to be used from a time on.
    pub(crate) fn give(&self, slot: SlotId, from_ns: u64) {
        self.give_locked(slot, from_ns, &mut self.lock());
    }

    fn give_locked(&self, slot: SlotId, from_ns: u64, inner: &mut Inner) {
        assert!((self.first..self.end).contains(&slot.0), "a slot for a row of another home");
        if from_ns == 0 {
            inner.free.push_back(slot.0);
        } else {
            inner.resting.push_back((from_ns, slot.0));
        }
    }

    /// Makes a slot findable by its key, which stands in its header.
    pub(crate) fn insert(&self, key: Key, slot: SlotId) {
        let _alone = self.lock();
        let keys = self.keys.load(Ordering::Relaxed) + 1;
        if keys * 2 > self.index().len() {
            let next = self.current.load(Ordering::Relaxed) + 1;
            let _ = self.indexes[next].set(self.index().doubled());
            self.current.store(next, Ordering::Release);
        }
        self.index().insert(tag(key), slot.0);
        self.keys.store(keys, Ordering::Release);
    }

    /// Makes a slot no longer findable.
    pub(crate) fn remove(&self, key: Key, slot: SlotId) {
        self.remove_locked(key, slot, &self.lock());
    }

    /// Makes a slot no longer findable and gives it back.
    pub(crate) fn vacate(&self, key: Key, slot: SlotId, from_ns: u64) {
        let mut inner = self.lock();
        self.remove_locked(key, slot, &inner);
        self.give_locked(slot, from_ns, &mut inner);
    }

    fn remove_locked(&self, key: Key, slot: SlotId, _alone: &Inner) {
        self.index().remove(tag(key), slot.0);
        self.keys.store(self.keys.load(Ordering::Relaxed) - 1, Ordering::Release);
    }

    #[inline]
    fn index(&self) -> &Index {
        let current = self.current.load(Ordering::Acquire);
        self.indexes[current].get().expect("an index is set before it is current")
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The upper half of a multiplicative hash.
#[inline]
fn tag(key: Key) -> u32 {
    (key.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as u32
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::memory::ChunkMemory;
    use crate::shape::TableShape;
    use sterna_kernels::ElementType;

    fn arena(chunks: usize) -> SlotArena {
        let shape = TableShape::with_chunk_bytes(ElementType::F32, 4, 0, 256).unwrap();
        let arena = SlotArena::new(shape, 100);
        for _ in 0..chunks {
            arena.grow(ChunkMemory::heap(256)).unwrap();
        }
        arena
    }

    #[test]
    fn slots_come_from_chunks_that_are_there_and_go_round() {
        let (slots, arena) = (ForeignSlots::new(8, 10), arena(2));
        let taken: Vec<u32> = (0..8).map(|_| slots.take(&arena, 0).unwrap().0).collect();
        assert_eq!(taken, (8..16).collect::<Vec<u32>>());
        assert_eq!(slots.take(&arena, 0), Err(NoSlot::Chunk));
        slots.give(SlotId(12), 0);
        slots.give(SlotId(9), 0);
        assert_eq!((slots.take(&arena, 0), slots.used()), (Ok(SlotId(12)), 7));
        arena.grow(ChunkMemory::heap(256)).unwrap();
        let rest: Vec<_> = (0..4).map(|_| slots.take(&arena, 0)).collect();
        assert_eq!(rest, [Ok(SlotId(16)), Ok(SlotId(17)), Ok(SlotId(9)), Err(NoSlot::Full)]);
    }

    #[test]
    fn slots_that_may_still_be_read_rest_until_their_time() {
        let (slots, arena) = (ForeignSlots::new(0, 2), arena(1));
        let taken = [slots.take(&arena, 0), slots.take(&arena, 0)];
        assert_eq!(taken, [Ok(SlotId(0)), Ok(SlotId(1))]);
        slots.give(SlotId(1), 70);
        assert_eq!((slots.take(&arena, 69), slots.used()), (Err(NoSlot::Full), 1));
        assert_eq!(slots.take(&arena, 70), Ok(SlotId(1)));
    }

    #[test]
    fn keys_are_found_by_the_header_of_their_slots_while_the_index_grows() {
        let arena = arena(100);
        let slots = ForeignSlots::new(0, 800);
        for key in 0..700_u64 {
            let slot = slots.take(&arena, 0).unwrap();
            arena.slot(slot).unwrap().key_word().store(1000 + key, Ordering::Relaxed);
            slots.insert(Key(1000 + key), slot);
        }
        for key in (0..700).step_by(2) {
            let (slot, _) = slots.find(&arena, Key(1000 + key)).unwrap();
            slots.remove(Key(1000 + key), slot);
            slots.give(slot, 0);
        }
        for key in 0..700 {
            let found = slots.find_surely(&arena, Key(1000 + key)).is_some();
            assert_eq!(found, key % 2 == 1, "key {key}");
        }
        assert!(slots.find(&arena, Key(5)).is_none());
        assert_eq!(slots.used(), 350);
    }
}
