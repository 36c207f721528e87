//! Changes of rows of other homes: they go into the key's accumulator at this node, and the engine sends them.

use std::time::Duration;

use sterna_kernels::GradientsFull;
use sterna_protocol::record::SetScope;
use sterna_protocol::{Key, Rank};
use sterna_store::{Change, EntryGuard, EntryId, ForeignKey};

use super::held::Held;
use super::storage::ForeignRow;
use super::{Remote, Waiting};
use crate::error::Result;
use crate::table::Table;

/// How long to wait for the engine before looking again.
const PAUSE: Duration = Duration::from_millis(1);

impl Remote {
    /// Adds a change to the key's accumulator. Waits, running engine steps, where a limit is met.
    pub(crate) fn push(&self, table: &Table, key: Key, change: Change, part: &[f32]) -> Result<()> {
        let home = table.0.rows.placement().locate_known(key).home;
        let deadline = self.now() + self.wait_limit;
        while !self.try_push(table, key, home, change, part) {
            self.check_peer(home)?;
            if self.now() >= deadline {
                return Err(self.late(&Waiting { what: "a push", rank: Some(home) }));
            }
            self.help(PAUSE)?;
        }
        Ok(())
    }

    fn try_push(&self, table: &Table, key: Key, home: Rank, change: Change, part: &[f32]) -> bool {
        let Some(mut row) = self.row(table, key, home) else { return false };
        let taken = match (row.accumulator(), change) {
            (Err(_), _) => return false,
            (Ok(mut update), Change::Step(lr)) => update.push_gradient(part, lr),
            (Ok(mut update), Change::Add) => {
                update.add_values(part);
                Ok(())
            }
        };
        row.list();
        taken != Err(GradientsFull)
    }

    /// Begins to replace rows at their homes, those of the keys at these places of the user's call; gives what is to be waited for.
    pub(crate) fn begin_set(
        &self,
        table: &Table,
        keys: &[Key],
        floats: usize,
        parts: &[f32],
        places: &[usize],
    ) -> Result<Vec<Unsettled>> {
        let scope = if floats == table.dim() { SetScope::Values } else { SetScope::WholeRow };
        let deadline = self.now() + self.wait_limit;
        let mut staged = Vec::with_capacity(places.len());
        for &index in places {
            let key = keys[index];
            let home = table.0.rows.placement().locate_known(key).home;
            let part = &parts[index * floats..(index + 1) * floats];
            staged.push(loop {
                if let Some(open) = self.stage(table, key, home, part, scope) {
                    break open;
                }
                self.check_peer(home)?;
                if self.now() >= deadline {
                    return Err(self.late(&Waiting { what: "a set", rank: Some(home) }));
                }
                self.help(PAUSE)?;
            });
        }
        self.nudge()?;
        Ok(staged)
    }

    /// Stages new values; gives when they are in the main copy. `None`: try later.
    fn stage(
        &self,
        table: &Table,
        key: Key,
        home: Rank,
        part: &[f32],
        scope: SetScope,
    ) -> Option<Unsettled> {
        let mut row = self.row(table, key, home)?;
        if row.guard.control.staged.is_some() {
            return None;
        }
        // What this node pushed before is overwritten.
        if let Some(block) = row.guard.accumulator.take() {
            row.table.pool.put(block);
        }
        row.guard.control.staged = Some((part.to_vec(), scope));
        row.guard.control.control.want_set();
        let open = u64::from(row.guard.control.control.exchange().is_some());
        let target = row.guard.control.acked + open + 1;
        let (place, key) = (row.guard.place(), row.guard.key());
        row.list();
        Some(Unsettled { place, key, target, owner: home })
    }

    fn row<'n>(&'n self, table: &'n Table, key: Key, home: Rank) -> Option<ForeignRow<'n>> {
        let mut guard = self.foreign.entry(ForeignKey { table: table.id(), key }).ok()?;
        guard.control.at_home(home);
        Some(ForeignRow { table: &table.0, guard })
    }

    /// Waits until all that this node had in accumulators at the call is in the main copies.
    pub(crate) fn flush(&self) -> Result<()> {
        let entries = self.foreign.places().filter_map(|place| unsettled(&self.foreign.at(place)?));
        let open: Vec<Unsettled> = entries.collect();
        self.settle_all(&open, "a flush")
    }

    /// What of a key this node has not seen acknowledged.
    pub(crate) fn unsettled(&self, table: &Table, key: Key) -> Option<Unsettled> {
        let guard = self.foreign.find(ForeignKey { table: table.id(), key })?;
        unsettled(&guard)
    }

    /// Whether it has been acknowledged since.
    pub(crate) fn is_settled(&self, unsettled: &Unsettled) -> bool {
        self.foreign.at(unsettled.place).is_none_or(|guard| {
            guard.key() != unsettled.key
                || pending(&guard) == 0
                || guard.control.acked >= unsettled.target
        })
    }

    /// Waits until all of it has been acknowledged.
    pub(crate) fn settle_all(&self, open: &[Unsettled], what: &'static str) -> Result<()> {
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

/// Updates of a key on their way, and the count of Acks at which they are in the main copy.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unsettled {
    place: EntryId,
    key: ForeignKey,
    target: u64,
    owner: Rank,
}

/// Exchanges that an entry still needs for what it holds.
fn pending(guard: &EntryGuard<'_, Held>) -> u64 {
    u64::from(guard.accumulator.is_some())
        + u64::from(guard.flush.is_some())
        + u64::from(guard.control.staged.is_some())
}

fn unsettled(guard: &EntryGuard<'_, Held>) -> Option<Unsettled> {
    let pending = pending(guard);
    let target = guard.control.acked + pending;
    let (place, key, owner) = (guard.place(), guard.key(), guard.control.control.owner());
    (pending > 0).then_some(Unsettled { place, key, target, owner })
}
