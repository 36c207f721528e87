//! RDMA devices: InfiniBand, RoCE, soft-RoCE.
//!
//! libibverbs is loaded at run time (`sys`); where it is missing, or there is no device, that is an
//! error value that says what to do. Above the foreign calls stand owned types without lifetimes, each
//! holding what it was made from.
//!
//! As a provider of the fabric:
//!
//! - A record goes by WRITE with immediate data into a ring in the receiver's memory (`ring`, `link`), and is
//!   announced by a completion there (`engine`). Credit comes back by plain WRITEs. The receiver keeps a
//!   receive request for everything that its credit allows, so no sender ever finds none.
//! - A READ of a lane is done by the owner's device (`lane`): no thread of the owner takes part, nor has to
//!   run. The memory in which it lands is the lane's own.
//! - A node that sleeps is woken by its completion queue's descriptor.
//! - The connection over sockets by which two nodes met stays open (`connect`): it carries the goodbye, and
//!   its end is the news that a process has ended.
//!
//! Peers may read regions and write their own inbox; nothing else of a node can be reached.

mod choose;
mod completion;
mod connect;
mod context;
mod counters;
pub mod device;
mod engine;
pub mod error;
mod event;
pub mod gid;
mod lane;
mod link;
mod memlock;
mod memory;
mod offer;
mod pool;
mod provider;
mod queue_pair;
mod receive_queue;
mod ring;
mod serve;
mod share;
mod status;
mod sys;
mod tuning;
#[cfg(feature = "witness")]
pub mod witness;

pub(crate) use choose::{Place, choose};
pub(crate) use connect::VerbsConfig;
pub(crate) use provider::VerbsProvider;

pub use choose::{Chosen, GidWish, Wish, chosen};
pub use device::{
    Atomics, Device, DeviceEntry, DeviceLimits, ForkSafety, LinkLayer, Port, PortState, devices,
    fork_safety,
};
pub use error::VerbsError;
pub use gid::{Gid, GidEntry, GidKind};
