//! The one-sided fabric of Sterna: regions that peers may read, ordered links for records, and
//! read lanes. Providers: RDMA ([`verbs`]), shared memory between processes of one host (`shm`), sockets (`tcp`), and a
//! deterministic simulator (`sim`).
//!
//! The traits of [`fabric`] are all that the layers above see; one conformance suite runs against
//! every provider.

pub mod config;
mod copy;
pub mod error;
pub mod fabric;
pub mod job;
mod join;
pub mod memory;
mod provider;
pub mod rank;
pub mod region;
mod ring;
mod shm;
pub mod sim;
mod strangers;
mod sync;
mod tcp;
pub mod topology;
mod tuning;
pub mod verbs;
mod wake;

pub use config::{FabricConfig, ProviderChoice};
pub use error::{FabricError, SendError};
pub use fabric::{
    Completion, Fabric, FabricCounters, LostReason, Provider, READ_BYTES_MAX, RECORD_BYTES_MAX,
    Read, ReadData, ReadLane, Sink,
};
pub use rank::Rank;
pub use region::{Region, RegionId, RegionSpec, RegionToken, Rights};
