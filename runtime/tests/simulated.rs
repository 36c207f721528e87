//! Whole jobs over the simulated network: thousands of seeds, each a schedule of its own.
//!
//! A failure prints its seed; `cargo run --release -p sterna --example simulate -- --seed N` runs it alone, `--reduce` beside it
//! looks for a smaller one, and `-- --seeds N` runs as many as a night has room for.

#[allow(dead_code, unreachable_pub, clippy::pedantic, reason = "shared with the example")]
mod simulation;

use simulation::job::run;
use simulation::plan::Plan;
use simulation::reduce::reduce;
use simulation::tap::Sabotage;
use sterna::Policy;

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

/// The first plan that a sabotage breaks, and what is said of it.
fn broken(sabotage: Sabotage, policy: Policy) -> (Plan, String) {
    let mut plans = (0..400).map(|seed| Plan { sabotage, policy, ..Plan::of_seed(seed) });
    let found = plans.find_map(|plan| run(&plan).err().map(|fault| (plan, fault)));
    found.unwrap_or_else(|| panic!("{sabotage:?} goes unnoticed"))
}

#[test]
fn each_checker_notices_when_its_rule_is_broken() {
    for (sabotage, policy, invariants) in [
        (Sabotage::ShareAsMove, Policy::Replication, &["I1"][..]),
        (Sabotage::EmptyUpdate, Policy::Classic, &["I2", "I8"]),
        (Sabotage::ReusedSlot, Policy::Relocation, &["I3"]),
        (Sabotage::SameEpoch, Policy::Relocation, &["I4"]),
        (Sabotage::FalseAck, Policy::Relocation, &["I5"]),
        (Sabotage::LostGrant, Policy::Adaptive, &["I6"]),
        (Sabotage::Hoard, Policy::Adaptive, &["I7"]),
        (Sabotage::OldRead, Policy::Classic, &["I8", "I10"]),
        (Sabotage::NoBound, Policy::Ssp { staleness: 0 }, &["I9"]),
        (Sabotage::Deaf, Policy::Adaptive, &["I11"]),
    ] {
        let (plan, fault) = broken(sabotage, policy);
        let named = invariants.iter().any(|name| fault.starts_with(&format!("{name}: ")));
        assert!(named, "{sabotage:?} is called {fault} in {plan:?}");
    }
}

#[test]
fn a_failure_is_reduced_to_a_small_one_of_the_same_kind() {
    let (plan, fault) = broken(Sabotage::EmptyUpdate, Policy::Relocation);
    let reduced = reduce(&plan, &fault);
    let (small, what) = (&reduced.plan, &reduced.fault);
    assert_eq!(what.split(':').next(), fault.split(':').next());
    assert!(small.nodes == 2 && small.workers == 1 && small.keys == 1, "{small:?}");
    assert!(small.calls <= 3 && small.stalls_per_million == 0, "{small:?}");
    assert_eq!(run(small).as_ref(), Err(what), "it is what its plan shows");
    let again: Plan = small.to_string().parse().expect("what is printed can be given back");
    assert_eq!(again.to_string(), small.to_string());
}
