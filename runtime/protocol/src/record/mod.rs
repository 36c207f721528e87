//! Records: what nodes tell each other over links, as bytes.
//!
//! Every record starts with the same 16 bytes; all numbers are little endian:
//!
//! ```text
//!  0      1       2         4          8         12          16
//! +------+-------+---------+----------+---------+-----------+----------------+
//! | kind | flags | table   | number   | count   | length    | body ...       |
//! +------+-------+---------+----------+---------+-----------+----------------+
//! ```
//! `number` is the request's number at its sender; an answer repeats it. `count` says how many items
//! the body has, `length` how many bytes. Items are padded with zeros to multiples of 8 bytes, so that
//! rows and updates stay aligned if the record is. One record carries many keys of one table.
//!
//! Decoding takes bytes that anybody may have written: [`Record::decode`] checks all lengths, counts,
//! ranks and epochs of the whole body before it returns, allocates nothing, and what it returns can be
//! walked without errors. What an update or a row says is checked by whoever applies it.

mod acquire;
mod answer;
mod chunk;
mod control;
mod fields;
mod grant;
mod location;
mod refuse;
mod snapshot;
mod update;
mod whereabouts;
mod writer;

use sterna_rdma::Rank;

use crate::ids::TableId;

pub use acquire::{Acquire, Acquires};
pub use answer::{Answer, Nack, PlacedNack};
pub use chunk::{Arena, Chunk};
pub use control::{
    BarrierStep, BoardSequence, ClockReport, REDUCE_MAX, Reduce, ReduceStep, Stop, TableDefinition,
    Trial, TrialStep,
};
pub use grant::{Grant, Grants, Holders};
pub use location::{Location, Locations};
pub use refuse::{Refusal, Refusals};
pub use snapshot::{SnapshotRow, SnapshotRows};
pub use update::{Update, Updates};
pub use whereabouts::{Found, Keys, Whereabouts};
pub use writer::Writer;

/// Bytes of the header that every record has.
pub const HEADER_BYTES: usize = 16;

/// The most keys in one record: a node remembers the keys of what it asked, so this bounds memory.
pub const KEYS_MAX: usize = 1024;

const _: () = assert!(KEYS_MAX.is_multiple_of(64), "a bitmap of answers is whole words");

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Composed updates for the owner.
    Update = 1,
    /// The end of an intent, with the last update.
    Release = 2,
    /// Values that replace the row's, ordered by the owner.
    Set = 3,
    /// Acks and nacks for one Update, Release or Set.
    Answer = 4,
    /// An intent, sent to the owner.
    Acquire = 5,
    /// A copy of a row for a new holder.
    GrantShare = 6,
    /// The main copy for a new owner.
    GrantMove = 7,
    /// No grant now, or not from here.
    Refuse = 8,
    /// Where rows are now, told to their home.
    Location = 9,
    /// Where rows are, asked of their home.
    Where = 10,
    /// Where rows are, told by their home.
    Whereabouts = 11,
    /// Consistent rows, asked of the owner.
    SnapshotRead = 12,
    /// Consistent rows.
    SnapshotRows = 13,
    /// A new chunk of an arena.
    Chunk = 14,
    /// A table that all nodes create.
    Table = 15,
    /// A step of a barrier.
    Barrier = 16,
    /// A step of a reduction.
    Reduce = 17,
    /// The job shall stop.
    Stop = 18,
    /// A node's flushed clock.
    Clock = 19,
    /// The main copies, for the last holder.
    Offer = 20,
    /// Tell me when the board has changed.
    Arm = 21,
    /// The board has changed.
    Notice = 22,
    /// A phase in which it is tried whether acting on intents pays.
    Trial = 23,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Update,
            2 => Self::Release,
            3 => Self::Set,
            4 => Self::Answer,
            5 => Self::Acquire,
            6 => Self::GrantShare,
            7 => Self::GrantMove,
            8 => Self::Refuse,
            9 => Self::Location,
            10 => Self::Where,
            11 => Self::Whereabouts,
            12 => Self::SnapshotRead,
            13 => Self::SnapshotRows,
            14 => Self::Chunk,
            15 => Self::Table,
            16 => Self::Barrier,
            17 => Self::Reduce,
            18 => Self::Stop,
            19 => Self::Clock,
            20 => Self::Offer,
            21 => Self::Arm,
            22 => Self::Notice,
            23 => Self::Trial,
            _ => return None,
        })
    }
}

/// A record's first 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the record is.
    pub kind: Kind,
    /// What the kind makes of it; 0 where it makes nothing.
    pub flags: u8,
    /// The table of all its keys.
    pub table: TableId,
    /// The request's number.
    pub number: u32,
    /// Items in the body.
    pub count: u32,
}

/// A record, checked; its parts borrow the bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Record<'a> {
    /// [`Kind::Update`].
    Update(Updates<'a>),
    /// [`Kind::Release`].
    Release(Updates<'a>),
    /// [`Kind::Set`]: whole rows, or values only.
    Set(Updates<'a>, SetScope),
    /// [`Kind::Answer`].
    Answer(Answer<'a>),
    /// [`Kind::Acquire`].
    Acquire(Acquires<'a>),
    /// [`Kind::GrantShare`].
    GrantShare(Grants<'a>),
    /// [`Kind::GrantMove`].
    GrantMove(Grants<'a>),
    /// [`Kind::Refuse`].
    Refuse(Refusals<'a>),
    /// [`Kind::Location`].
    Location(Locations<'a>),
    /// [`Kind::Where`].
    Where(Keys<'a>),
    /// [`Kind::Whereabouts`].
    Whereabouts(Whereabouts<'a>),
    /// [`Kind::SnapshotRead`].
    SnapshotRead(Keys<'a>),
    /// [`Kind::SnapshotRows`].
    SnapshotRows(SnapshotRows<'a>),
    /// [`Kind::Chunk`].
    Chunk(Chunk),
    /// [`Kind::Table`].
    Table(TableDefinition<'a>),
    /// [`Kind::Barrier`].
    Barrier(BarrierStep),
    /// [`Kind::Reduce`].
    Reduce(Reduce<'a>),
    /// [`Kind::Stop`].
    Stop(Stop<'a>),
    /// [`Kind::Clock`].
    Clock(ClockReport),
    /// [`Kind::Offer`].
    Offer(Keys<'a>),
    /// [`Kind::Arm`]: the sequence that the sender has seen.
    Arm(BoardSequence),
    /// [`Kind::Notice`]: the sequence now.
    Notice(BoardSequence),
    /// [`Kind::Trial`].
    Trial(Trial),
}

/// What a Set replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum SetScope {
    /// The values; the optimizer's state goes back to the table's start.
    Values = 0,
    /// Values and state.
    WholeRow = 1,
}

/// Why bytes are not a record. The peer that sent them is broken or hostile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Less than a header, or more than a link carries.
    #[error("a record of {bytes} bytes: records have {HEADER_BYTES} to {max}", max = sterna_rdma::fabric::RECORD_BYTES_MAX)]
    Size {
        /// Its size.
        bytes: usize,
    },
    /// An unknown kind.
    #[error("unknown record kind {byte}: do all nodes run the same version?")]
    Kind {
        /// The first byte.
        byte: u8,
    },
    /// A header that contradicts the record's size or its kind's limits.
    #[error("{kind:?} record: {what}")]
    Header {
        /// The kind.
        kind: Kind,
        /// What is wrong.
        what: &'static str,
    },
    /// A body that does not hold what the header promises.
    #[error("{kind:?} record, item {item}: {what}")]
    Item {
        /// The kind.
        kind: Kind,
        /// The item, from 0.
        item: u32,
        /// What is wrong.
        what: &'static str,
    },
}

impl Header {
    /// The header's bytes in front of a body of `length` bytes.
    #[must_use]
    pub fn to_bytes(&self, length: u32) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[0] = self.kind as u8;
        out[1] = self.flags;
        out[2..4].copy_from_slice(&self.table.0.to_le_bytes());
        out[4..8].copy_from_slice(&self.number.to_le_bytes());
        out[8..12].copy_from_slice(&self.count.to_le_bytes());
        out[12..16].copy_from_slice(&length.to_le_bytes());
        out
    }

    /// Splits a record into header and body.
    ///
    /// # Errors
    /// If the size is impossible, the kind unknown, or the length not that of the body.
    pub fn split(record: &[u8]) -> Result<(Self, &[u8]), DecodeError> {
        let bytes = record.len();
        if !(HEADER_BYTES..=sterna_rdma::fabric::RECORD_BYTES_MAX).contains(&bytes) {
            return Err(DecodeError::Size { bytes });
        }
        let kind = Kind::from_byte(record[0]).ok_or(DecodeError::Kind { byte: record[0] })?;
        let word = |at: usize| fields::u32_at(record, at);
        let header = Self {
            kind,
            flags: record[1],
            table: TableId(u16::from_le_bytes([record[2], record[3]])),
            number: word(4),
            count: word(8),
        };
        let body = &record[HEADER_BYTES..];
        if word(12) as usize != body.len() {
            return Err(DecodeError::Header { kind, what: "the length is not that of the body" });
        }
        Ok((header, body))
    }

    fn wrong(&self, what: &'static str) -> DecodeError {
        DecodeError::Header { kind: self.kind, what }
    }

    fn wrong_item(&self, item: u32, what: &'static str) -> DecodeError {
        DecodeError::Item { kind: self.kind, item, what }
    }

    /// A count of keys within the limit.
    fn keys(&self) -> Result<u32, DecodeError> {
        if self.count == 0 || self.count as usize > KEYS_MAX {
            return Err(self.wrong("it must have 1 to 1,024 keys"));
        }
        Ok(self.count)
    }

    /// Items of one size.
    fn fixed(&self, body: &[u8], item_bytes: usize) -> Result<u32, DecodeError> {
        let count = self.keys()?;
        if body.len() != count as usize * item_bytes {
            return Err(self.wrong("the body does not hold that many items"));
        }
        Ok(count)
    }

    /// No flag is set.
    fn plain(&self) -> Result<(), DecodeError> {
        if self.flags == 0 { Ok(()) } else { Err(self.wrong("unknown flags")) }
    }
}

impl<'a> Record<'a> {
    /// Reads a record and checks all of it.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn decode(record: &'a [u8]) -> Result<Self, DecodeError> {
        let (header, body) = Header::split(record)?;
        let header = &header;
        Ok(match header.kind {
            Kind::Update => Self::Update(Updates::decode(header, body)?),
            Kind::Release => Self::Release(Updates::decode(header, body)?),
            Kind::Set => {
                let scope = match header.flags {
                    0 => SetScope::Values,
                    1 => SetScope::WholeRow,
                    _ => return Err(header.wrong("unknown flags")),
                };
                Self::Set(Updates::decode(&Header { flags: 0, ..*header }, body)?, scope)
            }
            Kind::Answer => Self::Answer(Answer::decode(header, body)?),
            Kind::Acquire => Self::Acquire(Acquires::decode(header, body)?),
            Kind::GrantShare => Self::GrantShare(Grants::decode(header, body)?),
            Kind::GrantMove => Self::GrantMove(Grants::decode(header, body)?),
            Kind::Refuse => Self::Refuse(Refusals::decode(header, body)?),
            Kind::Location => Self::Location(Locations::decode(header, body)?),
            Kind::Where => Self::Where(Keys::decode(header, body)?),
            Kind::Whereabouts => Self::Whereabouts(Whereabouts::decode(header, body)?),
            Kind::SnapshotRead => Self::SnapshotRead(Keys::decode(header, body)?),
            Kind::SnapshotRows => Self::SnapshotRows(SnapshotRows::decode(header, body)?),
            Kind::Chunk => Self::Chunk(Chunk::decode(header, body)?),
            Kind::Table => Self::Table(TableDefinition::decode(header, body)?),
            Kind::Barrier => Self::Barrier(BarrierStep::decode(header, body)?),
            Kind::Reduce => Self::Reduce(Reduce::decode(header, body)?),
            Kind::Stop => Self::Stop(Stop::decode(header, body)?),
            Kind::Clock => Self::Clock(ClockReport::decode(header, body)?),
            Kind::Offer => Self::Offer(Keys::decode(header, body)?),
            Kind::Arm => Self::Arm(BoardSequence::decode(header, body)?),
            Kind::Notice => Self::Notice(BoardSequence::decode(header, body)?),
            Kind::Trial => Self::Trial(Trial::decode(header, body)?),
        })
    }
}

/// The largest payload of one key that fits a record of `record_bytes` with nothing else in it: a
/// table whose rows or composed updates are larger cannot be made.
#[must_use]
pub const fn payload_bytes_max(record_bytes: usize) -> usize {
    // A grant has the longest item header, and names every node as a holder at worst.
    (record_bytes - HEADER_BYTES - grant::ITEM_BYTES - 2 * Rank::COUNT_MAX) / 8 * 8
}
