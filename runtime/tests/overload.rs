//! A job at every limit: rounds without a pause, rings of one record, lanes of one READ, a peer that is slow to take what it gets. It becomes
//! slower; nothing stands still, nothing is lost, and what waits stays bounded.

#[allow(dead_code, unreachable_pub, clippy::pedantic, reason = "shared with the example")]
mod simulation;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sterna::{Knobs, Node, NodeConfig, Policy, Rank, TableSpec};
use sterna_rdma::sim::{SimConfig, SimWorld};

use simulation::dice::Dice;
use simulation::stage::Stage;
use simulation::tap::Sabotage;
use simulation::wire::Wire;

const NODES: usize = 4;
const KEYS: u64 = 64;
const STEPS: u64 = 60;
const BATCH: usize = 8;

/// How often slower a job may be whose links take a record at a time, one of them a tenth as fast, and whose engines stall.
const SLOWER_MAX: u64 = 60;

/// Virtual time that no call may take.
const CALL_LIMIT: Duration = Duration::from_secs(2);

/// How a job runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
    Calm,
    Pushed,
}

/// What a run took and computed, and the most of what has a limit that any node ever held.
#[derive(Debug)]
struct Outcome {
    virtual_ns: u64,
    most: Most,
    sums: Vec<f32>,
}

/// By name.
type Most = BTreeMap<&'static str, usize>;

fn run(load: Load, policy: Policy, seed: u64) -> Outcome {
    let mut config = SimConfig::new(NODES, seed);
    let mut knobs = Knobs::default();
    if load == Load::Pushed {
        (config.ring_bytes, config.ring_records, config.lane_reads) = (256, 1, 1);
        config.busy_per_mille = 200;
        knobs.residency_us = 0;
        (knobs.pause_us, knobs.pause_factor, knobs.quiet_rounds) = (0, 0, 1000);
    }
    let ranks: Vec<Rank> = (0..NODES).map(Rank::from_index).collect();
    let world = SimWorld::new(config);
    let stalls = if load == Load::Pushed { 2_000 } else { 0 };
    let wire = Wire::new(world.clone(), NODES, false, CALL_LIMIT, Sabotage::Nothing);
    let stage = Stage::new(world, wire, seed, &ranks, stalls);
    if load == Load::Pushed {
        for &rank in &ranks[1..] {
            stage.world().slow(rank, ranks[0], 10);
        }
    }
    let outcome = Mutex::new(None);
    let most = Mutex::new(Most::new());
    std::thread::scope(|scope| {
        for &rank in &ranks {
            let (stage, most, outcome) = (&stage, &most, &outcome);
            scope.spawn(move || {
                stage.play(rank.index(), || {
                    let sums = act(stage, rank, (policy, knobs), most);
                    if let Some(sums) = sums {
                        *outcome.lock().expect("no panic") = Some((stage.world().now_ns(), sums));
                    }
                });
            });
        }
    });
    assert_eq!(stage.fault(), None, "{load:?} {policy} seed {seed}");
    ranks.iter().for_each(|&rank| drop(stage.leave(rank)));
    let (virtual_ns, sums) = outcome.into_inner().expect("no panic").expect("rank 0 ended");
    Outcome { virtual_ns, sums, most: most.into_inner().expect("no panic") }
}

/// One node's part; rank 0 gives what all rows have come to.
fn act(
    stage: &Arc<Stage>,
    rank: Rank,
    (policy, knobs): (Policy, Knobs),
    most: &Mutex<Most>,
) -> Option<Vec<f32>> {
    let config = NodeConfig { pin: false, policy, knobs, ..NodeConfig::with_workers(1) };
    let node = Node::simulated(config, stage.world().fabric(rank), Arc::clone(stage) as _);
    let node = Arc::new(node.expect("a node"));
    stage.enter(Arc::clone(&node));
    let spec = TableSpec::new("rows", KEYS, 1).hot((0..KEYS).step_by(4));
    let table = node.create_table(spec).expect("a table");
    let mut worker = node.worker(0).expect("a worker");
    let mut dice = Dice::new(rank.index() as u64 + 1);
    for step in 0..STEPS {
        let mut keys: Vec<u64> = (0..BATCH).map(|_| dice.next() % KEYS).collect();
        keys.sort_unstable();
        keys.dedup();
        worker.intent(&table, &keys, step..step + 2).expect("an intent");
        worker.pull(&table, &keys, &mut vec![0.0; keys.len()]).expect("a pull");
        // A ticket that is dropped is forgotten: nobody waits for what is pushed.
        let pushed = worker.add_async(&table, &keys, &vec![1.0; keys.len()]).expect("an addition");
        drop(pushed);
        worker.advance_clock().expect("a clock");
        let mut most = most.lock().expect("no panic");
        for held in node.holdings() {
            let before = most.entry(held.what).or_default();
            *before = (*before).max(held.count);
        }
    }
    worker.barrier().expect("a barrier");
    let mut sums = vec![0.0; usize::try_from(KEYS).expect("few")];
    let keys: Vec<u64> = (0..KEYS).collect();
    worker.pull(&table, &keys, &mut sums).expect("a pull");
    worker.barrier().expect("a barrier");
    (rank == Rank(0)).then_some(sums)
}

#[test]
fn a_job_pushed_to_every_limit_is_slower_and_loses_nothing_and_what_waits_stays_bounded() {
    for (seed, &policy) in (1..).zip(&Policy::ALL) {
        let calm = run(Load::Calm, policy, seed);
        let pushed = run(Load::Pushed, policy, seed);
        assert_eq!(calm.sums, pushed.sums, "{policy}: the same additions");
        let slower = pushed.virtual_ns / calm.virtual_ns.max(1);
        assert!(slower < SLOWER_MAX, "{policy}: {slower} times slower");
        // What the limits themselves allow the stage checks at every step; a job with few keys stays far below them.
        let most = |what: &str| pushed.most[what];
        let keys = usize::try_from(KEYS).expect("few");
        assert!(most("parked requests") <= keys * (NODES - 1), "{policy}: {:?}", pushed.most);
        assert!(most("unanswered requests to a peer") <= keys, "{policy}: {:?}", pushed.most);
        assert!(most("foreign entries") <= keys, "{policy}: {:?}", pushed.most);
        assert!(most("rows on the board") <= keys, "{policy}: {:?}", pushed.most);
    }
}
