//! A node of a job: its tables, its workers, and what they share.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sterna_protocol::{Key, Rank, TableId};
use sterna_rdma::topology::{PinPlan, Topology};
use sterna_rdma::{Region, RegionSpec, Rights};
use sterna_store::{ChunkError, ChunkMemory, PartitionMap, Placement, RowTable};

use crate::config::NodeConfig;
use crate::error::{Error, Result};
use crate::meeting::Meeting;
use crate::metrics::{Metrics, Report};
use crate::table::{Table, TableSpec, TableState, slot_shape};
use crate::worker::Worker;

/// Tables that a job may have.
pub const TABLES_MAX: usize = 1024;

/// Keys between two looks at whether the job is to stop, while rows are filled.
const FILL_KEYS: usize = 1024;

/// A node. Dropping it ends it; its workers keep what they need until they are dropped.
pub struct Node(Arc<NodeState>);

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
    pub(crate) meeting: Meeting,
    metrics: Mutex<Metrics>,
    stop: AtomicBool,
    regions: AtomicUsize,
}

impl Node {
    /// Starts a node.
    ///
    /// # Errors
    /// For settings that cannot work.
    pub fn start(config: NodeConfig) -> Result<Self> {
        static NODES: AtomicUsize = AtomicUsize::new(0);
        config.validate()?;
        let topology = Topology::read();
        let plan = if config.pin {
            PinPlan::new(&topology, config.workers, 0, 1)
        } else {
            PinPlan::default()
        };
        Ok(Self(Arc::new(NodeState {
            number: NODES.fetch_add(1, Ordering::Relaxed),
            rank: Rank(0),
            size: 1,
            map: PartitionMap::even(1),
            tables: Mutex::default(),
            taken: Mutex::new(vec![false; config.workers]),
            meeting: Meeting::new(config.workers),
            metrics: Mutex::new(Metrics::new()),
            stop: AtomicBool::new(false),
            regions: AtomicUsize::new(0),
            topology,
            plan,
            config,
        })))
    }

    /// This node's number in the job.
    #[must_use]
    pub fn rank(&self) -> Rank {
        self.0.rank
    }

    /// Number of nodes in the job.
    #[must_use]
    pub fn size(&self) -> usize {
        self.0.size
    }

    /// Number of workers of each node.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.0.config.workers
    }

    /// One line: what was found and chosen.
    #[must_use]
    pub fn describe(&self) -> String {
        format!(
            "{} of {}: {}; {}; vector code {}",
            self.rank(),
            self.size(),
            self.0.topology,
            self.0.plan,
            sterna_kernels::instruction_set().name()
        )
    }

    /// Makes a table. All nodes call it with the same specification, in the same order.
    ///
    /// # Errors
    /// For a specification that cannot work, a name that exists, or too little memory.
    pub fn create_table(&self, spec: TableSpec) -> Result<Table> {
        spec.validate()?;
        let fault = |reason: String| Error::Table { table: spec.name.clone(), reason };
        let mut tables = lock(&self.0.tables);
        if tables.iter().any(|table| table.name() == spec.name) {
            return Err(fault("a table of this name exists".to_owned()));
        }
        let number = u16::try_from(tables.len()).ok().filter(|&n| usize::from(n) < TABLES_MAX);
        let id = TableId(number.ok_or_else(|| fault(format!("there are {TABLES_MAX} already")))?);
        let placement =
            Placement::new(spec.keys, &self.0.map).map_err(|error| fault(error.to_string()))?;
        let most = (0..self.0.size).map(|rank| placement.slots(Rank::from_index(rank))).max();
        let shape = slot_shape(&spec, most.expect("a job has nodes"))?;
        let rows = RowTable::new(id, self.0.rank, placement, shape, 0);
        rows.allocate(|bytes| self.0.chunk(bytes))?;
        let table =
            Table(Arc::new(TableState { shape: spec.shape(), node: self.0.number, rows, spec }));
        self.0.fill(&table);
        tables.push(table.clone());
        Ok(table)
    }

    /// The worker of this number, for one thread. Its thread is pinned at its first call if the node pins.
    ///
    /// # Errors
    /// If there is no such worker or it was taken before.
    pub fn worker(&self, index: usize) -> Result<Worker> {
        let fault = |reason: &str| Err(Error::Worker { index, reason: reason.to_owned() });
        match lock(&self.0.taken).get_mut(index) {
            None => fault("the node has fewer workers"),
            Some(true) => fault("it was taken before"),
            Some(taken) => {
                *taken = true;
                Ok(Worker::new(Arc::clone(&self.0), index))
            }
        }
    }

    /// Asks all workers of the job to stop at their next look ([`Worker::stop_requested`]). Safe to call from a signal's
    /// thread, more than once.
    pub fn request_stop(&self) {
        self.0.stop.store(true, Ordering::SeqCst);
    }

    /// A handle for asking the job to stop, for another thread.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper(Arc::clone(&self.0))
    }

    /// What the node's workers have measured, as far as they handed it over: at each barrier, sum and flush, and at their end.
    #[must_use]
    pub fn report(&self) -> Report {
        let mut report = Report::of(&lock(&self.0.metrics), self.0.size);
        let process = crate::metrics::process_cpu().as_secs_f64();
        report.cpu_seconds.insert("process".to_owned(), process);
        report
    }
}

/// Asks a job to stop.
#[derive(Clone, Debug)]
pub struct Stopper(Arc<NodeState>);

impl Stopper {
    /// As [`Node::request_stop`].
    pub fn request_stop(&self) {
        self.0.stop.store(true, Ordering::SeqCst);
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

    pub(crate) fn workers(&self) -> usize {
        self.config.workers
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

    fn chunk(&self, bytes: usize) -> Result<ChunkMemory> {
        let number = self.regions.fetch_add(1, Ordering::Relaxed);
        let id = sterna_rdma::RegionId(u32::try_from(number).expect("below 2^32 regions"));
        let spec = RegionSpec { name: "sterna-rows", bytes, rights: Rights::Read };
        let region = Arc::new(sterna_rdma::memory::allocate(spec, id, self.size > 1)?);
        Ok(chunk_of(region))
    }

    /// Gives all home keys their first rows.
    fn fill(&self, table: &Table) {
        let state = &table.0;
        let keys: Vec<_> = state.rows.placement().keys_at(self.rank).collect();
        let fill = |part: &[(sterna_protocol::SlotId, Key)]| {
            let mut row = vec![0.0; state.shape.row_len()];
            for &(slot, key) in part {
                let init = state.spec.init;
                init.fill_row(&state.shape, self.config.seed, table.id().0, key.0, &mut row);
                state.rows.install(slot, key, &row);
            }
        };
        let threads = self.topology.parallelism().min(keys.len() / FILL_KEYS).max(1);
        std::thread::scope(|scope| {
            for part in keys.chunks(keys.len().div_ceil(threads).max(1)) {
                scope.spawn(move || fill(part));
            }
        });
    }
}

/// A region as memory of the store.
fn chunk_of(region: Arc<Region>) -> ChunkMemory {
    let (base, bytes) = (region.base(), region.bytes());
    // SAFETY: the region is zeroed, valid and aligned for as long as `keep` lives, and its content is only reached
    // through the store and by peers' reads.
    unsafe { ChunkMemory::new(base, bytes, region) }
}

impl From<ChunkError> for Error {
    fn from(error: ChunkError) -> Self {
        Self::Config(format!("a chunk of rows: {error}"))
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
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
