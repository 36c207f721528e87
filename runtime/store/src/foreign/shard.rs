//! A part of the foreign table: cells that never move, an index over them, and who gets evicted.

use std::sync::{OnceLock, PoisonError};

use super::index::Index;
use super::{Control, Entry, ForeignKey};
use crate::sync::{AtomicUsize, Mutex, MutexGuard, Ordering};

/// Cells of the first segment; each further one has twice as many.
const SEGMENT_CELLS: usize = if cfg!(loom) { 2 } else { 256 };
/// Words of the first index; it doubles whenever it is half full.
const INDEX_WORDS: usize = if cfg!(loom) { 4 } else { 64 };
/// Cells that an eviction looks at before it gives up: each is spared once if it was used.
const EVICTION_STEPS: usize = 128;

pub(super) struct Shard<C> {
    limit: usize,
    segments: Box<[OnceLock<Segment<C>>]>,
    /// Index `i` has `INDEX_WORDS << i` words; earlier ones stay for readers that still probe them.
    indexes: Box<[OnceLock<Index>]>,
    current: AtomicUsize,
    inner: Mutex<Inner>,
}

struct Inner {
    free: Vec<u32>,
    /// Cells that have ever been used.
    cells: u32,
    /// Where the next eviction starts looking.
    hand: u32,
    generation: u64,
    created: u64,
    evicted: u64,
}

/// A cell starts with a line: a thread that takes an entry takes no part of another.
#[repr(align(64))]
pub(super) struct Cell<C>(Mutex<Option<Entry<C>>>);

type Segment<C> = Box<[Cell<C>]>;

pub(super) type CellGuard<'a, C> = MutexGuard<'a, Option<Entry<C>>>;

impl<C> Cell<C> {
    pub(super) fn lock_used(&self) -> Option<CellGuard<'_, C>> {
        let guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        guard.is_some().then_some(guard)
    }

    /// The entry of a guard that was given out, so it is there.
    pub(super) fn used<'a>(guard: &'a CellGuard<'_, C>) -> &'a Entry<C> {
        guard.as_ref().expect("guards are given out for cells in use")
    }

    pub(super) fn used_mut<'a>(guard: &'a mut CellGuard<'_, C>) -> &'a mut Entry<C> {
        guard.as_mut().expect("guards are given out for cells in use")
    }
}

/// The segment of a cell, and its place there.
fn place(cell: usize) -> (usize, usize) {
    let segment = (cell / SEGMENT_CELLS + 1).ilog2() as usize;
    (segment, cell - SEGMENT_CELLS * ((1 << segment) - 1))
}

impl<C: Control> Shard<C> {
    pub(super) fn new(limit: usize) -> Self {
        let indexes = (limit * 2).next_power_of_two().max(INDEX_WORDS) / INDEX_WORDS;
        let indexes: Box<[OnceLock<Index>]> =
            (0..=indexes.trailing_zeros()).map(|_| OnceLock::new()).collect();
        let _ = indexes[0].set(Index::new(INDEX_WORDS));
        let inner =
            Inner { free: Vec::new(), cells: 0, hand: 0, generation: 1, created: 0, evicted: 0 };
        Self {
            limit,
            segments: (0..=place(limit).0).map(|_| OnceLock::new()).collect(),
            indexes,
            current: AtomicUsize::new(0),
            inner: Mutex::new(inner),
        }
    }

    pub(super) fn cells(&self) -> u32 {
        self.lock().cells
    }

    /// Entries made and given up.
    pub(super) fn counts(&self) -> (u64, u64) {
        let inner = self.lock();
        (inner.created, inner.evicted)
    }

    pub(super) fn cell(&self, cell: u32) -> Option<&Cell<C>> {
        let (segment, at) = place(cell as usize);
        self.segments.get(segment)?.get()?.get(at)
    }

    pub(super) fn prefetch_index(&self, tag: u32) {
        self.index().prefetch(tag);
    }

    pub(super) fn prefetch_entry(&self, tag: u32) {
        if let Some(cell) = self.index().candidates(tag).next() {
            self.prefetch_cell(cell);
        }
    }

    pub(super) fn prefetch_cell(&self, cell: u32) {
        let Some(cell) = self.cell(cell) else { return };
        let start = std::ptr::from_ref(cell).cast::<u8>();
        for at in (0..size_of::<Cell<C>>()).step_by(crate::prefetch::LINE_BYTES) {
            crate::prefetch::write(start.wrapping_add(at));
        }
    }

    /// The locked entry of a key. May miss one that is being made or moved in the index.
    fn probe(&self, id: ForeignKey, tag: u32) -> Option<(u32, CellGuard<'_, C>)> {
        let index = self.indexes[self.current.load(Ordering::Acquire)].get()?;
        index.candidates(tag).find_map(|cell| {
            let mut guard = self.cell(cell)?.lock_used()?;
            let entry = Cell::used_mut(&mut guard);
            if entry.id() != id {
                return None;
            }
            entry.used = true;
            Some((cell, guard))
        })
    }

    pub(super) fn find(&self, id: ForeignKey, tag: u32) -> Option<(u32, CellGuard<'_, C>)> {
        self.probe(id, tag).or_else(|| {
            let _writers_wait = self.lock();
            self.probe(id, tag)
        })
    }

    pub(super) fn find_or_create(
        &self,
        id: ForeignKey,
        tag: u32,
    ) -> Option<(u32, CellGuard<'_, C>)> {
        if let Some(found) = self.probe(id, tag) {
            return Some(found);
        }
        let mut inner = self.lock();
        if let Some(found) = self.probe(id, tag) {
            return Some(found);
        }
        let cell = self.free_cell(&mut inner)?;
        self.make_room(&inner);
        let control = C::new(inner.generation);
        inner.created += 1;
        let mut guard = self.cell(cell)?.0.lock().unwrap_or_else(PoisonError::into_inner);
        *guard = Some(Entry::new(id, control));
        self.index().insert(tag, cell);
        Some((cell, guard))
    }

    fn free_cell(&self, inner: &mut Inner) -> Option<u32> {
        if let Some(cell) = inner.free.pop() {
            return Some(cell);
        }
        if (inner.cells as usize) < self.limit {
            let cell = inner.cells;
            let (segment, _) = place(cell as usize);
            self.segments[segment].get_or_init(|| {
                (0..SEGMENT_CELLS << segment).map(|_| Cell(Mutex::new(None))).collect()
            });
            inner.cells += 1;
            return Some(cell);
        }
        self.evict(inner)
    }

    /// Gives up an entry that nothing pins and that was not used since the hand last came by.
    fn evict(&self, inner: &mut Inner) -> Option<u32> {
        for _ in 0..EVICTION_STEPS.min(self.limit * 2) {
            let cell = inner.hand;
            inner.hand = if cell + 1 < inner.cells { cell + 1 } else { 0 };
            // A locked entry is in use; its holder may be waiting for this shard, so do not wait.
            let Ok(mut guard) = self.cell(cell)?.0.try_lock() else { continue };
            let Some(entry) = guard.as_mut() else { continue };
            if std::mem::take(&mut entry.used) || entry.pinned() {
                continue;
            }
            inner.generation = inner.generation.max(entry.control.generation() + 1);
            inner.evicted += 1;
            let (_, tag) = super::hash(entry.id());
            self.index().remove(tag, cell);
            *guard = None;
            return Some(cell);
        }
        None
    }

    /// Doubles the index if one more entry would fill more than half of it.
    fn make_room(&self, inner: &Inner) {
        let index = self.index();
        let entries = inner.cells as usize - inner.free.len();
        if entries * 2 > index.len() {
            let next = self.current.load(Ordering::Relaxed) + 1;
            let _ = self.indexes[next].set(index.doubled());
            self.current.store(next, Ordering::Release);
        }
    }

    fn index(&self) -> &Index {
        let current = self.current.load(Ordering::Acquire);
        self.indexes[current].get().expect("an index is set before it is current")
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
