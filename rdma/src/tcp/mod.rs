//! Peers reached by sockets.
//!
//! Each pair of nodes has one connection for records, its [`link`]. Each read lane has a connection
//! of its own to each peer, served by the peer's engine when that polls ([`serve`]), so a link that
//! has no credit never holds up READs. Everything is non-blocking and announced by edges: a socket
//! that was read short is empty, and is not read again before it says so.
//!
//! A process that dies closes its sockets; what it sent before is delivered first, then its loss,
//! once. A goodbye frame makes it an orderly leave.

mod engine;
mod frame;
mod lane;
mod limits;
mod link;
mod request;
mod serve;
pub(crate) mod socket;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io::Read as _;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use mio::{Interest, Registry, Token};

use crate::error::{FabricError, SendError};
use crate::fabric::{FabricCounters, LostReason, Provider, ReadLane, Sink};
use crate::join::call::{CallError, call_patiently};
use crate::join::doorkeeper::Arrivals;
use crate::join::identity::NodeIdentity;
use crate::join::proof::{JobKey, Purpose};
use crate::provider::{PeerProvider, RemoteAccess};
use crate::rank::Rank;
use crate::region::{Region, RegionId, RegionToken};
use crate::strangers::Strangers;
use crate::wake;
use engine::{Engine, Inbound, mark};
use frame::FrameBuffer;
use lane::TcpLane;
use limits::{CALL_MAX, GOODBYE_MAX, INBOX_BYTES};
use link::{Link, retry};
use serve::Exports;

/// Sizes of peers' regions that this node may read.
struct Imports {
    peers: Vec<RwLock<HashMap<RegionId, u64>>>,
}

impl Imports {
    fn bytes(&self, peer: Rank, region: RegionId) -> Option<u64> {
        let regions = self.peers.get(peer.index())?;
        regions.read().unwrap_or_else(PoisonError::into_inner).get(&region).copied()
    }
}

#[derive(Default)]
struct Counters {
    records_sent: AtomicU64,
    record_bytes_sent: AtomicU64,
    records_received: AtomicU64,
    record_bytes_received: AtomicU64,
    reads: AtomicU64,
    read_bytes: AtomicU64,
    reads_served: AtomicU64,
    sends_full: AtomicU64,
}

/// What lanes share with their provider.
struct Shared {
    imports: Imports,
    exports: Exports,
    counters: Counters,
    /// Why peers are lost, by rank; set before the loss is reported.
    lost: Vec<OnceLock<String>>,
}

/// What a provider is made of.
pub(crate) struct TcpParts {
    /// This node.
    pub(crate) me: NodeIdentity,
    /// All nodes by rank.
    pub(crate) nodes: Vec<NodeIdentity>,
    pub(crate) key: JobKey,
    /// Peers that sockets reach, with the connections that are their links.
    pub(crate) links: Vec<(Rank, TcpStream)>,
    /// Later connections of peers: lanes.
    pub(crate) arrivals: Arc<Arrivals>,
    pub(crate) strangers: Arc<Strangers>,
    pub(crate) registry: Registry,
    /// The first of the provider's mio tokens.
    pub(crate) first_token: usize,
}

/// Reaches peers by sockets.
pub(crate) struct TcpProvider {
    me: NodeIdentity,
    nodes: Vec<NodeIdentity>,
    key: JobKey,
    shared: Arc<Shared>,
    links: Vec<Option<Arc<Link>>>,
    engine: Mutex<Engine>,
    arrivals: Arc<Arrivals>,
    strangers: Arc<Strangers>,
    registry: Registry,
    first_token: usize,
    expelled: Mutex<Vec<(Rank, String)>>,
    has_expelled: AtomicBool,
    said_goodbye: AtomicBool,
}

impl TcpProvider {
    pub(crate) fn new(parts: TcpParts) -> Result<Self, FabricError> {
        let TcpParts { me, nodes, key, links: streams, arrivals, strangers, registry, first_token } =
            parts;
        let mut links: Vec<Option<Arc<Link>>> = nodes.iter().map(|_| None).collect();
        let mut inbound: Vec<Option<Inbound>> = nodes.iter().map(|_| None).collect();
        for (peer, stream) in streams {
            let failed = |error: std::io::Error| FabricError::Os {
                what: format!("preparing the link to {peer}"),
                reason: error.to_string(),
            };
            socket::prepare(&stream).map_err(failed)?;
            let mut stream = mio::net::TcpStream::from_std(stream);
            let token = Token(first_token + peer.index());
            let interest = Interest::READABLE | Interest::WRITABLE;
            registry.register(&mut stream, token, interest).map_err(failed)?;
            let link = Arc::new(Link::new(peer, stream));
            links[peer.index()] = Some(Arc::clone(&link));
            inbound[peer.index()] = Some(Inbound {
                link,
                frames: FrameBuffer::new(INBOX_BYTES),
                readable: false,
                ending: false,
                ended: None,
                reported: false,
                flush_due: false,
                credit_due: false,
            });
        }
        let shared = Arc::new(Shared {
            imports: Imports { peers: nodes.iter().map(|_| RwLock::default()).collect() },
            exports: Exports::default(),
            counters: Counters::default(),
            lost: nodes.iter().map(|_| OnceLock::new()).collect(),
        });
        let engine = Engine {
            links: inbound,
            lanes: Vec::new(),
            busy_links: Vec::new(),
            busy_lanes: Vec::new(),
        };
        Ok(Self {
            me,
            nodes,
            key,
            shared,
            links,
            engine: Mutex::new(engine),
            arrivals,
            strangers,
            registry,
            first_token,
            expelled: Mutex::default(),
            has_expelled: AtomicBool::new(false),
            said_goodbye: AtomicBool::new(false),
        })
    }

    fn engine(&self) -> MutexGuard<'_, Engine> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn link(&self, peer: Rank) -> Option<&Arc<Link>> {
        self.links.get(peer.index())?.as_ref()
    }
}

impl PeerProvider for TcpProvider {
    fn kind(&self) -> Provider {
        Provider::Tcp
    }

    fn export(&self, region: &Arc<Region>) -> Result<Option<RemoteAccess>, FabricError> {
        self.shared.exports.add(region);
        Ok(None)
    }

    fn import(&self, peer: Rank, token: &RegionToken) -> Result<(), FabricError> {
        let unknown = FabricError::UnknownRegion { peer, region: token.id };
        let regions = self.shared.imports.peers.get(peer.index()).ok_or(unknown)?;
        let mut regions = regions.write().unwrap_or_else(PoisonError::into_inner);
        regions.insert(token.id, token.bytes);
        Ok(())
    }

    fn try_send(&self, to: Rank, parts: &[&[u8]]) -> Result<(), SendError> {
        let lost = |reason: &str| SendError::PeerLost { peer: to, reason: reason.to_owned() };
        let link = self.link(to).ok_or_else(|| lost("it is not reached by sockets"))?;
        if let Some(reason) = self.shared.lost[to.index()].get() {
            return Err(lost(reason));
        }
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
        let engine = &mut *engine;
        if !self.arrivals.is_empty() {
            while let Some(admitted) = self.arrivals.take() {
                self.adopt(engine, admitted);
            }
        }
        for token in ready {
            self.note(engine, *token, false);
        }
        // READs first: somebody waits for each of them.
        let mut worked = self.serve(engine);
        let mut delivered = 0;
        if self.has_expelled.swap(false, Ordering::AcqRel) {
            let expelled =
                std::mem::take(&mut *self.expelled.lock().unwrap_or_else(PoisonError::into_inner));
            for (peer, reason) in expelled {
                self.lose(engine, peer.index(), LostReason::Expelled(reason), sink);
                delivered += 1;
            }
        }
        if !engine.busy_links.is_empty() {
            worked = true;
            let busy = std::mem::take(&mut engine.busy_links);
            for at in busy {
                if delivered >= budget {
                    mark(&mut engine.busy_links, at);
                } else {
                    delivered += self.work(engine, at, budget - delivered, sink);
                }
            }
        }
        Ok(delivered + usize::from(worked))
    }

    fn closed(&self, token: Token) {
        self.note(&mut self.engine(), token, true);
    }

    fn arm(&self) -> bool {
        let engine = self.engine();
        engine.busy_links.is_empty()
            && engine.busy_lanes.is_empty()
            && self.arrivals.is_empty()
            && !self.has_expelled.load(Ordering::Acquire)
    }

    fn disarm(&self) {}

    fn open_lane(&self) -> Result<Box<dyn ReadLane>, FabricError> {
        let mut streams: Vec<Option<TcpStream>> = self.nodes.iter().map(|_| None).collect();
        for link in self.links.iter().flatten() {
            let peer = link.peer;
            if self.shared.lost[peer.index()].get().is_some() {
                continue;
            }
            let address = self.nodes[peer.index()].address;
            let deadline = Instant::now() + CALL_MAX;
            let lost = || self.shared.lost[peer.index()].get().is_some();
            match call_patiently(address, Purpose::Lane, &self.me, &self.key, deadline, lost) {
                Ok(stream) => {
                    socket::prepare(&stream).map_err(|error| FabricError::Os {
                        what: format!("preparing a read lane to {peer}"),
                        reason: error.to_string(),
                    })?;
                    streams[peer.index()] = Some(stream);
                }
                // The link's end will say why; READs to it fail meanwhile.
                Err(CallError::Absent(why) | CallError::Unreachable(why)) => {
                    tracing::warn!(%peer, why, "no read lane to this peer");
                }
                Err(CallError::Complete(why) | CallError::Refused(why)) => {
                    return Err(FabricError::Config(format!(
                        "{peer} at {address} refused a read lane: {why}"
                    )));
                }
            }
        }
        Ok(Box::new(TcpLane::new(Arc::clone(&self.shared), streams)))
    }

    fn expel(&self, peer: Rank, reason: &str) {
        let Some(link) = self.link(peer) else { return };
        if self.shared.lost[peer.index()].set(reason.to_owned()).is_ok() {
            link.close();
            let mut expelled = self.expelled.lock().unwrap_or_else(PoisonError::into_inner);
            expelled.push((peer, reason.to_owned()));
            self.has_expelled.store(true, Ordering::Release);
        }
    }

    fn goodbye(&self) {
        self.said_goodbye.store(true, Ordering::Relaxed);
        let deadline = Instant::now() + GOODBYE_MAX;
        let mut left: Vec<&Arc<Link>> = self
            .links
            .iter()
            .flatten()
            .filter(|link| self.shared.lost[link.peer.index()].get().is_none())
            .collect();
        loop {
            left.retain(|link| !link.goodbye());
            let time = deadline.saturating_duration_since(Instant::now());
            if left.is_empty() || time.is_zero() {
                return;
            }
            let mut fds: Vec<libc::pollfd> = left
                .iter()
                .map(|link| wake::pollfd(link.stream.as_raw_fd(), libc::POLLOUT))
                .collect();
            if wake::poll(&mut fds, time.min(Duration::from_millis(100))).is_err() {
                return;
            }
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
            (&mut counters.reads_served, &from.reads_served),
            (&mut counters.sends_full, &from.sends_full),
        ] {
            *to += from.load(Ordering::Relaxed);
        }
    }
}

impl Drop for TcpProvider {
    fn drop(&mut self) {
        // Closing a socket with received bytes unread would tell the peer that the connection
        // broke, which may overtake the goodbye.
        if self.said_goodbye.load(Ordering::Relaxed) {
            let mut scrap = [0; 4096];
            for link in self.links.iter().flatten() {
                for _ in 0..1024 {
                    match retry(|| (&link.stream).read(&mut scrap)) {
                        Ok(count) if count > 0 => {}
                        _ => break,
                    }
                }
            }
        }
    }
}
