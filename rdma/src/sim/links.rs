//! Links of the simulator: one direction between two nodes, with credit, delay and bandwidth.
//!
//! A record that was sent is in flight until its arrival, then in the receiver's inbox until it is
//! polled. Arrivals of one link keep the order of the sends; there is no other order. The credit
//! that a record took comes back by a counter that travels as long as a message does, one at a
//! time, as the plain writes of real rings.

use std::collections::VecDeque;
use std::ops::RangeInclusive;

use super::agenda::Event;
use super::state::State;
use crate::error::SendError;
use crate::fabric::{LostReason, RECORD_BYTES_MAX};
use crate::rank::Rank;

/// What a record takes of a ring beside its bytes, and the unit that its length is rounded up to:
/// those of the real rings, so that limits bite at similar places.
const RECORD_HEADER_BYTES: u64 = 8;

/// What travels on a link.
#[derive(Debug)]
pub(super) enum Item {
    /// A record.
    Record(Vec<u8>),
    /// The end: nothing follows.
    Lost(LostReason),
}

/// Bytes and records, counted since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    bytes: u64,
    records: u64,
}

impl Count {
    fn add(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.records += 1;
    }
}

/// One direction of a pair of nodes.
#[derive(Debug)]
pub(super) struct Link {
    /// The sender's end: why it cannot send any more, once it knows.
    pub(super) broken: Option<String>,
    /// What is sent or read over this direction goes nowhere, whether or not the sender knows.
    pub(super) severed: bool,
    /// The receiver's end: its end-of-link item is queued or handed out.
    closed: bool,
    latency_ns: u64,
    bandwidth_bytes_per_us: u64,
    slow: u64,
    busy_until_ns: u64,
    reads_busy_until_ns: u64,
    last_arrival_ns: u64,
    in_flight: VecDeque<(u64, Item)>,
    inbox: VecDeque<Item>,
    sent: Count,
    consumed: Count,
    credited: Count,
    credit_in_flight: Option<Count>,
}

/// What a record of this length takes of the ring.
fn footprint(bytes: usize) -> u64 {
    RECORD_HEADER_BYTES + (bytes as u64).next_multiple_of(RECORD_HEADER_BYTES)
}

impl State {
    pub(super) fn make_links(&mut self) {
        for _ in 0..self.config.nodes * self.config.nodes {
            let latency_ns = self.random.within(&self.config.latency_ns);
            let bandwidth_bytes_per_us = self.random.within(&self.config.bandwidth_bytes_per_us);
            self.links.push(Link {
                broken: None,
                severed: false,
                closed: false,
                latency_ns,
                bandwidth_bytes_per_us,
                slow: 1,
                busy_until_ns: 0,
                reads_busy_until_ns: 0,
                last_arrival_ns: 0,
                in_flight: VecDeque::new(),
                inbox: VecDeque::new(),
                sent: Count::default(),
                consumed: Count::default(),
                credited: Count::default(),
                credit_in_flight: None,
            });
        }
    }

    /// Where the link from `from` to `to` is.
    pub(super) fn link_index(&self, from: Rank, to: Rank) -> usize {
        from.index() * self.config.nodes + to.index()
    }

    pub(super) fn link(&mut self, from: Rank, to: Rank) -> &mut Link {
        let index = self.link_index(from, to);
        &mut self.links[index]
    }

    pub(super) fn slow(&mut self, from: Rank, to: Rank, factor: u64) {
        self.link(from, to).slow = factor.max(1);
    }

    /// The time that a message travels, beside its bytes.
    pub(super) fn travel_ns(&mut self, link: usize) -> u64 {
        let mut late_ns = self.random.below(self.config.jitter_ns.saturating_add(1));
        if self.random.chance(self.config.spike_per_mille) {
            late_ns += self.random.below(self.config.spike_ns.saturating_add(1));
        }
        let link = &self.links[link];
        (link.latency_ns + late_ns) * link.slow
    }

    fn transfer_ns(&self, link: usize, bytes: u64) -> u64 {
        let link = &self.links[link];
        (bytes * 1000).div_ceil(link.bandwidth_bytes_per_us) * link.slow
    }

    /// When the data of a READ that travels on `link` has arrived: its request takes `request_ns`.
    pub(super) fn read_data_arrives_ns(&mut self, link: usize, request_ns: u64, len: u64) -> u64 {
        let transfer_ns = self.transfer_ns(link, len);
        let travel_ns = self.travel_ns(link);
        let ready_ns = self.now_ns + request_ns;
        let link = &mut self.links[link];
        link.reads_busy_until_ns = link.reads_busy_until_ns.max(ready_ns) + transfer_ns;
        link.reads_busy_until_ns + travel_ns
    }

    pub(super) fn try_send(
        &mut self,
        from: Rank,
        to: Rank,
        parts: &[&[u8]],
    ) -> Result<(), SendError> {
        let lost = |reason: &str| SendError::PeerLost { peer: to, reason: reason.to_owned() };
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        if bytes > RECORD_BYTES_MAX {
            return Err(SendError::TooLong { bytes, max: RECORD_BYTES_MAX });
        }
        if to.index() >= self.config.nodes || to == from {
            return Err(lost("there is no link to it"));
        }
        if !self.nodes[from.index()].alive {
            return Err(lost("this node was killed"));
        }
        if self.nodes[from.index()].said_goodbye {
            return Err(lost("this node has said goodbye"));
        }
        let index = self.link_index(from, to);
        if let Some(reason) = &self.links[index].broken {
            return Err(lost(reason));
        }
        if self.random.chance(self.config.busy_per_mille) {
            return Err(SendError::Busy(to));
        }
        let footprint = footprint(bytes);
        if !self.has_credit(index, footprint) {
            self.nodes[from.index()].counters.sends_full += 1;
            return Err(SendError::Full(to));
        }
        self.links[index].sent.add(footprint);
        let counters = &mut self.nodes[from.index()].counters;
        counters.records_sent += 1;
        counters.record_bytes_sent += bytes as u64;
        if self.links[index].severed {
            return Ok(());
        }
        let mut record = self.buffers.pop().unwrap_or_default();
        record.clear();
        for part in parts {
            record.extend_from_slice(part);
        }
        self.agenda.note(
            record.iter().take(8).fold(bytes as u64, |sum, &byte| {
                sum.wrapping_mul(257).wrapping_add(u64::from(byte))
            }),
        );
        let transfer_ns = self.transfer_ns(index, footprint);
        let travel_ns = self.travel_ns(index);
        let now_ns = self.now_ns;
        let link = &mut self.links[index];
        link.busy_until_ns = link.busy_until_ns.max(now_ns) + transfer_ns;
        let arrival_ns = link.busy_until_ns + travel_ns;
        self.put_in_flight(index, arrival_ns, Item::Record(record));
        Ok(())
    }

    /// A link that holds nothing takes any record; else bytes and records are limited.
    fn has_credit(&self, link: usize, footprint: u64) -> bool {
        let link = &self.links[link];
        let records = link.sent.records - link.credited.records;
        let bytes = link.sent.bytes - link.credited.bytes;
        records == 0
            || (records < self.config.ring_records as u64
                && bytes + footprint <= self.config.ring_bytes as u64)
    }

    fn put_in_flight(&mut self, index: usize, at_ns: u64, item: Item) {
        let link = &mut self.links[index];
        let at_ns = at_ns.max(link.last_arrival_ns);
        link.last_arrival_ns = at_ns;
        link.in_flight.push_back((at_ns, item));
        let link = u32::try_from(index).expect("at most 4,096 x 4,096 links");
        self.agenda.plan(at_ns, Event::Arrive { link });
    }

    /// Event: what is due on a link arrives.
    pub(super) fn arrive(&mut self, index: usize) {
        let (from, to) = self.ends(index);
        while self.links[index].in_flight.front().is_some_and(|(at, _)| *at <= self.now_ns) {
            let (_, item) = self.links[index].in_flight.pop_front().expect("looked at above");
            if let Item::Lost(reason) = &item {
                let reason = describe(reason);
                self.link(to, from).broken = Some(reason);
            }
            self.links[index].inbox.push_back(item);
            self.nodes[to.index()].inbox_items += 1;
        }
    }

    fn ends(&self, index: usize) -> (Rank, Rank) {
        let nodes = self.config.nodes;
        (Rank::from_index(index / nodes), Rank::from_index(index % nodes))
    }

    /// Takes one item that has arrived at `to`, from a random peer.
    pub(super) fn take_arrived(&mut self, to: Rank) -> Option<(Rank, Item)> {
        if self.nodes[to.index()].inbox_items == 0 {
            return None;
        }
        let nodes = self.config.nodes;
        let start = self.random.index(nodes);
        let from = (0..nodes)
            .map(|step| Rank::from_index((start + step) % nodes))
            .find(|&from| !self.links[self.link_index(from, to)].inbox.is_empty())
            .expect("the node's count says that something has arrived");
        let index = self.link_index(from, to);
        let item = self.links[index].inbox.pop_front().expect("found above");
        self.nodes[to.index()].inbox_items -= 1;
        if let Item::Record(record) = &item {
            self.agenda.note(index as u64 ^ 0xde11);
            let counters = &mut self.nodes[to.index()].counters;
            counters.records_received += 1;
            counters.record_bytes_received += record.len() as u64;
            self.links[index].consumed.add(footprint(record.len()));
            self.return_credit(index);
        }
        Some((from, item))
    }

    fn return_credit(&mut self, index: usize) {
        let (from, to) = self.ends(index);
        let link = &self.links[index];
        if link.credit_in_flight.is_some() || link.consumed == link.credited || link.severed {
            return;
        }
        let at_ns = self.now_ns + self.travel_ns(self.link_index(to, from));
        let link = &mut self.links[index];
        link.credit_in_flight = Some(link.consumed);
        let link = u32::try_from(index).expect("at most 4,096 x 4,096 links");
        self.agenda.plan(at_ns, Event::Credit { link });
    }

    /// Event: the consumer's counter reaches the sender.
    pub(super) fn credit(&mut self, index: usize) {
        let link = &mut self.links[index];
        if let Some(count) = link.credit_in_flight.take() {
            link.credited = count;
            self.return_credit(index);
        }
    }

    /// Lets go of what is in flight, but for a random first part of it.
    fn cut_in_flight(&mut self, index: usize) {
        let kept = self.random.index(self.links[index].in_flight.len() + 1);
        let link = &mut self.links[index];
        link.in_flight.truncate(kept);
        link.last_arrival_ns = link.in_flight.back().map_or(0, |(at_ns, _)| *at_ns);
    }

    /// Queues the end of the link from `gone` to `peer`; what is in flight arrives before it.
    fn close(&mut self, gone: Rank, peer: Rank, delay_ns: u64, reason: LostReason) {
        let index = self.link_index(gone, peer);
        if !self.links[index].closed {
            self.links[index].closed = true;
            self.put_in_flight(index, self.now_ns + delay_ns, Item::Lost(reason));
        }
    }

    /// `gone` died, as `peer` will learn.
    pub(super) fn break_dead(&mut self, gone: Rank, peer: Rank) {
        let (outward, inward) = (self.link_index(gone, peer), self.link_index(peer, gone));
        if !self.links[outward].closed {
            self.cut_in_flight(outward);
        }
        self.links[inward].in_flight.clear();
        self.links[outward].severed = true;
        self.links[inward].severed = true;
        let delay_ns = self.notice_ns();
        self.close(gone, peer, delay_ns, LostReason::Died("its process ended".to_owned()));
    }

    fn notice_ns(&mut self) -> u64 {
        let range: RangeInclusive<u64> = self.config.death_notice_ns.clone();
        self.random.within(&range)
    }

    /// `node` says goodbye to `peer`, after all that it sent.
    pub(super) fn say_goodbye(&mut self, node: Rank, peer: Rank) {
        let index = self.link_index(node, peer);
        if !self.links[index].severed {
            let delay_ns = self.travel_ns(index);
            self.close(node, peer, delay_ns, LostReason::Goodbye);
        }
    }

    /// `node` expels `peer`: nothing of it is delivered from now on.
    pub(super) fn expel(&mut self, node: Rank, peer: Rank, reason: &str) {
        if node == peer || peer.index() >= self.config.nodes {
            return;
        }
        let (outward, inward) = (self.link_index(node, peer), self.link_index(peer, node));
        if self.links[outward].broken.is_some() {
            return self.drop_undelivered(inward, node);
        }
        self.links[outward].broken = Some(format!("expelled: {reason}"));
        self.drop_undelivered(inward, node);
        let link = &mut self.links[inward];
        link.in_flight.clear();
        link.closed = true;
        link.inbox.push_back(Item::Lost(LostReason::Expelled(reason.to_owned())));
        self.nodes[node.index()].inbox_items += 1;
        if !self.links[outward].closed {
            self.cut_in_flight(outward);
        }
        self.links[outward].severed = true;
        self.links[inward].severed = true;
        let delay_ns = self.notice_ns();
        let reason = LostReason::Died(format!("{node} closed the connection"));
        self.close(node, peer, delay_ns, reason);
    }

    /// Forgets records that have arrived and were not polled; the end of the link stays.
    fn drop_undelivered(&mut self, index: usize, to: Rank) {
        let link = &mut self.links[index];
        let before = link.inbox.len();
        link.inbox.retain(|item| matches!(item, Item::Lost(_)));
        self.nodes[to.index()].inbox_items -= before - link.inbox.len();
    }
}

fn describe(reason: &LostReason) -> String {
    match reason {
        LostReason::Goodbye => "it said goodbye".to_owned(),
        LostReason::Died(why) => why.clone(),
        LostReason::Malformed(why) => format!("malformed: {why}"),
        LostReason::Expelled(why) => format!("expelled: {why}"),
    }
}
