//! What a worker does with a batch of examples.

use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;

use super::data::Examples;
use super::interaction;
use super::metrics::{log_loss, sigmoid};
use super::network::Network;
use super::{CtrConfig, CtrTask, DENSE, FEATURE};
use crate::dense::DenseRows;
use crate::sparse::Distinct;
use crate::task::{Loss, Parameters, TaskError};

/// A batch: its distinct features, and its examples in terms of these.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub(super) keys: Vec<u64>,
    places: Vec<u32>,
    values: Vec<f32>,
    ends: Vec<u32>,
    pub(super) labels: Vec<bool>,
    /// Of what is dropped.
    pub(super) seed: u64,
}

impl Batch {
    pub(super) fn examples(&self) -> interaction::Examples<'_> {
        interaction::Examples { places: &self.places, values: &self.values, ends: &self.ends }
    }
}

/// A worker's model and buffers.
#[derive(Debug)]
pub struct State {
    pub(super) network: Network,
    pub(super) dense: DenseRows,
    distinct: Distinct,
    features: Vec<u32>,
    pub(super) rows: Vec<f32>,
    pub(super) row_gradients: Vec<f32>,
    slopes: Vec<f32>,
    /// How far running statistics go to a batch's.
    statistics_share: f32,
}

impl State {
    pub(super) fn new(task: &CtrTask, workers: usize) -> Self {
        /// PyTorch's momentum of batch normalisation.
        const STATISTICS_SHARE: f32 = 0.1;
        let (network, layout) = Network::new(&task.config, task.fields());
        #[expect(clippy::cast_precision_loss, reason = "workers are few")]
        let statistics_share = STATISTICS_SHARE / workers.max(1) as f32;
        Self {
            network,
            dense: DenseRows::new(&layout),
            distinct: Distinct::new(task.clicks.features),
            features: Vec::new(),
            rows: Vec::new(),
            row_gradients: Vec::new(),
            slopes: Vec::new(),
            statistics_share,
        }
    }

    /// Makes `batch` the batch of these examples.
    pub(super) fn take(
        &mut self,
        batch: &mut Batch,
        examples: &Examples,
        numbers: impl Iterator<Item = usize>,
    ) {
        self.features.clear();
        batch.values.clear();
        batch.ends.clear();
        batch.labels.clear();
        for number in numbers {
            let (features, values) = examples.get(number);
            self.features.extend_from_slice(features);
            batch.values.extend_from_slice(values);
            batch.ends.push(u32::try_from(self.features.len()).expect("a batch is small"));
            batch.labels.push(examples.label(number));
        }
        self.distinct.scan(&self.features, &mut batch.keys, &mut batch.places);
    }

    /// Takes the rows of the batch as they are now.
    pub(super) fn pull(
        &mut self,
        batch: &Batch,
        row_len: usize,
        parameters: &mut Parameters<'_>,
    ) -> Result<(), TaskError> {
        self.rows.resize(batch.keys.len() * row_len, 0.0);
        parameters.pull(FEATURE, &batch.keys, &mut self.rows)?;
        Ok(())
    }

    /// The gradients of the batch's mean log loss and of the rows' L2; returns the losses.
    pub(super) fn gradients(&mut self, task: &CtrTask, batch: &Batch) -> Loss {
        let (layout, examples) = (&task.layout, batch.examples());
        let mut random = Xoshiro256PlusPlus::seed_from_u64(batch.seed);
        let dense = (layout, &self.dense.values[..]);
        let logits = self.network.forward(dense, examples, &self.rows, Some(&mut random));
        #[expect(clippy::cast_precision_loss, reason = "a batch is small")]
        let share = 1.0 / batch.labels.len().max(1) as f32;
        let mut loss = Loss::default();
        self.slopes.clear();
        for (&logit, &label) in logits.iter().zip(&batch.labels) {
            loss.add(log_loss(logit, label));
            self.slopes.push(share * (sigmoid(logit) - if label { 1.0 } else { 0.0 }));
        }
        self.row_gradients.clear();
        self.row_gradients.extend(self.rows.iter().map(|&value| task.config.l2 * value));
        self.network.backward(
            dense,
            (examples, &self.rows),
            &self.slopes,
            &mut self.row_gradients,
            &mut self.dense.gradients,
        );
        self.network.moves(dense, self.statistics_share, &mut self.dense.gradients);
        loss
    }

    /// Trains on a batch.
    pub(super) fn step(
        &mut self,
        task: &CtrTask,
        batch: &Batch,
        parameters: &mut Parameters<'_>,
    ) -> Result<Loss, TaskError> {
        self.pull(batch, CtrConfig::row_parts(&task.config).row_len(), parameters)?;
        self.dense.pull(DENSE, parameters)?;
        let loss = self.gradients(task, batch);
        parameters.push(FEATURE, &batch.keys, &self.row_gradients)?;
        self.dense.push(DENSE, parameters)?;
        Ok(loss)
    }

    /// Appends the logits of examples, with dense parameters as of their last pull.
    pub(super) fn predict(
        &mut self,
        task: &CtrTask,
        examples: &Examples,
        numbers: std::ops::Range<usize>,
        batch: &mut Batch,
        parameters: &mut Parameters<'_>,
        logits: &mut Vec<f32>,
    ) -> Result<(), TaskError> {
        self.take(batch, examples, numbers);
        self.pull(batch, task.config.row_parts().row_len(), parameters)?;
        let dense = (&task.layout, &self.dense.values[..]);
        let found = self.network.forward(dense, batch.examples(), &self.rows, None);
        logits.extend_from_slice(found);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
