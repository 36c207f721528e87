//! `sterna train words`: the settings of word vectors from the command line.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use sterna::sampling::Scheme;
use sterna_tasks::words::{
    Architecture, Corpus, Evaluation, ReadOptions, VectorFormat, Words, WordsConfig,
};

use super::run::{self, RunArgs, take};

/// Train word vectors.
///
/// Skip-gram or CBOW with negative sampling (word2vec), on a text of words between white space. A sentence is a line, or
/// a thousand words where lines are longer (a text in one line, as text8, is cut so). Frequent words are dropped at random
/// before windows are laid; how far a window reaches is drawn for each word.
///
/// The words of a window share their negatives, which makes a window a small matrix product.
///
/// Quality is asked by --evaluate, with the protocol of gensim: analogies by 3CosAdd among the 30,000 and the 300,000 most
/// frequent words, and Spearman's rank correlation with people's judgements of similarity.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sterna train words text8 --export vectors              vectors.bin, which gensim reads
  sterna train words text8 --evaluate questions/ --valid-every 1 --plot curve.svg
  sterna train words news.txt.zst --lower-case --dim 300 --epochs 3
  sterna train words texts/ --architecture cbow          all files of a folder
  sterna train words text8 --nodes 2 --workers 2         two processes on this host

In Python: gensim.models.KeyedVectors.load_word2vec_format(\"vectors/vectors.bin\", binary=True)")]
pub(crate) struct WordsArgs {
    /// A text in UTF-8, or a folder of texts; plain or packed (.gz, .xz, .zst).
    #[arg(value_name = "TEXT")]
    text: PathBuf,

    /// Folder to evaluate by: questions-words.txt (analogies), and files of word pairs with scores such as wordsim353.tsv
    /// and simlex999.txt (word TAB word TAB score).
    #[arg(long, value_name = "DIR")]
    evaluate: Option<PathBuf>,

    /// Words that occur fewer times are left out.
    #[arg(long, value_name = "N", default_value_t = 5)]
    min_count: u64,

    /// Turn capital letters into small ones.
    #[arg(long)]
    lower_case: bool,

    /// Threads that read the text; all cores if not given.
    #[arg(long, value_name = "N")]
    read_threads: Option<usize>,

    /// skipgram (each word of a window predicts its centre) or cbow (their mean does) [default: skipgram].
    #[arg(long, value_parser = architecture, help_heading = "Recipe")]
    architecture: Option<Architecture>,

    /// Floats of a vector [default: 100].
    #[arg(long, help_heading = "Recipe")]
    dim: Option<usize>,

    /// Words to each side of a centre at most [default: 5].
    #[arg(long, help_heading = "Recipe")]
    window: Option<usize>,

    /// Random words that each centre is told apart from [default: 5].
    #[arg(long, help_heading = "Recipe")]
    negatives: Option<usize>,

    /// How negatives are chosen: naive (when used, rows read from where they are), preloc (ahead, and announced), pool:U and postpone:U
    /// (each draw U times), local (only among rows that are at the node). On one node naive, preloc and local are the same [default: local].
    #[arg(long, value_name = "SCHEME", help_heading = "Recipe")]
    sampling: Option<Scheme>,

    /// Negatives are drawn by a word's count to this power [default: 0.75].
    #[arg(long, help_heading = "Recipe")]
    power: Option<f64>,

    /// Words with a larger share of the text are dropped at times; 0 drops none [default: 1e-4].
    #[arg(long, value_name = "SHARE", help_heading = "Recipe")]
    sample: Option<f64>,

    /// Learning rate at the start; it falls linearly [default: 0.025, cbow 0.15].
    #[arg(long, value_name = "RATE", help_heading = "Recipe")]
    learning_rate: Option<f32>,

    /// Learning rate at the end [default: 0.0001].
    #[arg(long, value_name = "RATE", help_heading = "Recipe")]
    learning_rate_min: Option<f32>,

    /// Words in a step of one worker, rounded up to thousands [default: 1000].
    #[arg(long, value_name = "WORDS", help_heading = "Recipe")]
    batch: Option<usize>,

    /// Vectors that --export writes besides the matrices: binary (vectors.bin), text (vectors.txt) or both [default: binary].
    #[arg(long, value_name = "FORMAT", value_parser = vectors, help_heading = "Files")]
    vectors: Option<VectorFormat>,

    #[command(flatten)]
    run: RunArgs,
}

/// Trains and reports.
pub(crate) fn run(args: &WordsArgs) -> anyhow::Result<ExitCode> {
    let build = |say| {
        let config = settings(args);
        config.check()?;
        let corpus = read(args, say)?;
        if say {
            eprintln!(
                "{}, dimension {}, window {}, {} negatives, {} epochs",
                config.architecture.name(),
                config.dim,
                config.window,
                config.negatives,
                config.run.epochs
            );
        }
        let evaluation = match &args.evaluate {
            Some(folder) => Some(Evaluation::read(folder, &corpus.words)?),
            None => None,
        };
        let words = Words::new(corpus, config)?;
        Ok(match evaluation {
            Some(evaluation) => words.evaluated_by(evaluation),
            None => words,
        })
    };
    run::run(&args.run, build)
}

fn read(args: &WordsArgs, say: bool) -> anyhow::Result<Corpus> {
    let begun = Instant::now();
    let mut options = ReadOptions {
        count_min: args.min_count,
        lower_case: args.lower_case,
        ..ReadOptions::default()
    };
    take(&mut options.threads, args.read_threads.as_ref());
    let corpus = Corpus::read(&args.text, &options)?;
    if say {
        eprintln!(
            "{}: {} words, {} different ones, {} of them at least {} times; {} sentences ({:.1} s)",
            corpus.name,
            corpus.words_read,
            corpus.types_read,
            corpus.words.len(),
            args.min_count,
            corpus.sentences(),
            begun.elapsed().as_secs_f64()
        );
    }
    Ok(corpus)
}

fn settings(args: &WordsArgs) -> WordsConfig {
    let architecture = args.architecture.unwrap_or(Architecture::SkipGram);
    let mut config = WordsConfig::for_architecture(architecture);
    take(&mut config.dim, args.dim.as_ref());
    take(&mut config.window, args.window.as_ref());
    take(&mut config.negatives, args.negatives.as_ref());
    take(&mut config.sampling, args.sampling.as_ref());
    take(&mut config.power, args.power.as_ref());
    take(&mut config.sample, args.sample.as_ref());
    take(&mut config.learning_rate, args.learning_rate.as_ref());
    take(&mut config.learning_rate_min, args.learning_rate_min.as_ref());
    take(&mut config.batch, args.batch.as_ref());
    take(&mut config.vectors, args.vectors.as_ref());
    args.run.apply(&mut config.run);
    config
}

/// An architecture by its name.
pub(super) fn architecture(text: &str) -> Result<Architecture, String> {
    [Architecture::SkipGram, Architecture::Cbow]
        .into_iter()
        .find(|architecture| architecture.name().eq_ignore_ascii_case(text))
        .ok_or_else(|| format!("`{text}` is no architecture: skipgram or cbow"))
}

/// Files of vectors by their name.
pub(super) fn vectors(text: &str) -> Result<VectorFormat, String> {
    match text {
        "binary" => Ok(VectorFormat::Binary),
        "text" => Ok(VectorFormat::Text),
        "both" => Ok(VectorFormat::Both),
        _ => Err(format!("`{text}` is no format of vectors: binary, text or both")),
    }
}
