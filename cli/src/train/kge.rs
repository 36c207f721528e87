//! `sterna train kge`: settings from the command line, training, the report.

use std::ffi::OsString;
use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use sterna::{FabricConfig, Node, NodeConfig, ProviderChoice};
use sterna_tasks::kge::data::wn18rr;
use sterna_tasks::kge::progress::Silent;
use sterna_tasks::kge::{Graph, KgeConfig, ModelKind, train};
use sterna_tasks::report::Report;

use super::progress::Bar;

/// Exit code of a run that was stopped by Ctrl-C, as the shell has it.
const STOPPED: u8 = 130;

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

    /// Threads of each node that train; this host's cores, shared among its nodes, if not given.
    #[arg(long, value_name = "N")]
    workers: Option<usize>,

    /// Start so many processes on this host as the nodes of a job. On several hosts start this command by `sterna launch`, mpirun,
    /// torchrun or srun instead.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=4096))]
    nodes: u16,

    /// How nodes reach each other: auto (shm on the same host, else tcp), shm or tcp.
    #[arg(long, default_value = "auto", value_parser = ["auto", "shm", "tcp"])]
    fabric: String,

    /// Dimension; ComplEx has so many complex ones.
    #[arg(long, help_heading = "Recipe")]
    dim: Option<usize>,

    /// Passes over the training triples.
    #[arg(long, help_heading = "Recipe")]
    epochs: Option<u32>,

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

    /// Seed of rows, order and pools.
    #[arg(long)]
    seed: Option<u64>,

    /// Epochs from one validation to the next; 0 validates only at the end.
    #[arg(long, value_name = "EPOCHS")]
    valid_every: Option<u32>,

    /// Validations without a better MRR after which training stops early; 0 never.
    #[arg(long, value_name = "N")]
    patience: Option<u32>,

    /// Folder for checkpoints: written when the run is stopped, and every --checkpoint-every epochs.
    #[arg(long, value_name = "DIR")]
    checkpoint: Option<PathBuf>,

    /// Epochs from one checkpoint to the next.
    #[arg(long, value_name = "EPOCHS", requires = "checkpoint")]
    checkpoint_every: Option<u32>,

    /// Continue from the latest checkpoint in --checkpoint.
    #[arg(long, requires = "checkpoint")]
    resume: bool,

    /// Write embeddings to this folder: .npy files, and the names of entities and relations by row.
    #[arg(long, value_name = "DIR")]
    export: Option<PathBuf>,

    /// Write the report as JSON to this file.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// Trains and reports.
pub(crate) fn run(args: &KgeArgs) -> anyhow::Result<ExitCode> {
    let mut fabric = FabricConfig::from_env()?;
    if args.nodes > 1 && fabric.size == 1 {
        let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
        return crate::launch::run_self(args.nodes, &arguments);
    }
    fabric.choice = ProviderChoice::parse(&args.fabric)?;
    let first = fabric.rank.index() == 0;
    // Files that cannot be written are better found before an hour of training than after it.
    let report_file = match &args.report {
        Some(path) if first => {
            let file = File::create(path);
            Some((file.with_context(|| format!("creating {}", path.display()))?, path))
        }
        _ => None,
    };
    let graph = read_graph(args, first)?;
    let config = settings(args, &graph);
    config.check()?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let sharing = fabric.local_size.unwrap_or(1).max(1);
    let workers = args.workers.unwrap_or((cores / sharing).max(1));
    let node_config = NodeConfig { workers, seed: config.seed, ..NodeConfig::default() };
    let node = Node::join(node_config, fabric)?;
    if first {
        eprintln!("{}", node.describe());
        say_plan(&graph, &config, &node);
    }
    let stopper = node.stopper();
    crate::interrupt::on_interrupt(move || {
        if first {
            eprintln!("stopping after this batch (Ctrl-C again ends at once) ..");
        }
        stopper.request_stop();
    })?;
    let report = if first {
        let mut bar = Bar::new();
        train(&node, &graph, &config, &mut bar)?
    } else {
        train(&node, &graph, &config, &mut Silent)?
    };
    let measured = node.job_report()?;
    node.shutdown()?;
    if first {
        print_quality(&report);
        println!("\n{measured}");
    }
    if let Some((file, path)) = report_file {
        serde_json::to_writer_pretty(file, &report)
            .with_context(|| format!("writing {}", path.display()))?;
        eprintln!("report: {}", path.display());
    }
    Ok(if report.stopped { ExitCode::from(STOPPED) } else { ExitCode::SUCCESS })
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
    fn take<T: Clone>(setting: &mut T, given: Option<&T>) {
        if let Some(given) = given {
            setting.clone_from(given);
        }
    }
    take(&mut config.model, args.model.as_ref());
    take(&mut config.dim, args.dim.as_ref());
    take(&mut config.epochs, args.epochs.as_ref());
    take(&mut config.batch, args.batch.as_ref());
    take(&mut config.negatives, args.negatives.as_ref());
    take(&mut config.learning_rate, args.learning_rate.as_ref());
    take(&mut config.lambda_entity, args.lambda_entity.as_ref());
    take(&mut config.lambda_relation, args.lambda_relation.as_ref());
    take(&mut config.init_std, args.init_std.as_ref());
    take(&mut config.reciprocal, args.reciprocal.as_ref());
    take(&mut config.correction, args.correction.as_ref());
    take(&mut config.seed, args.seed.as_ref());
    take(&mut config.valid_every, args.valid_every.as_ref());
    take(&mut config.patience, args.patience.as_ref());
    take(&mut config.checkpoint_every, args.checkpoint_every.as_ref());
    config.checkpoint.clone_from(&args.checkpoint);
    config.export.clone_from(&args.export);
    config.resume = args.resume;
    config
}

fn say_plan(graph: &Graph, config: &KgeConfig, node: &Node) {
    let row = 2 * config.model.row_len(config.dim) * size_of::<f32>();
    let rows = graph.entities.len() + graph.relations.len() * if config.reciprocal { 2 } else { 1 };
    #[allow(clippy::cast_precision_loss, reason = "shown with one digit")]
    let mib = (row * rows) as f64 / f64::from(1 << 20);
    eprintln!(
        "{}, dimension {}, {} epochs, {} x {} workers, batches of {}, {} negatives; rows take {mib:.1} MiB",
        config.model.name(),
        config.dim,
        config.epochs,
        node.size(),
        node.workers(),
        config.batch_for(node.size() * node.workers()),
        config.negatives
    );
}

fn print_quality(report: &Report) {
    let state = if report.stopped { "stopped" } else { "trained" };
    println!(
        "{state}: {} on {}, {} epochs in {:.1} s, ranking {:.1} s",
        report.model, report.dataset, report.epochs, report.train_seconds, report.evaluate_seconds
    );
    let figure = |name: &str| report.quality.get(name).copied();
    if let Some(mrr) = figure("mrr") {
        let hits = ["hits1", "hits3", "hits10"].map(|name| figure(name).unwrap_or(f64::NAN));
        println!(
            "filtered test MRR {mrr:.4}, Hits@1 {:.4}, Hits@3 {:.4}, Hits@10 {:.4}",
            hits[0], hits[1], hits[2]
        );
    }
    if let Some(mrr) = figure("valid_mrr") {
        println!("filtered validation MRR {mrr:.4}");
    }
}

fn model(text: &str) -> Result<ModelKind, String> {
    [ModelKind::ComplEx, ModelKind::DistMult]
        .into_iter()
        .find(|model| model.name().eq_ignore_ascii_case(text))
        .ok_or_else(|| format!("`{text}` is no model: complex or distmult"))
}
