//! One training step: a batch of sentences.
//!
//! A step plans first: it drops frequent words, lays the windows, draws the negatives, and so knows
//! the distinct rows of both tables that it will touch. They are pulled, trained on at this worker
//! one window after the other, and what training added to each is added to the tables. So a row
//! that a batch uses a hundred times travels once each way, and additions of several workers add
//! up.
//!
//! Skip-gram: each word of the window predicts the centre (the direction of a pair is as in the
//! program of Mikolov et al.). CBOW: their mean does; its gradient is divided by their number, as
//! İrsoy et al. 2021 ("Corrected CBOW performs as well as skip-gram") point out it must be.

mod plan;
mod rows;
mod window;

use pulp::{Arch, Simd, WithSimd};

use super::{Architecture, Shape};
use crate::task::Loss;
pub use plan::{Plan, Planner};
pub use rows::Rows;
use rows::stride;
use window::{OUTPUTS, Scratch, Window};

/// Every how many windows the loss is measured: logarithms cost as much as the training.
const MEASURE_EVERY: usize = 16;

/// Computes steps; one per worker. Buffers are kept from step to step.
#[derive(Debug)]
pub struct Step {
    shape: Shape,
    arch: Arch,
    /// The input rows of the step, in the order of [`Plan::inputs`].
    pub inputs: Rows,
    /// The output rows of the step, in the order of [`Plan::outputs`].
    pub outputs: Rows,
    /// Places of one window's words.
    around: Vec<u32>,
    scratch: Scratch,
}

impl Step {
    /// For vectors and windows of this shape.
    #[must_use]
    pub fn new(shape: Shape) -> Self {
        Self {
            shape,
            arch: Arch::new(),
            inputs: Rows::new(shape.dim),
            outputs: Rows::new(shape.dim),
            around: Vec::new(),
            scratch: Scratch::default(),
        }
    }

    /// Trains on the planned batch with this learning rate; its rows have been pulled. Then
    /// [`Rows::added`] is what to add to them. Returns the loss of a sample of the windows, for each
    /// of their inputs.
    ///
    /// # Panics
    /// If the rows that were pulled are not those of the plan.
    pub fn train(&mut self, plan: &Plan, rate: f32) -> Loss {
        assert_eq!(self.inputs.count(), plan.inputs.len(), "input rows of the plan");
        assert_eq!(self.outputs.count(), plan.outputs.len(), "output rows of the plan");
        self.inputs.lay_out(SPARE);
        self.outputs.lay_out(0);
        let arch = self.arch;
        let loss = arch.dispatch(Train { step: self, plan, rate });
        self.inputs.compare();
        self.outputs.compare();
        loss
    }
}

/// Rows behind the inputs that CBOW keeps its mean in, before and after the step.
const SPARE: usize = 2;

/// The training of a batch, compiled once for each instruction set that the machine may have.
struct Train<'a> {
    step: &'a mut Step,
    plan: &'a Plan,
    rate: f32,
}

impl WithSimd for Train<'_> {
    type Output = Loss;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Loss {
        let Self { step, plan, rate } = self;
        let stride = stride(step.shape.dim);
        let blocks = (1 + step.shape.negatives).div_ceil(OUTPUTS);
        let mean = u32::try_from(step.inputs.count()).expect("fewer places than 2^32");
        let mut loss = Loss::default();
        let windows = plan.centres.iter().zip(plan.targets.chunks_exact(blocks));
        for (number, (centre, targets)) in windows.enumerate() {
            step.around.clear();
            step.around.extend(&plan.words[centre.around.start..centre.at]);
            step.around.extend(&plan.words[centre.at + 1..centre.around.end]);
            let around = &*step.around;
            let (inputs, outputs) = (step.inputs.trained(), step.outputs.trained());
            let cbow = step.shape.architecture == Architecture::Cbow;
            if cbow {
                write_mean::<S>(simd, inputs, stride, around, mean);
            }
            let of_mean = [mean];
            for (block, targets) in targets.iter().enumerate() {
                let window = Window {
                    inputs: if cbow { &of_mean } else { around },
                    outputs: targets,
                    positive: block == 0,
                    rate,
                };
                let measure =
                    if number.is_multiple_of(MEASURE_EVERY) { Some(&mut loss) } else { None };
                let rows = (&mut *inputs, &mut *outputs);
                window.train(simd, rows, stride, &mut step.scratch, measure);
            }
            if cbow {
                share_out::<S>(simd, inputs, stride, around, mean);
            }
        }
        loss
    }
}

/// Writes the mean of some rows to the row `mean` and to the one behind it.
#[inline(always)]
fn write_mean<S: Simd>(simd: S, rows: &mut [f32], stride: usize, around: &[u32], mean: u32) {
    let share = simd.splat_f32s(share_of(around));
    let vectors = stride / S::F32_LANES;
    let (rows, _) = S::as_mut_simd_f32s(rows);
    for at in 0..vectors {
        let mut sum = simd.splat_f32s(0.0);
        for &place in around {
            sum = simd.add_f32s(sum, rows[place as usize * vectors + at]);
        }
        let value = simd.mul_f32s(sum, share);
        rows[mean as usize * vectors + at] = value;
        rows[(mean as usize + 1) * vectors + at] = value;
    }
}

/// Moves some rows by their share of what the row `mean` moved since it was written.
#[inline(always)]
fn share_out<S: Simd>(simd: S, rows: &mut [f32], stride: usize, around: &[u32], mean: u32) {
    let share = simd.splat_f32s(share_of(around));
    let vectors = stride / S::F32_LANES;
    let (rows, _) = S::as_mut_simd_f32s(rows);
    for at in 0..vectors {
        let (new, old) =
            (rows[mean as usize * vectors + at], rows[(mean as usize + 1) * vectors + at]);
        let moved = simd.mul_f32s(simd.sub_f32s(new, old), share);
        for &place in around {
            let row = &mut rows[place as usize * vectors + at];
            *row = simd.add_f32s(*row, moved);
        }
    }
}

fn share_of(around: &[u32]) -> f32 {
    #[expect(clippy::cast_precision_loss, reason = "a window is small")]
    let count = around.len() as f32;
    1.0 / count
}

#[cfg(test)]
mod tests;
