//! Reads: rows that are here are copied by the worker itself, of the others one-sided reads are posted.

use sterna_protocol::Key;
use sterna_store::SlotError;

use super::private::Away;
use super::{Worker, unavailable};
use crate::error::Result;
use crate::metrics::Reached;
use crate::remote::Request;
use crate::table::Table;

impl Worker {
    pub(super) fn read(
        &mut self,
        table: &Table,
        keys: &[u64],
        floats: usize,
        out: &mut [f32],
    ) -> Result<()> {
        let started = self.metrics.start(keys.len());
        let keys = self.check(table, keys, floats, out.len())?;
        if keys.is_empty() {
            return Ok(());
        }
        let reached = self.read_here(table, keys, floats, out)?;
        self.read_away(table, keys, floats, out, false)?;
        self.metrics.finish(self.reads(), reached, started);
        Ok(())
    }

    /// Copies the rows of these keys that are here (`keys.len() * dim` floats, those of the others are left as they were); gives the
    /// places of the others, in order.
    pub(crate) fn pull_here(
        &mut self,
        table: &Table,
        keys: &[u64],
        values: &mut [f32],
    ) -> Result<&[usize]> {
        let started = self.metrics.start(keys.len());
        let keys = self.check(table, keys, table.dim(), values.len())?;
        if keys.is_empty() {
            return Ok(&[]);
        }
        let reached = self.read_here(table, keys, table.dim(), values)?;
        self.metrics.finish(self.reads(), Reached { remote: 0, ..reached }, started);
        Ok(&self.away)
    }

    /// Copies the rows that are here; lists the places of the others as away.
    pub(super) fn read_here(
        &mut self,
        table: &Table,
        keys: &[Key],
        floats: usize,
        out: &mut [f32],
    ) -> Result<Reached> {
        self.missed.clear();
        let (rows, missed) = (&table.0.rows, &mut self.missed);
        let mut away = Away::new(&self.node, table, &mut self.pushed);
        let replica = match self.hot.get_mut(usize::from(table.id().0)) {
            Some(Some((_, hot))) => {
                rows.pull_batch_hot(hot, keys, floats, out, missed, |key, it| away.send(key, it))
            }
            _ => rows.pull_batch(keys, floats, out, missed),
        }
        .expect("lengths were checked");
        away.end()?;
        self.away.clear();
        self.away.extend(self.missed.iter().map(|missed| missed.index as usize));
        self.metrics.local_bytes += size_of_val(out) as u64;
        match self.away.first() {
            Some(&first) if self.reader.is_none() => {
                Err(unavailable(table, keys[first], SlotError::Elsewhere))
            }
            _ => {
                let remote = self.away.len();
                Ok(Reached { local: keys.len() - replica - remote, replica, remote })
            }
        }
    }

    /// Reads the rows of the keys that are listed as away from their homes.
    pub(super) fn read_away(
        &mut self,
        table: &Table,
        keys: &[Key],
        floats: usize,
        out: &mut [f32],
        snapshot: bool,
    ) -> Result<()> {
        let Some(&first) = self.away.first() else { return Ok(()) };
        let (Some(remote), Some(reader)) = (&self.node.remote, &mut self.reader) else {
            return Err(unavailable(table, keys[first], SlotError::Elsewhere));
        };
        let request = Request { table, floats, snapshot, handle: None };
        reader.pull(remote, keys, &self.away, request, out)
    }
}
