//! What a simulated job looks like: its size, its network and its faults.

use std::ops::RangeInclusive;

use crate::rank::Rank;

/// Parameters of a simulated job. Everything random is drawn from `seed`: two worlds of the same
/// configuration that are driven by the same calls do the same things at the same virtual times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimConfig {
    /// Number of nodes.
    pub nodes: usize,
    /// Seed of all random choices.
    pub seed: u64,
    /// Each link draws its base one-way latency from this range, in nanoseconds.
    pub latency_ns: RangeInclusive<u64>,
    /// Each message is late by up to this much more, in nanoseconds.
    pub jitter_ns: u64,
    /// So many messages in a thousand are late by up to `spike_ns` more.
    pub spike_per_mille: u32,
    /// The largest spike, in nanoseconds.
    pub spike_ns: u64,
    /// Each link draws its bandwidth from this range, in bytes per microsecond (MB/s).
    pub bandwidth_bytes_per_us: RangeInclusive<u64>,
    /// Bytes that may be sent on a link and not yet credited. One record of any legal length is
    /// always taken by a link that is empty, so this may be smaller than the largest record.
    pub ring_bytes: usize,
    /// Records that may be sent on a link and not yet credited.
    pub ring_records: usize,
    /// READs that a lane may have outstanding.
    pub lane_reads: usize,
    /// So many sends in a thousand are refused as [`crate::SendError::Busy`], as if another thread
    /// was sending.
    pub busy_per_mille: u32,
    /// The lines of one READ are fetched at up to this many different times (at least 1).
    pub fetch_moments: usize,
    /// READs as devices do them: no order between the head and the rest, and the head is loaded
    /// once, so that both heads of a completion are the same bytes.
    pub device_reads: bool,
    /// The time until a peer learns that a node died or broke a connection, in nanoseconds.
    pub death_notice_ns: RangeInclusive<u64>,
}

impl SimConfig {
    /// A small, jittery network: 1 to 5 us of latency, 1 to 10 GB/s, rings of 64 KiB and 64 records.
    #[must_use]
    pub fn new(nodes: usize, seed: u64) -> Self {
        Self {
            nodes,
            seed,
            latency_ns: 1_000..=5_000,
            jitter_ns: 2_000,
            spike_per_mille: 10,
            spike_ns: 50_000,
            bandwidth_bytes_per_us: 1_000..=10_000,
            ring_bytes: 64 * 1024,
            ring_records: 64,
            lane_reads: 256,
            busy_per_mille: 5,
            fetch_moments: 6,
            device_reads: false,
            death_notice_ns: 10_000..=200_000,
        }
    }

    /// # Panics
    /// If a number cannot work; a simulation's configuration is written by its programmer.
    pub(super) fn check(&self) {
        assert!((1..=Rank::COUNT_MAX).contains(&self.nodes), "nodes: {}", self.nodes);
        assert!(self.ring_bytes >= 64 && self.ring_records >= 1, "a ring holds at least a record");
        assert!(self.lane_reads >= 1, "a lane holds at least a READ");
        assert!(self.fetch_moments >= 1, "a READ fetches its lines at one time at least");
        assert!(*self.bandwidth_bytes_per_us.start() >= 1, "a link has a bandwidth");
        assert!(self.busy_per_mille < 1000, "a send must succeed at some time");
    }
}
