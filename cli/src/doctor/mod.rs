//! `sterna doctor`: looks at everything that a fast fabric needs, and says of each thing that is not as it should be why that
//! matters and what exactly to do.
//!
//! A check passes, warns or fails ([`report`]). What is read from files is read below a root ([`system`]), so that tests show each check
//! other machines. On a host without RDMA nothing is wrong unless `--fabric verbs` asks for it.

mod container;
mod device;
mod health;
mod laptop;
mod library;
mod limits;
mod matrix;
mod pages;
mod pairs;
mod peers;
mod placement;
mod port;
mod report;
mod system;
mod trial;

use std::process::ExitCode;

use sterna_rdma::topology::Topology;
use sterna_rdma::verbs;
use sterna_rdma::{FabricConfig, ProviderChoice};

use crate::reach::ReachArgs;
use health::Counters;
use report::{Check, Group, Report, text};
use system::System;

/// Check this host, and with --peers the network between hosts, for what Sterna needs to be fast.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit code: 0 all in order, 3 warnings, 4 failures (1 doctor itself failed, 2 wrong arguments).\n\nExamples:\n  \
    sterna doctor                                  this host, as it is\n  \
    sterna doctor --fabric verbs --memory 64       a job that must have RDMA, with 64 GiB of rows on this host\n  \
    sterna doctor --peers node2,node3              and every pair of these hosts, started by ssh\n  \
    srun -N 4 sterna doctor                        the same, started by Slurm (or mpirun, torchrun, sterna launch)\n  \
    sterna doctor --json | jq '.groups[].checks[] | select(.level != \"PASS\")'"
)]
pub(crate) struct DoctorArgs {
    /// GiB of rows that a node is to hold.
    #[arg(long, value_name = "GIB", default_value_t = 1.0, help_heading = "Plan")]
    memory: f64,

    /// Threads of a node that train; this host's cores if not given.
    #[arg(long, value_name = "N", help_heading = "Plan")]
    workers: Option<u64>,

    /// Nodes of the job.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=4096), help_heading = "Plan")]
    nodes: u64,

    #[command(flatten)]
    reach: ReachArgs,

    /// Other hosts to test every pair with; they need the same program and are reached by --rsh.
    #[arg(long, value_delimiter = ',', value_name = "HOSTS", help_heading = "Pairs")]
    peers: Vec<String>,

    /// The command that runs another on a host: its words, then the host, then the command.
    #[arg(
        long,
        value_name = "COMMAND",
        default_value = "ssh -o BatchMode=yes",
        help_heading = "Pairs"
    )]
    rsh: String,

    /// This program's path on the other hosts; the same as here if not given.
    #[arg(long, value_name = "PATH", help_heading = "Pairs")]
    remote_program: Option<String>,

    /// This host's address for the others; found by the route to the first of them if not given.
    #[arg(long, value_name = "IP", help_heading = "Pairs")]
    address: Option<std::net::IpAddr>,

    /// Print one JSON object instead of text.
    #[arg(long, help_heading = "Output")]
    json: bool,

    /// Leave the self-test out.
    #[arg(long, help_heading = "Output")]
    no_self_test: bool,

    /// Be one of the peers of another doctor; the job's token comes by the standard input.
    #[arg(long, hide = true)]
    member: bool,
}

/// What the host is checked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) memory_bytes: u64,
    pub(crate) workers: u64,
    pub(crate) nodes: u64,
    /// Whether this host has an RDMA device.
    pub(crate) has_device: bool,
    /// Whether the job is to use one.
    pub(crate) wants_verbs: bool,
}

/// Checks and prints.
pub(crate) fn run(args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    if args.member {
        pairs::member(&args.reach)?;
        return Ok(ExitCode::SUCCESS);
    }
    let config = config(args)?;
    if config.size > 1 && config.rank.index() > 0 {
        // Each host's own checks are those of a doctor of its own; here it only answers rank 0.
        pairs::serve(config)?;
        return Ok(ExitCode::SUCCESS);
    }
    let system = System::this();
    let host = system.text("proc/sys/kernel/hostname").unwrap_or_else(|| "unknown".to_owned());
    let mut printer = Printer { report: Report::new(host, system.kernel()), json: args.json };
    if !args.json {
        println!("{}", printer.report.title());
    }
    let before = Counters::read(&system);
    local(args, &config, &system, &mut printer)?;
    if config.size > 1 {
        printer.add("pairs", pairs::of_job(config));
    } else if !args.peers.is_empty() {
        printer.add("pairs", peers::check(args, &config));
    }
    printer.add("network", before.check(&Counters::read(&system)));
    printer.end()
}

/// The job of the environment, if there is one, and what a job would be given by environment and options.
fn config(args: &DoctorArgs) -> anyhow::Result<FabricConfig> {
    let mut config = FabricConfig::from_env()?;
    if config.size == 1 {
        config.rdma = FabricConfig::rdma_from_env()?;
        if let Some(name) = std::env::var("STERNA_FABRIC").ok().filter(|name| !name.is_empty()) {
            config.choice = ProviderChoice::parse(&name)?;
        }
    }
    args.reach.apply(&mut config)?;
    Ok(config)
}

/// All that concerns this host alone.
fn local(
    args: &DoctorArgs,
    config: &FabricConfig,
    system: &System,
    printer: &mut Printer,
) -> anyhow::Result<()> {
    let topology = Topology::read();
    let devices = verbs::devices();
    let entries = devices.as_deref().unwrap_or_default();
    let plan = Plan {
        has_device: !entries.is_empty(),
        wants_verbs: config.choice == ProviderChoice::Verbs,
        ..plan(args, &topology)?
    };
    printer.add("library", library::check(system, &plan, devices.as_ref().err()));
    if entries.is_empty() {
        printer.add("without a device", laptop::check(system));
    } else {
        printer.add("devices", device::check(system, &plan, entries, verbs::fork_safety().ok()));
        let mut ports = port::check(system, entries);
        let chosen = verbs::chosen(&config.rdma, None);
        ports.push(choice(&plan, chosen.map(|chosen| chosen.description)));
        printer.add("ports", ports);
    }
    printer.add("container", container::check(system, &|name| std::env::var(name).ok()));
    printer.add("limits", limits::check(system, &plan));
    printer.add("memory", pages::check(system, &plan));
    printer.add("placement", placement::check(system, &plan, &topology));
    if !args.no_self_test {
        let opened = || entries.iter().filter_map(|entry| entry.device.as_ref().ok());
        let hardware = (opened().count() > 0).then(|| opened().any(|device| !device.is_software));
        printer.add("self-test", trial::check(&plan, config, hardware));
    }
    Ok(())
}

/// What a job would use, which is no matter of the plan unless it needs RDMA.
fn choice(plan: &Plan, chosen: Result<String, verbs::VerbsError>) -> Check {
    let name = "choice";
    match chosen {
        Ok(description) => {
            Check::pass(name, format!("{description} (others: --device, --port, --gid)"))
        }
        Err(error) => {
            let fix = "see the ports above; without --device, --port, --gid and STERNA_DEVICE, STERNA_DEVICE_PORT, STERNA_GID the best is taken";
            let text = error.to_string();
            if plan.wants_verbs {
                Check::fail(name, text, fix)
            } else {
                Check::warn(name, text, fix)
            }
        }
    }
}

fn plan(args: &DoctorArgs, topology: &Topology) -> anyhow::Result<Plan> {
    anyhow::ensure!(
        args.memory.is_finite() && (0.0..=1e9).contains(&args.memory),
        "--memory {}: so many GiB cannot be planned",
        args.memory
    );
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above")]
    let memory_bytes = (args.memory * f64::from(1 << 30)) as u64;
    let cores = u64::try_from(topology.parallelism().min(topology.cores.len()))?;
    Ok(Plan {
        memory_bytes,
        workers: args.workers.unwrap_or(cores.max(1)),
        nodes: args.nodes,
        has_device: false,
        wants_verbs: false,
    })
}

/// Prints each subject when it is done, or all at the end as JSON.
struct Printer {
    report: Report,
    json: bool,
}

impl Printer {
    fn add(&mut self, name: &'static str, checks: Vec<Check>) {
        if !self.json && !checks.is_empty() {
            print!("\n{}", text(&Group { name, checks: checks.clone() }));
        }
        self.report.add(name, checks);
    }

    fn end(self) -> anyhow::Result<ExitCode> {
        if self.json {
            println!("{}", serde_json::to_string_pretty(&self.report)?);
        } else {
            println!("\n{}", self.report.verdict());
        }
        Ok(ExitCode::from(self.report.level.exit_code()))
    }
}

fn mebibytes(bytes: u64) -> u64 {
    bytes >> 20
}

#[cfg(test)]
impl Plan {
    /// A small job on a host without a device.
    pub(crate) fn example() -> Self {
        Self { memory_bytes: 1 << 30, workers: 2, nodes: 2, has_device: false, wants_verbs: false }
    }
}

#[cfg(test)]
mod tests {
    use super::report::Level;
    use super::*;

    #[test]
    fn a_choice_that_cannot_be_made_fails_only_if_rdma_is_wanted() {
        let error = || Err(verbs::VerbsError::Choice("there is no RDMA device mlx5_9".into()));
        let wanting = Plan { wants_verbs: true, ..Plan::example() };
        assert_eq!(choice(&wanting, error()).level, Level::Fail);
        let check = choice(&Plan::example(), error());
        assert_eq!(check.level, Level::Warn);
        assert!(check.reason.contains("mlx5_9"), "{check:?}");
        assert_eq!(choice(&wanting, Ok("rxe0".into())).level, Level::Pass);
    }
}
