//! The two 64-bit words that peers read: a slot's meta word and a key's directory word.
//!
//! ```text
//! meta       63                     24 23              4   3   2      0
//!           +-------------------------+-----------------+-----+--------+
//!           | version:40              | epoch:20        | w:1 | state:3|
//!           +-------------------------+-----------------+-----+--------+
//! directory  63          52 51              32 31                     0
//!           +--------------+------------------+------------------------+
//!           | owner:12     | epoch:20         | slot:32                |
//!           +--------------+------------------+------------------------+
//! ```
//! A Moved slot keeps the next owner in `version`. A slot of all ones is not disclosed.

use sterna_rdma::Rank;

use crate::ids::{Epoch, SlotId};

/// What a slot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum SlotState {
    /// Nothing.
    Free = 0,
    /// Private updates of a row that lives elsewhere.
    Remote = 1,
    /// A row that is on its way here.
    Pending = 2,
    /// A copy of a row that lives elsewhere.
    Replica = 3,
    /// The main copy.
    Live = 4,
    /// A row that has left; `version` holds the next owner.
    Moved = 5,
    /// Nothing, and not yet reusable.
    Quarantine = 6,
    /// The main copy of a row that other nodes have replicas of.
    Shared = 7,
}

impl SlotState {
    const fn from_bits(bits: u64) -> Self {
        match bits {
            1 => Self::Remote,
            2 => Self::Pending,
            3 => Self::Replica,
            4 => Self::Live,
            5 => Self::Moved,
            6 => Self::Quarantine,
            7 => Self::Shared,
            _ => Self::Free,
        }
    }

    /// Whether the slot holds the main copy.
    #[must_use]
    #[inline]
    pub const fn owns(self) -> bool {
        matches!(self, Self::Live | Self::Shared)
    }

    /// Whether workers of this node may read the row: the main copy, or a replica's view.
    #[must_use]
    #[inline]
    pub const fn readable(self) -> bool {
        matches!(self, Self::Live | Self::Shared | Self::Replica)
    }
}

/// A slot's second word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MetaWord(pub u64);

impl MetaWord {
    const WRITER: u64 = 1 << 3;
    const EPOCH_SHIFT: u32 = 4;
    const VERSION_SHIFT: u32 = 24;
    const VERSION_MASK: u64 = (1 << 40) - 1;

    /// A word with the writer bit clear; `version` is taken modulo 2^40.
    #[must_use]
    pub const fn new(state: SlotState, epoch: Epoch, version: u64) -> Self {
        Self(
            state as u64
                | (epoch.get() as u64) << Self::EPOCH_SHIFT
                | (version & Self::VERSION_MASK) << Self::VERSION_SHIFT,
        )
    }

    /// The state.
    #[must_use]
    pub const fn state(self) -> SlotState {
        SlotState::from_bits(self.0 & 0b111)
    }

    /// Whether a writer is at work.
    #[must_use]
    pub const fn writer(self) -> bool {
        self.0 & Self::WRITER != 0
    }

    /// The same word with the writer bit set.
    #[must_use]
    pub const fn with_writer(self) -> Self {
        Self(self.0 | Self::WRITER)
    }

    /// The same word with the writer bit clear.
    #[must_use]
    pub const fn without_writer(self) -> Self {
        Self(self.0 & !Self::WRITER)
    }

    /// The epoch of the row.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "masked to 20 bits")]
    pub const fn epoch(self) -> Epoch {
        Epoch::new((self.0 >> Self::EPOCH_SHIFT) as u32)
    }

    /// Optimizer steps applied to the main copy, modulo 2^40 (a composed update counts as one).
    #[must_use]
    pub const fn version(self) -> u64 {
        self.0 >> Self::VERSION_SHIFT
    }

    /// The same word one version on.
    #[must_use]
    pub const fn bumped(self) -> Self {
        // The version holds the top bits, so overflow drops out: modulo 2^40.
        Self(self.0.wrapping_add(1 << Self::VERSION_SHIFT))
    }
}

/// A home's record of where a key lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DirectoryWord(pub u64);

impl DirectoryWord {
    /// A word.
    #[must_use]
    pub const fn new(owner: Rank, epoch: Epoch, slot: SlotId) -> Self {
        assert!(owner.index() < Rank::COUNT_MAX);
        Self((owner.0 as u64) << 52 | (epoch.get() as u64) << 32 | slot.0 as u64)
    }

    /// The node that owns the row.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "12 bits are left")]
    pub const fn owner(self) -> Rank {
        Rank((self.0 >> 52) as u16)
    }

    /// The epoch of that ownership.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "masked to 20 bits")]
    pub const fn epoch(self) -> Epoch {
        Epoch::new((self.0 >> 32) as u32)
    }

    /// The slot at the owner, or [`SlotId::UNDISCLOSED`].
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "the low half")]
    pub const fn slot(self) -> SlotId {
        SlotId(self.0 as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_give_back_what_they_were_made_of() {
        let meta = MetaWord::new(SlotState::Live, Epoch::new(0xF_FFFF), (1 << 40) - 1);
        assert_eq!(
            (meta.state(), meta.epoch().get(), meta.version(), meta.writer()),
            (SlotState::Live, 0xF_FFFF, (1 << 40) - 1, false)
        );
        assert_eq!(meta.bumped().version(), 0);
        assert_eq!(meta.bumped().epoch(), meta.epoch());
        assert_eq!(meta.with_writer().without_writer(), meta);
        let word = DirectoryWord::new(Rank(4095), Epoch::new(0xA_BCDE), SlotId(0xDEAD_BEEF));
        assert_eq!(
            (word.owner(), word.epoch().get(), word.slot()),
            (Rank(4095), 0xA_BCDE, SlotId(0xDEAD_BEEF))
        );
    }
}
