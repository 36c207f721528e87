//! The test ideas of the published systems (Lapse, `NuPS`, `AdaPM`), rebuilt: each under every policy and over the real providers, on
//! two to four nodes of one to four workers. What is set among pushes is in `policies.rs`, samples are in `sampling.rs`, and all of
//! it over the simulated network in `simulated.rs`.

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "small numbers"
)]

#[allow(dead_code, unreachable_pub, clippy::pedantic, reason = "shared with other tests")]
mod cluster;
#[allow(dead_code, unreachable_pub, clippy::pedantic, reason = "shared with other tests")]
#[path = "simulation/dice.rs"]
mod dice;

use std::time::{Duration, Instant};

use cluster::{job_with, on_each_provider, pull, rounds, workers};
use dice::Dice;
use sterna::{Act, Knobs, Node, NodeConfig, Policy, Rank, Table, TableSpec, Worker};

/// How long anything that other nodes bring about may take, on whatever machine.
const WAIT_MAX: Duration = Duration::from_secs(120);

/// Nodes and workers of each: a policy after the other gets the next.
const SHAPES: [(usize, usize); 4] = [(2, 4), (3, 1), (2, 2), (4, 1)];

fn under(policy: Policy) -> impl Fn(NodeConfig) -> NodeConfig + Sync {
    let mut knobs = Knobs::default();
    knobs.act = Act::Immediate;
    knobs.trial_keys = 0;
    move |config| NodeConfig { policy, knobs, ..config }
}

/// Runs a job under each policy over each provider.
fn everywhere(body: impl Fn(&Node) + Sync) {
    for (at, policy) in Policy::ALL.into_iter().enumerate() {
        let turn = std::cell::Cell::new(at);
        on_each_provider(|choice| {
            let (size, threads) = SHAPES[turn.replace(turn.get() + 1) % SHAPES.len()];
            job_with(size, threads, choice, under(policy), |node| {
                body(&node);
                node.shutdown().expect("all end");
            });
        });
    }
}

#[test]
fn a_hundred_thousand_additions_that_nobody_awaits_add_up_while_rows_are_read_at_random() {
    const KEYS: u64 = 300;
    const PER_CALL: usize = 100;
    everywhere(|node| {
        let policy = node.policy();
        let table = node.create_table(TableSpec::new("t", KEYS, 2).hot(0..9)).expect("a table");
        let workers_of_all = (node.size() * node.workers()) as u64;
        let calls = rounds(100_000) / PER_CALL as u64 / workers_of_all;
        workers(node, |mut worker| {
            // The second value says which row it is, and never changes.
            let me = worker.global_index() as u64;
            for key in (0..KEYS).filter(|key| key % workers_of_all == me) {
                worker.set(&table, &[key], &[0.0, key as f32]).expect("set");
            }
            worker.barrier().expect("all come");
            let mut dice = Dice::new(worker.global_index() as u64 + 1);
            let mut own = vec![0.0_f32; KEYS as usize];
            let draw = |dice: &mut Dice| dice.next() % KEYS * (dice.next() % KEYS) / KEYS;
            for call in 0..calls {
                let keys: Vec<u64> = (0..PER_CALL).map(|_| draw(&mut dice)).collect();
                let clock = worker.clock().0;
                let start = clock + dice.next() % 3;
                worker.intent(&table, &keys, start..start + dice.next() % 5).expect("one");
                drop(worker.add_async(&table, &keys, &[1.0, 0.0].repeat(PER_CALL)).expect("add"));
                keys.iter().for_each(|&key| own[key as usize] += 1.0);
                let read: Vec<u64> = (0..3).map(|_| draw(&mut dice)).collect();
                for (&key, value) in read.iter().zip(pull(&mut worker, &table, &read).chunks(2)) {
                    assert_eq!(value[1], key as f32, "{policy}: the row of another key");
                    assert!(value[0] >= own[key as usize], "{policy}: own additions are missing");
                }
                if call % 4 == 0 {
                    worker.advance_clock().expect("all live");
                }
            }
            worker.barrier().expect("all come");
            let all: Vec<u64> = (0..KEYS).collect();
            let total: f32 = pull(&mut worker, &table, &all).chunks(2).map(|row| row[0]).sum();
            assert_eq!(total, (calls * PER_CALL as u64 * workers_of_all) as f32, "{policy}");
            worker.barrier().expect("all come");
        });
    });
}

#[test]
fn what_is_added_and_taken_back_by_all_leaves_nothing() {
    everywhere(|node| {
        let table = node.create_table(TableSpec::new("t", 12, 1).hot(0..2)).expect("a table");
        workers(node, |mut worker| {
            let keys: Vec<u64> = (0..12).collect();
            worker.intent(&table, &keys, 0..u64::MAX).expect("an intent");
            for sign in [1.0, -1.0] {
                for _ in 0..rounds(60) {
                    worker.add(&table, &keys, &[sign; 12]).expect("add");
                    worker.advance_clock().expect("all live");
                }
            }
            worker.barrier().expect("all come");
            assert_eq!(pull(&mut worker, &table, &keys), [0.0; 12], "{}", node.policy());
            worker.barrier().expect("all come");
        });
    });
}

fn is_local(worker: &mut Worker, table: &Table, key: u64) -> bool {
    worker.pull_if_local(table, key, &mut vec![0.0; table.dim()]).expect("the key exists")
}

/// Waits until a row is at this node, or is not any more; fails if that takes too long.
fn await_local(worker: &mut Worker, table: &Table, key: u64, local: bool) {
    let deadline = Instant::now() + WAIT_MAX;
    while is_local(worker, table, key) != local {
        assert!(Instant::now() < deadline, "the row of {key} does not come or go");
        worker.flush().expect("all live");
    }
}

/// At how many nodes a row is local.
fn places(worker: &mut Worker, table: &Table, key: u64) -> u32 {
    let mut sum = [f64::from(u8::from(is_local(worker, table, key)))];
    worker.all_reduce_sum(&mut sum).expect("all come");
    sum[0] as u32
}

#[test]
fn rows_are_where_each_policy_wants_them() {
    // Where a row is after a wish of node 1, then of node 2 as well, then after both have ended.
    let wanted = |policy| match policy {
        Policy::Classic | Policy::Relocation | Policy::Mixed => [1, 1, 1],
        Policy::FullReplication => [3, 3, 3],
        Policy::Adaptive => [1, 2, 1],
        _ => [2, 3, 1],
    };
    for policy in Policy::ALL {
        on_each_provider(|choice| {
            job_with(3, 1, choice, under(policy), |node| {
                let table = node.create_table(TableSpec::new("t", 64, 4)).expect("a table");
                let key = (0..64).find(|&key| table.home(key) == Rank(0)).expect("one of 64");
                let (stays, moves) = (policy == Policy::Classic, wanted(policy)[0] == 1);
                workers(&node, |mut worker| {
                    if policy == Policy::FullReplication {
                        // Replicas that nobody has to wish for come by themselves, but not at once.
                        await_local(&mut worker, &table, key, true);
                    }
                    let end = worker.clock().0 + 1;
                    for wish in 1..3 {
                        if node.rank() == Rank(wish) {
                            worker.intent(&table, &[key], 0..end).expect("an intent");
                            await_local(&mut worker, &table, key, !stays);
                        }
                        worker.barrier().expect("all come");
                        let found = places(&mut worker, &table, key);
                        assert_eq!(
                            found,
                            wanted(policy)[usize::from(wish) - 1],
                            "{policy}, {wish}"
                        );
                        let home = is_local(&mut worker, &table, key);
                        if node.rank() == Rank(0) {
                            assert_eq!(home, stays || !moves, "{policy}: the home after {wish}");
                        }
                        worker.barrier().expect("all come");
                    }
                    worker.advance_clock().expect("all live");
                    let deadline = Instant::now() + WAIT_MAX;
                    while places(&mut worker, &table, key) != wanted(policy)[2] {
                        assert!(Instant::now() < deadline, "{policy} keeps replicas of nobody's");
                    }
                    worker.barrier().expect("all come");
                });
                node.shutdown().expect("all end");
            });
        });
    }
}

#[test]
fn intents_may_overlap_repeat_last_for_ever_and_lie_in_the_past() {
    on_each_provider(|choice| {
        job_with(2, 1, choice, under(Policy::Replication), |node| {
            let table = node.create_table(TableSpec::new("t", 64, 4)).expect("a table");
            let at_home = (0..64).filter(|&key| table.home(key) == Rank(0));
            let keys: Vec<u64> = at_home.take(4).collect();
            let [past, overlapped, forever, unused] = keys[..] else { panic!("four of 64") };
            workers(&node, |mut worker| {
                worker.barrier().expect("all come");
                if node.rank() == Rank(1) {
                    (0..3).for_each(|_| worker.advance_clock().expect("all live"));
                    let now = worker.clock().0;
                    // Over already, or never: ignored.
                    for clocks in [0..now, now..now, 0..0] {
                        worker.intent(&table, &[past], clocks).expect("no error");
                    }
                    // One that began before counts from now on.
                    worker.intent(&table, &[overlapped, overlapped], 0..now + 1).expect("one");
                    worker.intent(&table, &[overlapped], now..now + 3).expect("longer");
                    worker.intent(&table, &[overlapped], now..now + 2).expect("repeated");
                    worker.intent(&table, &[forever], now..u64::MAX).expect("one");
                    worker.intent(&table, &[unused], now..now + 1).expect("one");
                    for key in [overlapped, forever, unused] {
                        await_local(&mut worker, &table, key, true);
                    }
                    assert!(!is_local(&mut worker, &table, past), "nobody asked for it");
                    for _ in 0..2 {
                        worker.advance_clock().expect("all live");
                        assert!(is_local(&mut worker, &table, overlapped), "one intent is left");
                    }
                    await_local(&mut worker, &table, unused, false);
                    worker.advance_clock().expect("all live");
                    await_local(&mut worker, &table, overlapped, false);
                    assert!(is_local(&mut worker, &table, forever));
                }
                worker.barrier().expect("all come");
            });
            let report = node.job_report().expect("all live");
            assert_eq!(report.management["shared"], 3, "{report}");
            node.shutdown().expect("all end");
        });
    });
}
