//! The receiving side of a ring.

use super::{Broken, HEADER_BYTES, Limits, Memory, SKIP, footprint};
use crate::sync::Ordering;

/// The receiving side; there is one per ring.
#[derive(Debug)]
pub(crate) struct Receiver<M> {
    memory: M,
    limits: Limits,
    /// Bytes and records consumed.
    consumed: u64,
    records: u64,
    /// What was published when last looked at.
    published: u64,
    /// Bytes and records of the credit given back so far.
    returned: u64,
    returned_records: u64,
}

impl<M: Memory> Receiver<M> {
    /// The receiving side of a ring that was never used.
    pub(crate) fn new(memory: M, limits: Limits) -> Self {
        limits.check();
        Self {
            memory,
            limits,
            consumed: 0,
            records: 0,
            published: 0,
            returned: 0,
            returned_records: 0,
        }
    }

    /// Copies the next record to the start of `record`, which has at least `limits.record_bytes`
    /// bytes, and returns its length; `None` if there is none.
    pub(crate) fn try_pop(&mut self, record: &mut [u8]) -> Result<Option<usize>, Broken> {
        assert!(record.len() >= self.limits.record_bytes);
        if !self.has_record()? {
            return Ok(None);
        }
        let (len, offset) = self.next_header()?;
        let available = self.published - self.consumed;
        let needed = footprint(len);
        if needed as u64 > available || needed > self.limits.bytes - offset {
            return Err(Broken("a record is longer than what was published"));
        }
        self.memory.load(offset + HEADER_BYTES, &mut record[..len.next_multiple_of(8)]);
        self.consumed += needed as u64;
        self.records += 1;
        // A sender that streams gets its space back before the ring has run full.
        if self.consumed - self.returned >= self.limits.bytes as u64 / 4
            || self.records - self.returned_records >= self.limits.records / 4
        {
            self.return_credit();
        }
        Ok(Some(len))
    }

    /// Gives the space of all consumed records back to the sender.
    pub(crate) fn return_credit(&mut self) {
        if self.consumed == self.returned {
            return;
        }
        let words = &self.memory.words().consumed.0;
        words.records.store(self.records, Ordering::Relaxed);
        // Release: the copies out of the space come before the space is given back.
        words.bytes.store(self.consumed, Ordering::Release);
        (self.returned, self.returned_records) = (self.consumed, self.records);
    }

    /// Whether a record is there; looks at the sender's line only if all that was seen is consumed.
    pub(crate) fn has_record(&mut self) -> Result<bool, Broken> {
        if self.published != self.consumed {
            return Ok(true);
        }
        let published = self.memory.words().published.0.load(Ordering::Acquire);
        let ahead = published.wrapping_sub(self.consumed);
        if ahead > self.limits.bytes as u64 || !ahead.is_multiple_of(8) {
            return Err(Broken("the sender published outside the ring"));
        }
        self.published = published;
        Ok(ahead > 0)
    }

    /// Asks the sender to wake this side. The caller then fences (SeqCst) and looks once more with
    /// [`Receiver::has_record`] before it sleeps.
    pub(crate) fn fall_asleep(&self) {
        self.memory.words().asleep.0.store(1, Ordering::Relaxed);
    }

    /// Takes the wish back.
    pub(crate) fn rise(&self) {
        self.memory.words().asleep.0.store(0, Ordering::Relaxed);
    }

    /// Length and offset of the next record, past a skipped rest. At least 8 bytes are published.
    fn next_header(&mut self) -> Result<(usize, usize), Broken> {
        let offset = self.limits.offset(self.consumed);
        let (len, number) = self.header(offset);
        if len != SKIP {
            return self.checked_header(len, number, offset);
        }
        let skipped = (self.limits.bytes - offset) as u64;
        // A skip is published together with the record behind it, and never at the start.
        if offset == 0 || skipped + HEADER_BYTES as u64 > self.published - self.consumed {
            return Err(Broken("a skip leads beyond what was published"));
        }
        self.consumed += skipped;
        let (len, number) = self.header(0);
        self.checked_header(len, number, 0)
    }

    fn checked_header(
        &self,
        len: u32,
        number: u32,
        offset: usize,
    ) -> Result<(usize, usize), Broken> {
        if len as usize > self.limits.record_bytes {
            return Err(Broken("a record is above the limit"));
        }
        if u64::from(number) != self.records & u64::from(u32::MAX) {
            return Err(Broken("a record has the wrong number"));
        }
        Ok((len as usize, offset))
    }

    fn header(&self, offset: usize) -> (u32, u32) {
        let mut word = [0; HEADER_BYTES];
        self.memory.load(offset, &mut word);
        let half = |at: usize| u32::from_le_bytes(word[at..at + 4].try_into().expect("4 bytes"));
        (half(0), half(4))
    }
}
