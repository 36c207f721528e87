//! What the next keys of a record will touch is loaded while one is worked on, in two stages.

use crate::ids::RowId;
use crate::storage::Storage;

/// Keys whose rows are being loaded while one is worked on.
const NEAR: usize = 8;
/// Keys further on, of which what leads to their rows is being loaded.
const FAR: usize = 16;

/// The rows of a record, ahead of the one that is worked on.
pub(super) struct Lookahead {
    rows: Vec<RowId>,
    at: usize,
}

impl Lookahead {
    /// At the start of a record with these rows.
    pub(super) fn new<S: Storage>(rows: impl Iterator<Item = RowId>, store: &S) -> Self {
        // Items are of different lengths: they are looked through once, not once for each stage.
        let rows: Vec<RowId> = rows.collect();
        rows.iter().take(NEAR + FAR).for_each(|&row| store.prefetch_way(row));
        rows.iter().take(NEAR).for_each(|&row| store.prefetch(row));
        Self { rows, at: 0 }
    }

    /// One row further.
    pub(super) fn step<S: Storage>(&mut self, store: &S) {
        if let Some(&row) = self.rows.get(self.at + NEAR + FAR) {
            store.prefetch_way(row);
        }
        if let Some(&row) = self.rows.get(self.at + NEAR) {
            store.prefetch(row);
        }
        self.at += 1;
    }
}
