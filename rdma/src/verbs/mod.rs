//! RDMA devices: InfiniBand, RoCE, soft-RoCE.
//!
//! libibverbs is loaded at run time (`sys`); where it is missing, or there is no device, that is an
//! error value that says what to do. Above the foreign calls stand owned types without lifetimes, each
//! holding what it was made from.

mod context;
pub mod device;
pub mod error;
pub mod gid;
mod sys;

pub use device::{
    Atomics, Device, DeviceEntry, DeviceLimits, ForkSafety, LinkLayer, Port, PortState, devices,
    fork_safety,
};
pub use error::VerbsError;
pub use gid::{Gid, GidEntry, GidKind};
