//! A table's rows at one node: single and batched access from worker threads.
//!
//! The way to a home row is arithmetic, to a row of another home an index, then in both cases its
//! slot's header, which confirms key and state; the directory is for peers and for rows that are away. Batches are pipelines: while a row is worked on,
//! the lines of rows further on are being loaded.

use std::fmt;
use std::sync::{Arc, OnceLock};

use sterna_kernels::RowPtr;
use sterna_kernels::update::Update;
use sterna_protocol::{DirectoryWord, Epoch, Key, MetaWord, Rank, SlotId, SlotState, TableId};
use thiserror::Error;

use crate::arena::SlotArena;
use crate::board::Board;
use crate::chunks::ChunkError;
use crate::directory::Directory;
use crate::foreign_slots::{ForeignSlots, NoSlot};
use crate::hot::{Change, Changed, HotRows};
use crate::memory::ChunkMemory;
use crate::placement::Placement;
use crate::shape::TableShape;
use crate::slot::{Patience, Slot, SlotError};
use crate::sync::{AtomicU32, Ordering};

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

/// A table's rows at this node: those at home here, and those of other homes that are here now.
pub struct RowTable {
    id: TableId,
    here: Rank,
    placement: Placement,
    arena: SlotArena,
    directory: Directory,
    foreign: ForeignSlots,
    board: Option<Arc<Board>>,
    /// By chunk, then slot: 1 + the place on the board of a row that is there.
    places: Box<[OnceLock<Box<[AtomicU32]>>]>,
    ahead_read: usize,
    ahead_write: usize,
}

impl RowTable {
    /// A table with no memory yet: [`RowTable::chunks_needed`] chunks of slots and those of the
    /// directory come next, then [`RowTable::install`] for each home key. Up to `foreign_max` slots
    /// more may hold rows of other homes.
    #[must_use]
    pub fn new(
        id: TableId,
        here: Rank,
        placement: Placement,
        shape: TableShape,
        foreign_max: u32,
    ) -> Self {
        let slots = placement.slots(here);
        let ahead = |bytes: usize| (AHEAD_BYTES / bytes).clamp(2, 16);
        let home_chunks = shape.chunks_for(slots);
        let per_chunk = shape.slots_per_chunk();
        let first = u32::try_from(home_chunks).expect("as many as slots") * per_chunk;
        let foreign_max = foreign_max.min(u32::MAX - 1 - first);
        let chunks_max = home_chunks + shape.chunks_for(foreign_max);
        Self {
            id,
            here,
            arena: SlotArena::new(shape, chunks_max),
            directory: Directory::new(slots, DIRECTORY_CHUNK_BYTES),
            foreign: ForeignSlots::new(first, foreign_max),
            board: None,
            places: (0..chunks_max).map(|_| OnceLock::new()).collect(),
            ahead_read: ahead(shape.dim() * shape.element().bytes() + 16),
            ahead_write: ahead(shape.slot_bytes()),
            placement,
        }
    }

    /// Tells this board of changes of rows that have a place on it.
    #[must_use]
    pub fn with_board(self, board: Arc<Board>) -> Self {
        Self { board: Some(board), ..self }
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

    /// Where a peer keeps the directory word of one of its home slots: chunk and offset in bytes.
    #[must_use]
    pub fn directory_place(&self, home: Rank, slot: SlotId) -> (usize, usize) {
        Directory::place_in(self.placement.slots(home), DIRECTORY_CHUNK_BYTES, slot)
    }

    /// How many chunks of slots and of the directory a node has from the start, and how many it may
    /// come to have.
    #[must_use]
    pub fn chunks_at(&self, node: Rank, foreign_max: u32) -> ([usize; 2], [usize; 2]) {
        let slots = self.placement.slots(node);
        let rows = self.shape().chunks_for(slots);
        let directory = Directory::chunks_for(slots, DIRECTORY_CHUNK_BYTES);
        let more = self.shape().chunks_for(foreign_max);
        ([rows, directory], [rows + more, directory])
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
        self.arena.slot(self.home_here(key)?)
    }

    /// The number of a key's home slot, if this node is its home.
    #[must_use]
    #[inline]
    pub fn home_here(&self, key: Key) -> Option<SlotId> {
        let at = self.placement.locate_known(key);
        (at.home == self.here).then_some(at.slot)
    }

    /// The slot of a key's row, if it is at home here or has one of the slots for others.
    #[must_use]
    #[inline]
    pub fn slot(&self, key: Key) -> Option<Slot<'_>> {
        self.find(key).map(|(_, slot)| slot)
    }

    /// The same with the slot's number. May miss a foreign row's slot that comes or goes just now.
    #[must_use]
    #[inline]
    pub fn find(&self, key: Key) -> Option<(SlotId, Slot<'_>)> {
        match self.home_here(key) {
            Some(id) => self.arena.slot(id).map(|slot| (id, slot)),
            None => self.foreign.find(&self.arena, key),
        }
    }

    /// Starts loading what [`RowTable::find`] will look at.
    #[inline]
    pub fn prefetch_place(&self, key: Key) {
        if !self.foreign.is_empty() {
            self.foreign.prefetch(key);
        }
    }

    /// Starts loading the header of a key's slot, to which the way is at hand.
    #[inline]
    pub fn prefetch_header(&self, key: Key) {
        if let Some(slot) = self.guess(key).and_then(|id| self.arena.slot(id)) {
            slot.prefetch_read(0);
        }
    }

    /// The slot of a key as far as can be told without a look at it: who only wants it loaded must not wait until it is.
    #[inline]
    fn guess(&self, key: Key) -> Option<SlotId> {
        self.home_here(key).or_else(|| self.foreign.guess(key))
    }

    /// Starts loading what a row takes along, or leaves behind, when it goes: the row, its place on the board, its home's word.
    pub fn prefetch_leaving(&self, key: Key) {
        let Some(id) = self.guess(key) else { return };
        self.prefetch_slot(id);
        if let Some(place) = self.place_of(id) {
            crate::prefetch::read(std::ptr::from_ref(place).cast());
        }
        if self.home_here(key).is_some() {
            self.directory.prefetch_word(id);
        }
    }

    /// Starts loading a slot that a row will come to.
    #[inline]
    pub fn prefetch_slot(&self, slot: SlotId) {
        if let Some(slot) = self.arena.slot(slot) {
            slot.prefetch_write();
        }
    }

    /// Starts loading the header of a home slot and the count of intents that name its key.
    #[inline]
    pub fn prefetch_home(&self, slot: SlotId) {
        if let Some(slot) = self.arena.slot(slot) {
            slot.prefetch_read(0);
        }
        self.directory.prefetch_references(slot);
    }

    /// The same, and none is missed.
    #[must_use]
    pub fn find_surely(&self, key: Key) -> Option<(SlotId, Slot<'_>)> {
        match self.home_here(key) {
            Some(id) => self.arena.slot(id).map(|slot| (id, slot)),
            None => self.foreign.find_surely(&self.arena, key),
        }
    }

    /// Takes a slot for a row of another home.
    ///
    /// # Errors
    /// If there is none; [`NoSlot::Chunk`] if one more chunk of the arena would help.
    pub fn take_slot(&self, now_ns: u64) -> Result<SlotId, NoSlot> {
        self.foreign.take(&self.arena, now_ns)
    }

    /// Gives back a slot that is in no state to be used by its key; no other key gets it before
    /// `from_ns` (0: at once).
    pub fn give_slot(&self, slot: SlotId, from_ns: u64) {
        self.foreign.give(slot, from_ns);
    }

    /// Lets workers find a taken slot by its key.
    pub fn list_slot(&self, key: Key, slot: SlotId) {
        self.foreign.insert(key, slot);
    }

    /// Lets workers no longer find it.
    pub fn unlist_slot(&self, key: Key, slot: SlotId) {
        self.foreign.remove(key, slot);
    }

    /// Both for a row that leaves: it is no longer found, and its slot is free from `from_ns` on.
    pub fn vacate_slot(&self, key: Key, slot: SlotId, from_ns: u64) {
        self.foreign.vacate(key, slot, from_ns);
    }

    /// Slots that rows of other homes take.
    #[must_use]
    pub fn foreign_slots(&self) -> usize {
        self.foreign.used()
    }

    /// Gives the row in a slot, whose writer bit the caller has, a place on the board if it has none.
    /// `None`: the board is full, or there is none.
    #[must_use]
    pub fn enter_board(&self, slot: SlotId, version: u64) -> Option<u32> {
        let (board, place) = (self.board.as_ref()?, self.place_of(slot)?);
        if let Some(known) = place.load(Ordering::Relaxed).checked_sub(1) {
            return Some(known);
        }
        let new = board.place(self.id, slot, version)?;
        place.store(new + 1, Ordering::Release);
        Some(new)
    }

    /// Takes the place of a row that nobody else has a replica of any more.
    pub fn leave_board(&self, slot: SlotId) {
        let (Some(board), Some(place)) = (&self.board, self.place_of(slot)) else { return };
        // Most rows that go were on no board; a swap would wait for its line.
        if place.load(Ordering::Acquire) == 0 {
            return;
        }
        if let Some(known) = place.swap(0, Ordering::AcqRel).checked_sub(1) {
            board.clear(known);
        }
    }

    /// Tells the board that the row of a key has changed, if others have replicas of it.
    #[cold]
    pub fn mark_changed(&self, key: Key) {
        let place = self.find_surely(key).and_then(|(slot, _)| self.place_of(slot));
        let place = place.and_then(|place| place.load(Ordering::Acquire).checked_sub(1));
        if let (Some(board), Some(place)) = (&self.board, place) {
            board.mark(place);
        }
    }

    /// The version of the row in a slot, if that is a main copy.
    #[must_use]
    pub fn version_of(&self, slot: SlotId) -> Option<u64> {
        let (_, meta) = self.arena.slot(slot)?.header();
        meta.state().owns().then(|| meta.version())
    }

    fn place_of(&self, slot: SlotId) -> Option<&AtomicU32> {
        let per_chunk = self.shape().slots_per_chunk();
        let chunk = self.places.get((slot.0 / per_chunk) as usize)?;
        let places = chunk.get_or_init(|| (0..per_chunk).map(|_| AtomicU32::new(0)).collect());
        places.get((slot.0 % per_chunk) as usize)
    }

    #[inline]
    fn note(&self, key: Key, now: MetaWord) {
        if now.state() == SlotState::Shared {
            self.mark_changed(key);
        }
    }

    /// Copies the values, and state as far as `out` is longer, of a row that is here: the main copy or
    /// a replica.
    ///
    /// # Errors
    /// [`SlotError::Elsewhere`] if it is not.
    pub fn pull(&self, key: Key, out: &mut [f32]) -> Result<MetaWord, SlotError> {
        self.slot(key).ok_or(SlotError::Elsewhere)?.read(key, out)
    }

    /// The main copy, of one version and with no update half made.
    ///
    /// # Errors
    /// If the row is not here, or writers keep it busy.
    pub fn snapshot(&self, key: Key, out: &mut [f32]) -> Result<MetaWord, SlotError> {
        self.slot(key).ok_or(SlotError::Elsewhere)?.snapshot(key, out, Patience::WORKER)
    }

    /// The scalar product of a local row's values with `x`, without a copy.
    ///
    /// # Errors
    /// [`SlotError::Elsewhere`] if the row is not here.
    pub fn dot(&self, key: Key, x: &[f32]) -> Result<f32, SlotError> {
        self.slot(key).ok_or(SlotError::Elsewhere)?.dot(key, x)
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
        let mut guard = self.slot(key).ok_or(SlotError::Elsewhere)?.lock(key, patience)?;
        let result = guard.edit(work);
        let now = guard.commit();
        self.note(key, now);
        Ok((now, result))
    }

    /// Overwrites values, then state as far as `from` is longer.
    ///
    /// # Errors
    /// If the row is not here, or another writer keeps it busy.
    pub fn set(&self, key: Key, from: &[f32], patience: Patience) -> Result<MetaWord, SlotError> {
        let mut guard = self.slot(key).ok_or(SlotError::Elsewhere)?.lock(key, patience)?;
        guard.write(from);
        let now = guard.commit();
        self.note(key, now);
        Ok(now)
    }

    /// Copies the first `floats` floats of the rows of all keys that are here, in the order of keys,
    /// and lists the others. Floats of missed keys are left as they were. Returns how many of the rows
    /// were replicas.
    ///
    /// # Errors
    /// If `out` is not `keys.len() * floats` long or rows are shorter; nothing was copied.
    pub fn pull_batch(
        &self,
        keys: &[Key],
        floats: usize,
        out: &mut [f32],
        missed: &mut Vec<Missed>,
    ) -> Result<usize, WrongLength> {
        self.check_rows(keys.len(), floats, out.len())?;
        let mut replicas = 0;
        self.each(
            keys,
            (self.ahead_read, false),
            (out.chunks_exact_mut(floats), missed),
            |_, slot, _| slot.prefetch_read(floats),
            |(out, missed), index, slot, key| {
                let row = out.next().expect("as many as keys");
                replicas += usize::from(read_or_miss(index, slot, key, row, missed));
            },
        );
        Ok(replicas)
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
                        let now = guard.commit();
                        self.note(key, now);
                    }
                    Err(why) => missed.push(Missed { index, why }),
                }
            },
        );
    }

    /// As [`RowTable::pull_batch`], with a worker's private copies before the slots, which count as
    /// replicas, too. An update that finds its row gone goes to `away`.
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
    ) -> Result<usize, WrongLength> {
        if hot.is_empty() {
            return self.pull_batch(keys, floats, out, missed);
        }
        self.check_rows(keys.len(), floats, out.len())?;
        let mut replicas = 0;
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
                    if hot.drop_key(slot, key, Patience::NONE, &mut away) == Ok(Changed::Shared) {
                        self.mark_changed(key);
                    }
                }
                let replica = hot.pull(key, row) || read_or_miss(index, slot, key, row, missed);
                replicas += usize::from(replica);
            },
        );
        Ok(replicas)
    }

    /// Asks for the lines with which [`RowTable::push_batch_hot`] of these keys begins. The caller then
    /// does what is left to do before it may change rows, and memory is not idle meanwhile.
    #[inline]
    pub fn prime_push(&self, hot: &mut HotRows, keys: &[Key]) {
        hot.prime(keys.first().copied());
        for &key in keys.iter().take(self.ahead_write.min(GROUP)) {
            if let Some(slot) = self.slot(key)
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
                match hot.push(slot, key, change, floats, &mut away) {
                    Ok(Changed::Shared) => self.mark_changed(key),
                    Ok(Changed::Private) => {}
                    Err(why) => missed.push(Missed { index, why }),
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

    /// Visits the slots of keys in order, with `state` for both: `fetch` asks for the lines of a slot,
    /// `ahead` slots later `work` gets it and its key's place in the batch (no slot if the key has
    /// none here). `primed`: the first lines were asked for before.
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
            if !self.foreign.is_empty() {
                group.iter().for_each(|&key| self.foreign.prefetch(key));
            }
            // Memory has something to do before all places are known.
            let (first, rest) = group.split_at(ahead.min(group.len()));
            for (slot, &key) in slots.iter_mut().zip(first) {
                *slot = self.slot(key);
                if let Some(slot) = *slot
                    && !primed
                {
                    fetch(&mut state, slot, key);
                }
            }
            primed = false;
            for (slot, &key) in slots[first.len()..].iter_mut().zip(rest) {
                *slot = self.slot(key);
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

/// Reads a row, or lists its key as missed; whether it was a replica.
#[inline]
fn read_or_miss(
    index: u32,
    slot: Option<Slot<'_>>,
    key: Key,
    row: &mut [f32],
    missed: &mut Vec<Missed>,
) -> bool {
    match slot.ok_or(SlotError::Elsewhere).and_then(|slot| slot.read(key, row)) {
        Ok(meta) => meta.state() == SlotState::Replica,
        Err(why) => {
            missed.push(Missed { index, why });
            false
        }
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
