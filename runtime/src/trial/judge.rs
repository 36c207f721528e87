//! Rank 0's part of a trial: when a phase is over, what comes next, and which way is the faster one. Pure: it is told the time.

use sterna_protocol::Rank;

use super::Counted;

/// The other way takes at most this part of the time of the present one for a key, or nothing changes.
const FASTER: f64 = 0.95;

/// So much faster that one pair says it.
const MUCH_FASTER: f64 = 0.8;

/// How long a way is kept, in phases: at the start, after a change, after the first trial that has changed nothing, at most.
const REST_START: u32 = 4;
const REST_CHANGED: u32 = 16;
const REST_SAME: u32 = 32;
const REST_MAX: u32 = 512;

/// A trial of the other way ends when it has taken so many times as long as the phase before it, whatever was counted.
const SLOWER_MAX: u64 = 3;

/// What a phase has at least, at rank 0.
pub(crate) type Least = Counted;

/// From now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) phase: u32,
    /// Whether intents are acted on.
    pub(crate) act: bool,
}

/// What the present phase is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    /// Nothing is tried.
    Rest,
    /// As now, for comparison.
    Now,
    /// The other way, until this moment at the latest.
    Other { until_ns: u64 },
    /// As now again, until all nodes have told what they have counted.
    Hearing,
}

/// What nodes have counted in a phase.
#[derive(Clone, Debug)]
struct Told {
    phase: u32,
    by: Vec<Option<Counted>>,
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Judge {
    least: Least,
    /// The way that is kept, but for trials.
    acts: bool,
    phase: u32,
    began_ns: Option<u64>,
    doing: Doing,
    /// How many phases a way is kept.
    rest: u32,
    /// The longest phase of the last trial.
    longest_ns: u64,
    /// Whether a pair of this trial has found the other way faster.
    won: bool,
    /// The pair's phases: as now, and the other way.
    pair: [Told; 2],
}

impl Judge {
    pub(crate) fn new(size: usize, least: Least) -> Self {
        let told = Told { phase: 0, by: vec![None; size] };
        Self {
            least,
            acts: true,
            phase: 0,
            began_ns: None,
            doing: Doing::Rest,
            rest: REST_START,
            longest_ns: 0,
            won: false,
            pair: [told.clone(), told],
        }
    }

    /// What comes next, if the present phase is over. `keys` were counted in it at rank 0.
    pub(crate) fn next(&mut self, now_ns: u64, keys: u64) -> Option<Order> {
        let passed_ns = now_ns.saturating_sub(*self.began_ns.get_or_insert(now_ns));
        let lasted = |phases: u32, ns: u64| {
            let phases = u64::from(phases);
            keys >= phases * self.least.keys && passed_ns >= phases * ns
        };
        match self.doing {
            Doing::Rest if lasted(self.rest, self.longest_ns.max(self.least.ns)) => {
                self.won = false;
                Some(self.begin(now_ns, Doing::Now))
            }
            Doing::Now if lasted(1, self.least.ns) => {
                self.longest_ns = passed_ns;
                let until_ns = now_ns + SLOWER_MAX * passed_ns + self.least.ns;
                Some(self.begin(now_ns, Doing::Other { until_ns }))
            }
            Doing::Other { until_ns } if lasted(1, self.least.ns) || now_ns >= until_ns => {
                self.longest_ns = self.longest_ns.max(passed_ns);
                Some(self.begin(now_ns, Doing::Hearing))
            }
            Doing::Hearing => self.ratio().and_then(|ratio| self.judge(ratio, now_ns)),
            _ => None,
        }
    }

    fn begin(&mut self, now_ns: u64, doing: Doing) -> Order {
        self.phase = self.phase.wrapping_add(1);
        (self.began_ns, self.doing) = (Some(now_ns), doing);
        let other = matches!(doing, Doing::Other { .. });
        if let Some(told) = match doing {
            Doing::Now => Some(0),
            Doing::Other { .. } => Some(1),
            Doing::Rest | Doing::Hearing => None,
        } {
            self.listen(told);
        }
        Order { phase: self.phase, act: self.acts != other }
    }

    /// The present phase is this one of a pair.
    fn listen(&mut self, of_pair: usize) {
        self.pair[of_pair].phase = self.phase;
        self.pair[of_pair].by.fill(None);
    }

    /// A node tells what it has counted in a phase that is over.
    pub(crate) fn told(&mut self, by: Rank, phase: u32, counted: Counted) {
        let told = self.pair.iter_mut().find(|told| told.phase == phase);
        if let Some(place) = told.and_then(|told| told.by.get_mut(by.index())) {
            *place = Some(counted);
        }
    }

    /// The time for a key the other way, beside that as now; nothing before all nodes have told.
    fn ratio(&self) -> Option<f64> {
        let [now, other] = &self.pair;
        #[allow(clippy::cast_precision_loss, reason = "a ratio")]
        let time = |it: Counted| it.ns as f64 / it.keys as f64;
        let mut sums = [0.0, 0.0];
        for (now, other) in now.by.iter().zip(&other.by) {
            let (now, other) = ((*now)?, (*other)?);
            if now.keys > 0 {
                // Who has not got to use a key within the limit is slower than could be counted.
                sums[0] += time(now);
                sums[1] += if other.keys > 0 { time(other) } else { f64::INFINITY };
            }
        }
        Some(if sums[0] > 0.0 { sums[1] / sums[0] } else { f64::INFINITY })
    }

    fn judge(&mut self, ratio: f64, now_ns: u64) -> Option<Order> {
        tracing::debug!(ratio, acts = self.acts, "a trial of the other way");
        if ratio >= FASTER {
            self.rest = self.rest.saturating_mul(2).clamp(REST_SAME, REST_MAX);
            self.doing = Doing::Rest;
            None
        } else if ratio < MUCH_FASTER || self.won {
            self.acts = !self.acts;
            self.rest = REST_CHANGED;
            Some(self.begin(now_ns, Doing::Rest))
        } else {
            // This phase, which goes on as before the trial, is the first of the next pair.
            (self.won, self.doing) = (true, Doing::Now);
            self.listen(0);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: Least = Least { keys: 1000, ns: 10_000 };

    /// A job of two nodes whose workers take so many nanoseconds for a key: intents acted on, and not.
    struct Job {
        judge: Judge,
        order: Order,
        now_ns: u64,
        began_ns: u64,
        /// Time spent with intents acted on, and without.
        spent_ns: [u64; 2],
        orders: usize,
    }

    impl Job {
        fn new() -> Self {
            Self {
                judge: Judge::new(2, LEAST),
                order: Order { phase: 0, act: true },
                now_ns: 0,
                began_ns: 0,
                spent_ns: [0; 2],
                orders: 0,
            }
        }

        /// Lets time go by in steps of a microsecond.
        fn run(&mut self, steps: u64, ns_per_key: impl Fn(bool) -> u64) {
            for _ in 0..steps {
                let ns_per_key = ns_per_key(self.order.act);
                self.now_ns += 1000;
                self.spent_ns[usize::from(!self.order.act)] += 1000;
                let passed = self.now_ns - self.began_ns;
                let counted = Counted { keys: passed / ns_per_key, ns: passed };
                if let Some(order) = self.judge.next(self.now_ns, counted.keys) {
                    for rank in [Rank(1), Rank(0)] {
                        self.judge.told(rank, self.order.phase, counted);
                    }
                    assert_eq!(order.phase, self.order.phase + 1);
                    (self.order, self.began_ns) = (order, self.now_ns);
                    self.orders += 1;
                }
            }
        }
    }

    #[test]
    fn the_faster_way_is_kept_and_followed_when_it_changes() {
        let mut job = Job::new();
        job.run(10_000, |act| if act { 20 } else { 10 });
        assert!(!job.order.act);
        assert!(job.spent_ns[1] > 8 * job.spent_ns[0], "{:?}", job.spent_ns);
        job.run(20_000, |act| if act { 10 } else { 20 });
        assert!(job.order.act);
    }

    #[test]
    fn ways_that_differ_by_little_change_nothing_and_are_tried_ever_more_rarely() {
        let mut job = Job::new();
        job.run(100_000, |act| if act { 100 } else { 97 });
        assert!(job.order.act);
        assert!(job.spent_ns[1] * 50 < job.spent_ns[0], "{:?}", job.spent_ns);
        let before = job.orders;
        job.run(100_000, |act| if act { 100 } else { 97 });
        assert!(job.orders > before && job.orders < 2 * before, "{before}, {}", job.orders);
    }

    #[test]
    fn a_tenth_needs_two_pairs_that_agree() {
        let mut job = Job::new();
        job.run(10_000, |act| if act { 100 } else { 90 });
        assert!(!job.order.act);
        let mut pairs = Judge::new(1, LEAST);
        let mut now_ns = 0;
        let mut told = |judge: &mut Judge, act, ns| {
            now_ns += 1_000_000;
            let order = judge.next(now_ns, 1_000_000).unwrap_or_else(|| panic!("{judge:?}"));
            assert_eq!(order.act, act);
            judge.told(Rank(0), order.phase - 1, Counted { keys: 1000, ns });
        };
        assert_eq!(pairs.next(0, 0), None);
        told(&mut pairs, true, 0);
        told(&mut pairs, false, 1000);
        told(&mut pairs, true, 900);
        assert_eq!(pairs.next(3_000_000, 0), None, "one pair said so, and the next begins");
        told(&mut pairs, false, 1000);
        told(&mut pairs, true, 990);
        assert_eq!(pairs.next(5_000_000, 0), None);
        assert!(pairs.acts && pairs.doing == Doing::Rest);
    }

    #[test]
    fn a_way_that_is_slow_beyond_measure_is_left_early() {
        let mut job = Job::new();
        job.run(10_000, |act| if act { 10 } else { u64::MAX });
        assert!(job.order.act && job.orders >= 3);
        assert!(job.spent_ns[1] * 8 < job.spent_ns[0], "{:?}", job.spent_ns);
    }

    #[test]
    fn nothing_is_tried_while_few_keys_are_used() {
        let mut job = Job::new();
        job.run(100_000, |_| u64::MAX);
        assert_eq!(job.orders, 0);
    }

    #[test]
    fn a_node_that_tells_nothing_ends_the_trials_and_not_the_way() {
        let mut judge = Judge::new(2, LEAST);
        let mut acts = true;
        for step in 0..1000 {
            if let Some(order) = judge.next(step * 1_000_000, 1_000_000) {
                acts = order.act;
                judge.told(Rank(0), order.phase - 1, Counted { keys: 1, ns: 1 });
            }
        }
        assert!(acts && judge.doing == Doing::Hearing && judge.phase == 3);
    }
}
