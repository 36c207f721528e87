//! The `sterna` command: trains tasks, starts jobs, measures, and checks hosts.

mod bench;
mod data;
mod doctor;
mod generate;
mod interrupt;
mod launch;
mod plot;
mod probe;
mod reach;
mod train;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Trains large sparse models on one node or many, with the parameters where they are used.
#[derive(Debug, Parser)]
#[command(
    name = "sterna",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    after_help = "First commands:
  sterna train kge        a minute of training on data inside this program
  sterna train --help     the tasks
  sterna data             data sets of the field, and where to get them
  sterna doctor           what this host lacks to be fast"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

// Lines for the list. They are no doc comments, which would hide those of the arguments from `--help`.
#[derive(Debug, Subcommand)]
enum Command {
    #[command(about = "Train a model and report its quality")]
    Train(train::TrainArgs),
    #[command(about = "Write a data set of any size, from a seed")]
    Generate(generate::GenerateArgs),
    #[command(about = "The data sets of the field: list them, say where to get one, check a copy")]
    Data(data::DataArgs),
    #[command(about = "Measure this machine and Sterna on it")]
    Bench(bench::BenchArgs),
    #[command(
        about = "Check this host, and the network between hosts, for what Sterna needs to be fast"
    )]
    Doctor(doctor::DoctorArgs),
    #[command(about = "Start any program as the ranks of a job on this host")]
    Launch(launch::LaunchArgs),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Train(args) => train::run(&args),
        Command::Generate(args) => generate::run(&args),
        Command::Data(args) => data::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Launch(args) => launch::run(&args),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("sterna: {error:#}");
            ExitCode::FAILURE
        }
    }
}
