//! Connects a node to all peers that its RDMA device reaches.
//!
//! Each pair of nodes has an authenticated connection over sockets already. Over it both tell the other
//! their half of a queue pair and of an inbox, connect the queue pair, and say that they are ready. The
//! connection stays: its end is the news that the peer's process has ended.

use std::net::TcpStream;
use std::sync::Arc;
use std::time::Instant;

use mio::Registry;

use super::choose::Place;
use super::completion::CompletionQueue;
use super::counters::PortCounters;
use super::device;
use super::engine::{Engine, Inbound};
use super::link::{Link, LinkParts};
use super::memlock;
use super::memory::{Access, MemoryRegion, ProtectionDomain};
use super::offer::{Inbox, Offer, receive_ready, send_ready};
use super::provider::{Parts, TOKEN_LANES, VerbsProvider, allocate};
use super::queue_pair::{QueuePair, Role};
use super::receive_queue::SharedQueue;
use super::ring::INBOX_BYTES;
use super::serve::Server;
use super::share::PairBudget;
use super::tuning::{ACTIVE_PAIRS_ADVISED, Sizes};
use crate::error::FabricError;
use crate::join::doorkeeper::Arrivals;
use crate::join::identity::NodeIdentity;
use crate::join::proof::{JobKey, Purpose};
use crate::rank::Rank;
use crate::tcp::socket;
use crate::tuning::RING_BYTES;
use crate::wake::Wake;

/// What a provider has to know.
pub(crate) struct VerbsConfig<'a> {
    /// This node.
    pub(crate) me: &'a NodeIdentity,
    /// All nodes by rank.
    pub(crate) nodes: &'a [NodeIdentity],
    pub(crate) key: &'a JobKey,
    /// Peers that the device reaches, with their connections.
    pub(crate) links: Vec<(Rank, TcpStream)>,
    /// Later connections of peers: lanes.
    pub(crate) arrivals: &'a Arrivals,
    /// Where this node's queue pairs are to be.
    pub(crate) place: &'a Place,
    pub(crate) registry: Registry,
    /// The first of the provider's mio tokens.
    pub(crate) first_token: usize,
    pub(crate) wake: Arc<Wake>,
    pub(crate) deadline: Instant,
}

/// A link in the making.
struct Half {
    peer: Rank,
    stream: TcpStream,
    pair: QueuePair,
    inbox: Arc<MemoryRegion>,
    mirror: MemoryRegion,
}

impl VerbsProvider {
    /// Connects to all peers of `config`.
    ///
    /// # Errors
    /// [`FabricError::PeerLost`] with the peer that does not answer, [`FabricError::Verbs`] for faults of
    /// this node and its device.
    pub(crate) fn connect(config: VerbsConfig<'_>) -> Result<Self, FabricError> {
        let mut place = config.place.clone();
        place.refresh()?;
        let peers = config.links.len();
        let budget =
            PairBudget::new(place.pairs_wished, place.limits.queue_pairs, ACTIVE_PAIRS_ADVISED);
        let hubs_max = budget.hubs(peers, &place.device)?;
        if 3 * peers as u64 > budget.pairs {
            tracing::warn!(
                "{peers} peers take {} queue pairs; devices slow down above about {}: use fewer, larger nodes",
                3 * peers,
                budget.pairs
            );
        }
        let sizes = Sizes::fit(&place.limits, peers, &place.device)?;
        memlock::check(
            (peers * (INBOX_BYTES + RING_BYTES)) as u64,
            &format!("rings of {peers} peers"),
        )?;
        let context = device::open(&place.device)?;
        let domain = ProtectionDomain::new(&context)?;
        let completions = CompletionQueue::new(&context, sizes.completions)?;
        let receives = SharedQueue::new(&domain, sizes.shared)?;
        let server_registry = config.registry.try_clone().map_err(|error| FabricError::Os {
            what: "sharing the event queue".to_owned(),
            reason: error.to_string(),
        })?;
        let first_lane = config.first_token + TOKEN_LANES;
        let server = Arc::new(Server::new(place.clone(), &domain, server_registry, first_lane)?);
        // Before any peer can be done and call.
        let reached: Vec<Rank> = config.links.iter().map(|(peer, _)| *peer).collect();
        let door = Arc::clone(&server);
        config.arrivals.divert(Box::new(move |admitted| {
            if admitted.purpose() != Purpose::Lane || !reached.contains(&admitted.node.rank) {
                return Some(admitted);
            }
            door.admit(admitted);
            None
        }));

        let role = Role::Link { sends: sizes.send };
        let mut halves = Vec::with_capacity(peers);
        for (peer, stream) in config.links {
            let half = Half {
                peer,
                stream,
                pair: QueuePair::new(&domain, &completions, Some(&receives), role)?,
                inbox: Arc::new(allocate(&domain, INBOX_BYTES, "inbox", Access::PeersWrite)?),
                mirror: allocate(&domain, RING_BYTES, "mirror", Access::Send)?,
            };
            half.offer(&place, &sizes).send(&half.stream).map_err(|error| half.lost(&error))?;
            halves.push(half);
        }
        let mut inboxes = Vec::with_capacity(peers);
        for half in &halves {
            inboxes.push(half.accept(&place, config.deadline)?);
        }
        let mut links: Vec<Option<Arc<Link>>> = config.nodes.iter().map(|_| None).collect();
        let mut inbound = Vec::with_capacity(peers);
        for (half, to) in halves.into_iter().zip(inboxes) {
            receive_ready(&half.stream, config.deadline).map_err(|error| half.lost(&error))?;
            // As a link over sockets: a host that vanishes is noticed although nobody says anything.
            socket::prepare(&half.stream).map_err(|error| half.lost(&error))?;
            let at = half.peer.index();
            let link = Arc::new(Link::new(LinkParts {
                peer: half.peer,
                pair: half.pair,
                stream: half.stream,
                inbox: half.inbox,
                mirror: half.mirror,
                to,
                message_bytes_max: place.message_bytes_max,
                sizes,
            }));
            inbound.push(Inbound::new(Arc::clone(&link)));
            links[at] = Some(link);
        }
        let port = Arc::new(PortCounters::new(&place.device, place.port));
        let engine = Engine::new(completions.clone(), receives, sizes, inbound, Arc::clone(&port));
        Self::new(Parts {
            me: config.me.clone(),
            nodes: config.nodes.to_vec(),
            key: config.key.clone(),
            place,
            domain,
            links,
            engine,
            completions,
            server,
            registry: config.registry,
            first_token: config.first_token,
            wake: config.wake,
            hubs_max,
            port,
        })
    }
}

impl Half {
    fn offer(&self, place: &Place, sizes: &Sizes) -> Offer {
        Offer {
            endpoint: self.pair.endpoint(place),
            is_ethernet: place.is_ethernet,
            inbox: Inbox {
                address: self.inbox.address(),
                key: self.inbox.remote_key(),
                records: sizes.records,
                ring_bytes: RING_BYTES as u64,
            },
        }
    }

    /// Takes the peer's half, connects, and says so. Returns the peer's inbox.
    fn accept(&self, place: &Place, deadline: Instant) -> Result<Inbox, FabricError> {
        let theirs = Offer::receive(&self.stream, deadline).map_err(|error| self.lost(&error))?;
        let unfit =
            |why: &str| Err(FabricError::PeerLost { peer: self.peer, reason: why.to_owned() });
        if theirs.is_ethernet != place.is_ethernet {
            return unfit(
                "its port is in another kind of network (Ethernet, InfiniBand): use --device at \
                          one of the nodes, or --fabric tcp",
            );
        }
        if theirs.inbox.ring_bytes != RING_BYTES as u64 || theirs.inbox.records == 0 {
            return unfit("its rings have another size: use one build at all nodes");
        }
        self.pair.connect(place, &theirs.endpoint)?;
        send_ready(&self.stream).map_err(|error| self.lost(&error))?;
        Ok(theirs.inbox)
    }

    fn lost(&self, error: &std::io::Error) -> FabricError {
        FabricError::PeerLost { peer: self.peer, reason: format!("connecting to it: {error}") }
    }
}
