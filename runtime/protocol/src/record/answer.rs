//! Answer: which keys of an Update, Release or Set are in their main copies, and who to ask for the
//! others.
//!
//! ```text
//!  header.number = the request's, header.count = its keys
//! +---------------------------+-------------------------------------------+
//! | nacked: 1 bit per key,    | for each nacked key, in order:            |
//! | in 8-byte words           |  next:16 | 0:16 | epoch:32                |
//! +---------------------------+-------------------------------------------+
//! ```

use sterna_rdma::Rank;

use crate::ids::{Epoch, TableId};
use crate::record::fields::{epoch_at, rank_at, u16_at, u32_at, u64_at};
use crate::record::{DecodeError, Header, Writer};

const NACK_BYTES: usize = 8;

/// The answer to one request record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    /// The table of the request.
    pub table: TableId,
    /// The request's number.
    pub number: u32,
    count: u32,
    bitmap: &'a [u8],
    nacks: &'a [u8],
}

/// A key that was not applied; its sender still holds what it sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Nack {
    /// Who owns the row, as far as known.
    pub next: Rank,
    /// Since which epoch.
    pub epoch: Epoch,
}

/// A [`Nack`] with the place of its key in the request.
pub type PlacedNack = (u16, Nack);

const fn bitmap_bytes(count: u32) -> usize {
    count.div_ceil(64) as usize * 8
}

impl<'a> Answer<'a> {
    pub(super) fn decode(header: &Header, body: &'a [u8]) -> Result<Self, DecodeError> {
        header.plain()?;
        let count = header.keys()?;
        let Some((bitmap, nacks)) = body.split_at_checked(bitmap_bytes(count)) else {
            return Err(header.wrong("the body does not hold its bitmap"));
        };
        let nacked: u32 = bitmap.iter().map(|byte| byte.count_ones()).sum();
        let beyond = count % 64 != 0 && u64_at(bitmap, bitmap.len() - 8) >> (count % 64) != 0;
        if beyond || nacks.len() != nacked as usize * NACK_BYTES {
            return Err(header.wrong("the bitmap does not fit the nacks"));
        }
        for (item, nack) in (0..).zip(nacks.chunks_exact(NACK_BYTES)) {
            let wrong = |what| header.wrong_item(item, what);
            rank_at(nack, 0).map_err(wrong)?;
            epoch_at(nack, 4).map_err(wrong)?;
            if u16_at(nack, 2) != 0 {
                return Err(wrong("its padding is not zero"));
            }
        }
        Ok(Self { table: header.table, number: header.number, count, bitmap, nacks })
    }

    /// Keys of the request.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Never: a request has at least one key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// For each key of the request, in its order: `None` is an ack.
    pub fn iter(&self) -> impl Iterator<Item = Option<Nack>> + use<'a> {
        let (bitmap, mut nacks) = (self.bitmap, self.nacks);
        (0..self.count as usize).map(move |index| {
            if bitmap[index / 8] >> (index % 8) & 1 == 0 {
                return None;
            }
            let (nack, rest) = nacks.split_at(NACK_BYTES);
            nacks = rest;
            Some(Nack { next: Rank(u16_at(nack, 0)), epoch: Epoch::new(u32_at(nack, 4)) })
        })
    }
}

impl Writer<'_> {
    /// Writes the answer to a request of `count` keys, of which `nacks`, in ascending order, were not
    /// applied. `false` if the buffer is too small.
    ///
    /// # Panics
    /// If a nack is not of a key of the request.
    pub fn answer(&mut self, count: u32, nacks: &[PlacedNack]) -> bool {
        let bitmap = bitmap_bytes(count);
        let needed = bitmap + nacks.len() * NACK_BYTES;
        self.body(count, |body| {
            let body = body.get_mut(..needed)?;
            body.fill(0);
            for (place, &(index, nack)) in nacks.iter().enumerate() {
                assert!(u32::from(index) < count, "nacks are of keys of the request");
                body[usize::from(index) / 8] |= 1 << (index % 8);
                let item = &mut body[bitmap + place * NACK_BYTES..][..NACK_BYTES];
                item[0..2].copy_from_slice(&nack.next.0.to_le_bytes());
                item[4..8].copy_from_slice(&nack.epoch.get().to_le_bytes());
            }
            Some(needed)
        })
    }
}
