//! Rows that move and replicas, under every policy and over the real providers.

#![allow(clippy::cast_possible_truncation, reason = "small numbers as test data")]

#[allow(dead_code, unreachable_pub, clippy::pedantic, reason = "shared with other tests")]
mod cluster;
#[allow(dead_code, unreachable_pub, clippy::pedantic, reason = "shared with other tests")]
#[path = "simulation/dice.rs"]
mod dice;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cluster::{a_provider, job_with, on_each_provider, pull, rounds, workers};
use dice::Dice;
use sterna::{
    Act, FabricConfig, Init, Knobs, Node, NodeConfig, Optimizer, Policy, Rank, Table, TableSpec,
    Worker,
};

/// How long anything that other nodes bring about may take, on whatever machine.
const WAIT_MAX: Duration = Duration::from_secs(120);

fn under(policy: Policy) -> impl Fn(NodeConfig) -> NodeConfig + Sync {
    let mut knobs = Knobs::default();
    knobs.act = Act::Immediate;
    knobs.trial_keys = 0;
    move |config| NodeConfig { policy, knobs, ..config }
}

/// Waits until something holds that other nodes bring about.
fn until(worker: &mut Worker, what: &str, mut holds: impl FnMut(&mut Worker) -> bool) {
    let deadline = Instant::now() + WAIT_MAX;
    while !holds(worker) {
        assert!(Instant::now() < deadline, "{what} does not come about");
        worker.advance_clock().expect("all live");
    }
}

fn is_local(worker: &mut Worker, table: &Table, key: u64) -> bool {
    worker.pull_if_local(table, key, &mut vec![0.0; table.dim()]).expect("the key exists")
}

/// All workers add to few keys, with intents, wishes and clocks by chance; each sees its own additions at once, and all that
/// were made in the end.
fn add_by_chance(node: &Node, rounds: u64) {
    const KEYS: u64 = 40;
    let policy = node.policy();
    let table = node.create_table(TableSpec::new("t", KEYS, 2).hot(0..4)).expect("a table");
    workers(node, |mut worker| {
        let mut dice = Dice::new(worker.global_index() as u64);
        let mut own = vec![0.0_f32; KEYS as usize];
        for round in 0..rounds {
            // Small keys are everybody's.
            let keys: Vec<u64> = (0..3)
                .map(|_| (dice.below(KEYS as usize) as u64).min(dice.below(KEYS as usize) as u64))
                .collect();
            let clock = worker.clock().0;
            let end = clock + 1 + dice.below(4) as u64;
            worker.intent(&table, &keys, clock..end).expect("one");
            worker.add(&table, &keys, &[1.0, 0.0, 1.0, 0.0, 1.0, 0.0]).expect("add");
            keys.iter().for_each(|&key| own[key as usize] += 1.0);
            for (&key, value) in keys.iter().zip(pull(&mut worker, &table, &keys).chunks(2)) {
                assert!(value[0] >= own[key as usize], "{policy}: {value:?} of {key}");
            }
            match round % 50 {
                17 => drop(worker.localize(&table, &keys).expect("a wish")),
                0..8 => worker.advance_clock().expect("all live"),
                _ => {}
            }
        }
        worker.barrier().expect("all come");
        let all: Vec<u64> = (0..KEYS).collect();
        let total: f32 = pull(&mut worker, &table, &all).iter().sum();
        let workers = (node.size() * node.workers()) as u64;
        assert_eq!(total, (workers * 3 * rounds) as f32, "{policy}");
        worker.barrier().expect("all come");
    });
}

#[test]
fn sums_are_exact_whatever_moves_meanwhile() {
    for policy in Policy::ALL {
        on_each_provider(|choice| {
            job_with(3, 2, choice, under(policy), |node| {
                add_by_chance(&node, rounds(1500));
                node.shutdown().expect("all end");
            });
        });
    }
}

#[test]
fn sums_are_exact_while_intents_are_acted_on_and_not_by_turns() {
    const KEYS: u64 = 64;
    on_each_provider(|choice| {
        let mut knobs = Knobs::default();
        (knobs.trial_keys, knobs.trial_us) = (1, 1);
        let settings = |config| NodeConfig { policy: Policy::Adaptive, knobs, ..config };
        // Rank 0, which leads the trials, has left intents be.
        let seen = AtomicBool::new(false);
        job_with(3, 2, choice, settings, |node| {
            let table = node.create_table(TableSpec::new("t", KEYS, 1)).expect("a table");
            workers(&node, |mut worker| {
                let mut dice = Dice::new(worker.global_index() as u64);
                let mut added = 0.0_f64;
                let deadline = Instant::now() + Duration::from_secs(60);
                while !seen.load(Ordering::Relaxed) {
                    assert!(Instant::now() < deadline, "no trial comes about");
                    let keys: Vec<u64> = (0..4).map(|_| dice.below(KEYS as usize) as u64).collect();
                    let clock = worker.clock().0;
                    worker.intent(&table, &keys, clock + 1..clock + 2).expect("one");
                    worker.advance_clock().expect("all live");
                    worker.add(&table, &keys, &[1.0; 4]).expect("add");
                    added += 4.0;
                    if node.rank() == Rank(0) && node.report().management["declined"] > 100 {
                        seen.store(true, Ordering::Relaxed);
                    }
                }
                let mut total = [added];
                worker.all_reduce_sum(&mut total).expect("all come");
                let all: Vec<u64> = (0..KEYS).collect();
                let sum: f64 =
                    pull(&mut worker, &table, &all).iter().map(|&it| f64::from(it)).sum();
                assert_eq!(sum, total[0]);
                worker.barrier().expect("all come");
            });
            node.shutdown().expect("all end");
        });
    });
}

/// `ci/rdma` runs this as each of two ranks in two guests, between which packets are lost and late.
#[test]
#[ignore = "ci/rdma runs it as each rank of a job over two hosts"]
fn sums_are_exact_whatever_moves_between_hosts() {
    for policy in Policy::ALL {
        let mut fabric = FabricConfig::from_env().expect("a sound environment");
        if fabric.size == 1 {
            return;
        }
        fabric.join_timeout = Duration::from_secs(60);
        let config = NodeConfig { workers: 2, seed: 7, pin: false, ..NodeConfig::default() };
        let node = Node::join(under(policy)(config), fabric).expect("all nodes come");
        assert_eq!(node.fabric_name(), "verbs");
        add_by_chance(&node, 50);
        let report = node.job_report().expect("all live");
        println!("{policy}: {:?}", report.management);
        let moves = matches!(policy, Policy::Relocation | Policy::Adaptive);
        assert!(!moves || report.management["moved"] > 0, "{policy} moves no row");
        node.shutdown().expect("all end");
    }
}

/// A key that is at home at a rank.
fn key_at(node: &Node, table: &Table, rank: Rank) -> u64 {
    (0..table.keys()).find(|&key| table.home(key) == rank).unwrap_or_else(|| {
        panic!("{} has no key at {rank}", node.rank());
    })
}

#[test]
fn a_sole_wish_moves_a_shared_one_replicates_and_the_last_to_want_a_row_gets_it() {
    on_each_provider(|choice| {
        job_with(3, 1, choice, under(Policy::Adaptive), |node| {
            let table = node.create_table(TableSpec::new("t", 64, 4)).expect("a table");
            let key = key_at(&node, &table, Rank(0));
            workers(&node, |mut worker| {
                worker.barrier().expect("all come");
                if node.rank() == Rank(1) {
                    worker.intent(&table, &[key], 0..u64::MAX).expect("an intent");
                    until(&mut worker, "a move", |worker| is_local(worker, &table, key));
                }
                worker.barrier().expect("all come");
                let report = node.job_report().expect("all live");
                assert_eq!(report.management["moved"], 1, "{report}");
                assert!((1..200).contains(&report.bytes["records_of_moves"]), "{report}");
                assert_eq!(is_local(&mut worker, &table, key), node.rank() == Rank(1));
                worker.barrier().expect("all come");
                let end = worker.clock().0 + 1;
                if node.rank() != Rank(1) {
                    worker.intent(&table, &[key], 0..end).expect("an intent");
                    until_local(&mut worker, &table, key);
                }
                worker.barrier().expect("all come");
                assert!(is_local(&mut worker, &table, key), "{} of three", node.rank());
                // Each sees at the next barrier what the others did.
                worker.add(&table, &[key], &[1.0; 4]).expect("add");
                worker.barrier().expect("all come");
                assert_eq!(pull(&mut worker, &table, &[key]), [3.0; 4]);
                worker.barrier().expect("all come");
                if node.rank() != Rank(1) {
                    worker.advance_clock().expect("all live");
                    until(&mut worker, "an end", |worker| !is_local(worker, &table, key));
                }
                worker.barrier().expect("all come");
                let report = node.job_report().expect("all live");
                assert_eq!((report.management["moved"], report.management["shared"]), (1, 2));
                worker.barrier().expect("all come");
            });
            node.shutdown().expect("all end");
        });
    });
}

/// As [`until`], without advancing the clock, which would end the intent.
fn until_local(worker: &mut Worker, table: &Table, key: u64) {
    let deadline = Instant::now() + WAIT_MAX;
    while !is_local(worker, table, key) {
        assert!(Instant::now() < deadline, "a replica does not come");
        worker.flush().expect("all live");
    }
}

#[test]
fn reads_are_no_staler_than_ssp_allows() {
    const NODES: usize = 3;
    const WORKERS: usize = 2;
    const CLOCKS: u64 = 60;
    // Value `w` of each row counts the pushes of worker `w`: one in each clock.
    const TOTAL: usize = NODES * WORKERS;
    for staleness in [0, 2] {
        on_each_provider(|choice| {
            let begun = Instant::now();
            job_with(NODES, WORKERS, choice, under(Policy::Ssp { staleness }), |node| {
                let table = node.create_table(TableSpec::new("t", 9, TOTAL)).expect("a table");
                let keys: Vec<u64> = (0..table.keys()).collect();
                workers(&node, |mut worker| {
                    let me = worker.global_index();
                    let mut dice = Dice::new(me as u64);
                    let mut own = vec![0.0; keys.len() * TOTAL];
                    own.iter_mut().skip(me).step_by(TOTAL).for_each(|value| *value = 1.0);
                    for part in 0..2 {
                        // Half of the rows are replicas, the others are read from afar.
                        let wanted: Vec<u64> =
                            keys.iter().copied().filter(|key| key % 2 == me as u64 % 2).collect();
                        let now = worker.clock().0;
                        worker.intent(&table, &wanted, now..now + CLOCKS).expect("an intent");
                        for clock in 0..CLOCKS {
                            let least = clock.saturating_sub(u64::from(staleness));
                            let least = (part * CLOCKS + least) as f32;
                            for (at, &shown) in pull(&mut worker, &table, &keys).iter().enumerate()
                            {
                                assert!(
                                    shown >= least,
                                    "worker {me} at clock {clock}, part {part}: {shown} of worker \
                                     {} in key {}, not {least}",
                                    at % TOTAL,
                                    at / TOTAL
                                );
                            }
                            worker.add(&table, &keys, &own).expect("add");
                            if dice.below(20) == 0 {
                                std::thread::sleep(Duration::from_millis(dice.below(5) as u64));
                            }
                            worker.advance_clock().expect("all live");
                        }
                        // Clocks begin anew behind a meeting, and unequal ones before it keep nobody waiting.
                        (0..me).for_each(|_| worker.advance_clock().expect("all live"));
                        worker.barrier().expect("all come");
                    }
                });
                let report = node.job_report().expect("all live");
                assert!(report.management["shared"] > 0, "{report}");
                for purpose in ["records_of_shares", "records_of_updates", "reads_of_refreshes"] {
                    assert!(report.bytes[purpose] > 0, "{purpose}: {report}");
                }
                let since_start_us = begun.elapsed().as_secs_f64() * 1e6;
                let stale_us = report.staleness_us;
                assert!(stale_us > 0.0 && stale_us < since_start_us, "{report}");
                node.shutdown().expect("all end");
            });
        });
    }
}

#[test]
fn workers_of_one_node_keep_within_the_bound_too() {
    use std::sync::atomic::{AtomicU64, Ordering};
    let config =
        NodeConfig { workers: 3, policy: Policy::Ssp { staleness: 1 }, ..NodeConfig::default() };
    let node = Node::start(config).expect("a node");
    let clocks: [AtomicU64; 3] = Default::default();
    workers(&node, |mut worker| {
        let me = worker.index();
        for clock in 1..=200 {
            if (clock as usize + me).is_multiple_of(40) {
                std::thread::sleep(Duration::from_millis(2));
            }
            clocks[me].store(clock, Ordering::SeqCst);
            worker.advance_clock().expect("all live");
            let least = clocks.iter().map(|clock| clock.load(Ordering::SeqCst)).min();
            assert!(least >= Some(clock - 1), "{clocks:?}");
        }
    });
    node.shutdown().expect("an end");
}

/// Gradients that one writer after the other pushes, at whichever node it is.
fn steps(round: u64, dim: usize) -> Vec<f32> {
    (0..dim as u64).map(|i| ((round * 7 + i * 3) % 11) as f32 / 8.0 - 0.5).collect()
}

/// Each node in turn gets all rows, more often than its memory for rows of others has slots: those that rows have left are used
/// again soon, also where devices read.
#[test]
fn rows_go_to_and_fro_within_a_pool_that_is_soon_used_up() {
    const KEYS: u64 = 400;
    const TURNS: u16 = 12;
    let small = |config: NodeConfig| {
        let mut config = under(Policy::Relocation)(config);
        config.knobs.pool_kib = 1024;
        config
    };
    job_with(2, 1, a_provider(), small, |node| {
        let table = node.create_table(TableSpec::new("t", KEYS, 500)).expect("a table");
        let all: Vec<u64> = (0..KEYS).collect();
        workers(&node, |mut worker| {
            for turn in 0..TURNS {
                if turn % 2 == node.rank().0 {
                    let ones = vec![1.0; KEYS as usize * 500];
                    until(&mut worker, "a turn", |worker| {
                        let asked = worker.localize(&table, &all).expect("a wish");
                        asked.wait(worker).expect("answers");
                        all.iter().all(|&key| is_local(worker, &table, key))
                    });
                    worker.add(&table, &all, &ones).expect("add");
                }
                worker.barrier().expect("all come");
            }
            for row in pull(&mut worker, &table, &all).chunks(500) {
                assert!(row.iter().all(|&value| value == f32::from(TURNS)), "{row:?}");
            }
            worker.barrier().expect("all come");
        });
        let report = node.job_report().expect("all live");
        let slots = 2 * 1024 * 1024 / 2016;
        assert!(report.management["moved"] > 2 * slots, "{report}");
        node.shutdown().expect("all end");
    });
}

fn optimizers() -> [Optimizer; 6] {
    [
        Optimizer::sgd(0.1),
        Optimizer::momentum(0.1, 0.9),
        Optimizer::adagrad(0.1),
        Optimizer::row_adagrad(0.1),
        FTRL,
        Optimizer::adam(0.01),
    ]
}

const FTRL: Optimizer = Optimizer::Ftrl { lr: 0.1, beta: 0.5, l1: 0.2, l2: 0.1 };

#[test]
fn optimizer_state_is_right_wherever_rows_are() {
    const ROUNDS: u64 = 24;
    for policy in [Policy::Relocation, Policy::Adaptive, Policy::Replication] {
        for optimizer in optimizers() {
            let spec =
                TableSpec::new("t", 9, 6).optimizer(optimizer).init(Init::Normal { std: 1.0 });
            let keys: Vec<u64> = (0..9).collect();
            let alone = Node::start(NodeConfig { seed: 7, ..NodeConfig::default() }).expect("one");
            let table = alone.create_table(spec.clone()).expect("a table");
            let mut worker = alone.worker(0).expect("a worker");
            for round in 0..ROUNDS {
                worker.push(&table, &keys, &steps(round, 54)).expect("a step");
            }
            let mut wanted = vec![0.0; 9 * table.row_len()];
            worker.pull_rows(&table, &keys, &mut wanted).expect("rows");
            job_with(2, 1, a_provider(), under(policy), |node| {
                let table = node.create_table(spec.clone()).expect("a table");
                workers(&node, |mut worker| {
                    for round in 0..ROUNDS {
                        let clock = worker.clock().0;
                        if round % 3 == 0 {
                            worker.intent(&table, &keys, clock..clock + 2).expect("an intent");
                        }
                        if round % 2 == u64::from(node.rank().0) {
                            worker.push(&table, &keys, &steps(round, 54)).expect("a step");
                        }
                        worker.advance_clock().expect("all live");
                        worker.barrier().expect("all come");
                    }
                    let mut rows = vec![0.0; 9 * table.row_len()];
                    worker.pull_rows(&table, &keys, &mut rows).expect("rows");
                    let far =
                        rows.iter().zip(&wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                    assert!(far < 2e-5, "{policy}, {optimizer:?}: {far} from the serial run");
                    worker.barrier().expect("all come");
                });
                node.shutdown().expect("all end");
            });
        }
    }
}

#[test]
fn what_is_set_among_pushes_is_what_comes_last() {
    for policy in Policy::ALL {
        on_each_provider(|choice| {
            job_with(3, 1, choice, under(policy), |node| {
                let table = node.create_table(TableSpec::new("t", 30, 2)).expect("a table");
                let keys: Vec<u64> = (0..30).collect();
                workers(&node, |mut worker| {
                    worker.intent(&table, &keys, 0..u64::MAX).expect("an intent");
                    for round in 0_u8..20 {
                        worker.add(&table, &keys, &[1.0; 60]).expect("add");
                        worker.barrier().expect("all come");
                        let value = f32::from(round) * 100.0;
                        if u16::from(round % 3) == node.rank().0 {
                            worker.set(&table, &keys, &[value; 60]).expect("set");
                            assert_eq!(pull(&mut worker, &table, &keys), [value; 60]);
                        }
                        worker.barrier().expect("all come");
                        assert_eq!(pull(&mut worker, &table, &keys), [value; 60], "{policy}");
                        worker.barrier().expect("all come");
                        worker.advance_clock().expect("all live");
                    }
                });
                node.shutdown().expect("all end");
            });
        });
    }
}

#[test]
fn ftrl_keeps_its_sums_exact_and_its_values_a_function_of_them_with_several_writers() {
    const ROUNDS: u64 = 30;
    let Optimizer::Ftrl { lr, beta, l1, l2 } = FTRL else { panic!("FTRL") };
    for policy in [Policy::Classic, Policy::Relocation, Policy::Replication, Policy::Adaptive] {
        on_each_provider(|choice| {
            job_with(3, 2, choice, under(policy), |node| {
                let spec =
                    TableSpec::new("t", 9, 6).optimizer(FTRL).init(Init::Normal { std: 1.0 });
                let table = node.create_table(spec).expect("a table");
                let keys: Vec<u64> = (0..9).collect();
                let function = |worker: &mut Worker| {
                    let mut rows = vec![0.0; 9 * table.row_len()];
                    worker.pull_rows(&table, &keys, &mut rows).expect("rows");
                    for row in rows.chunks(18) {
                        for i in 0..6 {
                            let (w, z, n) = (row[i], row[6 + i], row[12 + i]);
                            let rate = (beta + n.sqrt()) / lr + l2;
                            let wanted = (z.clamp(-l1, l1) - z) / rate;
                            assert!((w - wanted).abs() < 1e-4, "{policy}: {w} is not f({z}, {n})");
                        }
                    }
                    rows
                };
                workers(&node, |mut worker| {
                    let me = worker.global_index() as u64;
                    for round in 0..ROUNDS {
                        let clock = worker.clock().0;
                        if (round + me).is_multiple_of(3) {
                            worker.intent(&table, &keys, clock..clock + 3).expect("an intent");
                        }
                        let gradients = steps(round * 6 + me, 54);
                        worker.push(&table, &keys, &gradients).expect("a step");
                        worker.advance_clock().expect("all live");
                    }
                    worker.barrier().expect("all come");
                    // All nodes see the same: the squares of all gradients, and values that follow.
                    let rows = function(&mut worker);
                    for (key, row) in rows.chunks(18).enumerate() {
                        for i in 0..6 {
                            let square = |step| steps(step, 54)[key * 6 + i].powi(2);
                            let wanted: f32 = (0..ROUNDS * 6).map(square).sum();
                            let found = row[12 + i];
                            assert!(
                                (found - wanted).abs() < 1e-3,
                                "{policy}: {found}, not {wanted}"
                            );
                        }
                    }
                    let mut sums: Vec<f64> = rows.iter().copied().map(f64::from).collect();
                    worker.all_reduce_sum(&mut sums).expect("all come");
                    for (sum, &own) in sums.iter().zip(&rows) {
                        let mean = sum / 6.0;
                        assert!((mean - f64::from(own)).abs() < 1e-4, "{policy}: {own} and {mean}");
                    }
                    worker.barrier().expect("all come");
                    // Values that are set are values that stay.
                    if me == 5 {
                        worker.set(&table, &keys, &[0.75; 54]).expect("a set");
                    }
                    worker.barrier().expect("all come");
                    assert_eq!(pull(&mut worker, &table, &keys), [0.75; 54], "{policy}");
                    function(&mut worker);
                    let refused = worker.add(&table, &keys, &[1.0; 54]).expect_err("a function");
                    assert!(refused.to_string().contains("FTRL"), "{refused}");
                    worker.barrier().expect("all come");
                });
                node.shutdown().expect("all end");
            });
        });
    }
}
