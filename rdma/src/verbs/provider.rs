//! The provider: links, regions and lanes to peers that RDMA devices reach.

use std::collections::HashMap;
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use super::choose::Place;
use super::completion::CompletionQueue;
use super::context::Context;
use super::counters::PortCounters;
use super::engine::Engine;
use super::event::{DeviceEvent, next};
use super::lane::{Channel, VerbsLane};
use super::link::{Link, Standing};
use super::memory::{Access, MemoryRegion, ProtectionDomain};
use super::offer::{Inbox, Offer, goodbye};
use super::queue_pair::{QueuePair, Role};
use super::serve::Server;
use super::share::Hub;
use super::tuning::{GOODBYE_MAX, LANE_DEPTH, LANE_POOL_BYTES, OFFER_MAX, OFFERS_MAX};
use crate::error::{FabricError, SendError};
use crate::fabric::{FabricCounters, LostReason, Provider, ReadLane, Sink};
use crate::join::call::{CallError, call};
use crate::join::identity::NodeIdentity;
use crate::join::proof::{JobKey, Purpose};
use crate::memory;
use crate::provider::{PeerProvider, RemoteAccess};
use crate::rank::Rank;
use crate::region::{Region, RegionId, RegionSpec, RegionToken, Rights};
use crate::wake::Wake;

/// Mio tokens after the provider's first: the completion queue, the device, peers by rank, lanes of peers.
pub(super) const TOKEN_COMPLETIONS: usize = 0;
pub(super) const TOKEN_DEVICE: usize = 1;
pub(super) const TOKEN_PEERS: usize = 2;
pub(super) const TOKEN_LANES: usize = TOKEN_PEERS + Rank::COUNT_MAX;

/// Numbers of regions that never travel: rings, mirrors, pools.
const INTERNAL: RegionId = RegionId(u32::MAX);

/// A peer's region that this node may read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Import {
    pub(super) bytes: u64,
    pub(super) address: u64,
    pub(super) key: u32,
}

#[derive(Default)]
pub(super) struct Counters {
    pub(super) records_sent: AtomicU64,
    pub(super) record_bytes_sent: AtomicU64,
    pub(super) records_received: AtomicU64,
    pub(super) record_bytes_received: AtomicU64,
    pub(super) reads: AtomicU64,
    pub(super) read_bytes: AtomicU64,
    pub(super) sends_full: AtomicU64,
}

/// What lanes share with their provider.
pub(super) struct Shared {
    imports: Vec<RwLock<HashMap<RegionId, Import>>>,
    pub(super) counters: Counters,
    /// Why peers are lost, by rank; set before the loss is reported.
    pub(super) lost: Vec<OnceLock<String>>,
    pub(super) message_bytes_max: u32,
    /// What the device's port has counted.
    pub(super) port: Arc<PortCounters>,
    /// Queue pairs of this node's lanes, to end them with their peer.
    readers: Mutex<Vec<(Rank, Weak<QueuePair>)>>,
}

impl Shared {
    pub(super) fn imported(&self, peer: Rank, region: RegionId) -> Option<Import> {
        let regions = self.imports.get(peer.index())?;
        regions.read().unwrap_or_else(PoisonError::into_inner).get(&region).copied()
    }

    fn readers(&self) -> MutexGuard<'_, Vec<(Rank, Weak<QueuePair>)>> {
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn forget_reader(&self, pair: &Arc<QueuePair>) {
        self.readers().retain(|(_, held)| !std::ptr::eq(held.as_ptr(), Arc::as_ptr(pair)));
    }

    /// Notes why a peer is lost and ends the READs under way.
    fn lose(&self, peer: Rank, why: String) {
        let _ = self.lost[peer.index()].set(why);
        for (rank, pair) in self.readers().iter() {
            if let (true, Some(pair)) = (*rank == peer, pair.upgrade()) {
                pair.fail();
            }
        }
    }
}

/// What a provider is made of; see `connect`.
pub(super) struct Parts {
    pub(super) me: NodeIdentity,
    pub(super) nodes: Vec<NodeIdentity>,
    pub(super) key: JobKey,
    pub(super) place: Place,
    pub(super) domain: ProtectionDomain,
    pub(super) links: Vec<Option<Arc<Link>>>,
    pub(super) engine: Engine,
    pub(super) completions: CompletionQueue,
    pub(super) server: Arc<Server>,
    pub(super) registry: Registry,
    pub(super) first_token: usize,
    pub(super) wake: Arc<Wake>,
    pub(super) hubs_max: usize,
    pub(super) port: Arc<PortCounters>,
}

/// RDMA to peers.
pub(crate) struct VerbsProvider {
    me: NodeIdentity,
    nodes: Vec<NodeIdentity>,
    key: JobKey,
    place: Mutex<Place>,
    shared: Arc<Shared>,
    links: Vec<Option<Arc<Link>>>,
    engine: Mutex<Engine>,
    completions: CompletionQueue,
    server: Arc<Server>,
    exports: Mutex<HashMap<RegionId, MemoryRegion>>,
    domain: ProtectionDomain,
    registry: Registry,
    first_token: usize,
    wake: Arc<Wake>,
    has_cuts: AtomicBool,
    /// What read lanes use, and how many of them there may be.
    hubs: Mutex<Vec<Weak<Hub>>>,
    hubs_max: usize,
    has_shared: AtomicBool,
}

impl VerbsProvider {
    pub(super) fn new(parts: Parts) -> Result<Self, FabricError> {
        let shared = Shared {
            imports: parts.nodes.iter().map(|_| RwLock::default()).collect(),
            counters: Counters::default(),
            lost: parts.nodes.iter().map(|_| OnceLock::new()).collect(),
            message_bytes_max: parts.place.message_bytes_max,
            port: parts.port,
            readers: Mutex::default(),
        };
        let provider = Self {
            me: parts.me,
            nodes: parts.nodes,
            key: parts.key,
            place: Mutex::new(parts.place),
            shared: Arc::new(shared),
            links: parts.links,
            engine: Mutex::new(parts.engine),
            completions: parts.completions,
            server: parts.server,
            exports: Mutex::default(),
            domain: parts.domain,
            registry: parts.registry,
            first_token: parts.first_token,
            wake: parts.wake,
            has_cuts: AtomicBool::new(false),
            hubs: Mutex::default(),
            hubs_max: parts.hubs_max,
            has_shared: AtomicBool::new(false),
        };
        provider.register().map_err(|error| FabricError::Os {
            what: "registering for events".to_owned(),
            reason: error.to_string(),
        })?;
        Ok(provider)
    }

    fn context(&self) -> &Context {
        self.domain.context()
    }

    fn register(&self) -> std::io::Result<()> {
        let add = |fd: i32, token: usize| {
            let token = Token(self.first_token + token);
            self.registry.register(&mut SourceFd(&fd), token, Interest::READABLE)
        };
        add(self.completions.as_fd().as_raw_fd(), TOKEN_COMPLETIONS)?;
        add(self.context().async_fd().as_raw_fd(), TOKEN_DEVICE)?;
        for link in self.links.iter().flatten() {
            add(link.stream.as_raw_fd(), TOKEN_PEERS + link.peer.index())?;
        }
        Ok(())
    }

    fn engine(&self) -> MutexGuard<'_, Engine> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn link(&self, peer: Rank) -> Option<&Arc<Link>> {
        self.links.get(peer.index())?.as_ref()
    }

    /// A peer is cut or lost: neither reads the other any more.
    fn part(&self, link: &Link) {
        let why = link.why.get().cloned().unwrap_or_default();
        self.shared.lose(link.peer, why);
        self.server.refuse(link.peer);
    }

    /// Handles what the device tells by itself.
    fn take_device_events(&self, engine: &mut Engine) {
        let device = self.context().name();
        while let Some(event) = next(self.context()) {
            match event {
                DeviceEvent::PairFailed { number, text } => match engine.link_of(number) {
                    Some(link) => {
                        link.cut(LostReason::Died(format!("{device}: {text}")));
                    }
                    // The READs of a lane, or of a peer, end by themselves with their own status.
                    None => tracing::warn!(device, "a read lane's connection failed: {text}"),
                },
                DeviceEvent::DeviceFailed(text) => {
                    tracing::error!(device, "{text}");
                    for link in self.links.iter().flatten() {
                        link.cut(LostReason::Died(format!("this node's {device}: {text}")));
                    }
                }
                DeviceEvent::Note { port, text, is_bad } => {
                    let port = port.map_or(String::new(), |port| format!("port {port} "));
                    if is_bad {
                        tracing::warn!(device, "{port}{text}");
                    } else {
                        tracing::debug!(device, "{port}{text}");
                    }
                }
            }
        }
        engine.note_cuts();
    }

    /// Opens a lane to the peer of `link`; to one that is going, a lane whose READs fail.
    fn open_channel(
        &self,
        link: &Link,
        place: &Place,
        completions: &CompletionQueue,
    ) -> Result<Channel, FabricError> {
        let deadline = Instant::now() + OFFER_MAX;
        let mut reason = String::new();
        for _ in 0..OFFERS_MAX {
            match self.try_channel(link.peer, place, completions, deadline) {
                Ok(channel) => return Ok(channel),
                Err(Unopened::Fault(error)) => return Err(error),
                Err(Unopened::Gone(why)) => reason = why,
            }
            if link.standing() != Standing::Live || Instant::now() >= deadline {
                break;
            }
            std::thread::sleep(OFFER_PAUSE);
        }
        tracing::warn!(peer = %link.peer, reason, "no read lane to this peer");
        Ok(Channel::broken(format!("it did not serve a read lane: {reason}")))
    }

    /// One attempt at it.
    fn try_channel(
        &self,
        peer: Rank,
        place: &Place,
        completions: &CompletionQueue,
        deadline: Instant,
    ) -> Result<Channel, Unopened> {
        let address = self.nodes[peer.index()].address;
        let gone = |error: std::io::Error| Unopened::Gone(error.to_string());
        let pair =
            QueuePair::new(&self.domain, completions, None, Role::Reader { reads: LANE_DEPTH })
                .map_err(|error| Unopened::Fault(error.into()))?;
        let stream = match call(address, Purpose::Lane, &self.me, &self.key, deadline) {
            Ok(stream) => stream,
            Err(CallError::Absent(why) | CallError::Unreachable(why)) => {
                return Err(Unopened::Gone(why));
            }
            Err(CallError::Complete(why) | CallError::Refused(why)) => {
                return Err(Unopened::Fault(FabricError::Config(format!(
                    "{peer} at {address} refused a read lane: {why}"
                ))));
            }
        };
        let (endpoint, inbox) = (pair.endpoint(place), Inbox::default());
        let offer = Offer { endpoint, is_ethernet: place.is_ethernet, inbox };
        offer.send(&stream).map_err(gone)?;
        let answer = Offer::receive(&stream, deadline).map_err(gone)?;
        pair.connect(place, &answer.endpoint).map_err(|error| Unopened::Fault(error.into()))?;
        let pair = Arc::new(pair);
        self.shared.readers().push((peer, Arc::downgrade(&pair)));
        Ok(Channel::new(pair, stream))
    }

    /// Opens queue pairs for READs, one to each peer.
    fn open_hub(&self) -> Result<Arc<Hub>, FabricError> {
        let place = {
            let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
            place.refresh()?;
            place.clone()
        };
        let peers = self.links.iter().flatten().count();
        let entries = u32::try_from(peers).unwrap_or(u32::MAX).saturating_mul(LANE_DEPTH + 1);
        let entries = entries.min(u32::try_from(place.limits.completions).unwrap_or(u32::MAX));
        let completions = CompletionQueue::new(self.context(), entries)?;
        let memory = allocate(&self.domain, LANE_POOL_BYTES, "lane", Access::Land)?;
        let mut channels: Vec<Option<Channel>> = self.nodes.iter().map(|_| None).collect();
        for link in self.links.iter().flatten() {
            let peer = link.peer;
            if self.shared.lost[peer.index()].get().is_some() {
                continue;
            }
            channels[peer.index()] = Some(self.open_channel(link, &place, &completions)?);
        }
        let lane = VerbsLane::new(Arc::clone(&self.shared), channels, completions.clone(), memory);
        Ok(Hub::new(lane, completions))
    }

    fn tell_sharing(&self) {
        if !self.has_shared.swap(true, Ordering::Relaxed) {
            let peers = self.links.iter().flatten().count();
            tracing::info!(
                "workers share read lanes: {} queue pairs to each of {peers} peers are as many as the budget allows \
                 (STERNA_QUEUE_PAIRS)",
                self.hubs_max
            );
        }
    }
}

/// Pause between two attempts to open a lane.
const OFFER_PAUSE: Duration = Duration::from_millis(20);

/// Why a lane has no way to a peer.
enum Unopened {
    /// The peer does not answer, or is going.
    Gone(String),
    /// This node cannot, or the job is set up wrongly.
    Fault(FabricError),
}

/// Zeroed memory of this node, registered.
pub(super) fn allocate(
    domain: &ProtectionDomain,
    bytes: usize,
    name: &'static str,
    access: Access,
) -> Result<MemoryRegion, FabricError> {
    let rights = if access == Access::PeersWrite { Rights::Write } else { Rights::Read };
    let region = memory::allocate(RegionSpec { name, bytes, rights }, INTERNAL, false)?;
    Ok(MemoryRegion::register(domain, Arc::new(region), access, name)?)
}

impl PeerProvider for VerbsProvider {
    fn kind(&self) -> Provider {
        Provider::Verbs
    }

    fn export(&self, region: &Arc<Region>) -> Result<Option<RemoteAccess>, FabricError> {
        let mut exports = self.exports.lock().unwrap_or_else(PoisonError::into_inner);
        let access = |memory: &MemoryRegion| {
            Some(RemoteAccess { address: memory.address(), key: memory.remote_key() })
        };
        if let Some(known) = exports.get(&region.id()) {
            return Ok(access(known));
        }
        let rights = match region.rights() {
            Rights::Read => Access::PeersRead,
            Rights::Write => Access::PeersWrite,
        };
        let what = format!("{}", region.id());
        let memory = MemoryRegion::register(&self.domain, Arc::clone(region), rights, &what)?;
        let remote = access(&memory);
        exports.insert(region.id(), memory);
        Ok(remote)
    }

    fn import(&self, peer: Rank, token: &RegionToken) -> Result<(), FabricError> {
        let unknown = FabricError::UnknownRegion { peer, region: token.id };
        let regions = self.shared.imports.get(peer.index()).ok_or(unknown)?;
        let import = Import { bytes: token.bytes, address: token.address, key: token.remote_key };
        regions.write().unwrap_or_else(PoisonError::into_inner).insert(token.id, import);
        Ok(())
    }

    fn try_send(&self, to: Rank, parts: &[&[u8]]) -> Result<(), SendError> {
        let Some(link) = self.link(to) else {
            let reason = "it is not reached by RDMA".to_owned();
            return Err(SendError::PeerLost { peer: to, reason });
        };
        let counters = &self.shared.counters;
        match link.try_send(parts) {
            Ok(bytes) => {
                counters.records_sent.fetch_add(1, Ordering::Relaxed);
                counters.record_bytes_sent.fetch_add(bytes as u64, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => {
                if matches!(error, SendError::Full(_)) {
                    counters.sends_full.fetch_add(1, Ordering::Relaxed);
                }
                // Whoever polls delivers the loss.
                if link.standing() == Standing::Cut && !self.has_cuts.swap(true, Ordering::AcqRel) {
                    self.wake.wake();
                }
                Err(error)
            }
        }
    }

    fn poll(
        &self,
        budget: usize,
        ready: &[Token],
        sink: &mut dyn Sink,
    ) -> Result<usize, FabricError> {
        let mut engine = self.engine();
        for token in ready {
            match token.0 - self.first_token {
                TOKEN_COMPLETIONS => engine.announced(),
                TOKEN_DEVICE => self.take_device_events(&mut engine),
                token if token < TOKEN_LANES => {
                    let rank = token - TOKEN_PEERS;
                    let place = engine.peers.iter().position(|peer| peer.link.peer.index() == rank);
                    if let Some(at) = place {
                        engine.hear(at);
                    }
                }
                _ => self.server.announced(token.0),
            }
        }
        if self.has_cuts.swap(false, Ordering::AcqRel) {
            engine.note_cuts();
        }
        let counters = &self.shared.counters;
        let (delivered, worked) =
            engine.poll(budget, counters, sink, &mut |link| self.part(link))?;
        Ok(delivered + usize::from(worked))
    }

    fn arm(&self) -> bool {
        if self.has_cuts.load(Ordering::Acquire) {
            return false;
        }
        self.engine().fall_asleep().unwrap_or(false)
    }

    fn disarm(&self) {}

    fn open_lane(&self) -> Result<Box<dyn ReadLane>, FabricError> {
        // Lanes are opened one at a time: who comes second may share what the first has opened.
        let mut hubs = self.hubs.lock().unwrap_or_else(PoisonError::into_inner);
        hubs.retain(|hub| hub.strong_count() > 0);
        let open: Vec<Arc<Hub>> = hubs.iter().filter_map(Weak::upgrade).collect();
        if open.len() >= self.hubs_max
            && let Some(hub) = open.iter().min_by_key(|hub| hub.taken())
        {
            self.tell_sharing();
            return hub.sit();
        }
        let hub = self.open_hub()?;
        hubs.push(Arc::downgrade(&hub));
        hub.sit()
    }

    fn expel(&self, peer: Rank, reason: &str) {
        let Some(link) = self.link(peer) else { return };
        if link.cut(LostReason::Expelled(reason.to_owned())) {
            self.part(link);
            self.has_cuts.store(true, Ordering::Release);
        }
    }

    fn goodbye(&self) {
        let deadline = Instant::now() + GOODBYE_MAX;
        let mut left: Vec<&Arc<Link>> = self.links.iter().flatten().collect();
        // Nobody else may be polling any more; what comes is kept for who does.
        while !left.is_empty() && Instant::now() < deadline {
            self.engine().note_completions();
            left.retain(|link| match link.depart() {
                None => true,
                Some(records) => {
                    if link.standing() == Standing::Live {
                        say(&link.stream, &goodbye(records));
                    }
                    false
                }
            });
            if !left.is_empty() {
                std::thread::sleep(Duration::from_micros(100));
            }
        }
        for link in left {
            tracing::debug!(peer = %link.peer, "it did not take this node's last records in time");
        }
    }

    fn count(&self, counters: &mut FabricCounters) {
        let from = &self.shared.counters;
        for (to, from) in [
            (&mut counters.records_sent, &from.records_sent),
            (&mut counters.record_bytes_sent, &from.record_bytes_sent),
            (&mut counters.records_received, &from.records_received),
            (&mut counters.record_bytes_received, &from.record_bytes_received),
            (&mut counters.reads, &from.reads),
            (&mut counters.read_bytes, &from.read_bytes),
            (&mut counters.sends_full, &from.sends_full),
        ] {
            *to += from.load(Ordering::Relaxed);
        }
    }
}

/// Says something short over a link's connection, on which nothing else was said.
fn say(mut stream: &TcpStream, bytes: &[u8]) {
    use std::io::Write as _;
    if let Err(error) =
        stream.write_all(bytes).and_then(|()| stream.shutdown(std::net::Shutdown::Write))
    {
        tracing::debug!(%error, "a goodbye was not heard");
    }
}

impl Drop for VerbsProvider {
    fn drop(&mut self) {
        for link in self.links.iter().flatten() {
            let _ = self.registry.deregister(&mut SourceFd(&link.stream.as_raw_fd()));
            link.destroy();
        }
        let completions = self.completions.as_fd().as_raw_fd();
        let device = self.context().async_fd().as_raw_fd();
        for fd in [completions, device] {
            let _ = self.registry.deregister(&mut SourceFd(&fd));
        }
        self.server.close_all();
    }
}
