//! The records that parties send each other.
//!
//! ```text
//!  0          8          16
//! +----------+----------+---------+
//! | kind     | value    | content |
//! +----------+----------+---------+
//! ```

use std::time::Instant;

use sterna_rdma::Rank;

/// Bytes in front of the content.
pub(super) const HEADER_BYTES: usize = 16;

/// What a record asks or says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub(super) enum Kind {
    /// The content is the token of the sender's region.
    Token = 1,
    /// Send value and content back.
    Echo = 2,
    /// Here they are.
    Echoed = 3,
    /// Part of a stream: only counted.
    Stream = 4,
    /// How many bytes of the stream arrived since the last question?
    Count = 5,
    /// So many.
    Counted = 6,
    /// A message for the caller of [`super::Party::serve`].
    Message = 7,
    /// The work is over.
    Stop = 8,
    /// Send the rows of so many bytes (the value) that lie at these places of your region, in one record.
    Gather = 9,
    /// Here they are.
    Gathered = 10,
}

impl Kind {
    fn of(number: u64) -> Option<Self> {
        use Kind::*;
        [Token, Echo, Echoed, Stream, Count, Counted, Message, Stop, Gather, Gathered]
            .into_iter()
            .find(|kind| *kind as u64 == number)
    }
}

/// A record that arrived.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) from: Rank,
    pub(super) kind: Kind,
    pub(super) value: u64,
    pub(super) content: Vec<u8>,
    /// When.
    pub(super) at: Instant,
}

pub(super) fn header(kind: Kind, value: u64) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&(kind as u64).to_le_bytes());
    header[8..].copy_from_slice(&value.to_le_bytes());
    header
}

/// Kind, value and content; `None` for what no party sends.
pub(super) fn parse(record: &[u8]) -> Option<(Kind, u64, &[u8])> {
    let (header, content) = record.split_at_checked(HEADER_BYTES)?;
    let word = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("8 bytes"));
    Some((Kind::of(word(0))?, word(8), content))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_as_it_was_and_others_are_refused() {
        let mut record = header(Kind::Counted, 77).to_vec();
        record.extend(b"content");
        assert_eq!(parse(&record), Some((Kind::Counted, 77, &b"content"[..])));
        assert_eq!(parse(&record[..15]), None);
        assert_eq!(parse(&[0; 16]), None);
        assert_eq!(parse(&[9; 16]), None);
    }
}
