//! What is wanted of the owner: a base, the end of one, new values. It is noted here and sent when an
//! exchange can be opened.

use super::{Base, Entry, ExchangeKind, Flag};

impl Entry {
    /// Intent began: a base is wanted (or, of a replica, the main copy). The caller lists the key for its
    /// owner.
    pub fn want_acquire(&mut self) {
        if self.open(ExchangeKind::Acquire) {
            self.flags.clear(Flag::Unwanted);
        } else if self.base != Base::Main {
            self.flags.set(Flag::WantsAcquire);
        }
    }

    /// An Acquire that is wanted cannot be sent, for want of room.
    pub fn forget_acquire(&mut self) {
        self.flags.clear(Flag::WantsAcquire);
        // It may have been all that second tries had to let go first.
        self.flags.clear(Flag::HeldBack);
    }

    /// Intent ended. A replica's base must not be read from here on (the caller drops or keeps it); the
    /// owner is told. An Acquire that was not sent is forgotten; a share that comes now is given back at
    /// once. `true` if the key is now to be listed.
    pub fn want_release(&mut self) -> bool {
        self.forget_acquire();
        self.flags.put(Flag::Unwanted, self.open(ExchangeKind::Acquire));
        if self.base != Base::Copy {
            return false;
        }
        self.base = Base::None;
        self.flags.set(Flag::WantsRelease);
        self.changed();
        true
    }

    /// New values have been staged and the accumulator has been dropped. The key is Remote, and not
    /// readable, until the answer (K5).
    pub fn want_set(&mut self) {
        assert!(self.base != Base::Main, "an own row is set in place");
        self.base = Base::None;
        self.flags.set(Flag::WantsSet);
        self.changed();
    }

    /// Whether new values are staged or on their way.
    #[must_use]
    pub fn setting(&self) -> bool {
        self.flags.has(Flag::WantsSet)
    }
}
