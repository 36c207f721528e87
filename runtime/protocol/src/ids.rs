//! The numbers that records and slots carry, each a type of its own.

use std::fmt;

/// The index of a row in its table.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub u64);

/// A table's number in its job, in the order of creation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId(pub u16);

/// A row's name in its job: its table and its key there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RowId {
    /// The table.
    pub table: TableId,
    /// The key in it.
    pub key: Key,
}

impl fmt::Display for RowId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key {} of table {}", self.key.0, self.table.0)
    }
}

/// A slot's number in its table's arena at one node. [`SlotId::UNDISCLOSED`] names none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId(pub u32);

impl SlotId {
    /// All ones: the location has not been disclosed.
    pub const UNDISCLOSED: Self = Self(u32::MAX);
}

/// A worker's logical time; the application advances it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Clock(pub u64);

/// How often a row's main copy has moved, modulo 2^20. Compared by half range.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Epoch(u32);

impl Epoch {
    /// Width in bits.
    pub const BITS: u32 = 20;
    const MASK: u32 = (1 << Self::BITS) - 1;

    /// The epoch at which the home owns a row at the start.
    pub const FIRST: Self = Self(1);

    /// The epoch with this number, modulo 2^20.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number & Self::MASK)
    }

    /// Its number, below 2^20.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The epoch after the next move.
    #[must_use]
    pub const fn next(self) -> Self {
        Self::new(self.0 + 1)
    }

    /// Whether `self` comes after `other`, by half range.
    #[must_use]
    pub const fn newer_than(self, other: Self) -> bool {
        let ahead = self.0.wrapping_sub(other.0) & Self::MASK;
        ahead != 0 && ahead < (1 << (Self::BITS - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::Epoch;

    #[test]
    fn epochs_compare_by_half_range_across_the_wrap() {
        let last = Epoch::new((1 << Epoch::BITS) - 1);
        assert!(last.next().newer_than(last));
        assert!(!last.newer_than(last.next()));
        assert!(!last.newer_than(last));
        assert_eq!(last.next().get(), 0);
    }
}
