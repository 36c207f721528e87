//! 10^5 random operations against a model.
//!
//! Every word of every region only grows, so that a READ can be checked against what the word was when
//! the READ was posted and what it is when it is handed out. A link's records are checked against a
//! queue.

use std::collections::{HashMap, VecDeque};

use sterna_rdma::{FabricCounters, Rank, ReadLane, SendError};

use super::Cluster;
use super::job::{Job, Shared, poll_lane};
use super::memory::{load, store, words};

const OPERATIONS: u32 = 100_000;
const NODES: usize = 3;
const REGION_BYTES: usize = 16 * 1024;

struct Model {
    shared: Vec<Shared>,
    lanes: Vec<(Rank, Box<dyn ReadLane>)>,
    /// Posted READs: owner, offset, and the words at that time.
    posted: HashMap<u64, (usize, usize, Vec<u64>)>,
    reads: u64,
    records: Vec<VecDeque<Vec<u8>>>,
    records_sent: u64,
}

impl Model {
    fn send<C: Cluster>(&mut self, job: &mut Job<C>) {
        let from = job.random.rank(NODES);
        let to = Rank::from_index((from.index() + 1 + job.random.below(NODES - 1)) % NODES);
        let len_max = if job.random.below(100) == 0 { 20_000 } else { 64 };
        let len = 1 + job.random.below(len_max);
        let record = job.random.bytes(len);
        let at = job.random.below(record.len() + 1);
        match job.fabric(from).try_send(to, &[&record[..at], &record[at..]]) {
            Ok(()) => {
                self.records[from.index() * NODES + to.index()].push_back(record);
                self.records_sent += 1;
            }
            Err(SendError::Full(_)) => {
                job.step();
            }
            Err(SendError::Busy(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }

    fn write<C: Cluster>(&mut self, job: &mut Job<C>) {
        let region = &self.shared[job.random.below(NODES)].region;
        let first = job.random.below(REGION_BYTES / 8);
        let last = (first + job.random.below(40)).min(REGION_BYTES / 8 - 1);
        for word in first..=last {
            store(region, word * 8, load(region, word * 8) + 1);
        }
    }

    fn post<C: Cluster>(&mut self, job: &mut Job<C>) {
        let at = job.random.below(self.lanes.len());
        let (reader, lane) = &mut self.lanes[at];
        let owner = (reader.index() + 1 + job.random.below(NODES - 1)) % NODES;
        let words_max = if job.random.below(20) == 0 { REGION_BYTES / 8 } else { 16 };
        let count = 1 + job.random.below(words_max);
        let offset = job.random.below(REGION_BYTES / 8 - count + 1) * 8;
        if lane.outstanding() == lane.capacity() {
            return;
        }
        lane.post(self.shared[owner].read(offset, count * 8, self.reads)).expect("a legal READ");
        let region = &self.shared[owner].region;
        let now = (0..count).map(|word| load(region, offset + word * 8)).collect();
        self.posted.insert(self.reads, (owner, offset, now));
        self.reads += 1;
        if job.random.below(3) == 0 {
            lane.submit().expect("no fault of this node");
        }
    }

    fn take_reads(&mut self, at: usize) {
        let (_, lane) = &mut self.lanes[at];
        lane.submit().expect("no fault of this node");
        for done in poll_lane(lane.as_mut()) {
            let (owner, offset, before) = self.posted.remove(&done.token).expect("posted once");
            let (bytes, head) = done.result.expect("the owner lives");
            assert_eq!(bytes.len(), before.len() * 8);
            let region = &self.shared[owner].region;
            let heads = head.into_iter().enumerate().take(before.len());
            for (word, value) in words(&bytes).enumerate().chain(heads) {
                let now = load(region, offset + word * 8);
                let (before, at) = (before[word], offset + word * 8);
                assert!((before..=now).contains(&value), "{value} at {at}: {before} to {now}");
            }
        }
    }

    fn take_records<C: Cluster>(&mut self, job: &mut Job<C>) {
        for (to, inbox) in job.inboxes.iter_mut().enumerate() {
            for (from, received) in inbox.records.iter_mut().enumerate() {
                for record in received.drain(..) {
                    let expected = self.records[from * NODES + to].pop_front();
                    assert!(expected.is_some_and(|sent| sent == record), "from {from} to {to}");
                }
            }
        }
    }
}

pub fn random_operations_agree_with_a_model<C: Cluster>(seed: u64) {
    let mut job = Job::<C>::start(NODES, seed);
    let shared: Vec<_> =
        (0..NODES).map(|owner| job.share(Rank::from_index(owner), REGION_BYTES)).collect();
    let lanes = (0..2 * NODES).map(|lane| Rank::from_index(lane % NODES));
    let lanes = lanes.map(|rank| (rank, job.lane(rank))).collect();
    let mut model = Model {
        shared,
        lanes,
        posted: HashMap::new(),
        reads: 0,
        records: vec![VecDeque::new(); NODES * NODES],
        records_sent: 0,
    };
    let sum = |job: &Job<C>, value: fn(&FabricCounters) -> u64| -> u64 {
        (0..NODES).map(|node| value(&job.fabric(Rank::from_index(node)).counters())).sum()
    };
    let sent_before = sum(&job, |counters| counters.records_sent);
    for _ in 0..OPERATIONS {
        match job.random.below(16) {
            0..4 => model.send(&mut job),
            4..8 => model.write(&mut job),
            8..11 => model.post(&mut job),
            11..13 => {
                let at = job.random.below(model.lanes.len());
                model.take_reads(at);
            }
            13..15 => {
                let (rank, budget) = (job.random.rank(NODES), job.random.below(8));
                job.poll(rank, budget);
                model.take_records(&mut job);
            }
            _ => {
                job.step();
            }
        }
    }
    job.until("everything to arrive", |job| {
        model.take_records(job);
        for at in 0..model.lanes.len() {
            model.take_reads(at);
        }
        (model.posted.is_empty() && model.records.iter().all(VecDeque::is_empty)).then_some(())
    });
    assert_eq!(sum(&job, |counters| counters.records_sent) - sent_before, model.records_sent);
    assert_eq!(sum(&job, |counters| counters.records_received), sent_before + model.records_sent);
    assert_eq!(sum(&job, |counters| counters.reads), model.reads);
}
