//! Refuse: no row for now, or not from here.
//!
//! ```text
//!  0        8         12       14       16
//! +--------+---------+--------+--------+
//! | key    | epoch   | next   | uses   |   once per key
//! +--------+---------+--------+--------+
//! ```
//! `next` owns the row since `epoch`; the requester uses it from afar and may ask again after `uses`
//! accesses.

use sterna_rdma::Rank;

use crate::ids::{Epoch, Key, TableId};
use crate::record::fields::{epoch_at, rank_at, u16_at, u32_at, u64_at};
use crate::record::{DecodeError, Header, Writer};

const ITEM_BYTES: usize = 16;

/// The items of a Refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusals<'a> {
    /// The table.
    pub table: TableId,
    /// The Acquire's number at the requester.
    pub number: u32,
    body: &'a [u8],
}

/// One key's part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The key.
    pub key: Key,
    /// Who owns the row, as far as known.
    pub next: Rank,
    /// Since when.
    pub epoch: Epoch,
    /// Ask again after this many uses.
    pub uses: u16,
}

impl<'a> Refusals<'a> {
    pub(super) fn decode(header: &Header, body: &'a [u8]) -> Result<Self, DecodeError> {
        header.plain()?;
        header.fixed(body, ITEM_BYTES)?;
        for (index, item) in (0..).zip(body.chunks_exact(ITEM_BYTES)) {
            let wrong = |what| header.wrong_item(index, what);
            epoch_at(item, 8).map_err(wrong)?;
            rank_at(item, 12).map_err(wrong)?;
        }
        Ok(Self { table: header.table, number: header.number, body })
    }

    /// The items in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Refusal> + Clone + use<'a> {
        self.body.chunks_exact(ITEM_BYTES).map(|item| Refusal {
            key: Key(u64_at(item, 0)),
            epoch: Epoch::new(u32_at(item, 8)),
            next: Rank(u16_at(item, 12)),
            uses: u16_at(item, 14),
        })
    }
}

impl Writer<'_> {
    /// Adds a key of a Refuse.
    pub fn refusal(&mut self, refusal: &Refusal) -> bool {
        self.item(
            ITEM_BYTES,
            |_| Some(0),
            |head, _| {
                head[0..8].copy_from_slice(&refusal.key.0.to_le_bytes());
                head[8..12].copy_from_slice(&refusal.epoch.get().to_le_bytes());
                head[12..14].copy_from_slice(&refusal.next.0.to_le_bytes());
                head[14..16].copy_from_slice(&refusal.uses.to_le_bytes());
            },
        )
    }
}
