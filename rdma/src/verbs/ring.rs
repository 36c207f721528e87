//! How records lie in a link's ring, and what announces them.
//!
//! The ring is memory of the receiver that only its one sender writes, by RDMA. The sender keeps a mirror of
//! it, from which the device reads: a record has the same offset in both. Each record is announced by the
//! immediate data of its last WRITE; its length is that of the WRITE, as the receiver's device counts it. So
//! nothing but the record travels, and one that fills a packet takes one packet.
//!
//! ```text
//!  inbox of a link:
//!  offset 0      credit that the peer gives this node: bytes, records, and both inverted   4 x u64
//!  offset 4096   the ring, a power of two of bytes; position p lies at p modulo its size
//!
//!  a record: its bytes, at a multiple of 8, never across the end of the ring
//!
//!  immediate data:  wraps:1 | before:3 | number:28
//!      wraps   the rest of the ring before this record is skipped
//!      before  so many times 64 KiB of it came in earlier WRITEs
//!      number  low bits of the count of records
//! ```
//!
//! Credit is a plain WRITE of what was consumed. Software devices copy it byte by byte, so each counter
//! comes twice, and is read against the order in which it is written: what agrees is whole.
//!
//! A peer that breaks these rules ends the link; nothing is read outside the ring.

use crate::fabric::RECORD_BYTES_MAX;
use crate::tuning::RING_BYTES;

/// What a long record is cut at: each of its WRITEs but the last carries a multiple of it.
pub(super) const CUT_BYTES: usize = 64 * 1024;

/// Offset of the ring in its inbox.
pub(super) const RING_OFFSET: usize = 4096;

/// Bytes of an inbox.
pub(super) const INBOX_BYTES: usize = RING_OFFSET + RING_BYTES;

/// Bytes of a credit.
pub(super) const CREDIT_BYTES: usize = 32;

const WRAPS: u32 = 1 << 31;
const BEFORE_SHIFT: u32 = 28;
const BEFORE_MASK: u32 = 0b111;
const NUMBER_MASK: u32 = (1 << BEFORE_SHIFT) - 1;

const _: () = assert!(RECORD_BYTES_MAX.div_ceil(CUT_BYTES) <= BEFORE_MASK as usize);

/// Bytes and records since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) bytes: u64,
    pub(super) records: u64,
}

impl Amount {
    /// As it is written to the peer.
    pub(super) fn to_bytes(self) -> [u8; CREDIT_BYTES] {
        let words = [self.bytes, self.records, !self.bytes, !self.records];
        let mut out = [0; CREDIT_BYTES];
        for (to, word) in out.chunks_exact_mut(8).zip(words) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        out
    }

    /// From the words as the peer wrote them, loaded last to first; `None` while they change.
    pub(super) fn from_words(load: impl Fn(usize) -> u64) -> Option<Self> {
        let inverted = [load(3), load(2)];
        let (records, bytes) = (load(1), load(0));
        (records == !inverted[0] && bytes == !inverted[1]).then_some(Self { bytes, records })
    }
}

/// Where a record goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    /// Bytes left unused before it, at the end of the ring.
    pub(super) skipped: usize,
    /// Its first byte in the ring.
    pub(super) offset: usize,
    /// Bytes that it takes, with padding.
    pub(super) bytes: usize,
}

impl Slot {
    /// The place of a record of `len` bytes after all that was sent before.
    pub(super) fn after(position: u64, len: usize) -> Self {
        let bytes = footprint(len);
        let offset = offset(position);
        let to_end = RING_BYTES - offset;
        if bytes <= to_end {
            Self { skipped: 0, offset, bytes }
        } else {
            Self { skipped: to_end, offset: 0, bytes }
        }
    }

    /// Bytes of the ring that are in use with it.
    pub(super) fn taken(self) -> u64 {
        (self.skipped + self.bytes) as u64
    }

    /// The immediate data that announces it as the record of this number, of which `before` bytes, a multiple of
    /// [`CUT_BYTES`], came in earlier WRITEs.
    pub(super) fn announcement(self, number: u64, before: usize) -> u32 {
        debug_assert!(before.is_multiple_of(CUT_BYTES) && before < RECORD_BYTES_MAX);
        let cuts = u32::try_from(before / CUT_BYTES).expect("a short record");
        low(number) | cuts << BEFORE_SHIFT | if self.skipped > 0 { WRAPS } else { 0 }
    }
}

/// The receiving end's place in the ring.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    consumed: Amount,
}

impl Cursor {
    /// What was consumed so far.
    pub(super) fn consumed(&self) -> Amount {
        self.consumed
    }

    /// Takes the record that `announcement` announces, whose last WRITE had `written` bytes: `load` brings bytes
    /// from an offset of the ring. Returns its length; its bytes are at the start of `record`.
    pub(super) fn take(
        &mut self,
        announcement: u32,
        written: u32,
        record: &mut [u8],
        load: impl FnOnce(usize, &mut [u8]),
    ) -> Result<usize, &'static str> {
        if announcement & NUMBER_MASK != low(self.consumed.records) {
            return Err("a record has the wrong number");
        }
        let before = offset(self.consumed.bytes);
        let (skipped, offset) =
            if announcement & WRAPS == 0 { (0, before) } else { (RING_BYTES - before, 0) };
        if skipped > 0 && before == 0 {
            return Err("a whole ring is skipped");
        }
        let cuts = (announcement >> BEFORE_SHIFT & BEFORE_MASK) as usize;
        let len = cuts * CUT_BYTES + written as usize;
        if len > RECORD_BYTES_MAX || footprint(len) > RING_BYTES - offset {
            return Err("a record is longer than it can be");
        }
        load(offset, &mut record[..len.next_multiple_of(8)]);
        self.consumed.bytes += (skipped + footprint(len)) as u64;
        self.consumed.records += 1;
        Ok(len)
    }
}

fn footprint(len: usize) -> usize {
    len.next_multiple_of(8)
}

fn offset(position: u64) -> usize {
    usize::try_from(position & (RING_BYTES as u64 - 1)).expect("below the ring's size")
}

/// What an announcement says of a record's number.
fn low(number: u64) -> u32 {
    u32::try_from(number & u64::from(NUMBER_MASK)).expect("28 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a sender tells of a record: announcement and bytes of the last WRITE.
    type Told = (u32, u32);

    /// Puts a record into `ring` as a sender does that cuts it after `cuts` times [`CUT_BYTES`].
    fn put(ring: &mut [u8], sent: &mut Amount, record: &[u8], cuts: usize) -> Told {
        let slot = Slot::after(sent.bytes, record.len());
        ring[slot.offset..slot.offset + record.len()].copy_from_slice(record);
        let announcement = slot.announcement(sent.records, cuts * CUT_BYTES);
        sent.bytes += slot.taken();
        sent.records += 1;
        (announcement, u32::try_from(record.len() - cuts * CUT_BYTES).expect("short"))
    }

    fn take(ring: &[u8], cursor: &mut Cursor, told: Told) -> Result<Vec<u8>, &'static str> {
        let mut record = vec![0; RECORD_BYTES_MAX];
        let len = cursor.take(told.0, told.1, &mut record, |offset, to| {
            to.copy_from_slice(&ring[offset..offset + to.len()]);
        })?;
        record.truncate(len);
        Ok(record)
    }

    #[test]
    fn records_of_all_lengths_come_out_as_they_went_in_around_the_end() {
        let mut ring = vec![0; RING_BYTES];
        let (mut sent, mut cursor) = (Amount::default(), Cursor::default());
        let mut state = 1_u64;
        for number in 0..400_u64 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let len = match number {
                0 => 0,
                1 => RECORD_BYTES_MAX,
                _ => usize::try_from(state >> 33).expect("small") % (RECORD_BYTES_MAX + 1),
            };
            let record = vec![u8::try_from(number % 251).expect("a byte"); len];
            let cuts = len.div_ceil(CUT_BYTES).saturating_sub(1);
            let told = put(&mut ring, &mut sent, &record, cuts);
            assert!(take(&ring, &mut cursor, told).as_deref() == Ok(&record[..]));
            assert_eq!(cursor.consumed(), sent, "both sides count alike");
        }
        assert!(sent.bytes > 40 * RING_BYTES as u64);
    }

    #[test]
    fn what_breaks_the_rules_is_refused() {
        let mut ring = vec![0; RING_BYTES];
        let (mut sent, mut cursor) = (Amount::default(), Cursor::default());
        let (announcement, written) = put(&mut ring, &mut sent, b"one", 0);
        let mut refused = |announcement, written, what| {
            assert!(take(&ring, &mut cursor, (announcement, written)).is_err(), "{what}");
        };
        refused(announcement ^ 1, written, "another number");
        refused(announcement | WRAPS, written, "a skip at the start");
        refused(announcement | 4 << BEFORE_SHIFT, 1, "longer than a record, by its cuts");
        refused(announcement, 1 << 30, "longer than a record");
        assert_eq!(take(&ring, &mut cursor, (announcement, written)).as_deref(), Ok(&b"one"[..]));
        let again = take(&ring, &mut cursor, (announcement, written));
        assert!(again.is_err(), "twice");
    }

    #[test]
    fn a_credit_that_is_being_written_is_not_taken() {
        let amount = Amount { bytes: 0x1234_5678, records: 77 };
        let words: Vec<u64> = amount
            .to_bytes()
            .chunks_exact(8)
            .map(|word| u64::from_le_bytes(word.try_into().expect("8 bytes")))
            .collect();
        assert_eq!(Amount::from_words(|at| words[at]), Some(amount));
        for torn in 0..4 {
            assert_eq!(Amount::from_words(|at| words[at] ^ u64::from(at == torn) << 8), None);
        }
        assert_eq!(Amount::from_words(|_| 0), None, "nothing was written yet");
    }
}
