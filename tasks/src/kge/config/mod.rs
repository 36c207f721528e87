//! Settings of a training run.

mod kinds;
mod recipes;

use serde::{Deserialize, Serialize};
use sterna::sampling::Scheme;

use super::loss::LossKind;
use crate::task::{RunConfig, TaskError};
pub use kinds::{ModelKind, OptimizerKind, Regularizer};

/// All settings of a run. Start from [`KgeConfig::for_graph`] and change what differs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KgeConfig {
    /// What all tasks have.
    #[serde(flatten)]
    pub run: RunConfig,
    /// The model.
    pub model: ModelKind,
    /// Dimensions: complex ones for ComplEx, whose rows are twice as many floats.
    pub dim: usize,
    /// Whether each relation has a second row for the direction from tail to head.
    pub reciprocal: bool,
    /// Triples in a step of one worker; 0 picks one by the number of workers.
    pub batch: usize,
    /// Entities drawn per step, shared by all queries of the batch.
    pub negatives: usize,
    /// How they are sampled.
    #[serde(with = "crate::task::scheme_name")]
    pub sampling: Scheme,
    /// The loss of a query's scores.
    pub loss: LossKind,
    /// What logistic losses add to scores; distances are compared with it.
    pub margin: f32,
    /// How sharply the self-adversarial loss picks the negatives that score high.
    pub temperature: f32,
    /// Whether all entities are candidates of every query, in place of a pool. One node only.
    pub one_vs_all: bool,
    /// How gradients change rows.
    pub optimizer: OptimizerKind,
    /// The learning rate at the start. It falls linearly to 0 at the end.
    pub learning_rate: f32,
    /// The regulariser.
    pub regularizer: Regularizer,
    /// Its weight on the entity rows of a triple.
    pub lambda_entity: f32,
    /// Its weight on its relation rows, or on its queries.
    pub lambda_relation: f32,
    /// Share of the values of an entity's row that a query does not see; drawn for each query.
    pub dropout_entity: f32,
    /// Share of the values of a relation's row that a step does not see; drawn for each step.
    pub dropout_relation: f32,
    /// Standard deviation of the initial rows.
    pub init_std: f32,
    /// Whether pool scores get `ln((n-1)/N)`, so that the pool stands for all entities.
    pub correction: bool,
    /// Validation triples to rank, spread evenly over the split; 0 ranks all.
    pub valid_max: usize,
}

/// Triples of all workers together in one step; more at a time train on rows too stale.
const TRIPLES_PER_ROUND: usize = 1024;

impl KgeConfig {
    /// Refuses settings that cannot work, by name.
    ///
    /// # Errors
    /// [`TaskError::Setting`] for the first one that is out of range.
    pub fn check(&self) -> Result<(), TaskError> {
        let positive = |name, value: usize| {
            let reason = "must be at least 1";
            if value == 0 { Err(setting(name, &value, reason)) } else { Ok(()) }
        };
        positive("dim", self.dim)?;
        positive("negatives", self.negatives)?;
        let amounts = [
            ("learning_rate", self.learning_rate, f32::MIN_POSITIVE),
            ("lambda_entity", self.lambda_entity, 0.0),
            ("lambda_relation", self.lambda_relation, 0.0),
            ("init_std", self.init_std, f32::MIN_POSITIVE),
            ("margin", self.margin, 0.0),
            ("temperature", self.temperature, 0.0),
        ];
        for (name, value, least) in amounts {
            if !(value.is_finite() && value >= least) {
                return Err(setting(name, &value, "must be a finite number, not negative"));
            }
        }
        let shares =
            [("dropout_entity", self.dropout_entity), ("dropout_relation", self.dropout_relation)];
        for (name, value) in shares {
            if !(0.0..1.0).contains(&value) {
                return Err(setting(name, &value, "must be at least 0 and less than 1"));
            }
        }
        if self.model == ModelKind::RotatE && self.dropout_relation > 0.0 {
            let reason = "rotate's relations are angles, of which none can be dropped";
            return Err(setting("dropout_relation", &self.dropout_relation, reason));
        }
        self.run.check()
    }

    /// Triples in a step of one worker, when the job has this many workers.
    #[must_use]
    pub fn batch_for(&self, workers: usize) -> usize {
        if self.batch > 0 {
            return self.batch;
        }
        // Workers step side by side on rows that do not show each other's steps yet.
        (TRIPLES_PER_ROUND / workers.max(1)).clamp(32, 256)
    }
}

fn setting(name: &'static str, value: &dyn ToString, reason: &'static str) -> TaskError {
    TaskError::setting(name, value, reason)
}

#[cfg(test)]
mod tests {
    use super::{KgeConfig, TaskError};

    #[test]
    fn settings_out_of_range_are_named() {
        type Change = fn(&mut KgeConfig);
        let cases: [(&str, Change); 9] = [
            ("dim", |c| c.dim = 0),
            ("learning_rate", |c| c.learning_rate = 0.0),
            ("lambda_entity", |c| c.lambda_entity = f32::NAN),
            ("init_std", |c| c.init_std = -1.0),
            ("margin", |c| c.margin = -1.0),
            ("temperature", |c| c.temperature = f32::INFINITY),
            ("dropout_entity", |c| c.dropout_entity = 1.0),
            ("dropout_relation", |c| {
                (c.model, c.dropout_relation) = (super::ModelKind::RotatE, 0.1);
            }),
            ("resume", |c| c.run.resume = true),
        ];
        assert!(KgeConfig::default().check().is_ok());
        for (expected, change) in cases {
            let mut config = KgeConfig::default();
            change(&mut config);
            let Err(TaskError::Setting { name, .. }) = config.check() else {
                panic!("{expected} passed");
            };
            assert_eq!(name, expected);
        }
    }

    #[test]
    fn many_workers_get_smaller_batches_unless_one_is_set() {
        let mut config = KgeConfig::default();
        assert_eq!([1, 4, 8, 1000].map(|w| config.batch_for(w)), [256, 256, 128, 32]);
        config.batch = 512;
        assert_eq!(config.batch_for(8), 512);
    }
}
