//! The order of operations on one key: is there one that explains what every worker saw?
//!
//! A history is what workers did with one key, with the times of each call and return. [`Order::check`] searches
//! for moments, one within each operation, at which the operations could have happened one after the other:
//! linearizability (Herlihy and Wing, TOPLAS 1990), by the search of Wing and Gong (JPDC 1993) with the memory of
//! visited states of Lowe (CCPE 2017). Per key that is enough: linearizability is local. Each update adds a power of two of its
//! own, so that a value says which updates are in it, a state is a set, and a visited state is two words.
//!
//! A node lets its workers see its own updates before the main copy has them, as a processor lets a core see its own
//! stores before the memory has them. [`Order::Forwarding`] allows for that, and for nothing else; with one worker a
//! node and updates that are waited for it is the same as [`Order::Linearizable`].

use std::collections::HashSet;

use super::{Violation, violated};

/// Updates of one history: bits that an f32 holds exactly.
pub const UPDATES_MAX: usize = 24;

/// Operations of one history: a state of the search has a bit for each.
pub const OPERATIONS_MAX: usize = 128;

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// An update that adds this bit; it may be in the main copy from its call on, and is there at
    /// its end.
    Add(u32),
    /// The values are set to nothing.
    Clear,
    /// A pull that saw the updates of this set.
    Pull(u32),
}

/// One operation of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Who.
    pub worker: usize,
    /// The node of that worker.
    pub node: usize,
    /// What.
    pub action: Action,
    /// When it was called. All times of a history differ.
    pub called: u64,
    /// When the call returned.
    pub returned: u64,
    /// When it was known to be in the main copy; of a pull, when it returned.
    pub ended: u64,
}

/// What the order of operations has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Each operation happens at one moment between its call and its end.
    Linearizable,
    /// The same for updates; a pull shows the main copy at one moment between its call and its return, with those
    /// of its own node's updates that are not there yet: all that its worker made before, any that
    /// were called before it returned.
    Forwarding,
    /// Each worker's pulls hold its earlier updates, none that was not called, and never less than before.
    Session,
}

impl Order {
    /// Whether a key's history can be explained.
    ///
    /// # Errors
    /// If not.
    ///
    /// # Panics
    /// If it has more than [`OPERATIONS_MAX`] operations.
    pub fn check(self, what: &str, history: &[Operation]) -> Result<(), Violation> {
        assert!(history.len() <= OPERATIONS_MAX, "{} operations", history.len());
        match self {
            Self::Session => session(what, history),
            _ => {
                let mut search = Search { order: self, history, failed: HashSet::new() };
                if search.explains(0, 0) {
                    return Ok(());
                }
                violated(
                    "order",
                    format_args!("no order of {what} explains {self:?}:\n{}", told(history)),
                )
            }
        }
    }
}

/// The operations in the order of their calls, one in a line.
#[must_use]
pub fn told(history: &[Operation]) -> String {
    let mut history = history.to_vec();
    history.sort_unstable_by_key(|operation| operation.called);
    let line = |it: &Operation| {
        let Operation { worker, node, called, returned, ended, .. } = it;
        let action = match it.action {
            Action::Add(bit) => format!("adds {bit:#x}"),
            Action::Clear => "sets to nothing".to_owned(),
            Action::Pull(saw) => format!("sees {saw:#x}"),
        };
        format!("  worker {worker} of node {node} {action} at {called}..{returned}..{ended}\n")
    };
    history.iter().map(line).collect()
}

/// The search: operations are put in order one by one; `done` has a bit for each.
struct Search<'h> {
    order: Order,
    history: &'h [Operation],
    /// From here no order was found.
    failed: HashSet<(u128, u32)>,
}

impl Search<'_> {
    fn explains(&mut self, done: u128, main: u32) -> bool {
        if done.count_ones() as usize == self.history.len() {
            return true;
        }
        if self.failed.contains(&(done, main)) {
            return false;
        }
        // An operation can be next if no other that is left had to be before it.
        let left = |index: usize| done >> index & 1 == 0;
        let open = (0..self.history.len()).filter(|&index| left(index));
        let first_end = open.clone().map(|index| self.history[index].ended).min().unwrap_or(0);
        let next: Vec<usize> = open.filter(|&it| self.history[it].called <= first_end).collect();
        for index in next {
            let operation = &self.history[index];
            let after = match operation.action {
                Action::Add(bit) => Some(main | bit),
                Action::Clear => Some(0),
                Action::Pull(saw) => self.shows(operation, saw, main).then_some(main),
            };
            if let Some(after) = after
                && self.explains(done | 1 << index, after)
            {
                return true;
            }
        }
        self.failed.insert((done, main));
        false
    }

    /// Whether a pull may see this while the main copy has that.
    fn shows(&self, pull: &Operation, saw: u32, main: u32) -> bool {
        if self.order == Order::Linearizable {
            return saw == main;
        }
        let (mut must, mut may) = (main, main);
        for add in self.history {
            if let Action::Add(bit) = add.action
                && add.node == pull.node
            {
                if add.worker == pull.worker && add.returned < pull.called {
                    must |= bit;
                }
                if add.called < pull.returned {
                    may |= bit;
                }
            }
        }
        must & !saw == 0 && saw & !may == 0
    }
}

fn session(what: &str, history: &[Operation]) -> Result<(), Violation> {
    let mut pulls: Vec<&Operation> =
        history.iter().filter(|it| matches!(it.action, Action::Pull(_))).collect();
    pulls.sort_unstable_by_key(|pull| pull.called);
    let mut seen: Vec<(usize, u32)> = Vec::new();
    for pull in pulls {
        let Action::Pull(saw) = pull.action else { continue };
        let bits = |wanted: &dyn Fn(&Operation) -> bool| {
            history.iter().filter(|it| wanted(it)).fold(0, |bits, it| match it.action {
                Action::Add(bit) => bits | bit,
                _ => bits,
            })
        };
        let own = bits(&|it| it.worker == pull.worker && it.returned < pull.called);
        let made = bits(&|it| it.called < pull.returned);
        let before = seen.iter().find(|(worker, _)| *worker == pull.worker).map_or(0, |it| it.1);
        let why = if saw & !made != 0 {
            "updates that were not made"
        } else if own & !saw != 0 {
            "not all of its own updates"
        } else if before & !saw != 0 {
            "less than before"
        } else {
            seen.retain(|(worker, _)| *worker != pull.worker);
            seen.push((pull.worker, saw));
            continue;
        };
        let (worker, told) = (pull.worker, told(history));
        return violated("order", format_args!("worker {worker} sees {why} of {what}:\n{told}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(worker: usize, action: Action, called: u64, ended: u64) -> Operation {
        Operation { worker, node: worker / 2, action, called, returned: ended, ended }
    }

    fn holds(order: Order, history: &[Operation]) -> bool {
        order.check("a row", history).is_ok()
    }

    #[test]
    fn operations_that_overlap_may_have_either_order() {
        use Action::{Add, Pull};
        let mut history = vec![
            operation(0, Add(1), 0, 10),
            operation(2, Pull(1), 1, 2),
            operation(4, Pull(1), 3, 4),
        ];
        assert!(holds(Order::Linearizable, &history));
        history[1].action = Pull(0);
        assert!(holds(Order::Linearizable, &history));
        history[1].action = Pull(1);
        history[2].action = Pull(0);
        assert!(!holds(Order::Linearizable, &history), "the update is seen, then no more");
    }

    #[test]
    fn an_update_that_has_ended_is_seen_by_all() {
        use Action::{Add, Pull};
        let history = [operation(0, Add(1), 0, 1), operation(2, Pull(0), 2, 3)];
        assert!(!holds(Order::Linearizable, &history));
        assert!(!holds(Order::Forwarding, &history));
        assert!(holds(Order::Session, &history), "a replica may be older");
    }

    #[test]
    fn a_value_that_nothing_explains_is_noticed() {
        use Action::{Add, Clear, Pull};
        let invented = [operation(0, Add(1), 0, 1), operation(0, Pull(3), 2, 3)];
        let lost = [operation(0, Add(1), 0, 1), operation(0, Pull(0), 2, 3)];
        for order in [Order::Linearizable, Order::Forwarding, Order::Session] {
            assert!(!holds(order, &invented) && !holds(order, &lost), "{order:?}");
        }
        let mut cleared =
            [operation(0, Add(1), 0, 1), operation(2, Clear, 2, 3), operation(0, Pull(0), 4, 5)];
        assert!(holds(Order::Linearizable, &cleared));
        cleared[2].action = Pull(1);
        assert!(!holds(Order::Linearizable, &cleared));
    }

    #[test]
    fn a_node_sees_its_own_updates_first_and_nobody_elses() {
        use Action::{Add, Pull};
        // Workers 0 and 1 are of one node, 2 and 3 of another; nobody waits for updates.
        let history = [
            Operation { ended: 100, ..operation(0, Add(1), 0, 1) },
            Operation { ended: 101, ..operation(2, Add(2), 2, 3) },
            operation(1, Pull(1), 4, 5),
            operation(3, Pull(2), 6, 7),
        ];
        assert!(!holds(Order::Linearizable, &history));
        assert!(holds(Order::Forwarding, &history));
        let mut crossed = history;
        (crossed[2].action, crossed[3].action) = (Pull(2), Pull(1));
        crossed[2].returned = 5;
        assert!(!holds(Order::Forwarding, &crossed), "both are in the main copy, and neither is");
    }

    #[test]
    fn a_session_never_goes_back() {
        use Action::{Add, Pull};
        let mut history =
            [operation(0, Add(1), 0, 1), operation(2, Pull(1), 2, 3), operation(2, Pull(0), 4, 5)];
        assert!(!holds(Order::Session, &history));
        history[2].worker = 3;
        assert!(holds(Order::Session, &history));
    }
}
