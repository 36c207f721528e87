//! Settings of word vectors.

use serde::{Deserialize, Serialize};
use sterna::sampling::Scheme;

use super::corpus::CHUNK_WORDS_MAX;
use super::trainer::Rate;
use crate::task::{RunConfig, TaskError};

/// How a window is trained on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// Each word of the window predicts the centre.
    SkipGram,
    /// The mean of the window's words predicts the centre.
    Cbow,
}

impl Architecture {
    /// The name in reports: `skipgram` or `cbow`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SkipGram => "skipgram",
            Self::Cbow => "cbow",
        }
    }

    /// The learning rate at the start. By CBOW a word gets its share of the mean's gradient, and not all of it as in the
    /// original program, so the rate is larger by about the words of a window (İrsoy et al. 2021).
    #[must_use]
    pub const fn learning_rate(self) -> f32 {
        match self {
            Self::SkipGram => 0.025,
            Self::Cbow => 0.15,
        }
    }
}

/// What a step is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// How a window is trained on.
    pub architecture: Architecture,
    /// Floats of a vector.
    pub dim: usize,
    /// The widest reach of a window to each side; that of each centre is drawn from `1..=window`.
    pub window: usize,
    /// Negatives of a centre.
    pub negatives: usize,
}

/// Which of word2vec's own files an export has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VectorFormat {
    /// `vectors.bin`.
    Binary,
    /// `vectors.txt`.
    Text,
    /// Both.
    Both,
}

/// All settings of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WordsConfig {
    /// What all tasks have.
    #[serde(flatten)]
    pub run: RunConfig,
    /// How a window is trained on.
    pub architecture: Architecture,
    /// Floats of a vector.
    pub dim: usize,
    /// The widest reach of a window to each side; that of each centre is drawn from `1..=window`.
    pub window: usize,
    /// Negatives of a centre, shared by the words of its window.
    pub negatives: usize,
    /// How negatives are sampled.
    #[serde(with = "crate::task::scheme_name")]
    pub sampling: Scheme,
    /// Exponent of a word's count in the distribution of negatives.
    pub power: f64,
    /// Words more frequent than this share of the text are dropped at times; 0 drops none.
    pub sample: f64,
    /// The learning rate at the start; it falls linearly.
    pub learning_rate: f32,
    /// The learning rate at the end.
    pub learning_rate_min: f32,
    /// Words in a step of one worker, in whole chunks of a thousand.
    pub batch: usize,
    /// The files of an export.
    pub vectors: VectorFormat,
}

impl Default for WordsConfig {
    fn default() -> Self {
        Self {
            run: RunConfig { epochs: 5, valid_every: 0, ..RunConfig::default() },
            architecture: Architecture::SkipGram,
            dim: 100,
            window: 5,
            negatives: 5,
            sampling: Scheme::Local,
            power: 0.75,
            sample: 1e-4,
            learning_rate: Architecture::SkipGram.learning_rate(),
            learning_rate_min: 1e-4,
            batch: 1000,
            vectors: VectorFormat::Binary,
        }
    }
}

/// Wider windows reach over whole sentences.
const WINDOW_MAX: usize = 1000;

impl WordsConfig {
    /// The recipe for an architecture.
    #[must_use]
    pub fn for_architecture(architecture: Architecture) -> Self {
        Self { architecture, learning_rate: architecture.learning_rate(), ..Self::default() }
    }

    /// What a step is like.
    #[must_use]
    pub fn shape(&self) -> Shape {
        let Self { architecture, dim, window, negatives, .. } = *self;
        Shape { architecture, dim, window, negatives }
    }

    /// The course of the learning rate.
    #[must_use]
    pub fn rate(&self) -> Rate {
        Rate { start: self.learning_rate, end: self.learning_rate_min }
    }

    /// Chunks in a batch.
    #[must_use]
    pub fn chunks_per_batch(&self) -> usize {
        self.batch.div_ceil(CHUNK_WORDS_MAX).max(1)
    }

    /// Refuses settings that cannot work, by name.
    ///
    /// # Errors
    /// [`TaskError::Setting`] for the first one that is out of range.
    pub fn check(&self) -> Result<(), TaskError> {
        self.shape().check()?;
        for (name, value) in [("power", self.power), ("sample", self.sample)] {
            if !(value.is_finite() && value >= 0.0) {
                return Err(TaskError::setting(name, &value, "must be a number, not negative"));
            }
        }
        self.rate().check()?;
        self.run.check()
    }
}

impl Shape {
    /// Refuses a shape that cannot work, by the setting's name.
    ///
    /// # Errors
    /// [`TaskError::Setting`] for the first one that is out of range.
    pub fn check(&self) -> Result<(), TaskError> {
        let named = [("dim", self.dim), ("window", self.window), ("negatives", self.negatives)];
        for (name, value) in named {
            if value == 0 {
                return Err(TaskError::setting(name, &value, "must be at least 1"));
            }
        }
        if self.window > WINDOW_MAX {
            return Err(TaskError::setting("window", &self.window, "is more than 1000"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{TaskError, WordsConfig};

    #[test]
    fn settings_out_of_range_are_named() {
        type Change = fn(&mut WordsConfig);
        let cases: [(&str, Change); 8] = [
            ("dim", |c| c.dim = 0),
            ("window", |c| c.window = 2000),
            ("negatives", |c| c.negatives = 0),
            ("power", |c| c.power = f64::NAN),
            ("sample", |c| c.sample = -1.0),
            ("learning_rate", |c| c.learning_rate = 0.0),
            ("learning_rate_min", |c| c.learning_rate_min = 0.5),
            ("resume", |c| c.run.resume = true),
        ];
        assert!(WordsConfig::default().check().is_ok());
        for (expected, change) in cases {
            let mut config = WordsConfig::default();
            change(&mut config);
            let Err(TaskError::Setting { name, .. }) = config.check() else {
                panic!("{expected} passed");
            };
            assert_eq!(name, expected);
        }
    }

    #[test]
    fn a_batch_is_whole_chunks_and_one_at_least() {
        let chunks = |batch| WordsConfig { batch, ..WordsConfig::default() }.chunks_per_batch();
        assert_eq!([0, 1, 1000, 1001, 10_000].map(chunks), [1, 1, 1, 2, 10]);
    }
}
