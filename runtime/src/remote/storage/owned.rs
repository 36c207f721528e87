//! A row that is a main copy here, on its way to another node: found once, with its entry locked if it has one.

use sterna_protocol::ids::RowId;
use sterna_protocol::storage::{Copied, Owned};
use sterna_protocol::{DirectoryWord, Epoch, Key, MetaWord, Rank, SlotId, SlotState};
use sterna_store::{EntryGuard, ForeignKey, Patience, Slot, SlotError, SlotGuard};

use super::bytes::{as_floats_mut, write_floats};
use super::foreign::ForeignRow;
use crate::remote::Remote;
use crate::remote::held::Held;
use crate::table::TableState;

/// See the module.
pub(crate) struct OwnedRow<'n> {
    remote: &'n Remote,
    table: &'n TableState,
    key: Key,
    id: SlotId,
    slot: Slot<'n>,
    meta: MetaWord,
    at_home: bool,
    /// Whoever finds the row gone asks the entry: it is locked before the row goes. A row at its home may have none.
    entry: Option<EntryGuard<'n, Held>>,
    scratch: &'n mut Vec<f32>,
}

impl<'n> OwnedRow<'n> {
    pub(super) fn find(
        remote: &'n Remote,
        table: &'n TableState,
        row: RowId,
        scratch: &'n mut Vec<f32>,
    ) -> Option<Self> {
        let key = row.key;
        let home = table.rows.home_here(key);
        let here = |id: SlotId| {
            let slot = table.rows.arena().slot(id)?;
            let (found, meta) = slot.header();
            (found == key && meta.state().owns()).then_some((slot, meta))
        };
        if home.is_some_and(|id| here(id).is_none()) {
            return None;
        }
        let entry = remote.foreign.find(ForeignKey { table: row.table, key });
        // Away from its home a row that is here has an entry, and that names its slot.
        let id = home.or_else(|| entry.as_ref()?.control.slot())?;
        let (slot, meta) = here(id)?;
        Some(Self { remote, table, key, id, slot, meta, at_home: home.is_some(), entry, scratch })
    }
}

/// Copies a main copy out under its writer bit; then its slot gets the state that `change` says.
pub(super) fn copy<'n>(
    table: &TableState,
    slot: Slot<'n>,
    key: Key,
    (out, scratch): (&mut [u8], &mut Vec<f32>),
    change: impl FnOnce(SlotGuard<'n>),
) -> Copied {
    let guard = match slot.lock(key, Patience::NONE) {
        Ok(guard) => guard,
        Err(SlotError::Busy) => return Copied::Busy,
        Err(SlotError::Elsewhere) => return Copied::Elsewhere,
    };
    let len = table.shape.row_len();
    let Some(out) = out.get_mut(..len * size_of::<f32>()) else { return Copied::NoRoom };
    if let Some(out) = as_floats_mut(out) {
        guard.read(out);
    } else {
        if scratch.len() < len {
            scratch.resize(len, 0.0);
        }
        guard.read(&mut scratch[..len]);
        write_floats(&scratch[..len], out);
    }
    let meta = guard.meta();
    change(guard);
    Copied::Row(out.len(), meta)
}

impl Owned for OwnedRow<'_> {
    fn meta(&self) -> MetaWord {
        self.meta
    }

    fn slot(&self) -> SlotId {
        self.id
    }

    fn wanted(&self) -> bool {
        if self.at_home {
            return self.table.rows.directory().wanted(self.id);
        }
        self.entry.as_ref().is_some_and(|entry| entry.control.references > 0)
    }

    fn fresh(&self, now_ns: u64) -> bool {
        let arrived_ns = self.entry.as_ref().and_then(|entry| entry.control.arrived_ns());
        // Ten times what a move takes: so rows do not go to and fro, and an epoch is never as old as its number says.
        let stay_ns = u64::from(self.remote.knobs.residency_us) * 1000;
        arrived_ns.is_some_and(|arrived_ns| now_ns < arrived_ns + stay_ns)
    }

    fn enter_board(&mut self) -> Option<u32> {
        self.table.rows.enter_board(self.id, self.slot.header().1.version())
    }

    fn share_row(&mut self, out: &mut [u8]) -> Copied {
        copy(self.table, self.slot, self.key, (out, self.scratch), |guard| {
            let meta = guard.meta();
            guard.change(SlotState::Shared, meta.epoch(), meta.version());
        })
    }

    fn move_row(&mut self, next: Rank, epoch: Epoch, out: &mut [u8]) -> Copied {
        let Self { remote, table, key, id, .. } = *self;
        let rows = &table.rows;
        let copied = copy(table, self.slot, key, (out, self.scratch), |guard| {
            rows.leave_board(id);
            if self.at_home {
                let word = DirectoryWord::new(next, epoch, SlotId::UNDISCLOSED);
                rows.directory().set(id, word);
            }
            guard.change(SlotState::Moved, epoch, u64::from(next.0));
            if !self.at_home {
                rows.vacate_slot(key, id, remote.reusable_ns());
            }
        });
        if matches!(copied, Copied::Row(..))
            && let Some(guard) = self.entry.take()
        {
            ForeignRow { table, guard, engine: None, remote }.left(next, epoch);
        }
        copied
    }
}
