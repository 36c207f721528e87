//! What a trained network leaves behind.
//!
//! | matrix | rows, columns |
//! | --- | --- |
//! | `layers.N.weight`, `layers.N.own` (GraphSAGE) | a row per input, a column per output |
//! | `layers.N.bias` | one row |
//! | `embedding` | learned embeddings, a row per node |
//! | `hidden` | what goes into the last layer, a row per node: its representation |
//! | `scores` | a row per node, a column per class: the logarithms of probabilities but for a constant |
//!
//! `node.tsv` has the numbers of the nodes in their files, `class.tsv` what the classes are called.

use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;

use super::batch::Batch;
use super::step::Step;
use super::tables::{DENSE, INPUT};
use super::task::Gnn;
use crate::task::{Export, Parameters, TaskError};

impl Gnn {
    /// Writes all of it; see [`Task::export`](crate::task::Task::export).
    pub(super) fn write(&self, export: &mut Export<'_, '_>) -> Result<(), TaskError> {
        let rows = self.tables.specs(&self.config)[INPUT].keys();
        if self.tables.by_feature {
            let width = self.tables.widths[1];
            export.matrix("layers.0.weight", INPUT, 0..rows, 0..width);
            if self.config.model.has_own_weight() {
                export.matrix("layers.0.own", INPUT, 0..rows, width..2 * width);
            }
        } else {
            export.matrix("embedding", INPUT, 0..rows, 0..self.config.embedding);
        }
        self.tables.layout.export(DENSE, export)?;
        let (hidden, scores) = self.all_nodes(export.parameters())?;
        if self.config.layers > 1 {
            export.values("hidden", self.config.hidden, hidden);
        }
        export.values("scores", self.data.class_names.len(), scores);
        let numbers: Vec<String> = self.data.numbers.iter().map(u64::to_string).collect();
        export.names("node", numbers.iter().map(String::as_str))?;
        export.names("class", self.data.class_names.iter().map(String::as_str))
    }

    /// Rows into the last layer and scores of all nodes.
    fn all_nodes(
        &self,
        parameters: &mut Parameters<'_>,
    ) -> Result<(Vec<f32>, Vec<f32>), TaskError> {
        let mut step = Step::new(&self.data, &self.config, &self.tables);
        let nodes: Vec<u32> = (0..).zip(&self.data.classes).map(|(node, _)| node).collect();
        let (mut hidden, mut scores) = (Vec::new(), Vec::new());
        let (mut batch, fanouts) = (Batch::default(), vec![0; self.config.layers]);
        for chunk in nodes.chunks(self.config.evaluate_batch) {
            let mut random = Xoshiro256PlusPlus::seed_from_u64(0);
            step.builder.build(&self.data, chunk, &fanouts, &mut random, &mut batch);
            scores.extend_from_slice(step.scores(&self.tables, &batch, parameters)?);
            if self.config.layers > 1 {
                hidden.extend_from_slice(step.hidden(chunk.len() * self.config.hidden));
            }
        }
        Ok((hidden, scores))
    }
}
