//! What this node keeps for a key whose row is, or was, elsewhere: the protocol's entry and what belongs to it.

use sterna_protocol::entry::{Entry, EntryState};
use sterna_protocol::record::SetScope;
use sterna_protocol::{DirectoryWord, Epoch, Rank, SlotId};
use sterna_store::Control;

/// The control part of an entry of the store's table. Every access from afar and every move takes it from one thread's cache to
/// another's: what few keys have lies aside.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) control: Entry,
    /// What few keys have; nothing if this one has none of it.
    aside: Option<Box<Aside>>,
    /// Of a row that came here: when. Of one elsewhere: when its location was last heard of.
    since_ns: u64,
    /// In which slot of its owner the main copy was then, and since which epoch.
    told_slot: SlotId,
    told_epoch: Epoch,
    /// Exchanges that ended with an Ack; modulo 2^32.
    pub(crate) acked: u32,
    /// The slot of this node that waits for the row, or holds it or a copy.
    slot: SlotId,
    /// Intents of this node's workers that name the key now (of home keys the directory counts them).
    pub(crate) references: u32,
    /// Accesses from afar until an Acquire that was refused is repeated.
    pub(crate) patience: u16,
    /// Whether the next Acquire asks for the main copy and nothing else.
    pub(crate) force: bool,
    /// Not yet told whose the key is.
    fresh: bool,
}

const _: () = assert!(
    size_of::<Held>() == 72 && sterna_store::entry_bytes::<Held>() == 128,
    "an entry takes two lines"
);

#[derive(Debug, Default)]
struct Aside {
    copy: Option<CopyOf>,
    /// Values that the open or the next Set carries.
    staged: Option<Staged>,
}

/// Values to be set, and what they replace.
pub(crate) type Staged = (Vec<f32>, SetScope);

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
    /// When updates of this node were last acknowledged, or the copy was made.
    pub(crate) acked_ns: u64,
    /// Whether all that this node has done to the row since is in the copy, too. An unreadable copy is not stepped.
    pub(crate) whole: bool,
}

impl Held {
    /// Tells a new entry whose the key is, by what its home says; `word` is asked for new entries only.
    pub(crate) fn start(&mut self, word: impl FnOnce() -> DirectoryWord) {
        if self.fresh {
            let word = word();
            self.control = Entry::new(word.owner(), word.epoch(), self.control.generation());
            self.fresh = false;
        }
    }

    /// What the copy in the slot is a copy of, if there is one; of a replica, or unreadable since its intent ended.
    pub(crate) fn copy(&self) -> Option<&CopyOf> {
        self.aside.as_ref()?.copy.as_ref()
    }

    /// The same, to be changed.
    pub(crate) fn copy_mut(&mut self) -> Option<&mut CopyOf> {
        self.aside.as_mut()?.copy.as_mut()
    }

    /// There is a copy in the slot.
    pub(crate) fn set_copy(&mut self, copy: CopyOf) {
        self.aside.get_or_insert_default().copy = Some(copy);
    }

    /// There is no copy any more.
    pub(crate) fn take_copy(&mut self) -> Option<CopyOf> {
        let copy = self.aside.as_mut()?.copy.take();
        self.tidy();
        copy
    }

    /// Values that the open or the next Set carries.
    pub(crate) fn staged(&self) -> Option<&Staged> {
        self.aside.as_ref()?.staged.as_ref()
    }

    /// The next Set carries these values.
    pub(crate) fn stage(&mut self, staged: Staged) {
        self.aside.get_or_insert_default().staged = Some(staged);
    }

    /// They have been set.
    pub(crate) fn take_staged(&mut self) -> Option<Staged> {
        let staged = self.aside.as_mut()?.staged.take();
        self.tidy();
        staged
    }

    fn tidy(&mut self) {
        self.aside.take_if(|aside| aside.copy.is_none() && aside.staged.is_none());
    }

    /// The slot of this node that waits for the row, or holds it or a copy.
    pub(crate) fn slot(&self) -> Option<SlotId> {
        (self.slot != SlotId::UNDISCLOSED).then_some(self.slot)
    }

    /// The key has this slot, or none.
    pub(crate) fn set_slot(&mut self, slot: Option<SlotId>) {
        self.slot = slot.unwrap_or(SlotId::UNDISCLOSED);
    }

    /// In which slot of its owner the main copy was, when that was last heard of.
    pub(crate) fn location(&self) -> Option<Location> {
        let (epoch, slot, learned_ns) = (self.told_epoch, self.told_slot, self.since_ns);
        (slot != SlotId::UNDISCLOSED).then_some(Location { epoch, slot, learned_ns })
    }

    /// The main copy is there.
    pub(crate) fn set_location(&mut self, at: Location) {
        (self.told_epoch, self.told_slot, self.since_ns) = (at.epoch, at.slot, at.learned_ns);
    }

    /// The main copy has come here, or has left: its time, or 0 if nobody will ask, and where it was before is no news.
    pub(crate) fn moved(&mut self, now_ns: u64) {
        (self.told_slot, self.since_ns) = (SlotId::UNDISCLOSED, now_ns);
    }

    /// When the main copy came here, if it is here and away from its home.
    pub(crate) fn arrived_ns(&self) -> Option<u64> {
        (self.control.state() == EntryState::Live && self.since_ns > 0).then_some(self.since_ns)
    }

    /// The key is changed from afar: a copy that was kept falls behind.
    pub(crate) fn pass_copy(&mut self) {
        if let Some(copy) = self.copy_mut() {
            copy.whole = false;
        }
    }

    /// Somebody says where the main copy is. Counts if it is of the epoch that the entry knows, or newer.
    pub(crate) fn learn(&mut self, word: DirectoryWord, now_ns: u64) {
        self.control.learn(word.owner(), word.epoch());
        let known = (self.control.owner(), self.control.epoch());
        let away = self.control.state() != EntryState::Live;
        if away && known == (word.owner(), word.epoch()) && word.slot() != SlotId::UNDISCLOSED {
            let (epoch, slot) = (word.epoch(), word.slot());
            self.set_location(Location { epoch, slot, learned_ns: now_ns });
        }
    }
}

impl Control for Held {
    fn new(generation: u64) -> Self {
        Self {
            control: Entry::new(Rank(0), Epoch::FIRST, generation),
            aside: None,
            since_ns: 0,
            told_slot: SlotId::UNDISCLOSED,
            told_epoch: Epoch::FIRST,
            acked: 0,
            slot: SlotId::UNDISCLOSED,
            references: 0,
            patience: 0,
            force: false,
            fresh: true,
        }
    }

    fn generation(&self) -> u64 {
        self.control.generation()
    }

    fn pinned(&self) -> bool {
        self.control.pinned()
            || self.staged().is_some()
            || self.slot().is_some()
            || self.references > 0
            || self.patience > 0
    }
}
