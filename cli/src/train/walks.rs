//! `sterna train walks`: the settings of node embeddings from the command line.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use sterna::sampling::Scheme;
use sterna_tasks::walks::{EdgeOptions, Evaluation, Graph, Labels, Walks, WalksConfig};
use sterna_tasks::words::{Architecture, VectorFormat};

use super::run::{self, RunArgs, take};
use super::words::{architecture, vectors};

/// Train node embeddings by random walks.
///
/// DeepWalk, or node2vec with --p and --q: walks over the graph are sentences of the skip-gram with negative sampling. Walks are drawn
/// as they are trained on; an epoch is all walks of all nodes.
///
/// Quality is asked by --labels, as the authors of DeepWalk did: one logistic regression for each label on a part of the nodes, and for
/// each other node as many labels as it has; micro-F1 and macro-F1, means over random splits.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sterna train walks blogcatalog/edges.tsv --labels blogcatalog/groups.tsv
  sterna train walks edges.txt --p 0.25 --q 0.25 --export vectors       node2vec
  sterna train walks follows.csv.gz --directed --header --walks 10 --length 80
  sterna train walks edges.tsv --nodes 2 --workers 2                    two processes on this host")]
pub(crate) struct WalksArgs {
    /// A list of edges, plain or packed (.gz, .xz, .zst): two nodes a line, by any names, between tabs, commas or spaces; lines that
    /// start with # or % say nothing.
    #[arg(value_name = "EDGES")]
    edges: PathBuf,

    /// Edges lead only from their first node to their second.
    #[arg(long)]
    directed: bool,

    /// The third field of a line is the edge's weight.
    #[arg(long)]
    weighted: bool,

    /// The first line says what the fields are.
    #[arg(long)]
    header: bool,

    /// Labels of nodes to evaluate by: a node and a label a line; a node can have several lines.
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,

    /// Part of the labelled nodes that the classifier is trained on.
    #[arg(long, value_name = "SHARE", default_value_t = 0.5, requires = "labels")]
    labelled: f64,

    /// Random splits to take the mean of.
    #[arg(long, value_name = "N", default_value_t = 10, requires = "labels")]
    splits: u32,

    /// Walks from each node [default: 80].
    #[arg(long, value_name = "N", help_heading = "Recipe")]
    walks: Option<u32>,

    /// Nodes of a walk [default: 40].
    #[arg(long, value_name = "NODES", help_heading = "Recipe")]
    length: Option<usize>,

    /// node2vec's return parameter: the larger, the less a walk goes back to where it came from [default: 1].
    #[arg(long, help_heading = "Recipe")]
    p: Option<f64>,

    /// node2vec's in-out parameter: the larger, the closer a walk stays to where it came from [default: 1].
    #[arg(long, help_heading = "Recipe")]
    q: Option<f64>,

    /// skipgram (each node of a window predicts its centre) or cbow (their mean does) [default: skipgram].
    #[arg(long, value_parser = architecture, help_heading = "Recipe")]
    architecture: Option<Architecture>,

    /// Floats of a vector [default: 128].
    #[arg(long, help_heading = "Recipe")]
    dim: Option<usize>,

    /// Nodes to each side of a centre at most [default: 10].
    #[arg(long, help_heading = "Recipe")]
    window: Option<usize>,

    /// Random nodes that each centre is told apart from [default: 5].
    #[arg(long, help_heading = "Recipe")]
    negatives: Option<usize>,

    /// How negatives are chosen: naive (when used, rows read from where they are), preloc (ahead, and announced), pool:U and postpone:U
    /// (each draw U times), local (only among rows that are at the node). On one node naive, preloc and local are the same [default: local].
    #[arg(long, value_name = "SCHEME", help_heading = "Recipe")]
    sampling: Option<Scheme>,

    /// Negatives are drawn by a node's visits to this power [default: 0.75].
    #[arg(long, help_heading = "Recipe")]
    power: Option<f64>,

    /// Learning rate at the start; it falls linearly [default: 0.025, cbow 0.15].
    #[arg(long, value_name = "RATE", help_heading = "Recipe")]
    learning_rate: Option<f32>,

    /// Learning rate at the end [default: 0.0001].
    #[arg(long, value_name = "RATE", help_heading = "Recipe")]
    learning_rate_min: Option<f32>,

    /// Nodes of walks in a step of one worker [default: 1000].
    #[arg(long, value_name = "NODES", help_heading = "Recipe")]
    batch: Option<usize>,

    /// Vectors that --export writes besides the matrices: binary (vectors.bin), text (vectors.txt) or both [default: binary].
    #[arg(long, value_name = "FORMAT", value_parser = vectors, help_heading = "Files")]
    vectors: Option<VectorFormat>,

    #[command(flatten)]
    run: RunArgs,
}

/// Trains and reports.
pub(crate) fn run(args: &WalksArgs) -> anyhow::Result<ExitCode> {
    let build = |say| {
        let config = settings(args);
        config.check()?;
        let begun = Instant::now();
        let WalksArgs { directed, weighted, header, .. } = *args;
        let graph = Graph::read(&args.edges, EdgeOptions { directed, weighted, header })?;
        let evaluation = match &args.labels {
            Some(file) => {
                let labels = Labels::read(file, &graph)?;
                Some(Evaluation::new(labels, args.labelled, args.splits)?)
            }
            None => None,
        };
        if say {
            say_plan(&graph, evaluation.as_ref(), &config, begun);
        }
        let walks = Walks::new(graph, config)?;
        Ok(match evaluation {
            Some(evaluation) => walks.evaluated_by(evaluation),
            None => walks,
        })
    };
    run::run(&args.run, build)
}

fn say_plan(graph: &Graph, evaluation: Option<&Evaluation>, config: &WalksConfig, begun: Instant) {
    eprintln!(
        "{}: {} nodes, {} neighbours in all ({:.1} s)",
        graph.name,
        graph.nodes.len(),
        graph.edges(),
        begun.elapsed().as_secs_f64()
    );
    if let Some(evaluation) = evaluation {
        let labels = evaluation.labels();
        eprintln!("{} labels of {} nodes", labels.names.len(), labels.nodes.len());
    }
    eprintln!(
        "{}, {} walks of {} nodes from each, dimension {}, window {}, {} negatives, {} epochs",
        config.model(),
        config.walks,
        config.length,
        config.dim,
        config.window,
        config.negatives,
        config.run.epochs
    );
}

fn settings(args: &WalksArgs) -> WalksConfig {
    let architecture = args.architecture.unwrap_or(Architecture::SkipGram);
    let mut config = WalksConfig::for_architecture(architecture);
    take(&mut config.walks, args.walks.as_ref());
    take(&mut config.length, args.length.as_ref());
    take(&mut config.p, args.p.as_ref());
    take(&mut config.q, args.q.as_ref());
    take(&mut config.dim, args.dim.as_ref());
    take(&mut config.window, args.window.as_ref());
    take(&mut config.negatives, args.negatives.as_ref());
    take(&mut config.sampling, args.sampling.as_ref());
    take(&mut config.power, args.power.as_ref());
    take(&mut config.learning_rate, args.learning_rate.as_ref());
    take(&mut config.learning_rate_min, args.learning_rate_min.as_ref());
    take(&mut config.batch, args.batch.as_ref());
    take(&mut config.vectors, args.vectors.as_ref());
    args.run.apply(&mut config.run);
    config
}
