//! `sterna train ctr`: the settings of click-through prediction from the command line.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::bail;
use sterna_tasks::ctr::data::{FeatureIds, Files, Format, Source};
use sterna_tasks::ctr::{Clicks, CtrConfig, CtrTask, ModelKind, RowOptimizer};
use sterna_tasks::task::RunConfig;

use super::run::{self, RunArgs, take};

/// Train models that predict clicks.
///
/// An example is a set of features, one for each field as a rule, and whether it was clicked. Every feature has a row:
/// its embedding and its linear weight. Towers, cross networks and the statistics of batch normalisation are rows of a
/// second table, which every batch uses whole.
///
/// Each model starts from a recipe of its own, a gentler one where most features are rare: batches of 1024 examples, Adagrad on
/// rows, Adam on dense parameters. Training ends when validation has not become better for some epochs. Quality is AUC and
/// log loss of the test examples.
#[derive(Debug, clap::Args)]
#[command(after_help = "Models:
  lr         logistic regression
  fm         factorisation machine (Rendle 2010)
  wide-deep  Wide & Deep (Cheng et al. 2016)
  deepfm     DeepFM (Guo et al. 2017)
  dcn-v2     Deep & Cross Network V2, parallel (Wang et al. 2021)

Examples:
  sterna train ctr --data frappe                         DeepFM on a folder of files
  sterna train ctr --data frappe --model fm --report fm.json --export fm
  sterna train ctr --data criteo.tsv.gz --hash-buckets 1000000
  sterna train ctr --train a.csv --test b.csv --schema schema.json --model lr
  sterna generate clicks --out c.tsv && sterna train ctr --data c.tsv
  sterna train ctr --data frappe --nodes 2 --workers 2   two processes on this host

A schema says what the columns of delimited text mean:
  { \"separator\": \",\", \"header\": true, \"columns\": [
      { \"name\": \"click\", \"kind\": \"label\" },
      { \"name\": \"site\",  \"kind\": \"categorical\" },
      { \"name\": \"age\",   \"kind\": \"numeric\", \"buckets\": { \"width\": 5 } },
      { \"name\": \"price\", \"kind\": \"numeric\", \"buckets\": { \"edges\": [1, 5, 20] } },
      { \"name\": \"seen\",  \"kind\": \"numeric\", \"buckets\": \"log-square\" },
      { \"name\": \"when\",  \"kind\": \"hour\" } ] }")]
pub(crate) struct CtrArgs {
    #[command(flatten)]
    data: DataArgs,

    /// lr, fm, wide-deep, deepfm or dcn-v2.
    #[arg(long, default_value = "deepfm", value_parser = model)]
    model: ModelKind,

    /// Dimension of embeddings.
    #[arg(long, help_heading = "Recipe")]
    dim: Option<usize>,

    /// Outputs of the tower's hidden layers: 128,64.
    #[arg(long, value_name = "N,N,..", value_delimiter = ',', help_heading = "Recipe")]
    hidden: Option<Vec<usize>>,

    /// Layers of the cross network.
    #[arg(long, value_name = "N", help_heading = "Recipe")]
    cross_layers: Option<usize>,

    /// Normalise hidden layers over the batch.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", help_heading = "Recipe")]
    batch_norm: Option<bool>,

    /// Probability of dropping an output of a hidden layer in training.
    #[arg(long, value_name = "PROBABILITY", help_heading = "Recipe")]
    dropout: Option<f32>,

    /// What steps the rows of features: adagrad, row-adagrad, adam, ftrl or sgd.
    #[arg(long, value_parser = optimizer, help_heading = "Recipe")]
    optimizer: Option<RowOptimizer>,

    /// Learning rate of the rows of features.
    #[arg(long, value_name = "RATE", help_heading = "Recipe")]
    learning_rate: Option<f32>,

    /// What Adagrad's sums of squared gradients start from.
    #[arg(long, value_name = "SUM", help_heading = "Recipe")]
    initial_accumulator: Option<f32>,

    /// Learning rate of dense parameters.
    #[arg(long, value_name = "RATE", help_heading = "Recipe")]
    dense_learning_rate: Option<f32>,

    /// Weight of the squares of a row's values, once per batch for each row that the batch uses.
    #[arg(long, value_name = "WEIGHT", help_heading = "Recipe")]
    l2: Option<f32>,

    /// FTRL's weight of the values' absolute sum: rows of features that tell too little stay exactly 0.
    #[arg(long, value_name = "WEIGHT", help_heading = "Recipe")]
    l1: Option<f32>,

    /// Standard deviation of embeddings at the start.
    #[arg(long, value_name = "STD", help_heading = "Recipe")]
    init_std: Option<f32>,

    /// Examples in a step of one worker [default: 1024; shared among all workers for fm].
    #[arg(long, help_heading = "Recipe")]
    batch: Option<usize>,

    /// The figure that says which epoch is best: auc or log-loss.
    #[arg(long, value_name = "FIGURE", value_parser = ["auc", "log-loss"], help_heading = "Recipe")]
    goal: Option<String>,

    #[command(flatten)]
    run: RunArgs,
}

/// Where the examples come from.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Data")]
struct DataArgs {
    /// A folder with a file for each set, found by `train`, `valid` or `dev`, `test` in their names; or one file of all
    /// examples. Plain, .gz, .xz or .zst.
    #[arg(long, value_name = "PATH", required_unless_present = "train")]
    data: Option<PathBuf>,

    /// The file of training examples.
    #[arg(long, value_name = "FILE")]
    train: Option<PathBuf>,

    /// The file of validation examples; without any a tenth of the training examples is taken.
    #[arg(long, value_name = "FILE")]
    valid: Option<PathBuf>,

    /// The file of test examples; without any a tenth of the training examples is taken.
    #[arg(long, value_name = "FILE")]
    test: Option<PathBuf>,

    /// auto, criteo (tabs, no header), avazu (commas, header) or libfm (also LIBSVM).
    #[arg(long, default_value = "auto", value_parser = format, conflicts_with = "schema")]
    format: Format,

    /// JSON file that says what the columns of delimited text mean; see below.
    #[arg(long, value_name = "FILE")]
    schema: Option<PathBuf>,

    /// Features of delimited text that occur less often in training share one row for each field [default: 2].
    #[arg(long, value_name = "N", conflicts_with = "hash_buckets")]
    min_count: Option<u32>,

    /// Hash features of delimited text to so many rows instead of numbering them.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    hash_buckets: Option<u32>,
}

/// Trains and reports.
pub(crate) fn run(args: &CtrArgs) -> anyhow::Result<ExitCode> {
    let build = |say| {
        let clicks = read(args, say)?;
        let config = settings(args, &clicks);
        if say {
            say_plan(&config);
        }
        Ok(CtrTask::new(config, clicks)?)
    };
    run::run(&args.run, build)
}

fn read(args: &CtrArgs, say: bool) -> anyhow::Result<Clicks> {
    let begun = Instant::now();
    let data = &args.data;
    let files = Files {
        data: data.data.clone(),
        train: data.train.clone(),
        valid: data.valid.clone(),
        test: data.test.clone(),
    };
    let format = data.schema.clone().map_or_else(|| data.format.clone(), Format::Schema);
    let min_count = data.min_count.unwrap_or(2);
    let ids = match data.hash_buckets {
        Some(buckets) => FeatureIds::Hashed { buckets },
        None => FeatureIds::Enumerated { min_count },
    };
    let mut run = RunConfig::default();
    args.run.apply(&mut run);
    let clicks = Source { files, format, ids, seed: run.seed }.read()?;
    if clicks.train.clicks() == 0 || clicks.train.clicks() == clicks.train.len() {
        bail!("{}: all training examples have the same label", clicks.name);
    }
    if say {
        #[expect(clippy::cast_precision_loss, reason = "shown with one digit")]
        let share = 100.0 * clicks.train.clicks() as f64 / clicks.train.len() as f64;
        eprintln!(
            "{}: {} features, {} / {} / {} examples to train / validate / test, {share:.1} % clicked ({:.1} s)",
            clicks.name,
            clicks.features,
            clicks.train.len(),
            clicks.valid.len(),
            clicks.test.len(),
            begun.elapsed().as_secs_f64()
        );
    }
    Ok(clicks)
}

fn settings(args: &CtrArgs, clicks: &Clicks) -> CtrConfig {
    let mut config = CtrConfig::for_clicks(args.model, clicks);
    take(&mut config.dim, args.dim.as_ref());
    take(&mut config.hidden, args.hidden.as_ref());
    take(&mut config.cross_layers, args.cross_layers.as_ref());
    take(&mut config.batch_norm, args.batch_norm.as_ref());
    take(&mut config.dropout, args.dropout.as_ref());
    take(&mut config.optimizer, args.optimizer.as_ref());
    take(&mut config.learning_rate, args.learning_rate.as_ref());
    take(&mut config.initial_accumulator, args.initial_accumulator.as_ref());
    take(&mut config.dense_learning_rate, args.dense_learning_rate.as_ref());
    take(&mut config.l2, args.l2.as_ref());
    take(&mut config.l1, args.l1.as_ref());
    take(&mut config.init_std, args.init_std.as_ref());
    take(&mut config.batch, args.batch.as_ref());
    if let Some(goal) = &args.goal {
        config.by_log_loss = goal == "log-loss";
    }
    args.run.apply(&mut config.run);
    config
}

fn say_plan(config: &CtrConfig) {
    let mut plan = format!("{}, {} epochs at most", config.model.name(), config.run.epochs);
    if config.model != ModelKind::Lr {
        plan += &format!(", dimension {}", config.dim);
    }
    if config.model.is_deep() {
        plan += &format!(", tower {:?}", config.hidden);
    }
    eprintln!("{plan}");
}

fn model(text: &str) -> Result<ModelKind, String> {
    let found = ModelKind::ALL.into_iter().find(|model| model.name().eq_ignore_ascii_case(text));
    found.ok_or_else(|| format!("`{text}` is no model: lr, fm, wide-deep, deepfm or dcn-v2"))
}

fn optimizer(text: &str) -> Result<RowOptimizer, String> {
    let found = RowOptimizer::ALL.into_iter().find(|known| known.name() == text);
    found
        .ok_or_else(|| format!("`{text}` is no optimizer: adagrad, row-adagrad, adam, ftrl or sgd"))
}

fn format(text: &str) -> Result<Format, String> {
    match text {
        "auto" => Ok(Format::Auto),
        "criteo" => Ok(Format::Criteo),
        "avazu" => Ok(Format::Avazu),
        "libfm" | "libsvm" => Ok(Format::Libfm),
        _ => Err(format!("`{text}` is no format: auto, criteo, avazu or libfm")),
    }
}
