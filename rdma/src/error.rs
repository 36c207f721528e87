//! Errors of the fabric. Each message says what failed, with which peer, and what to do.

use crate::rank::Rank;
use crate::region::RegionId;
use crate::verbs::VerbsError;

/// What can go wrong in the fabric.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FabricError {
    /// A peer is gone.
    #[error("{peer} is lost: {reason}")]
    PeerLost {
        /// Which one.
        peer: Rank,
        /// Why, as far as known.
        reason: String,
    },
    /// Peers did not come up in time.
    #[error("{waited_for} did not join within {seconds} s: {hint}")]
    JoinTimeout {
        /// The missing ranks, in words.
        waited_for: String,
        /// The limit.
        seconds: u64,
        /// What to check.
        hint: String,
    },
    /// The configuration cannot work.
    #[error("fabric configuration: {0}")]
    Config(String),
    /// A READ outside its region.
    #[error(
        "READ of {len} bytes at offset {offset} is outside {region} of {peer} ({region_bytes} bytes)"
    )]
    OutOfRange {
        /// The owner of the region.
        peer: Rank,
        /// The region.
        region: RegionId,
        /// First byte.
        offset: u64,
        /// Bytes.
        len: u32,
        /// Size of the region.
        region_bytes: u64,
    },
    /// A region that was not imported, or whose token is not the peer's.
    #[error("{region} of {peer} is not known here: import its token first")]
    UnknownRegion {
        /// The owner of the region.
        peer: Rank,
        /// The region.
        region: RegionId,
    },
    /// The lane's pool is used up.
    #[error("the read lane is full ({capacity} READs outstanding): poll it first")]
    LaneFull {
        /// READs that may be outstanding.
        capacity: usize,
    },
    /// No memory for a region.
    #[error("cannot map {bytes} bytes for {what}: {reason}")]
    OutOfMemory {
        /// Size asked for.
        bytes: usize,
        /// Purpose.
        what: String,
        /// The system's reason and what to do.
        reason: String,
    },
    /// RDMA cannot be used, or a call to a device failed.
    #[error("RDMA: {0}")]
    Verbs(VerbsError),
    /// A system call failed.
    #[error("{what}: {reason}")]
    Os {
        /// What was tried.
        what: String,
        /// The system's reason.
        reason: String,
    },
}

// By hand, since a derived one would make it the source, too, and chains of errors would print it twice.
impl From<VerbsError> for FabricError {
    fn from(error: VerbsError) -> Self {
        Self::Verbs(error)
    }
}

/// Why a record was not sent. Nothing was sent.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SendError {
    /// No credit: the peer has not consumed enough yet.
    #[error("no credit on the link to {0}")]
    Full(Rank),
    /// Another thread is sending on this link just now.
    #[error("the link to {0} is in use")]
    Busy(Rank),
    /// The record is longer than [`crate::RECORD_BYTES_MAX`].
    #[error("a record of {bytes} bytes is above the limit of {max}")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// The peer is gone.
    #[error("{peer} is lost: {reason}")]
    PeerLost {
        /// Which one.
        peer: Rank,
        /// Why.
        reason: String,
    },
}
