//! `sterna generate`: data sets of any size from a seed, one subcommand for each form.

mod clicks;
mod graph;
mod matrix;
mod output;
mod text;
mod triples;

use std::process::ExitCode;

/// Write a data set of any size, from a seed.
#[derive(Debug, clap::Args)]
pub(crate) struct GenerateArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    #[command(about = "Clicks in Criteo's form: 13 integers, 26 categories by Zipf's law")]
    Clicks(clicks::ClicksArgs),
    /// A matrix of low rank whose known cells follow Zipf's law, for `train mf`.
    Matrix(matrix::MatrixArgs),
    #[command(about = "A scale-free graph with communities, as a list of edges")]
    Graph(graph::GraphArgs),
    #[command(about = "Text by Zipf's law, with topics")]
    Text(text::TextArgs),
    /// A knowledge graph: entities and relations by Zipf's law.
    Triples(triples::TriplesArgs),
}

/// Writes it.
pub(crate) fn run(args: &GenerateArgs) -> anyhow::Result<ExitCode> {
    match &args.what {
        What::Clicks(args) => clicks::run(args),
        What::Matrix(args) => matrix::run(args),
        What::Graph(args) => graph::run(args),
        What::Text(args) => text::run(args),
        What::Triples(args) => triples::run(args),
    }
}
