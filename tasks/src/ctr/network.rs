//! The models: which parts add up to the logit of a click, and their gradients.
//!
//! | model | linear | pairs | tower | cross |
//! | --- | --- | --- | --- | --- |
//! | logistic regression | x | | | |
//! | factorisation machine (Rendle 2010) | x | x | | |
//! | Wide & Deep (Cheng et al. 2016) | x | | x | |
//! | DeepFM (Guo et al. 2017) | x | x | x | |
//! | DCN-V2, parallel (Wang et al. 2021) | | | x | x |
//!
//! Tower and cross network read the embeddings of an example's fields side by side; a linear head reads their outputs.

use pulp::Arch;
use rand_xoshiro::Xoshiro256PlusPlus;

use super::cross::Cross;
use super::interaction::{Backward, Examples, Forward, Gather, RowParts, Scatter};
use super::{CtrConfig, ModelKind};
use crate::dense::{Layout, Linear, PartId, Start, Tower, TowerShape};

/// A model for batches of examples, with the buffers of one batch.
#[derive(Debug)]
pub(super) struct Network {
    parts: RowParts,
    bias: PartId,
    deep: Option<Deep>,
    arch: Arch,
    /// For each example, the sums over its features of `v x`.
    sums: Vec<f32>,
    logits: Vec<f32>,
}

/// The parts that read embeddings side by side.
#[derive(Debug)]
struct Deep {
    inputs: Vec<f32>,
    d_inputs: Vec<f32>,
    tower: Tower,
    tower_head: Head,
    cross: Option<(Cross, Head)>,
}

/// One part's share of the linear layer at the end.
#[derive(Debug)]
struct Head {
    linear: Linear,
    weight: PartId,
    /// What it adds to each logit.
    output: Vec<f32>,
    /// Gradient by its input.
    d_input: Vec<f32>,
}

impl Network {
    /// The model of these settings, for examples of so many fields, and the layout of its dense parameters. The same
    /// settings give the same layout.
    pub(super) fn new(config: &CtrConfig, fields: usize) -> (Self, Layout) {
        let parts = config.row_parts();
        let mut layout = Layout::new();
        let deep = config.model.is_deep().then(|| {
            let inputs = fields * parts.dim;
            let shape = TowerShape {
                inputs,
                hidden: config.hidden.clone(),
                batch_norm: config.batch_norm,
                dropout: config.dropout,
            };
            let tower = Tower::new("tower", &shape, &mut layout);
            let crossed = if config.model == ModelKind::DcnV2 { inputs } else { 0 };
            let start = Start::linear(tower.outputs() + crossed);
            let tower_head = Head::new("head.tower", tower.outputs(), start, &mut layout);
            let cross = (crossed > 0).then(|| {
                let cross = Cross::new(inputs, config.cross_layers, &mut layout);
                (cross, Head::new("head.cross", inputs, start, &mut layout))
            });
            Deep { inputs: Vec::new(), d_inputs: Vec::new(), tower, tower_head, cross }
        });
        let bias = layout.add("bias", &[1], Start::Zeros);
        let (sums, logits) = (Vec::new(), Vec::new());
        (Self { parts, bias, deep, arch: Arch::new(), sums, logits }, layout)
    }

    /// The logits of a batch, from the rows of its features: as in training if there is a source of randomness for
    /// dropout.
    pub(super) fn forward(
        &mut self,
        (layout, values): (&Layout, &[f32]),
        examples: Examples<'_>,
        rows: &[f32],
        training: Option<&mut Xoshiro256PlusPlus>,
    ) -> &[f32] {
        let (parts, count) = (self.parts, examples.ends.len());
        self.logits.clear();
        self.logits.resize(count, layout.part(self.bias, values)[0]);
        self.sums.resize(if parts.pairs { count * parts.dim } else { 0 }, 0.0);
        let (sums, logits) = (&mut self.sums, &mut self.logits);
        self.arch.dispatch(Forward { parts, examples, rows, sums, logits });
        if let Some(deep) = &mut self.deep {
            deep.inputs.resize(examples.places.len() * parts.dim, 0.0);
            self.arch.dispatch(Gather { parts, examples, rows, inputs: &mut deep.inputs });
            let dense = (layout, values);
            let output = deep.tower.forward(dense, &deep.inputs, training);
            deep.tower_head.forward(dense, output, &mut self.logits);
            if let Some((cross, head)) = &mut deep.cross {
                head.forward(dense, cross.forward(dense, &deep.inputs), &mut self.logits);
            }
        }
        &self.logits
    }

    /// Adds the gradients by rows and dense parameters, after a forward pass of training over the same batch, to
    /// `row_gradients` and `gradients`. `slopes` are the loss's by each logit.
    pub(super) fn backward(
        &mut self,
        (layout, values): (&Layout, &[f32]),
        (examples, rows): (Examples<'_>, &[f32]),
        slopes: &[f32],
        row_gradients: &mut [f32],
        gradients: &mut [f32],
    ) {
        let parts = self.parts;
        layout.part_mut(self.bias, gradients)[0] += slopes.iter().sum::<f32>();
        let sums = &self.sums;
        let shallow = Backward { parts, examples, rows, sums, slopes, gradients: row_gradients };
        self.arch.dispatch(shallow);
        let Some(deep) = &mut self.deep else { return };
        let dense = (layout, values);
        deep.d_inputs.resize(deep.inputs.len(), 0.0);
        let d_output = deep.tower_head.backward(dense, deep.tower.output(), slopes, gradients);
        deep.tower.backward(dense, &deep.inputs, d_output, gradients, &mut deep.d_inputs);
        if let Some((cross, head)) = &mut deep.cross {
            let d_output = head.backward(dense, cross.output(), slopes, gradients);
            cross.backward(dense, &deep.inputs, d_output, gradients, &mut deep.d_inputs);
        }
        let d_inputs = &deep.d_inputs;
        self.arch.dispatch(Scatter { parts, examples, d_inputs, gradients: row_gradients });
    }

    /// Writes the moves of running statistics after a forward pass of training (see [`Tower::moves`]).
    pub(super) fn moves(&self, dense: (&Layout, &[f32]), share: f32, gradients: &mut [f32]) {
        if let Some(deep) = &self.deep {
            deep.tower.moves(dense, share, gradients);
        }
    }
}

impl Head {
    fn new(name: &str, inputs: usize, start: Start, layout: &mut Layout) -> Self {
        Self {
            linear: Linear { inputs, outputs: 1 },
            weight: layout.add(format!("{name}.weight"), &[1, inputs], start),
            output: Vec::new(),
            d_input: Vec::new(),
        }
    }

    fn forward(&mut self, (layout, values): (&Layout, &[f32]), x: &[f32], logits: &mut [f32]) {
        self.output.resize(logits.len(), 0.0);
        self.linear.forward(layout.part(self.weight, values), None, x, &mut self.output);
        for (logit, &more) in logits.iter_mut().zip(&self.output) {
            *logit += more;
        }
    }

    fn backward(
        &mut self,
        (layout, values): (&Layout, &[f32]),
        x: &[f32],
        slopes: &[f32],
        gradients: &mut [f32],
    ) -> &mut [f32] {
        self.d_input.resize(x.len(), 0.0);
        let weight = layout.part(self.weight, values);
        let d_weight = layout.part_mut(self.weight, gradients);
        self.linear.backward(weight, x, slopes, (d_weight, None), Some(&mut self.d_input));
        &mut self.d_input
    }
}
