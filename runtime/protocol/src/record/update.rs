//! Update, Release and Set: keys with a payload each, for the owner of the rows.
//!
//! ```text
//!  0        8         12         16
//! +--------+---------+----------+---------------------+-------+
//! | key    | epoch   | length   | payload             | pad   |   once per key
//! +--------+---------+----------+---------------------+-------+
//! ```
//! `epoch` is the one at which the sender believes the receiver to own the row (rule K6). The payload
//! is a composed update (Update, Release; a Release's may be empty) or the new values (Set; flag 1: the
//! whole row).

use crate::ids::{Epoch, Key, TableId};
use crate::record::fields::{epoch_at, padded, u32_at, u64_at};
use crate::record::{DecodeError, Header, Writer};

const ITEM_BYTES: usize = 16;

/// The items of an Update, Release or Set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Updates<'a> {
    /// The table.
    pub table: TableId,
    /// The request's number.
    pub number: u32,
    count: u32,
    body: &'a [u8],
}

/// One key's part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Update<'a> {
    /// The key.
    pub key: Key,
    /// When the sender believes the receiver to own the row.
    pub epoch: Epoch,
    /// What is to be applied.
    pub payload: &'a [u8],
}

impl<'a> Updates<'a> {
    pub(super) fn decode(header: &Header, body: &'a [u8]) -> Result<Self, DecodeError> {
        header.plain()?;
        let count = header.keys()?;
        let mut rest = body;
        for item in 0..count {
            let wrong = |what| header.wrong_item(item, what);
            if rest.len() < ITEM_BYTES {
                return Err(wrong("the body ends inside its head"));
            }
            epoch_at(rest, 8).map_err(wrong)?;
            let payload = u32_at(rest, 12) as usize;
            if payload > rest.len() || ITEM_BYTES + padded(payload) > rest.len() {
                return Err(wrong("its payload is longer than the body"));
            }
            rest = &rest[ITEM_BYTES + padded(payload)..];
        }
        if !rest.is_empty() {
            return Err(header.wrong("bytes are left behind the last item"));
        }
        Ok(Self { table: header.table, number: header.number, count, body })
    }

    /// Keys in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Never: a record has at least one key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The items in order.
    pub fn iter(&self) -> impl Iterator<Item = Update<'a>> + Clone + use<'a> {
        let mut rest = self.body;
        (0..self.count).map(move |_| {
            let length = u32_at(rest, 12) as usize;
            let item = Update {
                key: Key(u64_at(rest, 0)),
                epoch: Epoch::new(u32_at(rest, 8)),
                payload: &rest[ITEM_BYTES..ITEM_BYTES + length],
            };
            rest = &rest[ITEM_BYTES + padded(length)..];
            item
        })
    }
}

impl Writer<'_> {
    /// Adds a key of an Update, Release or Set; `write` puts the payload where it is told and returns
    /// its length, or `None` if there is too little room for it.
    pub fn update(
        &mut self,
        key: Key,
        epoch: Epoch,
        write: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> bool {
        self.item(ITEM_BYTES, write, |head, length| {
            head[0..8].copy_from_slice(&key.0.to_le_bytes());
            head[8..12].copy_from_slice(&epoch.get().to_le_bytes());
            let length = u32::try_from(length).expect("records are below 4 GiB");
            head[12..16].copy_from_slice(&length.to_le_bytes());
        })
    }
}
