//! What every fabric provides: regions, links, read lanes. The layers above see these traits only.
//!
//! # Order that users may rely on, and nothing else
//!
//! 1. A link delivers records in order, each once.
//! 2. A READ posted after a record was received sees what the record's sender stored before it
//!    sent the record.
//! 3. There is no order between a READ and anything else, and the cache lines of one READ may be
//!    fetched in any order.
//!
//! There are no remote atomics. Credit is a plain counter of what was consumed; it is not an
//! acknowledgement. Nothing here blocks without a bound, and a lost peer is a value, not a panic.

use std::sync::Arc;
use std::time::Duration;

use crate::error::{FabricError, SendError};
use crate::rank::Rank;
use crate::region::{Region, RegionId, RegionSpec, RegionToken};

/// The largest record a link carries, in bytes. Longer content is split by the sender.
pub const RECORD_BYTES_MAX: usize = 256 * 1024;

/// The largest READ, in bytes (a row is at most 1 MiB).
pub const READ_BYTES_MAX: usize = (1 << 20) + 64;

/// How a peer is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Provider {
    /// Mapped memory of a process on the same host.
    Shm,
    /// RDMA devices.
    Verbs,
    /// Sockets.
    Tcp,
    /// The deterministic simulator.
    Sim,
}

impl Provider {
    /// Its name in options and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Shm => "shm",
            Self::Verbs => "verbs",
            Self::Tcp => "tcp",
            Self::Sim => "sim",
        }
    }
}

/// A node's view of the fabric of its job. One per process (one per simulated node under `sim`).
///
/// All methods may be called from any thread; [`Fabric::poll`] and [`Fabric::park`] are meant for
/// whoever runs the engine and serialise among themselves.
pub trait Fabric: Send + Sync {
    /// This node.
    fn rank(&self) -> Rank;

    /// Number of nodes in the job.
    fn size(&self) -> usize;

    /// How `peer` is reached.
    fn provider(&self, peer: Rank) -> Provider;

    /// Maps new zeroed memory that peers may reach as `spec.rights` says. In a job of one node it
    /// is anonymous memory with transparent huge pages, else what the providers in use need.
    ///
    /// # Errors
    /// [`FabricError::OutOfMemory`] with the size and what to do.
    fn allocate(&self, spec: RegionSpec) -> Result<Arc<Region>, FabricError>;

    /// Makes a region reachable for all peers and returns what a peer needs to import it. The
    /// caller sends the token in a record; a peer that received that record can import.
    ///
    /// # Errors
    /// [`FabricError::PeerLost`] is not an error here: lost peers are skipped.
    fn export(&self, region: &Arc<Region>) -> Result<RegionToken, FabricError>;

    /// Makes `peer`'s region readable through the lanes of this node.
    ///
    /// # Errors
    /// [`FabricError::UnknownRegion`] for a token that the peer did not export.
    fn import(&self, peer: Rank, token: &RegionToken) -> Result<(), FabricError>;

    /// Sends a record, gathered from `parts`, without ever waiting. On success the record has been
    /// copied; it will be delivered once, in order, unless the peer is lost.
    ///
    /// # Errors
    /// [`SendError::Full`] when the link has no credit, [`SendError::Busy`] when another thread is
    /// sending on it just now; in both cases nothing was sent and the caller tries later.
    fn try_send(&self, to: Rank, parts: &[&[u8]]) -> Result<(), SendError>;

    /// Delivers up to `budget` received records and events to `sink` and does the provider's
    /// pending work (serving READs over tcp, returning credit). Never waits for sending (I11).
    /// Returns the number of records and events delivered, plus one if other work was done.
    ///
    /// # Errors
    /// Only faults of this node; those of a peer arrive as [`Sink::peer_lost`], once per peer.
    fn poll(&self, budget: usize, sink: &mut dyn Sink) -> Result<usize, FabricError>;

    /// Sleeps until something may have arrived, [`Fabric::wake`] was called, or `limit` is over.
    /// Spurious returns are allowed, lost wake-ups are not.
    ///
    /// # Errors
    /// As [`Fabric::poll`].
    fn park(&self, limit: Duration) -> Result<(), FabricError>;

    /// Ends a running or the next [`Fabric::park`]. Callable from any thread.
    fn wake(&self);

    /// Opens a lane for one-sided reads; one per worker thread.
    ///
    /// # Errors
    /// When the provider's resources (sockets, queue pairs) are used up.
    fn open_lane(&self) -> Result<Box<dyn ReadLane>, FabricError>;

    /// Ends the connection to a peer on purpose: nothing of it is delivered afterwards, and none
    /// of its late writes can land.
    fn expel(&self, peer: Rank, reason: &str);

    /// Says an orderly goodbye to all peers: they see [`LostReason::Goodbye`], not a failure.
    fn goodbye(&self);

    /// A line for the start of a run: which peers are reached how, and why.
    fn describe(&self) -> String {
        String::new()
    }

    /// Current counters, for reports.
    fn counters(&self) -> FabricCounters;
}

/// Receives what [`Fabric::poll`] delivers.
pub trait Sink {
    /// A record from `from`. The bytes are a private copy and stay valid for this call only.
    fn record(&mut self, from: Rank, record: &[u8]);

    /// `peer` is gone: no record of it will follow, READs to it fail. Called once per peer.
    fn peer_lost(&mut self, peer: Rank, reason: LostReason);
}

/// Why a peer is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LostReason {
    /// It said goodbye.
    Goodbye,
    /// Its process ended or its connection broke.
    Died(String),
    /// It broke the wire format.
    Malformed(String),
    /// This node expelled it.
    Expelled(String),
}

/// A worker's own way to read peers' regions. A lane is used by one thread at a time.
///
/// Bytes land in the lane's pool and are handed out by [`ReadLane::poll`]. Dropping a lane with
/// READs outstanding is allowed and leaks nothing.
pub trait ReadLane: Send {
    /// Queues a READ of `len` bytes (a multiple of 8, `offset` too) at `offset` of `region` of `peer`. It
    /// is on its way after [`ReadLane::submit`] at the latest. `token` comes back with the result.
    ///
    /// # Errors
    /// [`FabricError::LaneFull`] when `capacity` READs are outstanding (poll, then retry),
    /// [`FabricError::OutOfRange`] outside the region, [`FabricError::UnknownRegion`],
    /// [`FabricError::PeerLost`].
    fn post(&mut self, read: Read) -> Result<(), FabricError>;

    /// Sends what was queued, as one batch per peer.
    ///
    /// # Errors
    /// Faults of this node only.
    fn submit(&mut self) -> Result<(), FabricError>;

    /// Hands out finished READs, in any order, without waiting. Returns how many.
    ///
    /// # Errors
    /// Faults of this node only; a failed READ is a [`Completion`] with an error.
    fn poll(&mut self, done: &mut dyn FnMut(Completion<'_>)) -> Result<usize, FabricError>;

    /// Sleeps until a completion may be there or `limit` is over. Returns at once if one is.
    ///
    /// # Errors
    /// As [`ReadLane::poll`].
    fn wait(&mut self, limit: Duration) -> Result<(), FabricError>;

    /// Number of READs posted and not yet handed out.
    fn outstanding(&self) -> usize;

    /// Number of READs that may be outstanding.
    fn capacity(&self) -> usize;
}

/// A READ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Read {
    /// Whose memory.
    pub peer: Rank,
    /// Which of the peer's regions.
    pub region: RegionId,
    /// Byte offset in the region, a multiple of 8.
    pub offset: u64,
    /// Bytes to read, a multiple of 8, at least 8 and at most [`READ_BYTES_MAX`].
    pub len: u32,
    /// Comes back with the completion.
    pub token: u64,
}

/// A finished READ.
#[derive(Debug)]
pub struct Completion<'a> {
    /// The token of the READ.
    pub token: u64,
    /// What was read, or why not.
    pub result: Result<ReadData<'a>, FabricError>,
}

/// Bytes of a READ that guard themselves: the provider copies the first 16 bytes, then all, and
/// the first 16 bytes of `bytes` were loaded *last* (with Acquire order) wherever the provider can
/// (shm, tcp, sim). A row that was replaced during the copy shows in one of the two heads. Where
/// a device reads (verbs) both heads are the same bytes and slots are quarantined instead.
#[derive(Clone, Copy, Debug)]
pub struct ReadData<'a> {
    /// The first (up to) 16 bytes as loaded before the rest, as two words; a READ of 8 bytes
    /// leaves the second at zero.
    pub head_before: [u64; 2],
    /// The bytes.
    pub bytes: &'a [u8],
}

/// Counters since start, of one node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FabricCounters {
    /// Records sent and their bytes.
    pub records_sent: u64,
    /// Bytes of records sent.
    pub record_bytes_sent: u64,
    /// Records received.
    pub records_received: u64,
    /// Bytes of records received.
    pub record_bytes_received: u64,
    /// READs posted by this node.
    pub reads: u64,
    /// Bytes read by this node.
    pub read_bytes: u64,
    /// READs of peers served by this node's CPU (tcp only).
    pub reads_served: u64,
    /// Sends refused for want of credit.
    pub sends_full: u64,
    /// Times the engine slept, and wake-ups sent to peers.
    pub parks: u64,
    /// Wake-ups sent to peers.
    pub wakes_sent: u64,
    /// Connections refused because of a wrong token, job or version.
    pub strangers_refused: u64,
}
