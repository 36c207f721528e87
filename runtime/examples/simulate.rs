//! Runs whole jobs over the simulated network, seed after seed, until one fails or the count is reached.
//!
//! `cargo run --release -p sterna --example simulate -- --seeds 1000000 [--first 0] [--keep-going]`, or `--seed N [--trace]` for one
//! alone, `--seed N --reduce` for the smallest run that fails as it does, which is printed as a `--plan`.

#[path = "../tests/simulation/mod.rs"]
#[allow(dead_code, unreachable_pub, clippy::pedantic, reason = "shared with the tests")]
mod simulation;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use simulation::job::{TRACE, run};
use simulation::plan::Plan;
use simulation::reduce::{Reduced, reduce};

fn word(name: &str) -> Option<String> {
    std::env::args().skip_while(|arg| arg != name).nth(1)
}

fn option(name: &str) -> Option<u64> {
    word(name)?.parse().ok()
}

/// Runs one plan; with `--reduce`, looks for a smaller one if it fails, and shows that one call by call.
fn alone(plan: &Plan) {
    println!("{plan}");
    let fault = match run(plan) {
        Ok(digest) => return println!("holds, history {digest:016x}"),
        Err(fault) => fault,
    };
    println!("{fault}");
    if flag("--reduce") {
        let Reduced { plan, fault, runs } = reduce(plan, &fault);
        println!("reduced by {runs} runs to\n\n  simulate --plan '{plan}' --trace\n");
        TRACE.store(true, Ordering::Relaxed);
        let again = run(&plan);
        println!("{}", again.err().unwrap_or(fault));
    }
    std::process::exit(1);
}

fn flag(name: &str) -> bool {
    std::env::args().any(|arg| arg == name)
}

fn main() {
    // Threads of a failed run panic on purpose, and say what the run says.
    std::panic::set_hook(Box::new(|_| {}));
    if let Some(seed) = option("--seed") {
        TRACE.store(flag("--trace"), Ordering::Relaxed);
        return alone(&Plan::of_seed(seed));
    }
    if let Some(text) = word("--plan") {
        TRACE.store(flag("--trace"), Ordering::Relaxed);
        return match text.parse() {
            Ok(plan) => alone(&plan),
            Err(why) => {
                println!("--plan: {why}");
                std::process::exit(2);
            }
        };
    }
    let (first, count) = (option("--first").unwrap_or(0), option("--seeds").unwrap_or(10_000));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (next, failures) = (AtomicU64::new(first), AtomicU64::new(0));
    let failures_max = if flag("--keep-going") { u64::MAX } else { 1 };
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while failures.load(Ordering::Relaxed) < failures_max {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        return;
                    }
                    if let Err(fault) = run(&Plan::of_seed(seed)) {
                        failures.fetch_add(1, Ordering::Relaxed);
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
    let failures = failures.into_inner();
    if failures > 0 {
        println!("{failures} seeds fail");
        std::process::exit(1);
    }
    println!("{count} seeds hold, {:.1} s", started.elapsed().as_secs_f64());
}
