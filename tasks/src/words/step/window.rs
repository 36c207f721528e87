//! The arithmetic of one window: some input rows against some output rows.
//!
//! With inputs `x_i`, outputs `y_j` and labels `t_j` (1 for the centre, 0 for a negative), the loss
//! of negative sampling (Mikolov et al. 2013b, equation 4) and its gradients are
//!
//! ```text
//! loss      = - sum_ij  t_j log s(x_i y_j) + (1 - t_j) log s(-x_i y_j)      s the logistic function
//! d loss/dx_i = - sum_j (t_j - s(x_i y_j)) y_j
//! d loss/dy_j = - sum_i (t_j - s(x_i y_j)) x_i
//! ```
//!
//! The negatives of a centre are shared by all words of its window (Ji et al. 2016, "Parallelizing
//! Word2Vec in Shared and Distributed Memory"), so that the sums are small matrix products: rows
//! are read once per window and not once per pair. [`OUTPUTS`] outputs are taken at a time, which
//! with their gradients just fit the vector registers of every machine; more negatives are further
//! blocks, each a step of its own.

#![expect(
    clippy::needless_range_loop,
    reason = "loops over constant ranges of indices become vector code; chains of iterators do not"
)]

use pulp::Simd;

use crate::task::Loss;

/// Output rows of a block: the centre and five negatives.
pub(super) const OUTPUTS: usize = 6;

/// In a list of output rows: none.
pub(super) const NONE: u32 = u32::MAX;

/// Buffers of [`Window::train`].
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// Output rows, then their gradients, by vector and then by row.
    outputs: Vec<f32>,
    /// Scores, then weights, [`OUTPUTS`] for each input.
    weights: Vec<[f32; OUTPUTS]>,
}

/// One window with one block of outputs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window<'a> {
    /// Places of the input rows.
    pub(super) inputs: &'a [u32],
    /// Places of the output rows, or [`NONE`].
    pub(super) outputs: &'a [u32; OUTPUTS],
    /// Whether the first output is the centre; all others are negatives.
    pub(super) positive: bool,
    /// The learning rate.
    pub(super) rate: f32,
}

impl Window<'_> {
    /// One step of gradient descent. Rows are `stride` floats each. With `measure` the loss before
    /// the step is added up.
    #[inline(always)]
    pub(super) fn train<S: Simd>(
        &self,
        simd: S,
        (inputs, outputs): (&mut [f32], &mut [f32]),
        stride: usize,
        scratch: &mut Scratch,
        measure: Option<&mut Loss>,
    ) {
        let vectors = stride / S::F32_LANES;
        let (inputs, _) = S::as_mut_simd_f32s(inputs);
        let (outputs, _) = S::as_mut_simd_f32s(outputs);
        scratch.outputs.resize(stride * OUTPUTS, 0.0);
        let (block, _) = S::as_mut_simd_f32s(&mut scratch.outputs);
        let (block, _) = block.as_chunks_mut::<OUTPUTS>();
        let weights = &mut scratch.weights;
        gather(simd, self.outputs, outputs, block);
        weights.clear();
        for &place in self.inputs {
            let input = &inputs[place as usize * vectors..][..vectors];
            weights.push(scores(simd, input, block));
        }
        if let Some(loss) = measure {
            self.measure(weights, loss);
        }
        self.weigh(weights);
        self.update(simd, inputs, block, weights);
        scatter(simd, self.outputs, outputs, block);
    }

    /// Adds the loss of these scores.
    fn measure(&self, scores: &[[f32; OUTPUTS]], loss: &mut Loss) {
        for scores in scores {
            for (at, (&score, &place)) in scores.iter().zip(self.outputs).enumerate() {
                if place != NONE {
                    let margin = if self.positive && at == 0 { score } else { -score };
                    loss.sum += f64::from(-margin).exp().ln_1p();
                }
            }
        }
        if self.positive {
            #[expect(clippy::cast_precision_loss, reason = "a window is small")]
            let inputs = scores.len() as f64;
            loss.count += inputs;
        }
    }

    /// Turns scores into what is to be added of the other row: `rate (label - s(score))`.
    #[inline(always)]
    fn weigh(&self, weights: &mut [[f32; OUTPUTS]]) {
        let mut rates = [0.0; OUTPUTS];
        for at in 0..OUTPUTS {
            rates[at] = if self.outputs[at] == NONE { 0.0 } else { self.rate };
        }
        let mut labels = [0.0; OUTPUTS];
        labels[0] = f32::from(u8::from(self.positive));
        for weights in weights {
            for at in 0..OUTPUTS {
                weights[at] = rates[at] * (labels[at] - logistic(weights[at]));
            }
        }
    }

    /// Moves the inputs, and leaves what is to be added to the outputs in `block`.
    #[inline(always)]
    fn update<S: Simd>(
        &self,
        simd: S,
        inputs: &mut [S::f32s],
        block: &mut [[S::f32s; OUTPUTS]],
        weights: &[[f32; OUTPUTS]],
    ) {
        let vectors = block.len();
        let places = &self.inputs[..weights.len()];
        for at in 0..vectors {
            let old = block[at];
            let mut added = [simd.splat_f32s(0.0); OUTPUTS];
            for input in 0..weights.len() {
                let (weights, place) = (&weights[input], places[input]);
                let input = &mut inputs[place as usize * vectors + at];
                let x = *input;
                let mut moved = x;
                for output in 0..OUTPUTS {
                    let weight = simd.splat_f32s(weights[output]);
                    moved = simd.mul_add_e_f32s(weight, old[output], moved);
                    added[output] = simd.mul_add_e_f32s(weight, x, added[output]);
                }
                *input = moved;
            }
            block[at] = added;
        }
    }
}

/// Copies output rows side by side, zeros where there is none.
#[inline(always)]
fn gather<S: Simd>(
    simd: S,
    places: &[u32; OUTPUTS],
    rows: &[S::f32s],
    block: &mut [[S::f32s; OUTPUTS]],
) {
    let vectors = block.len();
    for at in 0..OUTPUTS {
        let place = places[at];
        if place == NONE {
            for vector in 0..vectors {
                block[vector][at] = simd.splat_f32s(0.0);
            }
        } else {
            let row = &rows[place as usize * vectors..][..vectors];
            for vector in 0..vectors {
                block[vector][at] = row[vector];
            }
        }
    }
}

/// Adds the block to its output rows; a row that is there twice gets both.
#[inline(always)]
fn scatter<S: Simd>(
    simd: S,
    places: &[u32; OUTPUTS],
    rows: &mut [S::f32s],
    block: &[[S::f32s; OUTPUTS]],
) {
    let vectors = block.len();
    for at in 0..OUTPUTS {
        let place = places[at];
        if place != NONE {
            let row = &mut rows[place as usize * vectors..][..vectors];
            for vector in 0..vectors {
                row[vector] = simd.add_f32s(row[vector], block[vector][at]);
            }
        }
    }
}

/// The products of an input row with all rows of a block.
#[inline(always)]
fn scores<S: Simd>(simd: S, input: &[S::f32s], block: &[[S::f32s; OUTPUTS]]) -> [f32; OUTPUTS] {
    let mut sums = [simd.splat_f32s(0.0); OUTPUTS];
    let input = &input[..block.len()];
    for at in 0..block.len() {
        let (x, outputs) = (input[at], &block[at]);
        for output in 0..OUTPUTS {
            sums[output] = simd.mul_add_e_f32s(x, outputs[output], sums[output]);
        }
    }
    let mut scores = [0.0; OUTPUTS];
    for output in 0..OUTPUTS {
        scores[output] = simd.reduce_sum_f32s(sums[output]);
    }
    scores
}

/// `1 / (1 + exp(-x))` to a few units of the last place, without a branch or a call, so that a
/// loop over it becomes vector code.
#[inline(always)]
fn logistic(x: f32) -> f32 {
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    // exp(-x) = 2^whole 2^part, part in -0.5..=0.5; further out the result is 0 or 1 to the bit.
    let power = (-x * LOG2_E).clamp(-126.0, 126.0);
    let whole = (power + ROUNDING) - ROUNDING;
    let part = power - whole;
    // The series of 2^part.
    let mut sum = 1.540_353e-4;
    sum = sum * part + 1.333_355_8e-3;
    sum = sum * part + 9.618_129e-3;
    sum = sum * part + 5.550_411e-2;
    sum = sum * part + 0.240_226_5;
    sum = sum * part + std::f32::consts::LN_2;
    sum = sum * part + 1.0;
    // The sum's lowest bits are the whole number; shifted into the exponent they are its power of 2.
    let scale = f32::from_bits(((power + ROUNDING).to_bits() + 127) << 23);
    1.0 / (1.0 + sum * scale)
}

/// Adding it rounds a small number to a whole one: 1.5 * 2^23.
const ROUNDING: f32 = 12_582_912.0;
