//! `sterna launch`: the processes of a job on this host.
//!
//! Each process learns its place from its environment (see [`environment`]). The launcher holds the job
//! together: it forwards Ctrl-C, ends all ranks when one fails, and returns the worst exit code. A
//! rank cannot outlive it: the kernel kills the ranks when the launcher dies.

mod environment;
mod output;
mod supervise;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};

pub(crate) use environment::Job;
pub(crate) use supervise::{Stdio0, tie};

/// Start a program once per rank, with rank, size, address and token in its environment:
/// STERNA_RANK, STERNA_SIZE, STERNA_LOCAL_RANK, STERNA_LOCAL_SIZE, STERNA_ADDR, STERNA_TOKEN.
///
/// Output lines are prefixed by their rank. When a rank fails, the others have some time (--grace) to end by
/// themselves and are then stopped. The exit code is the worst of all ranks.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sterna launch -n 4 -- ./my-training --epochs 3
  sterna launch -n 2 --netns east,west --meet 10.0.0.1:7077 -- ./my-training")]
pub(crate) struct LaunchArgs {
    /// Number of processes to start.
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    nodes: u16,

    /// Print the ranks' output as it is, without a prefix.
    #[arg(long)]
    no_prefix: bool,

    /// Seconds for the other ranks to end by themselves after one has failed.
    #[arg(long, value_name = "SECONDS", default_value_t = supervise::GRACE_SECONDS)]
    grace: u64,

    /// Run each rank in a network namespace of its own, named as `ip netns` has them, in the order of the ranks (as root).
    #[arg(long, value_name = "NAMES", value_delimiter = ',', requires = "meet")]
    netns: Vec<String>,

    /// Where rank 0 listens and the others find it; a free port of 127.0.0.1 unless given.
    #[arg(long, value_name = "HOST:PORT", requires = "netns")]
    meet: Option<String>,

    /// The program and its arguments.
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// Runs the command to its end.
pub(crate) fn run(args: &LaunchArgs) -> anyhow::Result<ExitCode> {
    let [program, arguments @ ..] = args.command.as_slice() else {
        bail!("no program given: put it after `--`");
    };
    let job = match &args.meet {
        Some(meet) => Job::in_namespaces(args.nodes, meet, &args.netns),
        None => Job::on_this_host(args.nodes),
    };
    let job = job.context("preparing the job")?;
    let first = if args.no_prefix { Stdio0::Plain } else { Stdio0::Prefixed };
    supervise::run(&job, program, arguments, first, Duration::from_secs(args.grace))
}

/// Runs this same program again as the ranks of a job; rank 0 keeps the terminal.
pub(crate) fn run_self(nodes: u16, arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    let program = std::env::current_exe().context("finding this program's own file")?;
    let job = Job::on_this_host(nodes).context("preparing the job")?;
    let grace = Duration::from_secs(supervise::GRACE_SECONDS);
    supervise::run(&job, program.as_os_str(), arguments, Stdio0::Inherited, grace)
}
