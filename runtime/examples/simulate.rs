//! Runs whole jobs over the simulated network, seed after seed, until one fails or the count is reached.
//!
//! `cargo run --release -p sterna --example simulate -- --seeds 1000000 [--first 0]`, or `--seed N [--trace]` for one alone.

#[path = "../tests/simulation/mod.rs"]
#[allow(dead_code, unreachable_pub, clippy::pedantic, reason = "shared with the tests")]
mod simulation;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use simulation::job::{Plan, TRACE, run};

fn option(name: &str) -> Option<u64> {
    let mut args = std::env::args().skip_while(|arg| arg != name);
    args.next()?;
    args.next()?.parse().ok()
}

fn main() {
    if let Some(seed) = option("--seed") {
        TRACE.store(std::env::args().any(|arg| arg == "--trace"), Ordering::Relaxed);
        let plan = Plan::of_seed(seed);
        println!("{plan:?}");
        match run(&plan) {
            Ok(digest) => println!("seed {seed}: holds, history {digest:016x}"),
            Err(fault) => {
                println!("seed {seed}: {fault}");
                std::process::exit(1);
            }
        }
        return;
    }
    let (first, count) = (option("--first").unwrap_or(0), option("--seeds").unwrap_or(10_000));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (next, failed) = (AtomicU64::new(first), AtomicBool::new(false));
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !failed.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        return;
                    }
                    if let Err(fault) = run(&Plan::of_seed(seed)) {
                        failed.store(true, Ordering::Relaxed);
                        println!("seed {seed}: {fault}");
                    }
                    if (seed + 1) % 10_000 == 0 {
                        println!(
                            "{} seeds in {:.0} s",
                            seed + 1 - first,
                            started.elapsed().as_secs_f64()
                        );
                    }
                }
            });
        }
    });
    if failed.load(Ordering::Relaxed) {
        std::process::exit(1);
    }
    println!("{count} seeds hold, {:.1} s", started.elapsed().as_secs_f64());
}
