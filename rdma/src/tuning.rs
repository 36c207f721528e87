//! The fabric's limits in one place, with the relations between them checked by the compiler.

use std::time::Duration;

use crate::fabric::{READ_BYTES_MAX, RECORD_BYTES_MAX};

/// Bytes of a ring's data.
pub(crate) const RING_BYTES: usize = 1 << 20;

/// Records that may lie in a ring: with few bytes each, consuming them all takes about a millisecond.
pub(crate) const RING_RECORDS_MAX: u64 = 8 * 1024;

/// Records that are taken from one ring before the next peer's ring gets its turn.
pub(crate) const RING_BURST_RECORDS: usize = 64;

/// READs that may be outstanding on a lane over shared memory.
pub(crate) const SHM_LANE_READS_MAX: usize = 1024;

/// How many READs ahead of the copy a lane prefetches.
pub(crate) const SHM_PREFETCH_READS: usize = 8;
/// Lines of one READ that are prefetched; the processor follows a longer row by itself.
pub(crate) const SHM_PREFETCH_LINES_MAX: usize = 8;

/// Regions that a peer may export.
pub(crate) const REGIONS_MAX: u32 = 64 * 1024;

/// Control packets that are taken from one peer in a row.
pub(crate) const CONTROL_BURST_PACKETS: usize = 64;

/// How long an export waits for a peer that does not take regions, maybe because it does not get to run.
pub(crate) const EXPORT_WAIT_MAX: Duration = Duration::from_secs(60);

/// Connections of unknown processes that may be in their handshake at once.
pub(crate) const JOINING_MAX: usize = 256;

const _: () = {
    assert!(RING_BYTES.is_power_of_two());
    // A record never spans the wrap, so up to its own length may be skipped: half the ring must do.
    assert!(RING_BYTES >= 4 * RECORD_BYTES_MAX);
    assert!(RING_RECORDS_MAX * 16 <= RING_BYTES as u64, "the record limit can be reached");
    assert!(RECORD_BYTES_MAX.is_multiple_of(8) && READ_BYTES_MAX.is_multiple_of(8));
    assert!(RECORD_BYTES_MAX < u32::MAX as usize, "lengths are u32, all ones is no length");
    assert!(READ_BYTES_MAX <= u32::MAX as usize, "lengths are u32");
    assert!(SHM_PREFETCH_READS < SHM_LANE_READS_MAX);
};
