//! What the machine needs of the rows: one key at a time, updates and rows as bytes.
//!
//! The runtime implements this over the store, the enumeration over vectors of counts. Nothing here
//! waits: where a worker has the writer bit, the answer is [`Outcome::Busy`] and the machine comes back.

use std::fmt::Debug;

use sterna_rdma::Rank;

use crate::entry::Entry;
use crate::ids::{Epoch, RowId, SlotId};
use crate::record::{Grant, SetScope};
use crate::words::{DirectoryWord, MetaWord};

/// No room for another entry or block; all are pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no room for another foreign key: all entries are in use")]
pub struct Full;

/// What became of an operation on a row that should be Live here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done; the version went one on.
    Done,
    /// A worker has the writer bit: later.
    Busy,
    /// The row is not Live here.
    Elsewhere,
    /// The bytes are no update or row of this table. Nothing was changed.
    Malformed,
}

/// What became of an attempt to copy a row out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copied {
    /// The row has this many bytes and this meta word.
    Row(usize, MetaWord),
    /// A worker has the writer bit: later.
    Busy,
    /// The row is not Live here.
    Elsewhere,
    /// The row is longer than the room; nothing was changed.
    NoRoom,
    /// The node has no room to remember where the row went, or on its board.
    Full,
}

/// Rows, entries and the directory of a node.
pub trait Storage {
    /// Names an entry without a search, as long as the entry is pinned.
    type Place: Copy + Debug;
    /// An entry with its data, locked.
    type Foreign<'a>: Foreign<Place = Self::Place>
    where
        Self: 'a;

    /// A row that is Live here.
    type Owned<'a>: Owned
    where
        Self: 'a;

    /// The home of a row; `None` if this node has no such table or the key is out of range.
    fn home(&self, row: RowId) -> Option<Rank>;

    /// The entry of a row, if there is one.
    fn find(&mut self, row: RowId) -> Option<Self::Foreign<'_>>;

    /// The entry of a row; a new one is Remote, owned by whom the directory names if this is the home,
    /// else by the home since [`Epoch::FIRST`]. An entry that comes to name this node itself while the
    /// row is not here is out of date (this node has owned the row, and forgotten): the home is asked.
    ///
    /// # Errors
    /// [`Full`] if there is none and all others are pinned.
    fn entry(&mut self, row: RowId) -> Result<Self::Foreign<'_>, Full>;

    /// The entry at a place; `None` if the table it belongs to is gone.
    fn at(&mut self, place: Self::Place) -> Option<Self::Foreign<'_>>;

    /// Takes the next entry off the list of those that are dirty for an owner and clears its mark.
    fn next_dirty(&mut self, owner: Rank) -> Option<Self::Foreign<'_>>;

    /// Starts loading what leads to this row, and to its entry.
    fn prefetch_way(&self, row: RowId) {
        let _ = row;
    }

    /// Starts loading this row and its entry; what leads there is at hand.
    fn prefetch(&self, row: RowId) {
        let _ = row;
    }

    // Rows that are Live here.

    /// Epoch and version of a row that is Live here, and its slot.
    fn live(&mut self, row: RowId) -> Option<(MetaWord, SlotId)>;

    /// A row that is Live here, to be given away or shared.
    fn owned(&mut self, row: RowId) -> Option<Self::Owned<'_>>;

    /// Applies an update to a row that is Live here.
    fn apply(&mut self, row: RowId, update: &[u8]) -> Outcome;

    /// Replaces a row that is Live here.
    fn set(&mut self, row: RowId, values: &[u8], scope: SetScope) -> Outcome;

    /// Copies a consistent row (values and state) that is Live here.
    fn copy_row(&mut self, row: RowId, out: &mut [u8]) -> Copied;

    /// All changes of rows so far are on the board from here on.
    fn tell_board(&mut self) {}

    /// Nobody else has a replica of the row any more.
    fn unshare(&mut self, row: RowId) {
        let _ = row;
    }

    /// Whether workers of this node have an intent on the row.
    fn wanted(&self, row: RowId) -> bool {
        let _ = row;
        false
    }

    // The directory of the keys whose home this is.

    /// A row's directory word; `None` if this is not its home.
    fn directory(&self, row: RowId) -> Option<DirectoryWord>;

    /// Replaces a row's directory word. The machine has checked that it is newer.
    fn set_directory(&mut self, row: RowId, word: DirectoryWord);
}

/// A row that is Live here, with its entry locked if it has one: found once for all that is done with it.
pub trait Owned {
    /// Its epoch and version when it was found.
    fn meta(&self) -> MetaWord;

    /// Its slot.
    fn slot(&self) -> SlotId;

    /// Whether workers of this node have an intent on it.
    fn wanted(&self) -> bool {
        false
    }

    /// Whether it came here so short a time ago that it should stay.
    fn fresh(&self, now_ns: u64) -> bool {
        let _ = now_ns;
        false
    }

    /// Gives it a place on the board; `None` if that has no room.
    fn enter_board(&mut self) -> Option<u32> {
        Some(0)
    }

    /// As [`Storage::copy_row`], and from here on its changes are told on the board.
    fn share_row(&mut self, out: &mut [u8]) -> Copied;

    /// Copies it, marks its slot Moved to `next` and makes its entry Remote by [`Entry::moved_away`]: it
    /// belongs to `next` since `epoch`.
    fn move_row(&mut self, next: Rank, epoch: Epoch, out: &mut [u8]) -> Copied;
}

/// What an intent says of the accesses to come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Intent {
    /// How many, 255 for that many or more, 0 if unknown.
    pub uses: u8,
    /// Over how many rounds, 255 for that many or more.
    pub span: u8,
    /// Whether some of them are pushes.
    pub writes: bool,
    /// Whether the main copy is wanted, and nothing else will do.
    pub force: bool,
}

/// A foreign key's entry and data under the entry's lock. What a worker sees is the *view*: base, then
/// open flush, then accumulator.
pub trait Foreign {
    /// As [`Storage::Place`].
    type Place;

    /// Whose it is.
    fn row(&self) -> RowId;

    /// Where it is.
    fn place(&self) -> Self::Place;

    /// The control.
    fn control(&mut self) -> &mut Entry;

    /// Lists the entry as dirty for an owner, unless it is listed.
    fn mark_dirty(&mut self, owner: Rank);

    /// Whether the accumulator holds anything.
    fn has_updates(&self) -> bool;

    /// Moves the accumulator, which may be empty, to the open flush and writes it to `out` as an
    /// update. Returns its length; `None`, with nothing changed, if `out` is too short.
    fn begin_flush(&mut self, out: &mut [u8]) -> Option<usize>;

    /// The open flush is in the main copy. The view stays as it is: a replica's base takes the flush.
    fn drop_flush(&mut self);

    /// The open flush was not applied: it goes back in front of the accumulator.
    fn restore_flush(&mut self);

    /// What the staged set replaces.
    fn set_scope(&self) -> SetScope;

    /// Writes the staged set to `out`. Returns its length; `None` if `out` is too short.
    fn write_set(&mut self, out: &mut [u8]) -> Option<usize>;

    /// The staged set is in the main copy.
    fn drop_set(&mut self);

    /// Keeps a slot free for the row that an Acquire asks for; the same slot if asked again. `None` at
    /// the memory cap: then nothing is acquired.
    fn reserve(&mut self) -> Option<SlotId>;

    /// Gives the reserved slot back, unless a copy of the row is in it.
    fn unreserve(&mut self);

    /// An Acquire was refused: it may be repeated after so many uses.
    fn refused(&mut self, uses: u16) {
        let _ = uses;
    }

    /// What the intent behind an Acquire says.
    fn intent(&self) -> Intent {
        Intent::default()
    }

    /// Epoch and version of a copy that is still here and may be granted without its bytes.
    fn held(&self) -> Option<(Epoch, u64)>;

    /// Makes a granted row the base of a replica (without a row: the copy that is held), published with
    /// the accumulator added (K4). `false` if the bytes are no row of this table.
    fn install_replica(&mut self, grant: &Grant<'_>) -> bool;

    /// Makes a granted row Live in the reserved slot, or the home slot of its key (without a row: from
    /// the copy that is held), published after a staged set has replaced it and the accumulator has been added (K4);
    /// both are then gone. Returns the slot, `None` if the bytes are no row of this table.
    fn install_live(&mut self, grant: &Grant<'_>) -> Option<SlotId>;
}
