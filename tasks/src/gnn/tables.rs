//! How a network lies in tables.
//!
//! ```text
//! table "input", given features      key = feature    | row of W of layer 0 | row of W_own of layer 0 |
//! table "input", learned embeddings  key = node       | embedding |
//! table "dense"                      all other weights and the biases, on rows that every worker wants for ever
//! ```
//!
//! A step copies both into [`Weights`], and gradients back.

use sterna::{Init, Optimizer, TableSpec};

use super::config::{Decay, GnnConfig};
use super::data::Dataset;
use super::layer::Weights;
use crate::dense::{DenseRows, Layout, PartId, Start};
use crate::sparse::SparseRows;

/// The table of features or embeddings.
pub const INPUT: usize = 0;
/// The table of the other weights.
pub const DENSE: usize = 1;

/// Where everything of a network is.
#[derive(Debug)]
pub(super) struct Tables {
    /// Floats of a node's row before each layer and after the last.
    pub(super) widths: Vec<usize>,
    pub(super) layout: Layout,
    layers: Vec<LayerParts>,
    /// Keys of the first table.
    input_keys: u64,
    has_own: bool,
    /// Whether the first table holds the first layer's weights.
    pub(super) by_feature: bool,
}

/// The dense parts of a layer.
#[derive(Debug)]
struct LayerParts {
    sum: Option<PartId>,
    own: Option<PartId>,
    bias: PartId,
    decays: bool,
}

impl Tables {
    pub(super) fn new(data: &Dataset, config: &GnnConfig) -> Self {
        let features = data.features.as_ref().map_or(0, SparseRows::columns);
        let by_feature = config.embedding == 0;
        let input = if by_feature { features } else { config.embedding };
        let input_keys = if by_feature { features } else { data.nodes() };
        let hidden = std::iter::repeat_n(config.hidden, config.layers - 1);
        let widths: Vec<usize> =
            [input].into_iter().chain(hidden).chain([data.class_names.len()]).collect();
        let has_own = config.model.has_own_weight();
        let mut layout = Layout::new();
        let layers = widths.windows(2).enumerate().map(|(index, width)| {
            let shape = [width[0], width[1]];
            let start = Start::glorot(width[0], width[1]);
            let mut add = |name, wanted: bool| {
                wanted.then(|| layout.add(format!("layers.{index}.{name}"), &shape, start))
            };
            let dense = index > 0 || !by_feature;
            let (sum, own) = (add("weight", dense), add("own", dense && has_own));
            let bias = layout.add(format!("layers.{index}.bias"), &width[1..], Start::Zeros);
            LayerParts { sum, own, bias, decays: index == 0 || config.decay == Decay::All }
        });
        let layers = layers.collect();
        Self { widths, layout, layers, input_keys: input_keys as u64, has_own, by_feature }
    }

    /// Both tables, [`INPUT`] first.
    pub(super) fn specs(&self, config: &GnnConfig) -> Vec<TableSpec> {
        let optimizer = Optimizer::adam(config.learning_rate);
        let init = if self.by_feature {
            let Start::Uniform { bound } = Start::glorot(self.widths[0], self.widths[1]) else {
                unreachable!("Glorot's start is uniform");
            };
            Init::Uniform { low: -bound, high: bound }
        } else {
            Init::Normal { std: config.init_std }
        };
        let input = TableSpec::new("input", self.input_keys, self.input_len()).init(init);
        vec![input.optimizer(optimizer), self.layout.table("dense", optimizer)]
    }

    /// Floats of a row of the first table.
    pub(super) fn input_len(&self) -> usize {
        let parts = if self.by_feature && self.has_own { 2 } else { 1 };
        if self.by_feature { parts * self.widths[1] } else { self.widths[0] }
    }

    /// Empty weights of all layers.
    pub(super) fn weights(&self) -> Vec<Weights> {
        vec![Weights::default(); self.layers.len()]
    }

    /// Takes the weights out of pulled rows.
    pub(super) fn unpack(&self, input: &[f32], dense: &DenseRows, weights: &mut [Weights]) {
        if self.by_feature {
            let (sum, own) = (&mut weights[0].sum, &mut weights[0].own);
            sum.clear();
            own.clear();
            if self.has_own {
                for row in input.chunks_exact(self.input_len()) {
                    let (for_sum, for_own) = row.split_at(self.widths[1]);
                    sum.extend_from_slice(for_sum);
                    own.extend_from_slice(for_own);
                }
            } else {
                sum.extend_from_slice(input);
            }
        }
        let copy = |id: Option<PartId>, to: &mut Vec<f32>| {
            if let Some(id) = id {
                to.clear();
                to.extend_from_slice(self.layout.part(id, &dense.values));
            }
        };
        for (parts, weights) in self.layers.iter().zip(weights) {
            copy(parts.sum, &mut weights.sum);
            copy(parts.own, &mut weights.own);
            copy(Some(parts.bias), &mut weights.bias);
        }
    }

    /// Makes `gradients` zeros as long as the weights.
    pub(super) fn clear(weights: &[Weights], gradients: &mut [Weights]) {
        let zero = |like: &Vec<f32>, gradient: &mut Vec<f32>| {
            gradient.clear();
            gradient.resize(like.len(), 0.0);
        };
        for (weights, gradients) in weights.iter().zip(gradients) {
            zero(&weights.sum, &mut gradients.sum);
            zero(&weights.own, &mut gradients.own);
            zero(&weights.bias, &mut gradients.bias);
        }
    }

    /// Puts the gradients where the rows are, `decay` times the weights added: the first table's in `input`, which
    /// holds the pulled rows before, the others in `dense`. `d_embeddings` is empty with given features.
    pub(super) fn pack(
        &self,
        gradients: &[Weights],
        d_embeddings: &[f32],
        decay: f32,
        input: &mut [f32],
        dense: &mut DenseRows,
    ) {
        let step = |value: &mut f32, gradient: &f32| *value = decay.mul_add(*value, *gradient);
        if self.by_feature && self.has_own {
            let width = self.widths[1];
            let (sum, own) =
                (gradients[0].sum.chunks_exact(width), gradients[0].own.chunks_exact(width));
            for ((row, sum), own) in input.chunks_exact_mut(2 * width).zip(sum).zip(own) {
                row.iter_mut().zip(sum.iter().chain(own)).for_each(|(value, g)| step(value, g));
            }
        } else {
            let found = if self.by_feature { &gradients[0].sum } else { d_embeddings };
            assert_eq!(input.len(), found.len());
            input.iter_mut().zip(found).for_each(|(value, g)| step(value, g));
        }
        for (parts, gradients) in self.layers.iter().zip(gradients) {
            let decay = if parts.decays { decay } else { 0.0 };
            let ids = [(parts.sum, &gradients.sum), (parts.own, &gradients.own)];
            for (id, found) in ids {
                let Some(id) = id else { continue };
                let range = self.layout.range(id);
                let (to, values) = (&mut dense.gradients[range.clone()], &dense.values[range]);
                for ((to, &value), &g) in to.iter_mut().zip(values).zip(found) {
                    *to = decay.mul_add(value, g);
                }
            }
            self.layout.part_mut(parts.bias, &mut dense.gradients).copy_from_slice(&gradients.bias);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::Tables;
    use crate::dense::DenseRows;
    use crate::dense::difference::numbers;
    use crate::gnn::data::{Dataset, Splits};
    use crate::gnn::graph::Neighbours;
    use crate::gnn::{Decay, GnnConfig, ModelKind};
    use crate::sparse::SparseRows;

    fn data() -> Dataset {
        let mut features = SparseRows::new(5);
        (0..4).for_each(|node| features.push([(node, 1.0)]));
        Dataset {
            name: "four".into(),
            graph: Arc::new(Neighbours::new(4, &[(0, 1), (2, 3)])),
            features: Some(features),
            classes: vec![0, 1, 2, 0],
            class_names: ["a", "b", "c"].map(String::from).into(),
            numbers: (0..4).collect(),
            splits: Splits { train: vec![0, 1], ..Splits::default() },
        }
    }

    #[test]
    fn gradients_go_to_where_weights_came_from_and_decay_only_where_it_should() {
        for model in ModelKind::ALL {
            for (embedding, decay) in [(0, Decay::First), (0, Decay::All), (6, Decay::First)] {
                let config =
                    GnnConfig { model, embedding, decay, hidden: 4, ..GnnConfig::default() };
                let tables = Tables::new(&data(), &config);
                let mut dense = DenseRows::new(&tables.layout);
                dense.values = numbers(dense.values.len(), 1);
                let mut input = numbers(3 * tables.input_len(), 2);
                let (values, pulled) = (dense.values.clone(), input.clone());
                let mut weights = tables.weights();
                tables.unpack(&input, &dense, &mut weights);
                // Taken for gradients, the weights themselves must come back in their places.
                let embeddings = if embedding > 0 { pulled.clone() } else { Vec::new() };
                tables.pack(&weights, &embeddings, 0.5, &mut input, &mut dense);
                for (value, before) in input.iter().zip(&pulled) {
                    assert!((value - 1.5 * before).abs() < 1e-6);
                }
                for (part, range) in tables.layout.parts() {
                    let first = part.name.starts_with("layers.0");
                    let decays = (first || decay == Decay::All) && !part.name.ends_with("bias");
                    let factor = if decays { 1.5 } else { 1.0 };
                    for (value, before) in dense.gradients[range.clone()].iter().zip(&values[range])
                    {
                        assert!((value - factor * before).abs() < 1e-6, "{}", part.name);
                    }
                }
                let parts = tables.layout.parts().count();
                assert_eq!(
                    parts,
                    match (model, embedding) {
                        (ModelKind::Gcn, 0) => 3,
                        (ModelKind::Gcn, _) | (ModelKind::Sage, 0) => 4,
                        _ => 6,
                    }
                );
            }
        }
    }
}
