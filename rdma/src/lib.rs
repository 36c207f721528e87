//! The one-sided fabric of Sterna: regions that peers may read, ordered links for records, and
//! read lanes. Providers: shared memory between processes of one host (`shm`), sockets (`tcp`), and a
//! deterministic simulator (`sim`).
//!
//! The traits of [`fabric`] are all that the layers above see; one conformance suite runs against
//! every provider.

pub mod config;
#[allow(dead_code, reason = "used by the providers that are being added")]
mod copy;
pub mod error;
pub mod fabric;
#[allow(dead_code, reason = "used by the fabric of a job that is being added")]
mod join;
#[allow(dead_code, reason = "used by the providers that are being added")]
pub mod memory;
#[allow(dead_code, reason = "used by the providers that are being added")]
mod provider;
pub mod rank;
pub mod region;
#[allow(dead_code, reason = "used by the providers that are being added")]
mod ring;
#[allow(dead_code, unused_imports, reason = "used by the fabric of a job that is being added")]
mod shm;
pub mod sim;
mod strangers;
mod sync;
pub mod topology;
#[allow(dead_code, reason = "used by the providers that are being added")]
mod tuning;
#[allow(dead_code, reason = "used by the fabric of a job that is being added")]
mod wake;

pub use config::{FabricConfig, ProviderChoice};
pub use error::{FabricError, SendError};
pub use fabric::{
    Completion, Fabric, FabricCounters, LostReason, Provider, READ_BYTES_MAX, RECORD_BYTES_MAX,
    Read, ReadData, ReadLane, Sink,
};
pub use rank::Rank;
pub use region::{Region, RegionId, RegionSpec, RegionToken, Rights};
