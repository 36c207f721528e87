//! Bounded staleness (Petuum's SSP): how far apart clocks may be, and what of each worker is in the main copies.
//!
//! Under `ssp:S` a worker comes to clock `c` only when all that every worker pushed before its own clock `c - S` is in the main
//! copies (I9); replicas are then read anew, if they have not been since. Clocks count from the workers' last meeting: who is in
//! one, or has ended, has nothing left to push, and keeps nobody waiting.
//!
//! A node tells the others its *flushed clock*: the least over its workers of the clock before which all their pushes have been
//! acknowledged. Meetings are numbered, so that what was told before one is not taken for what comes after it.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sterna_protocol::Rank;

use crate::remote::Unsettled;

/// Of a worker that has nothing left to push.
const NEVER: u64 = u64::MAX;

/// See the module.
#[derive(Debug)]
pub(crate) struct Clocks {
    staleness: u64,
    here: Rank,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Meetings of the workers so far.
    meetings: u32,
    workers: Vec<WorkerClock>,
    /// What nodes have told last: after how many meetings, and their flushed clock.
    nodes: Vec<(u32, u64)>,
    /// Up to which clock this node's replicas show all that was flushed.
    shown: u64,
}

#[derive(Debug, Default)]
struct WorkerClock {
    flushed: u64,
    /// Clocks that it has come to, and which of its pushes before them were on their way then.
    pending: VecDeque<(u64, Vec<Unsettled>)>,
    ended: bool,
}

impl WorkerClock {
    fn settle(&mut self, is_settled: &impl Fn(&Unsettled) -> bool) {
        while let Some((clock, open)) = self.pending.front_mut() {
            while open.last().is_some_and(is_settled) {
                open.pop();
            }
            if !open.is_empty() {
                break;
            }
            self.flushed = *clock;
            self.pending.pop_front();
        }
    }
}

impl Clocks {
    /// Of a node with so many workers in a job of `size` nodes.
    pub(crate) fn new(staleness: u64, here: Rank, size: usize, workers: usize) -> Self {
        let state = State {
            meetings: 0,
            workers: (0..workers).map(|_| WorkerClock::default()).collect(),
            nodes: vec![(0, 0); size],
            shown: 0,
        };
        Self { staleness, here, state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // What it holds is whole between any two changes.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many clocks before its own a worker at this clock must see all pushes of.
    pub(crate) fn needs(&self, clock: u64) -> u64 {
        clock.saturating_sub(self.staleness)
    }

    /// A worker has come to a clock; `open` are its pushes before it that are not in the main copies.
    pub(crate) fn advanced(&self, worker: usize, clock: u64, open: Vec<Unsettled>) {
        self.lock().workers[worker].pending.push_back((clock, open));
    }

    /// A worker, whose pushes are all in the main copies, goes to meet the others.
    pub(crate) fn meets(&self, worker: usize) {
        let worker = &mut self.lock().workers[worker];
        worker.pending.clear();
        worker.flushed = NEVER;
    }

    /// The workers of all nodes have met: clocks count from here.
    pub(crate) fn met(&self) {
        let mut state = self.lock();
        state.meetings = state.meetings.wrapping_add(1);
        state.shown = 0;
        for worker in &mut state.workers {
            worker.flushed = if worker.ended { NEVER } else { 0 };
        }
    }

    /// A worker has ended; `open` are its pushes that are not in the main copies.
    pub(crate) fn ended(&self, worker: usize, open: Vec<Unsettled>) {
        let worker = &mut self.lock().workers[worker];
        worker.ended = true;
        worker.pending.push_back((NEVER, open));
    }

    /// Whether pushes are on their way that a clock waits for.
    pub(crate) fn pending(&self) -> bool {
        self.lock().workers.iter().any(|worker| !worker.pending.is_empty())
    }

    /// Looks at which pushes have arrived. The number of meetings and this node's flushed clock, if that is news for others.
    pub(crate) fn settle(&self, is_settled: impl Fn(&Unsettled) -> bool) -> Option<(u32, u64)> {
        let mut state = self.lock();
        state.workers.iter_mut().for_each(|worker| worker.settle(&is_settled));
        let flushed = state.workers.iter().map(|worker| worker.flushed).min().unwrap_or(NEVER);
        let now = (state.meetings, flushed);
        let known = std::mem::replace(&mut state.nodes[self.here.index()], now);
        (known != now).then_some(now)
    }

    /// A peer tells its flushed clock.
    pub(crate) fn heard(&self, peer: Rank, meetings: u32, flushed: u64) {
        self.lock().nodes[peer.index()] = (meetings, flushed);
    }

    /// The least flushed clock of all nodes, and whose it is.
    pub(crate) fn least(&self) -> (u64, Rank) {
        let state = self.lock();
        let flushed =
            |&(meetings, flushed): &(u32, u64)| match meetings.wrapping_sub(state.meetings) {
                0 => flushed,
                // Who has met after everybody had flushed knows of a meeting that this node is still in.
                ahead if ahead < 1 << 31 => NEVER,
                _ => 0,
            };
        let nodes = state.nodes.iter().map(flushed).zip((0..).map(Rank::from_index));
        nodes.min().unwrap_or((NEVER, self.here))
    }

    /// Whether this node's replicas show all pushes before a clock.
    pub(crate) fn shows(&self, clock: u64) -> bool {
        self.lock().shown >= clock
    }

    /// They do now.
    pub(crate) fn shown(&self, clock: u64) {
        let mut state = self.lock();
        state.shown = state.shown.max(clock);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_nodes() -> Clocks {
        Clocks::new(1, Rank(0), 2, 2)
    }

    #[test]
    fn the_slowest_worker_of_the_slowest_node_counts() {
        let clocks = two_nodes();
        clocks.advanced(0, 1, Vec::new());
        assert!(clocks.pending());
        assert_eq!(clocks.settle(|_| true), None, "worker 1 is at 0");
        clocks.advanced(1, 1, Vec::new());
        clocks.advanced(1, 2, Vec::new());
        assert_eq!(clocks.settle(|_| true), Some((0, 1)));
        assert_eq!((clocks.settle(|_| true), clocks.pending()), (None, false));
        assert_eq!(clocks.least(), (0, Rank(1)));
        clocks.heard(Rank(1), 0, 5);
        assert_eq!(clocks.least(), (1, Rank(0)));
        assert_eq!((clocks.needs(0), clocks.needs(3)), (0, 2));
    }

    #[test]
    fn who_meets_keeps_nobody_waiting_and_clocks_begin_anew_afterwards() {
        let clocks = two_nodes();
        clocks.heard(Rank(1), 0, NEVER);
        clocks.meets(0);
        clocks.advanced(1, 1, Vec::new());
        assert_eq!((clocks.settle(|_| true), clocks.least()), (Some((0, 1)), (1, Rank(0))));
        clocks.shown(1);
        clocks.meets(1);
        assert_eq!(clocks.settle(|_| true), Some((0, NEVER)));
        clocks.heard(Rank(1), 1, 3);
        assert_eq!(clocks.least().0, NEVER, "rank 1 has left the meeting");
        clocks.met();
        assert_eq!((clocks.settle(|_| true), clocks.shows(1)), (Some((1, 0)), false));
        assert_eq!(clocks.least(), (0, Rank(0)));
        clocks.ended(0, Vec::new());
        clocks.advanced(1, 4, Vec::new());
        clocks.settle(|_| true);
        assert_eq!(clocks.least(), (3, Rank(1)));
        // What was told before the meeting says nothing of the time after it.
        clocks.heard(Rank(1), 0, 9);
        assert_eq!(clocks.least(), (0, Rank(1)));
    }
}
