//! What a worker may do with the key: see the row, by a READ or at once, and push.

use sterna_rdma::Rank;

use super::{Base, Entry, ExchangeKind, Flag};
use crate::ids::Epoch;

/// What a worker may do to see a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pull {
    /// Post a READ and bring the permit back with its result.
    Read(ReadPermit),
    /// Copy the view.
    Replica,
    /// The row is here: use it.
    Live,
    /// An exchange is open or goes first: run engine steps and ask again.
    Wait,
}

/// A right to post one READ. Every permit goes back to its entry by [`Entry::finish_read`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub struct ReadPermit {
    /// Whom to read from.
    pub owner: Rank,
    /// Its epoch.
    pub epoch: Epoch,
    pub(super) generation: u64,
    pub(super) held: bool,
}

/// What a READ found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReadFound {
    /// The row: key, epoch and state were right before and after.
    Row,
    /// The row has moved.
    Moved {
        /// Who owns it now, as far as known there.
        next: Rank,
        /// Since when.
        epoch: Epoch,
    },
    /// Neither; the home has to be asked.
    Nothing,
}

/// What becomes of a READ's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReadVerdict {
    /// It counts: add the accumulator, now, under the same lock.
    Accept,
    /// It does not; ask for a permit again, as a second try.
    Repeat,
    /// It does not, and the next permit will not come before an exchange has ended.
    Wait,
}

/// What a worker may do to change a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Push {
    /// Add to the accumulator; if that is full, wait until the open exchange has ended.
    Accumulate,
    /// The row is here: use it.
    Live,
}

impl Entry {
    /// How a push is done now.
    #[must_use]
    pub fn push(&self) -> Push {
        if self.base == Base::Main { Push::Live } else { Push::Accumulate }
    }

    /// Asks how to see the row. `second_try`: an earlier result did not count, so new exchanges are
    /// held back until this one is finished.
    pub fn pull(&mut self, second_try: bool) -> Pull {
        match self.base {
            Base::Main => Pull::Live,
            Base::Copy => Pull::Replica,
            Base::None => self.permit(second_try).map_or(Pull::Wait, Pull::Read),
        }
    }

    /// A permit for a READ that renews a replica's base; `None` if it must wait or is no replica.
    pub fn refresh(&mut self, second_try: bool) -> Option<ReadPermit> {
        if self.base == Base::Copy { self.permit(second_try) } else { None }
    }

    fn permit(&mut self, second_try: bool) -> Option<ReadPermit> {
        let barred = self.exchange.is_some_and(|open| {
            !self.flags.has(Flag::AcquireExcludesNot) || open.kind != ExchangeKind::Acquire
        });
        // A staged set is not in the row yet, and comes before what an earlier READ would show.
        if barred
            || self.flags.has(Flag::WantsSet)
            || (second_try && self.flags.has(Flag::HeldBack))
        {
            return None;
        }
        self.holds += u16::from(second_try);
        let generation = self.generation;
        Some(ReadPermit { owner: self.owner, epoch: self.epoch, generation, held: second_try })
    }

    /// Judges a READ's result. Under the same lock the caller then combines it with the accumulator
    /// (or writes it as the replica's new base), and lists the key if [`Entry::needs_engine`].
    pub fn finish_read(&mut self, permit: ReadPermit, found: ReadFound) -> ReadVerdict {
        if permit.held {
            assert!(self.holds > 0, "a permit is given back once");
            self.holds -= 1;
        }
        let current = permit.generation == self.generation || self.flags.has(Flag::AnyGeneration);
        match found {
            ReadFound::Row if current => return ReadVerdict::Accept,
            ReadFound::Moved { next, epoch } => {
                self.corrected(permit.owner, permit.epoch, next, epoch);
            }
            ReadFound::Row | ReadFound::Nothing => {}
        }
        if self.exchange.is_some()
            || self.flags.has(Flag::WantsSet)
            || self.flags.has(Flag::HeldBack)
        {
            ReadVerdict::Wait
        } else {
            ReadVerdict::Repeat
        }
    }

    /// What a READ found is the base now. Other READs that are under way do not count: where a device reads, nobody can tell
    /// which of them found the newer row.
    pub fn replaced(&mut self) {
        self.changed();
    }

    /// Gives a permit back whose READ was never posted, or failed.
    pub fn cancel_read(&mut self, permit: ReadPermit) {
        if permit.held {
            assert!(self.holds > 0, "a permit is given back once");
            self.holds -= 1;
        }
    }
}
