//! What this node keeps for a key whose row is, or was, elsewhere: the protocol's entry and what belongs to it.

use sterna_protocol::entry::Entry;
use sterna_protocol::record::SetScope;
use sterna_protocol::{DirectoryWord, Epoch, Rank, SlotId};
use sterna_store::Control;

/// The control part of an entry of the store's table.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) control: Entry,
    /// Values that the open or the next Set carries.
    pub(crate) staged: Option<(Vec<f32>, SetScope)>,
    /// Exchanges that ended with an Ack.
    pub(crate) acked: u64,
    /// When updates of a replica were last acknowledged.
    pub(crate) acked_ns: u64,
    /// In which slot of its owner the main copy was, when that was last heard of.
    pub(crate) location: Option<Location>,
    /// The slot of this node that waits for the row, or holds it or a copy.
    pub(crate) slot: Option<SlotId>,
    /// What the copy in the slot is a copy of, if there is one; of a replica, or unreadable since its intent ended.
    pub(crate) copy: Option<CopyOf>,
    /// Intents of this node's workers that name the key now (of home keys the directory counts them).
    pub(crate) references: u32,
    /// Whether the next Acquire asks for the main copy and nothing else.
    pub(crate) force: bool,
    /// Accesses from afar until an Acquire that was refused is repeated.
    pub(crate) patience: u16,
    /// When the main copy came here.
    pub(crate) arrived_ns: u64,
    /// The generation that the entry was made with.
    born: u64,
    /// Not yet told whose the key is.
    fresh: bool,
}

/// A slot at the node that owns a row since an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Location {
    pub(crate) epoch: Epoch,
    pub(crate) slot: SlotId,
    pub(crate) learned_ns: u64,
}

/// The main copy that a copy was made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CopyOf {
    pub(crate) epoch: Epoch,
    /// The main copy's version, counted on by the updates of this node that it has taken since.
    pub(crate) version: u64,
    /// The newest version of the main copy of which anything may be in this copy: a READ may have overtaken an update.
    pub(crate) seen: u64,
    /// The row's place on the owner's board.
    pub(crate) board: u32,
    /// Whether all that this node has done to the row since is in the copy, too. An unreadable copy is not stepped.
    pub(crate) whole: bool,
}

impl Held {
    /// Tells a new entry whose the key is, by what its home says; `word` is asked for new entries only.
    pub(crate) fn start(&mut self, word: impl FnOnce() -> DirectoryWord) {
        if self.fresh {
            let word = word();
            self.control = Entry::new(word.owner(), word.epoch(), self.born);
            self.fresh = false;
        }
    }

    /// Whether no exchange was ever opened: a READ that was posted before there was an entry counts.
    pub(crate) fn untouched(&self) -> bool {
        self.control.generation() == self.born && self.control.exchange().is_none()
    }

    /// The key is changed from afar: a copy that was kept falls behind.
    pub(crate) fn pass_copy(&mut self) {
        if let Some(copy) = &mut self.copy {
            copy.whole = false;
        }
    }

    /// Somebody says where the main copy is. Counts if it is of the epoch that the entry knows, or newer.
    pub(crate) fn learn(&mut self, word: DirectoryWord, now_ns: u64) {
        self.control.learn(word.owner(), word.epoch());
        let known = (self.control.owner(), self.control.epoch());
        if known == (word.owner(), word.epoch()) && word.slot() != SlotId::UNDISCLOSED {
            let (epoch, slot) = (word.epoch(), word.slot());
            self.location = Some(Location { epoch, slot, learned_ns: now_ns });
        }
    }
}

impl Control for Held {
    fn new(generation: u64) -> Self {
        Self {
            control: Entry::new(Rank(0), Epoch::FIRST, generation),
            staged: None,
            acked: 0,
            acked_ns: 0,
            location: None,
            slot: None,
            copy: None,
            references: 0,
            force: false,
            patience: 0,
            arrived_ns: 0,
            born: generation,
            fresh: true,
        }
    }

    fn generation(&self) -> u64 {
        self.control.generation()
    }

    fn pinned(&self) -> bool {
        self.control.pinned()
            || self.staged.is_some()
            || self.slot.is_some()
            || self.references > 0
            || self.patience > 0
    }
}
