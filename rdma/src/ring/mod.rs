//! A byte queue in the receiver's memory with one sender and one receiver: one direction of a link.
//!
//! ```text
//!  offset 0        published: bytes ever published (u64)              stored by the sender
//!  offset 128      consumed: bytes (u64), records (u64)               stored by the receiver
//!  offset 256      asleep (u32): the receiver wants to be woken       stored by both
//!  offset 4096     data, a power of two of bytes; position p lies at p modulo its size
//!
//!  a record, at a multiple of 8, never across the end of the data:
//!   0        4        8                   8+len  to a multiple of 8
//!  +--------+--------+-------------------+-----+
//!  | len    | number | bytes             | pad |      number = low half of the count of records
//!  +--------+--------+-------------------+-----+      len = all ones: the rest up to the end is skipped
//! ```
//!
//! The sender stores a record, then `published` with Release; the receiver loads `published` with
//! Acquire, copies the record to private memory and only then looks at it. `consumed` gives the
//! space back (Release, then Acquire at the sender): it is credit, not an acknowledgement, and it is
//! never announced. Both bytes and records are limited.
//!
//! Neither side trusts the other: a position outside the ring, a length beyond what was published,
//! or a wrong number ends the link with [`Broken`]; nothing is read or written outside the ring.
//!
//! **Sleeping.** The receiver stores `asleep`, fences (SeqCst) and looks at `published` once more; the
//! sender stores `published`, fences (SeqCst) and looks at `asleep`. One of the two fences comes first in
//! their total order: if it is the receiver's, the sender sees `asleep` and rings the bell; if it is the
//! sender's, the receiver sees the record and does not sleep. No wake-up is lost, and a sender whose
//! receiver is awake makes no system call. The sender clears `asleep` *before* it rings, so a receiver
//! that slept again in between is rung for nothing, never forgotten.

#[cfg(all(test, not(loom)))]
mod model_test;
mod receiver;
mod sender;

pub(crate) use receiver::Receiver;
pub(crate) use sender::{PushError, Sender};

use crate::sync::{AtomicU32, AtomicU64};

/// Offset of the data in the ring's memory.
pub(crate) const DATA_OFFSET: usize = 4096;

/// Bytes before a record's own.
const HEADER_BYTES: usize = 8;

/// The length that says: go on at the start of the data.
const SKIP: u32 = u32::MAX;

/// How much a ring may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes of data, a power of two.
    pub bytes: usize,
    /// Records not yet consumed.
    pub records: u64,
    /// Bytes of one record, a multiple of 8 and under half of `bytes`.
    pub record_bytes: usize,
}

impl Limits {
    fn check(&self) {
        assert!(self.bytes.is_power_of_two() && self.records > 0);
        assert!(self.record_bytes.is_multiple_of(8));
        assert!(2 * footprint(self.record_bytes) <= self.bytes, "the largest record always fits");
    }

    /// Where position `position` lies in the data.
    fn offset(&self, position: u64) -> usize {
        #[expect(clippy::cast_possible_truncation, reason = "masked below the size of the ring")]
        let offset = (position & (self.bytes as u64 - 1)) as usize;
        offset
    }
}

/// Bytes that a record of `bytes` bytes takes.
fn footprint(bytes: usize) -> usize {
    HEADER_BYTES + bytes.next_multiple_of(8)
}

/// What the other side did against the rules above.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("ring: {0}")]
pub(crate) struct Broken(pub(crate) &'static str);

/// The words that both sides see, each group in lines of its own. Zeroes are their start.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct Words {
    published: Apart<AtomicU64>,
    consumed: Apart<Consumed>,
    asleep: Apart<AtomicU32>,
}

/// Two lines, because processors fetch lines in pairs.
#[repr(C, align(128))]
#[derive(Debug, Default)]
struct Apart<T>(T);

#[repr(C)]
#[derive(Debug, Default)]
struct Consumed {
    bytes: AtomicU64,
    records: AtomicU64,
}

const _: () = assert!(size_of::<Words>() <= DATA_OFFSET || cfg!(loom));

/// The memory of a ring as one side sees it.
pub(crate) trait Memory {
    /// The shared words.
    fn words(&self) -> &Words;

    /// Stores `bytes` at `offset` of the data. Only the sender calls this, for space that it has credit
    /// for.
    ///
    /// # Panics
    /// If the range is not inside the data.
    fn store(&self, offset: usize, bytes: &[u8]);

    /// Loads from `offset` of the data, a multiple of 8, as many bytes as `to` has, a multiple of 8. A
    /// broken sender may be storing there at the same time.
    ///
    /// # Panics
    /// If the range is not inside the data.
    fn load(&self, offset: usize, to: &mut [u8]);
}
