//! The exhaustive exploration of the protocol for one key and three nodes A, B, C (ranks 0, 1, 2).
//!
//! The nodes run the real [`sterna_protocol::Machine`] and [`sterna_protocol::Entry`] over a model
//! of the rows in which a value is a count per push, so that every pull can be checked for pushes that
//! are missing or counted twice. Links are queues; a READ is posted, fetches, and is done, in three steps
//! with no order to links; the owner may move, share or refuse at each Acquire. Every interleaving is
//! visited, breadth first, and checked.
//!
//! A node's step depends on nothing but the node and its input. So nodes, records and the contents of
//! links are numbered as they are met, a node's steps are computed once, and a state of the whole is nine
//! numbers in 24 bytes.

pub(crate) mod explore;
pub(crate) mod node;
pub(crate) mod rows;

use explore::{Report, explore};

/// What to explore. Indexes are ranks.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    pub(crate) start: Start,
    pub(crate) pushes: [u8; 3],
    pub(crate) acquires: [u8; 3],
    pub(crate) reads: [u8; 3],
    pub(crate) releases: [u8; 3],
    pub(crate) sets: [u8; 3],
    /// Move, share, refuse.
    pub(crate) decisions: [bool; 3],
    /// New owners tell B, and others may look there.
    pub(crate) home: bool,
    /// Acks are sent in a step of their own.
    pub(crate) delayed_acks: bool,
    /// A pull whose READ did not count is tried again, holding exchanges back.
    pub(crate) second_tries: bool,
    /// A link takes no record while one is under way.
    pub(crate) narrow: bool,
    /// How often a worker of each node stays at work on the row, under its writer bit.
    pub(crate) busy: [u8; 3],
    /// How often each node forgets where the row is.
    pub(crate) evictions: [u8; 3],
    /// Look for a cycle of steps that nobody asked for.
    pub(crate) cycles: bool,
    pub(crate) removed: Removed,
    pub(crate) states_max: usize,
}

/// Who has what at the start; B always owns the row at epoch 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    Plain,
    /// C believes that A owns it since epoch 1.
    StaleC,
    ReplicaA,
}

/// A rule that is switched off, to show that it is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Removed {
    Nothing,
    AcquireExcludes,
    Generation,
    ViewAtAck,
    ReleaseIsExchange,
}

const BASE: Setting = Setting {
    name: "",
    start: Start::Plain,
    pushes: [1, 0, 1],
    acquires: [1, 0, 1],
    reads: [1, 0, 0],
    releases: [1, 0, 0],
    sets: [0, 0, 0],
    decisions: [true, true, false],
    home: false,
    delayed_acks: false,
    second_tries: false,
    narrow: false,
    busy: [0, 0, 0],
    evictions: [0, 0, 0],
    cycles: false,
    removed: Removed::Nothing,
    states_max: 30_000_000,
};

/// The eight configurations of the design's model, then more with what it leaves out: sets, second
/// tries, links without room, rows that a worker is at work on.
pub(crate) fn settings() -> Vec<Setting> {
    let replica = Setting { start: Start::ReplicaA, ..BASE };
    let refusals = [true, true, true];
    vec![
        Setting {
            name: "small, with the search for cycles",
            reads: [1, 0, 1],
            decisions: refusals,
            cycles: true,
            ..BASE
        },
        Setting {
            name: "replica at A, release, acquire again",
            acquires: [2, 0, 1],
            pushes: [2, 0, 1],
            releases: [2, 0, 0],
            ..replica.clone()
        },
        Setting {
            name: "home told, all three acquire",
            home: true,
            acquires: [1, 1, 1],
            reads: [1, 0, 1],
            ..BASE
        },
        Setting {
            name: "two acquires and reads at A, release",
            acquires: [2, 0, 1],
            pushes: [2, 0, 1],
            reads: [2, 0, 0],
            ..BASE
        },
        Setting {
            name: "replica at A, two writers with two pushes",
            pushes: [2, 0, 2],
            reads: [2, 0, 0],
            ..replica.clone()
        },
        Setting {
            name: "replica at A, delayed acks, refusals",
            delayed_acks: true,
            pushes: [2, 0, 1],
            reads: [2, 0, 0],
            decisions: refusals,
            ..replica.clone()
        },
        Setting {
            name: "stale cache at C, B acquires, delayed acks",
            start: Start::StaleC,
            delayed_acks: true,
            acquires: [1, 1, 1],
            ..BASE
        },
        Setting {
            name: "B pushes too, reads at A and C",
            pushes: [1, 1, 1],
            reads: [1, 0, 1],
            ..BASE
        },
        Setting {
            name: "set at A, second tries",
            sets: [1, 0, 0],
            pushes: [2, 0, 1],
            second_tries: true,
            ..BASE
        },
        Setting {
            name: "set at A, a replica there",
            sets: [1, 0, 0],
            pushes: [2, 0, 1],
            acquires: [1, 0, 1],
            ..replica.clone()
        },
        Setting {
            name: "second tries at A and C",
            second_tries: true,
            reads: [1, 0, 1],
            acquires: [1, 0, 1],
            ..BASE
        },
        Setting {
            name: "narrow links, all three acquire",
            narrow: true,
            cycles: true,
            acquires: [1, 1, 1],
            decisions: refusals,
            ..BASE
        },
        Setting {
            name: "narrow links, home told, replica at A",
            narrow: true,
            home: true,
            ..replica.clone()
        },
        Setting {
            name: "workers at work at B and C",
            busy: [0, 1, 1],
            cycles: true,
            acquires: [1, 1, 1],
            ..BASE
        },
        Setting {
            name: "A and C forget where the row is",
            home: true,
            evictions: [1, 0, 1],
            acquires: [1, 1, 1],
            reads: [1, 0, 0],
            releases: [0, 0, 0],
            ..BASE
        },
        Setting {
            name: "set, narrow links, a worker at work at B",
            narrow: true,
            sets: [1, 0, 0],
            busy: [0, 1, 0],
            ..replica
        },
    ]
}

/// Longer ones, of several million states each.
pub(crate) fn large() -> Vec<Setting> {
    let replica = Setting { start: Start::ReplicaA, ..BASE };
    let refusals = [true, true, true];
    vec![
        Setting {
            name: "two acquires at A and C, one at B",
            acquires: [2, 1, 2],
            pushes: [1, 0, 1],
            ..BASE
        },
        Setting {
            name: "home told, delayed acks, all acquire",
            home: true,
            delayed_acks: true,
            acquires: [1, 1, 1],
            pushes: [1, 1, 1],
            reads: [0, 0, 1],
            decisions: refusals,
            ..BASE
        },
        Setting {
            name: "set, second tries, delayed acks, refusals",
            sets: [1, 0, 0],
            second_tries: true,
            delayed_acks: true,
            pushes: [2, 0, 1],
            decisions: refusals,
            ..replica.clone()
        },
        Setting {
            name: "set at A and second tries, narrow links, busy",
            sets: [1, 0, 0],
            second_tries: true,
            narrow: true,
            busy: [1, 1, 1],
            reads: [1, 0, 1],
            ..replica
        },
        Setting {
            name: "two writers, reads and releases on both sides",
            pushes: [2, 0, 2],
            reads: [1, 0, 1],
            releases: [1, 0, 1],
            ..BASE
        },
    ]
}

/// Each breaks without its rule.
pub(crate) fn broken() -> Vec<Setting> {
    vec![
        Setting { name: "without Acquire's exclusion", removed: Removed::AcquireExcludes, ..BASE },
        Setting {
            name: "without the generation",
            removed: Removed::Generation,
            releases: [0, 0, 0],
            ..BASE
        },
        Setting { name: "without the view at an Ack", removed: Removed::ViewAtAck, ..BASE },
        Setting {
            name: "without Release as an exchange",
            removed: Removed::ReleaseIsExchange,
            start: Start::ReplicaA,
            pushes: [1, 0, 0],
            reads: [0, 0, 0],
            ..BASE
        },
    ]
}

/// Explores each setting, prints a table, and returns the reports.
pub(crate) fn run(settings: &[Setting]) -> Vec<Report> {
    println!("{:<44} {:>9} {:>10} {:>6}  result", "configuration", "states", "steps", "depth");
    settings
        .iter()
        .map(|setting| {
            let report = explore(setting);
            println!("{report}");
            report
        })
        .collect()
}
