//! Settings of a training run, and the recipes that were found to work per data set.

use serde::{Deserialize, Serialize};

use super::{Graph, data::wn18rr};
use crate::task::{RunConfig, TaskError};

/// Which model scores the triples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelKind {
    /// Trouillon et al. 2016: `Re <h, r, conj(t)>` over complex rows. Asymmetric relations too.
    ComplEx,
    /// Yang et al. 2015: `<h, r, t>` over real rows. Symmetric in head and tail.
    DistMult,
}

impl ModelKind {
    /// The name in reports: `complex` or `distmult`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ComplEx => "complex",
            Self::DistMult => "distmult",
        }
    }
}

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
    /// Adagrad's learning rate at the start. It falls linearly to 0 at the end.
    pub learning_rate: f32,
    /// Weight of the N3 regulariser on the entity rows of a triple.
    pub lambda_entity: f32,
    /// Weight of the N3 regulariser on its relation rows.
    pub lambda_relation: f32,
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
    /// The best recipe known for the graph's data set, or plain defaults for an unknown one.
    #[must_use]
    pub fn for_graph(graph: &Graph) -> Self {
        let counts = graph.counts();
        if graph.name.eq_ignore_ascii_case(wn18rr::NAME) {
            Self::wn18rr()
        } else if (counts.entities, counts.relations, counts.train) == (14_541, 237, 272_115) {
            // By its counts and not its folder's name, which people spell in many ways.
            Self::fb15k_237()
        } else {
            Self::default()
        }
    }

    /// ComplEx on WN18RR: filtered test MRR 0.46 in minutes.
    #[must_use]
    pub fn wn18rr() -> Self {
        Self::default()
    }

    /// ComplEx on FB15k-237: filtered test MRR 0.345 in minutes.
    #[must_use]
    pub fn fb15k_237() -> Self {
        Self {
            dim: 200,
            reciprocal: true,
            run: RunConfig { epochs: 22, ..Self::default().run },
            batch: 1024,
            lambda_entity: 0.1,
            lambda_relation: 0.05,
            init_std: 0.001,
            valid_max: 3_000,
            ..Self::default()
        }
    }

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
        ];
        for (name, value, least) in amounts {
            if !(value.is_finite() && value >= least) {
                return Err(setting(name, &value, "must be a finite number, not negative"));
            }
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

impl Default for KgeConfig {
    /// A middling graph of some ten thousand entities; also the recipe of WN18RR.
    fn default() -> Self {
        Self {
            run: RunConfig { epochs: 30, valid_every: 5, patience: 3, ..RunConfig::default() },
            model: ModelKind::ComplEx,
            dim: 256,
            reciprocal: false,
            batch: 0,
            negatives: 1000,
            learning_rate: 0.1,
            lambda_entity: 0.2,
            lambda_relation: 0.1,
            init_std: 0.05,
            correction: true,
            valid_max: 0,
        }
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
        let cases: [(&str, Change); 5] = [
            ("dim", |c| c.dim = 0),
            ("learning_rate", |c| c.learning_rate = 0.0),
            ("lambda_entity", |c| c.lambda_entity = f32::NAN),
            ("init_std", |c| c.init_std = -1.0),
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
