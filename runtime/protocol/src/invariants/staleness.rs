//! How old a value may be under bounded staleness.

use std::collections::HashMap;

use super::{Violation, violated};
use crate::ids::{Clock, RowId};

/// **I9** under `ssp(s)`, a read at clock c contains every update of every worker made at clock
/// c - s - 1 or before.
///
/// Value `w` of each row counts the pushes of worker `w`, as for [`super::OwnWrites`]; the clocks of
/// workers on one node or on several are all the same to it.
#[derive(Clone, Debug)]
pub struct BoundedStaleness {
    bound: u64,
    clocks: Vec<u64>,
    /// Pushes to each row by each worker, and how many had been made when a clock ended.
    pushes: HashMap<RowId, Vec<Pushes>>,
}

#[derive(Clone, Debug, Default)]
struct Pushes {
    made: u32,
    /// The clock of a push, and how many there are up to it; growing.
    at: Vec<(u64, u32)>,
}

impl BoundedStaleness {
    /// For a job of so many workers and a bound of `s` clocks.
    #[must_use]
    pub fn new(workers: usize, s: u64) -> Self {
        Self { bound: s, clocks: vec![0; workers], pushes: HashMap::new() }
    }

    /// A worker's clock is this now.
    pub fn advances(&mut self, worker: usize, clock: Clock) {
        self.clocks[worker] = clock.0;
    }

    /// A worker adds one to its value of a row.
    pub fn pushes(&mut self, worker: usize, row: RowId) {
        let (workers, clock) = (self.clocks.len(), self.clocks[worker]);
        let of = self.pushes.entry(row).or_insert_with(|| vec![Pushes::default(); workers]);
        let pushes = &mut of[worker];
        pushes.made += 1;
        match pushes.at.last_mut() {
            Some(last) if last.0 == clock => last.1 = pushes.made,
            _ => pushes.at.push((clock, pushes.made)),
        }
    }

    /// A worker pulls a row.
    ///
    /// # Errors
    /// If an update is missing that is old enough.
    pub fn pulled(&self, worker: usize, row: RowId, value: &[f32]) -> Result<(), Violation> {
        let clock = self.clocks[worker];
        let Some(oldest) = clock.checked_sub(self.bound + 1) else { return Ok(()) };
        let Some(pushes) = self.pushes.get(&row) else { return Ok(()) };
        for (other, (pushes, &shown)) in pushes.iter().zip(value).enumerate() {
            let due = pushes.at.iter().rev().find(|&&(clock, _)| clock <= oldest);
            let due = due.map_or(0, |&(_, made)| made);
            if f64::from(shown) < f64::from(due) {
                return violated(
                    "I9",
                    format_args!(
                        "worker {worker} at clock {clock} pulls {row} with {shown} pushes of worker \
                         {other}, which had made {due} by the end of clock {oldest}"
                    ),
                );
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Key, TableId};

    const ROW: RowId = RowId { table: TableId(1), key: Key(2) };

    #[test]
    fn a_pull_that_misses_an_update_older_than_the_bound_is_noticed() {
        let mut stale = BoundedStaleness::new(2, 1);
        stale.pushes(0, ROW); // at clock 0
        stale.advances(0, Clock(1));
        stale.pushes(0, ROW); // at clock 1
        stale.advances(1, Clock(1));
        assert!(stale.pulled(1, ROW, &[0.0, 0.0]).is_ok());
        stale.advances(1, Clock(2));
        assert_eq!(stale.pulled(1, ROW, &[0.0, 0.0]).unwrap_err().invariant, "I9");
        assert!(stale.pulled(1, ROW, &[1.0, 0.0]).is_ok());
        stale.advances(1, Clock(3));
        assert!(stale.pulled(1, ROW, &[1.0, 0.0]).is_err());
        assert!(stale.pulled(1, ROW, &[2.0, 0.0]).is_ok());
    }

    #[test]
    fn a_bound_of_nothing_wants_all_of_the_clock_before() {
        let mut stale = BoundedStaleness::new(1, 0);
        stale.pushes(0, ROW);
        assert!(stale.pulled(0, ROW, &[0.0]).is_ok());
        stale.advances(0, Clock(1));
        assert!(stale.pulled(0, ROW, &[0.0]).is_err());
    }
}
