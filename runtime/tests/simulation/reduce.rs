//! Makes a failing run small: fewer nodes, workers, keys and calls, kinds of calls taken away, no stalls, plain knobs.
//!
//! A plan that is smaller in one way is tried under its own seed and some others; if it fails in the same way, it is the plan from
//! then on (delta debugging over plans, not over schedules: a seed's schedule depends on everything in its plan). What is left is run
//! once more with each call printed.

use super::job::run;
use super::plan::{KINDS, Plan, plain_knobs};

/// Seeds that are tried for each smaller plan.
const TRIES: u64 = 60;

/// A small failing plan, and how it fails.
#[derive(Debug)]
pub struct Reduced {
    pub plan: Plan,
    pub fault: String,
    /// Runs that this took.
    pub runs: usize,
}

/// What kind of failure this is: the invariant's number, or the first words.
fn kind(fault: &str) -> &str {
    fault.split(':').next().unwrap_or(fault)
}

/// Looks for a smaller plan that fails as `plan` does by `fault`.
pub fn reduce(plan: &Plan, fault: &str) -> Reduced {
    let mut best = Reduced { plan: plan.clone(), fault: fault.to_owned(), runs: 0 };
    loop {
        let smaller = smaller(&best.plan);
        let Some((plan, fault)) =
            smaller.into_iter().find_map(|plan| fails(&plan, kind(fault), &mut best.runs))
        else {
            return best;
        };
        (best.plan, best.fault) = (plan, fault);
    }
}

/// Runs a plan under some seeds; the first that fails in this way.
fn fails(plan: &Plan, wanted: &str, runs: &mut usize) -> Option<(Plan, String)> {
    let seeds = std::iter::once(plan.seed).chain(0..TRIES);
    seeds.into_iter().find_map(|seed| {
        *runs += 1;
        let plan = Plan { seed, ..plan.clone() };
        let fault = run(&plan).err().filter(|fault| kind(fault) == wanted)?;
        Some((plan, fault))
    })
}

/// Plans with one thing less, the greatest steps first.
fn smaller(plan: &Plan) -> Vec<Plan> {
    let mut plans = Vec::new();
    let mut offer = |made: Plan| {
        if made.to_string() != plan.to_string() {
            plans.push(made);
        }
    };
    for calls in [1, plan.calls / 4, plan.calls / 2, plan.calls - 1] {
        if (1..plan.calls).contains(&calls) {
            offer(Plan { calls, ..plan.clone() });
        }
    }
    for nodes in [2, plan.nodes - 1] {
        if (2..plan.nodes).contains(&nodes) {
            offer(Plan { nodes, ..plan.clone() });
        }
    }
    for workers in [1, plan.workers - 1] {
        if (1..plan.workers).contains(&workers) {
            offer(Plan { workers, ..plan.clone() });
        }
    }
    for keys in [1, plan.keys / 2, plan.keys - 1] {
        if (1..plan.keys).contains(&keys) {
            offer(Plan { keys, ..plan.clone() });
        }
    }
    offer(Plan { stalls_per_million: 0, ..plan.clone() });
    offer(Plan { narrow: false, ..plan.clone() });
    offer(Plan { device: false, ..plan.clone() });
    offer(Plan { knobs: plain_knobs(), ..plan.clone() });
    for kind in 0..KINDS.len() {
        let kinds = plan.kinds & !(1 << kind);
        if kinds != 0 {
            offer(Plan { kinds, ..plan.clone() });
        }
    }
    plans
}
