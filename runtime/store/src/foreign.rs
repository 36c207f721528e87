//! The keys that this node uses but does not own: one entry for each, in a bounded table.
//!
//! An entry holds the protocol's control part `C` and up to two blocks of updates (accumulator,
//! open flush) behind a lock of its own. Worker threads find entries without any other lock; only
//! creating one takes its shard's. A full shard evicts an entry that nothing pins, or says [`Full`].
//! A key that comes back never repeats a generation: a shard hands each new entry one that is
//! greater than any that its evicted entries had, so a READ begun for the earlier entry cannot count
//! for the later (rule K2).
//!
//! Keys with something to flush are listed per owner and by when that is due, once each, in the order
//! in which they got dirty.

mod index;
mod lists;
mod shard;

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU64, Ordering};

use sterna_protocol::{Key, Rank, TableId};

use crate::pool::{Block, Full};
pub(crate) use index::Index;
use lists::DirtyLists;
pub use lists::Listing;
use shard::{Cell, CellGuard, Shard};

/// Parts of the table that do not know of each other; a power of two.
const SHARDS: usize = if cfg!(loom) { 1 } else { 16 };

/// A key of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ForeignKey {
    /// The table.
    pub table: TableId,
    /// The key in it.
    pub key: Key,
}

/// What the table needs of an entry's control part.
pub trait Control {
    /// The control part of a key that was not known, starting at this generation.
    fn new(generation: u64) -> Self;
    /// The generation now; it only grows.
    fn generation(&self) -> u64;
    /// Whether more hangs on it than a location that can be looked up again.
    fn pinned(&self) -> bool;
}

/// An entry's place in the table; it names the same key as long as the entry is pinned or dirty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct EntryId {
    shard: u32,
    cell: u32,
}

/// What an entry holds.
#[derive(Debug)]
pub struct Entry<C> {
    /// The protocol's part.
    pub control: C,
    /// Updates since the open flush; none if there are none.
    pub accumulator: Option<Block>,
    /// Updates on their way to the owner; none if no flush is open.
    pub flush: Option<Block>,
    key: Key,
    table: TableId,
    /// Whether it is on the list of each kind ([`Due`]).
    dirty: [bool; 2],
    /// Set at each use, cleared by the eviction that spares the entry once for it.
    used: bool,
}

impl<C: Control> Entry<C> {
    fn new(id: ForeignKey, control: C) -> Self {
        let ForeignKey { table, key } = id;
        let (accumulator, flush, dirty) = (None, None, [false; 2]);
        Self { control, accumulator, flush, key, table, dirty, used: true }
    }

    fn id(&self) -> ForeignKey {
        ForeignKey { table: self.table, key: self.key }
    }

    fn pinned(&self) -> bool {
        self.dirty.contains(&true)
            || self.accumulator.is_some()
            || self.flush.is_some()
            || self.control.pinned()
    }
}

/// When what an entry has for its owner is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// At once.
    Now = 0,
    /// With the node's next round, or when somebody waits for it.
    Round = 1,
}

/// How often what happened, and how much there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ForeignCounts {
    /// Entries now.
    pub entries: u64,
    /// Entries that there can be.
    pub limit: u64,
    /// Entries made.
    pub created: u64,
    /// Entries given up for others.
    pub evicted: u64,
    /// Requests that found all entries pinned.
    pub refused: u64,
}

/// All foreign keys of a node.
pub struct ForeignTable<C> {
    shards: Box<[Shard<C>]>,
    dirty: DirtyLists,
    limit: usize,
    refused: AtomicU64,
}

impl<C: Control> ForeignTable<C> {
    /// A table for at most `limit` keys (rounded up to a multiple of 16) in a job of `size` nodes.
    #[must_use]
    pub fn new(limit: usize, size: usize) -> Self {
        let each = limit.div_ceil(SHARDS).max(1);
        Self {
            shards: (0..SHARDS).map(|_| Shard::new(each)).collect(),
            dirty: DirtyLists::new(2 * size),
            limit: each * SHARDS,
            refused: AtomicU64::new(0),
        }
    }

    /// The entry of a key, made if there is none, locked. A thread holds one guard at a time: asking
    /// for another entry while holding one may deadlock.
    ///
    /// # Errors
    /// [`Full::Entries`] if there is none and no other can be given up for it.
    pub fn entry(&self, id: ForeignKey) -> Result<EntryGuard<'_, C>, Full> {
        let (shard, tag) = hash(id);

        let found = self.shards[shard as usize].find_or_create(id, tag);
        let Some((cell, guard)) = found else {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(Full::Entries { limit: self.limit });
        };
        Ok(EntryGuard { table: self, id: EntryId { shard, cell }, guard })
    }

    /// The entry of a key, locked, if there is one.
    #[must_use]
    pub fn find(&self, id: ForeignKey) -> Option<EntryGuard<'_, C>> {
        let (shard, tag) = hash(id);

        let (cell, guard) = self.shards[shard as usize].find(id, tag)?;
        Some(EntryGuard { table: self, id: EntryId { shard, cell }, guard })
    }

    /// Starts loading the part of the index that a search for this key begins with.
    #[inline]
    pub fn prefetch_index(&self, id: ForeignKey) {
        let (shard, tag) = hash(id);
        self.shards[shard as usize].prefetch_index(tag);
    }

    /// Starts loading the entry of a key, whose part of the index is at hand.
    #[inline]
    pub fn prefetch_entry(&self, id: ForeignKey) {
        let (shard, tag) = hash(id);
        self.shards[shard as usize].prefetch_entry(tag);
    }

    /// Starts loading the entry at a place.
    #[inline]
    pub fn prefetch_at(&self, id: EntryId) {
        if let Some(shard) = self.shards.get(id.shard as usize) {
            shard.prefetch_cell(id.cell);
        }
    }

    /// The entry at a place, locked, if it is in use.
    #[must_use]
    pub fn at(&self, id: EntryId) -> Option<EntryGuard<'_, C>> {
        let guard = self.shards.get(id.shard as usize)?.cell(id.cell)?.lock_used()?;
        Some(EntryGuard { table: self, id, guard })
    }

    /// Moves up to `most` entries that are listed for an owner to `out`, the longest dirty first.
    /// The engine then clears each one's mark under its lock and takes what it has.
    ///
    /// # Panics
    /// If the job has no such node.
    pub fn take_dirty(&self, owner: Rank, due: Due, most: usize, out: &mut Vec<EntryId>) {
        self.dirty.take(list(owner, due), most, out, |soon| self.prefetch_at(soon));
    }

    /// Lists of a thread's own, for many entries that it marks one after the other.
    pub fn listing(&self) -> Listing<'_> {
        Listing::new(&self.dirty)
    }

    /// How many entries are listed for an owner, at a glance.
    ///
    /// # Panics
    /// If the job has no such node.
    #[must_use]
    pub fn dirty_len(&self, owner: Rank, due: Due) -> usize {
        self.dirty.len(list(owner, due))
    }

    /// The places of all entries that exist now, for walks over the table (`at` tells whether a place
    /// is still in use).
    pub fn places(&self) -> impl Iterator<Item = EntryId> + '_ {
        (0_u32..)
            .zip(&self.shards)
            .flat_map(|(shard, cells)| (0..cells.cells()).map(move |cell| EntryId { shard, cell }))
    }

    /// What happened so far.
    #[must_use]
    pub fn counts(&self) -> ForeignCounts {
        let mut counts = ForeignCounts {
            limit: self.limit as u64,
            refused: self.refused.load(Ordering::Relaxed),
            ..ForeignCounts::default()
        };
        for shard in &self.shards {
            let (created, evicted) = shard.counts();
            counts.created += created;
            counts.evicted += evicted;
            counts.entries += created - evicted;
        }
        counts
    }
}

/// Bytes that an entry with this control part takes, its lock included.
#[must_use]
pub const fn entry_bytes<C>() -> usize {
    size_of::<Cell<C>>()
}

/// The number of a list.
fn list(owner: Rank, due: Due) -> usize {
    2 * owner.index() + due as usize
}

impl<C> fmt::Debug for ForeignTable<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForeignTable").field("limit", &self.limit).finish_non_exhaustive()
    }
}

/// An entry under its lock.
pub struct EntryGuard<'a, C> {
    table: &'a ForeignTable<C>,
    id: EntryId,
    guard: CellGuard<'a, C>,
}

impl<C: Control> EntryGuard<'_, C> {
    /// The entry's place.
    #[must_use]
    pub fn place(&self) -> EntryId {
        self.id
    }

    /// The entry's key.
    #[must_use]
    pub fn key(&self) -> ForeignKey {
        Cell::used(&self.guard).id()
    }

    /// Lists the entry for an owner, unless it is on a list of that kind already.
    ///
    /// # Panics
    /// If the job has no such node.
    pub fn mark_dirty(&mut self, owner: Rank, due: Due) {
        let entry = Cell::used_mut(&mut self.guard);
        if !std::mem::replace(&mut entry.dirty[due as usize], true) {
            self.table.dirty.push(list(owner, due), self.id);
        }
    }

    /// The same by way of the thread's own lists.
    ///
    /// # Panics
    /// If the job has no such node.
    pub fn mark_dirty_in(&mut self, listing: &mut Listing<'_>, owner: Rank, due: Due) {
        let entry = Cell::used_mut(&mut self.guard);
        if !std::mem::replace(&mut entry.dirty[due as usize], true) {
            listing.push(list(owner, due), self.id);
        }
    }

    /// Clears the mark of an entry that was taken from its list; the next push lists it again.
    pub fn clear_dirty(&mut self, due: Due) {
        Cell::used_mut(&mut self.guard).dirty[due as usize] = false;
    }

    /// Whether the entry is listed, or was taken from its list and not cleared.
    #[must_use]
    pub fn dirty(&self) -> bool {
        Cell::used(&self.guard).dirty.contains(&true)
    }
}

impl<C: Control> Deref for EntryGuard<'_, C> {
    type Target = Entry<C>;

    fn deref(&self) -> &Entry<C> {
        Cell::used(&self.guard)
    }
}

impl<C: Control> DerefMut for EntryGuard<'_, C> {
    fn deref_mut(&mut self) -> &mut Entry<C> {
        Cell::used_mut(&mut self.guard)
    }
}

/// The shard of a key and its tag there.
#[expect(clippy::cast_possible_truncation, reason = "parts of a hash")]
fn hash(id: ForeignKey) -> (u32, u32) {
    let mixed = (id.key.0 ^ u64::from(id.table.0) << 48).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ (mixed >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    ((mixed >> 60) as u32 & (SHARDS as u32 - 1), (mixed >> 24) as u32)
}
