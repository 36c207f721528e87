//! Grant share, Grant move: a row for who acquired it.
//!
//! ```text
//!  0     8       12     16        24      28       32        34      36  40
//! +-----+-------+------+---------+-------+--------+---------+-------+---+-------------+-----------+
//! | key | epoch | slot | version | board | length | holders | flags | 0 | holders, pad| row, pad  |
//! +-----+-------+------+---------+-------+--------+---------+-------+---+-------------+-----------+
//! ```
//! `epoch` is the owner's: of a share the granting node's, of a move the receiver's. `holders` are the
//! other nodes with replicas, 2 bytes each; they travel with a move. Flag 1: the row is left out,
//! because the version that the requester held is current. Further flags belong to checkpoints.

use sterna_rdma::Rank;

use crate::ids::{Epoch, Key, SlotId, TableId};
use crate::record::fields::{epoch_at, padded, rank_at, u16_at, u32_at, u64_at};
use crate::record::{DecodeError, Header, Writer};

pub(super) const ITEM_BYTES: usize = 40;
const OMITTED: u16 = 1;

/// The items of a Grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grants<'a> {
    /// The table.
    pub table: TableId,
    /// The Acquire's number at the requester.
    pub number: u32,
    count: u32,
    body: &'a [u8],
}

/// One key's part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant<'a> {
    /// The key.
    pub key: Key,
    /// Since when its owner owns it.
    pub epoch: Epoch,
    /// The slot of the main copy at the granting node.
    pub slot: SlotId,
    /// The row's version.
    pub version: u64,
    /// The row's place on the granting node's board.
    pub board: u32,
    /// The other nodes with replicas.
    pub holders: Holders<'a>,
    /// Values and state; `None` if the copy that the requester held is current.
    pub row: Option<&'a [u8]>,
}

/// A list of ranks inside a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Holders<'a>(&'a [u8]);

impl<'a> Holders<'a> {
    /// The ranks.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Rank> + Clone + use<'a> {
        self.0.chunks_exact(2).map(|rank| Rank(u16_at(rank, 0)))
    }
}

impl<'a> Grants<'a> {
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
            let (row, holders) = (u32_at(rest, 28) as usize, usize::from(u16_at(rest, 32)));
            let flags = u16_at(rest, 34);
            if flags & !OMITTED != 0 || (flags & OMITTED != 0 && row != 0) {
                return Err(wrong("unknown flags, or a row beside its omission"));
            }
            let end = ITEM_BYTES + padded(2 * holders);
            if row > rest.len() || end + padded(row) > rest.len() {
                return Err(wrong("its row is longer than the body"));
            }
            for holder in 0..holders {
                rank_at(rest, ITEM_BYTES + 2 * holder).map_err(wrong)?;
            }
            rest = &rest[end + padded(row)..];
        }
        if !rest.is_empty() {
            return Err(header.wrong("bytes are left behind the last item"));
        }
        Ok(Self { table: header.table, number: header.number, count, body })
    }

    /// The items in order.
    pub fn iter(&self) -> impl Iterator<Item = Grant<'a>> + Clone + use<'a> {
        let mut rest = self.body;
        (0..self.count).map(move |_| {
            let (item, length) = Grant::read(rest);
            rest = &rest[length..];
            item
        })
    }
}

impl<'a> Grant<'a> {
    #[inline]
    fn read(item: &'a [u8]) -> (Self, usize) {
        let (row, holders) = (u32_at(item, 28) as usize, 2 * usize::from(u16_at(item, 32)));
        let at = ITEM_BYTES + padded(holders);
        let omitted = u16_at(item, 34) & OMITTED != 0;
        let grant = Self {
            key: Key(u64_at(item, 0)),
            epoch: Epoch::new(u32_at(item, 8)),
            slot: SlotId(u32_at(item, 12)),
            version: u64_at(item, 16),
            board: u32_at(item, 24),
            holders: Holders(&item[ITEM_BYTES..ITEM_BYTES + holders]),
            row: (!omitted).then_some(&item[at..at + row]),
        };
        (grant, at + padded(row))
    }
}

impl Writer<'_> {
    /// Adds a key of a Grant. `write` puts the row where it is told and returns its length, its version
    /// and whether to leave it out; `None` if there is too little room. `grant.row`, `grant.version` and
    /// `grant.holders` are not looked at.
    pub fn grant(
        &mut self,
        grant: &Grant<'_>,
        holders: &[Rank],
        write: impl FnOnce(&mut [u8]) -> Option<(usize, u64, bool)>,
    ) -> bool {
        let ranks = padded(2 * holders.len());
        let (mut version, mut flags) = (0, 0);
        let fill = |body: &mut [u8]| {
            let (row, found, omit) = write(body.get_mut(ranks..)?)?;
            version = found;
            flags = if omit { OMITTED } else { 0 };
            body[..ranks].fill(0);
            for (place, holder) in body.chunks_exact_mut(2).zip(holders) {
                place.copy_from_slice(&holder.0.to_le_bytes());
            }
            Some(ranks + if omit { 0 } else { row })
        };
        let item = |head: &mut [u8], length: usize| {
            let row = u32::try_from(length - ranks).expect("records are below 4 GiB");
            let holders = u16::try_from(holders.len()).expect("at most 4,096 nodes");
            head[0..8].copy_from_slice(&grant.key.0.to_le_bytes());
            head[8..12].copy_from_slice(&grant.epoch.get().to_le_bytes());
            head[12..16].copy_from_slice(&grant.slot.0.to_le_bytes());
            head[24..28].copy_from_slice(&grant.board.to_le_bytes());
            head[28..32].copy_from_slice(&row.to_le_bytes());
            head[32..34].copy_from_slice(&holders.to_le_bytes());
        };
        let start = self.at();
        let added = self.item(ITEM_BYTES, fill, item);
        if added {
            self.patch(start + 16, &version.to_le_bytes());
            self.patch(start + 34, &flags.to_le_bytes());
        }
        added
    }
}
