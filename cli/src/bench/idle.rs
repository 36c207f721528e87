//! `sterna bench idle`: what a job costs that has nothing to do.
//!
//! All workers but one wait in a barrier, the last one sleeps; the CPU time that each process used meanwhile is shown.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use sterna::{FabricConfig, Node, NodeConfig, ProviderChoice, TableSpec};

/// CPU time of nodes that wait.
#[derive(Debug, clap::Args)]
pub(crate) struct IdleArgs {
    /// Start so many nodes on this host.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    nodes: u16,

    /// How nodes reach each other: auto, shm or tcp.
    #[arg(long, default_value = "auto", value_parser = ["auto", "shm", "tcp"])]
    fabric: String,

    /// How long to be idle.
    #[arg(long, default_value_t = 10, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
}

/// Measures and prints.
pub(crate) fn run(args: &IdleArgs) -> anyhow::Result<ExitCode> {
    let mut fabric = FabricConfig::from_env()?;
    if args.nodes > 1 && fabric.size == 1 {
        let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
        return crate::launch::run_self(args.nodes, &arguments);
    }
    fabric.choice = ProviderChoice::parse(&args.fabric)?;
    let node = Node::join(NodeConfig::with_workers(1).with_env()?, fabric)?;
    // With a table and rows that have been used, as in a job that waits for its slowest node.
    let table = node.create_table(TableSpec::new("rows", 10_000, 16))?;
    let mut worker = node.worker(0)?;
    let keys: Vec<u64> = (0..10_000).collect();
    worker.add(&table, &keys, &vec![1.0; 160_000])?;
    worker.barrier()?;
    let before = cpu_seconds(&node);
    if node.rank().index() == 0 {
        println!("{}", node.describe());
        std::thread::sleep(Duration::from_secs(args.seconds));
    }
    worker.barrier()?;
    let mut used = vec![0.0; node.size()];
    used[node.rank().index()] = cpu_seconds(&node) - before;
    worker.all_reduce_sum(&mut used)?;
    if node.rank().index() == 0 {
        #[allow(clippy::cast_precision_loss, reason = "at most an hour")]
        let seconds = args.seconds as f64;
        for (rank, used) in used.iter().enumerate() {
            let (ms, share) = (used * 1e3, 100.0 * used / seconds);
            println!("rank {rank}: {ms:.1} ms of CPU in {seconds} s, {share:.3} % of a core");
        }
    }
    drop(worker);
    node.shutdown()?;
    Ok(ExitCode::SUCCESS)
}

fn cpu_seconds(node: &Node) -> f64 {
    node.report().cpu_seconds.get("processes").copied().unwrap_or_default()
}
