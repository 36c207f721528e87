//! What the next keys of a record will touch is loaded while one is worked on, in two stages.

use crate::ids::RowId;
use crate::storage::Storage;

/// Keys whose rows are being loaded while one is worked on.
const NEAR: usize = 4;
/// Keys further on, of which what leads to their rows is being loaded.
const FAR: usize = 8;

/// The rows of a record, ahead of the one that is worked on.
pub(super) struct Lookahead<I> {
    near: I,
    far: I,
}

impl<I: Iterator<Item = RowId> + Clone> Lookahead<I> {
    /// At the start of a record with these rows.
    pub(super) fn new<S: Storage>(rows: I, store: &S) -> Self {
        let mut lookahead = Self { near: rows.clone(), far: rows };
        lookahead.far.by_ref().take(NEAR + FAR).for_each(|row| store.prefetch_way(row));
        lookahead.near.by_ref().take(NEAR).for_each(|row| store.prefetch(row));
        lookahead
    }

    /// One row further.
    pub(super) fn step<S: Storage>(&mut self, store: &S) {
        if let Some(row) = self.far.next() {
            store.prefetch_way(row);
        }
        if let Some(row) = self.near.next() {
            store.prefetch(row);
        }
    }
}
