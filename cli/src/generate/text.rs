//! `sterna generate text`.

use std::process::ExitCode;

use anyhow::ensure;
use sterna_tasks::generate::{Text, TextPairs, TextShape};

use super::output::{self, OutputArgs};

/// Write text by Zipf's law: made-up words, a sentence a line.
///
/// Each sentence has a topic, and a part of its words are the topic's; words of a topic stand together, which word vectors find. With
/// --pairs it writes judgements about the words instead: pairs, scored 10 if they are of one topic and 0 if not. Sentence number N
/// depends on the seed and N alone.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sterna generate text --sentences 1000000 --out text.txt
  mkdir questions && sterna generate text --pairs 1000 --out questions/topics.tsv
  sterna train words text.txt --evaluate questions
  sterna generate text --sentences 1000000000 | zstd > text.txt.zst")]
pub(crate) struct TextArgs {
    /// Sentences to write.
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    sentences: u64,

    /// Number of the first one.
    #[arg(long, value_name = "N", default_value_t = 0)]
    first: u64,

    /// Different words.
    #[arg(long, value_name = "N", default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1..))]
    words: u32,

    /// Topics.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    topics: u32,

    /// The part of a sentence's words that are of its topic.
    #[arg(long, value_name = "SHARE", default_value_t = 0.5)]
    focus: f64,

    /// Words of a sentence.
    #[arg(long, value_name = "WORDS", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    sentence: u32,

    /// Exponent of Zipf's law; 0 makes all words alike.
    #[arg(long, value_name = "EXPONENT", default_value_t = 1.0)]
    zipf: f64,

    /// Write so many scored pairs of words instead of sentences.
    #[arg(long, value_name = "N")]
    pairs: Option<u64>,

    /// Pairs are of the most frequent words, this many.
    #[arg(long, value_name = "N", default_value_t = 2000, requires = "pairs")]
    among: u32,

    /// Seed of everything.
    #[arg(long, default_value_t = 1)]
    seed: u64,

    #[command(flatten)]
    output: OutputArgs,
}

/// Writes it.
pub(crate) fn run(args: &TextArgs) -> anyhow::Result<ExitCode> {
    ensure!(args.zipf.is_finite() && args.zipf >= 0.0, "--zipf must be a number from 0 on");
    ensure!((0.0..=1.0).contains(&args.focus), "--focus must be from 0 to 1");
    ensure!(args.topics <= args.words, "--topics must be at most --words");
    let TextArgs { words, topics, focus, sentence, zipf: exponent, seed, .. } = *args;
    let shape = TextShape { words, topics, focus, sentence, exponent };
    match args.pairs {
        None => {
            let mut text = Text::new(shape, seed, (args.first, args.sentences));
            output::write(&args.output, "sentences", &mut text)
        }
        Some(pairs) => {
            let mut pairs = TextPairs::new(shape, seed, pairs, args.among);
            output::write(&args.output, "pairs", &mut pairs)
        }
    }
}
