//! Sums of updates: none is lost, none is applied twice.

use std::collections::HashMap;

use sterna_rdma::Rank;

use super::{Violation, violated};
use crate::ids::RowId;

/// **I2** conservation: initial value + sum of updates = final value.
#[derive(Clone, Debug, Default)]
pub struct Conservation {
    rows: HashMap<RowId, Vec<f64>>,
}

impl Conservation {
    /// A row has this value, at the start or because it was set with nobody else writing.
    pub fn has(&mut self, row: RowId, value: &[f32]) {
        self.rows.insert(row, value.iter().copied().map(f64::from).collect());
    }

    /// A worker adds to a row; one that was never mentioned was zero.
    pub fn added(&mut self, row: RowId, delta: &[f32]) {
        let sums = self.rows.entry(row).or_insert_with(|| vec![0.0; delta.len()]);
        for (sum, &delta) in sums.iter_mut().zip(delta) {
            *sum += f64::from(delta);
        }
    }

    /// The value of a row after all updates have been acked.
    ///
    /// # Errors
    /// If it is not the sum.
    pub fn is(&self, row: RowId, value: &[f32]) -> Result<(), Violation> {
        let Some(sums) = self.rows.get(&row) else { return Ok(()) };
        let same = sums.len() == value.len()
            && sums.iter().zip(value).all(|(&sum, &value)| sum == f64::from(value));
        if same {
            return Ok(());
        }
        violated("I2", format_args!("{row} is {value:?} where the sum of its updates is {sums:?}"))
    }

    /// The rows that were mentioned.
    pub fn rows(&self) -> impl Iterator<Item = RowId> + '_ {
        self.rows.keys().copied()
    }
}

/// **I5** each update is applied exactly once: what is acked was applied, nothing is applied twice.
#[derive(Clone, Debug, Default)]
pub struct ExactlyOnce {
    applied: HashMap<(Rank, u32, RowId), Applied>,
}

#[derive(Clone, Copy, Debug)]
struct Applied {
    by: Rank,
    acked: bool,
}

impl ExactlyOnce {
    /// `by` applies what `source` sent for a row in its request of this number.
    ///
    /// # Errors
    /// If it was applied before.
    pub fn applied(
        &mut self,
        source: Rank,
        number: u32,
        row: RowId,
        by: Rank,
    ) -> Result<(), Violation> {
        let first = Applied { by, acked: false };
        match self.applied.insert((source, number, row), first) {
            None => Ok(()),
            Some(Applied { by: before, .. }) => violated(
                "I5",
                format_args!("update {number} of {source} to {row}: by {before}, again by {by}"),
            ),
        }
    }

    /// `source` learns that it was applied.
    ///
    /// # Errors
    /// If it was not, or if this is the second ack.
    pub fn acked(&mut self, source: Rank, number: u32, row: RowId) -> Result<(), Violation> {
        match self.applied.get_mut(&(source, number, row)) {
            Some(applied) if !applied.acked => {
                applied.acked = true;
                Ok(())
            }
            found => {
                let how = if found.is_some() { "twice" } else { "without being applied" };
                violated("I5", format_args!("update {number} of {source} to {row} is acked {how}"))
            }
        }
    }

    /// The run is over and everybody lives: all that was applied has been acked.
    ///
    /// # Errors
    /// If not.
    pub fn end(&self) -> Result<(), Violation> {
        match self.applied.iter().find(|(_, applied)| !applied.acked) {
            None => Ok(()),
            Some(((source, number, row), _)) => {
                violated("I5", format_args!("update {number} of {source} to {row} was never acked"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Key, TableId};

    const ROW: RowId = RowId { table: TableId(1), key: Key(2) };

    #[test]
    fn a_lost_or_doubled_update_breaks_conservation() {
        let mut sums = Conservation::default();
        sums.has(ROW, &[1.0, 0.0]);
        sums.added(ROW, &[1.0, 2.0]);
        assert!(sums.is(ROW, &[2.0, 2.0]).is_ok());
        assert!(sums.is(ROW, &[1.0, 2.0]).is_err());
        assert!(sums.is(ROW, &[3.0, 2.0]).is_err());
    }

    #[test]
    fn an_update_applied_twice_or_acked_unapplied_is_noticed() {
        let mut once = ExactlyOnce::default();
        let (a, b) = (Rank(0), Rank(1));
        assert!(once.acked(a, 1, ROW).is_err());
        assert!(once.applied(a, 1, ROW, b).is_ok());
        assert!(once.end().is_err());
        assert!(once.acked(a, 1, ROW).is_ok());
        assert!(once.end().is_ok());
        assert!(once.acked(a, 1, ROW).is_err());
        assert!(once.applied(a, 1, ROW, b).is_err());
    }
}
