//! A node of a job: its tables, its workers, and what they share.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use sterna_protocol::record::Arena;
use sterna_protocol::{Key, Rank, SlotId, TableId};
use sterna_rdma::topology::{PinPlan, Topology};
use sterna_rdma::{Fabric, FabricConfig, RegionToken};
use sterna_store::{BlockPool, Budget, ChunkError, ChunkMemory, PartitionMap, Placement, RowTable};

use crate::clocks::Clocks;
use crate::config::NodeConfig;
use crate::error::{Error, Result};
use crate::knobs::Knobs;
use crate::meeting::Meeting;
use crate::metrics::{Metrics, Report};
use crate::pace::{Pace, Timing};
use crate::policy::Policy;
use crate::remote::{Callers, PeerChunks, Remote, Shared, chunks};
use crate::table::{Table, TableSpec, TableState, slot_shape};
use crate::worker::Worker;

/// Tables that a job may have.
pub const TABLES_MAX: usize = 1024;

/// How long a worker that is ahead of others sleeps before it looks again.
const CLOCK_PAUSE: Duration = Duration::from_millis(1);

/// Keys between two looks at whether the job is to stop, while rows are filled.
const FILL_KEYS: usize = 1024;

/// A node. End it with [`Node::shutdown`]; one that is dropped before leaves its peers in the lurch.
pub struct Node {
    pub(crate) state: Arc<NodeState>,
    engine: Option<JoinHandle<()>>,
}

pub(crate) struct NodeState {
    config: NodeConfig,
    number: usize,
    rank: Rank,
    size: usize,
    topology: Topology,
    plan: PinPlan,
    map: PartitionMap,
    tables: Mutex<Vec<Table>>,
    taken: Mutex<Vec<bool>>,
    pub(crate) meeting: Arc<Meeting>,
    pub(crate) remote: Option<Arc<Remote>>,
    /// How far workers' clocks may be apart, if that is bounded.
    pub(crate) clocks: Option<Arc<Clocks>>,
    timing: Timing,
    fabric: Arc<dyn Fabric>,
    budget: Arc<Budget>,
    metrics: Mutex<Metrics>,
    stop: Arc<AtomicBool>,
}

impl Node {
    /// Starts a job of one node: no sockets, no further threads.
    ///
    /// # Errors
    /// For settings that cannot work.
    pub fn start(config: NodeConfig) -> Result<Self> {
        Self::join(config, FabricConfig::single())
    }

    /// Joins the job that the environment describes (`STERNA_RANK`, .. as `sterna launch` sets them, or what torchrun, Open MPI,
    /// PMI and Slurm set); without any it is a job of one node. Limits are those of [`NodeConfig::with_env`].
    ///
    /// # Errors
    /// For settings that cannot work, and as [`Node::join`].
    pub fn from_env(config: NodeConfig) -> Result<Self> {
        Self::join(config.with_env()?, FabricConfig::from_env()?)
    }

    /// Joins a job.
    ///
    /// # Errors
    /// For settings that cannot work, or nodes that do not come in time.
    pub fn join(config: NodeConfig, fabric: FabricConfig) -> Result<Self> {
        config.validate()?;
        let local = (fabric.local_rank.unwrap_or(0), fabric.local_size.unwrap_or(1));
        let fabric = sterna_rdma::job::open(fabric)?;
        Self::over(config, fabric, local, &Timing::real())
    }

    /// A node of a simulated job: no engine thread; [`Node::step`] is its engine.
    ///
    /// # Errors
    /// For settings that cannot work.
    #[doc(hidden)]
    pub fn simulated(
        config: NodeConfig,
        fabric: Arc<dyn Fabric>,
        pace: Arc<dyn Pace>,
    ) -> Result<Self> {
        config.validate()?;
        Self::over(config, fabric, (0, 1), &Timing::Simulated(pace))
    }

    /// One bounded step of the engine; whether anything was done.
    ///
    /// # Errors
    /// Faults of this node.
    #[doc(hidden)]
    pub fn step(&self) -> Result<bool> {
        self.state.remote.as_ref().map_or(Ok(false), |remote| Ok(remote.step()? == Some(true)))
    }

    /// A node over a fabric that is open already; `local` is its number among the nodes of its host, and theirs.
    fn over(
        config: NodeConfig,
        fabric: Arc<dyn Fabric>,
        local: (usize, usize),
        timing: &Timing,
    ) -> Result<Self> {
        static NODES: AtomicUsize = AtomicUsize::new(0);
        let topology = topology();
        let plan = PinPlan::new(&topology, config.workers, local.0, local.1);
        let may_spin = plan.may_spin;
        let plan = if config.pin { plan } else { PinPlan::default() };
        let meeting = Arc::new(Meeting::new(config.workers, config.meeting_limit, timing.clone()));
        let stop = Arc::new(AtomicBool::new(false));
        let size = fabric.size();
        let clocks = match config.policy {
            Policy::Ssp { staleness } => {
                let rank = fabric.rank();
                Some(Arc::new(Clocks::new(u64::from(staleness), rank, size, config.workers)))
            }
            _ => None,
        };
        let remote = if size > 1 {
            let shared = Shared {
                meeting: Arc::clone(&meeting),
                clocks: clocks.clone(),
                stop: Arc::clone(&stop),
            };
            Some(Remote::new(Arc::clone(&fabric), shared, &config, timing.clone())?)
        } else {
            None
        };
        let engine = match (&remote, timing) {
            (None, _) | (_, Timing::Simulated(_)) => None,
            (Some(remote), Timing::Real(_)) => {
                let (remote, cpu) = (Arc::clone(remote), plan.engine);
                let thread = std::thread::Builder::new().name("sterna-engine".to_owned());
                let run = move || {
                    if let Some(cpu) = cpu {
                        let _ = sterna_rdma::topology::pin_current_thread(cpu);
                    }
                    remote.run_engine(may_spin);
                };
                let failed = |error| Error::Config(format!("starting the engine: {error}"));
                Some(thread.spawn(run).map_err(failed)?)
            }
        };
        let budget =
            remote.as_ref().map_or_else(|| Budget::new(0), |remote| Arc::clone(&remote.budget));
        let state = Arc::new(NodeState {
            number: NODES.fetch_add(1, Ordering::Relaxed),
            rank: fabric.rank(),
            size,
            map: PartitionMap::even(size),
            tables: Mutex::default(),
            taken: Mutex::new(vec![false; config.workers]),
            metrics: Mutex::new(Metrics::new()),
            budget,
            meeting,
            remote,
            clocks,
            timing: timing.clone(),
            fabric,
            stop,
            topology,
            plan,
            config,
        });
        Ok(Self { state, engine })
    }

    /// Ends the node: waits until all nodes of the job have called it, then leaves. Drop the workers first.
    ///
    /// # Errors
    /// If a peer was lost before.
    pub fn shutdown(self) -> Result<()> {
        match &self.state.remote {
            Some(remote) => remote.all_reduce(Callers::Nodes, &mut []),
            None => Ok(()),
        }
    }

    /// This node's number in the job.
    #[must_use]
    pub fn rank(&self) -> Rank {
        self.state.rank
    }

    /// Number of nodes in the job.
    #[must_use]
    pub fn size(&self) -> usize {
        self.state.size
    }

    /// How rows are placed.
    #[must_use]
    pub fn policy(&self) -> Policy {
        self.state.config.policy
    }

    /// Number of workers of each node.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.state.config.workers
    }

    /// One line: what was found and chosen.
    #[must_use]
    pub fn describe(&self) -> String {
        let fabric = self.state.fabric.describe();
        let separator = if fabric.is_empty() { "" } else { "; " };
        format!(
            "{} of {}: {}; {}; vector code {}{separator}{fabric}",
            self.rank(),
            self.size(),
            self.state.topology,
            self.state.plan,
            sterna_kernels::instruction_set().name()
        )
    }

    /// How nodes exchange bytes: `none` for a job of one node, else the providers in use.
    #[must_use]
    pub fn fabric_name(&self) -> String {
        let mut names: Vec<&str> = (0..self.size())
            .map(Rank::from_index)
            .filter(|&peer| peer != self.rank())
            .map(|peer| self.state.fabric.provider(peer).name())
            .collect();
        names.sort_unstable();
        names.dedup();
        if names.is_empty() { "none".to_owned() } else { names.join("+") }
    }

    /// Makes a table. All nodes call it with the same specification, in the same order.
    ///
    /// # Errors
    /// For a specification that cannot work or differs between nodes, a name that exists, or too little memory.
    pub fn create_table(&self, spec: TableSpec) -> Result<Table> {
        spec.validate()?;
        let fault = |reason: String| Error::Table { table: spec.name.clone(), reason };
        let mut tables = lock(&self.state.tables);
        if tables.iter().any(|table| table.name() == spec.name) {
            return Err(fault("a table of this name exists".to_owned()));
        }
        let number = u16::try_from(tables.len()).ok().filter(|&n| usize::from(n) < TABLES_MAX);
        let id = TableId(number.ok_or_else(|| fault(format!("there are {TABLES_MAX} already")))?);
        let placement =
            Placement::new(spec.keys, &self.state.map).map_err(|error| fault(error.to_string()))?;
        let slots: Vec<u32> =
            (0..self.state.size).map(|rank| placement.slots(Rank::from_index(rank))).collect();
        let shape = slot_shape(&spec, slots.iter().copied().max().expect("a job has nodes"))?;
        let foreign_max = self.state.foreign_max(&spec, shape.slot_bytes());
        let mut rows = RowTable::new(id, self.state.rank, placement, shape, foreign_max);
        if let Some(remote) = &self.state.remote {
            rows = rows.with_board(Arc::clone(&remote.board));
        }
        rows.allocate(|bytes| self.state.chunk(bytes))?;
        self.state.fill(&rows, &spec);
        let peers = match &self.state.remote {
            None => PeerChunks::default(),
            Some(remote) => {
                let tokens = self.state.export(&rows)?;
                let ranks = (0..self.state.size).map(Rank::from_index);
                let expected: Vec<_> =
                    ranks.map(|rank| rows.chunks_at(rank, foreign_max)).collect();
                let definition = format!("{spec:?} seed {}", self.state.config.seed);
                remote.exchange_chunks((id, &spec.name, &definition), &tokens, &expected)?
            }
        };
        let table = Table(Arc::new(TableState {
            pool: BlockPool::new(Arc::clone(&self.state.budget), spec.shape().block_len()),
            shape: spec.shape(),
            node: self.state.number,
            rows,
            peers,
            spec,
        }));
        if let Some(remote) = &self.state.remote {
            remote.add_table(table.clone());
            // Nobody uses the table before all know it.
            remote.all_reduce(Callers::Nodes, &mut [])?;
            remote.replicate(&table)?;
        }
        tables.push(table.clone());
        Ok(table)
    }

    /// The worker of this number, for one thread. Its thread is pinned at its first call if the node pins.
    ///
    /// # Errors
    /// If there is no such worker or it was taken before.
    pub fn worker(&self, index: usize) -> Result<Worker> {
        let fault = |reason: &str| Err(Error::Worker { index, reason: reason.to_owned() });
        match lock(&self.state.taken).get_mut(index) {
            None => fault("the node has fewer workers"),
            Some(true) => fault("it was taken before"),
            Some(taken) => {
                *taken = true;
                Worker::new(Arc::clone(&self.state), index)
            }
        }
    }

    /// Asks all workers of the job to stop at their next look ([`Worker::stop_requested`]). Safe to call from a signal's
    /// thread, more than once.
    pub fn request_stop(&self) {
        self.state.request_stop();
    }

    /// A handle for asking the job to stop, for another thread.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper(Arc::clone(&self.state))
    }

    /// What this node's workers have measured, as far as they handed it over: at each barrier, sum and flush, and at their end.
    #[must_use]
    pub fn report(&self) -> Report {
        let metrics = lock(&self.state.metrics).clone();
        let numbers = self.numbers(&metrics);
        report_of(&metrics, &numbers, 1)
    }

    /// The same of all nodes together. All nodes call it, once their workers are done.
    ///
    /// # Errors
    /// If a peer is lost.
    pub fn job_report(&self) -> Result<Report> {
        // One call of all nodes at a time: tables are made under this lock, too.
        let _tables = lock(&self.state.tables);
        let mut metrics = lock(&self.state.metrics).clone();
        let mut numbers = self.numbers(&metrics);
        if let Some(remote) = &self.state.remote {
            metrics.reduce(|numbers| remote.all_reduce(Callers::Nodes, numbers))?;
            remote.all_reduce(Callers::Nodes, &mut numbers)?;
        }
        Ok(report_of(&metrics, &numbers, self.state.size))
    }

    #[allow(clippy::cast_precision_loss, reason = "counts are below 2^53")]
    fn numbers(&self, metrics: &Metrics) -> Vec<f64> {
        let managed = self.state.remote.as_ref().map(|it| it.managed()).unwrap_or_default();
        let [updates, moves, shares, refreshes] = managed.bytes.map(|bytes| bytes as f64);
        let counters = self.state.fabric.counters();
        let engine = self.engine.as_ref().map_or(Duration::ZERO, crate::metrics::cpu_of);
        [
            metrics.local_bytes as f64,
            counters.read_bytes as f64,
            counters.record_bytes_sent as f64,
            updates,
            moves,
            shares,
            refreshes,
            metrics.cpu.as_secs_f64(),
            metrics.evaluation_cpu.as_secs_f64(),
            engine.as_secs_f64(),
            crate::metrics::process_cpu().as_secs_f64(),
        ]
        .into_iter()
        .chain(managed.rows.map(|count| count as f64))
        .chain([managed.stale_ns as f64])
        .collect()
    }
}

/// What is counted besides operations, in the order of [`Node::numbers`].
const BYTES: [&str; 7] = [
    "local_rows",
    "remote_reads",
    "records_sent",
    "records_of_updates",
    "records_of_moves",
    "records_of_shares",
    "reads_of_refreshes",
];
const ROLES: [&str; 4] = ["workers", "evaluation", "engine", "processes"];
const MANAGED: [&str; 7] =
    ["moved", "shared", "refreshed", "offered", "refused", "dropped", "declined"];

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "sums of counts")]
fn report_of(metrics: &Metrics, numbers: &[f64], nodes: usize) -> Report {
    let mut report = Report::of(metrics, nodes);
    let (bytes, rest) = numbers.split_at(BYTES.len());
    let (seconds, managed) = rest.split_at(ROLES.len());
    let (managed, stale_ns) = managed.split_at(MANAGED.len());
    report.staleness_us = stale_ns[0] / managed[2].max(1.0) / 1e3;
    report.management =
        MANAGED.iter().zip(managed).map(|(&what, &n)| (what.to_owned(), n as u64)).collect();
    report.bytes = BYTES.iter().zip(bytes).map(|(&name, &n)| (name.to_owned(), n as u64)).collect();
    report.cpu_seconds =
        ROLES.iter().zip(seconds).map(|(&role, &s)| (role.to_owned(), s)).collect();
    report
}

/// Asks a job to stop.
#[derive(Clone, Debug)]
pub struct Stopper(Arc<NodeState>);

impl Stopper {
    /// As [`Node::request_stop`].
    pub fn request_stop(&self) {
        self.0.request_stop();
    }
}

impl NodeState {
    pub(crate) fn number(&self) -> usize {
        self.number
    }

    pub(crate) fn rank(&self) -> Rank {
        self.rank
    }

    pub(crate) fn size(&self) -> usize {
        self.size
    }

    pub(crate) fn knobs(&self) -> Knobs {
        self.config.knobs
    }

    pub(crate) fn workers(&self) -> usize {
        self.config.workers
    }

    pub(crate) fn seed(&self) -> u64 {
        self.config.seed
    }

    pub(crate) fn cpu_of(&self, worker: usize) -> Option<u32> {
        self.plan.workers.get(worker).copied()
    }

    pub(crate) fn stop_requested(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub(crate) fn merge_metrics(&self, metrics: &Metrics) {
        lock(&self.metrics).merge(metrics);
    }

    /// Waits until a worker may be at this clock: all that others pushed before the clocks that it has to see is in the main copies,
    /// and in this node's replicas.
    pub(crate) fn await_clocks(&self, clocks: &Clocks, clock: u64) -> Result<()> {
        let needed = clocks.needs(clock);
        let deadline = self.timing.now() + self.config.wait_limit;
        while !clocks.shows(needed) {
            if self.remote.is_none() {
                clocks.settle(|_| true);
            }
            let (least, rank) = clocks.least();
            if least >= needed {
                if let Some(remote) = &self.remote {
                    remote.refresh_all()?;
                }
                clocks.shown(least);
                return Ok(());
            }
            self.meeting.check()?;
            if self.timing.now() >= deadline {
                return Err(Error::Timeout {
                    what: format!("workers that are at clock {least}, to come to {needed}"),
                    seconds: self.config.wait_limit.as_secs(),
                    waiting_for: rank.to_string(),
                    setting: crate::config::WAIT_LIMIT,
                });
            }
            match &self.remote {
                Some(remote) => remote.help(CLOCK_PAUSE)?,
                None if self.timing.pause() => {}
                None => std::thread::sleep(CLOCK_PAUSE),
            }
        }
        Ok(())
    }

    fn request_stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(remote) = &self.remote {
            remote.tell_stop();
        }
    }

    fn chunk(&self, bytes: usize) -> Result<ChunkMemory> {
        Ok(chunks::allocate(&*self.fabric, "rows", bytes)?)
    }

    /// How many rows of other homes may be here.
    fn foreign_max(&self, spec: &TableSpec, slot_bytes: usize) -> u32 {
        if self.size == 1 || self.config.policy == Policy::Classic {
            return 0;
        }
        let fit = (self.config.knobs.pool_bytes() / slot_bytes) as u64;
        u32::try_from(spec.keys.min(fit)).unwrap_or(u32::MAX)
    }

    /// Makes the chunks of rows and of the directory reachable for peers.
    fn export(&self, rows: &RowTable) -> Result<Vec<(Arena, Vec<RegionToken>)>> {
        let export = |memory: Option<ChunkMemory>| {
            Ok(chunks::export(&*self.fabric, &memory.expect("a chunk of the table"))?)
        };
        let (arena, directory) = (rows.arena(), rows.directory());
        let slots: Result<_> =
            (0..arena.chunks()).map(|index| export(arena.chunk(index))).collect();
        let words = (0..directory.chunks_needed()).map(|index| export(directory.chunk(index)));
        Ok(vec![(Arena::Rows, slots?), (Arena::Directory, words.collect::<Result<_>>()?)])
    }

    /// Gives all home keys their first rows.
    fn fill(&self, rows: &RowTable, spec: &TableSpec) {
        let keys: Vec<_> = rows.placement().keys_at(self.rank).collect();
        let shape = spec.shape();
        let fill = |part: &[(SlotId, Key)]| {
            let mut row = vec![0.0; shape.row_len()];
            for &(slot, key) in part {
                spec.init.fill_row(&shape, self.config.seed, rows.id().0, key.0, &mut row);
                rows.install(slot, key, &row);
            }
        };
        let threads = self.topology.parallelism().min(keys.len() / FILL_KEYS).max(1);
        std::thread::scope(|scope| {
            for part in keys.chunks(keys.len().div_ceil(threads).max(1)) {
                scope.spawn(|| fill(part));
            }
        });
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(remote) = &self.state.remote {
            remote.close();
        }
        if let Some(engine) = self.engine.take() {
            let _ = engine.join();
        }
    }
}

/// The machine, read once.
fn topology() -> Topology {
    static TOPOLOGY: OnceLock<Topology> = OnceLock::new();
    TOPOLOGY.get_or_init(Topology::read).clone()
}

impl From<ChunkError> for Error {
    fn from(error: ChunkError) -> Self {
        Self::Config(format!("a chunk of rows: {error}"))
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.state.fmt(f)
    }
}

impl fmt::Debug for NodeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node")
            .field("rank", &self.rank)
            .field("size", &self.size)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What these hold stays whole when a holder panics: lists that are pushed to, numbers that are added.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
