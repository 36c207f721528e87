//! `sterna train mf`: the settings of a matrix factorisation from the command line.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use sterna_tasks::data::set_name;
use sterna_tasks::generate::MatrixSpec;
use sterna_tasks::mf::data::Files;
use sterna_tasks::mf::{Mf, MfConfig, OptimizerKind, Ratings, Schedule};

use super::run::{self, RunArgs, take};

/// Factorise a matrix of which some cells are known: ratings of items by users.
///
/// A prediction is the inner product of a vector for the row and one for the column, with the mean and biases
/// of both unless --biases false. Trained by stochastic gradient descent, a rating at a time, on squared error with an
/// L2 term for each rating. Without data it factorises a matrix made on the spot: rank 8, noise 0.1.
///
/// The defaults are a recipe for a million ratings; for fewer than 300,000 another one is taken (--reg 0.1 --decay 0.97).
/// Quality is RMSE and MAE on the test cells, predictions cut to the range of the training ratings.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Files have a rating a line: user, item, rating, separated by tabs, commas, :: or spaces (all MovieLens sets), \
or are Matrix Market coordinate matrices; plain or packed (.gz, .xz, .zst).

Examples:
  sterna train mf --rank 16 --epochs 20                a matrix made on the spot
  sterna train mf --data ml-1m                         a folder with train.* and test.* (or probe.*)
  sterna train mf --train u1.base --test u1.test       files by name
  sterna train mf --train ratings.dat --hold-out 0.1   a tenth of the ratings, by the seed, is the test
  sterna train mf --data ml-1m --biases false --rank 64 --export model
  sterna train mf --data ml-1m --optimizer row-adagrad --schedule columnwise --nodes 2 --workers 2"
)]
pub(crate) struct MfArgs {
    /// Folder with train, and if there are any valid and test (or probe), as .tsv, .csv, .txt, .dat, .mtx or .mmc.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// File of ratings to train on.
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    train: Option<PathBuf>,

    /// File of ratings to steer by: early stopping, choice of settings.
    #[arg(long, value_name = "FILE", requires = "train")]
    valid: Option<PathBuf>,

    /// File of ratings to report on.
    #[arg(long, value_name = "FILE", requires = "train")]
    test: Option<PathBuf>,

    /// Share of the training ratings to keep for the test.
    #[arg(long, value_name = "SHARE", conflicts_with = "test", value_parser = run::share)]
    hold_out: Option<f64>,

    /// Length of the vectors.
    #[arg(long, help_heading = "Recipe")]
    rank: Option<usize>,

    /// A mean and biases of rows and columns beside the vectors.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_value_t = true, default_missing_value = "true", action = clap::ArgAction::Set, help_heading = "Recipe")]
    biases: bool,

    /// Vectors without negative numbers.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", help_heading = "Recipe")]
    nonnegative: Option<bool>,

    /// sgd, adagrad or row-adagrad.
    #[arg(long, default_value = "sgd", value_parser = optimizer, help_heading = "Recipe")]
    optimizer: OptimizerKind,

    /// Learning rate of the first epoch.
    #[arg(long, value_name = "RATE", help_heading = "Recipe")]
    learning_rate: Option<f32>,

    /// What the learning rate is multiplied by after each epoch.
    #[arg(long, value_name = "FACTOR", help_heading = "Recipe")]
    decay: Option<f32>,

    /// Weight of the squares of the vectors, once for each rating.
    #[arg(long, value_name = "WEIGHT", help_heading = "Recipe")]
    reg: Option<f32>,

    /// Weight of the squares of the biases, once for each rating.
    #[arg(long, value_name = "WEIGHT", help_heading = "Recipe")]
    reg_bias: Option<f32>,

    /// Standard deviation of the vectors at the start.
    #[arg(long, value_name = "STD", help_heading = "Recipe")]
    init_std: Option<f32>,

    /// block (workers never meet on a row or column), columnwise (rows of their own, column after column) or random.
    #[arg(long, value_parser = schedule, help_heading = "Recipe")]
    schedule: Option<Schedule>,

    /// Parts into which rows and columns are cut: at least the workers of the job.
    #[arg(long, value_name = "N", help_heading = "Recipe")]
    parts: Option<u32>,

    /// Ratings in a step of one worker: how often rows travel.
    #[arg(long, help_heading = "Recipe")]
    batch: Option<usize>,

    #[command(flatten)]
    run: RunArgs,
}

/// Trains and reports.
pub(crate) fn run(args: &MfArgs) -> anyhow::Result<ExitCode> {
    let build = |say| {
        let ratings = read(args, say)?;
        let config = settings(args, &ratings);
        if say {
            say_plan(&config);
        }
        Ok(Mf::new(ratings, config)?)
    };
    run::run(&args.run, build)
}

fn read(args: &MfArgs, say: bool) -> anyhow::Result<Ratings> {
    let begun = Instant::now();
    let mut ratings = match (&args.data, &args.train) {
        (Some(folder), _) => Ratings::of_folder(folder)?,
        (None, Some(train)) => {
            let (valid, test) = (args.valid.clone(), args.test.clone());
            Ratings::read(set_name(train), &Files { train: train.clone(), valid, test })?
        }
        (None, None) => MatrixSpec::default().ratings()?,
    };
    if let Some(share) = args.hold_out {
        ratings.hold_out(share, args.run.seed().unwrap_or(MfConfig::default().run.seed));
    }
    if say {
        eprintln!(
            "{}: {} rows, {} columns, {} / {} / {} cells to train / validate / test ({:.1} s)",
            ratings.name,
            ratings.rows.len(),
            ratings.columns.len(),
            ratings.train.len(),
            ratings.valid.len(),
            ratings.test.len(),
            begun.elapsed().as_secs_f64()
        );
    }
    Ok(ratings)
}

fn settings(args: &MfArgs, ratings: &Ratings) -> MfConfig {
    let mut config = MfConfig::for_ratings(ratings, args.biases, args.optimizer);
    take(&mut config.rank, args.rank.as_ref());
    take(&mut config.nonnegative, args.nonnegative.as_ref());
    take(&mut config.learning_rate, args.learning_rate.as_ref());
    take(&mut config.decay, args.decay.as_ref());
    take(&mut config.reg, args.reg.as_ref());
    take(&mut config.reg_bias, args.reg_bias.as_ref());
    take(&mut config.init_std, args.init_std.as_ref());
    take(&mut config.schedule, args.schedule.as_ref());
    take(&mut config.parts, args.parts.as_ref());
    take(&mut config.batch, args.batch.as_ref());
    args.run.apply(&mut config.run);
    config
}

fn say_plan(config: &MfConfig) {
    eprintln!(
        "rank {}{}, {} at {} x {} an epoch, reg {}, {} schedule, {} epochs",
        config.rank,
        if config.biases { " and biases" } else { "" },
        config.optimizer.name(),
        config.learning_rate,
        config.decay,
        config.reg,
        config.schedule.name(),
        config.run.epochs
    );
}

/// Reads an optimizer's name.
pub(crate) fn optimizer(text: &str) -> Result<OptimizerKind, String> {
    [OptimizerKind::Sgd, OptimizerKind::Adagrad, OptimizerKind::RowAdagrad]
        .into_iter()
        .find(|kind| kind.name() == text.replace('-', "_"))
        .ok_or_else(|| format!("`{text}` is no optimizer: sgd, adagrad or row-adagrad"))
}

fn schedule(text: &str) -> Result<Schedule, String> {
    [Schedule::Block, Schedule::Columnwise, Schedule::Random]
        .into_iter()
        .find(|schedule| schedule.name() == text)
        .ok_or_else(|| format!("`{text}` is no schedule: block, columnwise or random"))
}
