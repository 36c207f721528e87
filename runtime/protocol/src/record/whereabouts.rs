//! Where, Whereabouts: a home's directory words, asked and told; also the keys of a SnapshotRead.
//!
//! ```text
//!  Where, SnapshotRead   Whereabouts
//! +--------+            +--------+----------------+
//! | key    |            | key    | directory word |   once per key
//! +--------+            +--------+----------------+
//! ```
//! A word whose slot is not disclosed means: ask the owner by record.

use crate::ids::{Key, TableId};
use crate::record::fields::u64_at;
use crate::record::{DecodeError, Header, Writer};
use crate::words::DirectoryWord;

/// The keys of a Where or SnapshotRead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keys<'a> {
    /// The table.
    pub table: TableId,
    /// The request's number.
    pub number: u32,
    body: &'a [u8],
}

impl<'a> Keys<'a> {
    pub(super) fn decode(header: &Header, body: &'a [u8]) -> Result<Self, DecodeError> {
        header.plain()?;
        header.fixed(body, 8)?;
        Ok(Self { table: header.table, number: header.number, body })
    }

    /// The keys in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Key> + use<'a> {
        self.body.chunks_exact(8).map(|item| Key(u64_at(item, 0)))
    }
}

/// The items of a Whereabouts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whereabouts<'a> {
    /// The table.
    pub table: TableId,
    /// The request's number.
    pub number: u32,
    body: &'a [u8],
}

/// One key's part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The key.
    pub key: Key,
    /// Where it is.
    pub word: DirectoryWord,
}

impl<'a> Whereabouts<'a> {
    pub(super) fn decode(header: &Header, body: &'a [u8]) -> Result<Self, DecodeError> {
        header.plain()?;
        header.fixed(body, 16)?;
        Ok(Self { table: header.table, number: header.number, body })
    }

    /// The items in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Found> + use<'a> {
        self.body
            .chunks_exact(16)
            .map(|item| Found { key: Key(u64_at(item, 0)), word: DirectoryWord(u64_at(item, 8)) })
    }
}

impl Writer<'_> {
    /// Adds a key of a Where or SnapshotRead.
    pub fn key(&mut self, key: Key) -> bool {
        self.item(8, |_| Some(0), |head, _| head.copy_from_slice(&key.0.to_le_bytes()))
    }

    /// Adds a key of a Whereabouts.
    pub fn found(&mut self, found: &Found) -> bool {
        self.item(
            16,
            |_| Some(0),
            |head, _| {
                head[0..8].copy_from_slice(&found.key.0.to_le_bytes());
                head[8..16].copy_from_slice(&found.word.0.to_le_bytes());
            },
        )
    }
}
