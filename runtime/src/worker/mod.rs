//! A worker: a thread's handle for all access to rows.
//!
//! Keys of a call may come in any order and may occur more than once (but in `set`). Values of a call lie one after the other in
//! the order of its keys.

mod distinct;

use std::sync::Arc;
use std::time::Duration;

use sterna_kernels::RowPtr;
use sterna_protocol::{Clock, Key};
use sterna_store::{Missed, Patience, SlotError};

use crate::error::{Error, Result};
use crate::keys::as_keys;
use crate::metrics::{Metrics, Operation, thread_cpu};
use crate::node::NodeState;
use crate::table::Table;

use distinct::Distinct;

/// How often a call comes back to rows that other writers keep busy; each time it waits a little itself.
const BUSY_TRIES: u32 = 1000;

/// One of a node's workers. It is used by one thread at a time and may be sent to another.
#[derive(Debug)]
pub struct Worker {
    node: Arc<NodeState>,
    index: usize,
    clock: Clock,
    metrics: Metrics,
    cpu_seen: Duration,
    pinned: bool,
    learning_rates: Vec<Option<f32>>,
    distinct: Distinct,
    missed: Vec<Missed>,
}

impl Worker {
    pub(crate) fn new(node: Arc<NodeState>, index: usize) -> Self {
        Self {
            node,
            index,
            clock: Clock::default(),
            metrics: Metrics::new(),
            cpu_seen: Duration::ZERO,
            pinned: false,
            learning_rates: Vec::new(),
            distinct: Distinct::default(),
            missed: Vec::new(),
        }
    }

    /// Its number among the workers of its node.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    /// Its number among all workers of the job.
    #[must_use]
    pub fn global_index(&self) -> usize {
        self.node.rank().index() * self.node.workers() + self.index
    }

    /// Number of workers of the job.
    #[must_use]
    pub fn global_count(&self) -> usize {
        self.node.size() * self.node.workers()
    }

    /// Pins the calling thread to the CPU that the node's plan has for this worker, if it has one. Call it first on the
    /// thread that will use the worker.
    pub fn pin_thread(&mut self) {
        if let Some(cpu) = self.node.cpu_of(self.index) {
            self.pinned = sterna_rdma::topology::pin_current_thread(cpu);
        }
        self.cpu_seen = thread_cpu();
    }

    /// Copies the values of the rows of `keys` to `values` (`keys.len() * dim` floats).
    ///
    /// # Errors
    /// For keys that the table does not have and a buffer of a wrong length; nothing was copied then.
    pub fn pull(&mut self, table: &Table, keys: &[u64], values: &mut [f32]) -> Result<()> {
        self.read(table, keys, table.dim(), values)
    }

    /// Copies whole rows, values and optimizer state (`keys.len() * row_len` floats).
    ///
    /// # Errors
    /// As [`Worker::pull`].
    pub fn pull_rows(&mut self, table: &Table, keys: &[u64], rows: &mut [f32]) -> Result<()> {
        self.read(table, keys, table.row_len(), rows)
    }

    /// Copies values that no update was half made on: each row is of one version.
    ///
    /// # Errors
    /// As [`Worker::pull`], and [`Error::Busy`].
    pub fn snapshot(&mut self, table: &Table, keys: &[u64], values: &mut [f32]) -> Result<()> {
        let keys = self.check(table, keys, table.dim(), values.len())?;
        for (&key, row) in keys.iter().zip(values.chunks_exact_mut(table.dim())) {
            table.0.rows.snapshot(key, row).map_err(|error| unavailable(table, key, error))?;
        }
        Ok(())
    }

    /// Steps the table's optimizer with `gradients` (`keys.len() * dim` floats): one step for each distinct key, with the sum of
    /// what the call says about it, and the learning rate of [`Worker::set_learning_rate`] or the table's.
    ///
    /// # Errors
    /// For keys that the table does not have, a buffer of a wrong length, values that are not finite if the table checks;
    /// nothing was applied then. [`Error::Busy`] if a row stays busy.
    pub fn push(&mut self, table: &Table, keys: &[u64], gradients: &[f32]) -> Result<()> {
        let lr = self.learning_rate(table);
        let shape = table.0.shape;
        self.write(table, Operation::Push, keys, table.dim(), gradients, |row, gradient| {
            shape.step(row, gradient, lr);
        })
    }

    /// Adds `deltas` to values; the optimizer's state stays.
    ///
    /// # Errors
    /// As [`Worker::push`].
    pub fn add(&mut self, table: &Table, keys: &[u64], deltas: &[f32]) -> Result<()> {
        let dim = table.dim();
        self.write(table, Operation::Add, keys, dim, deltas, |row, delta| {
            row.part(0, dim).add(delta);
        })
    }

    /// Overwrites values and resets the optimizer's state to the table's start.
    ///
    /// # Errors
    /// As [`Worker::push`]; [`Error::DuplicateKey`] if a key occurs twice.
    pub fn set(&mut self, table: &Table, keys: &[u64], values: &[f32]) -> Result<()> {
        let shape = table.0.shape;
        let mut start = vec![0.0; shape.row_len()];
        shape.reset_state(&mut start);
        self.write(table, Operation::Set, keys, table.dim(), values, |row, values| {
            row.part(0, shape.dim).copy_in(values);
            row.part(shape.dim, shape.state_len()).copy_in(&start[shape.dim..]);
        })
    }

    /// Overwrites whole rows, values and state, as [`Worker::pull_rows`] gives them.
    ///
    /// # Errors
    /// As [`Worker::set`].
    pub fn set_rows(&mut self, table: &Table, keys: &[u64], rows: &[f32]) -> Result<()> {
        self.write(table, Operation::Set, keys, table.row_len(), rows, RowPtr::copy_in)
    }

    /// Copies a row's values if it is at this node; says whether.
    ///
    /// # Errors
    /// As [`Worker::pull`].
    pub fn pull_if_local(&mut self, table: &Table, key: u64, values: &mut [f32]) -> Result<bool> {
        self.check(table, &[key], table.dim(), values.len())?;
        Ok(table.0.rows.pull(Key(key), values).is_ok())
    }

    /// The inner product of a row's values and `x`, without a copy; `None` if the row is not at this node.
    ///
    /// # Errors
    /// As [`Worker::pull`].
    pub fn dot(&mut self, table: &Table, key: u64, x: &[f32]) -> Result<Option<f32>> {
        self.check(table, &[key], table.dim(), x.len())?;
        Ok(table.0.rows.dot(Key(key), x).ok())
    }

    /// Adds `a * x` to a row's values in place, if the row is at this node; says whether.
    ///
    /// # Errors
    /// As [`Worker::push`].
    pub fn axpy(&mut self, table: &Table, key: u64, a: f32, x: &[f32]) -> Result<bool> {
        self.check(table, &[key], table.dim(), x.len())?;
        table.check_finite(&[Key(key)], x.len(), x)?;
        let work = |row: RowPtr| row.part(0, x.len()).axpy(a, x);
        match table.0.rows.update(Key(key), Patience::WORKER, work) {
            Ok(_) => Ok(true),
            Err(SlotError::Elsewhere) => Ok(false),
            Err(SlotError::Busy) => Err(table.busy(Key(key))),
        }
    }

    /// The learning rate of this worker's next pushes to `table`.
    pub fn set_learning_rate(&mut self, table: &Table, lr: f32) {
        let index = usize::from(table.id().0);
        if self.learning_rates.len() <= index {
            self.learning_rates.resize(index + 1, None);
        }
        self.learning_rates[index] = Some(lr);
    }

    /// The worker's logical time.
    #[must_use]
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Ends a step: the clock goes one on.
    pub fn advance_clock(&mut self) {
        self.clock.0 += 1;
    }

    /// Waits until all that this worker pushed is in the main copies.
    ///
    /// # Errors
    /// If a peer is lost.
    pub fn flush(&mut self) -> Result<()> {
        self.hand_over();
        Ok(())
    }

    /// Waits until all workers of the job have called it; all that they pushed before is then in the main copies.
    ///
    /// # Errors
    /// If a peer or another worker is lost.
    pub fn barrier(&mut self) -> Result<()> {
        self.all_reduce_sum(&mut [])
    }

    /// Replaces `values` by the sum of those of all workers of the job; a barrier.
    ///
    /// # Errors
    /// As [`Worker::barrier`].
    pub fn all_reduce_sum(&mut self, values: &mut [f64]) -> Result<()> {
        self.flush()?;
        self.node.meeting.meet(values, |_| Ok(()))
    }

    /// Whether somebody asked the job to stop (Ctrl-C).
    #[must_use]
    pub fn stop_requested(&self) -> bool {
        self.node.stop_requested()
    }

    fn learning_rate(&self, table: &Table) -> f32 {
        let own = self.learning_rates.get(usize::from(table.id().0)).copied().flatten();
        own.unwrap_or_else(|| table.optimizer().learning_rate())
    }

    fn check<'k>(
        &self,
        table: &Table,
        keys: &'k [u64],
        floats: usize,
        found: usize,
    ) -> Result<&'k [Key]> {
        if table.0.node != self.node.number() {
            return Err(Error::UnknownTable(table.name().to_owned()));
        }
        let keys = as_keys(keys);
        table.check_len(keys.len(), floats, found)?;
        table.check_keys(keys)?;
        Ok(keys)
    }

    fn read(&mut self, table: &Table, keys: &[u64], floats: usize, out: &mut [f32]) -> Result<()> {
        let started = self.metrics.start(keys.len());
        let keys = self.check(table, keys, floats, out.len())?;
        if keys.is_empty() {
            return Ok(());
        }
        self.missed.clear();
        table.0.rows.pull_batch(keys, floats, out, &mut self.missed).expect("lengths were checked");
        if let Some(missed) = self.missed.first() {
            return Err(unavailable(table, keys[missed.index as usize], missed.why));
        }
        self.metrics.local_bytes += (size_of_val(out)) as u64;
        self.metrics.finish(Operation::Pull, keys.len(), 0, started);
        Ok(())
    }

    fn write(
        &mut self,
        table: &Table,
        operation: Operation,
        keys: &[u64],
        floats: usize,
        parts: &[f32],
        work: impl Fn(RowPtr, &[f32]),
    ) -> Result<()> {
        let started = self.metrics.start(keys.len());
        let keys = self.check(table, keys, floats, parts.len())?;
        table.check_finite(keys, floats, parts)?;
        if keys.is_empty() {
            return Ok(());
        }
        let duplicates = self.distinct.scan(keys);
        if duplicates && operation == Operation::Set {
            let key = duplicate(keys).expect("the scan found one").0;
            return Err(Error::DuplicateKey { table: table.name().to_owned(), key });
        }
        if duplicates {
            self.distinct.sum(parts, floats);
        }
        let (keys, parts) =
            if duplicates { (&*self.distinct.keys, &*self.distinct.sums) } else { (keys, parts) };
        let part = |index: usize| &parts[index * floats..(index + 1) * floats];
        self.missed.clear();
        table.0.rows.push_batch(keys, Patience::WORKER, &mut self.missed, |index, row| {
            work(row, part(index));
        });
        for missed in &self.missed {
            let index = missed.index as usize;
            again(table, keys[index], missed.why, |row| work(row, part(index)))?;
        }
        self.metrics.local_bytes += (size_of_val(parts)) as u64;
        self.metrics.finish(operation, keys.len(), 0, started);
        Ok(())
    }

    /// Gives the node what was measured since the last time.
    fn hand_over(&mut self) {
        let cpu = thread_cpu();
        self.metrics.cpu = cpu.saturating_sub(self.cpu_seen);
        self.cpu_seen = cpu;
        self.node.merge_metrics(&self.metrics);
        self.metrics.clear();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.hand_over();
        if std::thread::panicking() {
            self.node.meeting.break_up(Error::WorkerLost("a barrier"));
        }
    }
}

/// Comes back to a row that another writer kept busy, many times and each with patience.
fn again(table: &Table, key: Key, why: SlotError, work: impl Fn(RowPtr)) -> Result<()> {
    let mut why = why;
    for _ in 0..BUSY_TRIES {
        if why == SlotError::Elsewhere {
            break;
        }
        match table.0.rows.update(key, Patience::WORKER, &work) {
            Ok(_) => return Ok(()),
            Err(error) => why = error,
        }
        std::thread::sleep(Duration::from_micros(50));
    }
    Err(unavailable(table, key, why))
}

fn duplicate(keys: &[Key]) -> Option<Key> {
    let mut sorted = keys.to_vec();
    sorted.sort_unstable();
    sorted.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
}

fn unavailable(table: &Table, key: Key, why: SlotError) -> Error {
    match why {
        SlotError::Busy => table.busy(key),
        SlotError::Elsewhere => Error::UnknownTable(table.name().to_owned()),
    }
}
