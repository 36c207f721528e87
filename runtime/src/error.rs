//! What can go wrong for a user of Sterna. A message says what failed, for which table, key or peer, and what to do.

use sterna_rdma::{FabricError, Rank};

/// An error of the parameter manager.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A key that the table does not have.
    #[error("table `{table}` has keys 0..{keys}, there is no key {key}")]
    KeyOutOfRange {
        /// The table.
        table: String,
        /// The key.
        key: u64,
        /// Number of keys of the table.
        keys: u64,
    },
    /// A buffer whose length does not fit the number of keys.
    #[error(
        "table `{table}`: {keys} keys of {floats} floats need a buffer of {expected}, got {found}"
    )]
    WrongLength {
        /// The table.
        table: String,
        /// Number of keys.
        keys: usize,
        /// Floats for each.
        floats: usize,
        /// Floats needed.
        expected: usize,
        /// Floats given.
        found: usize,
    },
    /// A table handle of another node or job.
    #[error("table `{0}` does not belong to this node")]
    UnknownTable(String),
    /// A value that is not a finite number, in a table that checks.
    #[error(
        "table `{table}`, key {key}: value {index} of the update is {value}; nothing of the call was applied"
    )]
    NotFinite {
        /// The table.
        table: String,
        /// The key.
        key: u64,
        /// Its place among the key's values.
        index: usize,
        /// What it is.
        value: f32,
    },
    /// A key that occurs twice in a call that sets values.
    #[error("table `{table}`: key {key} occurs twice in one `set`")]
    DuplicateKey {
        /// The table.
        table: String,
        /// The key.
        key: u64,
    },
    /// A table that cannot be made.
    #[error("table `{table}`: {reason}")]
    Table {
        /// Its name.
        table: String,
        /// Why.
        reason: String,
    },
    /// A sample that cannot be taken.
    #[error("sampling from table `{table}`: {reason}")]
    Sampling {
        /// The table.
        table: String,
        /// Why.
        reason: String,
    },
    /// A configuration that cannot work.
    #[error("configuration: {0}")]
    Config(String),
    /// A worker number that does not exist or is taken.
    #[error("worker {index}: {reason}")]
    Worker {
        /// The number.
        index: usize,
        /// Why it cannot be had.
        reason: String,
    },
    /// Another node is gone.
    #[error("{rank} is lost: {reason}")]
    PeerLost {
        /// Which.
        rank: Rank,
        /// Why, as far as known.
        reason: String,
    },
    /// Something did not happen in time.
    #[error(
        "{what} took longer than {seconds} s; still waiting for {waiting_for}; the limit is {setting}"
    )]
    Timeout {
        /// What was tried.
        what: String,
        /// The limit.
        seconds: u64,
        /// Of whom or what.
        waiting_for: String,
        /// What sets the limit.
        setting: &'static str,
    },
    /// A row stayed busy: its writer has been stopped or lost its core for very long.
    #[error("table `{table}`, key {key}: another writer keeps the row busy")]
    Busy {
        /// The table.
        table: String,
        /// The key.
        key: u64,
    },
    /// A worker of this node failed in the middle of a collective call.
    #[error("a worker of this node ended without joining `{0}`")]
    WorkerLost(&'static str),
    /// The fabric failed.
    #[error(transparent)]
    Fabric(#[from] FabricError),
}

/// A result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;
