//! `sterna bench memory`: what a key costs besides its row, as resident memory of all nodes together.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Context;
use sterna::{FabricConfig, Node, NodeConfig, ProviderChoice, TableSpec};

/// Resident memory of a table, by key.
#[derive(Debug, clap::Args)]
pub(crate) struct MemoryArgs {
    /// Bytes of a row's values.
    #[arg(long, default_value_t = 64, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(4..=65_536))]
    row_bytes: u32,

    /// Keys of the table.
    #[arg(long, default_value_t = 4_000_000, value_name = "KEYS", value_parser = clap::value_parser!(u32).range(1..))]
    keys: u32,

    /// Start so many nodes on this host.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    nodes: u16,

    /// How nodes reach each other: auto, shm or tcp.
    #[arg(long, default_value = "auto", value_parser = ["auto", "shm", "tcp"])]
    fabric: String,
}

/// Measures and prints.
pub(crate) fn run(args: &MemoryArgs) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(args.row_bytes.is_multiple_of(4), "rows are of 4-byte floats");
    let mut fabric = FabricConfig::from_env()?;
    if args.nodes > 1 && fabric.size == 1 {
        let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
        return crate::launch::run_self(args.nodes, &arguments);
    }
    fabric.choice = ProviderChoice::parse(&args.fabric)?;
    let node = Node::join(NodeConfig::with_workers(1).with_env()?, fabric)?;
    let mut worker = node.worker(0)?;
    worker.barrier()?;
    let before = resident_bytes()?;
    let spec = TableSpec::new("rows", args.keys.into(), args.row_bytes as usize / 4);
    let table = node.create_table(spec)?;
    let mut grown = [resident_bytes()? - before];
    worker.all_reduce_sum(&mut grown)?;
    if node.rank().index() == 0 {
        println!("{}", node.describe());
        let (keys, nodes, row) = (table.keys(), node.size(), args.row_bytes);
        let per_key = grown[0] / f64::from(args.keys);
        println!(
            "{keys} keys, rows of {row} bytes, {nodes} nodes: {per_key:.1} bytes a key, {:.1} besides the row",
            per_key - f64::from(row)
        );
    }
    drop(worker);
    node.shutdown()?;
    Ok(ExitCode::SUCCESS)
}

/// Resident memory of this process without files; of what it shares with others its part, so that sums over processes are right.
fn resident_bytes() -> anyhow::Result<f64> {
    const SOURCE: &str = "/proc/self/smaps_rollup";
    let rollup = std::fs::read_to_string(SOURCE).with_context(|| format!("reading {SOURCE}"))?;
    let kib = |name: &str| {
        let line = rollup.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|rest| rest.split_whitespace().next());
        number.and_then(|number| number.parse::<f64>().ok())
    };
    let parts = kib("Pss_Anon:").zip(kib("Pss_Shmem:"));
    let (anonymous, shared) =
        parts.with_context(|| format!("{SOURCE} lacks Pss_Anon, Pss_Shmem"))?;
    Ok((anonymous + shared) * 1024.0)
}
