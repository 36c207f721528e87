//! The owner's side of a key: who holds replicas, and what an Acquire gets.

use std::collections::BTreeMap;

use sterna_rdma::Rank;

use crate::ids::RowId;
use crate::record::Acquire;

/// The nodes with replicas of the rows that are Live here; rows without any take no room.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct HolderLists {
    rows: BTreeMap<RowId, Vec<Rank>>,
}

impl HolderLists {
    /// The holders of a row, in ascending order.
    #[must_use]
    pub fn of(&self, row: RowId) -> &[Rank] {
        self.rows.get(&row).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn insert(&mut self, row: RowId, holder: Rank) {
        let list = self.rows.entry(row).or_default();
        if let Err(place) = list.binary_search(&holder) {
            list.insert(place, holder);
        }
    }

    pub(crate) fn remove(&mut self, row: RowId, holder: Rank) {
        let Some(list) = self.rows.get_mut(&row) else { return };
        list.retain(|&rank| rank != holder);
        if list.is_empty() {
            self.rows.remove(&row);
        }
    }

    /// Takes the list of a row that leaves.
    pub(crate) fn take(&mut self, row: RowId) -> Vec<Rank> {
        self.rows.remove(&row).unwrap_or_default()
    }

    pub(crate) fn forget(&mut self, holder: Rank) {
        self.rows.retain(|_, list| {
            list.retain(|&rank| rank != holder);
            !list.is_empty()
        });
    }
}

/// An Acquire that the owner decides on.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// The row.
    pub row: RowId,
    /// What was asked, and by whom.
    pub acquire: &'a Acquire,
    /// Who has replicas now.
    pub holders: &'a [Rank],
    /// Whether workers of the owner have an intent on the row, too.
    pub wanted_here: bool,
    /// Whether the row came so short a time ago that it should stay.
    pub fresh: bool,
}

impl Wish<'_> {
    /// Whether nobody but the requester has a replica.
    #[must_use]
    pub fn alone(&self) -> bool {
        self.holders.iter().all(|&holder| holder == self.acquire.requester)
    }
}

/// What an Acquire gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Decision {
    /// The main copy.
    Move,
    /// A replica.
    Share,
    /// Nothing; it may ask again after this many uses.
    Refuse {
        /// Accesses.
        uses: u16,
    },
    /// It is asked again before long; the Acquire waits.
    Later,
}

/// The rule by which an owner decides. The machine asks once for each Acquire that it can answer.
pub trait Policy {
    /// What this Acquire gets.
    fn decide(&mut self, wish: &Wish<'_>) -> Decision;

    /// Whether a row that only one other node wants is offered to it.
    fn offers(&self) -> bool {
        false
    }
}

impl<P: Policy + ?Sized> Policy for Box<P> {
    fn decide(&mut self, wish: &Wish<'_>) -> Decision {
        (**self).decide(wish)
    }

    fn offers(&self) -> bool {
        (**self).offers()
    }
}

/// Rows stay at their homes; nobody asks, and who does is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Classic;

impl Policy for Classic {
    fn decide(&mut self, _: &Wish<'_>) -> Decision {
        Decision::Refuse { uses: u16::MAX }
    }
}
