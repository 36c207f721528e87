//! `sterna train kge`: the settings of knowledge graph embeddings from the command line.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use sterna_tasks::kge::data::wn18rr;
use sterna_tasks::kge::{Graph, Kge, KgeConfig, ModelKind};

use super::run::{self, RunArgs, take};

/// Train knowledge graph embeddings.
///
/// Without options it trains ComplEx on WN18RR, which is part of this program, with a recipe that reaches a filtered
/// test MRR of 0.46. Each step takes a batch of triples and one pool of random entities shared by all queries
/// of the batch; the loss is the sampled softmax with the N3 regulariser, the optimizer Adagrad.
///
/// Quality is filtered MRR and Hits@k over the whole test set, both directions, mean rank of ties.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sterna train kge                                     WN18RR, all cores
  sterna train kge --data FB15k-237 --report fb.json   a folder with train.txt, valid.txt, test.txt
  sterna train kge --model distmult --epochs 5 --workers 2
  sterna train kge --nodes 4 --workers 1               four processes on this host
  sterna train kge --checkpoint run1 --resume          continue where Ctrl-C stopped it")]
pub(crate) struct KgeArgs {
    /// Folder with train, valid and test (.txt or .tsv, also .gz, .xz, .zst): lines of head, relation, tail, separated
    /// by tabs. Without it: the WN18RR inside this program.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// complex or distmult.
    #[arg(long, value_parser = model)]
    model: Option<ModelKind>,

    /// Dimension; ComplEx has so many complex ones.
    #[arg(long, help_heading = "Recipe")]
    dim: Option<usize>,

    /// Triples in a step of one worker.
    #[arg(long, help_heading = "Recipe")]
    batch: Option<usize>,

    /// Random entities in a step, shared by all queries of its batch.
    #[arg(long, help_heading = "Recipe")]
    negatives: Option<usize>,

    /// Adagrad's learning rate at the start; it falls linearly to 0.
    #[arg(long, value_name = "RATE", help_heading = "Recipe")]
    learning_rate: Option<f32>,

    /// Weight of the N3 regulariser on entities.
    #[arg(long, value_name = "WEIGHT", help_heading = "Recipe")]
    lambda_entity: Option<f32>,

    /// Weight of the N3 regulariser on relations.
    #[arg(long, value_name = "WEIGHT", help_heading = "Recipe")]
    lambda_relation: Option<f32>,

    /// Standard deviation of the rows at the start.
    #[arg(long, value_name = "STD", help_heading = "Recipe")]
    init_std: Option<f32>,

    /// A second row for each relation, for the direction from tail to head.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", help_heading = "Recipe")]
    reciprocal: Option<bool>,

    /// Weigh the pool so that it stands for all entities.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", help_heading = "Recipe")]
    correction: Option<bool>,

    #[command(flatten)]
    run: RunArgs,
}

/// Trains and reports.
pub(crate) fn run(args: &KgeArgs) -> anyhow::Result<ExitCode> {
    let build = |say| {
        let graph = read_graph(args, say)?;
        let config = settings(args, &graph);
        if say {
            say_plan(&config);
        }
        Ok(Kge::new(graph, config)?)
    };
    run::run(&args.run, build)
}

fn read_graph(args: &KgeArgs, say: bool) -> anyhow::Result<Graph> {
    let begun = Instant::now();
    let graph = match &args.data {
        Some(folder) => Graph::read(folder)?,
        None => wn18rr::graph()?,
    };
    let counts = graph.counts();
    if !say {
        return Ok(graph);
    }
    eprintln!(
        "{}: {} entities, {} relations, {} / {} / {} triples to train / validate / test ({:.1} s)",
        graph.name,
        counts.entities,
        counts.relations,
        graph.train.len(),
        graph.valid.len(),
        graph.test.len(),
        begun.elapsed().as_secs_f64()
    );
    Ok(graph)
}

fn settings(args: &KgeArgs, graph: &Graph) -> KgeConfig {
    let mut config = KgeConfig::for_graph(graph);
    take(&mut config.model, args.model.as_ref());
    take(&mut config.dim, args.dim.as_ref());
    take(&mut config.batch, args.batch.as_ref());
    take(&mut config.negatives, args.negatives.as_ref());
    take(&mut config.learning_rate, args.learning_rate.as_ref());
    take(&mut config.lambda_entity, args.lambda_entity.as_ref());
    take(&mut config.lambda_relation, args.lambda_relation.as_ref());
    take(&mut config.init_std, args.init_std.as_ref());
    take(&mut config.reciprocal, args.reciprocal.as_ref());
    take(&mut config.correction, args.correction.as_ref());
    args.run.apply(&mut config.run);
    config
}

fn say_plan(config: &KgeConfig) {
    eprintln!(
        "{}, dimension {}, {} epochs, {} negatives",
        config.model.name(),
        config.dim,
        config.run.epochs,
        config.negatives
    );
}

fn model(text: &str) -> Result<ModelKind, String> {
    [ModelKind::ComplEx, ModelKind::DistMult]
        .into_iter()
        .find(|model| model.name().eq_ignore_ascii_case(text))
        .ok_or_else(|| format!("`{text}` is no model: complex or distmult"))
}
