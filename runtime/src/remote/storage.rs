//! The protocol's view of this node's rows and entries.
//!
//! Policy `classic` moves nothing: no slot is ever reserved for a foreign row, so nobody is granted one. Rows are
//! changed under their writer bit, which the engine tries and never waits for.

use sterna_kernels::Update;
use sterna_protocol::entry::Entry as Control;
use sterna_protocol::ids::RowId;
use sterna_protocol::record::SetScope;
use sterna_protocol::storage::{Copied, Foreign, Full, Outcome, Storage};
use sterna_protocol::{DirectoryWord, Epoch, MetaWord, Rank, SlotId};
use sterna_store::{EntryGuard, EntryId, ForeignKey, ForeignTable, SlotError, SlotGuard};

use super::held::Held;
use crate::table::{Table, TableState};

/// See the module. The engine owns it.
pub(crate) struct NodeStorage<'n> {
    pub(crate) here: Rank,
    pub(crate) tables: &'n [Table],
    pub(crate) foreign: &'n ForeignTable<Held>,
    /// One block or row, for updates and rows on their way.
    pub(crate) scratch: &'n mut Vec<f32>,
    /// One entry taken from a dirty list.
    pub(crate) taken: &'n mut Vec<EntryId>,
}

/// An entry under its lock, with its table.
pub(crate) struct ForeignRow<'n> {
    pub(crate) table: &'n TableState,
    pub(crate) guard: EntryGuard<'n, Held>,
}

impl<'n> NodeStorage<'n> {
    fn table(&self, row: RowId) -> Option<&'n TableState> {
        let table = self.tables.get(usize::from(row.table.0))?;
        (row.key.0 < table.keys()).then_some(&*table.0)
    }

    /// The writer bit of a row that is Live here.
    fn lock(&self, row: RowId) -> Result<(&'n TableState, SlotGuard<'n>), Outcome> {
        let table = self.table(row).ok_or(Outcome::Elsewhere)?;
        let slot = table.rows.home_slot(row.key).ok_or(Outcome::Elsewhere)?;
        match slot.lock(row.key, sterna_store::Patience::NONE) {
            Ok(guard) => Ok((table, guard)),
            Err(SlotError::Busy) => Err(Outcome::Busy),
            Err(SlotError::Elsewhere) => Err(Outcome::Elsewhere),
        }
    }
}

impl<'n> Storage for NodeStorage<'n> {
    type Place = EntryId;
    type Foreign<'a>
        = ForeignRow<'a>
    where
        Self: 'a;

    fn home(&self, row: RowId) -> Option<Rank> {
        Some(self.table(row)?.rows.placement().locate(row.key)?.home)
    }

    fn find(&mut self, row: RowId) -> Option<ForeignRow<'_>> {
        let table = self.table(row)?;
        let guard = self.foreign.find(ForeignKey { table: row.table, key: row.key })?;
        Some(ForeignRow { table, guard })
    }

    fn entry(&mut self, row: RowId) -> Result<ForeignRow<'_>, Full> {
        let table = self.table(row).ok_or(Full)?;
        let key = ForeignKey { table: row.table, key: row.key };
        let mut guard = self.foreign.entry(key).map_err(|_| Full)?;
        guard.control.at_home(table.rows.placement().locate_known(row.key).home);
        Ok(ForeignRow { table, guard })
    }

    fn at(&mut self, place: EntryId) -> Option<ForeignRow<'_>> {
        let guard = self.foreign.at(place)?;
        let table = self.tables.get(usize::from(guard.key().table.0))?;
        Some(ForeignRow { table: &table.0, guard })
    }

    fn next_dirty(&mut self, owner: Rank) -> Option<ForeignRow<'_>> {
        self.taken.clear();
        self.foreign.take_dirty(owner, 1, self.taken);
        let mut guard = self.foreign.at(*self.taken.first()?)?;
        guard.clear_dirty();
        let table = self.tables.get(usize::from(guard.key().table.0))?;
        Some(ForeignRow { table: &table.0, guard })
    }

    fn live(&mut self, row: RowId) -> Option<(MetaWord, SlotId)> {
        let table = self.table(row)?;
        let at = table.rows.placement().locate(row.key)?;
        let (key, meta) = table.rows.home_slot(row.key)?.header();
        let live = key == row.key && meta.state() == sterna_protocol::SlotState::Live;
        live.then_some((meta, at.slot))
    }

    fn apply(&mut self, row: RowId, update: &[u8]) -> Outcome {
        let (table, mut guard) = match self.lock(row) {
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
        guard.commit();
        Outcome::Done
    }

    fn set(&mut self, row: RowId, values: &[u8], scope: SetScope) -> Outcome {
        let (table, mut guard) = match self.lock(row) {
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
        table.shape.reset_state(&mut whole);
        read_floats(values, &mut whole[..given]);
        guard.write(&whole);
        guard.commit();
        Outcome::Done
    }

    fn copy_row(&mut self, row: RowId, out: &mut [u8]) -> Copied {
        let (table, guard) = match self.lock(row) {
            Ok(locked) => locked,
            Err(Outcome::Busy) => return Copied::Busy,
            Err(_) => return Copied::Elsewhere,
        };
        let len = table.shape.row_len();
        let Some(out) = out.get_mut(..len * size_of::<f32>()) else { return Copied::NoRoom };
        self.scratch.resize(self.scratch.len().max(len), 0.0);
        guard.read(&mut self.scratch[..len]);
        write_floats(&self.scratch[..len], out);
        Copied::Row(out.len(), guard.meta())
    }

    fn move_row(&mut self, _: RowId, _: Rank, _: Epoch, _: &mut [u8]) -> Copied {
        Copied::Full
    }

    fn directory(&self, row: RowId) -> Option<DirectoryWord> {
        let table = self.table(row)?;
        let at = table.rows.placement().locate(row.key)?;
        if at.home == self.here { table.rows.directory().load(at.slot) } else { None }
    }

    fn set_directory(&mut self, row: RowId, word: DirectoryWord) {
        let table = self.table(row).expect("the machine looked the word up before");
        let at = table.rows.placement().locate_known(row.key);
        table.rows.directory().set(at.slot, word);
    }
}

impl ForeignRow<'_> {
    /// The accumulator, taken from the pool if there is none.
    pub(crate) fn accumulator(&mut self) -> Result<Update<'_>, sterna_store::Full> {
        if self.guard.accumulator.is_none() {
            let mut block = self.table.pool.take()?;
            Update::empty(&self.table.shape, &mut block).clear();
            self.guard.accumulator = Some(block);
        }
        let block = self.guard.accumulator.as_mut().expect("just made");
        Ok(Update::in_block(&self.table.shape, block))
    }

    /// Lists the entry if the engine has something to do for it.
    pub(crate) fn list(&mut self) {
        let updates = self.has_updates();
        if self.guard.control.control.needs_engine(updates) {
            let owner = self.guard.control.control.owner();
            self.guard.mark_dirty(owner);
        }
    }
}

impl Foreign for ForeignRow<'_> {
    type Place = EntryId;

    fn row(&self) -> RowId {
        let key = self.guard.key();
        RowId { table: key.table, key: key.key }
    }

    fn place(&self) -> EntryId {
        self.guard.place()
    }

    fn control(&mut self) -> &mut Control {
        &mut self.guard.control.control
    }

    fn mark_dirty(&mut self, owner: Rank) {
        self.guard.mark_dirty(owner);
    }

    fn has_updates(&self) -> bool {
        self.guard.accumulator.is_some()
    }

    fn begin_flush(&mut self, out: &mut [u8]) -> Option<usize> {
        assert!(self.guard.flush.is_none(), "K1: one flush at a time");
        let len = match self.guard.accumulator.as_mut() {
            Some(block) => {
                let update = Update::in_block(&self.table.shape, block);
                update.encode_to(out.get_mut(..update.encoded_len())?);
                update.encoded_len()
            }
            None => {
                let len = Update::empty_bytes();
                out.get_mut(..len)?.fill(0);
                len
            }
        };
        self.guard.flush = self.guard.accumulator.take();
        Some(len)
    }

    fn drop_flush(&mut self) {
        self.guard.control.acked += 1;
        if let Some(block) = self.guard.flush.take() {
            self.table.pool.put(block);
        }
    }

    fn restore_flush(&mut self) {
        let Some(mut flush) = self.guard.flush.take() else { return };
        if let Some(mut later) = self.guard.accumulator.take() {
            let earlier = Update::in_block(&self.table.shape, &mut flush);
            Update::in_block(&self.table.shape, &mut later).put_before(&earlier);
            self.table.pool.put(flush);
            self.guard.accumulator = Some(later);
        } else {
            self.guard.accumulator = Some(flush);
        }
    }

    fn set_scope(&self) -> SetScope {
        self.guard.control.staged.as_ref().expect("a Set has values").1
    }

    fn write_set(&mut self, out: &mut [u8]) -> Option<usize> {
        let (values, _) = self.guard.control.staged.as_ref().expect("a Set has values");
        let out = out.get_mut(..values.len() * size_of::<f32>())?;
        write_floats(values, out);
        Some(out.len())
    }

    fn drop_set(&mut self) {
        self.guard.control.acked += 1;
        self.guard.control.staged = None;
    }

    fn reserve(&mut self) -> Option<SlotId> {
        None
    }

    fn unreserve(&mut self) {}

    fn held(&self) -> Option<(Epoch, u64)> {
        None
    }

    fn install_replica(&mut self, _: Option<&[u8]>, _: Epoch, _: u64) -> bool {
        false
    }

    fn install_live(&mut self, _: Option<&[u8]>, _: Epoch, _: u64) -> Option<SlotId> {
        None
    }
}

pub(crate) fn read_floats(bytes: &[u8], out: &mut [f32]) {
    for (value, bytes) in out.iter_mut().zip(bytes.chunks_exact(size_of::<f32>())) {
        *value = f32::from_le_bytes(bytes.try_into().expect("four bytes"));
    }
}

fn write_floats(values: &[f32], out: &mut [u8]) {
    for (bytes, value) in out.chunks_exact_mut(size_of::<f32>()).zip(values) {
        bytes.copy_from_slice(&value.to_le_bytes());
    }
}
