//! What a step is about: nodes, the blocks that lead to them, and the rows of the first table that they need.

use rand::Rng;

use super::block::{BlockBuilder, Blocks};
use super::config::GnnConfig;
use super::data::Dataset;
use super::layer::Rows;
use crate::sparse::SparseRows;

const NOWHERE: u32 = u32::MAX;

/// Nodes to train on or to evaluate.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Which of the training nodes these are; empty in evaluation.
    pub(super) examples: Vec<u32>,
    /// The nodes' classes.
    pub(super) labels: Vec<u32>,
    pub(super) blocks: Blocks,
    /// Features of the blocks' nodes; a column is a place in `keys`. No rows with learned embeddings.
    features: SparseRows,
    /// Keys of the first table: features that occur, or the blocks' nodes.
    pub(super) keys: Vec<u64>,
    /// What drops values in this step.
    pub(super) dropout_seed: u64,
}

impl Batch {
    /// The rows in of the network: features, or what was pulled by `keys`.
    pub(super) fn input<'a>(&'a self, pulled: &'a [f32]) -> Rows<'a> {
        if self.features.is_empty() { Rows::Dense(pulled) } else { Rows::Sparse(&self.features) }
    }
}

/// Builds batches; one per worker.
#[derive(Debug)]
pub(super) struct BatchBuilder {
    blocks: BlockBuilder,
    /// Place of each feature in the batch's keys, or [`NOWHERE`].
    places: Vec<u32>,
}

impl BatchBuilder {
    pub(super) fn new(data: &Dataset, config: &GnnConfig) -> Self {
        let blocks = BlockBuilder::new(std::sync::Arc::clone(&data.graph), config.model.sum());
        let features = data.features.as_ref().filter(|_| config.embedding == 0);
        Self { blocks, places: vec![NOWHERE; features.map_or(0, SparseRows::columns)] }
    }

    /// Makes `batch` the one of these nodes.
    pub(super) fn build(
        &mut self,
        data: &Dataset,
        nodes: &[u32],
        fanouts: &[usize],
        random: &mut impl Rng,
        batch: &mut Batch,
    ) {
        batch.labels.clear();
        batch.labels.extend(nodes.iter().map(|&node| data.classes[node as usize]));
        self.blocks.build(nodes, fanouts, random, &mut batch.blocks);
        batch.keys.clear();
        batch.features.clear(0);
        match &data.features {
            Some(features) if !self.places.is_empty() => self.take_features(features, batch),
            _ => batch.keys.extend(batch.blocks.nodes.iter().copied().map(u64::from)),
        }
    }

    /// Copies the features of the blocks' nodes, numbered by their first appearance.
    fn take_features(&mut self, features: &SparseRows, batch: &mut Batch) {
        for &node in &batch.blocks.nodes {
            let (columns, values) = features.row(node as usize);
            let (keys, places) = (&mut batch.keys, &mut self.places);
            batch.features.push(columns.iter().zip(values).map(|(&column, &value)| {
                let place = &mut places[column as usize];
                if *place == NOWHERE {
                    *place = u32::try_from(keys.len()).expect("features are u32");
                    keys.push(u64::from(column));
                }
                (*place, value)
            }));
        }
        for &key in &batch.keys {
            self.places[usize::try_from(key).expect("features are u32")] = NOWHERE;
        }
    }
}
