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

use sterna_rdma::Rank;

use crate::ids::Epoch;
use crate::rules::Rules;

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
    generation: u64,
    held: bool,
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

/// The control of a key that a node uses but does not own. See the module's text.
#[derive(Clone, Debug)]
pub struct Entry {
    generation: u64,
    exchange: Option<Exchange>,
    owner: Rank,
    epoch: Epoch,
    base: Base,
    wants_acquire: bool,
    wants_release: bool,
    wants_set: bool,
    /// The intent behind the open Acquire has ended.
    unwanted: bool,
    /// Requests of others for this key wait here.
    parked: bool,
    /// An exchange had to let a second try go first.
    held_back: bool,
    /// Second tries under way.
    holds: u16,
    rules: Rules,
}

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
            wants_acquire: false,
            wants_release: false,
            wants_set: false,
            unwanted: false,
            parked: false,
            held_back: false,
            holds: 0,
            rules: Rules::ALL,
        }
    }

    /// Switches rules off, to show that they are needed.
    #[doc(hidden)]
    #[must_use]
    pub fn with_rules(mut self, rules: Rules) -> Self {
        self.rules = rules;
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
            || self.parked
            || self.wants()
    }

    fn open(&self, kind: ExchangeKind) -> bool {
        self.exchange.is_some_and(|exchange| exchange.kind == kind)
    }

    fn wants(&self) -> bool {
        self.wants_acquire || self.wants_release || self.wants_set
    }

    fn changed(&mut self) {
        self.generation += 1;
    }

    /// Whether the engine has something to do for this key now; the caller then lists it for its owner.
    #[must_use]
    pub fn needs_engine(&self, has_updates: bool) -> bool {
        self.base != Base::Main
            && self.exchange.is_none()
            && self.holds == 0
            && (has_updates || self.wants())
    }

    // What workers ask.

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
        let barred = self
            .exchange
            .is_some_and(|open| self.rules.acquire_excludes || open.kind != ExchangeKind::Acquire);
        // A staged set is not in the row yet, and comes before what an earlier READ would show.
        if barred || self.wants_set || (second_try && self.held_back) {
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
        let current = permit.generation == self.generation || !self.rules.generation;
        match found {
            ReadFound::Row if current => return ReadVerdict::Accept,
            ReadFound::Moved { next, epoch } => {
                self.corrected(permit.owner, permit.epoch, next, epoch);
            }
            ReadFound::Row | ReadFound::Nothing => {}
        }
        if self.exchange.is_some() || self.wants_set || self.held_back {
            ReadVerdict::Wait
        } else {
            ReadVerdict::Repeat
        }
    }

    /// Gives a permit back whose READ was never posted, or failed.
    pub fn cancel_read(&mut self, permit: ReadPermit) {
        if permit.held {
            assert!(self.holds > 0, "a permit is given back once");
            self.holds -= 1;
        }
    }

    /// Intent began: a base is wanted (or, of a replica, the main copy). The caller lists the key for its
    /// owner.
    pub fn want_acquire(&mut self) {
        if self.open(ExchangeKind::Acquire) {
            self.unwanted = false;
        } else if self.base != Base::Main {
            self.wants_acquire = true;
        }
    }

    /// An Acquire that is wanted cannot be sent, for want of room.
    pub fn forget_acquire(&mut self) {
        self.wants_acquire = false;
        // It may have been all that second tries had to let go first.
        self.held_back = false;
    }

    /// Intent ended. A replica's base must not be read from here on (the caller drops or keeps it); the
    /// owner is told. An Acquire that was not sent is forgotten; a share that comes now is given back at
    /// once. `true` if the key is now to be listed.
    pub fn want_release(&mut self) -> bool {
        self.forget_acquire();
        self.unwanted = self.open(ExchangeKind::Acquire);
        if self.base != Base::Copy {
            return false;
        }
        self.base = Base::None;
        self.wants_release = true;
        self.changed();
        true
    }

    /// New values have been staged and the accumulator has been dropped. The key is Remote, and not
    /// readable, until the answer (K5).
    pub fn want_set(&mut self) {
        assert!(self.base != Base::Main, "an own row is set in place");
        self.base = Base::None;
        self.wants_set = true;
        self.changed();
    }

    /// Whether new values are staged or on their way.
    #[must_use]
    pub fn setting(&self) -> bool {
        self.wants_set
    }

    // What the engine does.

    /// The exchange that may be opened now, if any. Remembers that it had to wait for a READ.
    pub fn next_exchange(&mut self, has_updates: bool) -> Option<ExchangeKind> {
        if self.base == Base::Main || self.exchange.is_some() || !(has_updates || self.wants()) {
            return None;
        }
        if self.holds > 0 {
            self.held_back = true;
            return None;
        }
        // A Set tells the owner of the end of a replica, too. A Release goes before what would make
        // its sender a holder again.
        Some(if self.wants_set {
            ExchangeKind::Set
        } else if self.wants_acquire && !self.rules.release_is_exchange {
            ExchangeKind::Acquire
        } else if self.wants_release {
            ExchangeKind::Release
        } else if self.wants_acquire {
            ExchangeKind::Acquire
        } else {
            ExchangeKind::Flush
        })
    }

    /// Whether an exchange waits for the end of a second try.
    #[must_use]
    pub fn held_back(&self) -> bool {
        self.held_back && self.holds > 0
    }

    /// Opens an exchange with the owner.
    pub fn begin(&mut self, kind: ExchangeKind, number: u32) {
        assert!(self.exchange.is_none(), "K1: one exchange at a time");
        let (peer, epoch) = (self.owner, self.epoch);
        self.exchange = Some(Exchange { kind, peer, number, epoch });
        self.held_back = false;
        if kind == ExchangeKind::Acquire {
            self.wants_acquire = false;
        }
        if kind != ExchangeKind::Acquire || self.rules.acquire_excludes {
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
            Release => self.wants_release = false,
            Set => (self.wants_set, self.wants_release) = (false, false),
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
        self.unwanted = false;
        self.corrected(asked.peer, asked.epoch, next, epoch);
        true
    }

    /// A share is granted: the node becomes a holder. `Some(true)` if the row can be used.
    pub fn shared(&mut self, number: u32, owner: Rank, epoch: Epoch) -> Option<bool> {
        self.end(number, &[ExchangeKind::Acquire])?;
        self.learn(owner, epoch);
        self.changed();
        // Values staged meanwhile come after the row; the Set will end this node's share.
        let usable = !self.wants_set && !self.unwanted;
        self.wants_release |= self.unwanted;
        self.unwanted = false;
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
        (self.wants_set, self.wants_release, self.wants_acquire) = (false, false, false);
        (self.unwanted, self.held_back) = (false, false);
        self.changed();
        true
    }

    /// The main copy has been given to `next`.
    pub fn moved_away(&mut self, next: Rank, epoch: Epoch) {
        self.base = Base::None;
        (self.owner, self.epoch) = (next, epoch);
        self.changed();
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

    /// The peer of the open exchange is lost: nobody will answer.
    pub fn abandon(&mut self) -> Option<ExchangeKind> {
        let kind = self.exchange.take()?.kind;
        self.changed();
        Some(kind)
    }

    /// Notes whether requests of others for this key wait here.
    pub fn set_parked(&mut self, parked: bool) {
        self.parked = parked;
    }

    /// Whether requests of others for this key wait here.
    pub fn parked(&self) -> bool {
        self.parked
    }

    /// All that decides what the entry does next, with the generation only as "would this permit
    /// count": what an exhaustive exploration tells states apart by.
    #[doc(hidden)]
    pub fn fingerprint(&self, permit: Option<ReadPermit>) -> [u8; 12] {
        let flags = [
            self.wants_acquire,
            self.wants_release,
            self.wants_set,
            self.unwanted,
            self.parked,
            self.held_back,
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

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: Rank = Rank(1);

    fn entry() -> Entry {
        Entry::new(OWNER, Epoch::FIRST, 7)
    }

    fn read(entry: &mut Entry, second_try: bool) -> ReadPermit {
        match entry.pull(second_try) {
            Pull::Read(permit) => permit,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_read_that_a_flush_overtook_does_not_count() {
        let mut entry = entry();
        let permit = read(&mut entry, false);
        assert_eq!(entry.next_exchange(true), Some(ExchangeKind::Flush));
        entry.begin(ExchangeKind::Flush, 1);
        assert_eq!(entry.pull(false), Pull::Wait);
        assert_eq!(entry.acked(1), Some(ExchangeKind::Flush));
        assert_eq!(entry.finish_read(permit, ReadFound::Row), ReadVerdict::Repeat);
        let permit = read(&mut entry, false);
        assert_eq!(entry.finish_read(permit, ReadFound::Row), ReadVerdict::Accept);
    }

    #[test]
    fn a_second_try_holds_the_flush_back_and_the_flush_goes_before_the_next_one() {
        let mut entry = entry();
        let permit = read(&mut entry, true);
        assert_eq!(entry.next_exchange(true), None);
        assert!(!entry.needs_engine(true), "listed again when the READ is done");
        assert_eq!(entry.pull(true), Pull::Wait, "no chain of second tries");
        assert_eq!(entry.finish_read(permit, ReadFound::Row), ReadVerdict::Accept);
        assert!(entry.needs_engine(true));
        assert_eq!(entry.pull(true), Pull::Wait);
        assert_eq!(entry.next_exchange(true), Some(ExchangeKind::Flush));
        entry.begin(ExchangeKind::Flush, 1);
        assert_eq!(entry.acked(1), Some(ExchangeKind::Flush));
        let _ = read(&mut entry, true);
    }

    #[test]
    fn an_intent_that_ends_before_its_room_was_found_bars_no_second_try() {
        let mut entry = entry();
        entry.want_acquire();
        let permit = read(&mut entry, true);
        assert_eq!(entry.next_exchange(false), None);
        entry.want_release();
        assert_eq!(entry.finish_read(permit, ReadFound::Nothing), ReadVerdict::Repeat);
        let _ = read(&mut entry, true);
    }

    #[test]
    fn a_share_that_nobody_wants_any_more_is_given_back() {
        let mut entry = entry();
        entry.want_acquire();
        entry.begin(ExchangeKind::Acquire, 3);
        assert_eq!(entry.state(), EntryState::Pending);
        assert!(!entry.want_release());
        assert_eq!(entry.shared(3, OWNER, Epoch::FIRST), Some(false));
        assert_eq!(entry.next_exchange(false), Some(ExchangeKind::Release));
    }

    #[test]
    fn only_the_answer_with_its_number_ends_an_exchange() {
        let mut entry = entry();
        entry.begin(ExchangeKind::Flush, 5);
        assert_eq!(entry.acked(4), None);
        assert_eq!(entry.nacked(6, Rank(2), Epoch::FIRST.next()), None);
        assert_eq!(entry.shared(5, OWNER, Epoch::FIRST), None);
        assert_eq!((entry.owner(), entry.exchange().is_some()), (OWNER, true));
        assert_eq!(entry.nacked(5, Rank(2), Epoch::FIRST.next()), Some(ExchangeKind::Flush));
        assert_eq!(entry.owner(), Rank(2));
    }

    #[test]
    fn older_news_of_an_owner_is_not_taken() {
        let mut entry = Entry::new(OWNER, Epoch::new(5), 0);
        let permit = read(&mut entry, false);
        let moved = ReadFound::Moved { next: Rank(2), epoch: Epoch::new(4) };
        assert_eq!(entry.finish_read(permit, moved), ReadVerdict::Repeat);
        assert_eq!((entry.owner(), entry.epoch()), (OWNER, Epoch::new(5)));
        assert!(entry.learn(Rank(2), Epoch::new(6)));
        assert!(!entry.learn(Rank(3), Epoch::new(6)));
    }
}
