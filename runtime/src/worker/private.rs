//! A worker's private replicas of hot rows: what they hold back is folded into the rows, wherever those are by then.

use sterna_kernels::Update;
use sterna_protocol::{Key, TableId};
use sterna_store::{Changed, HotRows, Patience, SlotError};

use super::{Worker, again, unavailable};
use crate::error::{Error, Result};
use crate::node::NodeState;
use crate::remote::Remote;
use crate::table::Table;

impl Worker {
    /// Folds this worker's private copies of these rows, so that the rows hold all that it pushed.
    pub(super) fn settle(&mut self, table: &Table, keys: &[Key]) -> Result<()> {
        let Some(Some((_, hot))) = self.hot.get_mut(usize::from(table.id().0)) else {
            return Ok(());
        };
        let rows = &table.0.rows;
        let mut away = Away::new(&self.node, table, &mut self.pushed);
        for &key in keys {
            if hot.is_empty() {
                break;
            }
            let _ = again(table, key, SlotError::Busy, || {
                let slot = rows.slot(key);
                let left = |key, update: &Update<'_>| away.send(key, update);
                if hot.drop_key(slot, key, Patience::WORKER, left)? == Changed::Shared {
                    rows.mark_changed(key);
                }
                Ok(())
            })?;
        }
        away.end()
    }

    /// Folds all private copies of this worker.
    pub(super) fn fold(&mut self) -> Result<()> {
        for (table, hot) in self.hot.iter_mut().flatten() {
            let rows = &table.0.rows;
            let mut away = Away::new(&self.node, table, &mut self.pushed);
            let _ = again(table, Key(0), SlotError::Busy, || {
                let left = |key, update: &Update<'_>| away.send(key, update);
                let shared = |key| rows.mark_changed(key);
                hot.drop_all(|key| rows.slot(key), Patience::WORKER, left, shared)
            })?;
            away.end()?;
        }
        Ok(())
    }
}

/// The private replicas of a worker in a table.
pub(super) fn hot_rows<'a>(
    hot: &'a mut Vec<Option<(Table, HotRows)>>,
    table: &Table,
) -> &'a mut HotRows {
    let index = usize::from(table.id().0);
    if hot.len() <= index {
        hot.resize_with(index + 1, || None);
    }
    let made = || (table.clone(), HotRows::new(table.0.shape));
    &mut hot[index].get_or_insert_with(made).1
}

/// Keys that private replicas served between two counts.
pub(super) fn keys_between(before: u64, after: u64) -> usize {
    usize::try_from(after - before).expect("at most the keys of a call")
}

/// Takes the updates of private copies whose rows have left: they follow their rows.
pub(super) struct Away<'a> {
    remote: Option<&'a Remote>,
    table: &'a Table,
    /// Where changed rows are noted, if somebody wants to know.
    pushed: Option<&'a mut Vec<(TableId, Key)>>,
    fault: Option<Error>,
}

impl<'a> Away<'a> {
    pub(super) fn new(
        node: &'a NodeState,
        table: &'a Table,
        pushed: &'a mut Vec<(TableId, Key)>,
    ) -> Self {
        let pushed = node.clocks.is_some().then_some(pushed);
        Self { remote: node.remote.as_deref(), table, pushed, fault: None }
    }

    /// A row elsewhere has been changed.
    pub(super) fn note(&mut self, key: Key) {
        if let Some(pushed) = &mut self.pushed {
            pushed.push((self.table.id(), key));
        }
    }

    pub(super) fn send(&mut self, key: Key, update: &Update<'_>) {
        let sent = match self.remote {
            Some(remote) => remote.fold(self.table, key, update),
            None => Err(unavailable(self.table, key, SlotError::Elsewhere)),
        };
        self.note(key);
        if let Err(error) = sent {
            self.fault.get_or_insert(error);
        }
    }

    pub(super) fn end(self) -> Result<()> {
        self.fault.map_or(Ok(()), Err)
    }
}
