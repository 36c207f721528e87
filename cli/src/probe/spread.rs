//! What was measured, as a distribution and a rate.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

/// Times of single operations, and what they moved together.
#[derive(Debug)]
pub(crate) struct Times {
    histogram: Histogram<u64>,
    bytes: u64,
    elapsed: Duration,
}

impl Times {
    pub(crate) fn new() -> Self {
        let histogram =
            Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("the bounds are valid");
        Self { histogram, bytes: 0, elapsed: Duration::ZERO }
    }

    /// An operation that began at `begun` has just ended. `share` is the part of the time that counts: 2 for half a round trip.
    pub(crate) fn record(&mut self, begun: Instant, share: u64) {
        self.record_until(begun, Instant::now(), share);
    }

    /// The same of one that ended at `ended`.
    pub(crate) fn record_until(&mut self, begun: Instant, ended: Instant, share: u64) {
        let taken = ended.saturating_duration_since(begun);
        self.record_ns(u64::try_from(taken.as_nanos()).unwrap_or(u64::MAX) / share);
    }

    /// An operation has taken so long.
    pub(crate) fn record_ns(&mut self, ns: u64) {
        self.histogram.saturating_record(ns.max(1));
    }

    /// All operations together moved so many bytes in that time.
    pub(crate) fn moved(&mut self, bytes: u64, elapsed: Duration) {
        self.bytes += bytes;
        self.elapsed += elapsed;
    }

    /// Takes another part of the same measurement in.
    pub(crate) fn add(&mut self, other: &Self) {
        self.histogram.add(&other.histogram).expect("the same bounds");
        self.moved(other.bytes, other.elapsed);
    }

    /// The distribution in steps of the square root of two: the upper end of a step in us, and the operations in it. Steps without any
    /// are left out.
    pub(crate) fn steps(&self) -> Vec<(f64, u64)> {
        let mut steps: Vec<(f64, u64)> = Vec::new();
        for value in self.histogram.iter_recorded() {
            let ns = value.value_iterated_to();
            #[allow(clippy::cast_precision_loss, reason = "a time for people")]
            let exponent = ((ns as f64).log2() * 2.0).ceil();
            let end_us = (exponent / 2.0).exp2() / 1e3;
            match steps.last_mut() {
                Some(last) if last.0 >= end_us => last.1 += value.count_at_value(),
                _ => steps.push((end_us, value.count_at_value())),
            }
        }
        steps
    }

    /// How many operations of `bytes` bytes it was, timed or not.
    pub(crate) fn operations(&self, bytes: usize) -> u64 {
        match self.histogram.len() {
            0 => self.bytes / bytes.max(1) as u64,
            timed => timed,
        }
    }

    pub(crate) fn spread(&self) -> Spread {
        let us = |ns: u64| {
            #[allow(clippy::cast_precision_loss, reason = "a time for people")]
            let us = ns as f64 / 1e3;
            us
        };
        let at = |quantile: f64| us(self.histogram.value_at_quantile(quantile));
        #[allow(clippy::cast_precision_loss, reason = "a rate")]
        let (bytes, count) = (self.bytes as f64, self.histogram.len() as f64);
        Spread {
            count: self.histogram.len(),
            p50_us: at(0.5),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: us(self.histogram.max()),
            per_second: count / self.elapsed.as_secs_f64().max(1e-9),
            megabytes_per_second: bytes / self.elapsed.as_secs_f64().max(1e-9) / 1e6,
        }
    }
}

/// A measurement in figures. A rate alone (a stream) has no times: they are zero.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Spread {
    pub(crate) count: u64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) max_us: f64,
    /// Operations that were timed.
    pub(crate) per_second: f64,
    pub(crate) megabytes_per_second: f64,
}
