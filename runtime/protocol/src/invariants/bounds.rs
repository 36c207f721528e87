//! Bounds: of waits, of lists, and that an engine goes on consuming.

use std::collections::HashMap;

use sterna_rdma::Rank;

use super::{Violation, violated};
use crate::ids::RowId;

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
