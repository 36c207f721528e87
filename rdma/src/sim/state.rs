//! The whole simulated job behind one mutex: nodes, links, READs, and what will happen.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::agenda::{Agenda, Event};
use super::config::SimConfig;
use super::links::Link;
use super::memory;
use super::random::Random;
use super::reads::{Lane, ReadState};
use crate::error::FabricError;
use crate::fabric::FabricCounters;
use crate::rank::Rank;
use crate::region::{Region, RegionId, RegionSpec, RegionToken, Rights};

/// A simulated node.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) alive: bool,
    pub(super) said_goodbye: bool,
    pub(super) stalled_until_ns: u64,
    /// Arrived and not polled, over all links.
    pub(super) inbox_items: usize,
    next_region: u32,
    pub(super) exports: HashMap<RegionId, (RegionToken, Arc<Region>)>,
    pub(super) imports: Vec<HashSet<RegionId>>,
    pub(super) counters: FabricCounters,
}

/// Everything.
#[derive(Debug)]
pub(super) struct State {
    pub(super) config: SimConfig,
    pub(super) now_ns: u64,
    pub(super) random: Random,
    pub(super) agenda: Agenda,
    pub(super) nodes: Vec<Node>,
    pub(super) links: Vec<Link>,
    pub(super) lanes: Vec<Lane>,
    pub(super) reads: Vec<ReadState>,
    pub(super) reads_free: Vec<u32>,
    /// Buffers of records that were delivered, to be used again.
    pub(super) buffers: Vec<Vec<u8>>,
}

impl State {
    pub(super) fn new(config: SimConfig) -> Self {
        config.check();
        let node =
            || Node { alive: true, imports: vec![HashSet::new(); config.nodes], ..Node::default() };
        let mut state = Self {
            now_ns: 0,
            random: Random::new(config.seed),
            agenda: Agenda::default(),
            nodes: (0..config.nodes).map(|_| node()).collect(),
            links: Vec::with_capacity(config.nodes * config.nodes),
            lanes: Vec::new(),
            reads: Vec::new(),
            reads_free: Vec::new(),
            buffers: Vec::new(),
            config,
        };
        state.make_links();
        state
    }

    /// Lets the next event happen.
    pub(super) fn advance(&mut self) -> bool {
        let Some((at_ns, event)) = self.agenda.take() else { return false };
        debug_assert!(at_ns >= self.now_ns, "time does not go back");
        self.now_ns = at_ns.max(self.now_ns);
        match event {
            Event::Arrive { link } => self.arrive(link as usize),
            Event::Credit { link } => self.credit(link as usize),
            Event::Read { read, generation } => self.step_read(read, generation),
            Event::Resume { .. } => {}
        }
        true
    }

    pub(super) fn check_alive(&self, rank: Rank) -> Result<(), FabricError> {
        if self.nodes[rank.index()].alive {
            return Ok(());
        }
        Err(FabricError::PeerLost { peer: rank, reason: "this node was killed".to_owned() })
    }

    pub(super) fn is_stalled(&self, rank: Rank) -> bool {
        self.nodes[rank.index()].stalled_until_ns > self.now_ns
    }

    pub(super) fn stall(&mut self, rank: Rank, duration_ns: u64) {
        let until_ns = self.now_ns + duration_ns;
        let node = &mut self.nodes[rank.index()];
        node.stalled_until_ns = node.stalled_until_ns.max(until_ns);
        self.agenda.plan(until_ns, Event::Resume { rank: rank.0 });
    }

    fn peers(&self, of: Rank) -> impl Iterator<Item = Rank> + use<> {
        (0..self.config.nodes).map(Rank::from_index).filter(move |&peer| peer != of)
    }

    pub(super) fn kill(&mut self, rank: Rank) {
        if std::mem::replace(&mut self.nodes[rank.index()].alive, false) {
            for peer in self.peers(rank) {
                self.break_dead(rank, peer);
            }
        }
    }

    pub(super) fn goodbye(&mut self, rank: Rank) {
        let node = &mut self.nodes[rank.index()];
        if node.alive && !std::mem::replace(&mut node.said_goodbye, true) {
            for peer in self.peers(rank) {
                self.say_goodbye(rank, peer);
            }
        }
    }

    pub(super) fn allocate(
        &mut self,
        rank: Rank,
        spec: RegionSpec,
    ) -> Result<Arc<Region>, FabricError> {
        let node = &mut self.nodes[rank.index()];
        let region = memory::allocate(RegionId(node.next_region), spec)?;
        node.next_region += 1;
        Ok(Arc::new(region))
    }

    pub(super) fn export(
        &mut self,
        rank: Rank,
        region: &Arc<Region>,
    ) -> Result<RegionToken, FabricError> {
        if region.rights() != Rights::Read {
            let id = region.id();
            return Err(FabricError::Config(format!(
                "{id} is not for READs: it has no READ right"
            )));
        }
        let key = self.random.next();
        let node = &mut self.nodes[rank.index()];
        let (token, _) = node.exports.entry(region.id()).or_insert_with(|| {
            let (id, bytes) = (region.id(), region.bytes() as u64);
            (RegionToken { id, bytes, key, remote_key: 0, address: 0 }, Arc::clone(region))
        });
        Ok(*token)
    }

    pub(super) fn import(
        &mut self,
        rank: Rank,
        peer: Rank,
        token: &RegionToken,
    ) -> Result<(), FabricError> {
        let unknown = FabricError::UnknownRegion { peer, region: token.id };
        if peer == rank || peer.index() >= self.config.nodes {
            return Err(unknown);
        }
        if let Some(reason) = &self.links[self.link_index(rank, peer)].broken {
            return Err(FabricError::PeerLost { peer, reason: reason.clone() });
        }
        match self.nodes[peer.index()].exports.get(&token.id) {
            Some((exported, _)) if exported == token => {
                self.nodes[rank.index()].imports[peer.index()].insert(token.id);
                Ok(())
            }
            _ => Err(unknown),
        }
    }
}
