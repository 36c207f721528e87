//! The protocol's view of this node's rows and entries.
//!
//! What a slot's header says of a row that is here holds; an entry's state says the rest. Rows come and go under their entry's
//! lock, and are changed under their writer bit, which the engine tries and never waits for.
//!
//! | the row is | its slot | its entry |
//! | --- | --- | --- |
//! | here, at its home | Live, or Shared if others have replicas | none, or Remote and forgotten sooner or later |
//! | here, of another home | Live or Shared, listed by its key | Live |
//! | elsewhere, with a replica here | Replica, listed by its key | Replica |
//! | elsewhere, its last copy kept | Remote | Remote |
//! | elsewhere | Moved at its home; none otherwise | Remote, or none |

mod bytes;
mod foreign;
mod owned;

use sterna_kernels::Update;
use sterna_protocol::ids::RowId;
use sterna_protocol::record::SetScope;
use sterna_protocol::storage::{Copied, Full, Outcome, Storage};
use sterna_protocol::{DirectoryWord, Key, MetaWord, Rank, SlotId, SlotState};
use sterna_rdma::Provider;
use sterna_store::{Due, EntryId, ForeignKey, NoSlot, Patience, Slot, SlotError, SlotGuard};

use super::Remote;
use crate::table::{Table, TableState};

pub(crate) use bytes::read_floats;
use foreign::EngineSide;
pub(crate) use foreign::{ForeignRow, is_older, key_word};
use owned::OwnedRow;

/// A replica that has just been set up, for who keeps it fresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NewCopy {
    pub(crate) owner: Rank,
    pub(crate) board: u32,
    pub(crate) place: EntryId,
}

/// See the module. The engine owns it.
pub(crate) struct NodeStorage<'n> {
    pub(crate) remote: &'n Remote,
    pub(crate) tables: &'n [Table],
    /// One block or row, for updates and rows on their way.
    pub(crate) scratch: &'n mut Vec<f32>,
    /// One entry taken from a dirty list.
    pub(crate) taken: &'n mut Vec<EntryId>,
    /// Replicas set up.
    pub(crate) copies: &'n mut Vec<NewCopy>,
    /// When the record came, or the step began, that it is made for.
    pub(crate) now_ns: u64,
    /// Whether updates of replicas are due.
    pub(crate) round: bool,
}

impl<'n> NodeStorage<'n> {
    fn table(&self, row: RowId) -> Option<&'n TableState> {
        let table = self.tables.get(usize::from(row.table.0))?;
        (row.key.0 < table.keys()).then_some(&*table.0)
    }

    fn slot(&self, row: RowId) -> Option<(&'n TableState, SlotId, Slot<'n>)> {
        let table = self.table(row)?;
        let (id, slot) = table.rows.find_surely(row.key)?;
        Some((table, id, slot))
    }

    /// The writer bit of a main copy.
    fn lock(&self, row: RowId) -> Result<(&'n TableState, SlotId, SlotGuard<'n>), Outcome> {
        let (table, id, slot) = self.slot(row).ok_or(Outcome::Elsewhere)?;
        match slot.lock(row.key, Patience::NONE) {
            Ok(guard) => Ok((table, id, guard)),
            Err(SlotError::Busy) => Err(Outcome::Busy),
            Err(SlotError::Elsewhere) => Err(Outcome::Elsewhere),
        }
    }

    /// Ends a change of a main copy.
    fn commit(table: &TableState, key: Key, guard: SlotGuard<'_>) -> Outcome {
        if guard.commit().state() == SlotState::Shared {
            table.rows.mark_changed(key);
        }
        Outcome::Done
    }
}

impl<'n> Storage for NodeStorage<'n> {
    type Place = EntryId;
    type Foreign<'a>
        = ForeignRow<'a>
    where
        Self: 'a;
    type Owned<'a>
        = OwnedRow<'a>
    where
        Self: 'a;

    fn home(&self, row: RowId) -> Option<Rank> {
        Some(self.table(row)?.rows.placement().locate(row.key)?.home)
    }

    fn find(&mut self, row: RowId) -> Option<ForeignRow<'_>> {
        let table = self.table(row)?;
        let guard = self.remote.foreign.find(ForeignKey { table: row.table, key: row.key })?;
        Some(self.foreign(table, guard))
    }

    fn entry(&mut self, row: RowId) -> Result<ForeignRow<'_>, Full> {
        let table = self.table(row).ok_or(Full)?;
        let key = ForeignKey { table: row.table, key: row.key };
        let mut guard = self.remote.foreign.entry(key).map_err(|_| Full)?;
        guard.control.start(|| key_word(table, row.key));
        Ok(self.foreign(table, guard))
    }

    fn at(&mut self, place: EntryId) -> Option<ForeignRow<'_>> {
        let guard = self.remote.foreign.at(place)?;
        let table = self.tables.get(usize::from(guard.key().table.0))?;
        Some(self.foreign(&table.0, guard))
    }

    fn next_dirty(&mut self, owner: Rank) -> Option<ForeignRow<'_>> {
        let foreign = &self.remote.foreign;
        self.taken.clear();
        let mut due = Due::Now;
        foreign.take_dirty(owner, due, 1, self.taken);
        if self.taken.is_empty() && self.round {
            due = Due::Round;
            foreign.take_dirty(owner, due, 1, self.taken);
        }
        let mut guard = foreign.at(*self.taken.first()?)?;
        guard.clear_dirty(due);
        let table = self.tables.get(usize::from(guard.key().table.0))?;
        Some(self.foreign(&table.0, guard))
    }

    fn prefetch_way(&self, row: RowId) {
        self.remote.foreign.prefetch_index(ForeignKey { table: row.table, key: row.key });
        if let Some(table) = self.table(row) {
            table.rows.prefetch_place(row.key);
        }
    }

    fn prefetch(&self, row: RowId) {
        self.remote.foreign.prefetch_entry(ForeignKey { table: row.table, key: row.key });
        if let Some(table) = self.table(row) {
            table.rows.prefetch_leaving(row.key);
        }
    }

    fn live(&mut self, row: RowId) -> Option<(MetaWord, SlotId)> {
        let (_, id, slot) = self.slot(row)?;
        let (key, meta) = slot.header();
        (key == row.key && meta.state().owns()).then_some((meta, id))
    }

    fn owned(&mut self, row: RowId) -> Option<OwnedRow<'_>> {
        OwnedRow::find(self.remote, self.table(row)?, row, self.scratch)
    }

    fn apply(&mut self, row: RowId, update: &[u8]) -> Outcome {
        let (table, _, mut guard) = match self.lock(row) {
            Ok(locked) => locked,
            Err(outcome) => return outcome,
        };
        let block = table.shape.block_len();
        if self.scratch.len() < block {
            self.scratch.resize(block, 0.0);
        }
        let Ok(update) = Update::decode(&table.shape, update, self.scratch) else {
            return Outcome::Malformed;
        };
        guard.edit(|row| update.apply(row));
        Self::commit(table, row.key, guard)
    }

    fn set(&mut self, row: RowId, values: &[u8], scope: SetScope) -> Outcome {
        let (table, _, mut guard) = match self.lock(row) {
            Ok(locked) => locked,
            Err(outcome) => return outcome,
        };
        let given = match scope {
            SetScope::Values => table.shape.dim,
            SetScope::WholeRow => table.shape.row_len(),
        };
        if values.len() != given * size_of::<f32>() {
            return Outcome::Malformed;
        }
        let mut whole = vec![0.0; table.shape.row_len()];
        read_floats(values, &mut whole[..given]);
        if scope == SetScope::Values {
            table.shape.reset_state(&mut whole);
        }
        guard.write(&whole);
        Self::commit(table, row.key, guard)
    }

    fn copy_row(&mut self, row: RowId, out: &mut [u8]) -> Copied {
        let Some((table, _, slot)) = self.slot(row) else { return Copied::Elsewhere };
        owned::copy(table, slot, row.key, (out, self.scratch), |_| ())
    }

    fn tell_board(&mut self) {
        self.remote.tell_board(self.tables);
    }

    fn unshare(&mut self, row: RowId) {
        // Where a worker is at work, the row stays Shared: its place is used again by the next share.
        if let Ok((table, id, guard)) = self.lock(row) {
            let meta = guard.meta();
            table.rows.leave_board(id);
            guard.change(SlotState::Live, meta.epoch(), meta.version());
        }
    }

    fn wanted(&self, row: RowId) -> bool {
        self.table(row).is_some_and(|table| self.remote.wanted(table, row.key))
    }

    fn directory(&self, row: RowId) -> Option<DirectoryWord> {
        let table = self.table(row)?;
        table.rows.directory().load(table.rows.home_here(row.key)?)
    }

    fn set_directory(&mut self, row: RowId, word: DirectoryWord) {
        let table = self.table(row).expect("the machine looked the word up before");
        let at = table.rows.placement().locate_known(row.key);
        table.rows.directory().set(at.slot, word);
    }
}

impl<'n> NodeStorage<'n> {
    fn foreign<'a>(
        &'a mut self,
        table: &'a TableState,
        guard: sterna_store::EntryGuard<'a, super::held::Held>,
    ) -> ForeignRow<'a> {
        let engine = EngineSide { copies: self.copies, now_ns: self.now_ns };
        ForeignRow { table, guard, engine: Some(engine), remote: self.remote }
    }
}

impl Remote {
    /// Whether this node reads a peer's rows by a device: all lines in any order, the header among them.
    pub(in crate::remote) fn reads_by_device(&self, peer: Rank) -> bool {
        self.clock_page.is_some() && self.fabric.provider(peer) == Provider::Verbs
    }

    /// A slot for a row of another home: one that is free, or in one more chunk within the memory cap.
    fn take_slot(&self, table: &TableState) -> Option<SlotId> {
        loop {
            match table.rows.take_slot(self.rested_ns()) {
                Ok(slot) => return Some(slot),
                Err(NoSlot::Chunk) => self.grow(table)?,
                Err(NoSlot::Full) => return None,
            }
        }
    }

    /// Adds a chunk to a table's rows, if the cap allows; the engine tells peers of it.
    fn grow(&self, table: &TableState) -> Option<()> {
        use std::sync::atomic::Ordering;
        let bytes = table.rows.shape().chunk_bytes();
        let taken =
            |used: usize| used.checked_add(bytes).filter(|&used| used <= self.pool_bytes_max);
        self.pool_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken).ok()?;
        let memory = super::chunks::allocate(&*self.fabric, "rows", bytes);
        match memory {
            Ok(memory) => table.rows.arena().grow(memory).ok().map(drop),
            Err(error) => {
                tracing::warn!("no memory for rows of other nodes: {error}");
                None
            }
        }
    }
}
