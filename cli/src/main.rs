//! The `sterna` command: trains tasks, starts jobs, measures, and checks hosts.

mod bench;
mod data;
mod doctor;
mod generate;
mod interrupt;
mod launch;
mod probe;
mod reach;
mod train;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Trains large sparse models on one node or many, with the parameters where they are used.
#[derive(Debug, Parser)]
#[command(name = "sterna", version, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Train a model and report its quality.
    Train(train::TrainArgs),
    /// Write a data set of any size, from a seed.
    Generate(generate::GenerateArgs),
    /// The data sets of the field: list them, say where to get one, check a copy.
    Data(data::DataArgs),
    /// Measure this machine and Sterna on it.
    Bench(bench::BenchArgs),
    /// Check this host, and the network between hosts, for what Sterna needs to be fast.
    Doctor(doctor::DoctorArgs),
    /// Start any program as the ranks of a job on this host.
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
