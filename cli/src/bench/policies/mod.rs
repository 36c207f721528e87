//! `sterna bench policies`: one task under every policy, on one node and on several, over this host's memory or a network of given rates.
//!
//! Each measurement is a job of its own, started by `sterna launch`, which reports to a file. Jobs alternate: every round runs each of
//! them once, every other round backwards, so that what else happens on the machine meets all of them.

mod network;
mod outcome;
mod plot;
mod run;

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use sterna::Policy;

use network::{Network, Rate};
use outcome::Measured;
use run::Runner;

/// Exit code of a command that Ctrl-C stopped, as the shell has it.
const STOPPED: u8 = 130;

/// Options of `train` that this command gives itself.
const OWN: [&str; 8] = [
    "--nodes",
    "--workers",
    "--policy",
    "--seed",
    "--report",
    "--fabric",
    "--checkpoint",
    "--help-knobs",
];

/// Train a task under every policy, alternating, and compare time, quality and what the manager did.
///
/// Beside several nodes stands one node with as many workers: if that is faster, there is no reason for more nodes, and the
/// command says so. Round r trains with seed r. A time per epoch is the median over epochs and rounds.
///
/// With --rate each node gets a network namespace of its own, and a link to the others whose rate a token bucket limits both ways
/// (`ip netns`, `tc qdisc tbf`). That needs root and iproute2. The namespaces go away with the command.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sterna bench policies                                      WN18RR, 1, 2 and 4 nodes of this host
  sterna bench policies --nodes 2 --policies adaptive,classic --rounds 5 --json out.json
  sterna bench policies --rate 1gbit,10gbit --svg policies.svg
  sterna bench policies --nodes 4 -- mf --data ml-1m --epochs 5 --valid-every 1
  taskset -c 0,1 sterna bench policies --nodes 2             two nodes and one on the same two cores

Terms of the table:
  of one    time per epoch divided by that of one node with as many workers
  local     share of the accesses of training whose row was at the node, as main copy or replica
  moved     main copies that went to another node; shared: replicas set up; refreshed: rows read anew
  manager   CPU time of the engine threads, as a share of theirs and the workers'")]
pub(crate) struct PoliciesArgs {
    /// Numbers of nodes.
    #[arg(long, value_delimiter = ',', default_value = "1,2,4", value_name = "LIST", value_parser = clap::value_parser!(u16).range(1..=64))]
    nodes: Vec<u16>,

    /// Threads of each node that train.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: u16,

    /// Policies; all unless given.
    #[arg(long, value_delimiter = ',', default_values_t = Policy::ALL, value_name = "LIST")]
    policies: Vec<Policy>,

    /// How often everything is run.
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,

    /// How nodes of this host reach each other where there is no --rate: auto, shm or tcp.
    #[arg(long, default_value = "auto", value_parser = ["auto", "shm", "tcp"])]
    fabric: String,

    /// Network rates, such as 1gbit or 200mbit; `host` is this host without a network, which is also what is measured if none is given.
    #[arg(long, value_delimiter = ',', default_value = "host", value_name = "LIST")]
    rate: Vec<Rate>,

    /// The longest that one job may take.
    #[arg(long, default_value_t = 900, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,

    /// Write all runs as JSON to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Draw time per epoch and quality over time as SVG to this file.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,

    /// What to train: a task and its options, as `sterna train` takes them.
    #[arg(last = true, value_name = "TASK", default_values = ["kge", "--epochs", "3", "--valid-every", "1"])]
    task: Vec<OsString>,
}

/// A job to run in each round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Plan {
    /// None for a job of one node.
    rate: Option<Rate>,
    nodes: u16,
    workers: u16,
    policy: Policy,
}

/// Measures and prints.
pub(crate) fn run(args: &PoliciesArgs) -> anyhow::Result<ExitCode> {
    check(args)?;
    let plans = plans(args);
    let networks = networks(args, &plans)?;
    let runner = Runner::new(args)?;
    let mut measured = Measured::new(args, &plans);
    let bar = ProgressBar::new(u64::from(args.rounds) * plans.len() as u64);
    let style = ProgressStyle::with_template("[{bar:30}] {pos}/{len} {msg} ({eta} left)");
    bar.set_style(style.expect("the template is right").progress_chars("=> "));
    bar.enable_steady_tick(std::time::Duration::from_millis(500));
    'rounds: for round in 1..=args.rounds {
        let turn: Vec<usize> = if round % 2 == 1 {
            (0..plans.len()).collect()
        } else {
            (0..plans.len()).rev().collect()
        };
        for index in turn {
            let plan = &plans[index];
            let name = format!("round {round}: {plan}");
            bar.set_message(name.clone());
            let network = networks.iter().find(|network| Some(network.rate()) == plan.rate);
            match runner.run(args, plan, network, round)? {
                Some(report) => measured.add(index, report),
                None => break 'rounds,
            }
            if bar.is_hidden() {
                eprintln!("{name}: {}", measured.latest(index));
            }
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    drop(networks);
    print!("{measured}");
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&measured)?;
        fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    if let Some(path) = &args.svg {
        fs::write(path, plot::svg(&measured))
            .with_context(|| format!("writing {}", path.display()))?;
    }
    if runner.interrupted() {
        eprintln!("stopped; the table shows the jobs that were complete");
        return Ok(ExitCode::from(STOPPED));
    }
    Ok(ExitCode::SUCCESS)
}

/// One node with every number of workers that is compared, then every policy on several.
fn plans(args: &PoliciesArgs) -> Vec<Plan> {
    let mut plans: Vec<Plan> = Vec::new();
    let mut add = |plan: Plan| {
        if !plans.contains(&plan) {
            plans.push(plan);
        }
    };
    for &nodes in &args.nodes {
        let policy = Policy::default();
        add(Plan { rate: None, nodes: 1, workers: nodes * args.workers, policy });
    }
    for &rate in &args.rate {
        for &nodes in args.nodes.iter().filter(|&&nodes| nodes > 1) {
            for &policy in &args.policies {
                add(Plan { rate: Some(rate), nodes, workers: args.workers, policy });
            }
        }
    }
    plans
}

/// A network for each rate, with as many nodes as the largest job has.
fn networks(args: &PoliciesArgs, plans: &[Plan]) -> anyhow::Result<Vec<Network>> {
    let nodes = plans.iter().map(|plan| plan.nodes).max().unwrap_or(1);
    let mut networks = Vec::new();
    for &rate in args.rate.iter().filter(|&&rate| rate != Rate::Host && nodes > 1) {
        if networks.is_empty() {
            network::check()?;
        }
        networks.push(Network::create(rate, nodes)?);
    }
    Ok(networks)
}

fn check(args: &PoliciesArgs) -> anyhow::Result<()> {
    for given in &args.task {
        let given = given.to_string_lossy();
        let name = given.split('=').next().unwrap_or_default();
        ensure!(
            !OWN.contains(&name),
            "{name} after `--`: this command sets it for each job; see `sterna bench policies --help`"
        );
    }
    let config = sterna::FabricConfig::from_env()?;
    ensure!(config.size == 1, "this command starts jobs itself: run it without a launcher");
    Ok(())
}

impl std::fmt::Display for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.rate {
            None => write!(f, "1 node x {} workers", self.workers),
            Some(rate) => {
                write!(f, "{}, {} nodes x {}, {}", rate, self.nodes, self.workers, self.policy)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Command {
        #[command(flatten)]
        args: PoliciesArgs,
    }

    fn args(of: &[&str]) -> PoliciesArgs {
        Command::try_parse_from([&["sterna"], of].concat()).expect("valid").args
    }

    #[test]
    fn one_node_stands_beside_every_number_of_workers_once() {
        let given = args(&["--nodes", "1,2,4", "--policies", "classic,adaptive"]);
        let plans = plans(&given);
        let single: Vec<u16> =
            plans.iter().filter(|plan| plan.nodes == 1).map(|plan| plan.workers).collect();
        assert_eq!(single, [1, 2, 4]);
        assert_eq!(plans.len(), 3 + 2 * 2);
        assert_eq!(args(&[]).policies.len(), Policy::ALL.len());
    }

    #[test]
    fn options_that_differ_between_jobs_are_refused_after_the_task() {
        let refused = check(&args(&["--", "kge", "--policy=classic"])).expect_err("refused");
        assert!(refused.to_string().contains("--policy"), "{refused}");
        check(&args(&["--", "kge", "--epochs", "2"])).expect("fine");
    }
}
