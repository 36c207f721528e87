//! The public API on a job of one node.

#![allow(clippy::cast_possible_truncation, reason = "small numbers as test data")]

use std::collections::HashMap;

use proptest::prelude::*;
use sterna::{Error, Init, Node, NodeConfig, Optimizer, Table, TableSpec, Worker};

fn node(workers: usize) -> Node {
    let config = NodeConfig { workers, seed: 7, pin: false, ..NodeConfig::default() };
    Node::start(config).expect("a node of one job starts")
}

fn pull(worker: &mut Worker, table: &Table, keys: &[u64]) -> Vec<f32> {
    let mut values = vec![f32::NAN; keys.len() * table.dim()];
    worker.pull(table, keys, &mut values).expect("keys exist");
    values
}

#[test]
fn values_come_in_the_order_of_keys_also_with_duplicates() {
    let node = node(1);
    let table = node.create_table(TableSpec::new("t", 1000, 2)).expect("a table");
    let mut worker = node.worker(0).expect("a worker");
    let keys: Vec<u64> = (0..1000).rev().collect();
    let values: Vec<f32> = keys.iter().flat_map(|&key| [key as f32, -(key as f32)]).collect();
    worker.set(&table, &keys, &values).expect("set");
    assert_eq!(
        pull(&mut worker, &table, &[5, 999, 5, 0]),
        [5.0, -5.0, 999.0, -999.0, 5.0, -5.0, 0.0, 0.0]
    );
    assert!(pull(&mut worker, &table, &[]).is_empty());
}

#[test]
fn a_push_is_one_optimizer_step_for_each_distinct_key() {
    let node = node(1);
    let spec = TableSpec::new("t", 10, 1).optimizer(Optimizer::adagrad(0.5));
    let table = node.create_table(spec).expect("a table");
    let mut worker = node.worker(0).expect("a worker");
    worker.push(&table, &[3, 4, 3], &[1.0, 8.0, 3.0]).expect("push");
    let mut rows = [0.0; 4];
    worker.pull_rows(&table, &[3, 4], &mut rows).expect("rows");
    // One step with the sum 4: S = 16, w = -0.5 * 4 / 4.
    assert_eq!(rows, [-0.5, 16.0, -0.5, 64.0]);
    worker.set_learning_rate(&table, 0.0);
    worker.push(&table, &[3], &[3.0]).expect("push");
    worker.pull_rows(&table, &[3, 3], &mut rows).expect("rows");
    assert_eq!(rows, [-0.5, 25.0, -0.5, 25.0]);
    worker.set(&table, &[3], &[7.0]).expect("set");
    worker.pull_rows(&table, &[3, 4], &mut rows).expect("rows");
    assert_eq!(rows, [7.0, 0.0, -0.5, 64.0], "set resets the state");
    worker.set_rows(&table, &[3], &[1.0, 2.0]).expect("set rows");
    worker.add(&table, &[3, 3], &[1.0, 1.0]).expect("add");
    worker.pull_rows(&table, &[3, 4], &mut rows).expect("rows");
    assert_eq!(rows, [3.0, 2.0, -0.5, 64.0], "add leaves the state");
}

#[test]
fn local_rows_are_used_in_place() {
    let node = node(1);
    let table = node.create_table(TableSpec::new("t", 10, 3)).expect("a table");
    let mut worker = node.worker(0).expect("a worker");
    assert!(worker.axpy(&table, 2, 2.0, &[1.0, 2.0, 3.0]).expect("axpy"));
    assert_eq!(worker.dot(&table, 2, &[1.0, 1.0, 1.0]).expect("dot"), Some(12.0));
    let mut row = [0.0; 3];
    assert!(worker.pull_if_local(&table, 2, &mut row).expect("pull"));
    assert_eq!(row, [2.0, 4.0, 6.0]);
    worker.snapshot(&table, &[2], &mut row).expect("snapshot");
    assert_eq!(row, [2.0, 4.0, 6.0]);
}

#[test]
fn mistakes_are_errors_that_name_table_and_key_and_change_nothing() {
    let node = node(1);
    let spec = TableSpec::new("users", 10, 2).check_finite(true);
    let table = node.create_table(spec.clone()).expect("a table");
    let mut worker = node.worker(0).expect("a worker");
    let error = worker.pull(&table, &[1, 10], &mut [0.0; 4]).expect_err("no key 10");
    assert_eq!(error.to_string(), "table `users` has keys 0..10, there is no key 10");
    let error = worker.push(&table, &[1, 2], &[0.0; 3]).expect_err("three floats for two keys");
    assert!(matches!(error, Error::WrongLength { expected: 4, found: 3, .. }), "{error}");
    let error = worker.push(&table, &[1, 2], &[1.0, 1.0, f32::NAN, 1.0]).expect_err("a NaN");
    assert!(matches!(error, Error::NotFinite { key: 2, index: 0, .. }), "{error}");
    assert_eq!(pull(&mut worker, &table, &[1, 2]), [0.0; 4], "nothing was applied");
    let error = worker.set(&table, &[4, 1, 4], &[0.0; 6]).expect_err("key 4 twice");
    assert!(matches!(error, Error::DuplicateKey { key: 4, .. }), "{error}");
    assert!(matches!(node.create_table(spec), Err(Error::Table { .. })), "the name exists");
    for spec in [TableSpec::new("", 1, 1), TableSpec::new("a", 0, 1), TableSpec::new("b", 1, 0)] {
        assert!(matches!(node.create_table(spec), Err(Error::Table { .. })));
    }
    let large = TableSpec::new("large", 1, 1 << 20);
    assert!(matches!(node.create_table(large), Err(Error::Table { .. })), "rows are at most 1 MiB");
    assert!(matches!(node.worker(0), Err(Error::Worker { .. })), "taken");
    assert!(matches!(node.worker(1), Err(Error::Worker { .. })), "no such worker");
    let stranger = self::node(1).create_table(TableSpec::new("s", 1, 1)).expect("a table");
    assert!(matches!(worker.pull(&stranger, &[0], &mut [0.0]), Err(Error::UnknownTable(_))));
    assert!(Node::start(NodeConfig::with_workers(0)).is_err());
}

#[test]
fn rows_start_as_a_function_of_the_seed_and_tables_come_while_running() {
    let spec = |name: &str| TableSpec::new(name, 100, 4).init(Init::Normal { std: 1.0 });
    let (first, second) = (node(1), node(1));
    let values = |node: &Node| {
        let mut worker = node.worker(0).expect("a worker");
        let a = node.create_table(spec("a")).expect("a table");
        let before = pull(&mut worker, &a, &[1, 99]);
        let b = node.create_table(spec("b")).expect("a table, later");
        (before, pull(&mut worker, &b, &[1, 99]))
    };
    let (a, b) = values(&first);
    assert_eq!((a.clone(), b.clone()), values(&second));
    assert_ne!(a, b, "tables start differently");
}

#[test]
fn no_addition_of_concurrent_workers_is_lost_and_each_sees_its_own() {
    const WORKERS: usize = 4;
    const ROUNDS: u32 = 2_000;
    let node = node(WORKERS);
    let table = node.create_table(TableSpec::new("t", 100, 3)).expect("a table");
    std::thread::scope(|scope| {
        for index in 0..WORKERS {
            let mut worker = node.worker(index).expect("a worker");
            let table = &table;
            scope.spawn(move || {
                let keys: Vec<u64> = (0..10).map(|key| key * (index as u64 + 1)).collect();
                let mut own = 0.0;
                for _ in 0..ROUNDS {
                    worker.add(table, &keys, &[1.0; 30]).expect("add");
                    own += 1.0;
                    let seen = pull(&mut worker, table, &keys[1..2]);
                    assert!(seen.iter().all(|&value| value >= own), "{seen:?} after {own}");
                }
                worker.barrier().expect("all come");
                let mut sum = [1.0];
                worker.all_reduce_sum(&mut sum).expect("all come");
                assert_eq!(sum, [WORKERS as f64]);
                let all: Vec<u64> = (0..100).collect();
                let total: f32 = pull(&mut worker, table, &all).iter().sum();
                assert_eq!(total, (WORKERS as u32 * 30 * ROUNDS) as f32);
            });
        }
    });
    let report = node.report();
    assert_eq!(report.operations["add"].count(), u64::from(ROUNDS) * WORKERS as u64 * 10);
    assert_eq!(report.paths.remote.count, 0);
    let text = serde_json::to_string(&report).expect("JSON");
    assert_eq!(
        serde_json::from_str::<sterna::Report>(&text).expect("its own JSON").paths,
        report.paths
    );
    assert!(report.to_string().contains("local 100.00 %"), "{report}");
}

#[test]
fn a_worker_sees_its_own_axpy_on_a_row_that_others_push_to() {
    let node = node(2);
    let table = node.create_table(TableSpec::new("t", 64, 1)).expect("a table");
    let mut own = node.worker(0).expect("a worker");
    let mut other = node.worker(1).expect("a worker");
    let mut added = 0.0;
    for _ in 0..200 {
        own.add(&table, &[5], &[1.0]).expect("add");
        other.add(&table, &[5], &[1.0]).expect("add");
        assert!(own.axpy(&table, 5, 2.0, &[50.0]).expect("axpy"));
        added += 101.0;
        assert!(pull(&mut own, &table, &[5])[0] >= added);
    }
}

#[test]
fn a_request_to_stop_reaches_every_worker() {
    let node = node(2);
    let workers = [node.worker(0).expect("a worker"), node.worker(1).expect("a worker")];
    assert!(workers.iter().all(|worker| !worker.stop_requested()));
    node.stopper().request_stop();
    assert!(workers.iter().all(Worker::stop_requested));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn calls_do_what_a_map_of_rows_does(
        calls in proptest::collection::vec(
            (0_u8..4, proptest::collection::vec((0_u64..40, -8_i8..8), 1..90)), 1..30),
    ) {
        let node = node(1);
        let spec = TableSpec::new("t", 40, 2).optimizer(Optimizer::sgd(1.0));
        let table = node.create_table(spec).expect("a table");
        let mut worker = node.worker(0).expect("a worker");
        let mut model: HashMap<u64, f32> = HashMap::new();
        for (kind, mut entries) in calls {
            if kind == 2 {
                entries.sort_unstable_by_key(|entry| entry.0);
                entries.dedup_by_key(|entry| entry.0);
            }
            let keys: Vec<u64> = entries.iter().map(|entry| entry.0).collect();
            let values: Vec<f32> = entries.iter().flat_map(|entry| [f32::from(entry.1); 2]).collect();
            match kind {
                0 => worker.push(&table, &keys, &values).expect("push"),
                1 => worker.add(&table, &keys, &values).expect("add"),
                2 => worker.set(&table, &keys, &values).expect("set"),
                _ => {
                    let wanted: Vec<f32> =
                        keys.iter().flat_map(|key| [*model.get(key).unwrap_or(&0.0); 2]).collect();
                    prop_assert_eq!(pull(&mut worker, &table, &keys), wanted);
                }
            }
            for (key, value) in entries {
                let row = model.entry(key).or_insert(0.0);
                match kind {
                    0 => *row -= f32::from(value),
                    1 => *row += f32::from(value),
                    2 => *row = f32::from(value),
                    _ => {}
                }
            }
        }
    }
}

#[test]
fn hits_of_private_replicas_are_a_path_of_their_own() {
    let node = node(2);
    let table = node.create_table(TableSpec::new("t", 10, 2)).expect("a table");
    let (mut one, mut two) = (node.worker(0).expect("a worker"), node.worker(1).expect("a worker"));
    one.add(&table, &[4], &[1.0; 2]).expect("add");
    two.add(&table, &[4], &[1.0; 2]).expect("add");
    // The version has moved since its last push: from here on worker 0 has a copy of its own.
    one.add(&table, &[4], &[1.0; 2]).expect("add");
    for _ in 0..3 {
        one.add(&table, &[4, 7], &[1.0; 4]).expect("add");
    }
    one.add(&table, &[4], &[1.0; 2]).expect("add");
    assert_eq!(pull(&mut one, &table, &[4, 7, 4]), [7.0, 7.0, 3.0, 3.0, 7.0, 7.0]);
    one.flush().expect("nobody is lost");
    two.flush().expect("nobody is lost");
    let report = node.report();
    let (add, pulled) = (&report.operations["add"], &report.operations["pull"]);
    assert_eq!((add.replica.count, add.local.count, add.remote.count), (4, 6, 0));
    assert_eq!(
        (add.replica.calls, add.local.calls),
        (1, 6),
        "a call counts where its slowest key was"
    );
    assert_eq!((pulled.replica.count, pulled.local.count), (2, 1));
    assert_eq!(report.paths.replica.count, 6);
    assert!(report.local_share() >= 1.0);
}

#[test]
fn rows_that_fit_no_record_are_refused_with_the_longest_that_do() {
    let node = node(1);
    let optimizers = [
        (Optimizer::sgd(0.1), 63_000),
        (Optimizer::momentum(0.1, 0.9), 31_000),
        (Optimizer::adagrad(0.1), 6_300),
        (Optimizer::row_adagrad(0.1), 7_000),
        (Optimizer::adam(0.1), 5_700),
        (Optimizer::ftrl(0.1), 20_800),
    ];
    for (optimizer, documented) in optimizers {
        let make = |dim| {
            let name = format!("{}-{dim}", optimizer.name());
            node.create_table(TableSpec::new(name, 1, dim).optimizer(optimizer))
        };
        let error = make(100_000).expect_err("no record is so long").to_string();
        let most = error.split("at most ").nth(1).and_then(|rest| rest.split(' ').next());
        let most: usize = most.and_then(|most| most.parse().ok()).expect("the limit is told");
        assert!((documented..documented * 26 / 25).contains(&most), "{error}");
        make(most).expect("the limit holds");
        make(most + 1).expect_err("and is not lower than need be");
    }
}

#[test]
fn a_ticket_that_is_done_means_that_all_workers_see_the_update() {
    let node = node(2);
    let table = node.create_table(TableSpec::new("t", 8, 1)).expect("a table");
    let (mut one, mut two) = (node.worker(0).expect("a worker"), node.worker(1).expect("a worker"));
    for sum in (1..20_u8).map(|round| f32::from(round) * 4.0) {
        // Workers that push by turns get private copies of the row.
        one.add(&table, &[3], &[1.0]).expect("add");
        two.add_async(&table, &[3], &[1.0]).expect("add").wait(&mut two).expect("alone");
        one.add(&table, &[3], &[1.0]).expect("add");
        let ticket = one.add_async(&table, &[3], &[1.0]).expect("add");
        while !ticket.is_done(&mut one).expect("alone") {}
        ticket.wait(&mut one).expect("alone");
        assert_eq!(pull(&mut two, &table, &[3]), [sum]);
    }
}
