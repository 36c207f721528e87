//! What this node keeps for a key of another home: the protocol's entry, and values that are to be set.

use sterna_protocol::entry::Entry as Control;
use sterna_protocol::record::SetScope;
use sterna_protocol::{Epoch, Rank};
use sterna_store::Control as Known;

/// The control part of an entry of the store's table.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) control: Control,
    /// Values that the open or the next Set carries.
    pub(crate) staged: Option<(Vec<f32>, SetScope)>,
    /// Exchanges that ended with an Ack.
    pub(crate) acked: u64,
    /// The generation that the entry was made with.
    born: u64,
    /// Not yet told whose the key is.
    fresh: bool,
}

impl Held {
    /// Tells a new entry whose the key is.
    pub(crate) fn at_home(&mut self, home: Rank) {
        if self.fresh {
            self.control = Control::new(home, Epoch::FIRST, self.born);
            self.fresh = false;
        }
    }

    /// Whether no exchange was ever opened: a READ that was posted before there was an entry counts.
    pub(crate) fn untouched(&self) -> bool {
        self.control.generation() == self.born && self.control.exchange().is_none()
    }
}

impl Known for Held {
    fn new(generation: u64) -> Self {
        let control = Control::new(Rank(0), Epoch::FIRST, generation);
        Self { control, staged: None, acked: 0, born: generation, fresh: true }
    }

    fn generation(&self) -> u64 {
        self.control.generation()
    }

    fn pinned(&self) -> bool {
        self.control.pinned() || self.staged.is_some()
    }
}
