//! A worker: a thread's handle for all access to rows.
//!
//! Keys of a call may come in any order and may occur more than once (but in `set`). Values of a call lie one after the other in
//! the order of its keys.

mod distinct;
mod intent;
mod private;
mod read;
mod ticket;
mod write;

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sterna_kernels::RowPtr;
use sterna_protocol::{Clock, Key, TableId};
use sterna_store::{Change, HotRows, Missed, Patience, SlotError};

use crate::error::{Error, Result};
use crate::keys::as_keys;
use crate::metrics::{Metrics, Operation, thread_cpu};
use crate::node::NodeState;
use crate::remote::{Reader, Unsettled};
use crate::table::Table;

use distinct::Distinct;
use intent::Intents;
pub use ticket::Ticket;
use write::Wait;

/// How long a call comes back to rows that other writers keep busy. A writer is away for long if the system gave its core to others, and a
/// training should not end for that.
const BUSY_WAIT: Duration = Duration::from_secs(60);
/// The pauses between two visits: from the first to the last, each twice the one before.
const BUSY_PAUSES: [Duration; 2] = [Duration::from_micros(50), Duration::from_millis(2)];

/// One of a node's workers. It is used by one thread at a time and may be sent to another.
#[derive(Debug)]
pub struct Worker {
    node: Arc<NodeState>,
    index: usize,
    clock: Clock,
    /// Its clock at the last meeting.
    met_at: Clock,
    /// Rows elsewhere that it has changed in this clock, where clocks are bounded.
    pushed: Vec<(TableId, Key)>,
    metrics: Metrics,
    cpu_seen: Duration,
    evaluating: bool,
    pinned: bool,
    learning_rates: Vec<Option<f32>>,
    distinct: Distinct,
    missed: Vec<Missed>,
    /// Private replicas of hot rows, by table.
    hot: Vec<Option<(Table, HotRows)>>,
    /// Reads of rows of other nodes, if there are any.
    reader: Option<Reader>,
    /// Places of a call's keys whose rows are not here.
    away: Vec<usize>,
    /// Streams of random numbers that were begun.
    streams: u64,
    intents: Intents,
}

impl Worker {
    pub(crate) fn new(node: Arc<NodeState>, index: usize) -> Result<Self> {
        let reader = match &node.remote {
            Some(remote) => Some(Reader::new(remote.open_lane(index)?)),
            None => None,
        };
        Ok(Self {
            index,
            clock: Clock::default(),
            met_at: Clock::default(),
            pushed: Vec::new(),
            metrics: Metrics::new(),
            cpu_seen: Duration::ZERO,
            evaluating: false,
            pinned: false,
            learning_rates: Vec::new(),
            distinct: Distinct::default(),
            missed: Vec::new(),
            hot: Vec::new(),
            reader,
            away: Vec::new(),
            streams: 0,
            intents: Intents::new(node.knobs()),
            node,
        })
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

    /// Copies values that no update was half made on: each row is of one version. Rows that are elsewhere are asked of their owners
    /// by record, which takes longer than [`Worker::pull`].
    ///
    /// # Errors
    /// As [`Worker::pull`], and [`Error::Busy`].
    pub fn snapshot(&mut self, table: &Table, keys: &[u64], values: &mut [f32]) -> Result<()> {
        let keys = self.check(table, keys, table.dim(), values.len())?;
        self.settle(table, keys)?;
        self.away.clear();
        for (index, (&key, row)) in
            keys.iter().zip(values.chunks_exact_mut(table.dim())).enumerate()
        {
            let mut look = || table.0.rows.snapshot(key, row).map(drop);
            let found = match look() {
                // A writer that lost its core has the row until it gets it back.
                Err(why) => again(table, key, why, look)?,
                Ok(()) => Ok(()),
            };
            if found.is_err() {
                self.away.push(index);
            }
        }
        if !self.away.is_empty() {
            // What this node has pushed is to be in the rows and not beside them.
            self.flush()?;
        }
        self.read_away(table, keys, table.dim(), values, true)
    }

    /// Steps the table's optimizer with `gradients` (`keys.len() * dim` floats): one step for each distinct key, with the sum of
    /// what the call says about it, and the learning rate of [`Worker::set_learning_rate`] or the table's.
    ///
    /// # Errors
    /// For keys that the table does not have, a buffer of a wrong length, values that are not finite if the table checks;
    /// nothing was applied then. [`Error::Busy`] if a row stays busy.
    pub fn push(&mut self, table: &Table, keys: &[u64], gradients: &[f32]) -> Result<()> {
        let lr = self.learning_rate(table);
        self.change(table, Operation::Push, keys, Change::Step(lr), gradients)
    }

    /// Adds `deltas` to values; the optimizer's state stays.
    ///
    /// # Errors
    /// As [`Worker::push`]; [`Error::Table`] where values are a function of the optimizer's state (FTRL).
    pub fn add(&mut self, table: &Table, keys: &[u64], deltas: &[f32]) -> Result<()> {
        table.check_additions()?;
        self.change(table, Operation::Add, keys, Change::Add, deltas)
    }

    /// Overwrites values and resets the optimizer's state to the table's start.
    ///
    /// # Errors
    /// As [`Worker::push`]; [`Error::DuplicateKey`] if a key occurs twice.
    pub fn set(&mut self, table: &Table, keys: &[u64], values: &[f32]) -> Result<()> {
        self.set_values(table, keys, values, Wait::Now).map(drop)
    }

    /// Overwrites whole rows, values and state, as [`Worker::pull_rows`] gives them.
    ///
    /// # Errors
    /// As [`Worker::set`].
    pub fn set_rows(&mut self, table: &Table, keys: &[u64], rows: &[f32]) -> Result<()> {
        let len = table.row_len();
        self.overwrite(table, keys, len, rows, Wait::Now, RowPtr::copy_in).map(drop)
    }

    /// Copies a row's values if it is at this node; says whether.
    ///
    /// # Errors
    /// As [`Worker::pull`].
    pub fn pull_if_local(&mut self, table: &Table, key: u64, values: &mut [f32]) -> Result<bool> {
        self.check(table, &[key], table.dim(), values.len())?;
        self.settle(table, &[Key(key)])?;
        Ok(table.0.rows.pull(Key(key), values).is_ok())
    }

    /// The inner product of a row's values and `x`, without a copy; `None` if the row is not at this node.
    ///
    /// # Errors
    /// As [`Worker::pull`].
    pub fn dot(&mut self, table: &Table, key: u64, x: &[f32]) -> Result<Option<f32>> {
        self.check(table, &[key], table.dim(), x.len())?;
        self.settle(table, &[Key(key)])?;
        Ok(table.0.rows.dot(Key(key), x).ok())
    }

    /// Adds `a * x` to a row's values in place, if the row is at this node; says whether.
    ///
    /// # Errors
    /// As [`Worker::push`].
    pub fn axpy(&mut self, table: &Table, key: u64, a: f32, x: &[f32]) -> Result<bool> {
        self.check(table, &[key], table.dim(), x.len())?;
        table.check_additions()?;
        table.check_finite(&[Key(key)], x.len(), x)?;
        // A private copy of the row would not show what is added to the row itself.
        self.settle(table, &[Key(key)])?;
        let work = |row: RowPtr| row.part(0, x.len()).axpy(a, x);
        match table.0.rows.update(Key(key), Patience::WORKER, work) {
            Ok(_) => Ok(true),
            Err(SlotError::Elsewhere) => Ok(false),
            Err(SlotError::Busy) => Err(table.busy(Key(key))),
        }
    }

    /// Announces that this worker will use these keys from clock `clocks.start` on and before `clocks.end`. What becomes of it is the
    /// policy's business: rows or replicas of them come here in time. Nothing is wrong with keys that are used without an intent, or
    /// announced and not used; it only costs time. Intents may overlap; one whose clocks are over is ignored.
    ///
    /// # Errors
    /// For keys that the table does not have, and if a peer is lost.
    pub fn intent(&mut self, table: &Table, keys: &[u64], clocks: Range<u64>) -> Result<()> {
        let keys = self.check(table, keys, 0, 0)?;
        match &self.node.remote {
            Some(remote) => self.intents.add(remote, table, keys, clocks, self.clock.0),
            None => Ok(()),
        }
    }

    /// Asks for the main copies of rows, whatever the policy would do (but for `classic`, under which rows stay). The ticket tells when
    /// all requests have been answered; a row that other nodes have replicas of stays where it is.
    ///
    /// # Errors
    /// As [`Worker::intent`].
    pub fn localize(&mut self, table: &Table, keys: &[u64]) -> Result<Ticket> {
        let keys = self.check(table, keys, 0, 0)?;
        let Some(remote) = &self.node.remote else { return Ok(Ticket::done()) };
        let asked = remote.localize(table, keys)?;
        remote.nudge()?;
        Ok(Ticket::localize(table, asked))
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

    /// Ends a step: the clock goes one on, others see what this worker pushed before, and intents begin and end. Under
    /// [`Policy::Ssp`](crate::Policy::Ssp) it waits for workers that are too far behind.
    ///
    /// # Errors
    /// [`Error::Busy`] if a row stays busy; if a peer is lost; [`Error::Timeout`] if others stay behind.
    pub fn advance_clock(&mut self) -> Result<()> {
        self.clock.0 += 1;
        self.fold()?;
        if let Some(remote) = &self.node.remote {
            self.intents.advance(remote, self.clock.0, self.metrics.used)?;
        }
        let clock = self.clock.0 - self.met_at.0;
        let open = self.take_pushed();
        if let Some(clocks) = &self.node.clocks {
            clocks.advanced(self.index, clock, open);
        }
        if let Some(remote) = &self.node.remote {
            remote.nudge()?;
        }
        match &self.node.clocks {
            Some(clocks) => self.node.await_clocks(clocks, clock),
            None => Ok(()),
        }
    }

    /// What of this worker's pushes since it was last asked is not in the main copies.
    fn take_pushed(&mut self) -> Vec<Unsettled> {
        let pushed = self.pushed.drain(..);
        let Some(remote) = &self.node.remote else { return Vec::new() };
        pushed.filter_map(|(table, key)| remote.unsettled(table, key)).collect()
    }

    /// Waits until all that this worker pushed is in the main copies.
    ///
    /// # Errors
    /// If a peer is lost.
    pub fn flush(&mut self) -> Result<()> {
        self.fold()?;
        if let Some(remote) = &self.node.remote {
            remote.flush()?;
        }
        self.hand_over();
        Ok(())
    }

    /// Waits until all workers of the job have called it; all that they pushed before is then in the main copies, and in what
    /// this node shows of them.
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
        let NodeState { remote, clocks, meeting, .. } = &*self.node;
        if let Some(clocks) = clocks {
            clocks.meets(self.index);
        }
        self.intents.interrupt();
        meeting.meet(values, |sum| {
            remote.as_ref().map_or(Ok(()), |remote| remote.meet(sum))?;
            if let Some(clocks) = clocks {
                clocks.met();
            }
            Ok(())
        })?;
        self.met_at = self.clock;
        self.pushed.clear();
        Ok(())
    }

    /// Whether somebody asked the job to stop (Ctrl-C).
    #[must_use]
    pub fn stop_requested(&self) -> bool {
        self.node.stop_requested()
    }

    /// From here on what this worker pulls, and its CPU time, belong to an evaluation, or to the training again: the report tells them
    /// apart, since rows that an evaluation reads once are not announced.
    pub fn set_evaluating(&mut self, evaluating: bool) {
        self.hand_over();
        self.intents.interrupt();
        self.evaluating = evaluating;
    }

    /// What a pull is counted as.
    fn reads(&self) -> Operation {
        if self.evaluating { Operation::Evaluate } else { Operation::Pull }
    }

    /// Whether its node is the only one of the job.
    pub(crate) fn is_alone(&self) -> bool {
        self.node.remote.is_none()
    }

    /// The seed of one more stream of random numbers: a function of the job's seed, the worker, the table and how many there were.
    pub(crate) fn next_stream(&mut self, table: &Table) -> u64 {
        self.streams += 1;
        let place = [self.global_index() as u64, u64::from(table.id().0), self.streams];
        // Odd factors without common structure (SplitMix64's constants); the generator mixes what it is seeded with.
        let factors = [0x9E37_79B9_7F4A_7C15, 0xBF58_476D_1CE4_E5B9, 0x94D0_49BB_1331_11EB_u64];
        let parts = place.iter().zip(factors).map(|(part, factor)| (part + 1).wrapping_mul(factor));
        parts.fold(self.node.seed(), |seed, part| (seed ^ part).rotate_left(23))
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

    /// Gives the node what was measured since the last time.
    fn hand_over(&mut self) {
        let cpu = thread_cpu();
        self.metrics.cpu = cpu.saturating_sub(self.cpu_seen);
        if self.evaluating {
            self.metrics.evaluation_cpu = self.metrics.cpu;
        }
        self.cpu_seen = cpu;
        self.node.merge_metrics(&self.metrics);
        self.metrics.clear();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let folded = self.fold();
        if let Some(remote) = &self.node.remote {
            self.intents.clear(remote);
        }
        let open = self.take_pushed();
        if let Some(clocks) = &self.node.clocks {
            clocks.ended(self.index, open);
        }
        self.hand_over();
        if let Err(error) = folded {
            self.node.meeting.break_up(error);
        }
        self.node.meeting.leave();
    }
}

/// Comes back to a row that another writer kept busy, many times and each with patience. The inner error says that the row is not
/// here, where there are other nodes.
fn again(
    table: &Table,
    key: Key,
    why: SlotError,
    work: impl FnMut() -> Result<(), SlotError>,
) -> Result<Result<(), SlotError>> {
    let found = match why {
        SlotError::Elsewhere => Err(why),
        SlotError::Busy => visit(BUSY_WAIT, work),
    };
    match found {
        Err(SlotError::Busy) => Err(unavailable(table, key, SlotError::Busy)),
        found => Ok(found),
    }
}

/// Visits a row until it is not busy. The last visit begins after the limit: whoever was away for as long itself looks once more.
fn visit(
    limit: Duration,
    mut work: impl FnMut() -> Result<(), SlotError>,
) -> Result<(), SlotError> {
    let (begun, [mut pause, longest]) = (Instant::now(), BUSY_PAUSES);
    loop {
        let is_last = begun.elapsed() > limit;
        match work() {
            Err(SlotError::Busy) if !is_last => {}
            found => return found,
        }
        std::thread::sleep(pause);
        pause = longest.min(2 * pause);
    }
}

fn unavailable(table: &Table, key: Key, why: SlotError) -> Error {
    match why {
        SlotError::Busy => table.busy(key),
        SlotError::Elsewhere => Error::UnknownTable(table.name().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Node, NodeConfig, TableSpec};

    #[test]
    fn a_snapshot_comes_back_to_a_row_whose_writer_lost_its_core() {
        let node = Node::start(NodeConfig::with_workers(1)).expect("a node of one job");
        let table = node.create_table(TableSpec::new("rows", 1, 1)).expect("a table");
        let mut worker = node.worker(0).expect("its worker");
        let slot = table.0.rows.slot(Key(0)).expect("at home here");
        let writer = slot.lock(Key(0), Patience::NONE).expect("nobody else writes");
        std::thread::scope(|scope| {
            let looks = scope.spawn(|| worker.snapshot(&table, &[0], &mut [0.0]));
            // Longer than a reader spins and yields.
            std::thread::sleep(Duration::from_millis(100));
            drop(writer);
            looks.join().expect("no panic").expect("the writer has ended");
        });
    }

    #[test]
    fn a_visitor_that_was_away_beyond_its_limit_looks_once_more() {
        let limit = Duration::from_millis(20);
        let mut visits = 0;
        let found = visit(limit, || {
            visits += 1;
            if visits > 1 {
                return Ok(());
            }
            std::thread::sleep(2 * limit);
            Err(SlotError::Busy)
        });
        assert_eq!(found, Ok(()));
        assert_eq!(visit(limit, || Err(SlotError::Busy)), Err(SlotError::Busy), "not for ever");
        assert_eq!(visit(limit, || Err(SlotError::Elsewhere)), Err(SlotError::Elsewhere));
    }
}
