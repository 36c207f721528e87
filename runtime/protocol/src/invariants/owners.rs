//! Who has the main copy.

use std::collections::HashMap;

use sterna_rdma::Rank;

use super::{Violation, violated};
use crate::ids::{Epoch, RowId};

/// **I1** at most one Live slot per key; the directory names the owner, or a node from which pointers
/// lead to it.
///
/// Seen from the wire each epoch of a row has one owner: the home the first, then whoever the owner of
/// one epoch grants the next to. Seen from outside at any moment at most one node has the row Live, and
/// from the home's word pointers of growing epochs lead there, or to a node that a grant is on its
/// way to.
#[derive(Clone, Debug, Default)]
pub struct Owners {
    owners: HashMap<(RowId, u32), Rank>,
}

/// What one node holds of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// The epoch of the row's slot, if it is Live there.
    pub live: Option<Epoch>,
    /// Whom the node takes for the owner, and since when.
    pub points: Option<(Rank, Epoch)>,
    /// What the directory says, at the row's home.
    pub directory: Option<(Rank, Epoch)>,
}

impl Owners {
    /// A home has the row from the start.
    pub fn starts(&mut self, row: RowId, home: Rank) {
        self.owners.insert((row, Epoch::FIRST.get()), home);
    }

    /// `from` gives the main copy to `to`, who owns it since `epoch`.
    ///
    /// # Errors
    /// If it was not the owner's to give, or the epoch has an owner.
    pub fn granted(
        &mut self,
        row: RowId,
        from: Rank,
        to: Rank,
        epoch: Epoch,
    ) -> Result<(), Violation> {
        let before = Epoch::new(epoch.get().wrapping_sub(1));
        self.serves(row, from, before)?;
        match self.owners.insert((row, epoch.get()), to) {
            None => Ok(()),
            Some(other) => violated(
                "I1",
                format_args!(
                    "{from} grants {row} to {to} at epoch {}, which it got before, by {other}",
                    epoch.get()
                ),
            ),
        }
    }

    /// `rank` does at this epoch what only an owner does. Who does it at the first epoch is the home.
    ///
    /// # Errors
    /// If it did not own the row then.
    pub fn serves(&mut self, row: RowId, rank: Rank, epoch: Epoch) -> Result<(), Violation> {
        if epoch == Epoch::FIRST {
            self.owners.entry((row, epoch.get())).or_insert(rank);
        }
        match self.owners.get(&(row, epoch.get())) {
            Some(&owner) if owner == rank => Ok(()),
            owner => violated(
                "I1",
                format_args!(
                    "{rank} acts as owner of {row} at epoch {}, which is {}",
                    epoch.get(),
                    owner.map_or_else(|| "nobody's".to_owned(), |owner| format!("{owner}'s"))
                ),
            ),
        }
    }

    /// What all nodes (by rank) hold of a row at one moment, and its home.
    ///
    /// # Errors
    /// If two have it Live, one has it that never got it, or the home does not lead to it.
    pub fn found(&mut self, row: RowId, home: Rank, views: &[View]) -> Result<(), Violation> {
        let mut live = None;
        for (index, view) in views.iter().enumerate() {
            let Some(epoch) = view.live else { continue };
            let rank = Rank::from_index(index);
            if let Some(other) = live.replace(rank) {
                return violated("I1", format_args!("{row} is Live at {other} and at {rank}"));
            }
            self.serves(row, rank, epoch)?;
        }
        let Some((mut at, mut epoch)) = views[home.index()].directory else {
            return violated("I1", format_args!("{row} has no word in the directory of {home}"));
        };
        loop {
            let view = &views[at.index()];
            let owner = self.owners.get(&(row, epoch.get()));
            if owner.is_none() && live.is_none() {
                // The grant waits for its link.
                return Ok(());
            }
            if owner != Some(&at) {
                return violated(
                    "I1",
                    format_args!("{row} is said to be at {at} since epoch {}", epoch.get()),
                );
            }
            if view.live.is_some() {
                return Ok(());
            }
            match view.points {
                Some((next, since)) if since.newer_than(epoch) && next != at => {
                    (at, epoch) = (next, since);
                }
                // The grant is on its way: nobody else has the row meanwhile.
                _ => {
                    return live.map_or(Ok(()), |owner| {
                        violated(
                            "I1",
                            format_args!("pointers to {row} end at {at}, but {owner} has it"),
                        )
                    });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Key, TableId};

    const ROW: RowId = RowId { table: TableId(1), key: Key(2) };
    const HOME: Rank = Rank(0);

    fn at(epoch: u32) -> Epoch {
        Epoch::new(epoch)
    }

    fn moved_once() -> Owners {
        let mut owners = Owners::default();
        owners.starts(ROW, HOME);
        owners.granted(ROW, HOME, Rank(1), at(2)).expect("the home's to give");
        owners
    }

    #[test]
    fn only_an_owner_gives_a_row_away_and_only_once() {
        let mut owners = moved_once();
        assert!(owners.granted(ROW, HOME, Rank(2), at(2)).is_err());
        let mut owners = moved_once();
        assert!(owners.granted(ROW, HOME, Rank(2), at(3)).is_err());
        assert!(owners.granted(ROW, Rank(1), Rank(2), at(3)).is_ok());
        assert!(owners.serves(ROW, Rank(2), at(3)).is_ok());
        assert!(owners.serves(ROW, Rank(1), at(3)).is_err());
    }

    #[test]
    fn two_live_slots_are_noticed() {
        let mut owners = moved_once();
        let home = View { live: Some(at(1)), directory: Some((Rank(1), at(2))), ..View::default() };
        let other = View { live: Some(at(2)), ..View::default() };
        assert!(owners.found(ROW, HOME, &[home, other]).is_err());
        assert!(owners.found(ROW, HOME, &[View { live: None, ..home }, other]).is_ok());
    }

    #[test]
    fn a_home_that_does_not_lead_to_the_owner_is_noticed() {
        let mut owners = moved_once();
        owners.granted(ROW, Rank(1), Rank(2), at(3)).expect("its to give");
        let home = View { directory: Some((Rank(1), at(2))), ..View::default() };
        let leads = View { points: Some((Rank(2), at(3))), ..View::default() };
        let live = View { live: Some(at(3)), ..View::default() };
        assert!(owners.found(ROW, HOME, &[home, leads, live]).is_ok());
        // On its way.
        assert!(owners.found(ROW, HOME, &[home, leads, View::default()]).is_ok());
        let forgot = View { points: None, ..View::default() };
        assert!(owners.found(ROW, HOME, &[home, forgot, live]).is_err());
        let wrong = View { directory: Some((Rank(2), at(2))), ..View::default() };
        assert!(owners.found(ROW, HOME, &[wrong, leads, live]).is_err());
    }
}
