//! `sterna generate matrix`.

use std::process::ExitCode;

use sterna_tasks::generate::MatrixSpec;

use super::output::{self, OutputArgs};

/// Write a matrix whose known cells follow Zipf's law and hold products of factors plus noise, as a Matrix Market file.
///
/// Cell (i, j) holds w_i . h_j + noise, factors from N(0, RANK^-1/4), so that cells vary by 1. A row has cells in proportion
/// to its popularity, its columns are drawn without replacement by theirs; popular rows and columns lie anywhere. One row at
/// a time is in memory, and the factors of the columns.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sterna generate matrix --rows 100000 --columns 10000 --cells 3000000 --rank 32 --out m.mtx
  sterna train mf --train m.mtx --hold-out 0.01 --rank 32 --biases false
  sterna generate matrix --rows 10000000 --columns 1000000 --cells 1000000000 | zstd > m.mtx.zst")]
pub(crate) struct MatrixArgs {
    /// Rows.
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    rows: u32,

    /// Columns.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    columns: u32,

    /// Known cells.
    #[arg(long, value_name = "N", default_value_t = 3_000_000)]
    cells: u64,

    /// Length of the factors.
    #[arg(long, default_value_t = 32)]
    rank: usize,

    /// Exponent of Zipf's law; 0 makes all rows and all columns alike.
    #[arg(long, value_name = "EXPONENT", default_value_t = 1.1)]
    zipf: f64,

    /// Standard deviation of the noise.
    #[arg(long, value_name = "STD", default_value_t = 0.1)]
    noise: f32,

    /// Seed of everything.
    #[arg(long, default_value_t = 1)]
    seed: u64,

    #[command(flatten)]
    output: OutputArgs,
}

/// Writes it.
pub(crate) fn run(args: &MatrixArgs) -> anyhow::Result<ExitCode> {
    let &MatrixArgs { rows, columns, cells, rank, zipf, noise, seed, .. } = args;
    let spec = MatrixSpec { rows, columns, cells, rank, zipf, noise, seed };
    output::write(&args.output, "cells", &mut spec.file()?)
}
