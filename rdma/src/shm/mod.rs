//! Peers on the same host, reached through mapped memory.
//!
//! - A peer's region is a sealed memfd that this node maps read-only; a READ is a copy out of it.
//! - A record goes into a ring ([`crate::ring`]) in the receiver's memory, which that one sender maps.
//! - A Unix socket per pair carries what memory cannot: the proof that both know the job's token
//!   ([`join`]), the descriptors of regions ([`control`]), a goodbye, and by its hang-up the news that a
//!   process has ended. A record is never sent there.
//! - A node that sleeps says so in its rings; whoever publishes a record then rings its bell, an eventfd.
//!
//! Nothing of this has a name in the file system, so nothing stays behind, however a process ends.

mod bell;
mod control;
mod engine;
mod inbox;
mod join;
mod lane;
mod packet;
mod peer;
mod provider;
mod socket;
#[cfg(test)]
mod tests;

pub(crate) use join::{ShmConfig, ShmPeer};
pub(crate) use provider::ShmProvider;
