//! Asynchronous calls: a ticket owns what its call needs, and a ticket that is dropped forgets the call.
//!
//! Pushes, additions and sets are on their way when the call returns; their ticket is for those who want to know that they are in
//! the main copies. A pull's values are copied out by [`Ticket::wait_into`].

use std::sync::Arc;

use sterna_protocol::Key;

use super::{Wait, Worker};
use crate::error::Result;
use crate::keys::as_keys;
use crate::remote::{Request, Unsettled};
use crate::table::Table;

/// The promise of an asynchronous call of one worker.
#[derive(Debug)]
#[must_use = "a dropped ticket forgets its call"]
pub struct Ticket(Kind);

#[derive(Debug)]
enum Kind {
    /// All was done by the call.
    Done,
    /// Values of rows that were here, and the call that reads the others.
    Pull { table: Table, keys: usize, values: Vec<f32>, serial: Option<u32>, _handle: Arc<()> },
    /// Updates that the owners have not acknowledged, and keys whose updates are still in this worker's private copies.
    Write { table: Table, private: Vec<Key>, open: Vec<Unsettled> },
    /// Rows that were asked for.
    Localize { table: Table, keys: Vec<Key> },
}

impl Worker {
    /// Begins a [`Worker::pull`]. The values may be older than those of a later call.
    ///
    /// # Errors
    /// As [`Worker::pull`].
    pub fn pull_async(&mut self, table: &Table, keys: &[u64]) -> Result<Ticket> {
        let dim = table.dim();
        let mut values = vec![0.0; keys.len() * dim];
        let started = self.metrics.start(keys.len());
        let keys = self.check(table, keys, dim, values.len())?;
        let reached = self.read_here(table, keys, dim, &mut values)?;
        let handle = Arc::new(());
        let mut serial = None;
        if let (Some(remote), Some(reader), [_, ..]) =
            (&self.node.remote, &mut self.reader, &*self.away)
        {
            let handle = Some(Arc::clone(&handle));
            let request = Request { table, floats: dim, snapshot: false, handle };
            serial = Some(reader.begin(remote, keys, &self.away, request)?);
        }
        self.metrics.finish(self.reads(), reached, started);
        let table = table.clone();
        Ok(Ticket(Kind::Pull { table, keys: keys.len(), values, serial, _handle: handle }))
    }

    /// A [`Worker::push`] whose ticket tells when it is in the main copies.
    ///
    /// # Errors
    /// As [`Worker::push`].
    pub fn push_async(&mut self, table: &Table, keys: &[u64], gradients: &[f32]) -> Result<Ticket> {
        self.push(table, keys, gradients)?;
        Ok(self.written(table, keys))
    }

    /// A [`Worker::add`] whose ticket tells when it is in the main copies.
    ///
    /// # Errors
    /// As [`Worker::add`].
    pub fn add_async(&mut self, table: &Table, keys: &[u64], deltas: &[f32]) -> Result<Ticket> {
        self.add(table, keys, deltas)?;
        Ok(self.written(table, keys))
    }

    /// A [`Worker::set`] whose ticket tells when it is in the main copies. What this worker pulls later shows it; what it pushes later
    /// comes after it.
    ///
    /// # Errors
    /// As [`Worker::set`].
    pub fn set_async(&mut self, table: &Table, keys: &[u64], values: &[f32]) -> Result<Ticket> {
        let open = self.set_values(table, keys, values, Wait::Later)?;
        Ok(Ticket(if open.is_empty() {
            Kind::Done
        } else {
            Kind::Write { table: table.clone(), private: Vec::new(), open }
        }))
    }

    fn written(&self, table: &Table, keys: &[u64]) -> Ticket {
        let keys = as_keys(keys);
        let hot = self.hot.get(usize::from(table.id().0)).and_then(Option::as_ref);
        let private = match hot {
            Some((_, hot)) if !hot.is_empty() => {
                keys.iter().copied().filter(|&key| hot.holds(key)).collect()
            }
            _ => Vec::new(),
        };
        let open: Vec<Unsettled> = match &self.node.remote {
            Some(remote) => {
                keys.iter().filter_map(|&key| remote.unsettled(table.id(), key)).collect()
            }
            None => Vec::new(),
        };
        if private.is_empty() && open.is_empty() {
            return Ticket(Kind::Done);
        }
        Ticket(Kind::Write { table: table.clone(), private, open })
    }

    /// Puts what private copies of these keys hold where others see it; gives what is on its way then.
    fn unfold(&mut self, table: &Table, keys: &[Key]) -> Result<Vec<Unsettled>> {
        self.settle(table, keys)?;
        let Some(remote) = &self.node.remote else { return Ok(Vec::new()) };
        Ok(keys.iter().filter_map(|&key| remote.unsettled(table.id(), key)).collect())
    }
}

impl Ticket {
    pub(super) fn done() -> Self {
        Self(Kind::Done)
    }

    pub(super) fn localize(table: &Table, keys: Vec<Key>) -> Self {
        Self(Kind::Localize { table: table.clone(), keys })
    }

    /// Whether [`Ticket::wait`] would return at once.
    ///
    /// # Errors
    /// As [`Ticket::wait`].
    pub fn is_done(&self, worker: &mut Worker) -> Result<bool> {
        let mut unfolded = Vec::new();
        if let Kind::Write { table, private, .. } = &self.0 {
            unfolded = worker.unfold(table, private)?;
        }
        let (Some(remote), Some(reader)) = (&worker.node.remote, &mut worker.reader) else {
            return Ok(true);
        };
        match &self.0 {
            Kind::Done | Kind::Pull { serial: None, .. } => Ok(true),
            Kind::Pull { serial: Some(serial), .. } => reader.is_done(remote, *serial),
            Kind::Write { open, .. } => {
                remote.nudge()?;
                Ok(open.iter().chain(&unfolded).all(|unsettled| remote.is_settled(unsettled)))
            }
            Kind::Localize { table, keys } => {
                remote.nudge()?;
                Ok(keys.iter().all(|&key| remote.is_localized(table, key)))
            }
        }
    }

    /// Waits until the call is done. The worker is the one that made it.
    ///
    /// # Errors
    /// If a peer is lost, or does not answer in time.
    pub fn wait(self, worker: &mut Worker) -> Result<()> {
        self.end(worker, None)
    }

    /// Waits for a pull and copies its values to `values`.
    ///
    /// # Errors
    /// As [`Ticket::wait`], and for a buffer of a wrong length.
    pub fn wait_into(self, worker: &mut Worker, values: &mut [f32]) -> Result<()> {
        self.end(worker, Some(values))
    }

    fn end(self, worker: &mut Worker, out: Option<&mut [f32]>) -> Result<()> {
        match self.0 {
            Kind::Done => Ok(()),
            Kind::Pull { table, keys, mut values, serial, _handle } => {
                if let Some(out) = &out {
                    table.check_len(keys, table.dim(), out.len())?;
                }
                if let (Some(remote), Some(reader), Some(serial)) =
                    (&worker.node.remote, &mut worker.reader, serial)
                {
                    let call = reader.finish(remote, serial)?;
                    call.copy_to(&mut values);
                    reader.recycle(call);
                }
                if let Some(out) = out {
                    out.copy_from_slice(&values);
                }
                Ok(())
            }
            Kind::Write { table, private, mut open } => {
                open.extend(worker.unfold(&table, &private)?);
                match &worker.node.remote {
                    Some(remote) => remote.settle_all(&open, "an update"),
                    None => Ok(()),
                }
            }
            Kind::Localize { table, keys } => match &worker.node.remote {
                Some(remote) => remote.settle_localized(&table, &keys),
                None => Ok(()),
            },
        }
    }
}
