//! Optimizers: how a gradient changes a row.
//!
//! A row is `[values: dim | state: state_len]`. One call of [`RowShape::step`] is one optimizer step. Names and
//! defaults are those of PyTorch; row-wise Adagrad keeps one accumulator a row, the mean of the squared gradient
//! (as in FBGEMM).
//!
//! | optimizer | state | step |
//! | --- | --- | --- |
//! | SGD | - | `w -= lr g` |
//! | momentum | m | `m = mu m + g; w -= lr m` |
//! | Adagrad (Duchi et al. 2011) | S | `S += g*g; w -= lr g / (sqrt(S) + eps)` |
//! | row-wise Adagrad | s | `s += mean(g*g); w -= lr g / (sqrt(s) + eps)` |
//! | FTRL-proximal (McMahan et al. 2013, algorithm 1) | z, n | `z += g - (sqrt(n + g*g) - sqrt(n)) / lr * w; n += g*g; w = f(z, n)` |
//! | Adam (Kingma and Ba 2015) | m, v, t | `m = b1 m + (1-b1) g; v = b2 v + (1-b2) g*g; w -= lr m^ / (sqrt(v^) + eps)` |
//!
//! FTRL's values are a function of its state: `f(z, n) = -(z - clamp(z, -l1, l1)) / ((beta + sqrt(n)) / lr + l2)`. Its rate
//! falls by itself and is the table's: that of a step is ignored. A row's start is the state that gives its first values.
//!
//! Adam's step count is a `u32` stored in the last word of the state, bit by bit.

mod step;

use crate::element::Element;
use crate::rowcopy::RowPtr;
use crate::simd::instruction_set;

pub(crate) use step::FtrlRule;
pub use step::adam_correction;
pub(crate) use step::mean_square;

/// An optimizer and its settings. The learning rate is the default one; each step may bring its own.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Optimizer {
    /// Stochastic gradient descent.
    Sgd {
        /// Learning rate.
        lr: f32,
    },
    /// Gradient descent with a velocity.
    Momentum {
        /// Learning rate.
        lr: f32,
        /// Share of the velocity that is kept, `0..1`.
        momentum: f32,
    },
    /// Adagrad, one accumulator per value.
    Adagrad {
        /// Learning rate.
        lr: f32,
        /// Added to the root.
        eps: f32,
        /// Accumulator at the start.
        initial: f32,
    },
    /// Adagrad, one accumulator per row.
    RowAdagrad {
        /// Learning rate.
        lr: f32,
        /// Added to the root.
        eps: f32,
        /// Accumulator at the start.
        initial: f32,
    },
    /// Follow the regularised leader, with the proximal term: the optimizer of sparse click models.
    Ftrl {
        /// Learning rate, `alpha` of the paper.
        lr: f32,
        /// Added to the root, above 0.
        beta: f32,
        /// Weight of the values' absolute sum: values whose gradients do not outweigh it are exactly 0.
        l1: f32,
        /// Weight of the values' squares.
        l2: f32,
    },
    /// Adam.
    Adam {
        /// Learning rate.
        lr: f32,
        /// Decay of the first moment.
        beta1: f32,
        /// Decay of the second moment.
        beta2: f32,
        /// Added to the root.
        eps: f32,
    },
}

impl Optimizer {
    /// SGD with this learning rate.
    #[must_use]
    pub const fn sgd(lr: f32) -> Self {
        Self::Sgd { lr }
    }

    /// Momentum with this learning rate and decay.
    #[must_use]
    pub const fn momentum(lr: f32, momentum: f32) -> Self {
        Self::Momentum { lr, momentum }
    }

    /// Adagrad with this learning rate, epsilon 1e-10 and an empty accumulator.
    #[must_use]
    pub const fn adagrad(lr: f32) -> Self {
        Self::Adagrad { lr, eps: 1e-10, initial: 0.0 }
    }

    /// Row-wise Adagrad with this learning rate, epsilon 1e-10 and an empty accumulator.
    #[must_use]
    pub const fn row_adagrad(lr: f32) -> Self {
        Self::RowAdagrad { lr, eps: 1e-10, initial: 0.0 }
    }

    /// FTRL-proximal with this learning rate, beta 1 and no penalties.
    #[must_use]
    pub const fn ftrl(lr: f32) -> Self {
        Self::Ftrl { lr, beta: 1.0, l1: 0.0, l2: 0.0 }
    }

    /// Adam with this learning rate, betas 0.9 and 0.999, epsilon 1e-8.
    #[must_use]
    pub const fn adam(lr: f32) -> Self {
        Self::Adam { lr, beta1: 0.9, beta2: 0.999, eps: 1e-8 }
    }

    /// The default learning rate.
    #[must_use]
    pub const fn learning_rate(&self) -> f32 {
        match *self {
            Self::Sgd { lr }
            | Self::Momentum { lr, .. }
            | Self::Adagrad { lr, .. }
            | Self::RowAdagrad { lr, .. }
            | Self::Ftrl { lr, .. }
            | Self::Adam { lr, .. } => lr,
        }
    }

    /// Its name in messages, reports and checkpoints.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Sgd { .. } => "sgd",
            Self::Momentum { .. } => "momentum",
            Self::Adagrad { .. } => "adagrad",
            Self::RowAdagrad { .. } => "row_adagrad",
            Self::Ftrl { .. } => "ftrl",
            Self::Adam { .. } => "adam",
        }
    }

    /// Whether a step can be composed without knowing the row: SGD and momentum are linear in the row, and of FTRL gradients
    /// and their squares travel. The others need the row's state, so a gradient for a row that is not here has to wait for it.
    #[must_use]
    pub const fn is_linear(&self) -> bool {
        matches!(self, Self::Sgd { .. } | Self::Momentum { .. } | Self::Ftrl { .. })
    }

    /// Whether something may be added to values: not where they are a function of the state.
    #[must_use]
    pub const fn takes_additions(&self) -> bool {
        !matches!(self, Self::Ftrl { .. })
    }
}

/// The shape of a table's rows: an optimizer and a dimension.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowShape {
    /// How gradients change rows.
    pub optimizer: Optimizer,
    /// Number of values.
    pub dim: usize,
}

impl RowShape {
    /// Number of floats of optimizer state behind the values.
    #[must_use]
    pub const fn state_len(&self) -> usize {
        match self.optimizer {
            Optimizer::Sgd { .. } => 0,
            Optimizer::Momentum { .. } | Optimizer::Adagrad { .. } => self.dim,
            Optimizer::RowAdagrad { .. } => 1,
            Optimizer::Ftrl { .. } => 2 * self.dim,
            Optimizer::Adam { .. } => 2 * self.dim + 1,
        }
    }

    /// Number of floats of a row: values and state.
    #[must_use]
    pub const fn row_len(&self) -> usize {
        self.dim + self.state_len()
    }

    /// Sets the state part of `row` (a private slice of [`RowShape::row_len`]) to the optimizer's start; of FTRL to the
    /// state that gives the values.
    pub fn reset_state(&self, row: &mut [f32]) {
        if let Some(rule) = FtrlRule::of(&self.optimizer) {
            let (values, state) = row.split_at_mut(self.dim);
            let (z, n) = state.split_at_mut(self.dim);
            z.iter_mut().zip(values).for_each(|(z, w)| *z = rule.start(*w));
            return n[..self.dim].fill(0.0);
        }
        let start = match self.optimizer {
            Optimizer::Adagrad { initial, .. } | Optimizer::RowAdagrad { initial, .. } => initial,
            _ => 0.0,
        };
        row[self.dim..self.row_len()].fill(start);
    }

    /// Steps a row in shared memory: `grad` has `dim` values, `lr` is this step's learning rate. The caller holds
    /// the row's writer bit.
    ///
    /// # Panics
    /// If lengths do not fit the shape.
    #[inline]
    pub fn step(&self, row: RowPtr, grad: &[f32], lr: f32) {
        let (values, state) = self.parts(row);
        self.step_parts(values, state, grad, lr);
    }

    /// Values and state of a row of floats.
    ///
    /// # Panics
    /// If its length does not fit the shape.
    #[must_use]
    #[inline]
    pub fn parts(&self, row: RowPtr) -> (RowPtr, RowPtr) {
        assert_eq!(row.len(), self.row_len(), "row does not fit the shape");
        (row.part(0, self.dim), row.part(self.dim, self.state_len()))
    }

    /// The same for values of any element type, and the state that goes with them.
    ///
    /// # Panics
    /// If lengths do not fit the shape.
    #[inline]
    pub fn step_parts<E: Element>(&self, values: RowPtr<E>, state: RowPtr, grad: &[f32], lr: f32) {
        assert!(
            values.len() == self.dim && state.len() == self.state_len(),
            "row of another shape"
        );
        assert_eq!(grad.len(), self.dim, "gradient does not fit the shape");
        let (w, s, g, dim) = (values.as_ptr(), state.as_ptr(), grad.as_ptr(), self.dim);
        let set = instruction_set();
        match self.optimizer {
            Optimizer::Sgd { .. } => values.axpy(-lr, grad),
            // SAFETY: there are dim values, state_len floats of state and dim of the gradient, as just checked.
            Optimizer::Momentum { momentum, .. } => unsafe {
                step::momentum(set, w, s, g, dim, lr, momentum);
            },
            // SAFETY: as above.
            Optimizer::Adagrad { eps, .. } => unsafe {
                step::adagrad(set, w, s, g, dim, lr, eps);
            },
            Optimizer::RowAdagrad { eps, .. } => {
                let sum = state.get(0) + mean_square(grad);
                state.put(0, sum);
                values.axpy(-lr / (sum.sqrt() + eps), grad);
            }
            Optimizer::Ftrl { .. } => {
                let rule = FtrlRule::of(&self.optimizer).expect("FTRL");
                // SAFETY: as above; FTRL's state is z and n.
                unsafe {
                    step::ftrl(set, w, s, g, dim, rule);
                }
            }
            Optimizer::Adam { beta1, beta2, eps, .. } => {
                let steps = state.get(2 * dim).to_bits().saturating_add(1);
                state.put(2 * dim, f32::from_bits(steps));
                let (rate, root) = adam_correction(lr, beta1, beta2, steps);
                // SAFETY: as above; Adam's state is m, v and the count.
                unsafe {
                    step::adam(set, w, s, g, dim, [beta1, beta2, eps, rate, root]);
                }
            }
        }
    }

    /// Steps a private row of [`RowShape::row_len`] floats.
    ///
    /// # Panics
    /// If lengths do not fit the shape.
    #[inline]
    pub fn step_private(&self, row: &mut [f32], grad: &[f32], lr: f32) {
        // SAFETY: used while `row` is borrowed.
        self.step(unsafe { RowPtr::from_private(row) }, grad, lr);
    }
}

#[cfg(test)]
mod tests;
