//! `sterna bench`: measurements that anyone can repeat. Each prints the machine, alternates what it compares in one run, and
//! puts the physical limit beside the figure.

mod access;
mod fabric;
mod factors;
mod floor;
mod idle;
mod memory;
mod policies;
mod relocate;
mod remote;
mod replicas;
mod sampling;
mod wire;

use std::fs;
use std::process::ExitCode;

use sterna_rdma::topology::Topology;

/// Measure this machine and Sterna on it.
#[derive(Debug, clap::Args)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Pull and push by row size, batch and working set: of local rows beside bare random-row copies and additions, of rows of
    /// other processes (--nodes 2) beside a bare TCP ping-pong.
    Access(access::AccessArgs),
    /// Samples by scheme and distribution: keys per second with their rows, beside a pull of as many keys.
    Sampling(sampling::SamplingArgs),
    /// CPU time of a job that has nothing to do.
    Idle(idle::IdleArgs),
    /// Resident memory of a table: what a key costs besides its row.
    Memory(memory::MemoryArgs),
    /// The fabric alone: READs and link records by size and depth over every way of reaching a peer, with histograms.
    Fabric(fabric::FabricArgs),
    /// A matrix factorisation through the public API beside its arithmetic alone: ratings per second by rank.
    Factors(factors::FactorsArgs),
    /// A task under every policy at several numbers of nodes, on this host and over networks of limited rates, beside one node.
    Policies(Box<policies::PoliciesArgs>),
    /// From the request for a row until it is live here: single rows, from idle, batches; beside a bare ping-pong.
    Relocate(relocate::RelocateArgs),
    /// Replicas: what they cost when nobody touches them and when some change, and how old they are.
    Replicas(replicas::ReplicasArgs),
    /// What a network port allows at most: rows per second by size, from the arithmetic of its packets.
    Wire(wire::WireArgs),
}

/// Runs the measurement.
pub(crate) fn run(args: &BenchArgs) -> anyhow::Result<ExitCode> {
    match &args.what {
        What::Access(args) => access::run(args),
        What::Sampling(args) => sampling::run(args),
        What::Idle(args) => idle::run(args),
        What::Memory(args) => memory::run(args),
        What::Fabric(args) => fabric::run(args),
        What::Factors(args) => factors::run(args),
        What::Policies(args) => policies::run(args),
        What::Relocate(args) => relocate::run(args),
        What::Replicas(args) => replicas::run(args),
        What::Wire(args) => wire::run(args),
    }
}

/// The machine in one line.
pub(crate) fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, model)| model);
    format!("{model}, Linux {}, {}", read("/proc/sys/kernel/osrelease").trim(), Topology::read())
}
