//! The model of a node's rows: two rows whose values are a count per push, two bits each.

use sterna_protocol::entry::EntryState;
use sterna_protocol::record::{Grant, SetScope};
use sterna_protocol::rules::Rules;
use sterna_protocol::storage::{Copied, Outcome, Owned};
use sterna_protocol::{
    DirectoryWord, Entry, Epoch, Foreign, Full, Key, MetaWord, Rank, RowId, SlotId, SlotState,
    Storage, TableId,
};

/// Keys; the home of key `k` is node `k`.
pub(crate) const KEYS: usize = 2;

pub(crate) fn row(key: usize) -> RowId {
    RowId { table: TableId(0), key: Key(key as u64) }
}

/// A row at a node.
#[derive(Clone, Debug)]
pub(crate) struct One {
    pub(crate) entry: Entry,
    /// The row if it is Live here, a replica's base otherwise.
    pub(crate) base: u32,
    pub(crate) accumulator: u32,
    pub(crate) flush: u32,
    /// At the key's home.
    pub(crate) directory: Option<DirectoryWord>,
    /// The next `next_dirty` finds the entry.
    pub(crate) listed: bool,
}

impl One {
    pub(crate) fn live(&self) -> bool {
        self.entry.state() == EntryState::Live
    }

    pub(crate) fn replica(&self) -> bool {
        self.entry.state() == EntryState::Replica
    }

    /// What a worker of the node sees without a READ.
    pub(crate) fn view(&self) -> Option<u32> {
        match self.entry.state() {
            EntryState::Live => Some(self.base),
            EntryState::Replica => Some(self.base + self.flush + self.accumulator),
            EntryState::Remote | EntryState::Pending => None,
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Rows {
    pub(crate) rank: Rank,
    pub(crate) keys: [One; KEYS],
}

impl Rows {
    pub(crate) fn start(rank: Rank, stale_reads: bool) -> Self {
        let rules = Rules { generation: !stale_reads, ..Rules::ALL };
        let keys = [0, 1].map(|key| {
            let home = Rank::from_index(key);
            let here = home == rank;
            let entry = if here {
                Entry::live(home, Epoch::FIRST, 0)
            } else {
                Entry::new(home, Epoch::FIRST, 0)
            };
            let entry = entry.with_rules(rules);
            let directory = here.then(|| DirectoryWord::new(home, Epoch::FIRST, SlotId(0)));
            let (base, accumulator, flush, listed) = (0, 0, 0, false);
            One { entry, base, accumulator, flush, directory, listed }
        });
        Self { rank, keys }
    }

    fn of(&mut self, row: RowId) -> Option<&mut One> {
        self.keys.get_mut(usize::try_from(row.key.0).ok()?)
    }
}

/// A row at a node, with its key.
pub(crate) struct Guard<'a> {
    key: usize,
    one: &'a mut One,
}

fn value(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

fn put(value: u32, out: &mut [u8]) -> usize {
    out[..4].copy_from_slice(&value.to_le_bytes());
    4
}

fn meta(one: &One) -> MetaWord {
    MetaWord::new(SlotState::Live, one.entry.epoch(), 0)
}

/// A row that is Live at a node.
pub(crate) struct Main<'a>(&'a mut One);

impl Owned for Main<'_> {
    fn meta(&self) -> MetaWord {
        meta(self.0)
    }

    fn slot(&self) -> SlotId {
        SlotId(0)
    }

    fn share_row(&mut self, out: &mut [u8]) -> Copied {
        Copied::Row(put(self.0.base, out), meta(self.0))
    }

    fn move_row(&mut self, next: Rank, epoch: Epoch, out: &mut [u8]) -> Copied {
        let one = &mut *self.0;
        let moved = Copied::Row(put(one.base, out), meta(one));
        one.base = 0;
        one.entry.moved_away(next, epoch);
        if one.directory.is_some() {
            one.directory = Some(DirectoryWord::new(next, epoch, SlotId::UNDISCLOSED));
        }
        moved
    }
}

impl Storage for Rows {
    type Place = usize;
    type Foreign<'a> = Guard<'a>;
    type Owned<'a> = Main<'a>;

    fn home(&self, row: RowId) -> Option<Rank> {
        usize::try_from(row.key.0).ok().filter(|&key| key < KEYS).map(Rank::from_index)
    }

    fn find(&mut self, row: RowId) -> Option<Guard<'_>> {
        self.at(usize::try_from(row.key.0).ok()?)
    }

    fn entry(&mut self, row: RowId) -> Result<Guard<'_>, Full> {
        self.find(row).ok_or(Full)
    }

    fn at(&mut self, key: usize) -> Option<Guard<'_>> {
        self.keys.get_mut(key).map(|one| Guard { key, one })
    }

    fn next_dirty(&mut self, owner: Rank) -> Option<Guard<'_>> {
        let key = self.keys.iter().position(|one| one.listed && one.entry.owner() == owner)?;
        self.keys[key].listed = false;
        self.at(key)
    }

    fn live(&mut self, row: RowId) -> Option<(MetaWord, SlotId)> {
        let one = self.of(row)?;
        one.live().then(|| (meta(one), SlotId(0)))
    }

    fn owned(&mut self, row: RowId) -> Option<Main<'_>> {
        self.of(row).filter(|one| one.live()).map(Main)
    }

    fn apply(&mut self, row: RowId, update: &[u8]) -> Outcome {
        match (self.of(row), value(update)) {
            (_, None) => Outcome::Malformed,
            (Some(one), Some(update)) if one.live() => {
                one.base += update;
                Outcome::Done
            }
            _ => Outcome::Elsewhere,
        }
    }

    fn set(&mut self, _: RowId, _: &[u8], _: SetScope) -> Outcome {
        unreachable!("nobody sets a row here")
    }

    fn copy_row(&mut self, row: RowId, out: &mut [u8]) -> Copied {
        let Some(one) = self.of(row) else { return Copied::Elsewhere };
        Copied::Row(put(one.base, out), meta(one))
    }

    fn directory(&self, row: RowId) -> Option<DirectoryWord> {
        self.keys.get(usize::try_from(row.key.0).ok()?)?.directory
    }

    fn set_directory(&mut self, row: RowId, word: DirectoryWord) {
        if let Some(one) = self.of(row) {
            one.directory = Some(word);
        }
    }
}

impl Foreign for Guard<'_> {
    type Place = usize;

    fn row(&self) -> RowId {
        row(self.key)
    }

    fn place(&self) -> usize {
        self.key
    }

    fn control(&mut self) -> &mut Entry {
        &mut self.one.entry
    }

    /// The exploration lists entries itself, before each step of the engine.
    fn mark_dirty(&mut self, _: Rank) {}

    fn has_updates(&self) -> bool {
        self.one.accumulator != 0
    }

    fn begin_flush(&mut self, out: &mut [u8]) -> Option<usize> {
        assert_eq!(self.one.flush, 0, "K1: one flush at a time");
        self.one.flush = std::mem::take(&mut self.one.accumulator);
        Some(put(self.one.flush, out))
    }

    fn drop_flush(&mut self) {
        let flush = std::mem::take(&mut self.one.flush);
        if self.one.replica() {
            self.one.base += flush;
        }
    }

    fn restore_flush(&mut self) {
        self.one.accumulator += std::mem::take(&mut self.one.flush);
    }

    fn set_scope(&self) -> SetScope {
        SetScope::Values
    }

    fn write_set(&mut self, _: &mut [u8]) -> Option<usize> {
        unreachable!("nobody sets a row here")
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
        assert_eq!(self.one.flush, 0, "K4: nothing is in flight");
        grant.row.and_then(value).map(|row| self.one.base = row).is_some()
    }

    fn install_live(&mut self, grant: &Grant<'_>) -> Option<SlotId> {
        assert_eq!(self.one.flush, 0, "K4: nothing is in flight");
        let row = grant.row.and_then(value)?;
        self.one.base = row + std::mem::take(&mut self.one.accumulator);
        Some(SlotId(0))
    }
}
