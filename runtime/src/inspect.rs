//! What a node holds, seen from outside: for the checkers of simulated jobs, which compare nodes at one moment.

use sterna_protocol::machine::{PARKED_MAX, REQUESTS_MAX};
use sterna_protocol::{Epoch, Key, Rank};
use sterna_store::{BOARD_ROWS, ForeignKey};

use crate::node::Node;
use crate::table::Table;

/// What a node has of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// The epoch of the main copy, if that is here.
    pub live: Option<Epoch>,
    /// Whom the node takes for the owner, and since when, if it keeps that in mind.
    pub points: Option<(Rank, Epoch)>,
    /// What the directory says, if this is the row's home.
    pub directory: Option<(Rank, Epoch)>,
    /// Whether an exchange about the row is open.
    pub open: bool,
    /// Whether updates of the row wait here.
    pub updates: bool,
}

/// Something that is limited: its name, how much there is and may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holding {
    /// What.
    pub what: &'static str,
    /// How much of it there is.
    pub count: usize,
    /// How much of it there may be.
    pub limit: usize,
}

impl Node {
    /// What this node has of a row of a table of its own.
    #[must_use]
    pub fn inspect(&self, table: &Table, key: u64) -> Inspection {
        let (rows, key) = (&table.0.rows, Key(key));
        let live = rows.find_surely(key).and_then(|(_, slot)| {
            let (found, meta) = slot.header();
            (found == key && meta.state().owns()).then(|| meta.epoch())
        });
        let word = rows.home_here(key).and_then(|slot| rows.directory().load(slot));
        let directory = word.map(|word| (word.owner(), word.epoch()));
        let id = ForeignKey { table: table.id(), key };
        let entry = self.state.remote.as_ref().and_then(|remote| remote.foreign.find(id));
        let mut found = Inspection { live, directory, ..Inspection::default() };
        if let Some(entry) = entry {
            let control = &entry.control.control;
            found.points = Some((control.owner(), control.epoch()));
            found.open = control.exchange().is_some();
            found.updates = entry.accumulator.is_some() || entry.flush.is_some();
        }
        found
    }

    /// Everything of this node that has a limit (I7); nothing while its engine is at work.
    #[must_use]
    pub fn holdings(&self) -> Vec<Holding> {
        let Some(remote) = &self.state.remote else { return Vec::new() };
        let Some((parked, unanswered)) = remote.owed() else { return Vec::new() };
        let (pool, pool_max) = remote.pool();
        let counts = remote.foreign.counts();
        [
            ("parked requests", parked, PARKED_MAX),
            ("unanswered requests to a peer", unanswered, REQUESTS_MAX),
            ("foreign entries", number(counts.entries), number(counts.limit)),
            ("bytes of updates", remote.budget.used_bytes(), remote.budget.limit_bytes()),
            ("bytes of foreign rows", pool, pool_max),
            ("rows on the board", remote.board.rows(), BOARD_ROWS),
        ]
        .map(|(what, count, limit)| Holding { what, count, limit })
        .to_vec()
    }
}

fn number(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}
