//! Memory that peers may reach.

use std::any::Any;
use std::fmt;
use std::ptr::NonNull;

/// A region's number, unique among the regions of its node and never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegionId(pub u32);

impl fmt::Display for RegionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "region {}", self.0)
    }
}

/// What peers may do with a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// One-sided reads; every other access by a peer is impossible, not just forbidden.
    Read,
    /// One-sided writes: rings only.
    Write,
}

/// What to allocate.
#[derive(Clone, Copy, Debug)]
pub struct RegionSpec {
    /// Purpose, for messages and `/proc` (at most 32 characters).
    pub name: &'static str,
    /// Size in bytes; rounded up to pages.
    pub bytes: usize,
    /// What peers may do.
    pub rights: Rights,
}

/// A mapping of this node, zeroed at the start, unmapped when the last handle is dropped.
///
/// The memory is shared with other threads and, read-only, with other processes: no reference to
/// its content is ever made; it is touched through pointers by audited copies only.
pub struct Region {
    id: RegionId,
    base: NonNull<u8>,
    bytes: usize,
    rights: Rights,
    /// Owns the mapping; what it is depends on the provider.
    backing: Box<dyn Any + Send + Sync>,
}

// SAFETY: the mapping is owned by `backing`, lives as long as the value, and is plain memory. All
// access to its content is by the raw pointer, whose users uphold the rules of their own copies.
unsafe impl Send for Region {}
// SAFETY: as above; the methods only hand out the pointer and plain values.
unsafe impl Sync for Region {}

impl Region {
    /// Wraps a mapping.
    ///
    /// # Safety
    /// `base` must point to `bytes` readable and writable bytes, aligned to 64, valid until
    /// `backing` is dropped, and not referenced as Rust values by anybody.
    pub unsafe fn new(
        id: RegionId,
        base: NonNull<u8>,
        bytes: usize,
        rights: Rights,
        backing: Box<dyn Any + Send + Sync>,
    ) -> Self {
        assert!(base.as_ptr().addr().is_multiple_of(64), "a region starts at a cache line");
        Self { id, base, bytes, rights, backing }
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> RegionId {
        self.id
    }

    /// First byte.
    #[must_use]
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Size in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What peers may do.
    #[must_use]
    pub fn rights(&self) -> Rights {
        self.rights
    }

    /// What owns the mapping, for the provider that made it.
    #[must_use]
    pub fn backing(&self) -> &(dyn Any + Send + Sync) {
        self.backing.as_ref()
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region")
            .field("id", &self.id)
            .field("bytes", &self.bytes)
            .field("rights", &self.rights)
            .finish_non_exhaustive()
    }
}

/// What a peer needs to import a region; travels in records.
///
/// ```text
///  0         4         8                16               24               32
/// +---------+---------+----------------+----------------+----------------+
/// | id      | rkey    | bytes          | tag            | address (verbs)|
/// +---------+---------+----------------+----------------+----------------+
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionToken {
    /// The region's number at its node.
    pub id: RegionId,
    /// Its size.
    pub bytes: u64,
    /// What shows that it is of a node of the job.
    pub key: u64,
    /// How devices of peers name it: key (verbs).
    pub remote_key: u32,
    /// How devices of peers name it: first byte (verbs).
    pub address: u64,
}

impl RegionToken {
    /// Length on the wire.
    pub const BYTES: usize = 32;

    /// As bytes, little endian.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let mut out = [0; Self::BYTES];
        out[0..4].copy_from_slice(&self.id.0.to_le_bytes());
        out[4..8].copy_from_slice(&self.remote_key.to_le_bytes());
        out[8..16].copy_from_slice(&self.bytes.to_le_bytes());
        out[16..24].copy_from_slice(&self.key.to_le_bytes());
        out[24..32].copy_from_slice(&self.address.to_le_bytes());
        out
    }

    /// From bytes.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Self {
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        let half = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        Self {
            id: RegionId(half(0)),
            remote_key: half(4),
            bytes: word(8),
            key: word(16),
            address: word(24),
        }
    }
}
