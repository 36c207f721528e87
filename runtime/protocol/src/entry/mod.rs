//! The control of a key that a node uses but does not own.
//!
//! A worker touches an entry under the entry's own lock: may I push, may I post a READ, does its result
//! count. The engine opens and ends exchanges under the same lock. The data (base, open flush,
//! accumulator) lies beside the entry in the store; [`crate::storage::Foreign`] moves it.
//!
//! | state | base | pull | push |
//! | --- | --- | --- | --- |
//! | Remote | none | READ + accumulator, while no exchange is open | accumulator |
//! | Pending (Remote, Acquire open) | coming | waits for the Grant | accumulator |
//! | Replica | a copy | base + open flush + accumulator, at once | accumulator |
//! | Live | the main copy, here | the row | the row |
//!
//! *K1*: at most one exchange is open. *K2*: a READ is posted only while none is; its result counts only
//! if the generation is still the same, which every opening and every change of state, owner or epoch
//! advances. A second try holds new exchanges back; an exchange that was held back goes before the next
//! second try.

mod exchange;
mod flags;
mod see;
#[cfg(test)]
mod tests;
mod want;

use sterna_rdma::Rank;

use crate::ids::Epoch;
use crate::rules::Rules;
pub use exchange::{Exchange, ExchangeKind};
use flags::{Flag, Flags};
pub use see::{Pull, Push, ReadFound, ReadPermit, ReadVerdict};

/// What a node has of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EntryState {
    /// No base.
    Remote,
    /// No base; an Acquire is open.
    Pending,
    /// A copy.
    Replica,
    /// The main copy: the key is no longer foreign, its row is in a slot of this node.
    Live,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Base {
    None,
    Copy,
    Main,
}

/// The control of a key that a node uses but does not own. See the module's text.
#[derive(Clone, Debug)]
pub struct Entry {
    generation: u64,
    exchange: Option<Exchange>,
    owner: Rank,
    epoch: Epoch,
    base: Base,
    flags: Flags,
    /// Second tries under way.
    holds: u16,
}

const _: () = assert!(size_of::<Entry>() == 32, "two entries to a line");

impl Entry {
    /// The entry of a key that `owner` owns since `epoch`, as far as known. A key that comes back gets
    /// a greater generation than any that it had.
    #[must_use]
    pub fn new(owner: Rank, epoch: Epoch, generation: u64) -> Self {
        Self {
            generation,
            exchange: None,
            owner,
            epoch,
            base: Base::None,
            flags: Flags::default(),
            holds: 0,
        }
    }

    /// Switches rules off, to show that they are needed.
    #[doc(hidden)]
    #[must_use]
    pub fn with_rules(mut self, rules: Rules) -> Self {
        self.flags.put_rules(rules);
        self
    }

    /// A key whose row is here.
    #[must_use]
    pub fn live(here: Rank, epoch: Epoch, generation: u64) -> Self {
        Self { base: Base::Main, ..Self::new(here, epoch, generation) }
    }

    /// A key of which there is a copy.
    #[must_use]
    pub fn replica(owner: Rank, epoch: Epoch, generation: u64) -> Self {
        Self { base: Base::Copy, ..Self::new(owner, epoch, generation) }
    }

    /// What the node has.
    #[must_use]
    pub fn state(&self) -> EntryState {
        match self.base {
            Base::None if self.open(ExchangeKind::Acquire) => EntryState::Pending,
            Base::None => EntryState::Remote,
            Base::Copy => EntryState::Replica,
            Base::Main => EntryState::Live,
        }
    }

    /// Who owns the row, as far as known.
    #[must_use]
    pub fn owner(&self) -> Rank {
        self.owner
    }

    /// Since which epoch.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The open exchange.
    #[must_use]
    pub fn exchange(&self) -> Option<Exchange> {
        self.exchange
    }

    /// Counts openings and changes; it only grows.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether more hangs on the entry than a location that can be looked up again.
    #[must_use]
    pub fn pinned(&self) -> bool {
        self.exchange.is_some()
            || self.base != Base::None
            || self.holds > 0
            || self.parked()
            || self.wants()
    }

    fn open(&self, kind: ExchangeKind) -> bool {
        self.exchange.is_some_and(|exchange| exchange.kind == kind)
    }

    /// Whether something is wanted of the owner besides that it takes updates.
    #[must_use]
    pub fn wants(&self) -> bool {
        self.flags.has(Flag::WantsAcquire)
            || self.flags.has(Flag::WantsRelease)
            || self.flags.has(Flag::WantsSet)
    }

    fn changed(&mut self) {
        self.generation += 1;
        self.flags.set(Flag::Touched);
    }

    /// Whether no exchange was ever opened and nothing has changed: a READ that was posted before there was an entry counts.
    #[must_use]
    pub fn untouched(&self) -> bool {
        !self.flags.has(Flag::Touched) && self.exchange.is_none()
    }

    /// Whether the engine has something to do for this key now; the caller then lists it for its owner.
    #[must_use]
    pub fn needs_engine(&self, has_updates: bool) -> bool {
        self.base != Base::Main
            && self.exchange.is_none()
            && self.holds == 0
            && (has_updates || self.wants())
    }

    /// Somebody says that `owner` owns the row since `epoch`: taken if it is newer. `true` if taken.
    pub fn learn(&mut self, owner: Rank, epoch: Epoch) -> bool {
        let newer = self.base != Base::Main && epoch.newer_than(self.epoch);
        if newer {
            (self.owner, self.epoch) = (owner, epoch);
            self.changed();
        }
        newer
    }

    /// The node that was asked as owner since `asked_epoch` says who it is. Older news is not taken: who
    /// was asked may be about to own the row, with the grant still on its way. Of the same age is the
    /// answer of a node that knows nothing; it names the home, which does.
    fn corrected(&mut self, asked: Rank, asked_epoch: Epoch, next: Rank, epoch: Epoch) {
        let led_there = (self.owner, self.epoch) == (asked, asked_epoch);
        if self.base != Base::Main && led_there && epoch == asked_epoch && next != asked {
            self.owner = next;
            self.changed();
        } else {
            self.learn(next, epoch);
        }
    }

    /// Notes whether requests of others for this key wait here.
    pub fn set_parked(&mut self, parked: bool) {
        self.flags.put(Flag::Parked, parked);
    }

    /// Whether requests of others for this key wait here.
    #[must_use]
    pub fn parked(&self) -> bool {
        self.flags.has(Flag::Parked)
    }

    /// All that decides what the entry does next, with the generation only as "would this permit
    /// count": what an exhaustive exploration tells states apart by.
    #[doc(hidden)]
    pub fn fingerprint(&self, permit: Option<ReadPermit>) -> [u8; 12] {
        let flags = [
            self.flags.has(Flag::WantsAcquire),
            self.flags.has(Flag::WantsRelease),
            self.flags.has(Flag::WantsSet),
            self.flags.has(Flag::Unwanted),
            self.flags.has(Flag::Parked),
            self.flags.has(Flag::HeldBack),
            permit.is_some_and(|permit| permit.generation == self.generation),
            permit.is_some_and(|permit| permit.held),
        ];
        let flags = flags.iter().fold(0_u8, |bits, &flag| bits << 1 | u8::from(flag));
        let mut out = [0; 12];
        out[0] = self.base as u8;
        out[1] = flags;
        out[2..4].copy_from_slice(&self.owner.0.to_le_bytes());
        out[4..7].copy_from_slice(&self.epoch.get().to_le_bytes()[..3]);
        out[7] = self.holds.to_le_bytes()[0];
        if let Some(open) = self.exchange {
            out[8] = 1 + open.kind as u8;
            out[9] = open.peer.0.to_le_bytes()[0];
            out[10..12].copy_from_slice(&open.epoch.get().to_le_bytes()[..2]);
        }
        out
    }
}
