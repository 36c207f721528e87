//! Reading and writing the numbers of a record's body.

use sterna_rdma::Rank;

use crate::ids::Epoch;

#[inline]
pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().expect("2 bytes"))
}

#[inline]
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"))
}

#[inline]
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"))
}

/// An epoch; the twelve bits above it must be clear.
pub(super) fn epoch_at(bytes: &[u8], at: usize) -> Result<Epoch, &'static str> {
    let number = u32_at(bytes, at);
    if number >> Epoch::BITS == 0 { Ok(Epoch::new(number)) } else { Err("an epoch has 20 bits") }
}

pub(super) fn rank_at(bytes: &[u8], at: usize) -> Result<Rank, &'static str> {
    let rank = Rank(u16_at(bytes, at));
    if rank.index() < Rank::COUNT_MAX { Ok(rank) } else { Err("ranks are below 4,096") }
}

/// Bytes that a payload takes with its padding.
pub(super) const fn padded(bytes: usize) -> usize {
    bytes.next_multiple_of(8)
}
