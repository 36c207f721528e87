//! `sterna generate triples`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{bail, ensure};
use sterna_tasks::generate::{TripleLog, Triples};

use super::output;

/// Write a knowledge graph: a folder with train.txt, valid.txt and test.txt, lines of head, relation and tail with tabs between.
///
/// Entities and relations occur by Zipf's law; e0 is the most popular entity. Entities fall into classes, a relation takes each class to
/// one other, and some triples are noise. Triple number N depends on the seed and N alone.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sterna generate triples --out small
  sterna generate triples --entities 5000000 --relations 800 --triples 20000000 --held-out 5000 --out large
  sterna train kge --data small")]
pub(crate) struct TriplesArgs {
    /// Folder to write.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,

    /// Triples to train on.
    #[arg(long, value_name = "N", default_value_t = 50_000)]
    triples: u64,

    /// Triples to validate with, and as many to test with.
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..))]
    held_out: u64,

    /// Entities.
    #[arg(long, value_name = "N", default_value_t = Triples::default().entities, value_parser = clap::value_parser!(u32).range(1..))]
    entities: u32,

    /// Relations.
    #[arg(long, value_name = "N", default_value_t = Triples::default().relations, value_parser = clap::value_parser!(u32).range(1..))]
    relations: u32,

    /// Classes of entities.
    #[arg(long, value_name = "N", default_value_t = Triples::default().classes, value_parser = clap::value_parser!(u32).range(1..))]
    classes: u32,

    /// Exponent of Zipf's law for entities; 0 makes all alike.
    #[arg(long, value_name = "EXPONENT", default_value_t = Triples::default().entity_zipf)]
    entity_zipf: f64,

    /// Exponent of Zipf's law for relations.
    #[arg(long, value_name = "EXPONENT", default_value_t = Triples::default().relation_zipf)]
    relation_zipf: f64,

    /// Share of triples whose tail follows popularity alone.
    #[arg(long, value_name = "SHARE", default_value_t = Triples::default().noise)]
    noise: f64,

    /// Seed of everything.
    #[arg(long, default_value_t = Triples::default().seed)]
    seed: u64,
}

/// Writes it.
pub(crate) fn run(args: &TriplesArgs) -> anyhow::Result<ExitCode> {
    let &TriplesArgs { entities, relations, classes, entity_zipf, relation_zipf, noise, .. } = args;
    for exponent in [entity_zipf, relation_zipf] {
        ensure!(exponent.is_finite() && exponent >= 0.0, "an exponent must be a number from 0 on");
    }
    ensure!((0.0..=1.0).contains(&noise), "--noise must be a share, from 0 to 1");
    let graph = Triples {
        entities,
        relations,
        classes,
        entity_zipf,
        relation_zipf,
        noise,
        seed: args.seed,
    };
    let Some(test) = args.triples.checked_add(args.held_out) else {
        bail!("so many triples cannot be counted");
    };
    let ranges = [
        ("train.txt", (0, args.triples)),
        ("valid.txt", (args.triples, args.held_out)),
        ("test.txt", (test, args.held_out)),
    ];
    let mut files = ranges.map(|(name, range)| (name, TripleLog::new(graph, range)));
    output::write_folder(&args.out, "triples", &mut files)
}
