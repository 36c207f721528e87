//! What the manager costs as a job grows: the same accesses at each node, simulated on 2 to 64 nodes, under the policy `adaptive`.
//!
//! `cargo run --release -p sterna --example growth [-- --steps 60 --nodes 2,4,8,16,32,64 --json]`
//!
//! In each step a worker pulls and pushes 32 rows that it announced four steps before, after one of two patterns:
//!
//! * `neighbours`: 24 rows of its own, 8 that it has in common with one of its two neighbours
//! * `hot`: 30 rows of its own, 2 of 16 rows that all nodes use
//!
//! A step takes 500 us of virtual time. Costs are those of a node, divided by its accesses: records sent and received, READs,
//! bytes of both, and CPU time in engine steps that did something. The busiest node is the one with the most records.

#[path = "../tests/simulation/mod.rs"]
#[allow(dead_code, unreachable_pub, clippy::pedantic, reason = "shared with the tests")]
mod simulation;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use sterna::{Node, NodeConfig, Pace as _, Policy, Rank, TableSpec, Worker};
use sterna_rdma::fabric::FabricCounters;
use sterna_rdma::sim::{SimConfig, SimWorld};

use simulation::dice::Dice;
use simulation::stage::Stage;
use simulation::tap::Sabotage;
use simulation::wire::Wire;

/// Rows that one node alone uses, that it has in common with the next one, and that all use.
const OWN: u64 = 512;
const COMMON: u64 = 64;
const HOT: u64 = 16;

/// Steps before which nothing counts: rows find their places.
const WARM: u64 = 16;

/// How far ahead keys are announced, in steps.
const AHEAD: u64 = 4;

/// Virtual time of a step.
const STEP_NS: u64 = 500_000;

/// Virtual time that no call may take.
const WAIT_MAX: Duration = Duration::from_secs(60);

const DIM: usize = 16;

/// Which rows a step uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
enum Pattern {
    Neighbours,
    Hot,
}

/// What a node did after the warm-up.
#[derive(Clone, Copy, Debug, Default)]
struct Spent {
    records: f64,
    reads: f64,
    bytes: f64,
    cpu_ns: f64,
}

/// A job's figures, for each access.
#[derive(Debug, serde::Serialize)]
struct Grown {
    pattern: Pattern,
    nodes: usize,
    local: f64,
    records: [f64; 2],
    reads: [f64; 2],
    bytes: [f64; 2],
    cpu_ns: [f64; 2],
}

fn main() {
    let mut args = std::env::args().skip(1);
    let (mut steps, mut sizes, mut json) = (60, vec![2, 4, 8, 16, 32, 64], false);
    while let Some(arg) = args.next() {
        let mut value = || args.next().unwrap_or_default();
        match arg.as_str() {
            "--steps" => steps = value().parse().expect("--steps N"),
            "--nodes" => {
                let number = |text: &str| text.parse().expect("--nodes LIST");
                sizes = value().split(',').map(number).collect();
            }
            "--json" => json = true,
            other => panic!("{other}: there are --steps N, --nodes LIST and --json"),
        }
    }
    if !json {
        println!("for each access, mean of all nodes / busiest node:");
        println!(
            "{:<10} {:>5} {:>8} {:>15} {:>15} {:>15} {:>15}",
            "", "nodes", "local %", "records", "READs", "bytes", "CPU ns"
        );
    }
    let mut all = Vec::new();
    let patterns = [Pattern::Neighbours, Pattern::Hot];
    let runs = patterns.into_iter().flat_map(|it| sizes.iter().map(move |&nodes| (it, nodes)));
    for (pattern, nodes) in runs {
        let grown = run(pattern, nodes, steps);
        if !json {
            let pair = |[mean, most]: [f64; 2], digits: usize| {
                format!("{mean:.digits$} / {most:.digits$}")
            };
            println!(
                "{:<10} {nodes:>5} {:>8.2} {:>15} {:>15} {:>15} {:>15}",
                format!("{pattern:?}").to_lowercase(),
                100.0 * grown.local,
                pair(grown.records, 3),
                pair(grown.reads, 3),
                pair(grown.bytes, 0),
                pair(grown.cpu_ns, 0)
            );
        }
        all.push(grown);
    }
    if json {
        println!("{}", serde_json::to_string_pretty(&all).expect("figures"));
    }
}

/// Runs a job of so many nodes for so many steps.
fn run(pattern: Pattern, nodes: usize, steps: u64) -> Grown {
    let world = SimWorld::new(SimConfig::new(nodes, 1));
    let ranks: Vec<Rank> = (0..nodes).map(Rank::from_index).collect();
    let wire = Wire::new(world.clone(), nodes, false, WAIT_MAX, Sabotage::Nothing);
    let stage = Stage::new(world, wire, 1, &ranks, 0);
    let outcomes = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for &rank in &ranks {
            let (stage, outcomes) = (&stage, &outcomes);
            scope.spawn(move || {
                stage.play(rank.index(), || {
                    let outcome = act(stage, rank, (pattern, nodes), steps);
                    outcomes.lock().expect("no panic").push(outcome);
                });
            });
        }
    });
    if let Some(fault) = stage.fault() {
        panic!("{nodes} nodes: {fault}");
    }
    for &rank in &ranks {
        drop(stage.leave(rank));
    }
    let outcomes = outcomes.into_inner().expect("no panic");
    let count = f64::from(u32::try_from(nodes).expect("few"));
    let busiest = outcomes.iter().max_by(|a, b| a.0.records.total_cmp(&b.0.records));
    let busiest = busiest.expect("a node").0;
    let pair = |of: fn(&Spent) -> f64| {
        [outcomes.iter().map(|outcome| of(&outcome.0)).sum::<f64>() / count, of(&busiest)]
    };
    Grown {
        pattern,
        nodes,
        local: outcomes.iter().map(|outcome| outcome.1).sum::<f64>() / count,
        records: pair(|spent| spent.records),
        reads: pair(|spent| spent.reads),
        bytes: pair(|spent| spent.bytes),
        cpu_ns: pair(|spent| spent.cpu_ns),
    }
}

/// One node's part: what each of its accesses cost, and the share that found its row here.
fn act(
    stage: &Arc<Stage>,
    rank: Rank,
    (pattern, nodes): (Pattern, usize),
    steps: u64,
) -> (Spent, f64) {
    let draw = |dice: &mut Dice| draw(dice, pattern, rank, nodes);
    let config = NodeConfig { pin: false, policy: Policy::Adaptive, ..NodeConfig::with_workers(1) };
    let node = Node::simulated(config, stage.world().fabric(rank), Arc::clone(stage) as _);
    let node = Arc::new(node.expect("a node"));
    stage.enter(Arc::clone(&node));
    let keys = nodes as u64 * (OWN + COMMON) + HOT;
    let table = node.create_table(TableSpec::new("rows", keys, DIM)).expect("a table");
    let mut worker = node.worker(0).expect("a worker");
    let mut dice = Dice::new(rank.index() as u64 + 1);
    let mut announced: std::collections::VecDeque<Vec<u64>> = std::collections::VecDeque::new();
    for step in 0..AHEAD {
        announce(&mut worker, &table, draw(&mut dice), step, &mut announced);
    }
    let mut before = (FabricCounters::default(), 0, node.report());
    let mut row = vec![0.0; 32 * DIM];
    let begin_ns = stage.now().as_nanos();
    for step in 0..WARM + steps {
        if step == WARM {
            worker.barrier().expect("a barrier");
            before = (stage.world().fabric(rank).counters(), stage.cpu_ns(rank), node.report());
        }
        announce(&mut worker, &table, draw(&mut dice), step + AHEAD, &mut announced);
        let due = begin_ns + u128::from((step + 1) * STEP_NS);
        while stage.now().as_nanos() < due {
            stage.pause();
        }
        let keys = announced.pop_front().expect("announced before");
        worker.pull(&table, &keys, &mut row).expect("a pull");
        row.fill(0.001);
        worker.push(&table, &keys, &row).expect("a push");
        worker.advance_clock().expect("a clock");
    }
    worker.flush().expect("a flush");
    let counters = stage.world().fabric(rank).counters();
    let (cpu_ns, report) = (stage.cpu_ns(rank), node.report());
    worker.barrier().expect("a barrier");
    drop(worker);
    let old = &before.0;
    #[allow(clippy::cast_precision_loss, reason = "counts below 2^52")]
    let spent = |now: u64, then: u64| (now - then) as f64;
    let accesses = spent(report.paths.count(), before.2.paths.count());
    let remote = spent(report.paths.remote.count, before.2.paths.remote.count);
    let records = spent(counters.records_sent, old.records_sent)
        + spent(counters.records_received, old.records_received);
    let bytes = spent(counters.record_bytes_sent, old.record_bytes_sent)
        + spent(counters.record_bytes_received, old.record_bytes_received)
        + spent(counters.read_bytes, old.read_bytes);
    let spent = Spent {
        records: records / accesses,
        reads: spent(counters.reads, old.reads) / accesses,
        bytes: bytes / accesses,
        cpu_ns: spent(cpu_ns, before.1) / accesses,
    };
    (spent, 1.0 - remote / accesses)
}

/// The keys of a step.
fn draw(dice: &mut Dice, pattern: Pattern, rank: Rank, nodes: usize) -> Vec<u64> {
    let (all, me) = (nodes as u64, rank.index() as u64);
    let mut keys = Vec::new();
    let mut add = |count: usize, first: u64, of: u64| {
        let enough = keys.len() + count;
        while keys.len() < enough {
            let key = first + dice.next() % of;
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
    };
    match pattern {
        Pattern::Neighbours => {
            add(24, me * OWN, OWN);
            add(4, all * OWN + me * COMMON, COMMON);
            add(4, all * OWN + (me + 1) % all * COMMON, COMMON);
        }
        Pattern::Hot => {
            add(30, me * OWN, OWN);
            add(2, all * (OWN + COMMON), HOT);
        }
    }
    keys
}

fn announce(
    worker: &mut Worker,
    table: &sterna::Table,
    keys: Vec<u64>,
    step: u64,
    announced: &mut std::collections::VecDeque<Vec<u64>>,
) {
    worker.intent(table, &keys, step..step + 1).expect("an intent");
    announced.push_back(keys);
}
