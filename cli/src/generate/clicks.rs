//! `sterna generate clicks`.

use std::process::ExitCode;

use anyhow::ensure;
use sterna_tasks::generate::ClickLog;

use super::output::{self, OutputArgs};

/// Write clicks in the form of Criteo's display advertising challenge.
///
/// A label, 13 integers of which some are missing, 26 categories of 8 hexadecimal digits, separated by tabs. Categories occur by
/// Zipf's law. What is clicked follows a factorisation machine of the categories, so models with pairs find more than linear ones.
/// Example number N depends on the seed and N alone.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sterna generate clicks --examples 1000000 --out train.tsv
  sterna generate clicks --first 1000000 --examples 100000 --out test.tsv      others of the same world
  sterna generate clicks --examples 100000000 | zstd > clicks.tsv.zst
  sterna train ctr --train train.tsv --test test.tsv --hash-buckets 1000000")]
pub(crate) struct ClicksArgs {
    /// Examples to write.
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    examples: u64,

    /// Number of the first one.
    #[arg(long, value_name = "N", default_value_t = 0)]
    first: u64,

    /// Categories of each of the 26 fields; Criteo's numbers (3 to 10 million) if not given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    categories: Option<u32>,

    /// Exponent of Zipf's law; 0 makes all categories of a field alike.
    #[arg(long, value_name = "EXPONENT", default_value_t = 1.1)]
    zipf: f64,

    /// Share of examples that are clicked.
    #[arg(long, value_name = "SHARE", default_value_t = 0.25)]
    click_rate: f64,

    /// Seed of everything.
    #[arg(long, default_value_t = 1)]
    seed: u64,

    #[command(flatten)]
    output: OutputArgs,
}

/// Writes them.
pub(crate) fn run(args: &ClicksArgs) -> anyhow::Result<ExitCode> {
    ensure!(args.zipf.is_finite() && args.zipf >= 0.0, "--zipf must be a number from 0 on");
    ensure!(args.click_rate > 0.0 && args.click_rate < 1.0, "--click-rate must be between 0 and 1");
    let range = (args.first, args.examples);
    let mut log = ClickLog::new(args.seed, range, args.categories, args.zipf, args.click_rate);
    output::write(&args.output, "examples", &mut log)
}
