//! What threads saw of rows that move, or are replicated, over the real providers: is there an order of operations that explains it?

#[allow(dead_code, unreachable_pub, clippy::pedantic, reason = "shared with other tests")]
mod cluster;
#[allow(dead_code, unreachable_pub, clippy::pedantic, reason = "shared with other tests")]
#[path = "simulation/dice.rs"]
mod dice;
#[allow(dead_code, unreachable_pub, clippy::pedantic, reason = "shared with other tests")]
#[path = "simulation/past.rs"]
mod past;

use cluster::{job_with, on_each_provider, workers};
use dice::Dice;
use past::{Deed, Past, promised};
use sterna::{Act, Knobs, NodeConfig, Policy, TableSpec};
use sterna_protocol::invariants::history::Order;

const KEYS: u64 = 4;
const ROUNDS: u64 = 6;
const DEEDS: usize = 30;

/// Lets the workers of a job do things to few keys, some of them with intents, and has what they saw explained.
fn tell(policy: Policy, size: usize, threads: usize, waits: bool) {
    let order = promised(policy, waits, threads);
    on_each_provider(|choice| {
        let mut knobs = Knobs::default();
        knobs.act = Act::Immediate;
        knobs.residency_us = 0;
        let settings = move |config| NodeConfig { policy, knobs, ..config };
        let pasts: Vec<Past> = (0..ROUNDS).map(|_| Past::new(KEYS)).collect();
        job_with(size, threads, choice, settings, |node| {
            let tables: Vec<_> = (0..ROUNDS)
                .map(|round| node.create_table(TableSpec::new(format!("t{round}"), KEYS, 1)))
                .collect::<sterna::Result<_>>()
                .expect("tables");
            let here = node.rank().index();
            workers(&node, |mut worker| {
                for (past, table) in pasts.iter().zip(&tables) {
                    let mut dice = Dice::new(worker.global_index() as u64 ^ 0xB00C);
                    worker.barrier().expect("all come");
                    for _ in 0..DEEDS {
                        let key = dice.next() % KEYS;
                        let clock = worker.clock().0;
                        match dice.below(12) {
                            0 => worker.advance_clock().expect("all live"),
                            1 => drop(worker.localize(table, &[key]).expect("a wish")),
                            2 => worker.intent(table, &[key], clock..clock + 2).expect("one"),
                            _ => {}
                        }
                        let deed = match dice.below(8) {
                            0 if order == Order::Linearizable => Deed::Clear,
                            0 => Deed::Snapshot,
                            1..=4 => Deed::Pull,
                            _ if waits => Deed::AddAndWait,
                            _ => Deed::Add,
                        };
                        past.act(&mut worker, here, table, key, deed).expect("all live");
                    }
                    worker.barrier().expect("all come");
                }
            });
            node.shutdown().expect("all end");
        });
        for past in &pasts {
            past.check(order).unwrap_or_else(|found| panic!("{policy}: {found}"));
        }
    });
}

#[test]
fn updates_that_are_waited_for_are_linearizable_wherever_rows_move() {
    for policy in [Policy::Classic, Policy::Relocation, Policy::Mixed] {
        tell(policy, 3, 1, true);
    }
}

#[test]
fn workers_of_a_node_see_its_own_updates_first_and_all_others_in_one_order() {
    for policy in [Policy::Classic, Policy::Relocation] {
        tell(policy, 2, 3, true);
    }
}

#[test]
fn a_worker_never_misses_its_own_updates_nor_goes_back_under_any_policy() {
    for policy in Policy::ALL {
        tell(policy, 3, 2, false);
    }
}
