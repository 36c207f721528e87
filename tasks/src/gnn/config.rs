//! Settings of a training run, and what works for which kind of data.

use serde::{Deserialize, Serialize};

use super::data::Dataset;
use super::network::ModelKind;
use crate::task::{RunConfig, TaskError};

/// Which weights are pulled towards 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decay {
    /// Those of the first layer and the embeddings, as Kipf and Welling have it.
    First,
    /// Those of all layers and the embeddings.
    All,
}

/// All settings of a run. Start from [`GnnConfig::for_data`] and change what differs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GnnConfig {
    /// What all tasks have.
    #[serde(flatten)]
    pub run: RunConfig,
    /// The network.
    pub model: ModelKind,
    /// Floats of a learned embedding of each node; 0 takes the features of the data.
    pub embedding: usize,
    /// Floats of a node's row between layers.
    pub hidden: usize,
    /// Layers: so many edges away is what a node sees.
    pub layers: usize,
    /// Probability of dropping a value before each layer.
    pub dropout: f32,
    /// Adam's learning rate.
    pub learning_rate: f32,
    /// Times the weight itself, this is added to its gradient.
    pub weight_decay: f32,
    /// Where.
    pub decay: Decay,
    /// Standard deviation of embeddings at the start.
    pub init_std: f32,
    /// Whether each node's features are divided by their sum.
    pub normalise: bool,
    /// Training nodes in a step of one worker; 0 takes all that train, shared out among the workers.
    pub batch: usize,
    /// Neighbours to draw per node while training, the layer next to the features first; 0 for all of a layer's, and
    /// an empty list for all of all.
    pub fanout: Vec<usize>,
    /// Nodes evaluated at once by one worker.
    pub evaluate_batch: usize,
}

impl Default for GnnConfig {
    fn default() -> Self {
        Self {
            // Validating costs about a step, and the best epoch is long before the last.
            run: RunConfig { epochs: 200, keep_best: true, ..RunConfig::default() },
            model: ModelKind::Gcn,
            embedding: 0,
            hidden: 64,
            layers: 2,
            dropout: 0.5,
            learning_rate: 0.01,
            weight_decay: 5e-4,
            decay: Decay::First,
            init_std: 0.1,
            normalise: true,
            batch: 0,
            fanout: Vec::new(),
            evaluate_batch: 1 << 16,
        }
    }
}

impl GnnConfig {
    /// What works for data like these: few labels need regularisation, learned embeddings more of it and fewer epochs.
    #[must_use]
    pub fn for_data(data: &Dataset, model: ModelKind) -> Self {
        /// Of nodes with a class, in training.
        const FEW: f64 = 0.2;
        let few = data.trained_share() < FEW;
        let decay = if model == ModelKind::Gcn { Decay::First } else { Decay::All };
        let with_epochs = |epochs| {
            let run = RunConfig { epochs, ..Self::default().run };
            Self { run, model, decay, ..Self::default() }
        };
        match (data.features.is_some(), few) {
            (true, true) => with_epochs(200),
            (true, false) => Self { weight_decay: 0.0, dropout: 0.3, ..with_epochs(150) },
            (false, true) => Self { embedding: 64, ..with_epochs(30) },
            (false, false) => Self { embedding: 64, weight_decay: 1e-4, ..with_epochs(40) },
        }
    }

    /// The same in steps of `batch` nodes: with many steps in an epoch, fewer epochs do, and learned embeddings
    /// need only a few. 0 changes nothing.
    #[must_use]
    pub fn in_batches(mut self, batch: usize) -> Self {
        self.batch = batch;
        if batch > 0 {
            self.run.epochs = if self.embedding == 0 { 20 } else { 6 };
        }
        self
    }

    /// Fan-outs of all layers.
    #[must_use]
    pub fn fanouts(&self) -> Vec<usize> {
        if self.fanout.is_empty() { vec![0; self.layers] } else { self.fanout.clone() }
    }

    /// Whether steps draw neighbours.
    #[must_use]
    pub fn samples(&self) -> bool {
        self.fanout.iter().any(|&fanout| fanout > 0)
    }

    /// Refuses settings that cannot work, by name.
    ///
    /// # Errors
    /// [`TaskError::Setting`] for the first one that is out of range.
    pub fn check(&self) -> Result<(), TaskError> {
        const LAYERS_MAX: usize = 16;
        const WIDTH_MAX: usize = 1 << 14;
        let sizes = [
            ("hidden", self.hidden, 1, WIDTH_MAX),
            ("embedding", self.embedding, 0, WIDTH_MAX),
            ("layers", self.layers, 1, LAYERS_MAX),
            ("evaluate_batch", self.evaluate_batch, 1, usize::MAX),
        ];
        for (name, value, least, most) in sizes {
            if value < least {
                return Err(TaskError::setting(name, &value, "must be at least 1"));
            }
            if value > most {
                return Err(TaskError::setting(name, &value, "is too large"));
            }
        }
        let amounts = [
            ("learning_rate", self.learning_rate, f32::MIN_POSITIVE),
            ("weight_decay", self.weight_decay, 0.0),
            ("init_std", self.init_std, f32::MIN_POSITIVE),
        ];
        for (name, value, least) in amounts {
            if !(value.is_finite() && value >= least) {
                return Err(TaskError::setting(
                    name,
                    &value,
                    "must be a finite number, not negative",
                ));
            }
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(TaskError::setting(
                "dropout",
                &self.dropout,
                "must be 0 or more and below 1",
            ));
        }
        if !(self.fanout.is_empty() || self.fanout.len() == self.layers) {
            let value = format!("{:?}", self.fanout);
            return Err(TaskError::setting("fanout", &value, "needs a number for each layer"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{GnnConfig, TaskError};

    #[test]
    fn settings_that_cannot_work_are_named() {
        type Change = fn(&mut GnnConfig);
        let cases: [(&str, Change); 8] = [
            ("hidden", |c| c.hidden = 0),
            ("embedding", |c| c.embedding = 1 << 20),
            ("layers", |c| c.layers = 99),
            ("evaluate_batch", |c| c.evaluate_batch = 0),
            ("learning_rate", |c| c.learning_rate = f32::NAN),
            ("weight_decay", |c| c.weight_decay = -1.0),
            ("dropout", |c| c.dropout = 1.0),
            ("fanout", |c| c.fanout = vec![5]),
        ];
        assert!(GnnConfig::default().check().is_ok());
        for (expected, change) in cases {
            let mut config = GnnConfig::default();
            change(&mut config);
            let Err(TaskError::Setting { name, .. }) = config.check() else {
                panic!("{expected} passed");
            };
            assert_eq!(name, expected);
        }
    }
}
