//! `sterna train mlr`: the settings of a multinomial logistic regression from the command line.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use sterna_tasks::data::set_name;
use sterna_tasks::mlr::data::{ClassColumn, Files};
use sterna_tasks::mlr::{Dataset, Features, Mlr, MlrConfig, OptimizerKind};

use super::run::{self, RunArgs, take};

/// Learn the classes of examples by multinomial logistic regression.
///
/// Each feature has a row with a weight for every class; a step pulls the rows of the features that its batch has and pushes
/// the mean gradient of the cross-entropy. Where most features of most examples are there, products are dense ones.
///
/// The defaults reach an accuracy of 0.927 on MNIST. Quality is accuracy and log loss.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Files are LIBSVM lines (class feature:value ..), IDX files (images with labels beside them), or CSV of numbers and a class; \
plain or packed (.gz, .xz, .zst).

Examples:
  sterna train mlr --data mnist                        a folder with MNIST's IDX files
  sterna train mlr --data news20                       a folder with train.* and test.*
  sterna train mlr --train a9a --test a9a.t            files by name
  sterna train mlr --train iris.csv --class last --hold-out 0.2"
)]
#[command(group = clap::ArgGroup::new("source").required(true).args(["data", "train"]))]
pub(crate) struct MlrArgs {
    /// Folder with train, and if there are any valid and test (.svm, .libsvm, .csv, ..), or with MNIST's IDX files.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// File of examples to train on.
    #[arg(long, value_name = "FILE")]
    train: Option<PathBuf>,

    /// File of examples to steer by: early stopping, choice of settings.
    #[arg(long, value_name = "FILE", requires = "train")]
    valid: Option<PathBuf>,

    /// File of examples to report on.
    #[arg(long, value_name = "FILE", requires = "train")]
    test: Option<PathBuf>,

    /// Share of the training examples to keep for the test.
    #[arg(long, value_name = "SHARE", conflicts_with = "test", value_parser = run::share)]
    hold_out: Option<f64>,

    /// Which column of a CSV file is the class: first or last.
    #[arg(long, value_name = "COLUMN", default_value = "first", value_parser = ["first", "last"])]
    class: String,

    /// What values of LIBSVM and CSV files are divided by: 255 for bytes. (Those of IDX files are.)
    #[arg(long, value_name = "NUMBER", default_value_t = 1.0, value_parser = divisor)]
    divide: f32,

    /// sgd, adagrad or row-adagrad.
    #[arg(long, value_parser = optimizer, help_heading = "Recipe")]
    optimizer: Option<OptimizerKind>,

    /// Learning rate of the first epoch.
    #[arg(long, value_name = "RATE", help_heading = "Recipe")]
    learning_rate: Option<f32>,

    /// What the learning rate is multiplied by after each epoch.
    #[arg(long, value_name = "FACTOR", help_heading = "Recipe")]
    decay: Option<f32>,

    /// Weight of the squares of a feature's weights, once for each batch that has the feature.
    #[arg(long, value_name = "WEIGHT", help_heading = "Recipe")]
    l2: Option<f32>,

    /// Examples in a step of one worker.
    #[arg(long, help_heading = "Recipe")]
    batch: Option<usize>,

    #[command(flatten)]
    run: RunArgs,
}

/// Trains and reports.
pub(crate) fn run(args: &MlrArgs) -> anyhow::Result<ExitCode> {
    let build = |say| Ok(Mlr::new(read(args, say)?, settings(args))?);
    run::run(&args.run, build)
}

fn read(args: &MlrArgs, say: bool) -> anyhow::Result<Dataset> {
    let begun = Instant::now();
    let (name, files) = match (&args.data, &args.train) {
        (Some(folder), _) => (set_name(folder), Files::of_folder(folder)?),
        (None, Some(train)) => {
            let (valid, test) = (args.valid.clone(), args.test.clone());
            (set_name(train), Files { valid, test, ..Files::new(train.clone()) })
        }
        (None, None) => unreachable!("clap requires one of them"),
    };
    let class_column = if args.class == "last" { ClassColumn::Last } else { ClassColumn::First };
    let mut data = Dataset::read(name, &Files { class_column, divisor: args.divide, ..files })?;
    if let Some(share) = args.hold_out {
        data.hold_out(share, args.run.seed().unwrap_or(MlrConfig::default().run.seed));
    }
    if say {
        let form = match data.train.features {
            Features::Sparse(_) => "sparse",
            Features::Dense(..) => "dense",
        };
        eprintln!(
            "{}: {} features ({form}), {} classes, {} / {} / {} examples to train / validate / test ({:.1} s)",
            data.name,
            data.features,
            data.classes.len(),
            data.train.len(),
            data.valid.len(),
            data.test.len(),
            begun.elapsed().as_secs_f64()
        );
    }
    Ok(data)
}

fn settings(args: &MlrArgs) -> MlrConfig {
    let mut config = MlrConfig::default();
    take(&mut config.optimizer, args.optimizer.as_ref());
    take(&mut config.learning_rate, args.learning_rate.as_ref());
    take(&mut config.decay, args.decay.as_ref());
    take(&mut config.l2, args.l2.as_ref());
    take(&mut config.batch, args.batch.as_ref());
    args.run.apply(&mut config.run);
    config
}

fn optimizer(text: &str) -> Result<OptimizerKind, String> {
    [OptimizerKind::Sgd, OptimizerKind::Adagrad, OptimizerKind::RowAdagrad]
        .into_iter()
        .find(|kind| kind.name() == text.replace('-', "_"))
        .ok_or_else(|| format!("`{text}` is no optimizer: sgd, adagrad or row-adagrad"))
}

fn divisor(text: &str) -> Result<f32, String> {
    let divisor = text.parse().ok().filter(|divisor: &f32| divisor.is_normal() && *divisor > 0.0);
    divisor.ok_or_else(|| format!("`{text}` is no positive number"))
}
