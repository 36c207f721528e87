//! SnapshotRows: consistent rows, for a SnapshotRead. Several records may answer one.
//!
//! ```text
//!  0        8        16         20   24
//! +--------+--------+----------+----+------------+-------+
//! | key    | meta   | length   | 0  | row        | pad   |   once per key
//! +--------+--------+----------+----+------------+-------+
//! ```
//! `meta` is the meta word of the row: Live with its version; or Moved, with no row, and the next owner
//! in the version.

use crate::ids::{Key, TableId};
use crate::record::fields::{padded, u32_at, u64_at};
use crate::record::{DecodeError, Header, Writer};
use crate::words::MetaWord;

const ITEM_BYTES: usize = 24;

/// The items of a SnapshotRows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotRows<'a> {
    /// The table.
    pub table: TableId,
    /// The request's number.
    pub number: u32,
    count: u32,
    body: &'a [u8],
}

/// One key's part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotRow<'a> {
    /// The key.
    pub key: Key,
    /// State, epoch and version of the row.
    pub meta: MetaWord,
    /// Values and state, empty if it is not there.
    pub row: &'a [u8],
}

impl<'a> SnapshotRows<'a> {
    pub(super) fn decode(header: &Header, body: &'a [u8]) -> Result<Self, DecodeError> {
        header.plain()?;
        let count = header.keys()?;
        let mut rest = body;
        for item in 0..count {
            let wrong = |what| header.wrong_item(item, what);
            if rest.len() < ITEM_BYTES {
                return Err(wrong("the body ends inside its head"));
            }
            let row = u32_at(rest, 16) as usize;
            if row > rest.len() || ITEM_BYTES + padded(row) > rest.len() {
                return Err(wrong("its row is longer than the body"));
            }
            rest = &rest[ITEM_BYTES + padded(row)..];
        }
        if !rest.is_empty() {
            return Err(header.wrong("bytes are left behind the last item"));
        }
        Ok(Self { table: header.table, number: header.number, count, body })
    }

    /// The items in order.
    pub fn iter(&self) -> impl Iterator<Item = SnapshotRow<'a>> + use<'a> {
        let mut rest = self.body;
        (0..self.count).map(move |_| {
            let length = u32_at(rest, 16) as usize;
            let item = SnapshotRow {
                key: Key(u64_at(rest, 0)),
                meta: MetaWord(u64_at(rest, 8)),
                row: &rest[ITEM_BYTES..ITEM_BYTES + length],
            };
            rest = &rest[ITEM_BYTES + padded(length)..];
            item
        })
    }
}

impl Writer<'_> {
    /// Adds a key of a SnapshotRows; `write` puts the row where it is told and returns its length and
    /// meta word, or `None` if there is too little room.
    pub fn snapshot_row(
        &mut self,
        key: Key,
        write: impl FnOnce(&mut [u8]) -> Option<(usize, MetaWord)>,
    ) -> bool {
        let mut meta = MetaWord(0);
        let start = self.at();
        let fill = |room: &mut [u8]| {
            let (length, found) = write(room)?;
            meta = found;
            Some(length)
        };
        let added = self.item(ITEM_BYTES, fill, |head, length| {
            head[0..8].copy_from_slice(&key.0.to_le_bytes());
            let length = u32::try_from(length).expect("records are below 4 GiB");
            head[16..20].copy_from_slice(&length.to_le_bytes());
        });
        if added {
            self.patch(start + 8, &meta.0.to_le_bytes());
        }
        added
    }
}
