//! `sterna train`: one subcommand for each task.

mod ctr;
mod gnn;
mod kge;
mod mf;
mod progress;
mod run;
mod words;

use std::process::ExitCode;

/// Train a model and report its quality.
#[derive(Debug, clap::Args)]
pub(crate) struct TrainArgs {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, clap::Subcommand)]
enum Task {
    /// Click-through prediction: logistic regression, FM, Wide&Deep, DeepFM, DCN-V2.
    Ctr(Box<ctr::CtrArgs>),
    /// Graph neural networks: GCN and GraphSAGE for the classes of nodes.
    Gnn(Box<gnn::GnnArgs>),
    /// Knowledge graph embeddings: ComplEx and DistMult with shared sampled negatives.
    Kge(Box<kge::KgeArgs>),
    /// Matrix factorisation of ratings, with or without biases.
    Mf(Box<mf::MfArgs>),
    /// Word vectors: skip-gram and CBOW with negative sampling.
    Words(Box<words::WordsArgs>),
}

/// Runs the task to its end.
pub(crate) fn run(args: &TrainArgs) -> anyhow::Result<ExitCode> {
    match &args.task {
        Task::Ctr(args) => ctr::run(args),
        Task::Gnn(args) => gnn::run(args),
        Task::Kge(args) => kge::run(args),
        Task::Mf(args) => mf::run(args),
        Task::Words(args) => words::run(args),
    }
}
