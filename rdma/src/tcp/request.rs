//! What travels on a read lane: requests of fixed length, and answers in any order.
//!
//! ```text
//! request   0       4        8        12       16        24
//!          +-------+--------+--------+--------+---------+
//!          | slot  | region | length | check  | offset  |
//!          +-------+--------+--------+--------+---------+
//! answer    0       4        8        12       16                32
//!          +-------+--------+--------+--------+-----------------+---------+
//!          | slot  | status | length | check  | head before     | bytes   |
//!          +-------+--------+--------+--------+-----------------+---------+
//! ```
//!
//! All requests of a batch leave in one write, so a batch costs one round trip. `slot` is the lane's
//! own number of the READ. `check` is a constant: a lane that has lost step with its stream is
//! noticed before a wrong length is believed.

use crate::fabric::READ_BYTES_MAX;

pub(super) const REQUEST_BYTES: usize = 24;
pub(super) const ANSWER_HEAD_BYTES: usize = 32;

const REQUEST_CHECK: u32 = 0x5244_5251;
const ANSWER_CHECK: u32 = 0x5244_414e;

/// A READ that a peer asks for; its shape has been checked, its range has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) slot: u32,
    pub(super) region: u32,
    pub(super) len: u32,
    pub(super) offset: u64,
}

/// Something that is no request or no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed {what} on a read lane")]
pub(super) struct Malformed {
    what: &'static str,
}

impl Request {
    pub(super) fn to_bytes(self) -> [u8; REQUEST_BYTES] {
        let mut out = [0; REQUEST_BYTES];
        out[0..4].copy_from_slice(&self.slot.to_le_bytes());
        out[4..8].copy_from_slice(&self.region.to_le_bytes());
        out[8..12].copy_from_slice(&self.len.to_le_bytes());
        out[12..16].copy_from_slice(&REQUEST_CHECK.to_le_bytes());
        out[16..24].copy_from_slice(&self.offset.to_le_bytes());
        out
    }

    pub(super) fn from_bytes(bytes: &[u8; REQUEST_BYTES]) -> Result<Self, Malformed> {
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        let offset = u64::from_le_bytes(bytes[16..24].try_into().expect("8 bytes"));
        let request = Self { slot: word(0), region: word(4), len: word(8), offset };
        if word(12) != REQUEST_CHECK || !is_shape_valid(request.len, offset) {
            return Err(Malformed { what: "request" });
        }
        Ok(request)
    }
}

/// Whether a READ has a length and alignment that READs may have.
pub(super) fn is_shape_valid(len: u32, offset: u64) -> bool {
    len >= 8 && len as usize <= READ_BYTES_MAX && len.is_multiple_of(8) && offset.is_multiple_of(8)
}

/// How a READ went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Done,
    UnknownRegion,
    OutOfRange,
}

/// What precedes the bytes of an answer; `len` is 0 unless the READ was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AnswerHead {
    pub(super) slot: u32,
    pub(super) status: Status,
    pub(super) len: u32,
    pub(super) head_before: [u64; 2],
}

impl AnswerHead {
    pub(super) fn to_bytes(self) -> [u8; ANSWER_HEAD_BYTES] {
        let status: u32 = match self.status {
            Status::Done => 0,
            Status::UnknownRegion => 1,
            Status::OutOfRange => 2,
        };
        let mut out = [0; ANSWER_HEAD_BYTES];
        out[0..4].copy_from_slice(&self.slot.to_le_bytes());
        out[4..8].copy_from_slice(&status.to_le_bytes());
        out[8..12].copy_from_slice(&self.len.to_le_bytes());
        out[12..16].copy_from_slice(&ANSWER_CHECK.to_le_bytes());
        // Native order: these are words of the peer's memory, as the bytes that follow are.
        out[16..24].copy_from_slice(&self.head_before[0].to_ne_bytes());
        out[24..32].copy_from_slice(&self.head_before[1].to_ne_bytes());
        out
    }

    pub(super) fn from_bytes(bytes: &[u8; ANSWER_HEAD_BYTES]) -> Result<Self, Malformed> {
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        let long = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        let malformed = Err(Malformed { what: "answer" });
        let status = match word(4) {
            0 => Status::Done,
            1 => Status::UnknownRegion,
            2 => Status::OutOfRange,
            _ => return malformed,
        };
        if word(12) != ANSWER_CHECK || (status != Status::Done && word(8) != 0) {
            return malformed;
        }
        Ok(Self { slot: word(0), status, len: word(8), head_before: [long(16), long(24)] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_answers_survive_the_wire() {
        let request = Request { slot: 7, region: 3, len: 512, offset: 1 << 40 };
        assert_eq!(Request::from_bytes(&request.to_bytes()), Ok(request));
        let answer =
            AnswerHead { slot: 7, status: Status::Done, len: 512, head_before: [1, u64::MAX] };
        assert_eq!(AnswerHead::from_bytes(&answer.to_bytes()), Ok(answer));
    }

    #[test]
    fn a_request_of_impossible_shape_is_malformed() {
        let good = Request { slot: 0, region: 0, len: 16, offset: 8 };
        let longest = u32::try_from(READ_BYTES_MAX).expect("it fits");
        assert!(Request::from_bytes(&Request { len: longest, ..good }.to_bytes()).is_ok());
        for bad in [
            Request { len: 0, ..good },
            Request { len: 12, ..good },
            Request { len: longest + 8, ..good },
            Request { offset: 4, ..good },
        ] {
            assert!(Request::from_bytes(&bad.to_bytes()).is_err(), "{bad:?}");
        }
        let mut bytes = good.to_bytes();
        bytes[13] ^= 1;
        assert!(Request::from_bytes(&bytes).is_err());
    }
}
