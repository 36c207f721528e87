//! Nodes for the tests: each a provider and its poll, several in one process.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::error::FabricError;
use crate::fabric::{FabricCounters, LostReason, Sink};
use crate::join::proof::JobKey;
use crate::memory;
use crate::provider::PeerProvider;
use crate::rank::Rank;
use crate::region::{Region, RegionId, RegionSpec, RegionToken, Rights};
use crate::shm::{ShmConfig, ShmPeer, ShmProvider};

/// No wait of a test is longer; a machine may be very busy.
pub(super) const LIMIT: Duration = Duration::from_secs(120);

/// The first token that the tests give away.
pub(super) const FIRST_TOKEN: usize = 40;

/// A key that no other test of this run has: names of sockets are global.
pub(super) fn new_key() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("test {} {}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The incarnation that rank `rank` has in tests.
pub(super) fn incarnation(rank: usize) -> u64 {
    0xabcd_0000 + rank as u64
}

/// What a node has received.
#[derive(Default)]
pub(super) struct Inbox {
    pub(super) records: VecDeque<(Rank, Vec<u8>)>,
    pub(super) lost: Vec<(Rank, LostReason)>,
}

impl Sink for Inbox {
    fn record(&mut self, from: Rank, record: &[u8]) {
        assert!(self.lost.iter().all(|(lost, _)| *lost != from), "a record after the loss");
        self.records.push_back((from, record.to_vec()));
    }

    fn peer_lost(&mut self, peer: Rank, reason: LostReason) {
        assert!(self.lost.iter().all(|(lost, _)| *lost != peer), "{peer} was lost twice");
        self.lost.push((peer, reason));
    }
}

/// A node.
pub(super) struct Node {
    pub(super) rank: Rank,
    pub(super) provider: ShmProvider,
    poll: mio::Poll,
    events: mio::Events,
    ready: Vec<mio::Token>,
    pub(super) inbox: Inbox,
}

impl Node {
    /// Joins as `rank` of `size`.
    pub(super) fn join(
        key: &str,
        rank: usize,
        size: usize,
        limit: Duration,
    ) -> Result<Self, FabricError> {
        let poll = mio::Poll::new().expect("an epoll");
        let peers: Vec<ShmPeer> = (0..size)
            .filter(|&peer| peer != rank)
            .map(|peer| ShmPeer { rank: Rank::from_index(peer), incarnation: incarnation(peer) })
            .collect();
        let rank_of = Rank::from_index(rank);
        let provider = ShmProvider::connect(&ShmConfig {
            rank: rank_of,
            incarnation: incarnation(rank),
            peers: &peers,
            key: &JobKey::new(key),
            registry: poll.registry(),
            first_token: FIRST_TOKEN,
            deadline: Instant::now() + limit,
        })?;
        let events = mio::Events::with_capacity(16);
        let inbox = Inbox::default();
        Ok(Self { rank: rank_of, provider, poll, events, ready: Vec::new(), inbox })
    }

    /// Polls once without waiting.
    pub(super) fn step(&mut self) -> usize {
        self.collect(Duration::ZERO);
        let delivered =
            self.provider.poll(256, &self.ready, &mut self.inbox).expect("no fault here");
        self.ready.clear();
        delivered
    }

    /// Sleeps as an engine does, then polls.
    pub(super) fn park_and_step(&mut self, limit: Duration) {
        if self.provider.arm() {
            self.collect(limit);
        }
        self.provider.disarm();
        self.step();
    }

    /// Steps until `done`, sleeping in between.
    pub(super) fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + LIMIT;
        while !done(self) {
            let now = Instant::now();
            assert!(now < deadline, "{} waited too long: {what}", self.rank);
            if self.step() == 0 {
                self.park_and_step(deadline - now);
            }
        }
    }

    /// The next record.
    pub(super) fn receive(&mut self) -> (Rank, Vec<u8>) {
        self.until("a record", |node| !node.inbox.records.is_empty());
        self.inbox.records.pop_front().expect("there is one")
    }

    /// Why `peer` was lost, once it is.
    pub(super) fn loss_of(&mut self, peer: usize) -> LostReason {
        let peer = Rank::from_index(peer);
        self.until("a loss", |node| node.inbox.lost.iter().any(|(lost, _)| *lost == peer));
        let found = self.inbox.lost.iter().find(|(lost, _)| *lost == peer);
        found.expect("it was found").1.clone()
    }

    pub(super) fn send(&self, to: usize, record: &[u8]) {
        self.provider.try_send(Rank::from_index(to), &[record]).expect("room and a live peer");
    }

    pub(super) fn counters(&self) -> FabricCounters {
        let mut counters = FabricCounters::default();
        self.provider.count(&mut counters);
        counters
    }

    /// New memory, exported.
    pub(super) fn export(&self, id: u32, bytes: usize) -> (Arc<Region>, RegionToken) {
        let (region, token) = region(id, bytes);
        self.provider.export(&region).expect("peers take it");
        (region, token)
    }

    fn collect(&mut self, limit: Duration) {
        self.poll.poll(&mut self.events, Some(limit)).expect("epoll works");
        self.ready.extend(self.events.iter().map(mio::event::Event::token));
    }
}

/// Shared memory and its token.
pub(super) fn region(id: u32, bytes: usize) -> (Arc<Region>, RegionToken) {
    let spec = RegionSpec { name: "test", bytes, rights: Rights::Read };
    let region = memory::allocate(spec, RegionId(id), true).expect("little memory");
    let token = RegionToken {
        id: region.id(),
        bytes: region.bytes() as u64,
        key: 0,
        remote_key: 0,
        address: 0,
    };
    (Arc::new(region), token)
}

/// `size` nodes that have joined.
pub(super) fn nodes(size: usize) -> Vec<Node> {
    let key = new_key();
    std::thread::scope(|scope| {
        let joining: Vec<_> = (0..size)
            .map(|rank| {
                let key = &key;
                scope.spawn(move || Node::join(key, rank, size, LIMIT).expect("all are there"))
            })
            .collect();
        joining.into_iter().map(|node| node.join().expect("no panic")).collect()
    })
}

/// Two nodes that have joined.
pub(super) fn pair() -> (Node, Node) {
    let mut nodes = nodes(2);
    let second = nodes.pop().expect("two");
    (nodes.pop().expect("two"), second)
}
