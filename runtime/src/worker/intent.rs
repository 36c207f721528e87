//! What a worker has announced to use, and when that is acted on.
//!
//! An intent names keys and the clocks in which they will be used. It becomes active when its start is near, and ends when the
//! clock reaches its end; the caller's keys are stored once and walked twice.
//!
//! *How near* is learned (AdaPM, section 4.2): the number of clocks that go by during a round trip is smoothed exponentially, and an
//! intent is acted on when its start is no farther away than a high quantile of the Poisson distribution of clocks in two round trips.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

use sterna_protocol::Key;

use crate::error::Result;
use crate::knobs::{Act, Knobs};
use crate::remote::Remote;
use crate::table::Table;
use crate::trial::{Counted, Window};

/// A measurement spans so many clocks, or so long, whichever comes first.
const MEASURE_CLOCKS: u64 = 16;
const MEASURE_NS: u64 = 1_000_000;

#[derive(Debug)]
struct Announced {
    /// When the next thing happens to it: its start, then its end.
    due: u64,
    end: u64,
    table: Table,
    keys: Box<[Key]>,
}

impl PartialEq for Announced {
    fn eq(&self, other: &Self) -> bool {
        self.due == other.due
    }
}

impl Eq for Announced {}

impl PartialOrd for Announced {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Announced {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.due.cmp(&other.due)
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Intents {
    waiting: BinaryHeap<Reverse<Announced>>,
    active: BinaryHeap<Reverse<Announced>>,
    pace: Pace,
    window: Window,
}

/// How many clocks go by in a round trip.
#[derive(Debug)]
struct Pace {
    knobs: Knobs,
    rate: f64,
    /// Measurements so far: the first ones weigh as much as each other, so that a short run is not ruled by where it started.
    measured: u32,
    ahead: u64,
    measured_clock: u64,
    measured_ns: u64,
}

impl Intents {
    pub(super) fn new(knobs: Knobs) -> Self {
        let pace = Pace {
            knobs,
            rate: knobs.rate_start,
            measured: 0,
            ahead: quantile(knobs.quantile, 2.0 * knobs.rate_start),
            measured_clock: 0,
            measured_ns: 0,
        };
        Self {
            waiting: BinaryHeap::new(),
            active: BinaryHeap::new(),
            pace,
            window: Window::default(),
        }
    }

    /// Takes an intent; one for the past is over already.
    pub(super) fn add(
        &mut self,
        remote: &Remote,
        table: &Table,
        keys: &[Key],
        clocks: Range<u64>,
        now: u64,
    ) -> Result<()> {
        if clocks.end <= now || clocks.is_empty() || keys.is_empty() || !remote.policy.asks() {
            return Ok(());
        }
        let announced = Announced {
            due: clocks.start,
            end: clocks.end,
            table: table.clone(),
            keys: keys.into(),
        };
        if self.pace.is_near(clocks.start, now) {
            self.begin(remote, announced, now)
        } else {
            self.waiting.push(Reverse(announced));
            Ok(())
        }
    }

    fn begin(&mut self, remote: &Remote, announced: Announced, now: u64) -> Result<()> {
        if !remote.trial.acts(announced.end - announced.due.max(now)) {
            remote.trial.decline(announced.keys.len());
            return Ok(());
        }
        remote.want_all(&announced.table, &announced.keys)?;
        self.active.push(Reverse(Announced { due: announced.end, ..announced }));
        remote.nudge()
    }

    /// The clock has come to `now`: ends intents, and begins those that are near. The worker has used so many keys since its start.
    pub(super) fn advance(&mut self, remote: &Remote, now: u64, keys: u64) -> Result<()> {
        let now_ns = remote.timing.now_ns();
        self.pace.measure(now, now_ns, remote.round_trip_ns());
        self.window.clock(&remote.trial, self.pace.ahead, Counted { keys, ns: now_ns });
        while let Some(Reverse(first)) = self.active.peek()
            && first.due <= now
        {
            let Some(Reverse(ended)) = self.active.pop() else { break };
            remote.unwant_all(&ended.table, &ended.keys);
        }
        while let Some(Reverse(first)) = self.waiting.peek()
            && self.pace.is_near(first.due, now)
        {
            let Some(Reverse(announced)) = self.waiting.pop() else { break };
            if announced.end > now {
                self.begin(remote, announced, now)?;
            }
        }
        Ok(())
    }

    /// What comes until the next clock is no step, or not only.
    pub(super) fn interrupt(&mut self) {
        self.window.interrupt();
    }

    /// Ends all intents.
    pub(super) fn clear(&mut self, remote: &Remote) {
        self.waiting.clear();
        while let Some(Reverse(ended)) = self.active.pop() {
            remote.unwant_all(&ended.table, &ended.keys);
        }
    }
}

impl Pace {
    fn is_near(&self, start: u64, now: u64) -> bool {
        self.knobs.act == Act::Immediate || start <= now.saturating_add(self.ahead)
    }

    fn measure(&mut self, now: u64, now_ns: u64, round_trip_ns: u64) {
        let clocks = now - self.measured_clock;
        let passed_ns = now_ns.saturating_sub(self.measured_ns).max(1);
        if round_trip_ns == 0 || clocks < MEASURE_CLOCKS && passed_ns < MEASURE_NS {
            return;
        }
        if self.measured_ns > 0 {
            #[allow(clippy::cast_precision_loss, reason = "a rate")]
            let rate = clocks as f64 * round_trip_ns as f64 / passed_ns as f64;
            self.measured = self.measured.saturating_add(1);
            let weight = self.knobs.smoothing.max(1.0 / f64::from(self.measured));
            self.rate += weight * (rate - self.rate);
            self.ahead = quantile(self.knobs.quantile, 2.0 * self.rate);
        }
        (self.measured_clock, self.measured_ns) = (now, now_ns);
    }
}

/// The least count that a Poisson variable of this mean stays below or at with this probability, plus one.
fn quantile(probability: f64, mean: f64) -> u64 {
    let mean = mean.clamp(0.0, 1e6);
    if mean > 500.0 {
        // The normal distribution is close enough; 3.72 standard deviations are the same quantile.
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "positive, small"
        )]
        return (mean + 3.72 * mean.sqrt()).ceil() as u64 + 1;
    }
    let (mut term, mut count) = ((-mean).exp(), 0_u64);
    let mut sum = term;
    while sum < probability && count < 10_000 {
        count += 1;
        #[allow(clippy::cast_precision_loss, reason = "a small count")]
        let of = count as f64;
        term *= mean / of;
        sum += term;
    }
    count + 1
}

#[cfg(test)]
mod tests {
    use super::quantile;

    #[test]
    fn quantiles_are_those_of_the_poisson_distribution() {
        // R: qpois(0.9999, c(0, 0.1, 1, 20, 400)) = 0, 3, 6, 39, 476
        let found: Vec<u64> =
            [0.0, 0.1, 1.0, 20.0, 400.0].map(|mean| quantile(0.9999, mean)).to_vec();
        assert_eq!(found, [1, 4, 7, 40, 477]);
        assert!((1_080..1_130).contains(&quantile(0.9999, 1000.0)));
    }
}
