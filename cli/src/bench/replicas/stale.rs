//! How old an addition is when the other side first sees it.
//!
//! The writer adds 1 to a row again and again and notes when; the reader polls its copy and notes when it first sees each count. A
//! count that it never sees, because a later one came with it, is as old as that one shows.

use std::fmt;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::{Pair, ReplicasArgs};
use crate::plot::{self, Axis, Curve};
use crate::probe::{Spread, Times};

/// Between two additions.
const ADD_EVERY: Duration = Duration::from_micros(550);

/// Before each measurement.
const REST: Duration = Duration::from_millis(400);

/// How long the reader waits for the last of them.
const SEE_LIMIT: Duration = Duration::from_secs(60);

/// The age of additions, with so many replicas held.
#[derive(Debug, Serialize)]
pub(super) struct Stale {
    replicas: usize,
    /// Whether the row's owner adds and the holder of a replica sees; else the other way round.
    from_owner: bool,
    #[serde(flatten)]
    spread: Spread,
    /// Upper ends of its steps in microseconds, and additions of each.
    histogram: Vec<(f64, u64)>,
}

/// Numbers of replicas to measure with, up to `most`.
pub(super) fn held(most: u32) -> Vec<usize> {
    let most = most as usize;
    let mut held: Vec<usize> = [10, 1_000, 10_000].into_iter().filter(|&n| n <= most).collect();
    if held.last() != Some(&most) {
        held.push(most);
    }
    held
}

impl Pair<'_> {
    /// Measures with the first row of rank 0, which rank 1 has a replica of.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "nanoseconds since the host's start, and counts, below 2^52"
    )]
    pub(super) fn stale(
        &mut self,
        args: &ReplicasArgs,
        replicas: usize,
        from_owner: bool,
    ) -> anyhow::Result<Stale> {
        let key = self.keys[0][0];
        let count = args.additions as usize;
        let writes = (self.rank() == 0) == from_owner;
        let mut row = vec![0.0; self.table.dim()];
        // The reader polls without end: with real-time priority the kernel would take the processor away after 0.95 s in 1 s.
        std::thread::sleep(REST);
        self.worker.barrier()?;
        self.worker.pull(self.table, &[key], &mut row)?;
        let start = row[0];
        self.worker.barrier()?;
        let mut at = if writes { self.add(key, count)? } else { self.see(key, start, count)? };
        at.resize(2 * count, 0.0);
        if !writes {
            at.rotate_right(count);
        }
        self.worker.all_reduce_sum(&mut at)?;
        let (added, seen) = at.split_at(count);
        let mut times = Times::new();
        for (added, seen) in added.iter().zip(seen) {
            times.record_ns((seen - added).max(1.0) as u64);
        }
        Ok(Stale { replicas, from_owner, spread: times.spread(), histogram: times.steps() })
    }

    /// Adds, and gives the times.
    fn add(&mut self, key: u64, count: usize) -> anyhow::Result<Vec<f64>> {
        let delta = vec![1.0; self.table.dim()];
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            std::thread::sleep(ADD_EVERY);
            times.push(now_ns());
            self.worker.add(self.table, &[key], &delta)?;
            self.worker.advance_clock()?;
        }
        Ok(times)
    }

    /// Polls, and gives the time at which each count has been reached.
    fn see(&mut self, key: u64, start: f32, count: usize) -> anyhow::Result<Vec<f64>> {
        let mut row = vec![0.0; self.table.dim()];
        let mut times = Vec::with_capacity(count);
        let mut last = Instant::now();
        while times.len() < count {
            self.worker.pull(self.table, &[key], &mut row)?;
            #[allow(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a whole number"
            )]
            let seen = (row[0] - start).round() as usize;
            if seen > times.len() {
                times.resize(seen.min(count), now_ns());
                last = Instant::now();
            }
            anyhow::ensure!(
                last.elapsed() < SEE_LIMIT,
                "addition {} of {count} was not seen in {SEE_LIMIT:?}",
                times.len() + 1
            );
        }
        Ok(times)
    }
}

/// Nanoseconds since the host's start: the same for all processes.
#[allow(clippy::cast_precision_loss, reason = "below 2^52 for 52 days of nanoseconds")]
fn now_ns() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call only writes to the given place.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec as f64 * 1e9 + time.tv_nsec as f64
}

impl Stale {
    fn name(&self) -> String {
        let way = if self.from_owner { "owner -> holder" } else { "holder -> owner" };
        format!("{way}, {} replicas", self.replicas)
    }
}

impl fmt::Display for Stale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Spread { count, p50_us, p99_us, max_us, .. } = self.spread;
        write!(f, "{:<32} {count:>9} {p50_us:>9.0} {p99_us:>9.0} {max_us:>9.0}", self.name())
    }
}

/// The distribution of each line.
pub(super) fn svg(title: &str, machine: &str, lines: &[Stale]) -> String {
    let curve = |line: &Stale| plot::cumulated(line.name(), &line.histogram, line.spread.count);
    let curves: Vec<Curve> = lines.iter().map(curve).collect();
    let mut out = plot::begin(1, 1, title, machine);
    let times = curves.iter().flat_map(|curve| curve.points.iter().map(|point| point.0));
    let axes = (&Axis::log(times, 10.0), &Axis::linear(0.0, 1.0));
    let title = "share of additions that were seen after at most so many us";
    plot::panel(&mut out, (0.0, plot::TITLE), title, &curves, axes);
    out.push_str("</svg>\n");
    out
}
