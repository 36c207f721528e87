//! Changes of rows whose main copies are elsewhere: they go into the key's accumulator at this node, and the engine sends them.
//!
//! A replica is stepped at once, under its entry's lock, and the step is noted in the accumulator; of a key without one the
//! accumulator is all there is. Whether the row is here is looked up again under that lock, because rows come and go under it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use sterna_kernels::{GradientsFull, Update};
use sterna_protocol::entry::{EntryState, ExchangeKind};
use sterna_protocol::record::SetScope;
use sterna_protocol::{Key, Rank, TableId};
use sterna_store::{Change, EntryGuard, EntryId, ForeignKey, Patience, SlotError};

use super::held::Held;
use super::storage::{ForeignRow, key_word};
use super::{Remote, Waiting};
use crate::error::Result;
use crate::table::Table;

/// How long to wait for the engine before looking again.
const PAUSE: Duration = Duration::from_millis(1);

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is in the accumulator, and in the replica.
    Replica,
    /// It is in the accumulator.
    Remote,
    /// The main copy is here: change that.
    Here,
}

/// What became of an attempt.
enum Tried {
    Taken(Taken),
    Later,
}

impl Remote {
    /// Changes a key whose row was not found here. Waits, running engine steps, where a limit is met.
    pub(crate) fn push(
        &self,
        table: &Table,
        key: Key,
        change: Change,
        part: &[f32],
    ) -> Result<Taken> {
        self.until_taken(table, key, "a push", |row| row.change(change, part))
    }

    /// The same with a composed update: a private copy's, whose row has left.
    pub(crate) fn fold(&self, table: &Table, key: Key, update: &Update<'_>) -> Result<()> {
        let fold = |row: &mut ForeignRow<'_>| match row.fold(update) {
            Tried::Taken(Taken::Here) => {
                let whole = |row| update.apply(row);
                match table.0.rows.update(key, Patience::WORKER, whole) {
                    Ok(_) => Tried::Taken(Taken::Here),
                    Err(_) => Tried::Later,
                }
            }
            tried => tried,
        };
        self.until_taken(table, key, "a push", fold).map(drop)
    }

    fn until_taken(
        &self,
        table: &Table,
        key: Key,
        what: &'static str,
        mut attempt: impl FnMut(&mut ForeignRow<'_>) -> Tried,
    ) -> Result<Taken> {
        let deadline = self.now() + self.wait_limit;
        loop {
            let mut rank = None;
            if let Some(mut row) = self.row(table, key) {
                if let Tried::Taken(taken) = attempt(&mut row) {
                    return Ok(taken);
                }
                rank = Some(row.guard.control.control.owner());
            }
            rank.map_or(Ok(()), |rank| self.check_peer(rank))?;
            if self.now() >= deadline {
                return Err(self.late(&Waiting { what, rank }));
            }
            self.help(PAUSE)?;
        }
    }

    /// Begins to replace the rows of the keys at these places of the user's call that are not here; gives what is to be waited for,
    /// and the places of those that have come here.
    pub(crate) fn begin_set(
        &self,
        table: &Table,
        keys: &[Key],
        floats: usize,
        parts: &[f32],
        places: &[usize],
    ) -> Result<(Vec<Unsettled>, Vec<usize>)> {
        let scope = if floats == table.dim() { SetScope::Values } else { SetScope::WholeRow };
        let (mut staged, mut here) = (Vec::with_capacity(places.len()), Vec::new());
        for &index in places {
            let part = &parts[index * floats..(index + 1) * floats];
            let mut open = None;
            let taken = self.until_taken(table, keys[index], "a set", |row| {
                let tried = row.stage(part, scope);
                open = unsettled(&row.guard);
                tried
            })?;
            match (taken, open) {
                (Taken::Here, _) => here.push(index),
                (_, open) => staged.extend(open),
            }
        }
        self.nudge()?;
        Ok((staged, here))
    }

    /// The entry of a key, if there is one.
    pub(super) fn known<'n>(&'n self, table: &'n Table, key: Key) -> Option<ForeignRow<'n>> {
        let guard = self.foreign.find(ForeignKey { table: table.id(), key })?;
        Some(ForeignRow { table: &table.0, guard, remote: self, engine: None })
    }

    /// The entry of a key; nothing if there is no room for one.
    pub(super) fn row<'n>(&'n self, table: &'n Table, key: Key) -> Option<ForeignRow<'n>> {
        let mut guard = self.foreign.entry(ForeignKey { table: table.id(), key }).ok()?;
        guard.control.start(|| key_word(&table.0, key));
        Some(ForeignRow { table: &table.0, guard, remote: self, engine: None })
    }

    /// Waits until all that this node had in accumulators at the call is in the main copies.
    pub(crate) fn flush(&self) -> Result<()> {
        let entries = self.foreign.places().filter_map(|place| unsettled(&self.foreign.at(place)?));
        let open: Vec<Unsettled> = entries.collect();
        self.settle_all(&open, "a flush")
    }

    /// What of a key this node has not seen acknowledged.
    pub(crate) fn unsettled(&self, table: TableId, key: Key) -> Option<Unsettled> {
        let guard = self.foreign.find(ForeignKey { table, key })?;
        unsettled(&guard)
    }

    /// Whether it has been acknowledged since.
    pub(crate) fn is_settled(&self, unsettled: &Unsettled) -> bool {
        self.foreign.at(unsettled.place).is_none_or(|guard| {
            guard.key() != unsettled.key
                || pending(&guard) == 0
                || guard.control.acked.wrapping_sub(unsettled.target) < 1 << 31
        })
    }

    /// Waits until all of it has been acknowledged.
    pub(crate) fn settle_all(&self, open: &[Unsettled], what: &'static str) -> Result<()> {
        let _urgent = Urgent::new(self);
        let deadline = self.now() + self.wait_limit;
        for unsettled in open {
            while !self.is_settled(unsettled) {
                self.check_peer(unsettled.owner)?;
                if self.now() >= deadline {
                    return Err(self.late(&Waiting { what, rank: Some(unsettled.owner) }));
                }
                self.help(PAUSE)?;
            }
        }
        Ok(())
    }
}

/// While one of these lives, somebody waits for updates: those of replicas do not wait for their round.
pub(crate) struct Urgent<'n>(&'n Remote);

impl<'n> Urgent<'n> {
    pub(crate) fn new(remote: &'n Remote) -> Self {
        remote.urgent.fetch_add(1, Ordering::SeqCst);
        Self(remote)
    }
}

impl Drop for Urgent<'_> {
    fn drop(&mut self) {
        self.0.urgent.fetch_sub(1, Ordering::SeqCst);
    }
}

impl ForeignRow<'_> {
    /// Whether the main copy is here.
    pub(super) fn is_here(&self) -> bool {
        match self.home_slot() {
            Some(home) => self.table.rows.version_of(home).is_some(),
            None => self.guard.control.control.state() == EntryState::Live,
        }
    }

    /// Does `work(row, update)` under a replica's writer bit; `None` if there is no replica.
    fn step(&mut self, work: impl Fn(sterna_kernels::RowPtr, &mut Update<'_>)) -> Option<Tried> {
        if self.guard.control.control.state() != EntryState::Replica {
            return None;
        }
        let key = self.guard.key().key;
        let (_, slot) = self.table.rows.find_surely(key)?;
        let Ok(mut update) = self.accumulator() else { return Some(Tried::Later) };
        match slot.lock_replica(key, Patience::WORKER) {
            Ok(mut guard) => {
                guard.edit(|row| work(row, &mut update));
                guard.commit();
            }
            Err(SlotError::Busy | SlotError::Elsewhere) => return Some(Tried::Later),
        }
        self.list();
        Some(Tried::Taken(Taken::Replica))
    }

    fn change(&mut self, change: Change, part: &[f32]) -> Tried {
        if self.is_here() {
            return Tried::Taken(Taken::Here);
        }
        let stepped = self.step(|row, update| match change {
            Change::Step(lr) => update.step_row(row, part, lr),
            Change::Add => update.add_row(row, part),
        });
        if let Some(tried) = stepped {
            return tried;
        }
        self.guard.control.pass_copy();
        let taken = match (self.accumulator(), change) {
            (Err(_), _) => return Tried::Later,
            (Ok(mut update), Change::Step(lr)) => update.push_gradient(part, lr),
            (Ok(mut update), Change::Add) => {
                update.add_values(part);
                Ok(())
            }
        };
        self.used();
        self.list();
        if taken == Err(GradientsFull) { Tried::Later } else { Tried::Taken(Taken::Remote) }
    }

    fn fold(&mut self, update: &Update<'_>) -> Tried {
        if self.is_here() {
            return Tried::Taken(Taken::Here);
        }
        let stepped = self.step(|row, noted| noted.fold_row(row, update));
        if let Some(tried) = stepped {
            return tried;
        }
        self.guard.control.pass_copy();
        let Ok(mut noted) = self.accumulator() else { return Tried::Later };
        noted.put_after(update);
        self.list();
        Tried::Taken(Taken::Remote)
    }

    /// Stages new values.
    fn stage(&mut self, part: &[f32], scope: SetScope) -> Tried {
        if self.is_here() {
            return Tried::Taken(Taken::Here);
        }
        if self.guard.control.staged().is_some() {
            return Tried::Later;
        }
        // What this node pushed before is overwritten.
        if let Some(block) = self.guard.accumulator.take() {
            self.table.pool.put(block);
        }
        self.guard.control.stage((part.to_vec(), scope));
        self.guard.control.control.want_set();
        self.forget_copy();
        self.list();
        Tried::Taken(Taken::Remote)
    }

    /// Counts an access from afar: after so many, an Acquire that was refused is repeated. While intents are not acted on, a row that is used at
    /// its home goes back there: that is where it is found with the least work.
    pub(crate) fn used(&mut self) {
        let comes_home = self.home_slot().is_some() && self.remote.trial.declines();
        let held = &mut self.guard.control;
        if comes_home && !held.force {
            held.force = true;
            held.control.want_acquire();
        }
        if held.patience > 0 {
            held.patience -= 1;
            if held.patience == 0 && self.remote.wanted_by(self) {
                self.guard.control.control.want_acquire();
            }
        }
    }
}

/// Updates of a key on their way, and the count of Acks at which they are in the main copy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unsettled {
    place: EntryId,
    key: ForeignKey,
    target: u32,
    owner: Rank,
}

/// Exchanges that an entry still needs for what it holds.
fn pending(guard: &EntryGuard<'_, Held>) -> u32 {
    u32::from(guard.accumulator.is_some())
        + u32::from(guard.flush.is_some())
        + u32::from(guard.control.staged().is_some())
}

fn unsettled(guard: &EntryGuard<'_, Held>) -> Option<Unsettled> {
    let pending = pending(guard);
    let open = guard.control.control.exchange();
    // The Ack of an exchange without updates counts as well, but not for these.
    let empty = open.is_some_and(|open| {
        matches!(open.kind, ExchangeKind::Flush | ExchangeKind::Release) && guard.flush.is_none()
    });
    let target = guard.control.acked.wrapping_add(pending + u32::from(empty));
    let (place, key, owner) = (guard.place(), guard.key(), guard.control.control.owner());
    (pending > 0).then_some(Unsettled { place, key, target, owner })
}
