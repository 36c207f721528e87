//! The yes-or-no parts of an entry in one word: there are many entries, and each passes from thread to thread.

use crate::rules::Rules;

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Flag {
    WantsAcquire = 1,
    WantsRelease = 1 << 1,
    WantsSet = 1 << 2,
    /// The intent behind the open Acquire has ended.
    Unwanted = 1 << 3,
    /// Requests of others for this key wait here.
    Parked = 1 << 4,
    /// An exchange had to let a second try go first.
    HeldBack = 1 << 5,
    /// Something has changed since the entry was made.
    Touched = 1 << 6,
    /// Not [`Rules::acquire_excludes`].
    AcquireExcludesNot = 1 << 7,
    /// Not [`Rules::generation`].
    AnyGeneration = 1 << 8,
    /// Not [`Rules::release_is_exchange`].
    ReleaseIsNoExchange = 1 << 9,
}

/// All of them; at first none holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Flags(u16);

impl Flags {
    #[inline]
    pub(super) fn has(self, flag: Flag) -> bool {
        self.0 & flag as u16 != 0
    }

    #[inline]
    pub(super) fn set(&mut self, flag: Flag) {
        self.0 |= flag as u16;
    }

    #[inline]
    pub(super) fn clear(&mut self, flag: Flag) {
        self.0 &= !(flag as u16);
    }

    #[inline]
    pub(super) fn put(&mut self, flag: Flag, holds: bool) {
        if holds { self.set(flag) } else { self.clear(flag) }
    }

    pub(super) fn put_rules(&mut self, rules: Rules) {
        self.put(Flag::AcquireExcludesNot, !rules.acquire_excludes);
        self.put(Flag::AnyGeneration, !rules.generation);
        self.put(Flag::ReleaseIsNoExchange, !rules.release_is_exchange);
    }
}
