//! Exchanges with the owner: which one may be opened, and what each answer changes.

use sterna_rdma::Rank;

use super::{Base, Entry, Flag};
use crate::ids::Epoch;

/// What an exchange asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExchangeKind {
    /// Updates to be applied.
    Flush,
    /// The end of an intent, with the last updates.
    Release,
    /// New values.
    Set,
    /// A replica or the main copy.
    Acquire,
}

/// A request that has not been answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Exchange {
    /// What it asks for.
    pub kind: ExchangeKind,
    /// Who was asked; another may answer an Acquire.
    pub peer: Rank,
    /// The number that the answer repeats.
    pub number: u32,
    /// The epoch with which it was asked.
    pub epoch: Epoch,
}

impl Entry {
    /// The exchange that may be opened now, if any. Remembers that it had to wait for a READ.
    pub fn next_exchange(&mut self, has_updates: bool) -> Option<ExchangeKind> {
        if self.base == Base::Main || self.exchange.is_some() || !(has_updates || self.wants()) {
            return None;
        }
        if self.holds > 0 {
            self.flags.set(Flag::HeldBack);
            return None;
        }
        // A Set tells the owner of the end of a replica, too. A Release goes before what would make
        // its sender a holder again.
        Some(if self.flags.has(Flag::WantsSet) {
            ExchangeKind::Set
        } else if self.flags.has(Flag::WantsAcquire) && self.flags.has(Flag::ReleaseIsNoExchange) {
            ExchangeKind::Acquire
        } else if self.flags.has(Flag::WantsRelease) {
            ExchangeKind::Release
        } else if self.flags.has(Flag::WantsAcquire) {
            ExchangeKind::Acquire
        } else {
            ExchangeKind::Flush
        })
    }

    /// Whether an exchange waits for the end of a second try.
    #[must_use]
    pub fn held_back(&self) -> bool {
        self.flags.has(Flag::HeldBack) && self.holds > 0
    }

    /// Opens an exchange with the owner.
    pub fn begin(&mut self, kind: ExchangeKind, number: u32) {
        assert!(self.exchange.is_none(), "K1: one exchange at a time");
        let (peer, epoch) = (self.owner, self.epoch);
        self.exchange = Some(Exchange { kind, peer, number, epoch });
        self.flags.clear(Flag::HeldBack);
        if kind == ExchangeKind::Acquire {
            self.flags.clear(Flag::WantsAcquire);
        }
        if kind != ExchangeKind::Acquire || !self.flags.has(Flag::AcquireExcludesNot) {
            self.changed();
        }
    }

    /// Ends the open exchange if it is the one with this number.
    fn end(&mut self, number: u32, kinds: &[ExchangeKind]) -> Option<Exchange> {
        self.exchange.take_if(|open| open.number == number && kinds.contains(&open.kind))
    }

    /// The owner has applied what was sent. `None` if nothing of that number was open.
    pub fn acked(&mut self, number: u32) -> Option<ExchangeKind> {
        use ExchangeKind::{Flush, Release, Set};
        let kind = self.end(number, &[Flush, Release, Set])?.kind;
        match kind {
            Release => self.flags.clear(Flag::WantsRelease),
            Set => {
                self.flags.clear(Flag::WantsSet);
                self.flags.clear(Flag::WantsRelease);
            }
            Flush | ExchangeKind::Acquire => {}
        }
        Some(kind)
    }

    /// The node asked does not own the row; what was sent is still to be done.
    pub fn nacked(&mut self, number: u32, next: Rank, epoch: Epoch) -> Option<ExchangeKind> {
        use ExchangeKind::{Flush, Release, Set};
        let asked = self.end(number, &[Flush, Release, Set])?;
        self.corrected(asked.peer, asked.epoch, next, epoch);
        Some(asked.kind)
    }

    /// An Acquire is refused.
    pub fn refused(&mut self, number: u32, next: Rank, epoch: Epoch) -> bool {
        let Some(asked) = self.end(number, &[ExchangeKind::Acquire]) else { return false };
        self.flags.clear(Flag::Unwanted);
        self.corrected(asked.peer, asked.epoch, next, epoch);
        true
    }

    /// A share is granted: the node becomes a holder. `Some(true)` if the row can be used.
    pub fn shared(&mut self, number: u32, owner: Rank, epoch: Epoch) -> Option<bool> {
        self.end(number, &[ExchangeKind::Acquire])?;
        self.learn(owner, epoch);
        self.changed();
        // Values staged meanwhile come after the row; the Set will end this node's share.
        let usable = !self.flags.has(Flag::WantsSet) && !self.flags.has(Flag::Unwanted);
        if self.flags.has(Flag::Unwanted) {
            self.flags.set(Flag::WantsRelease);
        }
        self.flags.clear(Flag::Unwanted);
        self.base = if usable { Base::Copy } else { Base::None };
        Some(usable)
    }

    /// The main copy is granted.
    pub fn moved_here(&mut self, number: u32, here: Rank, epoch: Epoch) -> bool {
        if self.end(number, &[ExchangeKind::Acquire]).is_none() {
            return false;
        }
        self.base = Base::Main;
        (self.owner, self.epoch) = (here, epoch);
        use Flag::{HeldBack, Unwanted, WantsAcquire, WantsRelease, WantsSet};
        for flag in [WantsSet, WantsRelease, WantsAcquire, Unwanted, HeldBack] {
            self.flags.clear(flag);
        }
        self.changed();
        true
    }

    /// The main copy has been given to `next`.
    pub fn moved_away(&mut self, next: Rank, epoch: Epoch) {
        self.base = Base::None;
        (self.owner, self.epoch) = (next, epoch);
        self.changed();
    }

    /// The row is here, at its home, where its slot says all there is to say: the entry may be forgotten.
    pub fn dismiss(&mut self) {
        self.base = Base::None;
        self.changed();
    }

    /// The peer of the open exchange is lost: nobody will answer.
    pub fn abandon(&mut self) -> Option<ExchangeKind> {
        let kind = self.exchange.take()?.kind;
        self.changed();
        Some(kind)
    }
}
