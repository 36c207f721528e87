//! Limits of the sockets provider and the relations between them.

use std::time::Duration;

use crate::fabric::{READ_BYTES_MAX, RECORD_BYTES_MAX};

/// Bytes of records that a link's receiver may not have consumed yet.
pub(super) const CREDIT_BYTES: u64 = 1 << 20;

/// Records that a link's receiver may not have consumed yet.
pub(super) const CREDIT_RECORDS: u64 = 8192;

/// Consumed bytes and records that are told in a frame of their own if no record goes back.
pub(super) const CREDIT_STEP_BYTES: u64 = CREDIT_BYTES / 4;
pub(super) const CREDIT_STEP_RECORDS: u64 = CREDIT_RECORDS / 4;

/// Records delivered from one link before the next gets its turn.
pub(super) const LINK_BURST: usize = 64;

/// First size of a link's receive buffer; it grows to the longest record if one comes.
pub(super) const INBOX_BYTES: usize = 64 * 1024;

/// READs that a lane may have outstanding.
pub(super) const LANE_READS: usize = 1024;

/// First size of a lane's receive buffer; it grows to the longest READ that was posted.
pub(super) const LANE_BUFFER_BYTES: usize = 128 * 1024;

/// Answers that wait for a lane's socket before no more of its requests are served.
pub(super) const ANSWER_BYTES: usize = 256 * 1024;

/// Bytes of READs served on one lane before the next gets its turn.
pub(super) const SERVE_BURST_BYTES: usize = 1 << 20;

/// Requests that are read from a lane's socket at once.
pub(super) const REQUESTS_BUFFERED: usize = 512;

/// Lanes of peers that this node serves.
pub(super) const LANES_MAX: usize = 16 * 1024;

/// How long a lane looks for an answer before it sleeps.
pub(super) const LANE_SPIN: Duration = Duration::from_micros(20);

/// After this silence the system asks whether the peer's host is there; see `socket.rs`.
pub(super) const KEEPALIVE_IDLE: Duration = Duration::from_secs(4);
pub(super) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);
pub(super) const KEEPALIVE_PROBES: u32 = 5;

/// How long sent bytes may stay without an acknowledgement by the peer's host.
pub(super) const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(9);

/// Limit for being let in at the door of one peer that is alive: without a lane its rows cannot be read.
pub(super) const CALL_MAX: Duration = Duration::from_secs(60);

/// Limit for handing a goodbye to the system, behind all records that wait for a peer to take them.
pub(super) const GOODBYE_MAX: Duration = Duration::from_secs(10);

const _: () = {
    assert!(CREDIT_BYTES >= 4 * RECORD_BYTES_MAX as u64, "a few records of any length fit");
    assert!(READ_BYTES_MAX <= u32::MAX as usize);
    assert!(LANE_READS <= u32::MAX as usize);
    assert!(ANSWER_BYTES >= 256 * 576, "a batch of 256 rows of 512 bytes is one answer");
};
