//! `sterna train`: one subcommand for each task.

mod kge;
mod progress;
mod run;

use std::process::ExitCode;

/// Train a model and report its quality.
#[derive(Debug, clap::Args)]
pub(crate) struct TrainArgs {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, clap::Subcommand)]
enum Task {
    /// Knowledge graph embeddings: ComplEx and DistMult with shared sampled negatives.
    Kge(Box<kge::KgeArgs>),
}

/// Runs the task to its end.
pub(crate) fn run(args: &TrainArgs) -> anyhow::Result<ExitCode> {
    match &args.task {
        Task::Kge(args) => kge::run(args),
    }
}
