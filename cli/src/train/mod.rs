//! `sterna train`: one subcommand for each task.

mod ctr;
mod gnn;
mod kge;
pub(crate) mod mf;
mod mlr;
mod progress;
mod run;
mod walks;
mod words;

use std::process::ExitCode;

/// Train a model and report its quality.
///
/// Each task has recipes for its usual data, so that data are all it needs; an option changes one setting. All tasks share the
/// options of job, course and files: nodes and workers, checkpoints that Ctrl-C writes and --resume reads, export, a report as
/// JSON, a learning curve as SVG.
#[derive(Debug, clap::Args)]
#[command(after_help = "First commands:
  sterna train kge                       needs no data: WN18RR is part of this program
  sterna train TASK --help               what a task reads, its models and all settings
  sterna train mf --data ml-1m --report out.json --plot curve.svg
  sterna train words text8 --nodes 2 --workers 2 --export vectors")]
pub(crate) struct TrainArgs {
    #[command(subcommand)]
    task: Task,
}

// Lines for the list of tasks. They are no doc comments, which would hide those of the arguments from `--help`.
#[derive(Debug, clap::Subcommand)]
enum Task {
    #[command(
        about = "Click-through prediction: logistic regression, FM, Wide&Deep, DeepFM, DCN-V2"
    )]
    Ctr(Box<ctr::CtrArgs>),
    #[command(about = "Graph neural networks: GCN and GraphSAGE for the classes of nodes")]
    Gnn(Box<gnn::GnnArgs>),
    #[command(about = "Knowledge graph embeddings: ComplEx, DistMult, RESCAL, TransE, RotatE")]
    Kge(Box<kge::KgeArgs>),
    #[command(about = "Matrix factorisation of ratings, with or without biases")]
    Mf(Box<mf::MfArgs>),
    #[command(about = "Multinomial logistic regression, sparse and dense")]
    Mlr(Box<mlr::MlrArgs>),
    #[command(about = "Node embeddings: DeepWalk and node2vec")]
    Walks(Box<walks::WalksArgs>),
    #[command(about = "Word vectors: skip-gram and CBOW with negative sampling")]
    Words(Box<words::WordsArgs>),
}

/// Runs the task to its end.
pub(crate) fn run(args: &TrainArgs) -> anyhow::Result<ExitCode> {
    match &args.task {
        Task::Ctr(args) => ctr::run(args),
        Task::Gnn(args) => gnn::run(args),
        Task::Kge(args) => kge::run(args),
        Task::Mf(args) => mf::run(args),
        Task::Mlr(args) => mlr::run(args),
        Task::Walks(args) => walks::run(args),
        Task::Words(args) => words::run(args),
    }
}
