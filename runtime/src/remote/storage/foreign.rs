//! A foreign key's entry with its data, under the entry's lock.

use std::borrow::Cow;

use sterna_kernels::Update;
use sterna_protocol::entry::{Entry, EntryState, ExchangeKind};
use sterna_protocol::ids::RowId;
use sterna_protocol::record::{Grant, SetScope};
use sterna_protocol::storage::{Foreign, Intent};
use sterna_protocol::{DirectoryWord, Epoch, Key, MetaWord, Rank, SlotId, SlotState};
use sterna_store::{Due, EntryGuard, EntryId, Listing, Slot, SlotGuard};

use super::NewCopy;
use super::bytes::{as_floats, read_floats, write_floats};
use crate::remote::Remote;
use crate::remote::held::{CopyOf, Held, Location};
use crate::table::TableState;

/// Versions are counted modulo 2^40.
const VERSION_MASK: u64 = (1 << 40) - 1;

/// See the module.
pub(crate) struct ForeignRow<'n> {
    pub(crate) table: &'n TableState,
    pub(crate) guard: EntryGuard<'n, Held>,
    pub(crate) remote: &'n Remote,
    /// What the engine brings along; a worker sets up no replica and takes no row.
    pub(crate) engine: Option<EngineSide<'n>>,
}

/// See [`ForeignRow::engine`].
pub(crate) struct EngineSide<'n> {
    /// Where replicas that are set up are noted.
    pub(crate) copies: &'n mut Vec<NewCopy>,
    /// When the record came that it is at work on.
    pub(crate) now_ns: u64,
}

/// What a new entry starts from: the directory, if this is the key's home, else that the home has owned it from the start.
pub(crate) fn key_word(table: &TableState, key: Key) -> DirectoryWord {
    let at = table.rows.placement().locate_known(key);
    let told =
        if at.home == table.rows.here() { table.rows.directory().load(at.slot) } else { None };
    told.unwrap_or_else(|| DirectoryWord::new(at.home, Epoch::FIRST, at.slot))
}

impl<'n> ForeignRow<'n> {
    fn key(&self) -> Key {
        self.guard.key().key
    }

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
        if let Some(owner) = self.needed_by() {
            self.mark_dirty(owner);
        }
    }

    /// The same by way of the thread's own lists.
    pub(crate) fn list_in(&mut self, listing: &mut Listing<'_>) {
        if let Some(owner) = self.needed_by() {
            let due = self.due();
            self.guard.mark_dirty_in(listing, owner, due);
        }
    }

    /// The owner for whom the engine has something of this entry.
    fn needed_by(&self) -> Option<Rank> {
        let entry = &self.guard.control.control;
        let owner = entry.owner();
        let needed = owner != self.table.rows.here() && entry.needs_engine(self.has_updates());
        needed.then_some(owner)
    }

    /// What this node's workers see of a replica does not wait for its owner; what others see may come a round later.
    fn due(&self) -> Due {
        let entry = &self.guard.control.control;
        let replica = entry.state() == EntryState::Replica && !entry.wants();
        if replica { Due::Round } else { Due::Now }
    }

    fn now_ns(&self) -> u64 {
        self.engine.as_ref().map_or_else(|| self.remote.timing.now_ns(), |engine| engine.now_ns)
    }

    /// The home slot, if this is the key's home.
    pub(in crate::remote) fn home_slot(&self) -> Option<SlotId> {
        self.table.rows.home_here(self.key())
    }

    /// The slot that holds the row or a copy of it, or waits for it.
    fn own_slot(&self) -> Option<(SlotId, Slot<'n>)> {
        let id = self.home_slot().or(self.guard.control.slot())?;
        Some((id, self.table.rows.arena().slot(id).expect("a slot that was taken is there")))
    }

    /// The row was given to another node.
    pub(super) fn left(&mut self, next: Rank, epoch: Epoch) {
        let held = &mut self.guard.control;
        held.control.moved_away(next, epoch);
        held.set_slot(None);
        held.take_copy();
        held.moved(0);
        self.list();
    }

    /// The writer bit of the own slot, whatever state it is in. Nobody else takes it for longer than a change of a row lasts, and
    /// not at all while the row is no main copy: the entry is locked.
    fn lock(slot: Slot<'n>) -> SlotGuard<'n> {
        loop {
            match slot.try_lock() {
                Ok(guard) => return guard,
                Err(_) => std::hint::spin_loop(),
            }
        }
    }

    /// The row of a grant; of one without, the copy that is here. Says whether the accumulator is in it already.
    fn granted<'g>(&self, grant: &Grant<'g>, slot: Slot<'n>) -> Option<(Cow<'g, [f32]>, bool)> {
        let len = self.table.shape.row_len();
        match grant.row {
            Some(bytes) if bytes.len() == len * size_of::<f32>() => {
                let row = as_floats(bytes).map_or_else(
                    || {
                        let mut row = vec![0.0; len];
                        read_floats(bytes, &mut row);
                        Cow::Owned(row)
                    },
                    Cow::Borrowed,
                );
                Some((row, false))
            }
            Some(_) => None,
            None => {
                let mut row = vec![0.0; len];
                // Pushes since the Acquire are in the accumulator, and come on top.
                self.guard.control.copy()?;
                let guard = Self::lock(slot);
                guard.read(&mut row);
                // A replica shows the view; what was kept of one has been flushed.
                Some((Cow::Owned(row), guard.meta().state() == SlotState::Replica))
            }
        }
    }

    fn publish(&mut self, slot: (SlotId, Slot<'n>), row: &[f32], to: (SlotState, Epoch, u64)) {
        let key = self.key();
        let (id, slot) = slot;
        let mut guard = Self::lock(slot);
        if guard.key() != key {
            guard.rename(key);
        }
        guard.write(row);
        guard.change(to.0, to.1, to.2);
        if self.home_slot().is_none() && self.guard.control.copy().is_none() {
            self.table.rows.list_slot(key, id);
        }
    }

    /// The intent behind a replica has ended: its copy stays, unreadable, until the room is needed.
    pub(crate) fn release(&mut self) {
        let entry = &self.guard.control.control;
        let replica = entry.state() == EntryState::Replica;
        if replica && entry.exchange().is_some_and(|open| open.kind == ExchangeKind::Acquire) {
            // The main copy has been asked for, and this copy been named: it stays as it is until the answer.
            return;
        }
        if replica && let Some((_, slot)) = self.own_slot() {
            let guard = Self::lock(slot);
            let meta = guard.meta();
            guard.change(SlotState::Remote, meta.epoch(), meta.version());
        }
        let held = &mut self.guard.control;
        held.control.want_release();
        if held.force {
            // That is somebody else's wish, and is not over.
            held.control.want_acquire();
        }
        self.list();
    }

    /// An Acquire has been answered: gives a replica up that nobody wants any more.
    fn end_unwanted(&mut self) {
        let held = &self.guard.control;
        let replica = held.control.state() == EntryState::Replica;
        if replica && !held.force && !self.remote.wanted_by(self) {
            self.release();
        }
    }

    /// Values are about to be set: there is no copy any more.
    pub(crate) fn forget_copy(&mut self) {
        let Some((id, slot)) = self.own_slot() else { return };
        if self.guard.control.take_copy().is_some() {
            let guard = Self::lock(slot);
            let meta = guard.meta();
            guard.change(SlotState::Remote, meta.epoch(), meta.version());
            if self.home_slot().is_none() {
                self.table.rows.unlist_slot(self.key(), id);
            }
        }
        if self.home_slot().is_none() && self.guard.control.control.state() != EntryState::Pending {
            self.guard.control.set_slot(None);
            self.table.rows.give_slot(id, 0);
        }
    }

    /// A READ of a replica's row counts: it becomes the base, unless what is shown already may be newer (of two READs the later may
    /// end first, and a READ may overtake an update). `row` is the whole row, no older than the version before it was read, no newer
    /// than that after. A device tells one version, from some moment of the READ: `known` is then one that the row had before.
    /// Whether it is the base, and of which version at least.
    pub(crate) fn refresh(
        &mut self,
        row: &mut [f32],
        [before, after]: [MetaWord; 2],
        known: Option<u64>,
    ) -> Option<u64> {
        let shape = self.table.shape;
        let device = self.remote.reads_by_device(self.guard.control.control.owner());
        let copy = self.guard.control.copy_mut()?;
        let version = if device { newer(known, copy.version) } else { before.version() };
        let older = |than: u64| is_older(version, than);
        // Whoever has the writer bit may be stepping the row, or only copying it: how new the rest is nobody knows.
        if older(copy.version) || (!device && older(copy.seen)) || after.writer() {
            return None;
        }
        copy.version = version;
        copy.seen = after.version();
        if device {
            self.guard.control.control.replaced();
        }
        if let Some(block) = self.guard.accumulator.as_mut() {
            // Nothing waits for the state of a replica, so this only applies what is noted.
            Update::in_block(&shape, block).settle(row);
        }
        let (_, slot) = self.own_slot()?;
        let mut guard = Self::lock(slot);
        guard.write(row);
        guard.commit();
        Some(version)
    }
}

/// Whether a version comes before another.
pub(crate) fn is_older(version: u64, than: u64) -> bool {
    (version.wrapping_sub(than) & VERSION_MASK) > VERSION_MASK / 2
}

fn newer(known: Option<u64>, version: u64) -> u64 {
    known.filter(|&known| is_older(version, known)).unwrap_or(version)
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

    fn control(&mut self) -> &mut Entry {
        &mut self.guard.control.control
    }

    fn mark_dirty(&mut self, owner: Rank) {
        let due = self.due();
        self.guard.mark_dirty(owner, due);
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
        let held = &mut self.guard.control;
        held.acked = held.acked.wrapping_add(1);
        if let Some(copy) = held.copy_mut() {
            copy.version += 1;
            copy.acked_ns = self.remote.timing.now_ns();
        }
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
        self.guard.control.staged().expect("a Set has values").1
    }

    fn write_set(&mut self, out: &mut [u8]) -> Option<usize> {
        let (values, _) = self.guard.control.staged().expect("a Set has values");
        let out = out.get_mut(..values.len() * size_of::<f32>())?;
        write_floats(values, out);
        Some(out.len())
    }

    fn drop_set(&mut self) {
        let held = &mut self.guard.control;
        held.acked = held.acked.wrapping_add(1);
        held.take_staged();
        if self.remote.wanted_by(self) {
            self.guard.control.control.want_acquire();
        }
    }

    fn reserve(&mut self) -> Option<SlotId> {
        if let Some(known) = self.home_slot().or(self.guard.control.slot()) {
            return Some(known);
        }
        let slot = self.remote.take_slot(self.table)?;
        self.table.rows.prefetch_slot(slot);
        self.guard.control.set_slot(Some(slot));
        Some(slot)
    }

    fn unreserve(&mut self) {
        let held = &mut self.guard.control;
        if held.copy().is_none()
            && let Some(slot) = held.slot()
        {
            held.set_slot(None);
            self.table.rows.give_slot(slot, 0);
        }
    }

    fn refused(&mut self, uses: u16) {
        let wanted = self.remote.wanted_by(self);
        self.end_unwanted();
        let held = &mut self.guard.control;
        match uses {
            // Somebody else owns it by now.
            0 if wanted || held.force => held.control.want_acquire(),
            0 => {}
            uses => {
                held.force = false;
                held.patience = if wanted { uses } else { 0 };
            }
        }
    }

    fn intent(&self) -> Intent {
        let uses = u8::try_from(self.remote.references(self)).unwrap_or(u8::MAX);
        Intent { uses, span: uses, writes: true, force: self.guard.control.force }
    }

    fn held(&self) -> Option<(Epoch, u64)> {
        let copy = self.guard.control.copy().filter(|copy| copy.whole)?;
        Some((copy.epoch, copy.version))
    }

    fn install_replica(&mut self, grant: &Grant<'_>) -> bool {
        assert!(self.guard.flush.is_none(), "K4: nothing is in flight");
        let Some(slot) = self.own_slot() else { return false };
        let Some((mut row, seen)) = self.granted(grant, slot.1) else { return false };
        if let Some(block) = self.guard.accumulator.as_mut()
            && !seen
        {
            Update::in_block(&self.table.shape, block).settle(row.to_mut());
        }
        self.publish(slot, &row, (SlotState::Replica, grant.epoch, grant.version));
        let now_ns = self.now_ns();
        let owner = self.guard.control.control.owner();
        let held = &mut self.guard.control;
        held.set_copy(CopyOf {
            epoch: grant.epoch,
            version: grant.version,
            seen: grant.version,
            board: grant.board,
            acked_ns: now_ns,
            whole: true,
        });
        held.force = false;
        let (epoch, slot) = (grant.epoch, grant.slot);
        held.set_location(Location { epoch, slot, learned_ns: now_ns });
        let new = NewCopy { owner, board: grant.board, place: self.guard.place() };
        if let Some(engine) = &mut self.engine {
            engine.copies.push(new);
        }
        self.end_unwanted();
        true
    }

    fn install_live(&mut self, grant: &Grant<'_>) -> Option<SlotId> {
        assert!(self.guard.flush.is_none(), "K4: nothing is in flight");
        let slot = self.own_slot()?;
        let (mut row, seen) = self.granted(grant, slot.1)?;
        let shape = self.table.shape;
        if let Some((values, scope)) = self.guard.control.take_staged() {
            row.to_mut()[..values.len()].copy_from_slice(&values);
            if scope == SetScope::Values {
                shape.reset_state(row.to_mut());
            }
        }
        if let Some(mut block) = self.guard.accumulator.take() {
            if !seen {
                Update::in_block(&shape, &mut block).apply_private(row.to_mut());
            }
            self.table.pool.put(block);
        }
        self.publish(slot, &row, (SlotState::Live, grant.epoch, grant.version + 1));
        let at_home = self.home_slot().is_some();
        let now_ns = self.now_ns().max(1);
        let held = &mut self.guard.control;
        held.take_copy();
        (held.force, held.patience) = (false, 0);
        if at_home {
            held.moved(0);
            held.control.dismiss();
        } else {
            held.moved(now_ns);
        }
        Some(slot.0)
    }
}
