//! Whether acting on intents pays, found out by trying.
//!
//! *What.* With `--knob trial_keys=25000` a job under `adaptive` compares two ways from time to time: to act on intents, and to leave them be, so
//! that rows stay where they are and are read and changed from afar. It stays with the faster one. Without it all intents are acted on:
//! `docs/PERFORMANCE.md` says what trials bring and why they are not made by themselves.
//!
//! *Why.* To bring a row costs the engines of two nodes some microseconds and its worker some hundred nanoseconds. Where the network is slow, or a
//! step uses a row often, that is little beside the accesses from afar that it saves. Where one costs a third of a microsecond (shared
//! memory), a step computes a microsecond for each row, and engines and workers share processors, it is more than it saves. Which it is
//! hangs on the fabric, the task, the data, how many processors are free and how busy they are. A sum of costs measured one by one was
//! tried and did not tell: what a worker loses to the engine's use of locks, caches and processors stands in none of them, and to ask for fewer
//! rows (those used often, those named by several intents) left most of the loss and cost most of the gain. What counts is the time that a
//! worker takes for a key, in all, and that can be measured.
//!
//! *How.* All nodes change together, as a node that acts alone takes rows from those that do not: rank 0 numbers *phases* and tells the others
//! (record Trial). In a phase each worker counts the keys that it uses and the time from clock to clock, leaving out the first clocks, in
//! which what was wished before still comes, and all that is no step (meetings, evaluations). A phase lasts until rank 0's workers have used
//! `trial_keys` keys and `trial_us` have passed. With `t` the time for a key, summed over nodes, a trial is a pair of phases, as now and the
//! other way, and
//!
//! ```text
//! ratio = t(other way) / t(as now)      >= 0.95  stay      < 0.8  change      else a second pair, which must say less than 0.95, too
//! ```
//!
//! Then that way is kept for at least 16 times (after a change) or 32 times the length of a phase, twice as long after each further trial that has
//! changed nothing. While intents are not acted on, a row that its home node uses goes back there, once: an access from afar is quickest where a
//! row is at home. So the loss is a thirtieth of the time at first and soon less than a hundredth, a mistake is mended, and a job
//! whose ways differ by little does not go to and fro. Jobs that are too short for four phases act on all intents; so do intents
//! for more than 64 clocks always: their rows come once for many uses.

mod judge;

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

pub(crate) use judge::{Judge, Least, Order};

/// Of how many clocks at the begin of a phase nothing is counted, at most.
const SKIPPED_MAX: u64 = 64;

/// A worker hands over what it has counted when it is so much: keys, nanoseconds.
const HAND_OVER: Counted = Counted { keys: 256, ns: 100_000 };

/// Keys used, and the time that passed for the workers that used them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) keys: u64,
    pub(crate) ns: u64,
}

/// What a node's workers and its engine share: the phase, and what was counted in it.
#[derive(Debug)]
pub(crate) struct Gauge {
    phase: AtomicU32,
    acts: AtomicBool,
    /// So long at the begin of a phase nothing is counted.
    settle_ns: Option<u64>,
    keys: AtomicU64,
    ns: AtomicU64,
    declined: AtomicU64,
}

impl Gauge {
    /// Without phases of some length there are no trials.
    pub(crate) fn new(phase: Option<Least>) -> Self {
        Self {
            settle_ns: phase.map(|least| least.ns / 2),
            phase: AtomicU32::new(0),
            acts: AtomicBool::new(true),
            keys: AtomicU64::new(0),
            ns: AtomicU64::new(0),
            declined: AtomicU64::new(0),
        }
    }

    /// Whether intents for this many clocks are acted on now.
    pub(crate) fn acts(&self, clocks: u64) -> bool {
        clocks > SKIPPED_MAX || self.acts.load(Ordering::Relaxed)
    }

    /// Whether intents for few clocks are not.
    pub(crate) fn declines(&self) -> bool {
        !self.acts.load(Ordering::Relaxed)
    }

    /// An intent for so many keys was not acted on.
    pub(crate) fn decline(&self, keys: usize) {
        self.declined.fetch_add(keys as u64, Ordering::Relaxed);
    }

    /// Keys of intents that were not acted on.
    pub(crate) fn declined(&self) -> u64 {
        self.declined.load(Ordering::Relaxed)
    }

    /// Keys counted in this phase so far.
    pub(crate) fn keys(&self) -> u64 {
        self.keys.load(Ordering::Relaxed)
    }

    /// A phase begins; gives what was counted in the one that ends. What a worker hands over at this moment may count for either.
    pub(crate) fn begin(&self, order: Order) -> Counted {
        self.acts.store(order.act, Ordering::Relaxed);
        self.phase.store(order.phase, Ordering::Relaxed);
        let [keys, ns] = [&self.keys, &self.ns].map(|count| count.swap(0, Ordering::Relaxed));
        Counted { keys, ns }
    }

    fn note(&self, counted: Counted) {
        self.keys.fetch_add(counted.keys, Ordering::Relaxed);
        self.ns.fetch_add(counted.ns, Ordering::Relaxed);
    }
}

/// What one worker counts.
#[derive(Debug, Default)]
pub(crate) struct Window {
    phase: u32,
    skip: u64,
    skip_until_ns: u64,
    /// The time, and the keys used since the worker's start, at the last clock; nothing if something else than a step came between.
    last: Option<Counted>,
    counted: Counted,
}

impl Window {
    /// The worker's clock goes on. `now` says when, and how many keys it has used since its start; `ahead` for how many clocks it acts on
    /// intents before they begin.
    pub(crate) fn clock(&mut self, gauge: &Gauge, ahead: u64, now: Counted) {
        let Some(settle_ns) = gauge.settle_ns else { return };
        let phase = gauge.phase.load(Ordering::Relaxed);
        if phase != self.phase {
            let (skip, skip_until_ns) = (ahead.min(SKIPPED_MAX), now.ns + settle_ns);
            *self = Self { phase, skip, skip_until_ns, ..Self::default() };
        }
        if self.skip > 0 {
            self.skip -= 1;
            return;
        }
        if now.ns < self.skip_until_ns {
            return;
        }
        if let Some(last) = self.last.replace(now) {
            self.counted.keys += now.keys - last.keys;
            self.counted.ns += now.ns.saturating_sub(last.ns);
        }
        if self.counted.keys >= HAND_OVER.keys || self.counted.ns >= HAND_OVER.ns {
            gauge.note(std::mem::take(&mut self.counted));
        }
    }

    /// What comes until the next clock is no step, or not only.
    pub(crate) fn interrupt(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ns: u64, keys: u64) -> Counted {
        Counted { keys, ns }
    }

    #[test]
    fn a_worker_counts_steps_and_neither_their_first_clocks_nor_what_comes_between() {
        let (gauge, mut window) = (Gauge::new(Some(Least { keys: 1, ns: 0 })), Window::default());
        gauge.begin(Order { phase: 1, act: false });
        for clock in 0..4 {
            window.clock(&gauge, 2, at(clock * 200_000, clock * 10));
        }
        assert_eq!(
            gauge.keys(),
            10,
            "of four clocks two are skipped, one step lies between the others"
        );
        window.interrupt();
        window.clock(&gauge, 2, at(10_000_000, 5_000));
        window.clock(&gauge, 2, at(10_100_000, 5_001));
        let counted = gauge.begin(Order { phase: 2, act: true });
        assert_eq!(counted, at(300_000, 11));
        assert_eq!(gauge.keys(), 0);
    }

    #[test]
    fn only_intents_for_few_clocks_are_declined() {
        let gauge = Gauge::new(Some(Least { keys: 1, ns: 0 }));
        assert!(gauge.acts(1));
        gauge.begin(Order { phase: 1, act: false });
        assert!(!gauge.acts(1) && gauge.acts(u64::MAX));
    }
}
