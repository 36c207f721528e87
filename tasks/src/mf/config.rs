//! Settings of a factorisation, and the recipes that were found to work per data set.

use serde::{Deserialize, Serialize};

use super::Ratings;
use crate::task::{RunConfig, TaskError};

/// How gradients change rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerKind {
    /// Stochastic gradient descent.
    Sgd,
    /// Duchi et al. 2011: a rate of its own for each value.
    Adagrad,
    /// Adagrad with one sum for all factors of a row.
    RowAdagrad,
}

/// Who trains which ratings when; see [`plan`](super::plan).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// Workers have rows and columns of their own at any time.
    Block,
    /// Workers have rows of their own and go through the matrix column after column.
    Columnwise,
    /// Ratings in a random order; workers meet on rows and columns.
    Random,
}

/// All settings of a run. Start from [`MfConfig::for_ratings`] and change what differs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MfConfig {
    /// What all tasks have.
    #[serde(flatten)]
    pub run: RunConfig,
    /// Length of the factors.
    pub rank: usize,
    /// Whether the model has the mean and biases.
    pub biases: bool,
    /// Whether factors stay at 0 or above.
    pub nonnegative: bool,
    /// The optimizer.
    pub optimizer: OptimizerKind,
    /// Learning rate of the first epoch.
    pub learning_rate: f32,
    /// What the learning rate is multiplied by after each epoch.
    pub decay: f32,
    /// Weight of the factors' squares, once for each rating.
    pub reg: f32,
    /// Weight of the biases' squares, once for each rating.
    pub reg_bias: f32,
    /// Standard deviation of the factors at the start.
    pub init_std: f32,
    /// The schedule.
    pub schedule: Schedule,
    /// Parts into which rows, and columns, are cut: at least the workers of the job.
    pub parts: u32,
    /// Ratings in a step of one worker; 0 picks some.
    pub batch: usize,
}

/// Below, a matrix is small: it wants to be regularised more, and learnt more slowly.
const SMALL: usize = 300_000;

impl MfConfig {
    /// The best recipe known for these ratings, model and optimizer.
    #[must_use]
    pub fn for_ratings(ratings: &Ratings, biases: bool, optimizer: OptimizerKind) -> Self {
        let small = ratings.train.len() < SMALL;
        let mut config = Self { biases, optimizer, ..Self::default() };
        config.reg = if small { 0.10 } else { 0.06 };
        config.decay = if small { 0.97 } else { 0.95 };
        if optimizer != OptimizerKind::Sgd {
            // Adagrad slows down by itself, and starts to overfit earlier.
            (config.learning_rate, config.decay) = (if biases { 0.05 } else { 0.1 }, 1.0);
            config.run.epochs = 30;
        }
        config
    }

    /// Refuses settings that cannot work, by name.
    ///
    /// # Errors
    /// [`TaskError::Setting`] for the first one that is out of range.
    pub fn check(&self) -> Result<(), TaskError> {
        const PARTS_MAX: u32 = 1 << 12;
        if self.rank == 0 {
            return Err(TaskError::setting("rank", &self.rank, "must be at least 1"));
        }
        if self.parts == 0 || self.parts > PARTS_MAX {
            return Err(TaskError::setting("parts", &self.parts, "must be 1 to 4096"));
        }
        let amounts = [
            ("learning_rate", self.learning_rate, f32::MIN_POSITIVE),
            ("decay", self.decay, f32::MIN_POSITIVE),
            ("reg", self.reg, 0.0),
            ("reg_bias", self.reg_bias, 0.0),
            ("init_std", self.init_std, f32::MIN_POSITIVE),
        ];
        for (name, value, least) in amounts {
            if !(value.is_finite() && value >= least) {
                let reason = "must be a finite number, not negative";
                return Err(TaskError::setting(name, &value, reason));
            }
        }
        self.run.check()
    }
}

impl Default for MfConfig {
    /// Biased factors of a million ratings by SGD: ML-1M.
    fn default() -> Self {
        Self {
            run: RunConfig { epochs: 60, valid_every: 5, ..RunConfig::default() },
            rank: 128,
            biases: true,
            nonnegative: false,
            optimizer: OptimizerKind::Sgd,
            learning_rate: 0.02,
            decay: 0.95,
            reg: 0.06,
            reg_bias: 0.02,
            init_std: 0.1,
            schedule: Schedule::Block,
            parts: 16,
            batch: 0,
        }
    }
}

impl OptimizerKind {
    /// The name in reports: `sgd`, `adagrad`, `row_adagrad`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sgd => "sgd",
            Self::Adagrad => "adagrad",
            Self::RowAdagrad => "row_adagrad",
        }
    }
}

impl Schedule {
    /// The name in reports: `block`, `columnwise`, `random`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Columnwise => "columnwise",
            Self::Random => "random",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{MfConfig, TaskError};

    #[test]
    fn settings_out_of_range_are_named() {
        type Change = fn(&mut MfConfig);
        let cases: [(&str, Change); 6] = [
            ("rank", |c| c.rank = 0),
            ("parts", |c| c.parts = 0),
            ("learning_rate", |c| c.learning_rate = 0.0),
            ("reg", |c| c.reg = -1.0),
            ("init_std", |c| c.init_std = f32::NAN),
            ("resume", |c| c.run.resume = true),
        ];
        assert!(MfConfig::default().check().is_ok());
        for (expected, change) in cases {
            let mut config = MfConfig::default();
            change(&mut config);
            let Err(TaskError::Setting { name, .. }) = config.check() else {
                panic!("{expected} passed");
            };
            assert_eq!(name, expected);
        }
    }
}
