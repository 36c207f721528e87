//! Acquire: somebody has intent for these keys.
//!
//! ```text
//!  0      8       12     16             24                  28          30     31     32
//! +------+-------+------+--------------+-------------------+-----------+------+------+
//! | key  | epoch | slot | held version | flags | held ep. | requester | uses | span |  once per key
//! +------+-------+------+--------------+-------------------+-----------+------+------+
//! ```
//! `epoch` is the one at which the sender believes the receiver to own the row; it grows strictly along
//! the nodes that pass the Acquire on (I4). Flags, from the top bit: the requester will write; it still
//! has a copy of the held epoch and version, so that the row can be left out of the grant if that is
//! current; it asks for the main copy, whatever the owner thinks of it (`localize`).

use sterna_rdma::Rank;

use crate::ids::{Epoch, Key, SlotId, TableId};
use crate::record::fields::{epoch_at, rank_at, u16_at, u32_at, u64_at};
use crate::record::{DecodeError, Header, Writer};

const ITEM_BYTES: usize = 32;
const WRITES: u32 = 1 << 31;
const HOLDS: u32 = 1 << 30;
const FORCES: u32 = 1 << 29;

/// The items of an Acquire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acquires<'a> {
    /// The table.
    pub table: TableId,
    /// The request's number at the requester.
    pub number: u32,
    body: &'a [u8],
}

/// One key's part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Acquire {
    /// The key.
    pub key: Key,
    /// When the sender believes the receiver to own the row.
    pub epoch: Epoch,
    /// The slot that waits for the row at the requester.
    pub slot: SlotId,
    /// Who wants it; the sender may have passed it on.
    pub requester: Rank,
    /// Accesses announced, 255 for that many or more, 0 if unknown.
    pub uses: u8,
    /// Rounds over which they spread, 255 for that many or more.
    pub span: u8,
    /// Whether some of them are pushes.
    pub writes: bool,
    /// Whether the main copy is wanted, and nothing else will do.
    pub force: bool,
    /// Epoch and version of a copy that the requester still has.
    pub held: Option<(Epoch, u64)>,
}

impl<'a> Acquires<'a> {
    pub(super) fn decode(header: &Header, body: &'a [u8]) -> Result<Self, DecodeError> {
        header.plain()?;
        header.fixed(body, ITEM_BYTES)?;
        for (index, item) in (0..).zip(body.chunks_exact(ITEM_BYTES)) {
            let wrong = |what| header.wrong_item(index, what);
            epoch_at(item, 8).map_err(wrong)?;
            rank_at(item, 28).map_err(wrong)?;
            let held = u32_at(item, 24);
            if held & !(WRITES | HOLDS | FORCES) >= 1 << Epoch::BITS {
                return Err(wrong("an epoch has 20 bits"));
            }
            if held & HOLDS == 0 && (held & !(WRITES | FORCES) != 0 || u64_at(item, 16) != 0) {
                return Err(wrong("a version is held without being held"));
            }
        }
        Ok(Self { table: header.table, number: header.number, body })
    }

    /// The items in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Acquire> + Clone + use<'a> {
        self.body.chunks_exact(ITEM_BYTES).map(|item| {
            let held = u32_at(item, 24);
            Acquire {
                key: Key(u64_at(item, 0)),
                epoch: Epoch::new(u32_at(item, 8)),
                slot: SlotId(u32_at(item, 12)),
                requester: Rank(u16_at(item, 28)),
                uses: item[30],
                span: item[31],
                writes: held & WRITES != 0,
                force: held & FORCES != 0,
                held: (held & HOLDS != 0).then(|| (Epoch::new(held), u64_at(item, 16))),
            }
        })
    }
}

impl Writer<'_> {
    /// Adds a key of an Acquire.
    pub fn acquire(&mut self, acquire: &Acquire) -> bool {
        self.item(
            ITEM_BYTES,
            |_| Some(0),
            |head, _| {
                let (epoch, version) = acquire.held.unwrap_or_default();
                let held = epoch.get()
                    | if acquire.held.is_some() { HOLDS } else { 0 }
                    | if acquire.writes { WRITES } else { 0 }
                    | if acquire.force { FORCES } else { 0 };
                head[0..8].copy_from_slice(&acquire.key.0.to_le_bytes());
                head[8..12].copy_from_slice(&acquire.epoch.get().to_le_bytes());
                head[12..16].copy_from_slice(&acquire.slot.0.to_le_bytes());
                head[16..24].copy_from_slice(&version.to_le_bytes());
                head[24..28].copy_from_slice(&held.to_le_bytes());
                head[28..30].copy_from_slice(&acquire.requester.0.to_le_bytes());
                head[30] = acquire.uses;
                head[31] = acquire.span;
            },
        )
    }
}
