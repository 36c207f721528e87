//! The memory of a ring: mapped by its receiver, who made it, and by the one peer that sends.

use std::os::fd::{BorrowedFd, OwnedFd};

use crate::copy::copy_out;
use crate::error::FabricError;
use crate::fabric::RECORD_BYTES_MAX;
use crate::memory::{MapError, Mapping, Memfd, map_peer_ring};
use crate::ring::{DATA_OFFSET, Limits, Memory, Words};
use crate::tuning::{RING_BYTES, RING_RECORDS_MAX};

/// Bytes of a ring's file.
const FILE_BYTES: usize = DATA_OFFSET + RING_BYTES;

/// What each ring holds.
pub(super) const LIMITS: Limits =
    Limits { bytes: RING_BYTES, records: RING_RECORDS_MAX, record_bytes: RECORD_BYTES_MAX };

/// A mapped ring.
#[derive(Debug)]
pub(super) struct RingMemory(Mapping);

impl RingMemory {
    /// A new ring of this node, and the descriptor to give to the peer that sends on it.
    pub(super) fn create(label: &str) -> Result<(Self, OwnedFd), FabricError> {
        let (memfd, mapping) = Memfd::for_ring(label, FILE_BYTES)?;
        Ok((Self(mapping), memfd.into_fd()))
    }

    /// The ring that a peer offers.
    pub(super) fn of_peer(fd: BorrowedFd<'_>) -> Result<Self, MapError> {
        map_peer_ring(fd, FILE_BYTES).map(Self)
    }

    fn data(&self, offset: usize, len: usize) -> *mut u8 {
        assert!(offset <= RING_BYTES && len <= RING_BYTES - offset, "outside the ring");
        // SAFETY: the mapping has `FILE_BYTES` bytes (checked when it was made) and `offset` is at most
        // those of the data.
        unsafe { self.0.base().as_ptr().add(DATA_OFFSET + offset) }
    }
}

impl Memory for RingMemory {
    fn words(&self) -> &Words {
        // SAFETY: the mapping starts at a page, is longer than `Words`, and lives as long as `self`.
        // `Words` holds atomics only, for which any bytes are valid, and other processes change
        // them by atomic stores.
        unsafe { self.0.base().cast::<Words>().as_ref() }
    }

    fn store(&self, offset: usize, bytes: &[u8]) {
        let to = self.data(offset, bytes.len());
        // SAFETY: `data` has checked the range. The receiver reads it only after it was published,
        // and a broken one that reads earlier harms its own copy only.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
    }

    fn load(&self, offset: usize, to: &mut [u8]) {
        assert!(offset.is_multiple_of(8) && to.len().is_multiple_of(8));
        let from = self.data(offset, to.len());
        // SAFETY: `data` has checked the range, which starts at a multiple of 8 of a page and is not in
        // `to`, a private slice; a sender that stores meanwhile is what `copy_out` is made for.
        unsafe { copy_out(from, to) };
    }
}
