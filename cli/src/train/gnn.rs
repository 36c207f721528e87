//! `sterna train gnn`: the settings of graph neural networks from the command line.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use sterna_tasks::gnn::{Dataset, Decay, Gnn, GnnConfig, ModelKind, SplitRule};

use super::run::{self, RunArgs, take};

/// Train a graph neural network that gives nodes their classes.
///
/// Two layers of GCN or GraphSAGE, trained by Adam, on given features or, where there are none, on embeddings
/// that are learned: a row of the parameter manager for each node. All training nodes make one step
/// (--batch 0) or steps of some nodes with all or some of their neighbours (--batch 512 --fanout 10,10).
///
/// Quality is accuracy, macro F1 and log loss over the nodes of a split, with all their neighbours. The model
/// of the best validation is the result.
#[derive(Debug, clap::Args)]
#[command(after_help = "Data: a folder with
  nodes.svmlight   a line per node: class feature:value ..   (features from 0; class -1 if unknown)
  edges.tsv        a line per edge: two node numbers          (also .csv, .txt)
  split.txt        a line per node: train, valid, test or none (if there is one)
or, as the MUSAE sets have it,
  target.csv, edges.csv, and features.json if there is one    (also musae_facebook_target.csv ..)
each plain or as .gz, .xz, .zst.

Examples:
  sterna train gnn --data cora                               GCN on all of Cora
  sterna train gnn --data cora --model sage --report cora.json
  sterna train gnn --data facebook-pages --split few         20 labels a class
  sterna train gnn --data facebook-pages --batch 512 --fanout 10,10
  sterna train gnn --data github-social --export model       learned embeddings and weights")]
pub(crate) struct GnnArgs {
    /// Folder with the graph; below is what it holds.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,

    /// gcn or sage.
    #[arg(long, value_parser = model, default_value = "gcn")]
    model: ModelKind,

    /// Who trains: given (split.txt), few (20 nodes of each class, 30 validate) or many (75 %, 5 % validate). Given
    /// if there is a split.txt, else many.
    #[arg(long, value_name = "RULE")]
    split: Option<SplitRule>,

    /// Seed of a split that is drawn.
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    split_seed: u64,

    /// Learn so many floats for each node, instead of using features; 0 uses features.
    #[arg(long, value_name = "FLOATS", help_heading = "Recipe")]
    embedding: Option<usize>,

    /// Floats of a node between layers.
    #[arg(long, value_name = "FLOATS", help_heading = "Recipe")]
    hidden: Option<usize>,

    /// Layers; a node sees so many edges far.
    #[arg(long, help_heading = "Recipe")]
    layers: Option<usize>,

    /// Probability of dropping a value before each layer.
    #[arg(long, help_heading = "Recipe")]
    dropout: Option<f32>,

    /// Adam's learning rate.
    #[arg(long, value_name = "RATE", help_heading = "Recipe")]
    learning_rate: Option<f32>,

    /// Weight decay (L2, added to gradients).
    #[arg(long, value_name = "WEIGHT", help_heading = "Recipe")]
    weight_decay: Option<f32>,

    /// Which layers decay: first (and embeddings) or all.
    #[arg(long, value_name = "LAYERS", value_parser = decay, help_heading = "Recipe")]
    decay: Option<Decay>,

    /// Standard deviation of embeddings at the start.
    #[arg(long, value_name = "STD", help_heading = "Recipe")]
    init_std: Option<f32>,

    /// Divide each node's features by their sum.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", help_heading = "Recipe")]
    normalise: Option<bool>,

    /// Training nodes in a step of one worker; 0 takes all, shared out among the workers.
    #[arg(long, value_name = "NODES", help_heading = "Recipe")]
    batch: Option<usize>,

    /// Neighbours to draw for each node in training, a number per layer, the one next to the features first; 0 takes all.
    #[arg(long, value_name = "N,..", value_delimiter = ',', help_heading = "Recipe")]
    fanout: Option<Vec<usize>>,

    /// Nodes that a worker evaluates at once; fewer take less memory.
    #[arg(long, value_name = "NODES", help_heading = "Recipe")]
    evaluate_batch: Option<usize>,

    #[command(flatten)]
    run: RunArgs,
}

/// Trains and reports.
pub(crate) fn run(args: &GnnArgs) -> anyhow::Result<ExitCode> {
    let build = |say| {
        let begun = Instant::now();
        let data =
            Dataset::read(&args.data, args.split, args.split_seed).context("reading the graph")?;
        let config = settings(args, &data);
        if say {
            say_plan(&data, &config, begun.elapsed().as_secs_f64());
        }
        Ok(Gnn::new(data, config)?)
    };
    run::run(&args.run, build)
}

fn settings(args: &GnnArgs, data: &Dataset) -> GnnConfig {
    let mut config = GnnConfig::for_data(data, args.model).in_batches(args.batch.unwrap_or(0));
    take(&mut config.embedding, args.embedding.as_ref());
    take(&mut config.hidden, args.hidden.as_ref());
    take(&mut config.layers, args.layers.as_ref());
    take(&mut config.dropout, args.dropout.as_ref());
    take(&mut config.learning_rate, args.learning_rate.as_ref());
    take(&mut config.weight_decay, args.weight_decay.as_ref());
    take(&mut config.decay, args.decay.as_ref());
    take(&mut config.init_std, args.init_std.as_ref());
    take(&mut config.normalise, args.normalise.as_ref());
    take(&mut config.fanout, args.fanout.as_ref());
    take(&mut config.evaluate_batch, args.evaluate_batch.as_ref());
    args.run.apply(&mut config.run);
    config
}

fn say_plan(data: &Dataset, config: &GnnConfig, seconds: f64) {
    let splits = &data.splits;
    eprintln!(
        "{}: {} nodes, {} edges, {} classes, {} / {} / {} nodes to train / validate / test ({seconds:.1} s)",
        data.name,
        data.nodes(),
        data.graph.edges(),
        data.class_names.len(),
        splits.train.len(),
        splits.valid.len(),
        splits.test.len(),
    );
    let input = match (&data.features, config.embedding) {
        (Some(features), 0) => format!("{} features", features.columns()),
        (_, floats) => format!("embeddings of {floats} floats"),
    };
    let batch = match config.batch {
        0 => "all training nodes a step".into(),
        nodes => format!("{nodes} nodes a step"),
    };
    let drawn = if config.samples() {
        format!(", neighbours {:?}", config.fanouts())
    } else {
        String::new()
    };
    eprintln!(
        "{}, {input}, {} layers of {}, {} epochs, {batch}{drawn}",
        config.model.name(),
        config.layers,
        config.hidden,
        config.run.epochs
    );
}

fn model(text: &str) -> Result<ModelKind, String> {
    let found = ModelKind::ALL.into_iter().find(|model| model.name().eq_ignore_ascii_case(text));
    found.ok_or_else(|| format!("`{text}` is no model: gcn or sage"))
}

fn decay(text: &str) -> Result<Decay, String> {
    match text {
        "first" => Ok(Decay::First),
        "all" => Ok(Decay::All),
        _ => Err(format!("`{text}` says no layers: first or all")),
    }
}
