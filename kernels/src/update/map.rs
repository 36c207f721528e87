//! The affine map of an update: how steps enter it, how two compose, how it is applied.

use super::{FACTOR_A, FACTOR_B, FACTOR_C, HEADER_LEN, MAP_PRESENT, STEPS, Update};
use crate::optimizer::{Optimizer, adam_correction, mean_square};
use crate::rowcopy::RowPtr;

impl Update<'_> {
    /// The map's vectors, made the identity if there was no map.
    pub(super) fn map_mut(&mut self) -> &mut [f32] {
        let end = HEADER_LEN + self.shape.map_len();
        if !self.has_map() {
            self.set_counts(self.counts() | MAP_PRESENT);
            self.block[STEPS] = f32::from_bits(0);
            self.block[FACTOR_A] = 1.0;
            self.block[FACTOR_B] = 0.0;
            self.block[FACTOR_C] = 1.0;
            self.block[HEADER_LEN..end].fill(0.0);
        }
        &mut self.block[HEADER_LEN..end]
    }

    pub(super) fn map(&self) -> &[f32] {
        &self.block[HEADER_LEN..HEADER_LEN + self.shape.map_len()]
    }

    fn steps(&self) -> u32 {
        self.block[STEPS].to_bits()
    }

    /// A step of SGD or momentum, which needs no row.
    pub(super) fn step_linear(&mut self, grad: &[f32], lr: f32) {
        let dim = self.shape.dim;
        self.map_mut();
        match self.shape.optimizer {
            Optimizer::Momentum { momentum, .. } => {
                // m2 = mu m1 + g; w2 = w1 - lr m2, with m1 = a m + Dm and w1 = w + b m + Dw.
                self.block[FACTOR_A] *= momentum;
                self.block[FACTOR_B] -= lr * self.block[FACTOR_A];
                let (values, velocity) = self.map_mut().split_at_mut(dim);
                for ((w, m), &g) in values.iter_mut().zip(velocity).zip(grad) {
                    *m = momentum * *m + g;
                    *w -= lr * *m;
                }
            }
            _ => {
                for (w, &g) in self.map_mut().iter_mut().zip(grad) {
                    *w -= lr * g;
                }
            }
        }
    }

    /// A step of Adagrad or Adam, taken on `copy` and noted in the map.
    pub(super) fn step_nonlinear(&mut self, copy: &mut [f32], grad: &[f32], lr: f32) {
        let dim = self.shape.dim;
        assert_eq!(copy.len(), self.shape.row_len(), "copy does not fit the shape");
        assert_eq!(grad.len(), dim, "gradient does not fit the shape");
        let optimizer = self.shape.optimizer;
        let (values, state) = copy.split_at_mut(dim);
        self.map_mut();
        if let Optimizer::Adam { beta1, beta2, .. } = optimizer {
            self.block[FACTOR_A] *= beta1;
            self.block[FACTOR_C] *= beta2;
            self.block[STEPS] = f32::from_bits(self.steps() + 1);
        }
        let (moved, change) = self.map_mut().split_at_mut(dim);
        match optimizer {
            Optimizer::Adagrad { eps, .. } => {
                for i in 0..dim {
                    let square = grad[i] * grad[i];
                    state[i] += square;
                    change[i] += square;
                    let step = lr * grad[i] / (state[i].sqrt() + eps);
                    values[i] -= step;
                    moved[i] -= step;
                }
            }
            Optimizer::RowAdagrad { eps, .. } => {
                let square = mean_square(grad);
                state[0] += square;
                change[0] += square;
                let rate = lr / (state[0].sqrt() + eps);
                for i in 0..dim {
                    let step = rate * grad[i];
                    values[i] -= step;
                    moved[i] -= step;
                }
            }
            Optimizer::Adam { beta1, beta2, eps, .. } => {
                let steps = state[2 * dim].to_bits().saturating_add(1);
                state[2 * dim] = f32::from_bits(steps);
                let (rate, root) = adam_correction(lr, beta1, beta2, steps);
                let (first, second) = state.split_at_mut(dim);
                let (first_change, second_change) = change.split_at_mut(dim);
                for i in 0..dim {
                    let (g1, g2) = ((1.0 - beta1) * grad[i], (1.0 - beta2) * grad[i] * grad[i]);
                    first[i] = beta1 * first[i] + g1;
                    second[i] = beta2 * second[i] + g2;
                    first_change[i] = beta1 * first_change[i] + g1;
                    second_change[i] = beta2 * second_change[i] + g2;
                    let step = rate * first[i] / (second[i].sqrt() * root + eps);
                    values[i] -= step;
                    moved[i] -= step;
                }
            }
            Optimizer::Sgd { .. } | Optimizer::Momentum { .. } => {
                unreachable!("linear optimizers need no copy")
            }
        }
    }

    /// This map after `earlier`'s.
    pub(super) fn compose_before(&mut self, earlier: &Update<'_>) {
        if !earlier.has_map() {
            return;
        }
        let dim = self.shape.dim;
        self.map_mut();
        let (a, b, c) = (self.block[FACTOR_A], self.block[FACTOR_B], self.block[FACTOR_C]);
        let (a1, b1, c1) =
            (earlier.block[FACTOR_A], earlier.block[FACTOR_B], earlier.block[FACTOR_C]);
        self.block[FACTOR_A] = a * a1;
        self.block[FACTOR_B] = b1 + b * a1;
        self.block[FACTOR_C] = c * c1;
        self.block[STEPS] = f32::from_bits(self.steps() + earlier.steps());
        let optimizer = self.shape.optimizer;
        let (moved, change) = self.map_mut().split_at_mut(dim);
        let (moved1, change1) = earlier.map().split_at(dim);
        for i in 0..dim {
            let coasting =
                if let Optimizer::Momentum { .. } = optimizer { b * change1[i] } else { 0.0 };
            moved[i] += moved1[i] + coasting;
        }
        for (i, (later, &before)) in change.iter_mut().zip(change1).enumerate() {
            // The factor is 1 for sums of squares; Adam's second moment follows its first.
            let factor = if i < dim { a } else { c };
            *later += factor * before;
        }
    }

    /// Applies the map, not the gradients.
    pub(super) fn apply_map(&self, row: RowPtr) {
        if !self.has_map() {
            return;
        }
        let dim = self.shape.dim;
        let (moved, change) = self.map().split_at(dim);
        let (values, state) = (row.part(0, dim), row.part(dim, self.shape.state_len()));
        let (a, b, c) = (self.block[FACTOR_A], self.block[FACTOR_B], self.block[FACTOR_C]);
        values.add(moved);
        match self.shape.optimizer {
            Optimizer::Sgd { .. } => {}
            Optimizer::Adagrad { .. } | Optimizer::RowAdagrad { .. } => state.add(change),
            Optimizer::Momentum { .. } => {
                for (i, &change) in change.iter().enumerate() {
                    let velocity = state.get(i);
                    values.put(i, values.get(i) + b * velocity);
                    state.put(i, a * velocity + change);
                }
            }
            Optimizer::Adam { .. } => {
                for i in 0..dim {
                    state.put(i, a * state.get(i) + change[i]);
                    state.put(dim + i, c * state.get(dim + i) + change[dim + i]);
                }
                let steps = state.get(2 * dim).to_bits().saturating_add(self.steps());
                state.put(2 * dim, f32::from_bits(steps));
            }
        }
    }
}
