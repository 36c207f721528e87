//! One checker per invariant, for randomised runs: small observers that are told what happens, and say
//! what must not.
//!
//! They know nothing of the machines, so a fault there cannot hide itself here. Each gives a
//! [`Violation`] that names the invariant by its number; the run prints it beside its seed.
//!
//! Values are small whole numbers, so that sums in f32 are exact. [`OwnWrites`] wants rows with one
//! value per worker of the job, to which only that worker adds, one at a time: then each pull shows how
//! many pushes of every worker are in it.

use std::collections::HashMap;
use std::fmt;

use sterna_rdma::Rank;

use crate::ids::RowId;

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{invariant}: {what}")]
pub struct Violation {
    /// Its number.
    pub invariant: &'static str,
    /// What was seen.
    pub what: String,
}

fn violated(invariant: &'static str, what: impl fmt::Display) -> Result<(), Violation> {
    Err(Violation { invariant, what: what.to_string() })
}

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

/// **I6** what waits ends in bounded time: a Pending key, or any other wait that has a bound.
#[derive(Clone, Debug)]
pub struct BoundedWaits {
    limit_ns: u64,
    waits: HashMap<(Rank, RowId), u64>,
}

impl BoundedWaits {
    /// No wait may be longer than this.
    #[must_use]
    pub fn new(limit_ns: u64) -> Self {
        Self { limit_ns, waits: HashMap::new() }
    }

    /// A node begins to wait for a key; a wait under way goes on.
    pub fn begins(&mut self, rank: Rank, row: RowId, now_ns: u64) {
        self.waits.entry((rank, row)).or_insert(now_ns);
    }

    /// It has what it waited for, or gave up.
    ///
    /// # Errors
    /// If that took too long.
    pub fn ends(&mut self, rank: Rank, row: RowId, now_ns: u64) -> Result<(), Violation> {
        match self.waits.remove(&(rank, row)) {
            Some(since) => self.within(rank, row, since, now_ns),
            None => Ok(()),
        }
    }

    /// The node is lost: nobody waits there any more.
    pub fn lost(&mut self, rank: Rank) {
        self.waits.retain(|&(waiting, _), _| waiting != rank);
    }

    /// Looks at all waits.
    ///
    /// # Errors
    /// If one has lasted too long.
    pub fn check(&self, now_ns: u64) -> Result<(), Violation> {
        self.waits
            .iter()
            .try_for_each(|(&(rank, row), &since)| self.within(rank, row, since, now_ns))
    }

    fn within(&self, rank: Rank, row: RowId, since: u64, now_ns: u64) -> Result<(), Violation> {
        let waited = now_ns.saturating_sub(since);
        if waited <= self.limit_ns {
            return Ok(());
        }
        violated("I6", format_args!("{rank} has waited {waited} ns for {row}"))
    }
}

/// **I7** every queue, ring, buffer and list keeps to its limit.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    most: HashMap<&'static str, usize>,
}

impl Limits {
    /// Something holds `count` items and may hold `limit`.
    ///
    /// # Errors
    /// If it holds more.
    pub fn holds(
        &mut self,
        what: &'static str,
        count: usize,
        limit: usize,
    ) -> Result<(), Violation> {
        let most = self.most.entry(what).or_default();
        *most = count.max(*most);
        if count <= limit {
            return Ok(());
        }
        violated("I7", format_args!("{what}: {count} where {limit} is the limit"))
    }

    /// The most that each has held: a run that never came near a limit has not tested it.
    pub fn most(&self) -> impl Iterator<Item = (&'static str, usize)> + '_ {
        self.most.iter().map(|(&what, &most)| (what, most))
    }
}

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

/// **I11** consuming never waits for sending: an engine that has records to receive takes some in every
/// step, whatever its links are like.
#[derive(Clone, Debug, Default)]
pub struct Consuming {
    idle: HashMap<Rank, u32>,
}

impl Consuming {
    /// Steps in which a provider may have had other work.
    const PATIENCE: u32 = 8;

    /// An engine has made a step in which `arrived` records could be had and it took `taken`.
    ///
    /// # Errors
    /// If it has left records alone for several steps.
    pub fn step(&mut self, rank: Rank, arrived: usize, taken: usize) -> Result<(), Violation> {
        let idle = self.idle.entry(rank).or_default();
        *idle = if arrived > 0 && taken == 0 { *idle + 1 } else { 0 };
        if *idle <= Self::PATIENCE {
            return Ok(());
        }
        violated("I11", format_args!("{rank} left {arrived} records alone for {idle} steps"))
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

    #[test]
    fn a_wait_without_end_is_noticed() {
        let mut waits = BoundedWaits::new(10);
        waits.begins(Rank(0), ROW, 5);
        waits.begins(Rank(0), ROW, 9);
        assert!(waits.check(15).is_ok());
        assert!(waits.check(16).is_err());
        assert!(waits.ends(Rank(0), ROW, 16).is_err());
        assert!(waits.check(100).is_ok());
    }

    #[test]
    fn a_queue_beyond_its_limit_is_noticed() {
        let mut limits = Limits::default();
        assert!(limits.holds("answers", 64, 64).is_ok());
        assert_eq!(limits.holds("answers", 65, 64).unwrap_err().invariant, "I7");
        assert_eq!(limits.most().next(), Some(("answers", 65)));
    }

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

    #[test]
    fn an_engine_that_stops_consuming_is_noticed() {
        let mut consuming = Consuming::default();
        for _ in 0..Consuming::PATIENCE {
            assert!(consuming.step(Rank(3), 1, 0).is_ok());
        }
        assert!(consuming.step(Rank(3), 1, 1).is_ok());
        for _ in 0..Consuming::PATIENCE {
            assert!(consuming.step(Rank(3), 1, 0).is_ok());
        }
        assert!(consuming.step(Rank(3), 1, 0).is_err());
    }
}
