//! How good word vectors are: analogies and judgements of similarity.
//!
//! Both follow gensim's `evaluate_word_analogies` and `evaluate_word_pairs`, so that figures can be
//! compared: words are compared in capitals, of several spellings the most frequent one stands for
//! all, and questions with a word that the vocabulary does not have are left out. Only input vectors
//! are used.

mod analogies;
mod pairs;
mod unit;

use std::path::Path;

use rustc_hash::FxHashMap;

pub use analogies::{Analogies, Tally};
pub use pairs::{WordPairs, spearman};

use super::INPUT;
use crate::data::{DataError, Vocabulary, files_of, plain_name};
use crate::task::{Goal, Parameters, Quality, Share, TaskError};

/// Words beyond these many most frequent ones are neither asked for nor answers.
pub const WORDS_MAX: usize = 300_000;
/// The smaller cut that analogies are also counted by.
pub const WORDS_FEW: usize = 30_000;

/// The name of the analogies' file in a folder of evaluations; all other files there are word pairs.
pub const ANALOGIES_FILE: &str = "questions-words.txt";

const EXPECTED_FOLDER: &str =
    "questions-words.txt (analogies), or files of word pairs with scores such as wordsim353.tsv";

/// What to ask of the vectors of one vocabulary.
#[derive(Clone, Debug, Default)]
pub struct Evaluation {
    /// Analogies, if there are any.
    pub analogies: Option<Analogies>,
    /// Word pairs, by the names of their sets.
    pub pairs: Vec<(String, WordPairs)>,
}

impl Evaluation {
    /// Reads the files of a folder, plain or packed.
    ///
    /// # Errors
    /// Files that cannot be read or have another form; a folder without any.
    pub fn read(folder: &Path, words: &Vocabulary) -> Result<Self, DataError> {
        let spellings = Spellings::new(words);
        let mut evaluation = Self::default();
        for file in files_of(folder, EXPECTED_FOLDER)? {
            let name = plain_name(&file);
            if name == ANALOGIES_FILE {
                evaluation.analogies = Some(Analogies::read(&file, &spellings)?);
                continue;
            }
            let stem = name.rsplit_once('.').map_or(&*name, |(stem, _)| stem);
            evaluation.pairs.push((stem.to_lowercase(), WordPairs::read(&file, &spellings)?));
        }
        Ok(evaluation)
    }

    /// The figure to look at first.
    #[must_use]
    pub fn goal(&self) -> Goal {
        Goal::Maximise(if self.analogies.is_some() { "analogy_30k" } else { "similarity" })
    }

    /// The words whose vectors every worker will read; besides them a worker meets its share of all others once.
    pub fn words(&self) -> impl Iterator<Item = u64> + '_ {
        let asked = self.analogies.iter().flat_map(Analogies::words);
        asked.chain(self.pairs.iter().flat_map(|(_, pairs)| pairs.words().iter().copied()))
    }

    /// Asks the vectors; all workers call it together.
    ///
    /// # Errors
    /// Those of the parameter manager.
    pub fn evaluate(
        &self,
        parameters: &mut Parameters<'_>,
        share: Share,
    ) -> Result<Quality, TaskError> {
        let mut figures = Vec::new();
        if let Some(analogies) = &self.analogies {
            for (cut, tally) in ["_30k", ""].into_iter().zip(analogies.ask(parameters, share)?) {
                figures.push((format!("analogy{cut}"), tally.all()));
                figures.push((format!("semantic{cut}"), tally.semantic()));
                figures.push((format!("syntactic{cut}"), tally.syntactic()));
                figures.push((format!("analogies_asked{cut}"), tally.asked()));
            }
        }
        let mut sum = 0.0;
        for (name, pairs) in &self.pairs {
            let correlation = pairs.correlation(parameters)?;
            sum += correlation;
            figures.push((name.clone(), correlation));
        }
        if !self.pairs.is_empty() {
            #[expect(clippy::cast_precision_loss, reason = "sets are few")]
            figures.push(("similarity".into(), sum / self.pairs.len() as f64));
        }
        Ok(Quality(figures))
    }
}

/// Finds words whatever their case.
#[derive(Clone, Debug)]
pub struct Spellings {
    numbers: FxHashMap<String, u32>,
    /// Whether a word stands for its spellings, by number.
    first: Vec<bool>,
}

impl Spellings {
    /// Of the most frequent words of a vocabulary that is ordered by frequency.
    #[must_use]
    pub fn new(words: &Vocabulary) -> Self {
        let mut numbers = FxHashMap::default();
        let mut first = Vec::new();
        for (number, word) in (0..).zip(words.names().take(WORDS_MAX)) {
            let known = numbers.contains_key(&word.to_uppercase());
            if !known {
                numbers.insert(word.to_uppercase(), number);
            }
            first.push(!known);
        }
        Self { numbers, first }
    }

    /// The number of a word.
    #[must_use]
    pub fn number(&self, word: &str) -> Option<u32> {
        self.numbers.get(&word.to_uppercase()).copied()
    }

    /// How many words are known.
    #[must_use]
    pub fn words(&self) -> usize {
        self.first.len()
    }
}

/// Pulls the input rows of these words, each scaled to unit length.
fn pull_units(
    parameters: &mut Parameters<'_>,
    words: &[u64],
    rows: &mut Vec<f32>,
) -> Result<(), TaskError> {
    let dim = parameters.table(INPUT).dim();
    rows.resize(words.len() * dim, 0.0);
    parameters.pull(INPUT, words, rows)?;
    rows.chunks_exact_mut(dim).for_each(unit::scale);
    Ok(())
}
