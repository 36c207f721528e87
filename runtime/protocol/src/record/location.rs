//! Location: a new owner tells the home of its rows where they are; this discloses their slots.
//!
//! ```text
//!  0        8         12       16
//! +--------+---------+--------+
//! | key    | epoch   | slot   |   once per key; the sender is the owner
//! +--------+---------+--------+
//! ```

use crate::ids::{Epoch, Key, SlotId, TableId};
use crate::record::fields::{epoch_at, u32_at, u64_at};
use crate::record::{DecodeError, Header, Writer};

const ITEM_BYTES: usize = 16;

/// The items of a Location.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Locations<'a> {
    /// The table.
    pub table: TableId,
    body: &'a [u8],
}

/// One key's part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    /// The key.
    pub key: Key,
    /// Since when the sender owns it.
    pub epoch: Epoch,
    /// In which slot.
    pub slot: SlotId,
}

impl<'a> Locations<'a> {
    pub(super) fn decode(header: &Header, body: &'a [u8]) -> Result<Self, DecodeError> {
        header.plain()?;
        header.fixed(body, ITEM_BYTES)?;
        for (index, item) in (0..).zip(body.chunks_exact(ITEM_BYTES)) {
            epoch_at(item, 8).map_err(|what| header.wrong_item(index, what))?;
        }
        Ok(Self { table: header.table, body })
    }

    /// The items in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Location> + use<'a> {
        self.body.chunks_exact(ITEM_BYTES).map(|item| Location {
            key: Key(u64_at(item, 0)),
            epoch: Epoch::new(u32_at(item, 8)),
            slot: SlotId(u32_at(item, 12)),
        })
    }
}

impl Writer<'_> {
    /// Adds a key of a Location.
    pub fn location(&mut self, location: &Location) -> bool {
        self.item(
            ITEM_BYTES,
            |_| Some(0),
            |head, _| {
                head[0..8].copy_from_slice(&location.key.0.to_le_bytes());
                head[8..12].copy_from_slice(&location.epoch.get().to_le_bytes());
                head[12..16].copy_from_slice(&location.slot.0.to_le_bytes());
            },
        )
    }
}
