//! A job driven by one thread: polls all nodes in random order, keeps what they received, and waits
//! with a limit.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sterna_rdma::{
    Fabric, LostReason, Rank, Read, ReadLane, Region, RegionSpec, RegionToken, Rights, SendError,
    Sink,
};

use super::Cluster;

/// The limit of every wait; an emulated machine on a busy one is slow.
pub const WAIT_MAX: Duration = Duration::from_secs(180);

/// A seeded generator (SplitMix64).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("below a usize")
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes()[..chunk.len()]);
        }
        bytes
    }

    pub fn rank(&mut self, nodes: usize) -> Rank {
        Rank::from_index(self.below(nodes))
    }
}

/// What a node received and has not used.
#[derive(Default)]
pub struct Inbox {
    pub records: Vec<VecDeque<Vec<u8>>>,
    pub lost: Vec<Option<LostReason>>,
}

impl Inbox {
    pub fn new(nodes: usize) -> Self {
        Self { records: vec![VecDeque::new(); nodes], lost: vec![None; nodes] }
    }
}

impl Sink for Inbox {
    fn record(&mut self, from: Rank, record: &[u8]) {
        let lost = &self.lost[from.index()];
        assert!(lost.is_none(), "a record of {from} after it was lost: {lost:?}");
        self.records[from.index()].push_back(record.to_vec());
    }

    fn peer_lost(&mut self, peer: Rank, reason: LostReason) {
        let before = self.lost[peer.index()].replace(reason);
        assert!(before.is_none(), "{peer} was lost before: {before:?}");
    }
}

/// A finished READ.
#[derive(Debug)]
pub struct Done {
    pub token: u64,
    pub result: Result<(Vec<u8>, [u64; 2]), String>,
}

/// Takes what a lane has finished.
pub fn poll_lane(lane: &mut dyn ReadLane) -> Vec<Done> {
    let mut finished = Vec::new();
    let count = lane
        .poll(&mut |completion| {
            let result = completion
                .result
                .map(|data| (data.bytes.to_vec(), data.head_before))
                .map_err(|error| error.to_string());
            finished.push(Done { token: completion.token, result });
        })
        .expect("no fault of this node");
    assert_eq!(count, finished.len());
    finished
}

/// A region that others can read.
pub struct Shared {
    pub owner: Rank,
    pub region: Arc<Region>,
    pub token: RegionToken,
}

impl Shared {
    pub fn read(&self, offset: usize, len: usize, token: u64) -> Read {
        Read {
            peer: self.owner,
            region: self.token.id,
            offset: offset as u64,
            len: u32::try_from(len).expect("a short READ"),
            token,
        }
    }
}

pub struct Job<C> {
    pub cluster: C,
    pub random: Random,
    pub inboxes: Vec<Inbox>,
    fabrics: Vec<Option<Arc<dyn Fabric>>>,
    idle_rounds: u32,
}

impl<C: Cluster> Job<C> {
    pub fn start(nodes: usize, seed: u64) -> Self {
        let mut cluster = C::start(nodes, seed);
        let fabrics: Vec<_> =
            (0..nodes).map(|node| Some(cluster.fabric(Rank::from_index(node)))).collect();
        let inboxes = (0..nodes).map(|_| Inbox::new(nodes)).collect();
        Self { cluster, random: Random(seed), inboxes, fabrics, idle_rounds: 0 }
    }

    pub fn nodes(&self) -> usize {
        self.fabrics.len()
    }

    pub fn fabric(&self, rank: Rank) -> &dyn Fabric {
        self.fabrics[rank.index()].as_deref().expect("the node lives")
    }

    pub fn lane(&self, rank: Rank) -> Box<dyn ReadLane> {
        self.fabric(rank).open_lane().expect("a lane")
    }

    /// Polls one node; a node that was ended does nothing.
    pub fn poll(&mut self, rank: Rank, budget: usize) -> usize {
        let Some(fabric) = &self.fabrics[rank.index()] else { return 0 };
        fabric.poll(budget, &mut self.inboxes[rank.index()]).expect("no fault of this node")
    }

    /// Polls all nodes once, in random order; lets time pass if none had anything. False if
    /// nothing will ever happen.
    pub fn step(&mut self) -> bool {
        let nodes = self.nodes();
        let first = self.random.below(nodes);
        let mut done = 0;
        for node in 0..nodes {
            done += self.poll(Rank::from_index((first + node) % nodes), 64);
        }
        if done > 0 {
            self.idle_rounds = 0;
            return true;
        }
        self.idle_rounds = self.idle_rounds.saturating_add(1);
        self.cluster.idle(self.idle_rounds)
    }

    /// Steps until `ready` says so.
    pub fn until<T>(&mut self, what: &str, mut ready: impl FnMut(&mut Self) -> Option<T>) -> T {
        let start = Instant::now();
        // `ready` may act at random, so it gets more than one chance.
        let mut chances = 100;
        loop {
            if let Some(value) = ready(self) {
                return value;
            }
            if !self.step() {
                chances -= 1;
                assert!(chances > 0, "nothing will ever happen, waiting for {what}");
            }
            assert!(start.elapsed() < WAIT_MAX, "waited {WAIT_MAX:?} for {what}");
        }
    }

    /// Sends, stepping while the link has no credit.
    pub fn send(&mut self, from: Rank, to: Rank, parts: &[&[u8]]) {
        self.until(&format!("{from} to send to {to}"), |job| {
            match job.fabric(from).try_send(to, parts) {
                Ok(()) => Some(()),
                Err(SendError::Full(peer) | SendError::Busy(peer)) => {
                    assert_eq!(peer, to);
                    None
                }
                Err(error) => panic!("{error}"),
            }
        });
    }

    /// Sends until there is no credit (or the record would be the `limit`th); returns how many went.
    pub fn send_until_full(
        &mut self,
        from: Rank,
        to: Rank,
        record: impl Fn(usize) -> Vec<u8>,
    ) -> usize {
        let limit = 1_000_000;
        let mut sent = 0;
        while sent < limit {
            match self.fabric(from).try_send(to, &[&record(sent)]) {
                Ok(()) => sent += 1,
                Err(SendError::Busy(_)) => {}
                Err(SendError::Full(_)) => return sent,
                Err(error) => panic!("{error}"),
            }
        }
        panic!("{limit} records were taken by a link that nobody consumed");
    }

    pub fn receive(&mut self, at: Rank, from: Rank) -> Vec<u8> {
        self.until(&format!("a record of {from} at {at}"), |job| {
            job.inboxes[at.index()].records[from.index()].pop_front()
        })
    }

    pub fn lost(&self, at: Rank, peer: Rank) -> Option<&LostReason> {
        self.inboxes[at.index()].lost[peer.index()].as_ref()
    }

    pub fn wait_lost(&mut self, at: Rank, peer: Rank) -> LostReason {
        self.until(&format!("{at} to learn that {peer} is gone"), |job| job.lost(at, peer).cloned())
    }

    /// Allocates and exports a region at `owner`.
    pub fn export(&self, owner: Rank, bytes: usize) -> Shared {
        let spec = RegionSpec { name: "conformance", bytes, rights: Rights::Read };
        let region = self.fabric(owner).allocate(spec).expect("memory");
        assert!(region.bytes() >= bytes);
        let token = self.fabric(owner).export(&region).expect("an export");
        Shared { owner, region, token }
    }

    /// Sends the token in a record and imports it there.
    pub fn hand_over(&mut self, shared: &Shared, to: Rank) {
        self.send(shared.owner, to, &[&shared.token.to_bytes()]);
        let record = self.receive(to, shared.owner);
        let bytes: &[u8; RegionToken::BYTES] = record[..].try_into().expect("a token");
        let token = RegionToken::from_bytes(bytes);
        assert_eq!(token, shared.token);
        self.fabric(to).import(shared.owner, &token).expect("an import");
    }

    /// A region of `owner` that all other living nodes have imported.
    pub fn share(&mut self, owner: Rank, bytes: usize) -> Shared {
        let shared = self.export(owner, bytes);
        for node in 0..self.nodes() {
            if node != owner.index() && self.fabrics[node].is_some() {
                self.hand_over(&shared, Rank::from_index(node));
            }
        }
        shared
    }

    /// Waits until `lane` has finished `count` READs.
    pub fn finish(&mut self, lane: &mut dyn ReadLane, count: usize) -> Vec<Done> {
        let mut finished = Vec::new();
        self.until(&format!("{count} READs"), |_| {
            finished.extend(poll_lane(lane));
            assert!(finished.len() <= count, "a READ finished twice");
            (finished.len() == count).then_some(())
        });
        finished
    }

    /// One READ.
    pub fn read(&mut self, lane: &mut dyn ReadLane, read: Read) -> Result<Vec<u8>, String> {
        lane.post(read).map_err(|error| error.to_string())?;
        lane.submit().expect("no fault of this node");
        let done = self.finish(lane, 1).remove(0);
        assert_eq!(done.token, read.token);
        done.result.map(|(bytes, _)| bytes)
    }

    /// Ends a node without a goodbye. Its lanes must have been dropped.
    pub fn end(&mut self, rank: Rank) {
        let fabric = self.fabrics[rank.index()].take().expect("the node lives");
        self.cluster.end(rank, fabric);
    }

    /// Shows that two nodes still reach each other.
    pub fn assert_connected(&mut self, one: Rank, other: Rank) {
        for (from, to) in [(one, other), (other, one)] {
            self.send(from, to, &[b"still", b" here"]);
            assert_eq!(self.receive(to, from), b"still here");
        }
    }
}
