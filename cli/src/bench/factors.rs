//! `sterna bench factors`: a matrix factorisation through the public API beside its arithmetic alone on plain arrays.

use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use sterna::{Node, NodeConfig};
use sterna_tasks::generate::MatrixSpec;
use sterna_tasks::mf::kernel::Placed;
use sterna_tasks::mf::{Mf, MfConfig, OptimizerKind, Plain};
use sterna_tasks::task::{RunConfig, Silent, train};

/// Ratings a second of `train mf`, and of the kernel alone.
#[derive(Debug, clap::Args)]
pub(crate) struct FactorsArgs {
    /// Length of the vectors; several, separated by commas, are measured one after the other.
    #[arg(long, value_delimiter = ',', default_value = "32,128", value_parser = clap::value_parser!(u32).range(1..=16_384))]
    rank: Vec<u32>,

    /// sgd, adagrad or row-adagrad.
    #[arg(long, default_value = "sgd", value_parser = crate::train::mf::optimizer)]
    optimizer: OptimizerKind,

    /// Rows of the matrix.
    #[arg(long, default_value_t = 6_040)]
    rows: u32,

    /// Columns of the matrix.
    #[arg(long, default_value_t = 3_706)]
    columns: u32,

    /// Known cells.
    #[arg(long, default_value_t = 900_000)]
    cells: u64,

    /// Turns: an epoch of each kind in every one.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    turns: u32,
}

/// Measures and prints.
pub(crate) fn run(args: &FactorsArgs) -> anyhow::Result<ExitCode> {
    let spec = MatrixSpec {
        rows: args.rows,
        columns: args.columns,
        cells: args.cells,
        ..MatrixSpec::default()
    };
    println!(
        "{} x {}, {} cells (zipf {}), {}, one thread, medians of {} turns, million ratings a second",
        args.rows,
        args.columns,
        args.cells,
        spec.zipf,
        args.optimizer.name(),
        args.turns
    );
    println!(
        "{:>6} {:>14} {:>14} {:>12} {:>10}",
        "rank", "kernel alone", "in blocks", "train mf", "of kernel"
    );
    for &rank in &args.rank {
        measure(args, &spec, rank as usize)?;
    }
    println!(
        "kernel alone: plain arrays, ratings in a random order; in blocks: the same in the order of `train mf`"
    );
    Ok(ExitCode::SUCCESS)
}

fn measure(args: &FactorsArgs, spec: &MatrixSpec, rank: usize) -> anyhow::Result<()> {
    let ratings = spec.ratings()?;
    let run = RunConfig { epochs: 2, valid_every: 0, ..RunConfig::default() };
    let mut config = MfConfig::for_ratings(&ratings, false, args.optimizer);
    (config.rank, config.run) = (rank, run);
    let task = Mf::new(ratings, config)?;
    let mut plain = Plain::new(&task);
    let (shuffled, in_order) = (plain.shuffled(&task), plain.in_order(&task));
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
    let millions = task.ratings().train.len() as f64 / 1e6;
    let [mut alone, mut in_blocks, mut trained] = [const { Vec::new() }; 3];
    for _ in 0..args.turns {
        alone.push(millions / seconds(&mut plain, &shuffled));
        in_blocks.push(millions / seconds(&mut plain, &in_order));
        let node = Node::start(NodeConfig::with_workers(1).with_env()?)?;
        let report = train(&node, &task, &mut Silent)?;
        node.shutdown()?;
        // The first epoch meets rows that nobody has touched yet.
        let seconds = report.epoch_seconds.last().context("an epoch")?;
        trained.push(millions / seconds);
    }
    let ratios = trained.iter().zip(&alone).map(|(trained, alone)| trained / alone).collect();
    println!(
        "{rank:>6} {:>14.1} {:>14.1} {:>12.1} {:>10.2}",
        median(alone),
        median(in_blocks),
        median(trained),
        median(ratios)
    );
    Ok(())
}

/// Seconds of going through all ratings once by the kernel alone.
fn seconds(plain: &mut Plain, ratings: &[Placed]) -> f64 {
    let begun = Instant::now();
    let loss = plain.train(ratings);
    let seconds = begun.elapsed().as_secs_f64();
    assert!(loss.is_finite(), "the kernel diverged");
    seconds
}

fn median(mut of: Vec<f64>) -> f64 {
    of.sort_by(f64::total_cmp);
    of[of.len() / 2]
}
