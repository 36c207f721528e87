//! The number of a node in its job.

use std::fmt;

/// A node's number, `0..size`. Directory words hold 12 bits of it, so a job has at most
/// [`Rank::COUNT_MAX`] nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rank(pub u16);

impl Rank {
    /// The largest number of nodes in a job (12 bits in a directory word).
    pub const COUNT_MAX: usize = 4096;

    /// The rank as an index into per-peer arrays.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The rank with this index.
    ///
    /// # Panics
    /// If `index` is not below [`Rank::COUNT_MAX`].
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "asserted below 4,096")]
    pub const fn from_index(index: usize) -> Self {
        assert!(index < Self::COUNT_MAX, "rank out of range");
        Self(index as u16)
    }
}

impl fmt::Display for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rank {}", self.0)
    }
}
