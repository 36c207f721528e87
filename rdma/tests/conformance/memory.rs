//! Word access to a region of this node, as the store's copies do it.

use std::sync::atomic::{AtomicU64, Ordering};

use sterna_rdma::Region;

fn word(region: &Region, offset: usize) -> &AtomicU64 {
    assert!(offset.is_multiple_of(8) && offset + 8 <= region.bytes());
    // SAFETY: within the region by the assertion and aligned; the region outlives the borrow; all
    // access to it is atomic.
    unsafe { AtomicU64::from_ptr(region.base().as_ptr().add(offset).cast()) }
}

/// Stores a word; later stores may be seen before it.
pub fn store(region: &Region, offset: usize, value: u64) {
    word(region, offset).store(value, Ordering::Relaxed);
}

/// Stores a word after all stores before it.
pub fn publish(region: &Region, offset: usize, value: u64) {
    word(region, offset).store(value, Ordering::Release);
}

/// Loads a word.
pub fn load(region: &Region, offset: usize) -> u64 {
    word(region, offset).load(Ordering::Relaxed)
}

/// The words of what a READ returned.
pub fn words(bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    bytes.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().expect("8 bytes")))
}

/// A word that says where it stands.
pub fn pattern(offset: u64, seed: u64) -> u64 {
    (offset ^ seed.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Fills a region with [`pattern`].
pub fn fill(region: &Region, seed: u64) {
    for offset in (0..region.bytes()).step_by(8) {
        store(region, offset, pattern(offset as u64, seed));
    }
}
