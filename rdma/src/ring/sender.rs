//! The sending side of a ring.

use super::{Broken, HEADER_BYTES, Limits, Memory, SKIP, footprint};
use crate::sync::{Ordering, fence};

/// Why a record was not put into the ring; nothing was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PushError {
    /// The receiver has not consumed enough yet.
    Full,
    /// The receiver broke the rules.
    Broken(Broken),
}

/// The sending side; there is one per ring.
#[derive(Debug)]
pub(crate) struct Sender<M> {
    memory: M,
    limits: Limits,
    /// Bytes and records published.
    published: u64,
    records: u64,
    /// What the receiver had consumed when last looked at.
    consumed: u64,
    consumed_records: u64,
}

impl<M: Memory> Sender<M> {
    /// The sending side of a ring that was never used.
    pub(crate) fn new(memory: M, limits: Limits) -> Self {
        limits.check();
        Self { memory, limits, published: 0, records: 0, consumed: 0, consumed_records: 0 }
    }

    /// Publishes a record gathered from `parts`, of at most `limits.record_bytes` bytes, without
    /// waiting.
    pub(crate) fn try_push(&mut self, parts: &[&[u8]]) -> Result<(), PushError> {
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        assert!(bytes <= self.limits.record_bytes, "the caller checks the length");
        let needed = footprint(bytes);
        let offset = self.limits.offset(self.published);
        let to_end = self.limits.bytes - offset;
        let skipped = if needed <= to_end { 0 } else { to_end };
        if !self.has_credit(skipped + needed) {
            self.look_at_credit().map_err(PushError::Broken)?;
            if !self.has_credit(skipped + needed) {
                return Err(PushError::Full);
            }
        }

        if skipped > 0 {
            self.memory.store(offset, &u64::from(SKIP).to_le_bytes());
        }
        let offset = self.limits.offset(self.published + skipped as u64);
        let len = bytes as u64;
        let number = self.records & u64::from(u32::MAX);
        self.memory.store(offset, &(len | number << 32).to_le_bytes());
        let mut at = offset + HEADER_BYTES;
        for part in parts {
            self.memory.store(at, part);
            at += part.len();
        }
        self.published += (skipped + needed) as u64;
        self.records += 1;
        // Release: whoever sees this position sees the record, and what this thread stored before.
        self.memory.words().published.0.store(self.published, Ordering::Release);
        Ok(())
    }

    /// To be called after a push: whether the receiver sleeps and must be woken now. The module's
    /// text says why no wake-up is lost.
    pub(crate) fn must_wake(&self) -> bool {
        let asleep = &self.memory.words().asleep.0;
        fence(Ordering::SeqCst);
        if asleep.load(Ordering::Relaxed) == 0 {
            return false;
        }
        asleep.store(0, Ordering::Relaxed);
        true
    }

    /// The ring's memory, for tests that break its rules.
    #[cfg(all(test, not(loom)))]
    pub(crate) fn memory(&self) -> &M {
        &self.memory
    }

    fn has_credit(&self, bytes: usize) -> bool {
        let held = self.published - self.consumed + bytes as u64;
        held <= self.limits.bytes as u64
            && self.records - self.consumed_records < self.limits.records
    }

    fn look_at_credit(&mut self) -> Result<(), Broken> {
        let words = &self.memory.words().consumed.0;
        // Acquire: the receiver's loads of the space came before it gave the space back. The records are
        // stored before the bytes.
        let consumed = words.bytes.load(Ordering::Acquire);
        let records = words.records.load(Ordering::Relaxed);
        if consumed < self.consumed || consumed > self.published {
            return Err(Broken("the receiver gave back bytes that it never had"));
        }
        if records < self.consumed_records || records > self.records {
            return Err(Broken("the receiver gave back records that it never had"));
        }
        (self.consumed, self.consumed_records) = (consumed, records);
        Ok(())
    }
}
