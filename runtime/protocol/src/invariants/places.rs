//! What may be said of places: slots that READs name, and owners that Acquires are passed on to.

use std::collections::HashMap;

use sterna_rdma::Rank;

use super::{Violation, violated};
use crate::ids::{Epoch, Key, RowId};

/// **I3** a slot's key does not change from before its first disclosure until no READ can name it.
///
/// A READ under way names a slot. Providers that see the row's header before and after the rest may be
/// shown another key there, and find out; those that cannot must never be.
#[derive(Clone, Debug, Default)]
pub struct SlotKeys {
    seen: HashMap<u64, Key>,
}

impl SlotKeys {
    /// The READ of this number is under way, and its slot has this key now.
    ///
    /// # Errors
    /// If it had another key since the READ began.
    pub fn looks_at(&mut self, read: u64, key: Key) -> Result<(), Violation> {
        let first = *self.seen.entry(read).or_insert(key);
        if first == key {
            return Ok(());
        }
        violated(
            "I3",
            format_args!("the slot of key {} gets key {} while it is read", first.0, key.0),
        )
    }

    /// Only these READs are under way.
    pub fn under_way(&mut self, reads: &[u64]) {
        self.seen.retain(|read, _| reads.contains(read));
    }
}

/// **I4** an Acquire is passed on along strictly growing epochs.
#[derive(Clone, Debug, Default)]
pub struct Passing {
    last: HashMap<(Rank, u32, RowId), (Rank, Epoch)>,
}

impl Passing {
    /// `by` sends an Acquire of `requester` with this number to whom it takes for the owner since
    /// `epoch`.
    ///
    /// # Errors
    /// If it came to `by` with an epoch that is not older.
    pub fn passes(
        &mut self,
        requester: Rank,
        number: u32,
        row: RowId,
        by: Rank,
        epoch: Epoch,
    ) -> Result<(), Violation> {
        let last = self.last.insert((requester, number, row), (by, epoch));
        match last {
            None if by == requester => Ok(()),
            Some((_, before)) if epoch.newer_than(before) => Ok(()),
            None => violated("I4", format_args!("{by} passes on what {requester} has not asked")),
            Some((from, before)) => violated(
                "I4",
                format_args!(
                    "{by} passes the Acquire {number} of {requester} for {row} on at epoch {}, where \
                     {from} was at {}",
                    epoch.get(),
                    before.get()
                ),
            ),
        }
    }

    /// It has been answered.
    pub fn answered(&mut self, requester: Rank, number: u32, row: RowId) {
        self.last.remove(&(requester, number, row));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::TableId;

    const ROW: RowId = RowId { table: TableId(1), key: Key(2) };

    #[test]
    fn a_slot_that_gets_another_key_under_a_read_is_noticed() {
        let mut slots = SlotKeys::default();
        assert!(slots.looks_at(7, Key(1)).is_ok());
        assert!(slots.looks_at(7, Key(1)).is_ok());
        assert_eq!(slots.looks_at(7, Key(2)).unwrap_err().invariant, "I3");
        slots.under_way(&[8]);
        assert!(slots.looks_at(7, Key(2)).is_ok());
    }

    #[test]
    fn an_acquire_that_goes_in_circles_is_noticed() {
        let mut passing = Passing::default();
        let (a, b, c) = (Rank(0), Rank(1), Rank(2));
        assert!(passing.passes(a, 1, ROW, b, Epoch::new(1)).is_err());
        passing.answered(a, 1, ROW);
        assert!(passing.passes(a, 1, ROW, a, Epoch::new(1)).is_ok());
        assert!(passing.passes(a, 1, ROW, b, Epoch::new(3)).is_ok());
        assert_eq!(passing.passes(a, 1, ROW, c, Epoch::new(3)).unwrap_err().invariant, "I4");
        passing.answered(a, 1, ROW);
        assert!(passing.passes(a, 1, ROW, a, Epoch::new(2)).is_ok());
    }
}
