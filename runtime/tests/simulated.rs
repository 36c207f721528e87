//! Whole jobs over the simulated network: thousands of seeds, each a schedule of its own.
//!
//! A failure prints its seed; `cargo run --release -p sterna --example simulate -- --seed N` runs it alone, and
//! `-- --seeds N` runs as many as a night has room for.

#[allow(dead_code, unreachable_pub, clippy::pedantic, reason = "shared with the example")]
mod simulation;

use simulation::job::{Plan, run};

/// Seeds of this test; the example runs any number.
const SEEDS: u64 = 10_000;

#[test]
fn invariants_hold_under_every_schedule() {
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    std::thread::scope(|scope| {
        for first in 0..threads {
            scope.spawn(move || {
                for seed in (first..SEEDS).step_by(usize::try_from(threads).expect("few")) {
                    if let Err(fault) = run(&Plan::of_seed(seed)) {
                        panic!("seed {seed}: {fault}");
                    }
                }
            });
        }
    });
}

#[test]
fn one_seed_is_one_history() {
    for seed in [1, 77, 4711] {
        let plan = Plan::of_seed(seed);
        assert_eq!(run(&plan), run(&plan), "seed {seed}");
    }
}
