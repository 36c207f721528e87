//! The fabric of a job: each peer is reached by one provider, all providers share one poll.
//!
//! A job of one node has no providers, no sockets and no threads. With peers there is one thread,
//! asleep, that keeps the door (`join`); everything else runs in the threads that call.
//!
//! A thread sleeps on the kernel's event queue itself, without holding it, so that another thread
//! may poll meanwhile: what that one takes it also handles, and what it leaves wakes the sleeper.

mod lane;
mod links;
mod routes;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mio::{Events, Poll, Token};

use crate::config::FabricConfig;
use crate::error::{FabricError, SendError};
use crate::fabric::{Fabric, FabricCounters, Provider, ReadLane, Sink};
use crate::join::doorkeeper::Doorkeeper;
use crate::join::proof::JobKey;
use crate::join::rendezvous::{Joined, join};
use crate::memory;
use crate::provider::{PeerProvider, RemoteAccess};
use crate::rank::Rank;
use crate::region::{Region, RegionId, RegionSpec, RegionToken};
use crate::shm::{ShmConfig, ShmPeer, ShmProvider};
use crate::strangers::Strangers;
use crate::tcp::{TcpParts, TcpProvider};
use crate::verbs::{VerbsConfig, VerbsProvider};
use crate::wake::Wake;
use lane::JobLane;

/// Events that are taken from the system at once; more wait there.
const EVENTS: usize = 256;

/// Mio tokens of one provider.
const TOKENS_EACH: usize = 1 << 24;

/// Without sockets, the system is asked for events with every this many polls: what comes by memory
/// needs no event.
const POLLS_PER_EVENTS: u32 = 16;

/// Joins the job that `config` describes.
///
/// # Errors
/// [`FabricError::Config`] for a set-up that cannot work, [`FabricError::JoinTimeout`] naming who is
/// missing, [`FabricError::Os`] for faults of this node.
pub fn open(config: FabricConfig) -> Result<Arc<dyn Fabric>, FabricError> {
    Ok(Arc::new(JobFabric::open(config)?))
}

/// What the system has announced; only one thread at a time polls.
struct Announced {
    poll: Poll,
    events: Events,
    /// Per provider.
    ready: Vec<Vec<Token>>,
    polls_until_events: u32,
}

/// A job's fabric.
pub struct JobFabric {
    rank: Rank,
    size: usize,
    kinds: Vec<Option<Provider>>,
    /// By rank: which of `providers`.
    routes: Arc<[Option<usize>]>,
    providers: Vec<Box<dyn PeerProvider>>,
    /// `None` in a job of one node.
    announced: Option<Mutex<Announced>>,
    /// The kernel's event queue, to sleep on without the lock.
    queue: Option<OwnedFd>,
    wake: Arc<Wake>,
    parked: AtomicUsize,
    parks: AtomicU64,
    next_region: AtomicU32,
    key: JobKey,
    strangers: Arc<Strangers>,
    description: String,
    /// Held for its drop: new connections end with the fabric.
    _doorkeeper: Option<Doorkeeper>,
}

impl JobFabric {
    /// As [`open`].
    ///
    /// # Errors
    /// As [`open`].
    pub fn open(mut config: FabricConfig) -> Result<Self, FabricError> {
        config.check()?;
        if config.size == 1 {
            return Self::single();
        }
        let joined = join(&mut config)?;
        let kinds = routes::decide(&joined.me, &joined.nodes)?;
        let description = routes::describe(&joined.me, &joined.nodes, &kinds, &joined.rdma);
        tracing::info!("{description}");
        let failed = |error: std::io::Error| FabricError::Os {
            what: "creating an event queue".to_owned(),
            reason: error.to_string(),
        };
        let poll = Poll::new().map_err(failed)?;
        // SAFETY: `poll` is alive, so its descriptor is open while it is duplicated.
        let queue = unsafe { BorrowedFd::borrow_raw(poll.as_raw_fd()) };
        let queue = queue.try_clone_to_owned().map_err(failed)?;
        let wake = Arc::new(Wake::new()?);
        let providers = connect(&joined, &kinds, &poll, &wake)?;
        let routes = kinds
            .iter()
            .map(|kind| providers.iter().position(|provider| Some(provider.kind()) == *kind))
            .collect();
        let announced = Announced {
            poll,
            events: Events::with_capacity(EVENTS),
            ready: providers.iter().map(|_| Vec::new()).collect(),
            polls_until_events: 0,
        };
        Ok(Self {
            rank: config.rank,
            size: config.size,
            kinds,
            routes,
            providers,
            announced: Some(Mutex::new(announced)),
            queue: Some(queue),
            wake,
            parked: AtomicUsize::new(0),
            parks: AtomicU64::new(0),
            next_region: AtomicU32::new(0),
            key: joined.key,
            strangers: joined.strangers,
            description,
            _doorkeeper: Some(joined.doorkeeper),
        })
    }

    /// A job of one node.
    fn single() -> Result<Self, FabricError> {
        Ok(Self {
            rank: Rank(0),
            size: 1,
            kinds: vec![None],
            routes: [None].into(),
            providers: Vec::new(),
            announced: None,
            queue: None,
            wake: Arc::new(Wake::new()?),
            parked: AtomicUsize::new(0),
            parks: AtomicU64::new(0),
            next_region: AtomicU32::new(0),
            key: JobKey::new(""),
            strangers: Arc::default(),
            description: "one node, no peers".to_owned(),
            _doorkeeper: None,
        })
    }

    fn route(&self, peer: Rank) -> Option<&dyn PeerProvider> {
        let at = (*self.routes.get(peer.index())?)?;
        Some(self.providers[at].as_ref())
    }

    fn lock(announced: &Mutex<Announced>) -> MutexGuard<'_, Announced> {
        announced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What makes a token ours: nobody without the job's token can compute it.
    fn tag(&self, owner: Rank, token: &RegionToken) -> u64 {
        let untagged = RegionToken { key: 0, ..*token };
        self.key.tag(&[b"region", &owner.0.to_le_bytes(), &untagged.to_bytes()])
    }

    /// Asks the system what has happened and sorts it by provider.
    fn take_events(&self, announced: &mut Announced) -> Result<(), FabricError> {
        let needs_events = self.providers.iter().any(|provider| provider.kind() == Provider::Tcp);
        if !needs_events && announced.polls_until_events > 0 {
            announced.polls_until_events -= 1;
            return Ok(());
        }
        announced.polls_until_events = POLLS_PER_EVENTS;
        match announced.poll.poll(&mut announced.events, Some(Duration::ZERO)) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => {
                return Err(FabricError::Os {
                    what: "asking for events".to_owned(),
                    reason: error.to_string(),
                });
            }
        }
        for event in &announced.events {
            let at = event.token().0 / TOKENS_EACH;
            if event.is_read_closed() || event.is_write_closed() || event.is_error() {
                self.providers[at].closed(event.token());
            }
            announced.ready[at].push(event.token());
        }
        Ok(())
    }

    /// Asks all providers for a wake-up; false if something is to be done first.
    fn arm(&self) -> bool {
        // All of them, also after one has said no.
        self.providers.iter().filter(|provider| !provider.arm()).count() == 0
    }
}

/// Sets up the providers that `kinds` needs, those by memory first.
fn connect(
    joined: &Joined,
    kinds: &[Option<Provider>],
    poll: &Poll,
    wake: &Arc<Wake>,
) -> Result<Vec<Box<dyn PeerProvider>>, FabricError> {
    let registry = || {
        poll.registry().try_clone().map_err(|error| FabricError::Os {
            what: "sharing the event queue".to_owned(),
            reason: error.to_string(),
        })
    };
    let mut providers: Vec<Box<dyn PeerProvider>> = Vec::new();
    let shm: Vec<ShmPeer> = joined
        .nodes
        .iter()
        .filter(|node| kinds[node.rank.index()] == Some(Provider::Shm))
        .map(|node| ShmPeer { rank: node.rank, incarnation: node.incarnation })
        .collect();
    if !shm.is_empty() {
        providers.push(Box::new(ShmProvider::connect(&ShmConfig {
            rank: joined.me.rank,
            incarnation: joined.me.incarnation,
            peers: &shm,
            key: &joined.key,
            registry: poll.registry(),
            first_token: providers.len() * TOKENS_EACH,
            deadline: joined.connect_deadline(),
        })?));
    }
    let is_rdma = |peer: &Rank| kinds[peer.index()] == Some(Provider::Verbs);
    let (rdma, links) = links::connect(joined, kinds)?
        .into_iter()
        .partition::<Vec<_>, _>(|(peer, _)| is_rdma(peer));
    if let (false, Ok(place)) = (rdma.is_empty(), &joined.rdma) {
        providers.push(Box::new(VerbsProvider::connect(VerbsConfig {
            me: &joined.me,
            nodes: &joined.nodes,
            key: &joined.key,
            links: rdma,
            arrivals: joined.doorkeeper.arrivals(),
            place,
            registry: registry()?,
            first_token: providers.len() * TOKENS_EACH,
            wake: Arc::clone(wake),
            deadline: joined.connect_deadline(),
        })?));
    }
    if kinds.contains(&Some(Provider::Tcp)) {
        joined.doorkeeper.arrivals().notify(Arc::clone(wake));
        providers.push(Box::new(TcpProvider::new(TcpParts {
            me: joined.me.clone(),
            nodes: joined.nodes.clone(),
            key: joined.key.clone(),
            links,
            arrivals: Arc::clone(joined.doorkeeper.arrivals()),
            strangers: Arc::clone(&joined.strangers),
            registry: registry()?,
            first_token: providers.len() * TOKENS_EACH,
        })?));
    }
    Ok(providers)
}

impl Fabric for JobFabric {
    fn rank(&self) -> Rank {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn provider(&self, peer: Rank) -> Provider {
        self.kinds.get(peer.index()).copied().flatten().unwrap_or(Provider::Shm)
    }

    fn allocate(&self, spec: RegionSpec) -> Result<Arc<Region>, FabricError> {
        let id = RegionId(self.next_region.fetch_add(1, Ordering::Relaxed));
        let shared = self.kinds.contains(&Some(Provider::Shm));
        memory::allocate(spec, id, shared).map(Arc::new)
    }

    fn export(&self, region: &Arc<Region>) -> Result<RegionToken, FabricError> {
        let mut remote = RemoteAccess::default();
        for provider in &self.providers {
            remote = provider.export(region)?.unwrap_or(remote);
        }
        let mut token = RegionToken {
            id: region.id(),
            bytes: region.bytes() as u64,
            key: 0,
            remote_key: remote.key,
            address: remote.address,
        };
        token.key = self.tag(self.rank, &token);
        Ok(token)
    }

    fn import(&self, peer: Rank, token: &RegionToken) -> Result<(), FabricError> {
        let provider = self
            .route(peer)
            .filter(|_| token.key == self.tag(peer, token))
            .ok_or(FabricError::UnknownRegion { peer, region: token.id })?;
        provider.import(peer, token)
    }

    fn try_send(&self, to: Rank, parts: &[&[u8]]) -> Result<(), SendError> {
        match self.route(to) {
            Some(provider) => provider.try_send(to, parts),
            None => Err(SendError::PeerLost {
                peer: to,
                reason: "it is no peer of this node".to_owned(),
            }),
        }
    }

    fn poll(&self, budget: usize, sink: &mut dyn Sink) -> Result<usize, FabricError> {
        let Some(announced) = &self.announced else { return Ok(0) };
        let mut announced = Self::lock(announced);
        self.take_events(&mut announced)?;
        let mut done = 0;
        for (provider, ready) in self.providers.iter().zip(&mut announced.ready) {
            done += provider.poll(budget.saturating_sub(done), ready, sink)?;
            ready.clear();
        }
        // Who sleeps must not sleep through what this call has left undone.
        if self.parked.load(Ordering::Relaxed) > 0 && !self.arm() {
            self.wake.wake();
        }
        Ok(done)
    }

    fn park(&self, limit: Duration) -> Result<(), FabricError> {
        self.parks.fetch_add(1, Ordering::Relaxed);
        let Some(announced) = &self.announced else { return self.wake.sleep(None, limit) };
        let is_idle = {
            let mut announced = Self::lock(announced);
            announced.polls_until_events = 0;
            self.parked.fetch_add(1, Ordering::Relaxed);
            self.arm()
        };
        let slept = if is_idle {
            self.wake.sleep(self.queue.as_ref().map(AsFd::as_fd), limit)
        } else {
            Ok(())
        };
        let _announced = Self::lock(announced);
        if self.parked.fetch_sub(1, Ordering::Relaxed) == 1 {
            for provider in &self.providers {
                provider.disarm();
            }
        }
        slept
    }

    fn wake(&self) {
        self.wake.wake();
    }

    fn open_lane(&self) -> Result<Box<dyn ReadLane>, FabricError> {
        let mut lanes = Vec::with_capacity(self.providers.len());
        for provider in &self.providers {
            lanes.push(provider.open_lane()?);
        }
        let kinds = self.providers.iter().map(|provider| provider.kind());
        let instant = kinds.take_while(|kind| *kind == Provider::Shm).count();
        Ok(Box::new(JobLane::new(lanes, instant, Arc::clone(&self.routes))))
    }

    fn expel(&self, peer: Rank, reason: &str) {
        if let Some(provider) = self.route(peer) {
            provider.expel(peer, reason);
            self.wake.wake();
        }
    }

    fn goodbye(&self) {
        for provider in &self.providers {
            provider.goodbye();
        }
    }

    fn describe(&self) -> String {
        self.description.clone()
    }

    fn counters(&self) -> FabricCounters {
        let mut counters = FabricCounters {
            parks: self.parks.load(Ordering::Relaxed),
            strangers_refused: self.strangers.count(),
            ..FabricCounters::default()
        };
        for provider in &self.providers {
            provider.count(&mut counters);
        }
        counters
    }
}
