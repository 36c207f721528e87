//! One layer of sums over neighbours, forward and backward.
//!
//! A layer turns the rows `X` of a block's nodes in into the rows of its nodes out, with the block's
//! sum `S` (see [`super::block`]):
//!
//! | network | layer |
//! | --- | --- |
//! | GCN (Kipf and Welling 2017, eq. 2) | `Y = S X W + b` |
//! | GraphSAGE, mean (Hamilton et al. 2017, alg. 1) | `Y = X_out W_own + S X W + b` |
//!
//! `X_out` are the rows of the nodes out, the first of `X`. GraphSAGE is written as in PyTorch Geometric: a weight
//! for each part, rows are not normalised. `S (X W)` and `(S X) W` are the same; whichever sums narrower rows
//! is computed. With the loss's gradient `G` by `Y`:
//!
//! ```text
//! db = sum of rows of G        T = S^T G    dW = X^T T        dX = T W^T
//!                              or           dW = (S X)^T G    dX = S^T (G W^T)
//!                                           dW_own = X_out^T G    dX_out += G W_own^T
//! ```

use pulp::Arch;

use crate::dense::product;
use crate::sparse::SparseRows;
use crate::sparse::product::{gather, scatter_add};

/// The weights of a layer, or the gradients by them. Matrices are row-major: a row per input, a column per
/// output.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Weights {
    /// `W`, for the sum over neighbours (and, in GCN, the node itself).
    pub sum: Vec<f32>,
    /// `W_own` of GraphSAGE; empty for GCN.
    pub own: Vec<f32>,
    /// `b`.
    pub bias: Vec<f32>,
}

/// The rows in.
#[derive(Clone, Copy, Debug)]
pub enum Rows<'a> {
    /// Given features.
    Sparse(&'a SparseRows),
    /// Embeddings, or what the layer before gave.
    Dense(&'a [f32]),
}

/// A layer's shape and buffers.
#[derive(Debug)]
pub(super) struct Layer {
    inputs: usize,
    outputs: usize,
    arch: Arch,
    /// `S X` or `X W`, whichever is computed.
    middle: Vec<f32>,
    /// The gradient by it, or what is added to a result.
    scratch: Vec<f32>,
}

impl Layer {
    pub(super) fn new(inputs: usize, outputs: usize) -> Self {
        let (middle, scratch) = (Vec::new(), Vec::new());
        Self { inputs, outputs, arch: Arch::new(), middle, scratch }
    }

    /// Floats of a row out.
    pub(super) fn outputs(&self) -> usize {
        self.outputs
    }

    fn sums_first(&self, x: Rows<'_>) -> bool {
        matches!(x, Rows::Dense(_)) && self.inputs <= self.outputs
    }

    /// Writes the rows out to `y`.
    pub(super) fn forward(
        &mut self,
        weights: &Weights,
        block: &SparseRows,
        x: Rows<'_>,
        y: &mut Vec<f32>,
    ) {
        let (rows_in, rows_out) = (block.columns(), block.len());
        let (inputs, outputs, arch) = (self.inputs, self.outputs, self.arch);
        y.resize(rows_out * outputs, 0.0);
        match x {
            Rows::Dense(x) if self.sums_first(Rows::Dense(x)) => {
                self.middle.resize(rows_out * inputs, 0.0);
                gather(arch, block, x, inputs, &mut self.middle);
                product::nn((rows_out, outputs, inputs), &self.middle, &weights.sum, y);
            }
            x => {
                self.middle.resize(rows_in * outputs, 0.0);
                transform(arch, x, (rows_in, inputs), &weights.sum, outputs, &mut self.middle);
                gather(arch, block, &self.middle, outputs, y);
            }
        }
        if !weights.own.is_empty() {
            self.scratch.resize(y.len(), 0.0);
            transform(arch, x, (rows_out, inputs), &weights.own, outputs, &mut self.scratch);
            add(y, &self.scratch);
        }
        y.chunks_exact_mut(outputs).for_each(|row| add(row, &weights.bias));
    }

    /// Adds the gradients by the weights to `d_weights`, and writes the one by the rows in to `dx`, if it is
    /// wanted. The last [`Layer::forward`] was of the same rows.
    pub(super) fn backward(
        &mut self,
        (weights, d_weights): (&Weights, &mut Weights),
        block: &SparseRows,
        x: Rows<'_>,
        g: &[f32],
        mut dx: Option<&mut Vec<f32>>,
    ) {
        let (rows_in, rows_out) = (block.columns(), block.len());
        let (inputs, outputs, arch) = (self.inputs, self.outputs, self.arch);
        g.chunks_exact(outputs).for_each(|row| add(&mut d_weights.bias, row));
        if let Some(dx) = &mut dx {
            dx.resize(rows_in * inputs, 0.0);
        }
        if self.sums_first(x) {
            product::tn_add((inputs, outputs, rows_out), &self.middle, g, &mut d_weights.sum);
            if let Some(dx) = &mut dx {
                self.scratch.resize(rows_out * inputs, 0.0);
                product::nt((rows_out, inputs, outputs), g, &weights.sum, &mut self.scratch);
                dx.fill(0.0);
                scatter_add(arch, block, &self.scratch, inputs, dx);
            }
        } else {
            self.scratch.clear();
            self.scratch.resize(rows_in * outputs, 0.0);
            scatter_add(arch, block, g, outputs, &mut self.scratch);
            self.by_weights(x, rows_in, &self.scratch, &mut d_weights.sum);
            if let Some(dx) = &mut dx {
                product::nt((rows_in, inputs, outputs), &self.scratch, &weights.sum, dx);
            }
        }
        if !weights.own.is_empty() {
            self.by_weights(x, rows_out, g, &mut d_weights.own);
            if let Some(dx) = dx {
                self.scratch.resize(rows_out * inputs, 0.0);
                product::nt((rows_out, inputs, outputs), g, &weights.own, &mut self.scratch);
                add(&mut dx[..rows_out * inputs], &self.scratch);
            }
        }
    }

    /// `dw += x^T g` over the first `rows`.
    fn by_weights(&self, x: Rows<'_>, rows: usize, g: &[f32], dw: &mut [f32]) {
        match x {
            Rows::Sparse(x) => scatter_add(self.arch, x, g, self.outputs, dw),
            Rows::Dense(x) => {
                let x = &x[..rows * self.inputs];
                product::tn_add((self.inputs, self.outputs, rows), x, g, dw);
            }
        }
    }
}

/// `y[rows, outputs] = x[rows, inputs] w` over the first `rows`.
fn transform(
    arch: Arch,
    x: Rows<'_>,
    (rows, inputs): (usize, usize),
    w: &[f32],
    outputs: usize,
    y: &mut [f32],
) {
    match x {
        Rows::Sparse(x) => gather(arch, x, w, outputs, y),
        Rows::Dense(x) => product::nn((rows, outputs, inputs), &x[..rows * inputs], w, y),
    }
}

fn add(to: &mut [f32], what: &[f32]) {
    assert_eq!(to.len(), what.len());
    for (to, &what) in to.iter_mut().zip(what) {
        *to += what;
    }
}
