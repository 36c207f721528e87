//! What workers see of their own updates.

use std::collections::HashMap;

use super::{Violation, violated};
use crate::ids::RowId;

/// **I8** a worker's synchronous pull contains all its earlier pushes and never goes back, and **I10** it
/// counts its own pushes exactly once. Value `w` of each row counts the pushes of worker `w`.
#[derive(Clone, Debug)]
pub struct OwnWrites {
    workers: usize,
    /// Pushes of each worker to each row that have begun.
    pushed: HashMap<RowId, Vec<u32>>,
    /// What each worker has seen of each row.
    seen: HashMap<(usize, RowId), Vec<u32>>,
}

impl OwnWrites {
    /// For a job of so many workers.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self { workers, pushed: HashMap::new(), seen: HashMap::new() }
    }

    /// A worker begins to add one to its value of a row.
    ///
    /// # Panics
    /// If there is no such worker.
    pub fn pushes(&mut self, worker: usize, row: RowId) {
        let workers = self.workers;
        self.pushed.entry(row).or_insert_with(|| vec![0; workers])[worker] += 1;
    }

    /// Pushes of a worker to a row that have begun.
    #[must_use]
    pub fn pushes_of(&self, worker: usize, row: RowId) -> u32 {
        self.pushed.get(&row).map_or(0, |pushed| pushed[worker])
    }

    /// A worker has pulled a row, with no other operation of its own under way.
    ///
    /// # Errors
    /// If pushes are missing, counted twice, or no longer there.
    pub fn pulled(&mut self, worker: usize, row: RowId, value: &[f32]) -> Result<(), Violation> {
        let none = vec![0; self.workers];
        let pushed = self.pushed.get(&row).unwrap_or(&none);
        let Some(shown) = whole(value).filter(|shown| shown.len() == self.workers) else {
            return violated("I10", format_args!("worker {worker} pulls {value:?} of {row}"));
        };
        if shown[worker] != pushed[worker] {
            let (which, how) = if shown[worker] < pushed[worker] {
                ("I8", "misses some of")
            } else {
                ("I10", "counts more than")
            };
            return violated(
                which,
                format_args!(
                    "worker {worker} pulls {row} and {how} its own {} pushes: {shown:?}",
                    pushed[worker]
                ),
            );
        }
        if let Some(other) = (0..self.workers).find(|&other| shown[other] > pushed[other]) {
            return violated(
                "I10",
                format_args!(
                    "worker {worker} pulls {row} with {} pushes of worker {other}, which made {}",
                    shown[other], pushed[other]
                ),
            );
        }
        let seen = self.seen.entry((worker, row)).or_insert(none);
        if let Some(other) = (0..self.workers).find(|&other| shown[other] < seen[other]) {
            return violated(
                "I8",
                format_args!(
                    "worker {worker} pulls {row} with {} pushes of worker {other} after {}",
                    shown[other], seen[other]
                ),
            );
        }
        *seen = shown;
        Ok(())
    }
}

/// The values as counts, if they are counts.
fn whole(value: &[f32]) -> Option<Vec<u32>> {
    /// Above it f32 does not hold every whole number.
    const EXACT: f32 = 16_777_216.0;
    value
        .iter()
        .map(|&value| {
            let count = (0.0..=EXACT).contains(&value) && value.fract() == 0.0;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a whole number below 2^24"
            )]
            count.then_some(value as u32)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Key, TableId};

    const ROW: RowId = RowId { table: TableId(1), key: Key(2) };

    #[test]
    fn pulls_that_miss_repeat_or_take_back_pushes_are_noticed() {
        let mut writes = OwnWrites::new(2);
        writes.pushes(0, ROW);
        writes.pushes(1, ROW);
        let which = |pulled: Result<(), Violation>| pulled.unwrap_err().invariant;
        assert_eq!(which(writes.pulled(0, ROW, &[0.0, 1.0])), "I8");
        assert_eq!(which(writes.pulled(0, ROW, &[2.0, 1.0])), "I10");
        assert_eq!(which(writes.pulled(0, ROW, &[1.0, 2.0])), "I10");
        assert_eq!(which(writes.pulled(0, ROW, &[1.0, 0.5])), "I10");
        assert!(writes.pulled(0, ROW, &[1.0, 1.0]).is_ok());
        assert_eq!(which(writes.pulled(0, ROW, &[1.0, 0.0])), "I8");
    }
}
