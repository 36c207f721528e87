//! A deterministic, seeded simulator of a job's fabric, in virtual time.
//!
//! It gives exactly the three ordering rules of [`crate::fabric`] and nothing stronger: links
//! deliver in order with random delays, the lines of a READ are fetched from the real memory of
//! its region at random times in random order, polls hand out the peers' records in random order,
//! credit comes back late. Nodes can be stalled, slowed and killed. Whatever is random comes from
//! one seed: the same calls on a world of the same seed do the same, which
//! [`SimWorld::trace_digest`] shows.
//!
//! A driver on one thread runs all nodes: it lets some node do something, calls
//! [`SimWorld::advance`], and so on. Between two calls no virtual time passes and nothing changes
//! but what the nodes do. ([`Fabric::park`] and lane waits return at once.) The types are `Send` and
//! `Sync`, so that code written for threads compiles against them.
//!
//! ```
//! use sterna_rdma::sim::{SimConfig, SimWorld};
//! use sterna_rdma::{Fabric, LostReason, Rank, Sink};
//!
//! struct Print;
//! impl Sink for Print {
//!     fn record(&mut self, from: Rank, record: &[u8]) {
//!         assert_eq!((from, record), (Rank(0), &b"hello"[..]));
//!     }
//!     fn peer_lost(&mut self, _peer: Rank, _reason: LostReason) {}
//! }
//!
//! let world = SimWorld::new(SimConfig::new(2, 42));
//! let (alice, bob) = (world.fabric(Rank(0)), world.fabric(Rank(1)));
//! while alice.try_send(Rank(1), &[b"hel", b"lo"]).is_err() {}
//! let mut received = 0;
//! while received == 0 {
//!     assert!(world.advance(), "the record is on its way");
//!     received = bob.poll(16, &mut Print).unwrap();
//! }
//! ```

mod agenda;
mod config;
mod fabric;
mod links;
mod memory;
mod random;
mod reads;
mod state;

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

pub use config::SimConfig;
pub use reads::ReadUnderWay;

use crate::fabric::Fabric;
use crate::rank::Rank;
use fabric::{SimFabric, lock};
use state::State;

/// A simulated job.
#[derive(Clone, Debug)]
pub struct SimWorld {
    state: Arc<Mutex<State>>,
}

impl SimWorld {
    /// A job whose nodes are all connected, at virtual time zero.
    ///
    /// # Panics
    /// If the configuration cannot work.
    #[must_use]
    pub fn new(config: SimConfig) -> Self {
        Self { state: Arc::new(Mutex::new(State::new(config))) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The fabric of one node. All fabrics of a node share its state.
    ///
    /// # Panics
    /// If the job has no such node.
    #[must_use]
    pub fn fabric(&self, rank: Rank) -> Arc<dyn Fabric> {
        let size = self.state().config.nodes;
        assert!(rank.index() < size, "{rank} of a job of {size} nodes");
        Arc::new(SimFabric { rank, size, state: Arc::clone(&self.state) })
    }

    /// The virtual time, in nanoseconds since the start.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.state().now_ns
    }

    /// Lets the next event happen and moves the time to it. False if there is none: then nothing
    /// will ever happen unless a node does something.
    #[must_use = "false means that the job is stuck or done"]
    pub fn advance(&self) -> bool {
        self.state().advance()
    }

    /// Lets everything happen that is due by `until_ns` and moves the time there.
    pub fn advance_until(&self, until_ns: u64) {
        let mut state = self.state();
        while state.agenda.next_ns().is_some_and(|at_ns| at_ns <= until_ns) {
            state.advance();
        }
        state.now_ns = state.now_ns.max(until_ns);
    }

    /// The time of the next event, if there is one.
    #[must_use]
    pub fn next_event_ns(&self) -> Option<u64> {
        self.state().agenda.next_ns()
    }

    /// Whether a poll of this node's fabric would deliver something now. (Completions of its lanes
    /// are not counted.)
    #[must_use]
    pub fn has_arrivals(&self, rank: Rank) -> bool {
        let state = self.state();
        !state.is_stalled(rank) && state.nodes[rank.index()].inbox_items > 0
    }

    /// Stops a node for a while, as SIGSTOP does: its polls deliver nothing, its memory stays
    /// readable, its peers notice nothing. A driver does not run a stalled node's code.
    pub fn stall(&self, rank: Rank, duration: Duration) {
        let duration_ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 2);
        self.state().stall(rank, duration_ns);
    }

    /// Whether a node is stalled now.
    #[must_use]
    pub fn is_stalled(&self, rank: Rank) -> bool {
        self.state().is_stalled(rank)
    }

    /// Ends a node without a word. What it sent and what has arrived stays; of what is in flight, a
    /// random first part arrives. READs to it fail, and its peers learn of it after a delay. Calls
    /// on its own fabric fail from now on.
    pub fn kill(&self, rank: Rank) {
        self.state().kill(rank);
    }

    /// Whether a node was not killed.
    #[must_use]
    pub fn is_alive(&self, rank: Rank) -> bool {
        self.state().nodes[rank.index()].alive
    }

    /// From now on, everything that travels from `from` to `to` takes `factor` times as long; 1 is
    /// normal.
    pub fn slow(&self, from: Rank, to: Rank, factor: u64) {
        self.state().slow(from, to, factor);
    }

    /// The READs that are under way.
    #[must_use]
    pub fn reads_under_way(&self) -> Vec<ReadUnderWay> {
        self.state().reads_under_way()
    }

    /// A digest of everything that has happened: equal for equal runs.
    #[must_use]
    pub fn trace_digest(&self) -> u64 {
        self.state().agenda.digest()
    }

    /// Number of events that have happened.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.state().agenda.happened()
    }

    /// The last events, in words, for the report of a failure.
    #[must_use]
    pub fn recent_events(&self) -> Vec<String> {
        let state = self.state();
        let words = |(at_ns, event): &(u64, agenda::Event)| format!("{at_ns} ns: {event:?}");
        state.agenda.recent().map(words).collect()
    }
}
