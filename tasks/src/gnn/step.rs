//! A worker's buffers, and what a step does with them.

use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;

use super::batch::{Batch, BatchBuilder};
use super::config::GnnConfig;
use super::data::Dataset;
use super::layer::Weights;
use super::network::Network;
use super::tables::{DENSE, INPUT, Tables};
use crate::dense::DenseRows;
use crate::dense::cross_entropy::cross_entropy;
use crate::task::{Parameters, TaskError};

/// A worker's buffers.
#[derive(Debug)]
pub struct Step {
    pub(super) builder: BatchBuilder,
    network: Network,
    dense: DenseRows,
    /// Pulled rows of the first table, then their gradients.
    input: Vec<f32>,
    weights: Vec<Weights>,
    gradients: Vec<Weights>,
}

impl Step {
    pub(super) fn new(data: &Dataset, config: &GnnConfig, tables: &Tables) -> Self {
        Self {
            builder: BatchBuilder::new(data, config),
            network: Network::new(&tables.widths, config.dropout),
            dense: DenseRows::new(&tables.layout),
            input: Vec::new(),
            weights: tables.weights(),
            gradients: tables.weights(),
        }
    }

    /// Keys of the dense table.
    pub(super) fn dense_keys(tables: &Tables) -> std::ops::Range<u64> {
        0..tables.layout.rows() as u64
    }

    /// Takes the rows that a batch needs.
    fn pull(
        &mut self,
        tables: &Tables,
        batch: &Batch,
        parameters: &mut Parameters<'_>,
    ) -> Result<(), TaskError> {
        self.input.resize(batch.keys.len() * tables.input_len(), 0.0);
        parameters.pull(INPUT, &batch.keys, &mut self.input)?;
        self.dense.pull(DENSE, parameters)?;
        tables.unpack(&self.input, &self.dense, &mut self.weights);
        Ok(())
    }

    /// Trains on a batch; returns the sum of its losses.
    pub(super) fn train(
        &mut self,
        tables: &Tables,
        decay: f32,
        batch: &Batch,
        parameters: &mut Parameters<'_>,
    ) -> Result<f64, TaskError> {
        self.pull(tables, batch, parameters)?;
        let input = batch.input(&self.input);
        let mut random = Xoshiro256PlusPlus::seed_from_u64(batch.dropout_seed);
        let scores = self.network.forward(&self.weights, &batch.blocks, input, Some(&mut random));
        let classes = scores.len() / batch.labels.len();
        #[expect(clippy::cast_precision_loss, reason = "a batch is small")]
        let scale = 1.0 / batch.labels.len() as f32;
        let loss = cross_entropy(scores, classes, &batch.labels, scale);
        Tables::clear(&self.weights, &mut self.gradients);
        let d_input =
            self.network.backward(&self.weights, &mut self.gradients, &batch.blocks, input);
        tables.pack(&self.gradients, d_input, decay, &mut self.input, &mut self.dense);
        parameters.push(INPUT, &batch.keys, &self.input)?;
        self.dense.push(DENSE, parameters)?;
        Ok(loss)
    }

    /// Scores of a batch's nodes as the model is, a row of classes each.
    pub(super) fn scores(
        &mut self,
        tables: &Tables,
        batch: &Batch,
        parameters: &mut Parameters<'_>,
    ) -> Result<&[f32], TaskError> {
        self.pull(tables, batch, parameters)?;
        let input = batch.input(&self.input);
        let none = None::<&mut Xoshiro256PlusPlus>;
        Ok(self.network.forward(&self.weights, &batch.blocks, input, none))
    }

    /// The first `floats` of what went into the last layer with the last batch: rows of its nodes.
    pub(super) fn hidden(&self, floats: usize) -> &[f32] {
        &self.network.last_rows()[..floats]
    }
}
