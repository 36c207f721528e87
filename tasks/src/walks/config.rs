//! Settings of node embeddings.

use serde::{Deserialize, Serialize};
use sterna::sampling::Scheme;

use crate::task::{RunConfig, TaskError};
use crate::words::{Architecture, Rate, Shape, VectorFormat};

/// All settings of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WalksConfig {
    /// What all tasks have. An epoch is all walks of all nodes.
    #[serde(flatten)]
    pub run: RunConfig,
    /// Walks from each node.
    pub walks: u32,
    /// Nodes of a walk.
    pub length: usize,
    /// node2vec's return parameter: the larger, the less a walk goes back; 1 with `q` 1 is `DeepWalk`.
    pub p: f64,
    /// node2vec's in-out parameter: the larger, the closer a walk stays.
    pub q: f64,
    /// How a window is trained on.
    pub architecture: Architecture,
    /// Floats of a vector.
    pub dim: usize,
    /// The widest reach of a window to each side.
    pub window: usize,
    /// Negatives of a centre, shared by the nodes of its window.
    pub negatives: usize,
    /// How negatives are sampled.
    #[serde(with = "crate::task::scheme_name")]
    pub sampling: Scheme,
    /// Exponent of a node's visits in the distribution of negatives.
    pub power: f64,
    /// The learning rate at the start; it falls linearly.
    pub learning_rate: f32,
    /// The learning rate at the end.
    pub learning_rate_min: f32,
    /// Nodes of walks in a step of one worker.
    pub batch: usize,
    /// The files of an export.
    pub vectors: VectorFormat,
}

impl Default for WalksConfig {
    fn default() -> Self {
        Self {
            run: RunConfig { epochs: 1, valid_every: 0, ..RunConfig::default() },
            walks: 80,
            length: 40,
            p: 1.0,
            q: 1.0,
            architecture: Architecture::SkipGram,
            dim: 128,
            window: 10,
            negatives: 5,
            sampling: Scheme::Local,
            power: 0.75,
            learning_rate: Architecture::SkipGram.learning_rate(),
            learning_rate_min: 1e-4,
            batch: 1000,
            vectors: VectorFormat::Binary,
        }
    }
}

impl WalksConfig {
    /// The recipe for an architecture.
    #[must_use]
    pub fn for_architecture(architecture: Architecture) -> Self {
        Self { architecture, learning_rate: architecture.learning_rate(), ..Self::default() }
    }

    /// `deepwalk`, or `node2vec` if walks remember where they came from.
    #[must_use]
    #[expect(clippy::float_cmp, reason = "exactly 1 is the setting that means no factor")]
    pub fn model(&self) -> &'static str {
        if self.p == 1.0 && self.q == 1.0 { "deepwalk" } else { "node2vec" }
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

    /// Walks in a batch.
    #[must_use]
    pub fn walks_per_batch(&self) -> usize {
        (self.batch / self.length.max(1)).max(1)
    }

    /// Refuses settings that cannot work, by name.
    ///
    /// # Errors
    /// [`TaskError::Setting`] for the first one that is out of range.
    pub fn check(&self) -> Result<(), TaskError> {
        self.shape().check()?;
        if self.walks == 0 {
            return Err(TaskError::setting("walks", &self.walks, "must be at least 1"));
        }
        if !(2..=1 << 20).contains(&self.length) {
            return Err(TaskError::setting("length", &self.length, "must be 2 to 1048576 nodes"));
        }
        for (name, value) in [("p", self.p), ("q", self.q)] {
            if !(value.is_finite() && value > 0.0) {
                return Err(TaskError::setting(name, &value, "must be a positive number"));
            }
        }
        if !(self.power.is_finite() && self.power >= 0.0) {
            let reason = "must be a number, not negative";
            return Err(TaskError::setting("power", &self.power, reason));
        }
        self.rate().check()?;
        self.run.check()
    }
}

#[cfg(test)]
mod tests {
    use super::{TaskError, WalksConfig};

    #[test]
    fn settings_out_of_range_are_named() {
        type Change = fn(&mut WalksConfig);
        let cases: [(&str, Change); 6] = [
            ("dim", |c| c.dim = 0),
            ("walks", |c| c.walks = 0),
            ("length", |c| c.length = 1),
            ("p", |c| c.p = 0.0),
            ("q", |c| c.q = f64::INFINITY),
            ("learning_rate", |c| c.learning_rate = f32::NAN),
        ];
        assert!(WalksConfig::default().check().is_ok());
        for (expected, change) in cases {
            let mut config = WalksConfig::default();
            change(&mut config);
            let Err(TaskError::Setting { name, .. }) = config.check() else {
                panic!("{expected} passed");
            };
            assert_eq!(name, expected);
        }
    }

    #[test]
    fn only_walks_that_remember_are_node2vec() {
        let model = |p, q| WalksConfig { p, q, ..WalksConfig::default() }.model();
        assert_eq!(
            [model(1.0, 1.0), model(0.5, 1.0), model(1.0, 2.0)],
            ["deepwalk", "node2vec", "node2vec"]
        );
    }
}
