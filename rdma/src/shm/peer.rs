//! A peer of the same host: what is shared with it, and how it stands.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::bell::Bell;
use super::inbox::{LIMITS, RingMemory};
use super::join::Joined;
use super::socket::Socket;
use crate::error::FabricError;
use crate::fabric::LostReason;
use crate::memory::Mapping;
use crate::rank::Rank;
use crate::region::RegionId;
use crate::ring::{Receiver, Sender};

/// How a peer stands. It only moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Standing {
    /// Connected.
    Live,
    /// Gone: what it had published is still delivered, then its loss.
    Draining,
    /// Cut off by this node: its loss is delivered and nothing else.
    Cut,
    /// Its loss has been delivered.
    Lost,
}

/// A region of the peer, as far as it is known here.
#[derive(Debug, Default)]
pub(super) enum Slot {
    #[default]
    Unknown,
    /// Its memory has come.
    Mapped(Arc<Mapping>),
    /// The node has imported it: lanes may read.
    Imported(Arc<Mapping>),
    /// Its memory has come and could not be mapped.
    Failed(String),
}

/// A peer.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) rank: Rank,
    standing: AtomicU8,
    reason: Mutex<Option<LostReason>>,
    pub(super) socket: Socket,
    pub(super) bell: Bell,
    pub(super) link: Mutex<Sender<RingMemory>>,
    /// Held by whoever takes packets from the socket: they are handled in order.
    pub(super) draining: Mutex<()>,
    /// Whether packets were left in the socket after its last event.
    pub(super) more_packets: AtomicBool,
    regions: Mutex<Vec<Slot>>,
}

impl Peer {
    /// A peer that has joined, and the ring on which it sends.
    pub(super) fn new(rank: Rank, joined: Joined) -> (Self, Receiver<RingMemory>) {
        let peer = Self {
            rank,
            standing: AtomicU8::new(Standing::Live as u8),
            reason: Mutex::new(None),
            socket: joined.socket,
            bell: joined.bell,
            link: Mutex::new(Sender::new(joined.outbox, LIMITS)),
            draining: Mutex::new(()),
            more_packets: AtomicBool::new(false),
            regions: Mutex::new(Vec::new()),
        };
        (peer, Receiver::new(joined.inbox, LIMITS))
    }

    #[inline]
    pub(super) fn standing(&self) -> Standing {
        match self.standing.load(Ordering::Acquire) {
            0 => Standing::Live,
            1 => Standing::Draining,
            2 => Standing::Cut,
            _ => Standing::Lost,
        }
    }

    /// The peer is gone by itself; what it has published counts.
    pub(super) fn leave(&self, reason: LostReason) {
        let mut held = lock(&self.reason);
        if self.standing() == Standing::Live {
            *held = Some(reason);
            self.standing.store(Standing::Draining as u8, Ordering::Release);
        }
    }

    /// Cuts the peer off: nothing of it is delivered from now on but its loss.
    pub(super) fn cut(&self, reason: LostReason) {
        let mut held = lock(&self.reason);
        if self.standing() < Standing::Cut {
            *held = Some(reason);
            self.standing.store(Standing::Cut as u8, Ordering::Release);
            self.socket.shut_down();
        }
    }

    /// The loss is delivered now: why it came to it.
    pub(super) fn settle(&self) -> LostReason {
        let held = lock(&self.reason);
        self.standing.store(Standing::Lost as u8, Ordering::Release);
        held.clone().unwrap_or_else(|| LostReason::Died("unknown".to_owned()))
    }

    /// Why the peer is gone, in words.
    pub(super) fn why_lost(&self) -> String {
        match &*lock(&self.reason) {
            Some(LostReason::Goodbye) => "it said goodbye".to_owned(),
            Some(LostReason::Died(why)) => why.clone(),
            Some(LostReason::Malformed(why)) => format!("it broke the protocol: {why}"),
            Some(LostReason::Expelled(why)) => format!("this node expelled it: {why}"),
            None => "unknown".to_owned(),
        }
    }

    /// The error of whoever wants something of a peer that is gone.
    #[cold]
    pub(super) fn lost_error(&self) -> FabricError {
        FabricError::PeerLost { peer: self.rank, reason: self.why_lost() }
    }

    /// Takes note of a region; `Err` if the peer has sent it before.
    pub(super) fn put_region(&self, id: RegionId, slot: Slot) -> Result<(), &'static str> {
        let mut regions = lock(&self.regions);
        let index = id.0 as usize;
        if regions.len() <= index {
            regions.resize_with(index + 1, Slot::default);
        }
        if !matches!(regions[index], Slot::Unknown) {
            return Err("it exported a region twice");
        }
        regions[index] = slot;
        Ok(())
    }

    /// Opens a region of `bytes` bytes to lanes.
    pub(super) fn import_region(&self, id: RegionId, bytes: u64) -> Result<(), FabricError> {
        let unknown = Err(FabricError::UnknownRegion { peer: self.rank, region: id });
        let mut regions = lock(&self.regions);
        let Some(slot) = regions.get_mut(id.0 as usize) else { return unknown };
        let mapping = match &*slot {
            Slot::Mapped(mapping) | Slot::Imported(mapping) => Arc::clone(mapping),
            Slot::Unknown => return unknown,
            Slot::Failed(reason) => {
                return Err(FabricError::Os {
                    what: format!("importing {id} of {}", self.rank),
                    reason: reason.clone(),
                });
            }
        };
        if mapping.bytes() as u64 != bytes {
            return unknown;
        }
        *slot = Slot::Imported(mapping);
        Ok(())
    }

    /// A region that lanes may read.
    pub(super) fn imported_region(&self, id: RegionId) -> Option<Arc<Mapping>> {
        match lock(&self.regions).get(id.0 as usize) {
            Some(Slot::Imported(mapping)) => Some(Arc::clone(mapping)),
            _ => None,
        }
    }
}

/// A lock whose holder cannot leave half a change behind, so a panic elsewhere does not matter.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
