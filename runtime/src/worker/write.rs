//! Changes and new values: of rows that are here by the worker itself, of the others through the entries of their keys.

use std::cell::RefCell;

use sterna_kernels::RowPtr;
use sterna_protocol::Key;
use sterna_store::{Change, Changed, Patience, SlotError};

use super::private::{Away, hot_rows, keys_between};
use super::{Worker, again};
use crate::error::{Error, Result};
use crate::metrics::{Operation, Reached};
use crate::remote::{Taken, Unsettled};
use crate::table::Table;

/// Whether a call waits until all has happened, or leaves that to its ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    Now,
    Later,
}

impl Worker {
    /// Changes rows by `parts`, `dim` floats for each key.
    pub(super) fn change(
        &mut self,
        table: &Table,
        operation: Operation,
        keys: &[u64],
        change: Change,
        parts: &[f32],
    ) -> Result<()> {
        let started = self.metrics.start(keys.len());
        let dim = table.dim();
        let keys = self.check(table, keys, dim, parts.len())?;
        table.check_finite(keys, dim, parts)?;
        if keys.is_empty() {
            return Ok(());
        }
        let hot = hot_rows(&mut self.hot, table);
        let rows = &table.0.rows;
        rows.prime_push(hot, keys);
        let duplicates = self.distinct.suspects(keys) && self.distinct.scan(keys);
        if duplicates {
            self.distinct.sum(parts, dim);
        }
        let (keys, parts) =
            if duplicates { (&*self.distinct.keys, &*self.distinct.sums) } else { (keys, parts) };
        self.missed.clear();
        let before = hot.counts().pushes;
        let mut left = Away::new(&self.node, table, &mut self.pushed);
        rows.push_batch_hot(hot, keys, change, parts, &mut self.missed, |key, it| {
            left.send(key, it);
        })
        .expect("lengths were checked");
        let (mut remote, mut stepped) = (0, 0);
        for missed in &self.missed {
            let index = missed.index as usize;
            let (key, part) = (keys[index], &parts[index * dim..(index + 1) * dim]);
            let mut why = missed.why;
            loop {
                if let (Some(node), SlotError::Elsewhere) = (&self.node.remote, why) {
                    match node.push(table, key, change, part)? {
                        Taken::Remote => remote += 1,
                        Taken::Replica => stepped += 1,
                        Taken::Here => {
                            why = SlotError::Busy;
                            continue;
                        }
                    }
                    left.note(key);
                    break;
                }
                // Here, but busy; or it came here just now.
                let pushed = again(table, key, why, || {
                    let slot = rows.slot(key);
                    let changed = hot.push(slot, key, change, part, |key, it| left.send(key, it));
                    if changed? == Changed::Shared {
                        rows.mark_changed(key);
                    }
                    Ok(())
                })?;
                match pushed {
                    Ok(()) => break,
                    Err(gone) => why = gone,
                }
            }
        }
        left.end()?;
        let replica = keys_between(before, hot.counts().pushes) + stepped;
        if let (Some(node), 1..) = (&self.node.remote, remote + stepped) {
            node.nudge()?;
        }
        self.metrics.local_bytes += size_of_val(parts) as u64;
        let reached = Reached { local: keys.len() - replica - remote, replica, remote };
        self.metrics.finish(operation, reached, started);
        Ok(())
    }

    /// Overwrites values and resets state; gives what is left to be waited for.
    pub(super) fn set_values(
        &mut self,
        table: &Table,
        keys: &[u64],
        values: &[f32],
        wait: Wait,
    ) -> Result<Vec<Unsettled>> {
        let shape = table.0.shape;
        let start = RefCell::new(vec![0.0; shape.row_len()]);
        self.overwrite(table, keys, table.dim(), values, wait, |row, values| {
            let mut start = start.borrow_mut();
            start[..shape.dim].copy_from_slice(values);
            shape.reset_state(&mut start);
            row.copy_in(&start);
        })
    }

    /// Overwrites rows by `work`, given `floats` floats for each key; gives what is left to be waited for.
    pub(super) fn overwrite(
        &mut self,
        table: &Table,
        keys: &[u64],
        floats: usize,
        parts: &[f32],
        wait: Wait,
        work: impl Fn(RowPtr, &[f32]),
    ) -> Result<Vec<Unsettled>> {
        let started = self.metrics.start(keys.len());
        let keys = self.check(table, keys, floats, parts.len())?;
        table.check_finite(keys, floats, parts)?;
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        if self.distinct.suspects(keys) && self.distinct.scan(keys) {
            let key = duplicate(keys).expect("the scan found one").0;
            return Err(Error::DuplicateKey { table: table.name().to_owned(), key });
        }
        // What this worker pushed before comes before what it sets.
        self.settle(table, keys)?;
        let part = |index: usize| &parts[index * floats..(index + 1) * floats];
        self.missed.clear();
        table.0.rows.push_batch(keys, Patience::WORKER, &mut self.missed, |index, row| {
            work(row, part(index));
        });
        self.away.clear();
        for missed in &self.missed {
            let index = missed.index as usize;
            let key = keys[index];
            if self.node.remote.is_some() && missed.why == SlotError::Elsewhere {
                self.away.push(index);
                continue;
            }
            let set = || overwrite_here(table, key, |row| work(row, part(index)));
            if again(table, key, missed.why, set)?.is_err() {
                self.away.push(index);
            }
        }
        let mut open = Vec::new();
        let remote = self.away.len();
        while let (Some(node), [_, ..]) = (&self.node.remote, &*self.away) {
            let (staged, here) = node.begin_set(table, keys, floats, parts, &self.away)?;
            open.extend(staged);
            self.away.clear();
            for index in here {
                let set = || overwrite_here(table, keys[index], |row| work(row, part(index)));
                if again(table, keys[index], SlotError::Busy, set)?.is_err() {
                    self.away.push(index);
                }
            }
        }
        if let (Some(node), Wait::Now) = (&self.node.remote, wait) {
            node.settle_all(&open, "a set")?;
            open.clear();
        }
        self.metrics.local_bytes += size_of_val(parts) as u64;
        let reached = Reached { local: keys.len() - remote, replica: 0, remote };
        self.metrics.finish(Operation::Set, reached, started);
        Ok(open)
    }
}

/// Overwrites a main copy that is here.
fn overwrite_here(table: &Table, key: Key, work: impl FnOnce(RowPtr)) -> Result<(), SlotError> {
    table.0.rows.update(key, Patience::WORKER, work).map(drop)
}

fn duplicate(keys: &[Key]) -> Option<Key> {
    let mut sorted = keys.to_vec();
    sorted.sort_unstable();
    sorted.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
}
