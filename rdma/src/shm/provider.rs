//! The provider: links, regions and lanes to the peers of this host.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, TryLockError};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Token};

use super::bell::Bell;
use super::control;
use super::engine::Engine;
use super::join::{ShmConfig, join};
use super::lane::{LaneCounters, ShmLane};
use super::packet::Packet;
use super::peer::{Peer, Standing, lock};
use crate::error::{FabricError, SendError};
use crate::fabric::{FabricCounters, LostReason, Provider, RECORD_BYTES_MAX, ReadLane, Sink};
use crate::memory::Backing;
use crate::provider::{PeerProvider, RemoteAccess};
use crate::rank::Rank;
use crate::region::{Region, RegionToken};
use crate::ring::PushError;
use crate::tuning::{EXPORT_WAIT_MAX, REGIONS_MAX};

/// How long a goodbye may take per peer that does not listen.
const GOODBYE_WAIT_MAX: Duration = Duration::from_secs(10);

/// The peers of a provider.
#[derive(Clone, Debug)]
pub(super) struct PeerTable {
    peers: Arc<[Arc<Peer>]>,
    /// By rank: the place in `peers`.
    index: Arc<[Option<u16>]>,
}

impl PeerTable {
    fn new(peers: Arc<[Arc<Peer>]>) -> Self {
        let ranks = peers.iter().map(|peer| peer.rank.index() + 1).max().unwrap_or(0);
        let mut index = vec![None; ranks];
        for (at, peer) in (0..).zip(peers.iter()) {
            index[peer.rank.index()] = Some(at);
        }
        Self { peers, index: index.into() }
    }

    pub(super) fn len(&self) -> usize {
        self.peers.len()
    }

    #[inline]
    pub(super) fn at(&self, index: usize) -> &Peer {
        &self.peers[index]
    }

    /// The place of `rank`, if it is a peer of this provider.
    #[inline]
    pub(super) fn index_of(&self, rank: Rank) -> Option<usize> {
        self.index.get(rank.index()).copied().flatten().map(usize::from)
    }

    fn find(&self, rank: Rank) -> Option<&Peer> {
        self.index_of(rank).map(|index| self.at(index))
    }
}

/// Shared memory to the peers of this host.
pub(crate) struct ShmProvider {
    table: PeerTable,
    engine: Mutex<Engine>,
    bell: Bell,
    registry: mio::Registry,
    first_token: usize,
    departed: AtomicBool,
    counters: Counters,
    lanes: Mutex<Vec<Arc<LaneCounters>>>,
}

#[derive(Default)]
struct Counters {
    records_sent: AtomicU64,
    record_bytes_sent: AtomicU64,
    records_received: AtomicU64,
    record_bytes_received: AtomicU64,
    sends_full: AtomicU64,
    wakes_sent: AtomicU64,
    strangers_refused: u64,
}

impl ShmProvider {
    /// Joins all peers of `config`.
    ///
    /// # Errors
    /// [`FabricError::JoinTimeout`] with the ranks that are missing at the deadline; system errors.
    pub(crate) fn connect(config: &ShmConfig<'_>) -> Result<Self, FabricError> {
        let bell = Bell::new()?;
        let (joined, strangers_refused) = join(config, &bell)?;
        let (peers, inboxes): (Vec<_>, Vec<_>) = config
            .peers
            .iter()
            .zip(joined)
            .map(|(peer, joined)| Peer::new(peer.rank, joined))
            .map(|(peer, inbox)| (Arc::new(peer), inbox))
            .unzip();
        let peers: Arc<[Arc<Peer>]> = peers.into();
        let clone = config.registry.try_clone().map_err(|error| registering(&error))?;
        let provider = Self {
            table: PeerTable::new(Arc::clone(&peers)),
            engine: Mutex::new(Engine::new(peers, inboxes)),
            bell,
            registry: clone,
            first_token: config.first_token,
            departed: AtomicBool::new(false),
            counters: Counters { strangers_refused, ..Counters::default() },
            lanes: Mutex::new(Vec::new()),
        };
        provider.register().map_err(|error| registering(&error))?;
        Ok(provider)
    }

    /// The bell has the first token, the peers' sockets the following ones.
    fn register(&self) -> std::io::Result<()> {
        let sockets = self.table.peers.iter().map(|peer| peer.socket.as_fd());
        let fds = std::iter::once(self.bell.as_fd()).chain(sockets);
        for (token, fd) in (self.first_token..).zip(fds) {
            let raw = fd.as_raw_fd();
            self.registry.register(&mut SourceFd(&raw), Token(token), Interest::READABLE)?;
        }
        Ok(())
    }

    /// Takes packets of the peers whose sockets have news. Returns whether there were any.
    fn take_packets(&self, ready: &[Token]) -> bool {
        let mut any = false;
        for token in ready {
            let place = token.0.wrapping_sub(self.first_token).wrapping_sub(1);
            if let Some(peer) = self.table.peers.get(place) {
                any |= control::drain(peer);
            }
        }
        for peer in self.table.peers.iter() {
            if peer.more_packets.load(Ordering::Relaxed) {
                any |= control::drain(peer);
            }
        }
        any
    }

    fn gone(&self, peer: &Peer) -> SendError {
        let reason = if self.departed.load(Ordering::Relaxed) {
            "this node has said goodbye".to_owned()
        } else {
            peer.why_lost()
        };
        SendError::PeerLost { peer: peer.rank, reason }
    }
}

#[cfg(test)]
impl ShmProvider {
    /// The peers, for tests that act as a broken peer.
    pub(super) fn peers(&self) -> &[Arc<Peer>] {
        &self.table.peers
    }

    pub(super) fn peer(&self, rank: Rank) -> &Peer {
        self.table.find(rank).expect("a peer of this provider")
    }

    /// Gives the memory of the ring to `peer` to somebody who does not keep the rules.
    pub(super) fn break_ring(&self, peer: Rank, how: impl FnOnce(&super::inbox::RingMemory)) {
        how(lock(&self.peer(peer).link).memory());
    }
}

impl PeerProvider for ShmProvider {
    fn kind(&self) -> Provider {
        Provider::Shm
    }

    fn export(&self, region: &Arc<Region>) -> Result<Option<RemoteAccess>, FabricError> {
        let backing = region.backing().downcast_ref::<Backing>();
        let Some(fd) = backing.and_then(Backing::fd) else {
            return Err(FabricError::Config(format!(
                "{} was not allocated to be shared",
                region.id()
            )));
        };
        if region.id().0 >= REGIONS_MAX {
            let id = region.id();
            return Err(FabricError::Config(format!("{id}: a node exports {REGIONS_MAX} at most")));
        }
        let packet = Packet::Region { id: region.id(), bytes: region.bytes() as u64 };
        for peer in self.table.peers.iter() {
            control::send(&self.table.peers, peer, packet, &[fd], EXPORT_WAIT_MAX)?;
        }
        Ok(None)
    }

    /// The peer passed the memory before it sent the record with the token, so it is in the socket by now:
    /// there is nothing to wait for.
    fn import(&self, peer: Rank, token: &RegionToken) -> Result<(), FabricError> {
        let unknown = FabricError::UnknownRegion { peer, region: token.id };
        let Some(peer) = self.table.find(peer) else { return Err(unknown) };
        loop {
            match peer.import_region(token.id, token.bytes) {
                Err(FabricError::UnknownRegion { .. }) if control::drain(peer) => {}
                Err(FabricError::UnknownRegion { .. }) if peer.standing() != Standing::Live => {
                    return Err(peer.lost_error());
                }
                result => return result,
            }
        }
    }

    fn try_send(&self, to: Rank, parts: &[&[u8]]) -> Result<(), SendError> {
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        if bytes > RECORD_BYTES_MAX {
            return Err(SendError::TooLong { bytes, max: RECORD_BYTES_MAX });
        }
        let Some(peer) = self.table.find(to) else {
            let reason = "it is not reached by shared memory".to_owned();
            return Err(SendError::PeerLost { peer: to, reason });
        };
        let mut link = match peer.link.try_lock() {
            Ok(link) => link,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(SendError::Busy(to)),
        };
        if peer.standing() != Standing::Live || self.departed.load(Ordering::Relaxed) {
            return Err(self.gone(peer));
        }
        match link.try_push(parts) {
            Ok(()) => {}
            Err(PushError::Full) => {
                self.counters.sends_full.fetch_add(1, Ordering::Relaxed);
                return Err(SendError::Full(to));
            }
            Err(PushError::Broken(broken)) => {
                peer.cut(LostReason::Malformed(broken.to_string()));
                self.bell.ring();
                return Err(self.gone(peer));
            }
        }
        let must_wake = link.must_wake();
        drop(link);
        if must_wake {
            peer.bell.ring();
            self.counters.wakes_sent.fetch_add(1, Ordering::Relaxed);
        }
        self.counters.records_sent.fetch_add(1, Ordering::Relaxed);
        self.counters.record_bytes_sent.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(())
    }

    fn poll(
        &self,
        budget: usize,
        ready: &[Token],
        sink: &mut dyn Sink,
    ) -> Result<usize, FabricError> {
        let packets = self.take_packets(ready);
        let delivered = lock(&self.engine).poll(budget, sink);
        let counters = &self.counters;
        counters.records_received.fetch_add(delivered.records, Ordering::Relaxed);
        counters.record_bytes_received.fetch_add(delivered.record_bytes, Ordering::Relaxed);
        let events = usize::try_from(delivered.records + delivered.losses).unwrap_or(usize::MAX);
        Ok(events + usize::from(packets))
    }

    fn arm(&self) -> bool {
        lock(&self.engine).fall_asleep()
    }

    fn disarm(&self) {
        lock(&self.engine).rise();
    }

    fn open_lane(&self) -> Result<Box<dyn ReadLane>, FabricError> {
        let mut lanes = lock(&self.lanes);
        // The counters of a lane that was dropped count on for a new one.
        let dropped = lanes.iter().find(|&counters| Arc::strong_count(counters) == 1);
        let counters = dropped.map_or_else(Arc::default, Arc::clone);
        if Arc::strong_count(&counters) == 1 {
            lanes.push(Arc::clone(&counters));
        }
        Ok(Box::new(ShmLane::new(self.table.clone(), counters)))
    }

    fn expel(&self, peer: Rank, reason: &str) {
        if let Some(peer) = self.table.find(peer) {
            peer.cut(LostReason::Expelled(reason.to_owned()));
            // Whoever sleeps has a loss to deliver.
            self.bell.ring();
        }
    }

    fn goodbye(&self) {
        self.departed.store(true, Ordering::Relaxed);
        for peer in self.table.peers.iter() {
            // Whoever is sending finishes first; who comes later finds `departed`.
            drop(lock(&peer.link));
            let said =
                control::send(&self.table.peers, peer, Packet::Goodbye, &[], GOODBYE_WAIT_MAX);
            if let Err(error) = said {
                tracing::debug!(%error, "a goodbye was not heard");
            }
        }
    }

    fn count(&self, counters: &mut FabricCounters) {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let own = &self.counters;
        counters.records_sent += load(&own.records_sent);
        counters.record_bytes_sent += load(&own.record_bytes_sent);
        counters.records_received += load(&own.records_received);
        counters.record_bytes_received += load(&own.record_bytes_received);
        counters.sends_full += load(&own.sends_full);
        counters.wakes_sent += load(&own.wakes_sent);
        counters.strangers_refused += own.strangers_refused;
        for lane in lock(&self.lanes).iter() {
            counters.reads += load(&lane.reads);
            counters.read_bytes += load(&lane.read_bytes);
        }
    }
}

impl Drop for ShmProvider {
    fn drop(&mut self) {
        // Peers hold handles of the bell, so closing it does not end its registration.
        let sockets = self.table.peers.iter().map(|peer| peer.socket.as_fd());
        for fd in std::iter::once(self.bell.as_fd()).chain(sockets) {
            let _ = self.registry.deregister(&mut SourceFd(&fd.as_raw_fd()));
        }
        // Lanes hold peers; the connections end with the provider all the same.
        for peer in self.table.peers.iter() {
            peer.socket.shut_down();
        }
    }
}

fn registering(error: &std::io::Error) -> FabricError {
    FabricError::Os { what: "registering for events".to_owned(), reason: error.to_string() }
}
