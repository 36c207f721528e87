//! What an intent costs per key: announcing it, beginning it and ending it, for rows that are here, in a job of two nodes over shared
//! memory within this process.
//!
//! `cargo run --release -p sterna --example intent_cost`

use std::net::TcpListener;
use std::time::Instant;

use sterna::{
    Act, FabricConfig, Knobs, Node, NodeConfig, ProviderChoice, Rank, Result, Table, TableSpec,
    Worker,
};

const KEYS: u64 = 1_000_000;
const BATCH: usize = 4096;
const BATCHES: u64 = 300;
const REPEATS: usize = 7;

/// Keys of a table by chance: multiples of an odd number modulo its size.
#[allow(clippy::cast_possible_truncation, reason = "below the number of keys")]
fn keys(batch: u64, home: &[u64]) -> Vec<u64> {
    let len = home.len() as u64;
    let at = |i: u64| ((batch * BATCH as u64 + i) * 7_368_787 % len) as usize;
    (0..BATCH as u64).map(|i| home[at(i)]).collect()
}

/// Nanoseconds per key of calling `intent`, and of the clock that begins or ends what was announced.
#[allow(clippy::cast_precision_loss, reason = "counts below 2^53")]
fn measure(worker: &mut Worker, table: &Table, batches: &[Vec<u64>], act: Act) -> Result<[f64; 3]> {
    let per_key = 1.0 / (batches.len() * BATCH) as f64;
    let now = worker.clock().0;
    // Far enough that what waits for its time waits.
    let start = now + if act == Act::Immediate { 0 } else { 10_000 };
    let begun = Instant::now();
    for keys in batches {
        worker.intent(table, keys, start..start + 1)?;
    }
    let announced = begun.elapsed().as_nanos() as f64;
    if act == Act::Learned {
        // Never acted on; forgotten with the worker.
        return Ok([announced * per_key, 0.0, 0.0]);
    }
    let begun = Instant::now();
    worker.advance_clock()?;
    let ended = begun.elapsed().as_nanos() as f64;
    Ok([announced * per_key, ended * per_key, (announced + ended) * per_key])
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn run(node: &Node, act: Act) -> Result<()> {
    let table = node.create_table(TableSpec::new("t", KEYS, 16))?;
    let mut worker = node.worker(0)?;
    worker.barrier()?;
    if node.rank() == Rank(0) {
        let home: Vec<u64> = (0..KEYS).filter(|&key| table.home(key) == Rank(0)).collect();
        let batches: Vec<Vec<u64>> = (0..BATCHES).map(|batch| keys(batch, &home)).collect();
        let mut found = Vec::new();
        for _ in 0..REPEATS {
            found.push(measure(&mut worker, &table, &batches, act)?);
        }
        let of = |at: usize| median(found.iter().map(|one| one[at]).collect());
        match act {
            Act::Immediate => println!(
                "begun at once: {:.1} ns per key to announce and begin, {:.1} to end, {:.1} in all",
                of(0),
                of(1),
                of(2)
            ),
            Act::Learned => println!("for later: {:.1} ns per key to announce", of(0)),
        }
    }
    worker.barrier()
}

fn job(act: Act) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let mut listener = Some(listener);
    std::thread::scope(|scope| {
        let nodes: Vec<_> = [Rank(0), Rank(1)]
            .map(|rank| {
                let mut fabric = FabricConfig::new(rank, 2, Some(&address), &"0".repeat(32));
                (fabric.choice, fabric.listener) = (ProviderChoice::Shm, listener.take());
                scope.spawn(move || {
                    let mut knobs = Knobs::default();
                    knobs.act = act;
                    let config = NodeConfig { knobs, pin: false, ..NodeConfig::default() };
                    let node = Node::join(config, fabric)?;
                    run(&node, act)?;
                    node.shutdown()
                })
            })
            .into_iter()
            .collect();
        nodes.into_iter().try_for_each(|node| node.join().expect("no panic"))
    })
}

fn main() -> Result<()> {
    job(Act::Immediate)?;
    job(Act::Learned)
}
