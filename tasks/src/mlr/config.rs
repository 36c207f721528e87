//! Settings of a regression.

use serde::{Deserialize, Serialize};
use sterna::Optimizer;

use crate::task::{RunConfig, TaskError};

/// How gradients change weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerKind {
    /// Stochastic gradient descent.
    Sgd,
    /// Duchi et al. 2011: a rate of its own for each weight.
    Adagrad,
    /// Adagrad with one sum for all weights of a feature.
    RowAdagrad,
}

/// All settings of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MlrConfig {
    /// What all tasks have.
    #[serde(flatten)]
    pub run: RunConfig,
    /// The optimizer.
    pub optimizer: OptimizerKind,
    /// Learning rate of the first epoch.
    pub learning_rate: f32,
    /// What the learning rate is multiplied by after each epoch.
    pub decay: f32,
    /// Weight of the squares of a feature's weights, once for each batch that has the feature.
    pub l2: f32,
    /// Examples in a step of one worker; 0 picks some by the number of workers.
    pub batch: usize,
}

/// Examples of all workers together in one step.
const EXAMPLES_PER_ROUND: usize = 128;

impl MlrConfig {
    /// Refuses settings that cannot work, by name.
    ///
    /// # Errors
    /// [`TaskError::Setting`] for the first one that is out of range.
    pub fn check(&self) -> Result<(), TaskError> {
        let amounts = [
            ("learning_rate", self.learning_rate, f32::MIN_POSITIVE),
            ("decay", self.decay, f32::MIN_POSITIVE),
            ("l2", self.l2, 0.0),
        ];
        for (name, value, least) in amounts {
            if !(value.is_finite() && value >= least) {
                let reason = "must be a finite number, not negative";
                return Err(TaskError::setting(name, &value, reason));
            }
        }
        self.run.check()
    }

    /// Examples in a step of one worker, when the job has this many workers.
    #[must_use]
    pub fn batch_for(&self, workers: usize) -> usize {
        if self.batch > 0 {
            return self.batch;
        }
        (EXAMPLES_PER_ROUND / workers.max(1)).max(16)
    }

    /// The manager's optimizer.
    #[must_use]
    pub fn optimizer(&self) -> Optimizer {
        match self.optimizer {
            OptimizerKind::Sgd => Optimizer::sgd(self.learning_rate),
            OptimizerKind::Adagrad => Optimizer::adagrad(self.learning_rate),
            OptimizerKind::RowAdagrad => Optimizer::row_adagrad(self.learning_rate),
        }
    }
}

impl Default for MlrConfig {
    /// What MNIST likes: Adagrad without a schedule.
    fn default() -> Self {
        Self {
            run: RunConfig { epochs: 15, ..RunConfig::default() },
            optimizer: OptimizerKind::Adagrad,
            learning_rate: 0.05,
            decay: 1.0,
            l2: 0.0,
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

#[cfg(test)]
mod tests {
    use super::{MlrConfig, TaskError};

    #[test]
    fn settings_out_of_range_are_named() {
        type Change = fn(&mut MlrConfig);
        let cases: [(&str, Change); 4] = [
            ("learning_rate", |c| c.learning_rate = f32::NAN),
            ("decay", |c| c.decay = 0.0),
            ("l2", |c| c.l2 = -1.0),
            ("epochs", |c| c.run.epochs = 0),
        ];
        assert!(MlrConfig::default().check().is_ok());
        for (expected, change) in cases {
            let mut config = MlrConfig::default();
            change(&mut config);
            let Err(TaskError::Setting { name, .. }) = config.check() else {
                panic!("{expected} passed");
            };
            assert_eq!(name, expected);
        }
    }
}
