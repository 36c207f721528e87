//! The networks: layers with a rectifier between them and dropout before each.

use rand::RngCore;
use serde::{Deserialize, Serialize};

use super::block::{Blocks, Sum};
use super::layer::{Layer, Rows, Weights};
use crate::dense::Dropout;
use crate::dense::activation::{relu, relu_backward};
use crate::sparse::SparseRows;

/// Which network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModelKind {
    /// Graph convolution (Kipf and Welling 2017).
    Gcn,
    /// GraphSAGE with the mean of neighbours (Hamilton et al. 2017).
    Sage,
}

impl ModelKind {
    /// All kinds.
    pub const ALL: [Self; 2] = [Self::Gcn, Self::Sage];

    /// The name in reports: `gcn` or `sage`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gcn => "gcn",
            Self::Sage => "sage",
        }
    }

    /// How it sums neighbours.
    #[must_use]
    pub const fn sum(self) -> Sum {
        match self {
            Self::Gcn => Sum::Symmetric,
            Self::Sage => Sum::Mean,
        }
    }

    /// Whether a node's own row has a weight of its own.
    #[must_use]
    pub const fn has_own_weight(self) -> bool {
        matches!(self, Self::Sage)
    }
}

/// A network's shape and buffers; one per worker.
#[derive(Debug)]
pub struct Network {
    layers: Vec<Layer>,
    dropouts: Vec<Dropout>,
    /// Features after dropout; only used while training with it.
    features: SparseRows,
    /// Dense rows in of each layer, after dropout.
    rows: Vec<Vec<f32>>,
    scores: Vec<f32>,
    gradient: Vec<f32>,
    next_gradient: Vec<f32>,
    dropped_features: bool,
}

impl Network {
    /// With rows of these widths: input, between layers, classes. `dropout` is the probability of dropping.
    ///
    /// # Panics
    /// With fewer than two widths.
    #[must_use]
    pub fn new(widths: &[usize], dropout: f32) -> Self {
        assert!(widths.len() >= 2, "a network has at least one layer");
        let layers: Vec<Layer> = widths.windows(2).map(|w| Layer::new(w[0], w[1])).collect();
        Self {
            dropouts: vec![Dropout::new(dropout); layers.len()],
            rows: vec![Vec::new(); layers.len()],
            layers,
            features: SparseRows::default(),
            scores: Vec::new(),
            gradient: Vec::new(),
            next_gradient: Vec::new(),
            dropped_features: false,
        }
    }

    /// Scores of the batch's nodes, a row of classes each. `input` has a row for each of the blocks' nodes.
    /// With random numbers, values are dropped as in training.
    ///
    /// # Panics
    /// If blocks, input and weights do not fit each other.
    pub fn forward(
        &mut self,
        weights: &[Weights],
        blocks: &Blocks,
        input: Rows<'_>,
        mut random: Option<&mut impl RngCore>,
    ) -> &mut [f32] {
        self.take(input, random.as_deref_mut());
        let last = self.layers.len() - 1;
        for index in 0..=last {
            let (rows, later) = self.rows.split_at_mut(index + 1);
            let x = rows_in(index, input, self.dropped_features, &self.features, &rows[index]);
            let y = later.first_mut().unwrap_or(&mut self.scores);
            self.layers[index].forward(&weights[index], &blocks.layers[index], x, y);
            if index < last {
                relu(y);
                if let Some(random) = &mut random {
                    self.dropouts[index + 1].forward(random, y);
                }
            }
        }
        &mut self.scores
    }

    /// The gradients of a loss, once the scores of the last training [`Network::forward`] were replaced by the
    /// loss's gradient by them. Those by the weights are *added* to `d_weights`; the one by the embeddings comes
    /// back, and nothing for given features.
    ///
    /// # Panics
    /// As [`Network::forward`].
    pub fn backward(
        &mut self,
        weights: &[Weights],
        d_weights: &mut [Weights],
        blocks: &Blocks,
        input: Rows<'_>,
    ) -> &[f32] {
        self.gradient.clone_from(&self.scores);
        for index in (0..self.layers.len()).rev() {
            let rows = &self.rows[index];
            let x = rows_in(index, input, self.dropped_features, &self.features, rows);
            let wanted = matches!(x, Rows::Dense(_));
            let dx = wanted.then_some(&mut self.next_gradient);
            let weights = (&weights[index], &mut d_weights[index]);
            self.layers[index].backward(weights, &blocks.layers[index], x, &self.gradient, dx);
            if !wanted {
                return &[];
            }
            self.dropouts[index].backward(&mut self.next_gradient);
            if index > 0 {
                // Where dropout set the rectifier's output to 0, it did the same to the gradient.
                relu_backward(rows, &mut self.next_gradient);
            }
            std::mem::swap(&mut self.gradient, &mut self.next_gradient);
        }
        &self.gradient
    }

    /// Drops values of the input, if it is to be.
    fn take(&mut self, input: Rows<'_>, random: Option<&mut impl RngCore>) {
        self.dropped_features = false;
        match input {
            Rows::Sparse(features) => {
                let Some(random) = random else { return };
                if self.dropouts[0].is_active() {
                    self.features.clone_from(features);
                    self.dropouts[0].forward(random, self.features.values_mut());
                    self.dropped_features = true;
                }
            }
            Rows::Dense(embeddings) => {
                self.rows[0].clear();
                self.rows[0].extend_from_slice(embeddings);
                if let Some(random) = random {
                    self.dropouts[0].forward(random, &mut self.rows[0]);
                }
            }
        }
    }

    /// Rows into the last layer at the last [`Network::forward`], those of the batch's nodes first; none if the only layer
    /// took given features.
    #[must_use]
    pub fn last_rows(&self) -> &[f32] {
        self.rows.last().map_or(&[], Vec::as_slice)
    }

    /// Floats of a row of scores.
    #[must_use]
    pub fn classes(&self) -> usize {
        self.layers.last().map_or(0, Layer::outputs)
    }
}

/// What a layer's rows in are.
fn rows_in<'a>(
    index: usize,
    input: Rows<'a>,
    dropped: bool,
    features: &'a SparseRows,
    rows: &'a [f32],
) -> Rows<'a> {
    match input {
        Rows::Sparse(_) if index == 0 && dropped => Rows::Sparse(features),
        Rows::Sparse(_) if index == 0 => input,
        _ => Rows::Dense(rows),
    }
}

#[cfg(test)]
mod tests;
