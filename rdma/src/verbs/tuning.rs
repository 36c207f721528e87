//! Sizes of queues and the relations between them, checked by the compiler or against the device at start.
//!
//! Starting points are those on which eRPC and UCX agree: chains of 16, one completion in 64. A receiver
//! that lets each peer have `records` records outstanding keeps a receive request for each of them and one
//! for its goodbye, so no peer ever finds none ("receiver not ready"); the completion queue has
//! room for everything that can complete at once, also when all queue pairs fail together.

use std::time::Duration;

use super::device::DeviceLimits;
use super::error::VerbsError;
use super::ring::CUT_BYTES;
use crate::fabric::{READ_BYTES_MAX, RECORD_BYTES_MAX};
use crate::tuning::RING_BYTES;

/// Work requests that go to a device with one doorbell.
pub(super) const CHAIN_MAX: usize = 16;

/// Completions taken from a queue at once.
pub(super) const COMPLETIONS_EACH: usize = 32;

/// Records that a peer may have outstanding, at most and at least.
const RECORDS_MAX: u32 = 256;
const RECORDS_MIN: u32 = 16;

/// Work requests after which one is signalled, at most.
const SIGNAL_EVERY_MAX: u32 = 64;

/// Bytes of records after which a work request is signalled.
pub(super) const SIGNAL_BYTES: u64 = RING_BYTES as u64 / 8;

/// Requests of a send queue that records leave to credit and goodbye.
pub(super) const SEND_RESERVE: u64 = 4;

/// Bytes that may stand in the work request itself, as far as the device allows: in order of preference. A
/// credit always does.
pub(super) const INLINE_BYTES: [u32; 3] = [128, 64, 32];

/// Work requests of a lane that one peer may have outstanding.
pub(super) const LANE_DEPTH: u32 = 256;

/// READs that may be posted on a lane and not handed out.
pub(super) const LANE_READS: usize = 1024;

/// Memory into which the READs of a lane land.
pub(super) const LANE_POOL_BYTES: usize = 4 << 20;

/// How long a lane looks for completions before it sleeps.
pub(super) const LANE_SPIN: Duration = Duration::from_micros(20);

/// Lanes of peers that this node serves.
pub(super) const SERVED_MAX: usize = 16 * 1024;

/// Queue pairs above which the caches of usual devices no longer hold the state of all.
pub(super) const ACTIVE_PAIRS_ADVISED: u64 = 256;

/// The least that a port must carry in one message, and the most that is asked of it: a long READ does not
/// hold up the others for long then, and the case that a port carries less is no rare one.
pub(super) const MESSAGE_BYTES_MIN: u32 = 64 * 1024;
pub(super) const MESSAGE_BYTES_MAX: u32 = 128 * 1024;

/// Time until a packet is sent again: 4.096 us times 2 to this power, 0.27 s.
pub(super) const ACK_TIMEOUT: u8 = 16;
/// How often it is sent again before the connection has failed: after about 2 s. The most there is, 7, is
/// without end for soft-RoCE.
pub(super) const RETRIES: u8 = 6;
/// How often a peer that has no receive request is tried again. Credit makes this impossible, so it is few.
pub(super) const NOT_READY_RETRIES: u8 = 3;
/// Pause before that: code 12 is 0.64 ms.
pub(super) const NOT_READY_PAUSE: u8 = 12;
/// Routers that a packet may pass.
pub(super) const HOP_LIMIT: u8 = 64;

/// Limit for opening a lane to one peer, and how often that is tried.
pub(super) const OFFER_MAX: Duration = Duration::from_secs(20);
pub(super) const OFFERS_MAX: usize = 3;
/// Limit for a goodbye to reach all peers: a device that hears nothing of one gives it up after about 2 s.
pub(super) const GOODBYE_MAX: Duration = Duration::from_secs(10);
/// Limit for the last records of a peer that has said goodbye: all were acknowledged by this node's device.
pub(super) const LAST_RECORDS_MAX: Duration = Duration::from_secs(10);

const _: () = {
    assert!(CHAIN_MAX <= SIGNAL_EVERY_MAX as usize);
    assert!(RECORDS_MIN.is_power_of_two() && RECORDS_MAX.is_power_of_two());
    // What is not known to be complete leaves room in the ring for a skip and the longest record.
    assert!(SIGNAL_BYTES + 3 * RECORD_BYTES_MAX as u64 <= RING_BYTES as u64);
    // Two of the longest READs fit, whatever lies between them.
    assert!(LANE_POOL_BYTES >= 3 * READ_BYTES_MAX);
    // A record, its skip and what is reserved fit into the smallest send queue.
    let pieces = (RECORD_BYTES_MAX as u64).div_ceil(MESSAGE_BYTES_MIN as u64) + 2;
    assert!(pieces + SEND_RESERVE + (RECORDS_MIN / 2) as u64 <= 2 * RECORDS_MIN as u64);
    assert!(MESSAGE_BYTES_MIN as usize >= CUT_BYTES, "a message carries a piece of a record");
    assert!(READ_BYTES_MAX.div_ceil(MESSAGE_BYTES_MIN as usize) < LANE_DEPTH as usize);
};

/// The sizes that fit a device and a number of peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    /// Records that each peer may have outstanding here.
    pub(super) records: u32,
    /// Requests of the shared receive queue.
    pub(super) shared: u32,
    /// Requests of each link's send queue.
    pub(super) send: u32,
    /// One of so many is signalled.
    pub(super) signal_every: u32,
    /// Entries of the completion queue.
    pub(super) completions: u32,
}

impl Sizes {
    /// The largest that the device allows for `peers` peers.
    ///
    /// # Errors
    /// [`VerbsError::Choice`] if not even the smallest fit.
    pub(super) fn fit(
        limits: &DeviceLimits,
        peers: usize,
        device: &str,
    ) -> Result<Self, VerbsError> {
        let peers = u32::try_from(peers).expect("at most 4,095 peers");
        let mut records = RECORDS_MAX;
        while records >= RECORDS_MIN {
            let shared = peers * (records + 1);
            let send = 2 * records;
            let sizes = Self {
                records,
                shared,
                send,
                signal_every: SIGNAL_EVERY_MAX.min(records / 2),
                completions: shared + peers * (send + 1),
            };
            if u64::from(shared) <= limits.shared_requests
                && u64::from(send) <= limits.work_requests
                && u64::from(sizes.completions) <= limits.completions
            {
                return Ok(sizes);
            }
            records /= 2;
        }
        Err(VerbsError::Choice(format!(
            "{device} is too small for {peers} peers: its shared receive queues hold {} requests, its \
             completion queues {} entries, its send queues {} requests; use fewer nodes or --fabric tcp",
            limits.shared_requests, limits.completions, limits.work_requests
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verbs::device::Atomics;

    fn limits(shared: u64, completions: u64, pairs: u64) -> DeviceLimits {
        DeviceLimits {
            queue_pairs: pairs,
            work_requests: 16 * 1024,
            pieces: 32,
            completion_queues: 1024,
            completions,
            regions: 1024,
            region_bytes: u64::MAX,
            reads_served: 16,
            reads_issued: 16,
            shared_queues: 16,
            shared_requests: shared,
            atomics: Atomics::Device,
        }
    }

    #[test]
    fn every_peer_has_its_records_and_everything_can_complete_at_once() {
        for peers in [1, 3, 42, 63, 127, 500] {
            let limits = limits(32 * 1024, 1 << 20, 1 << 16);
            let sizes = Sizes::fit(&limits, peers, "test").expect("they fit");
            let peers = u32::try_from(peers).expect("few");
            assert!(sizes.shared >= peers * (sizes.records + 1));
            assert!(u64::from(sizes.shared) <= limits.shared_requests);
            assert!(sizes.completions >= sizes.shared + peers * sizes.send);
            assert!(sizes.send >= 2 * sizes.signal_every, "half a queue is always known");
            assert!(sizes.signal_every < sizes.records);
        }
        let small = Sizes::fit(&limits(1 << 20, 32_767, 1 << 16), 63, "rxe0").expect("they fit");
        assert_eq!(small.records, 128, "soft-RoCE has 32,767 completions");
    }

    #[test]
    fn a_device_that_is_too_small_is_named_with_its_limits() {
        let error = Sizes::fit(&limits(100, 1 << 20, 1 << 16), 63, "mini0").expect_err("too few");
        assert!(error.to_string().contains("mini0") && error.to_string().contains("100"));
    }
}
