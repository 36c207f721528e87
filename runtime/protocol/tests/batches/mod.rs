//! A model of many rows for tests of batches: a row is one `u64`, an update is added to it.

use std::collections::{BTreeMap, VecDeque};

use sterna_protocol::entry::EntryState;
use sterna_protocol::machine::{Handled, PeerFault};
use sterna_protocol::record::{Grant, SetScope};
use sterna_protocol::storage::{Copied, Outcome, Owned};
use sterna_protocol::{
    Classic, DirectoryWord, Entry, Epoch, Foreign, Full, Key, Machine, MetaWord, Outbox, Rank,
    RowId, SlotId, SlotState, Storage, TableId,
};

/// Keys of the table; the home of key `k` is `k mod nodes`.
pub(crate) const KEYS: u64 = 10_000;

pub(crate) fn row(key: u64) -> RowId {
    RowId { table: TableId(0), key: Key(key) }
}

#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub(crate) rank: u64,
    pub(crate) nodes: u64,
    pub(crate) live: BTreeMap<u64, u64>,
    pub(crate) foreign: BTreeMap<u64, Private>,
    dirty: VecDeque<u64>,
    /// A worker has the writer bit of this key.
    pub(crate) busy: Option<u64>,
}

#[derive(Debug)]
pub(crate) struct Private {
    pub(crate) entry: Entry,
    pub(crate) accumulator: u64,
    pub(crate) flush: u64,
    listed: bool,
}

pub(crate) struct Guard<'a> {
    key: u64,
    private: &'a mut Private,
    dirty: &'a mut VecDeque<u64>,
}

impl Rows {
    pub(crate) fn new(rank: u16, nodes: u16) -> Self {
        let (rank, nodes) = (u64::from(rank), u64::from(nodes));
        let live = (0..KEYS).filter(|key| key % nodes == rank).map(|key| (key, 0)).collect();
        Self { rank, nodes, live, ..Self::default() }
    }

    fn home_of(&self, key: u64) -> Rank {
        Rank(u16::try_from(key % self.nodes).expect("few nodes"))
    }

    /// A worker pushes to a key that is at home elsewhere.
    pub(crate) fn push(&mut self, key: u64, update: u64) {
        let mut guard = Storage::entry(self, row(key)).expect("room");
        guard.private.accumulator += update;
        guard.mark_dirty(Rank(0));
    }

    fn guard(&mut self, key: u64) -> Option<Guard<'_>> {
        let private = self.foreign.get_mut(&key)?;
        Some(Guard { key, private, dirty: &mut self.dirty })
    }
}

fn put(value: u64, out: &mut [u8]) -> Option<usize> {
    out.get_mut(..8)?.copy_from_slice(&value.to_le_bytes());
    Some(8)
}

/// A row that is Live at a node, and stays there.
pub(crate) struct Main {
    meta: MetaWord,
    slot: SlotId,
    value: u64,
}

impl Owned for Main {
    fn meta(&self) -> MetaWord {
        self.meta
    }

    fn slot(&self) -> SlotId {
        self.slot
    }

    fn share_row(&mut self, out: &mut [u8]) -> Copied {
        put(self.value, out).map_or(Copied::NoRoom, |length| Copied::Row(length, self.meta))
    }

    fn move_row(&mut self, _: Rank, _: Epoch, _: &mut [u8]) -> Copied {
        Copied::Full
    }
}

impl Storage for Rows {
    type Place = u64;
    type Foreign<'a> = Guard<'a>;
    type Owned<'a> = Main;

    fn home(&self, row: RowId) -> Option<Rank> {
        (row.table == TableId(0) && row.key.0 < KEYS).then(|| self.home_of(row.key.0))
    }

    fn find(&mut self, row: RowId) -> Option<Guard<'_>> {
        self.guard(row.key.0)
    }

    fn entry(&mut self, row: RowId) -> Result<Guard<'_>, Full> {
        let entry = Entry::new(self.home_of(row.key.0), Epoch::FIRST, 0);
        let fresh = Private { entry, accumulator: 0, flush: 0, listed: false };
        self.foreign.entry(row.key.0).or_insert(fresh);
        Ok(self.guard(row.key.0).expect("just made"))
    }

    fn at(&mut self, place: u64) -> Option<Guard<'_>> {
        self.guard(place)
    }

    fn next_dirty(&mut self, _: Rank) -> Option<Guard<'_>> {
        let key = self.dirty.pop_front()?;
        let guard = self.guard(key)?;
        guard.private.listed = false;
        Some(guard)
    }

    fn live(&mut self, row: RowId) -> Option<(MetaWord, SlotId)> {
        let slot = SlotId(u32::try_from(row.key.0).ok()?);
        self.live
            .contains_key(&row.key.0)
            .then(|| (MetaWord::new(SlotState::Live, Epoch::FIRST, 0), slot))
    }

    fn owned(&mut self, row: RowId) -> Option<Main> {
        let (meta, slot) = self.live(row)?;
        Some(Main { meta, slot, value: self.live[&row.key.0] })
    }

    fn apply(&mut self, row: RowId, update: &[u8]) -> Outcome {
        if self.busy == Some(row.key.0) {
            return Outcome::Busy;
        }
        let Ok(update) = update.try_into().map(u64::from_le_bytes) else {
            return Outcome::Malformed;
        };
        match self.live.get_mut(&row.key.0) {
            None => Outcome::Elsewhere,
            Some(value) => {
                *value = value.wrapping_add(update);
                Outcome::Done
            }
        }
    }

    fn set(&mut self, row: RowId, values: &[u8], _: SetScope) -> Outcome {
        let Ok(values) = values.try_into().map(u64::from_le_bytes) else {
            return Outcome::Malformed;
        };
        match self.live.get_mut(&row.key.0) {
            None => Outcome::Elsewhere,
            Some(value) => {
                *value = values;
                Outcome::Done
            }
        }
    }

    fn copy_row(&mut self, row: RowId, out: &mut [u8]) -> Copied {
        let Some(&value) = self.live.get(&row.key.0) else { return Copied::Elsewhere };
        let meta = MetaWord::new(SlotState::Live, Epoch::FIRST, 0);
        put(value, out).map_or(Copied::NoRoom, |length| Copied::Row(length, meta))
    }

    fn directory(&self, row: RowId) -> Option<DirectoryWord> {
        let home = self.home(row)?;
        let slot = SlotId(u32::try_from(row.key.0).ok()?);
        (u64::from(home.0) == self.rank).then(|| DirectoryWord::new(home, Epoch::FIRST, slot))
    }

    fn set_directory(&mut self, _: RowId, _: DirectoryWord) {}
}

impl Foreign for Guard<'_> {
    type Place = u64;

    fn row(&self) -> RowId {
        row(self.key)
    }

    fn place(&self) -> u64 {
        self.key
    }

    fn control(&mut self) -> &mut Entry {
        &mut self.private.entry
    }

    fn mark_dirty(&mut self, _: Rank) {
        if !std::mem::replace(&mut self.private.listed, true) {
            self.dirty.push_back(self.key);
        }
    }

    fn has_updates(&self) -> bool {
        self.private.accumulator != 0
    }

    fn begin_flush(&mut self, out: &mut [u8]) -> Option<usize> {
        let length = put(self.private.accumulator, out)?;
        self.private.flush = std::mem::take(&mut self.private.accumulator);
        Some(length)
    }

    fn drop_flush(&mut self) {
        self.private.flush = 0;
    }

    fn restore_flush(&mut self) {
        self.private.accumulator += std::mem::take(&mut self.private.flush);
    }

    fn set_scope(&self) -> SetScope {
        SetScope::Values
    }

    fn write_set(&mut self, out: &mut [u8]) -> Option<usize> {
        put(7, out)
    }

    fn drop_set(&mut self) {}

    fn reserve(&mut self) -> Option<SlotId> {
        Some(SlotId(0))
    }

    fn unreserve(&mut self) {}

    fn held(&self) -> Option<(Epoch, u64)> {
        None
    }

    fn install_replica(&mut self, grant: &Grant<'_>) -> bool {
        assert_eq!(self.private.entry.state(), EntryState::Replica);
        grant.row.is_some_and(|row| row.len() == 8)
    }

    fn install_live(&mut self, grant: &Grant<'_>) -> Option<SlotId> {
        grant.row.filter(|row| row.len() == 8).map(|_| SlotId(0))
    }
}

/// Links of a node: what was sent, and which peers take nothing.
#[derive(Debug, Default)]
pub(crate) struct Links {
    pub(crate) sent: VecDeque<(Rank, Vec<u8>)>,
    pub(crate) closed: bool,
}

impl Outbox for Links {
    fn ready(&self, _: Rank) -> bool {
        !self.closed
    }

    fn send(&mut self, to: Rank, record: &[u8]) {
        assert!(!self.closed, "a record is only given to a link that is ready");
        self.sent.push_back((to, record.to_vec()));
    }
}

/// A node with all that belongs to it.
pub(crate) struct Node {
    pub(crate) machine: Machine<u64, Classic>,
    pub(crate) rows: Rows,
    pub(crate) links: Links,
}

impl Node {
    /// One of two nodes.
    pub(crate) fn new(rank: u16, record_bytes: usize) -> Self {
        Self::among(2, rank, record_bytes)
    }

    pub(crate) fn among(nodes: u16, rank: u16, record_bytes: usize) -> Self {
        let size = usize::from(nodes);
        Self {
            machine: Machine::with_record_bytes(Rank(rank), size, Classic, record_bytes),
            rows: Rows::new(rank, nodes),
            links: Links::default(),
        }
    }

    pub(crate) fn flush(&mut self, to: u16) -> usize {
        self.machine.flush_dirty(Rank(to), 5, &mut self.rows, &mut self.links)
    }

    pub(crate) fn take(&mut self, from: u16, record: &[u8]) -> Result<(), PeerFault> {
        let handled =
            self.machine.handle(Rank(from), record, 6, &mut self.rows, &mut self.links)?;
        assert_eq!(handled, Handled::Done);
        Ok(())
    }

    pub(crate) fn settle(&mut self) {
        self.machine.settle(7, &mut self.rows, &mut self.links).expect("no fault");
    }
}

/// Carries over what `from` has sent to the other node.
pub(crate) fn carry(from: &mut Node, to: &mut Node) -> usize {
    let rank = from.machine.rank().0;
    let mut carried = 0;
    while let Some((_, record)) = from.links.sent.pop_front() {
        to.take(rank, &record).expect("a good record");
        carried += 1;
    }
    to.settle();
    carried
}
