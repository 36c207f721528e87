//! The public API on jobs of several nodes: threads of this process stand in for processes, joined by the real providers.

#![allow(clippy::cast_possible_truncation, reason = "small numbers as test data")]

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use sterna::{
    Error, Init, Node, NodeConfig, Optimizer, ProviderChoice, Rank, Table, TableSpec, Ticket,
    Worker,
};

#[allow(dead_code, unreachable_pub, clippy::pedantic, reason = "shared with other tests")]
mod cluster;

use cluster::{a_provider, job, job_with, on_each_provider, pull, rounds, workers};

/// How long anything that other nodes bring about may take, on whatever machine.
const WAIT_MAX: Duration = Duration::from_secs(120);

#[test]
fn no_addition_is_lost_and_each_worker_sees_its_own() {
    // 8 workers add to 10 keys in each round: a million additions.
    let rounds = rounds(12_500);
    on_each_provider(|choice| {
        job(4, 2, choice, |node| {
            let table = node.create_table(TableSpec::new("t", 100, 3)).expect("a table");
            workers(&node, |mut worker| {
                let keys: Vec<u64> =
                    (0..10).map(|key| key * (1 + worker.global_index() as u64)).collect();
                let mut own = 0.0;
                for _ in 0..rounds {
                    worker.add(&table, &keys, &[1.0; 30]).expect("add");
                    own += 1.0;
                    for value in pull(&mut worker, &table, &keys[1..4]) {
                        assert!(value >= own, "{value} after {own} own additions");
                    }
                }
                worker.barrier().expect("all come");
                let all: Vec<u64> = (0..100).collect();
                let total: f64 =
                    pull(&mut worker, &table, &all).iter().map(|&v| f64::from(v)).sum();
                assert_eq!(total, (8 * 30 * rounds) as f64);
                worker.barrier().expect("all come");
            });
            node.shutdown().expect("all end");
        });
    });
}

#[test]
fn sums_of_more_numbers_than_fit_a_record_take_several() {
    job(3, 2, a_provider(), |node| {
        workers(&node, |mut worker| {
            for len in [4096, 4097, 20_000] {
                let mut values: Vec<f64> = (0..len).map(f64::from).collect();
                worker.all_reduce_sum(&mut values).expect("all come");
                let wanted = (0..len).map(|value| 6.0 * f64::from(value));
                assert!(values.into_iter().eq(wanted));
            }
        });
        node.shutdown().expect("all end");
    });
}

#[test]
fn a_node_that_does_not_come_in_time_is_named_with_the_limit() {
    let limits =
        |config: NodeConfig| NodeConfig { meeting_limit: Duration::from_secs(1), ..config };
    // Rank 1 stays until rank 0 lets go of its end, also if that fails.
    let (end, until_end) = std::sync::mpsc::channel::<()>();
    let (end, until_end) = (Mutex::new(Some(end)), Mutex::new(until_end));
    job_with(2, 1, a_provider(), limits, |node| {
        let mut worker = node.worker(0).expect("a worker");
        if node.rank() == Rank(0) {
            let _end = end.lock().expect("no panic").take();
            let error = worker.barrier().expect_err("rank 1 never comes").to_string();
            assert!(error.contains("rank 1") && error.contains("STERNA_MEETING_LIMIT"), "{error}");
        } else {
            until_end.lock().expect("no panic").recv().expect_err("nothing is sent");
        }
    });
}

#[test]
fn every_number_of_nodes_starts_with_the_same_rows() {
    let spec = TableSpec::new("t", 500, 5).init(Init::Normal { std: 1.0 });
    let alone = Node::start(NodeConfig { seed: 7, ..NodeConfig::default() }).expect("a node");
    let table = alone.create_table(spec.clone()).expect("a table");
    let all: Vec<u64> = (0..500).collect();
    let wanted = pull(&mut alone.worker(0).expect("a worker"), &table, &all);
    on_each_provider(|choice| {
        job(3, 1, choice, |node| {
            let table = node.create_table(spec.clone()).expect("a table");
            workers(&node, |mut worker| {
                assert_eq!(pull(&mut worker, &table, &all), wanted);
                worker.barrier().expect("all come");
            });
            node.shutdown().expect("all end");
        });
    });
}

#[test]
fn optimizer_steps_of_remote_rows_are_those_of_local_ones() {
    on_each_provider(|choice| {
        for optimizer in [
            Optimizer::sgd(0.5),
            Optimizer::momentum(0.1, 0.9),
            Optimizer::adagrad(0.5),
            Optimizer::adam(0.1),
        ] {
            let spec = TableSpec::new("t", 64, 2).optimizer(optimizer);
            let alone = Node::start(NodeConfig::default()).expect("a node");
            let table = alone.create_table(spec.clone()).expect("a table");
            let mut worker = alone.worker(0).expect("a worker");
            let all: Vec<u64> = (0..64).collect();
            let gradient =
                |step: u32, key: u64| (f64::from(step) + 1.3 * key as f64 + 0.5).sin() as f32;
            let steps = |worker: &mut Worker, table: &Table| {
                for step in 0..20 {
                    let gradients: Vec<f32> =
                        all.iter().flat_map(|&key| [gradient(step, key); 2]).collect();
                    worker.push(table, &all, &gradients).expect("push");
                    let seen = pull(worker, table, &all[..5]);
                    assert!(seen.iter().all(|value| *value != 0.0), "own pushes are seen at once");
                }
            };
            steps(&mut worker, &table);
            let mut wanted = vec![0.0; 64 * table.row_len()];
            worker.pull_rows(&table, &all, &mut wanted).expect("rows");
            job(2, 1, choice, |node| {
                let table = node.create_table(spec.clone()).expect("a table");
                workers(&node, |mut worker| {
                    if worker.global_index() == 0 {
                        steps(&mut worker, &table);
                    }
                    worker.barrier().expect("all come");
                    let mut rows = vec![0.0; 64 * table.row_len()];
                    worker.pull_rows(&table, &all, &mut rows).expect("rows");
                    for (found, wanted) in rows.iter().zip(&wanted) {
                        assert!(
                            (found - wanted).abs() <= 1e-5 * (1.0 + wanted.abs()),
                            "{optimizer:?}"
                        );
                    }
                    worker.barrier().expect("all come");
                });
                node.shutdown().expect("all end");
            });
        }
    });
}

#[test]
fn a_set_is_seen_by_its_worker_at_once_and_by_all_after_a_barrier() {
    on_each_provider(|choice| {
        job(3, 1, choice, |node| {
            let table = node.create_table(TableSpec::new("t", 90, 2)).expect("a table");
            workers(&node, |mut worker| {
                let me = worker.global_index() as u64;
                let all: Vec<u64> = (0..90).collect();
                worker.add(&table, &all, &[1.0; 180]).expect("add");
                worker.barrier().expect("all come");
                let mine: Vec<u64> = (0..30).map(|key| 3 * key + me).collect();
                worker.set(&table, &mine, &[10.0; 60]).expect("set");
                assert_eq!(pull(&mut worker, &table, &mine), [10.0; 60]);
                worker.barrier().expect("all come");
                assert_eq!(pull(&mut worker, &table, &all), [10.0; 180]);
                let mut rows = [0.0; 180];
                worker.snapshot(&table, &all, &mut rows).expect("snapshot");
                assert_eq!(rows, [10.0; 180]);
                let mut sum = [me as f64];
                worker.all_reduce_sum(&mut sum).expect("all come");
                assert_eq!(sum, [3.0]);
            });
            node.shutdown().expect("all end");
        });
    });
}

#[test]
fn a_snapshot_from_afar_is_of_one_version_however_often_the_row_changes() {
    const FLOATS: usize = 2_000;
    on_each_provider(|choice| {
        let done = AtomicBool::new(false);
        job(2, 1, choice, |node| {
            let table = node.create_table(TableSpec::new("t", 4, FLOATS)).expect("a table");
            workers(&node, |mut worker| {
                let mut rows = vec![0.0; 4 * FLOATS];
                let mut is_mine = |key: &u64| {
                    worker.pull_if_local(&table, *key, &mut rows[..FLOATS]).expect("a key")
                };
                let mine: Vec<u64> = (0..4).filter(|key| is_mine(key)).collect();
                worker.barrier().expect("all come");
                if node.rank() == Rank(1) {
                    while !done.load(Ordering::Relaxed) {
                        worker.add(&table, &mine, &vec![1.0; mine.len() * FLOATS]).expect("add");
                    }
                } else {
                    let mut seen = [0.0; 4];
                    for _ in 0..rounds(200) {
                        worker.snapshot(&table, &[0, 1, 2, 3], &mut rows).expect("snapshot");
                        for (row, seen) in rows.chunks_exact(FLOATS).zip(&mut seen) {
                            assert!(row.iter().all(|value| *value == row[0]), "two versions");
                            assert!(row[0] >= *seen, "{} after {seen}", row[0]);
                            *seen = row[0];
                        }
                    }
                    done.store(true, Ordering::Relaxed);
                }
                worker.barrier().expect("all come");
            });
            node.shutdown().expect("all end");
        });
    });
}

#[test]
fn tables_that_differ_between_nodes_are_refused_by_name() {
    job(2, 1, a_provider(), |node| {
        let dim = 2 + node.rank().index();
        let error = node.create_table(TableSpec::new("users", 10, dim)).expect_err("differs");
        assert!(error.to_string().contains("`users`"), "{error}");
    });
}

#[test]
fn a_request_to_stop_reaches_the_workers_of_all_nodes() {
    let stopped = AtomicU32::new(0);
    job(2, 2, ProviderChoice::Tcp, |node| {
        if node.rank() == Rank(1) {
            node.request_stop();
        }
        workers(&node, |mut worker| {
            let deadline = Instant::now() + WAIT_MAX;
            while !worker.stop_requested() {
                assert!(Instant::now() < deadline, "nobody is told to stop");
                std::thread::sleep(Duration::from_millis(1));
            }
            stopped.fetch_add(1, Ordering::SeqCst);
            worker.barrier().expect("all come");
        });
        node.shutdown().expect("all end");
    });
    assert_eq!(stopped.into_inner(), 4);
}

#[test]
fn a_node_that_leaves_is_named_to_those_who_need_it() {
    on_each_provider(|choice| {
        job(2, 1, choice, |node| {
            let table = node.create_table(TableSpec::new("t", 1000, 2)).expect("a table");
            if node.rank() == Rank(1) {
                return;
            }
            let mut worker = node.worker(0).expect("a worker");
            let all: Vec<u64> = (0..1000).collect();
            let error = loop {
                if let Err(error) =
                    worker.add(&table, &all, &[1.0; 2000]).and_then(|()| worker.flush())
                {
                    break error;
                }
            };
            assert!(matches!(error, Error::PeerLost { rank: Rank(1), .. }), "{error}");
            assert!(worker.barrier().is_err(), "nobody to meet");
        });
    });
}

#[test]
fn tickets_own_their_calls_and_may_be_forgotten() {
    on_each_provider(|choice| {
        job(2, 2, choice, |node| {
            let table = node.create_table(TableSpec::new("t", 600, 2)).expect("a table");
            workers(&node, |mut worker| {
                let me = worker.global_index() as u64;
                let mine: Vec<u64> = (0..150).map(|key| 4 * key + me).collect();
                for round in 1..=20_u8 {
                    let tickets: Vec<Ticket> = mine
                        .chunks(50)
                        .map(|keys| worker.add_async(&table, keys, &[1.0; 100]).expect("add"))
                        .collect();
                    let pulls: Vec<Ticket> = mine
                        .chunks(50)
                        .map(|keys| worker.pull_async(&table, keys).expect("pull"))
                        .collect();
                    drop(worker.pull_async(&table, &mine).expect("forgotten"));
                    // A synchronous call between the begin and the end of asynchronous ones.
                    assert_eq!(pull(&mut worker, &table, &mine), vec![f32::from(round); 300]);
                    for ticket in pulls.into_iter().rev() {
                        let mut values = [f32::NAN; 100];
                        ticket.wait_into(&mut worker, &mut values).expect("values");
                        assert_eq!(values, [f32::from(round); 100]);
                    }
                    for ticket in tickets {
                        ticket.wait(&mut worker).expect("acks");
                    }
                }
                let mut ticket = worker.pull_async(&table, &mine).expect("pull");
                while !ticket.is_done(&mut worker).expect("no peer is lost") {
                    std::thread::yield_now();
                }
                let mut short = [0.0; 3];
                let error = ticket.wait_into(&mut worker, &mut short).expect_err("too short");
                assert!(matches!(error, Error::WrongLength { .. }), "{error}");
                ticket = worker.add_async(&table, &mine, &[1.0; 300]).expect("add");
                worker.barrier().expect("all come");
                assert!(ticket.is_done(&mut worker).expect("no peer is lost"));
                worker.barrier().expect("all come");
            });
            node.shutdown().expect("all end");
        });
    });
}

#[test]
fn tables_are_made_while_workers_meet() {
    on_each_provider(|choice| {
        job(2, 1, choice, |node| {
            let mut worker = node.worker(0).expect("a worker");
            std::thread::scope(|scope| {
                scope.spawn(move || {
                    for round in 0..500_u32 {
                        let mut sum = [f64::from(round)];
                        worker.all_reduce_sum(&mut sum).expect("all come");
                        assert_eq!(sum, [2.0 * f64::from(round)]);
                    }
                });
                for number in 0..10 {
                    let spec = TableSpec::new(format!("t{number}"), 10, 2);
                    node.create_table(spec).expect("a table");
                }
            });
            node.shutdown().expect("all end");
        });
    });
}

#[test]
fn what_is_set_with_a_ticket_is_seen_by_its_worker_and_comes_before_its_later_pushes() {
    on_each_provider(|choice| {
        job(2, 1, choice, |node| {
            let table = node.create_table(TableSpec::new("t", 200, 2)).expect("a table");
            workers(&node, |mut worker| {
                let me = worker.global_index() as u64;
                let mine: Vec<u64> = (0..100).map(|key| 2 * key + me).collect();
                for round in 0..20_u8 {
                    worker.add(&table, &mine, &[1000.0; 200]).expect("add");
                    let value = f32::from(round);
                    let first = worker.set_async(&table, &mine, &[value; 200]).expect("set");
                    worker.add(&table, &mine, &[0.5; 200]).expect("add");
                    assert_eq!(pull(&mut worker, &table, &mine), [value + 0.5; 200]);
                    // The second one of a key waits for the first.
                    let second = worker.set_async(&table, &mine, &[value; 200]).expect("set");
                    second.wait(&mut worker).expect("acks");
                    assert!(first.is_done(&mut worker).expect("nobody is lost"));
                    worker.add(&table, &mine, &[0.25; 200]).expect("add");
                    assert_eq!(pull(&mut worker, &table, &mine), [value + 0.25; 200]);
                }
                let error = worker.set_async(&table, &[1, 1], &[0.0; 4]).expect_err("twice");
                assert!(matches!(error, Error::DuplicateKey { key: 1, .. }), "{error}");
                worker.barrier().expect("all come");
                let all: Vec<u64> = (0..200).collect();
                assert_eq!(pull(&mut worker, &table, &all), [19.25; 400]);
                worker.barrier().expect("all come");
            });
            let deadline = Instant::now() + WAIT_MAX;
            let report = loop {
                let report = node.job_report().expect("all report");
                // Workers that wait do an engine's work: its thread may not have had its turn yet.
                if report.cpu_seconds["engine"] > 0.0 {
                    break report;
                }
                assert!(Instant::now() < deadline, "{:?}", report.cpu_seconds);
            };
            assert_eq!(report.operations["set"].count(), 2 * 20 * 2 * 100);
            node.shutdown().expect("all end");
        });
    });
}
