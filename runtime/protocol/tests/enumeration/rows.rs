//! The model of a node's rows: one row whose value is a count per push, two bits each, and a mark that
//! tells whether it has been set.

use sterna_protocol::entry::EntryState;
use sterna_protocol::record::{Grant, SetScope};
use sterna_protocol::rules::Rules;
use sterna_protocol::storage::{Copied, Outcome, Owned};
use sterna_protocol::{
    DirectoryWord, Entry, Epoch, Foreign, Full, Key, MetaWord, Rank, RowId, SlotId, SlotState,
    Storage, TableId,
};

use super::{Removed, Setting, Start};

pub(crate) const ROW: RowId = RowId { table: TableId(0), key: Key(7) };
pub(crate) const HOME: Rank = Rank(1);
/// The value right after the set.
pub(crate) const SET: u32 = 1 << 31;

#[derive(Clone, Debug)]
pub(crate) struct Rows {
    pub(crate) rank: Rank,
    pub(crate) entry: Entry,
    /// The row if it is Live here, a replica's base otherwise.
    pub(crate) base: u32,
    pub(crate) accumulator: u32,
    pub(crate) flush: u32,
    pub(crate) staged: bool,
    /// A worker has the writer bit.
    pub(crate) busy: bool,
    pub(crate) directory: Option<DirectoryWord>,
    /// The next `next_dirty` finds the entry.
    pub(crate) listed: bool,
    home_told: bool,
    view_at_ack: bool,
}

impl Rows {
    pub(crate) fn start(rank: Rank, setting: &Setting) -> Self {
        let rules = Rules {
            acquire_excludes: setting.removed != Removed::AcquireExcludes,
            generation: setting.removed != Removed::Generation,
            release_is_exchange: setting.removed != Removed::ReleaseIsExchange,
        };
        let second = Epoch::new(2);
        let entry = match (rank.0, setting.start) {
            (1, _) => Entry::live(HOME, second, 0),
            (0, Start::ReplicaA) => Entry::replica(HOME, second, 0),
            (2, Start::StaleC) => Entry::new(Rank(0), Epoch::FIRST, 0),
            _ => Entry::new(HOME, second, 0),
        };
        Self {
            rank,
            entry: entry.with_rules(rules),
            base: 0,
            accumulator: 0,
            flush: 0,
            staged: false,
            busy: false,
            directory: (setting.home && rank == HOME)
                .then(|| DirectoryWord::new(HOME, second, SlotId(0))),
            listed: false,
            home_told: setting.home,
            view_at_ack: setting.removed != Removed::ViewAtAck,
        }
    }

    /// The entry is given up for another key's, and made again.
    pub(crate) fn forget(&mut self) {
        self.entry = Entry::new(HOME, Epoch::FIRST, self.entry.generation() + 1);
    }

    /// What a worker of the node sees without a READ.
    pub(crate) fn view(&self) -> Option<u32> {
        match self.entry.state() {
            EntryState::Live => Some(self.base),
            EntryState::Replica => Some(self.base + self.flush + self.accumulator),
            EntryState::Remote | EntryState::Pending => None,
        }
    }

    pub(crate) fn is_live(&self) -> bool {
        self.entry.state() == EntryState::Live
    }

    pub(crate) fn replica(&self) -> bool {
        self.entry.state() == EntryState::Replica
    }

    fn meta(&self) -> MetaWord {
        MetaWord::new(SlotState::Live, self.entry.epoch(), 0)
    }
}

fn value(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

fn put(value: u32, out: &mut [u8]) -> usize {
    out[..4].copy_from_slice(&value.to_le_bytes());
    4
}

/// The row, Live at this node.
pub(crate) struct Main<'a>(&'a mut Rows);

impl Owned for Main<'_> {
    fn meta(&self) -> MetaWord {
        self.0.meta()
    }

    fn slot(&self) -> SlotId {
        SlotId(0)
    }

    fn share_row(&mut self, out: &mut [u8]) -> Copied {
        self.0.copy_row(ROW, out)
    }

    fn move_row(&mut self, next: Rank, epoch: Epoch, out: &mut [u8]) -> Copied {
        if self.0.busy {
            return Copied::Busy;
        }
        let moved = Copied::Row(put(self.0.base, out), self.0.meta());
        self.0.base = 0;
        self.0.entry.moved_away(next, epoch);
        moved
    }
}

impl Storage for Rows {
    type Place = ();
    type Foreign<'a> = &'a mut Self;
    type Owned<'a> = Main<'a>;

    fn home(&self, _: RowId) -> Option<Rank> {
        Some(if self.home_told { HOME } else { self.rank })
    }

    fn find(&mut self, _: RowId) -> Option<&mut Self> {
        Some(self)
    }

    fn entry(&mut self, _: RowId) -> Result<&mut Self, Full> {
        Ok(self)
    }

    fn at(&mut self, (): ()) -> Option<&mut Self> {
        Some(self)
    }

    fn next_dirty(&mut self, _: Rank) -> Option<&mut Self> {
        std::mem::take(&mut self.listed).then_some(self)
    }

    fn live(&mut self, _: RowId) -> Option<(MetaWord, SlotId)> {
        self.is_live().then(|| (self.meta(), SlotId(0)))
    }

    fn owned(&mut self, _: RowId) -> Option<Main<'_>> {
        self.is_live().then_some(Main(self))
    }

    fn apply(&mut self, _: RowId, update: &[u8]) -> Outcome {
        match value(update) {
            None => Outcome::Malformed,
            Some(_) if !self.is_live() => Outcome::Elsewhere,
            Some(_) if self.busy => Outcome::Busy,
            Some(update) => {
                self.base += update;
                Outcome::Done
            }
        }
    }

    fn set(&mut self, _: RowId, _: &[u8], _: SetScope) -> Outcome {
        if !self.is_live() {
            return Outcome::Elsewhere;
        }
        if self.busy {
            return Outcome::Busy;
        }
        self.base = SET;
        Outcome::Done
    }

    fn copy_row(&mut self, _: RowId, out: &mut [u8]) -> Copied {
        if self.busy {
            return Copied::Busy;
        }
        Copied::Row(put(self.base, out), self.meta())
    }

    fn directory(&self, _: RowId) -> Option<DirectoryWord> {
        if self.home_told {
            self.directory
        } else {
            Some(DirectoryWord::new(self.rank, Epoch::FIRST, SlotId(0)))
        }
    }

    fn set_directory(&mut self, _: RowId, word: DirectoryWord) {
        if self.home_told {
            self.directory = Some(word);
        }
    }
}

impl Foreign for &mut Rows {
    type Place = ();

    fn row(&self) -> RowId {
        ROW
    }

    fn place(&self) {}

    fn control(&mut self) -> &mut Entry {
        &mut self.entry
    }

    /// The exploration lists the entry itself, before each step of the engine.
    fn mark_dirty(&mut self, _: Rank) {}

    fn has_updates(&self) -> bool {
        self.accumulator != 0
    }

    fn begin_flush(&mut self, out: &mut [u8]) -> Option<usize> {
        assert_eq!(self.flush, 0, "K1: one flush at a time");
        self.flush = std::mem::take(&mut self.accumulator);
        Some(put(self.flush, out))
    }

    fn drop_flush(&mut self) {
        let flush = std::mem::take(&mut self.flush);
        if self.replica() && self.view_at_ack {
            self.base += flush;
        }
    }

    fn restore_flush(&mut self) {
        self.accumulator += std::mem::take(&mut self.flush);
    }

    fn set_scope(&self) -> SetScope {
        SetScope::Values
    }

    fn write_set(&mut self, out: &mut [u8]) -> Option<usize> {
        Some(put(SET, out))
    }

    fn drop_set(&mut self) {
        self.staged = false;
    }

    fn reserve(&mut self) -> Option<SlotId> {
        Some(SlotId(0))
    }

    fn unreserve(&mut self) {}

    fn held(&self) -> Option<(Epoch, u64)> {
        None
    }

    fn install_replica(&mut self, grant: &Grant<'_>) -> bool {
        assert_eq!(self.flush, 0, "K4: nothing is in flight");
        grant.row.and_then(value).map(|row| self.base = row).is_some()
    }

    fn install_live(&mut self, grant: &Grant<'_>) -> Option<SlotId> {
        assert_eq!(self.flush, 0, "K4: nothing is in flight");
        let row = grant.row.and_then(value)?;
        let row = if std::mem::take(&mut self.staged) { SET } else { row };
        self.base = row + std::mem::take(&mut self.accumulator);
        Some(SlotId(0))
    }
}
