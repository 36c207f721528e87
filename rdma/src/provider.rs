//! What one way of reaching peers has to offer to the fabric of a job.
//!
//! A job's fabric (`JobFabric`) holds one provider per way in use and routes each peer to exactly
//! one of them. All providers of a node share one `mio` poll, so that one park waits for all.

use std::sync::Arc;

use crate::error::{FabricError, SendError};
use crate::fabric::{FabricCounters, Provider, ReadLane, Sink};
use crate::rank::Rank;
use crate::region::{Region, RegionToken};

/// How a peer's device names memory of this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RemoteAccess {
    pub(crate) address: u64,
    pub(crate) key: u32,
}

/// One way of reaching some peers of a job.
///
/// `poll`, `arm` and `disarm` are called by one thread at a time (the fabric serialises them); the
/// others by any thread.
pub(crate) trait PeerProvider: Send + Sync {
    /// Which way.
    fn kind(&self) -> Provider;

    /// Makes a region reachable for this provider's peers. Returns how their devices name it, if they do.
    fn export(&self, region: &Arc<Region>) -> Result<Option<RemoteAccess>, FabricError>;

    /// Makes a region of one of this provider's peers readable.
    fn import(&self, peer: Rank, token: &RegionToken) -> Result<(), FabricError>;

    /// As [`crate::Fabric::try_send`].
    fn try_send(&self, to: Rank, parts: &[&[u8]]) -> Result<(), SendError>;

    /// As [`crate::Fabric::poll`], for this provider's peers. `ready` holds the mio tokens that
    /// fired since the last call and belong to this provider.
    fn poll(
        &self,
        budget: usize,
        ready: &[mio::Token],
        sink: &mut dyn Sink,
    ) -> Result<usize, FabricError>;

    /// The system has announced the end or an error of a source with this token; called before
    /// `poll`, with which `ready` holds the token as well.
    fn closed(&self, token: mio::Token) {
        let _ = token;
    }

    /// Called before the node sleeps: asks peers to wake it. Returns false if something has
    /// arrived already (then the node does not sleep).
    fn arm(&self) -> bool;

    /// Called after the node slept.
    fn disarm(&self);

    /// A lane for this provider's peers.
    fn open_lane(&self) -> Result<Box<dyn ReadLane>, FabricError>;

    /// As [`crate::Fabric::expel`].
    fn expel(&self, peer: Rank, reason: &str);

    /// As [`crate::Fabric::goodbye`].
    fn goodbye(&self);

    /// Adds this provider's counters.
    fn count(&self, counters: &mut FabricCounters);
}
