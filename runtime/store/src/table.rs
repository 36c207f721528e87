//! A table's rows at one node: single and batched access from worker threads.
//!
//! The way to a local row is arithmetic, then its slot's header, which confirms key and state; the
//! directory is for peers and for rows that are away. Batches are pipelines: while a row is worked on,
//! the lines of rows further on are being loaded.

use std::fmt;

use sterna_kernels::RowPtr;
use sterna_kernels::update::Update;
use sterna_protocol::{DirectoryWord, Epoch, Key, MetaWord, Rank, SlotId, TableId};
use thiserror::Error;

use crate::arena::SlotArena;
use crate::chunks::ChunkError;
use crate::directory::Directory;
use crate::hot::{Change, HotRows};
use crate::memory::ChunkMemory;
use crate::placement::Placement;
use crate::shape::TableShape;
use crate::slot::{Patience, Slot, SlotError};

/// Keys that are worked on as one pipeline: their slots are kept from the fetch to the work.
const GROUP: usize = 64;
/// Bytes of rows that are on their way into the cache while one is worked on: of 1 to 8 KiB the best
/// for rows of 512 bytes; less leaves memory idle, more loses lines again and starts each call late.
const AHEAD_BYTES: usize = 5120;
/// Directory words in one chunk at most.
const DIRECTORY_CHUNK_BYTES: usize = 64 << 20;

/// A key of a batch that was not served here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missed {
    /// Its place in the batch.
    pub index: u32,
    /// Why.
    pub why: SlotError,
}

/// What a batched call was given in wrong lengths.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{keys} keys of {floats} floats need a buffer of {wanted}, got {got}", wanted = keys * floats)]
pub struct WrongLength {
    /// Keys in the call.
    pub keys: usize,
    /// Floats for each.
    pub floats: usize,
    /// Length of the buffer.
    pub got: usize,
}

/// The part of a table that is at home at this node.
pub struct RowTable {
    id: TableId,
    here: Rank,
    placement: Placement,
    arena: SlotArena,
    directory: Directory,
    ahead_read: usize,
    ahead_write: usize,
}

impl RowTable {
    /// A table with no memory yet: [`RowTable::chunks_needed`] chunks of slots and those of the
    /// directory come next, then [`RowTable::install`] for each home key.
    #[must_use]
    pub fn new(
        id: TableId,
        here: Rank,
        placement: Placement,
        shape: TableShape,
        chunks_max: usize,
    ) -> Self {
        let slots = placement.slots(here);
        let ahead = |bytes: usize| (AHEAD_BYTES / bytes).clamp(2, 16);
        Self {
            id,
            here,
            arena: SlotArena::new(shape, chunks_max.max(shape.chunks_for(slots))),
            directory: Directory::new(slots, DIRECTORY_CHUNK_BYTES),
            ahead_read: ahead(shape.dim() * shape.element().bytes() + 16),
            ahead_write: ahead(shape.slot_bytes()),
            placement,
        }
    }

    /// The table's number.
    #[must_use]
    pub fn id(&self) -> TableId {
        self.id
    }

    /// The node that this part belongs to.
    #[must_use]
    pub fn here(&self) -> Rank {
        self.here
    }

    /// Where keys are at home.
    #[must_use]
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// The form of rows and slots.
    #[must_use]
    pub fn shape(&self) -> &TableShape {
        self.arena.shape()
    }

    /// The slots.
    #[must_use]
    pub fn arena(&self) -> &SlotArena {
        &self.arena
    }

    /// The locations of home keys.
    #[must_use]
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Chunks of slots that the home keys take.
    #[must_use]
    pub fn chunks_needed(&self) -> usize {
        self.shape().chunks_for(self.placement.slots(self.here))
    }

    /// Allocates the home keys' slots and directory words by `allocate(bytes)`.
    ///
    /// # Errors
    /// What `allocate` returns, or a chunk that is too small.
    pub fn allocate<E: From<ChunkError>>(
        &self,
        mut allocate: impl FnMut(usize) -> Result<ChunkMemory, E>,
    ) -> Result<(), E> {
        while self.arena.chunks() < self.chunks_needed() {
            self.arena.grow(allocate(self.shape().chunk_bytes())?)?;
        }
        for _ in 0..self.directory.chunks_needed() {
            self.directory.grow(allocate(self.directory.chunk_bytes())?)?;
        }
        Ok(())
    }

    /// Makes this node the owner of a home key at the first epoch, with a row (values, then state).
    ///
    /// # Panics
    /// If the memory is not there, the row has a wrong length, or the key was installed before.
    pub fn install(&self, slot: SlotId, key: Key, row: &[f32]) {
        self.arena.install(slot, key, Epoch::FIRST, row);
        self.directory.set(slot, DirectoryWord::new(self.here, Epoch::FIRST, slot));
    }

    /// The home slot of a key, if this node is its home.
    #[must_use]
    #[inline]
    pub fn home_slot(&self, key: Key) -> Option<Slot<'_>> {
        let at = self.placement.locate_known(key);
        if at.home == self.here { self.arena.slot(at.slot) } else { None }
    }

    /// Copies the values, and state as far as `out` is longer, of a row that is here.
    ///
    /// # Errors
    /// [`SlotError::Elsewhere`] if it is not.
    pub fn pull(&self, key: Key, out: &mut [f32]) -> Result<MetaWord, SlotError> {
        self.home_slot(key).ok_or(SlotError::Elsewhere)?.read(key, out)
    }

    /// The same of one version, with no update half made.
    ///
    /// # Errors
    /// If the row is not here, or writers keep it busy.
    pub fn snapshot(&self, key: Key, out: &mut [f32]) -> Result<MetaWord, SlotError> {
        self.home_slot(key).ok_or(SlotError::Elsewhere)?.snapshot(key, out, Patience::WORKER)
    }

    /// The scalar product of a local row's values with `x`, without a copy.
    ///
    /// # Errors
    /// [`SlotError::Elsewhere`] if the row is not here.
    pub fn dot(&self, key: Key, x: &[f32]) -> Result<f32, SlotError> {
        self.home_slot(key).ok_or(SlotError::Elsewhere)?.dot(key, x)
    }

    /// Writes a local row under its writer bit; the version goes one on.
    ///
    /// # Errors
    /// If the row is not here, or another writer keeps it busy.
    #[inline]
    pub fn update<R>(
        &self,
        key: Key,
        patience: Patience,
        work: impl FnOnce(RowPtr) -> R,
    ) -> Result<(MetaWord, R), SlotError> {
        let mut guard = self.home_slot(key).ok_or(SlotError::Elsewhere)?.lock(key, patience)?;
        let result = guard.edit(work);
        Ok((guard.commit(), result))
    }

    /// Overwrites values, then state as far as `from` is longer.
    ///
    /// # Errors
    /// If the row is not here, or another writer keeps it busy.
    pub fn set(&self, key: Key, from: &[f32], patience: Patience) -> Result<MetaWord, SlotError> {
        let mut guard = self.home_slot(key).ok_or(SlotError::Elsewhere)?.lock(key, patience)?;
        guard.write(from);
        Ok(guard.commit())
    }

    /// Copies the first `floats` floats of the rows of all keys that are here, in the order of keys,
    /// and lists the others. Floats of missed keys are left as they were.
    ///
    /// # Errors
    /// If `out` is not `keys.len() * floats` long or rows are shorter; nothing was copied.
    pub fn pull_batch(
        &self,
        keys: &[Key],
        floats: usize,
        out: &mut [f32],
        missed: &mut Vec<Missed>,
    ) -> Result<(), WrongLength> {
        self.check_rows(keys.len(), floats, out.len())?;
        self.each(
            keys,
            (self.ahead_read, false),
            (out.chunks_exact_mut(floats), missed),
            |_, slot, _| slot.prefetch_read(floats),
            |(out, missed), index, slot, key| {
                let row = out.next().expect("as many as keys");
                read_or_miss(index, slot, key, row, missed);
            },
        );
        Ok(())
    }

    /// Does `work(index, row)` for all keys that are here, each under its writer bit, and lists the
    /// others. The version of each goes one on.
    pub fn push_batch(
        &self,
        keys: &[Key],
        patience: Patience,
        missed: &mut Vec<Missed>,
        mut work: impl FnMut(usize, RowPtr),
    ) {
        self.each(
            keys,
            (self.ahead_write, false),
            missed,
            |_, slot, _| slot.prefetch_write(),
            |missed, index, slot, key| {
                let slot = slot.ok_or(SlotError::Elsewhere);
                match slot.and_then(|slot| slot.lock(key, patience)) {
                    Ok(mut guard) => {
                        guard.edit(|row| work(index as usize, row));
                        guard.commit();
                    }
                    Err(why) => missed.push(Missed { index, why }),
                }
            },
        );
    }

    /// As [`RowTable::pull_batch`], with a worker's private copies before the slots. An update that
    /// finds its row gone goes to `away`.
    ///
    /// # Errors
    /// As [`RowTable::pull_batch`].
    pub fn pull_batch_hot(
        &self,
        hot: &mut HotRows,
        keys: &[Key],
        floats: usize,
        out: &mut [f32],
        missed: &mut Vec<Missed>,
        mut away: impl FnMut(Key, &Update<'_>),
    ) -> Result<(), WrongLength> {
        if hot.is_empty() {
            return self.pull_batch(keys, floats, out, missed);
        }
        self.check_rows(keys.len(), floats, out.len())?;
        self.each(
            keys,
            (self.ahead_read, false),
            (hot, out.chunks_exact_mut(floats), missed),
            |(hot, ..), slot, key| {
                if !hot.holds(key) {
                    slot.prefetch_read(floats);
                }
            },
            |(hot, out, missed), index, slot, key| {
                let row = out.next().expect("as many as keys");
                if hot.stale(key) {
                    // If the slot is busy, the copy stays and serves this pull, too.
                    let _ = hot.drop_key(slot, key, Patience::NONE, &mut away);
                }
                if !hot.pull(key, row) {
                    read_or_miss(index, slot, key, row, missed);
                }
            },
        );
        Ok(())
    }

    /// Asks for the lines with which [`RowTable::push_batch_hot`] of these keys begins. The caller then
    /// does what is left to do before it may change rows, and memory is not idle meanwhile.
    #[inline]
    pub fn prime_push(&self, hot: &mut HotRows, keys: &[Key]) {
        hot.prime(keys.first().copied());
        for &key in keys.iter().take(self.ahead_write.min(GROUP)) {
            if let Some(slot) = self.home_slot(key)
                && hot.touches_slot(key)
            {
                slot.prefetch_write();
            }
        }
    }

    /// Changes the rows of all keys by their floats (`dim` each, in the order of keys), through a
    /// worker's private copies where rows are hot, and lists the keys whose rows are elsewhere or
    /// busy. An update that finds its row gone goes to `away`.
    ///
    /// # Errors
    /// If `floats` is not `keys.len() * dim` long; nothing was changed.
    pub fn push_batch_hot(
        &self,
        hot: &mut HotRows,
        keys: &[Key],
        change: Change,
        floats: &[f32],
        missed: &mut Vec<Missed>,
        mut away: impl FnMut(Key, &Update<'_>),
    ) -> Result<(), WrongLength> {
        let dim = self.shape().dim();
        self.check_rows(keys.len(), dim, floats.len())?;
        let primed = hot.take_primed() == keys.first().copied();
        self.each(
            keys,
            (self.ahead_write, primed),
            (hot, floats.chunks_exact(dim), missed),
            |(hot, ..), slot, key| {
                if hot.touches_slot(key) {
                    slot.prefetch_write();
                }
            },
            |(hot, floats, missed), index, slot, key| {
                let floats = floats.next().expect("as many as keys");
                if let Err(why) = hot.push(slot, key, change, floats, &mut away) {
                    missed.push(Missed { index, why });
                }
            },
        );
        Ok(())
    }

    fn check_rows(&self, keys: usize, floats: usize, got: usize) -> Result<(), WrongLength> {
        let whole = Some(got) == keys.checked_mul(floats);
        if whole && (1..=self.shape().row_len()).contains(&floats) {
            Ok(())
        } else {
            Err(WrongLength { keys, floats, got })
        }
    }

    /// Visits the home slots of keys in order, with `state` for both: `fetch` asks for the lines of a
    /// slot, `ahead` slots later `work` gets it and its key's place in the batch (no slot if the key
    /// is not at home here or its memory not there). `primed`: the first lines were asked for before.
    #[inline]
    fn each<'a, S>(
        &'a self,
        keys: &[Key],
        (ahead, mut primed): (usize, bool),
        mut state: S,
        fetch: impl Fn(&mut S, Slot<'a>, Key),
        mut work: impl FnMut(&mut S, u32, Option<Slot<'a>>, Key),
    ) {
        let mut slots: [Option<Slot<'a>>; GROUP] = [None; GROUP];
        let mut index = 0_u32;
        for group in keys.chunks(GROUP) {
            // Memory has something to do before all places are known.
            let (first, rest) = group.split_at(ahead.min(group.len()));
            for (slot, &key) in slots.iter_mut().zip(first) {
                *slot = self.home_slot(key);
                if let Some(slot) = *slot
                    && !primed
                {
                    fetch(&mut state, slot, key);
                }
            }
            primed = false;
            for (slot, &key) in slots[first.len()..].iter_mut().zip(rest) {
                *slot = self.home_slot(key);
            }
            for (at, &key) in group.iter().enumerate() {
                let next = at + ahead;
                if next < group.len()
                    && let Some(slot) = slots[next]
                {
                    fetch(&mut state, slot, group[next]);
                }
                work(&mut state, index, slots[at], key);
                index += 1;
            }
        }
    }
}

fn read_or_miss(
    index: u32,
    slot: Option<Slot<'_>>,
    key: Key,
    row: &mut [f32],
    missed: &mut Vec<Missed>,
) {
    let read = slot.ok_or(SlotError::Elsewhere).and_then(|slot| slot.read(key, row));
    if let Err(why) = read {
        missed.push(Missed { index, why });
    }
}

impl fmt::Debug for RowTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowTable")
            .field("id", &self.id)
            .field("here", &self.here)
            .field("arena", &self.arena)
            .finish_non_exhaustive()
    }
}
