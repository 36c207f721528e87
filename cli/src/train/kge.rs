//! `sterna train kge`: the settings of knowledge graph embeddings from the command line.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use sterna::sampling::Scheme;
use sterna_tasks::kge::data::wn18rr;
use sterna_tasks::kge::{Graph, Kge, KgeConfig, LossKind, ModelKind, OptimizerKind, Regularizer};

use super::run::{self, RunArgs, take};

/// Train knowledge graph embeddings.
///
/// Without options it trains ComplEx on WN18RR, which is part of this program, with a recipe that reaches a filtered
/// test MRR of 0.47. Every model has a recipe for WN18RR, one for FB15k-237 (recognised by its size), and one for
/// other graphs; each option below changes one setting of it.
///
/// Each step takes a batch of triples and one pool of random entities shared by all queries of the batch.
///
/// Quality is filtered MRR and Hits@k over the whole test set, both directions, mean rank of ties.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sterna train kge                                     WN18RR, all cores
  sterna train kge --data FB15k-237 --report fb.json   a folder with train.txt, valid.txt, test.txt
  sterna train kge --model rotate --epochs 5 --workers 2
  sterna train kge --model transe --loss logistic --margin 6 --dim 100
  sterna train kge --nodes 4 --workers 1               four processes on this host
  sterna train kge --checkpoint run1 --resume          continue where Ctrl-C stopped it")]
pub(crate) struct KgeArgs {
    /// Folder with train, valid and test (.txt or .tsv, also .gz, .xz, .zst): lines of head, relation, tail, separated
    /// by tabs. Without it: the WN18RR inside this program.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// complex, distmult, rescal, transe or rotate.
    #[arg(long, default_value = "complex", value_parser = named(&ModelKind::ALL, ModelKind::name))]
    model: ModelKind,

    /// Dimension; ComplEx and RotatE have so many complex ones.
    #[arg(long, help_heading = "Recipe")]
    dim: Option<usize>,

    /// Triples in a step of one worker.
    #[arg(long, help_heading = "Recipe")]
    batch: Option<usize>,

    /// Random entities in a step, shared by all queries of its batch.
    #[arg(long, help_heading = "Recipe")]
    negatives: Option<usize>,

    /// How negatives are chosen: naive (when used, rows read from where they are), preloc (ahead, and announced), pool:U and postpone:U
    /// (each draw U times), local (only among rows that are at the node). On one node naive, preloc and local are the same [default: local].
    #[arg(long, value_name = "SCHEME", help_heading = "Recipe")]
    sampling: Option<Scheme>,

    /// Take all entities in place of a pool, as candidates of every query. Each step then touches all rows: for one node.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", help_heading = "Recipe")]
    one_vs_all: Option<bool>,

    /// softmax (cross entropy of the answer among the pool), logistic, or self-adversarial (logistic, the pool weighed by its scores).
    #[arg(long, value_name = "LOSS", value_parser = named(&LossKind::ALL, LossKind::name), help_heading = "Recipe")]
    loss: Option<LossKind>,

    /// What the logistic losses add to scores; distances are compared with it.
    #[arg(long, help_heading = "Recipe")]
    margin: Option<f32>,

    /// How sharply the self-adversarial loss picks the entities that score high.
    #[arg(long, help_heading = "Recipe")]
    temperature: Option<f32>,

    /// adagrad or adam.
    #[arg(long, value_name = "NAME", value_parser = named(&OptimizerKind::ALL, OptimizerKind::name), help_heading = "Recipe")]
    optimizer: Option<OptimizerKind>,

    /// The learning rate at the start; it falls linearly to 0.
    #[arg(long, value_name = "RATE", help_heading = "Recipe")]
    learning_rate: Option<f32>,

    /// What keeps rows small: none, n3 (cubes), l2 (squares) or dura (squares of entities and of queries).
    #[arg(long, value_name = "NAME", value_parser = named(&Regularizer::ALL, Regularizer::name), help_heading = "Recipe")]
    regularizer: Option<Regularizer>,

    /// Weight of the regulariser on entities.
    #[arg(long, value_name = "WEIGHT", help_heading = "Recipe")]
    lambda_entity: Option<f32>,

    /// Weight of the regulariser on relations; of dura, on queries.
    #[arg(long, value_name = "WEIGHT", help_heading = "Recipe")]
    lambda_relation: Option<f32>,

    /// Share of the values of an entity's row that a query does not see.
    #[arg(long, value_name = "SHARE", help_heading = "Recipe")]
    dropout_entity: Option<f32>,

    /// Share of the values of a relation's row that a step does not see.
    #[arg(long, value_name = "SHARE", help_heading = "Recipe")]
    dropout_relation: Option<f32>,

    /// Standard deviation of the rows at the start.
    #[arg(long, value_name = "STD", help_heading = "Recipe")]
    init_std: Option<f32>,

    /// A second row for each relation, for the direction from tail to head.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", help_heading = "Recipe")]
    reciprocal: Option<bool>,

    /// Weigh the pool so that it stands for all entities.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", help_heading = "Recipe")]
    correction: Option<bool>,

    /// Validation triples to rank, spread evenly over the split; 0 ranks all.
    #[arg(long, value_name = "TRIPLES", help_heading = "Course")]
    valid_max: Option<usize>,

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
    let mut config = KgeConfig::for_graph(graph, args.model);
    take(&mut config.dim, args.dim.as_ref());
    take(&mut config.batch, args.batch.as_ref());
    take(&mut config.negatives, args.negatives.as_ref());
    take(&mut config.sampling, args.sampling.as_ref());
    take(&mut config.one_vs_all, args.one_vs_all.as_ref());
    take(&mut config.loss, args.loss.as_ref());
    take(&mut config.margin, args.margin.as_ref());
    take(&mut config.temperature, args.temperature.as_ref());
    take(&mut config.optimizer, args.optimizer.as_ref());
    take(&mut config.learning_rate, args.learning_rate.as_ref());
    take(&mut config.regularizer, args.regularizer.as_ref());
    take(&mut config.lambda_entity, args.lambda_entity.as_ref());
    take(&mut config.lambda_relation, args.lambda_relation.as_ref());
    take(&mut config.dropout_entity, args.dropout_entity.as_ref());
    take(&mut config.dropout_relation, args.dropout_relation.as_ref());
    take(&mut config.init_std, args.init_std.as_ref());
    take(&mut config.reciprocal, args.reciprocal.as_ref());
    take(&mut config.correction, args.correction.as_ref());
    take(&mut config.valid_max, args.valid_max.as_ref());
    args.run.apply(&mut config.run);
    config
}

fn say_plan(config: &KgeConfig) {
    let pool = if config.one_vs_all {
        "all entities as candidates".into()
    } else {
        format!("{} negatives", config.negatives)
    };
    eprintln!(
        "{}, dimension {}, {} loss, {pool}, {} epochs",
        config.model.name(),
        config.dim,
        config.loss.name(),
        config.run.epochs
    );
}

/// Reads one of these by its name.
fn named<T: Copy + Send + Sync + 'static>(
    all: &'static [T],
    name: fn(T) -> &'static str,
) -> impl Fn(&str) -> Result<T, String> + Clone {
    move |text| {
        let found = all.iter().copied().find(|&one| name(one).eq_ignore_ascii_case(text));
        let names = || all.iter().map(|&one| name(one)).collect::<Vec<_>>().join(", ");
        found.ok_or_else(|| format!("not one of {}", names()))
    }
}
