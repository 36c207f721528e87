//! What a node is started with.

use crate::error::{Error, Result};

/// Workers that one node may have.
pub const WORKERS_MAX: usize = 1024;

/// Settings of a node. The same program runs on every node of a job with the same settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// Threads that train.
    pub workers: usize,
    /// Of all random choices: rows at the start, and what tasks derive from it.
    pub seed: u64,
    /// Whether to pin workers to CPUs when there are enough of them.
    pub pin: bool,
    /// Memory for updates on their way to other nodes, in bytes; pushes wait when it is used up.
    pub update_bytes_max: usize,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self { workers: 1, seed: 0, pin: true, update_bytes_max: 512 << 20 }
    }
}

impl NodeConfig {
    /// A node with so many workers.
    #[must_use]
    pub fn with_workers(workers: usize) -> Self {
        Self { workers, ..Self::default() }
    }

    pub(crate) fn validate(&self) -> Result<()> {
        if (1..=WORKERS_MAX).contains(&self.workers) {
            return Ok(());
        }
        let workers = self.workers;
        Err(Error::Config(format!("{workers} workers: a node has 1 to {WORKERS_MAX}")))
    }
}
