//! `sterna generate graph`.

use std::process::ExitCode;

use anyhow::ensure;
use sterna_tasks::generate::{Communities, Edges, GraphShape};

use super::output::{self, OutputArgs};

/// Write a scale-free graph with communities, as a list of edges.
///
/// Both nodes of an edge are drawn by Zipf's law, most of the time from one community. With --labels it writes the community of each
/// node instead, which walks and graph networks find. Edge number N depends on the seed and N alone; an edge can come twice.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sterna generate graph --edges 1000000 --out edges.tsv
  sterna generate graph --labels --among 10000 --out groups.tsv
  sterna train walks edges.tsv --labels groups.tsv")]
pub(crate) struct GraphArgs {
    /// Nodes; those that no edge names are not in the list.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(2..))]
    nodes: u32,

    /// Edges to write.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    edges: u64,

    /// Communities.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    communities: u32,

    /// The part of the edges that stay in a community.
    #[arg(long, value_name = "SHARE", default_value_t = 0.8)]
    focus: f64,

    /// Exponent of Zipf's law for degrees; 0 makes all nodes alike.
    #[arg(long, value_name = "EXPONENT", default_value_t = 0.7)]
    zipf: f64,

    /// Write the nodes' communities instead of edges.
    #[arg(long)]
    labels: bool,

    /// Labels of the nodes with the most edges, this many.
    #[arg(long, value_name = "N", default_value_t = 10_000, requires = "labels")]
    among: u32,

    /// Seed of everything.
    #[arg(long, default_value_t = 1)]
    seed: u64,

    #[command(flatten)]
    output: OutputArgs,
}

/// Writes it.
pub(crate) fn run(args: &GraphArgs) -> anyhow::Result<ExitCode> {
    ensure!(args.zipf.is_finite() && args.zipf >= 0.0, "--zipf must be a number from 0 on");
    ensure!((0.0..=1.0).contains(&args.focus), "--focus must be from 0 to 1");
    ensure!(args.communities <= args.nodes / 2, "--communities must be at most half of --nodes");
    let GraphArgs { nodes, communities, focus, zipf: exponent, .. } = *args;
    let shape = GraphShape { nodes, communities, focus, exponent };
    if args.labels {
        output::write(&args.output, "nodes", &mut Communities::new(shape, args.among))
    } else {
        output::write(&args.output, "edges", &mut Edges::new(shape, args.seed, args.edges))
    }
}
