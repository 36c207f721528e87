//! The affine map of an update: how steps enter it, how two compose, how it is applied.

use super::vectors::{self, Noted};
use super::{FACTOR_A, FACTOR_B, FACTOR_C, HEADER_LEN, MAP_PRESENT, STEPS, Update};
use crate::element::Element;
use crate::optimizer::{FtrlRule, Optimizer, adam_correction, mean_square};
use crate::rowcopy::RowPtr;
use crate::simd::instruction_set;

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

    /// FTRL's values from which the update began; nothing of other optimizers.
    pub(super) fn begun_at(&self) -> Option<&[f32]> {
        let at = HEADER_LEN + self.shape.map_len();
        let ftrl = matches!(self.shape.optimizer, Optimizer::Ftrl { .. });
        ftrl.then(|| &self.block[at..at + self.shape.dim])
    }

    /// The update begins, or would have begun, at these values.
    pub(super) fn begin_at(&mut self, values: RowPtr) {
        if let Optimizer::Ftrl { .. } = self.shape.optimizer {
            let at = HEADER_LEN + self.shape.map_len();
            values.copy_out(&mut self.block[at..at + self.shape.dim]);
        }
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
                self.coast(momentum, lr);
                let (values, velocity) = self.map_mut().split_at_mut(dim);
                for ((w, m), &g) in values.iter_mut().zip(velocity).zip(grad) {
                    *m = momentum * *m + g;
                    *w -= lr * *m;
                }
            }
            Optimizer::Ftrl { .. } => {
                let (sums, squares) = self.map_mut().split_at_mut(dim);
                for ((sum, square), &g) in sums.iter_mut().zip(squares).zip(grad) {
                    *sum += g;
                    *square += g * g;
                }
            }
            _ => {
                for (w, &g) in self.map_mut().iter_mut().zip(grad) {
                    *w -= lr * g;
                }
            }
        }
    }

    /// A step taken on `copy` and noted in the map, in one pass over both.
    pub(super) fn step_noted(&mut self, copy: RowPtr, grad: &[f32], lr: f32) {
        let dim = self.shape.dim;
        assert_eq!(copy.len(), self.shape.row_len(), "copy does not fit the shape");
        let set = instruction_set();
        match self.shape.optimizer {
            // SAFETY: `noted` has checked all lengths, and the borrows last; so they do below.
            Optimizer::Sgd { .. } => unsafe { vectors::shift(set, self.noted(copy, grad), lr) },
            Optimizer::Momentum { momentum, .. } => {
                self.map_mut();
                self.coast(momentum, lr);
                // SAFETY: as above.
                unsafe { vectors::momentum(set, self.noted(copy, grad), lr, momentum) }
            }
            Optimizer::Adagrad { eps, .. } => {
                // SAFETY: as above.
                unsafe { vectors::adagrad(set, self.noted(copy, grad), lr, eps) }
            }
            Optimizer::RowAdagrad { eps, .. } => {
                let square = mean_square(grad);
                let sum = copy.get(dim) + square;
                copy.put(dim, sum);
                self.map_mut()[dim] += square;
                let rate = lr / (sum.sqrt() + eps);
                // SAFETY: as above.
                unsafe { vectors::shift(set, self.noted(copy, grad), rate) }
            }
            Optimizer::Ftrl { .. } => {
                let rule = FtrlRule::of(&self.shape.optimizer).expect("FTRL");
                if !self.has_map() {
                    self.begin_at(copy.part(0, dim));
                }
                // SAFETY: as above; the values from which the update began lie behind its map.
                unsafe { vectors::ftrl(set, self.noted(copy, grad), rule) }
            }
            Optimizer::Adam { beta1, beta2, eps, .. } => {
                let steps = copy.get(3 * dim).to_bits().saturating_add(1);
                copy.put(3 * dim, f32::from_bits(steps));
                let (rate, root) = adam_correction(lr, beta1, beta2, steps);
                self.map_mut();
                self.block[FACTOR_A] *= beta1;
                self.block[FACTOR_C] *= beta2;
                self.block[STEPS] = f32::from_bits(self.steps() + 1);
                let with = [beta1, beta2, eps, rate, root];
                // SAFETY: as above.
                unsafe { vectors::adam(set, self.noted(copy, grad), with) }
            }
        }
    }

    /// An addition to the values of `copy`, noted in the map.
    pub(super) fn add_noted(&mut self, copy: RowPtr, delta: &[f32]) {
        assert!(self.shape.optimizer.takes_additions(), "FTRL's values follow from its state");
        // SAFETY: `noted` has checked all lengths, and the borrows last.
        unsafe { vectors::shift(instruction_set(), self.noted(copy, delta), -1.0) }
    }

    /// What a noted step works on: checks that the lengths fit, and makes the map. The pointers are good until copy or map
    /// are used otherwise.
    fn noted(&mut self, copy: RowPtr, grad: &[f32]) -> Noted {
        let dim = self.shape.dim;
        assert_eq!(copy.len(), self.shape.row_len(), "copy does not fit the shape");
        assert_eq!(grad.len(), dim, "gradient does not fit the shape");
        let map = self.map_mut().as_mut_ptr();
        Noted { copy: copy.as_ptr(), map, grad: grad.as_ptr(), dim }
    }

    /// The factors of one more momentum step.
    fn coast(&mut self, momentum: f32, lr: f32) {
        self.block[FACTOR_A] *= momentum;
        self.block[FACTOR_B] -= lr * self.block[FACTOR_A];
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
        if let Some(begun_at) = earlier.begun_at() {
            let at = HEADER_LEN + self.shape.map_len();
            self.block[at..at + dim].copy_from_slice(begun_at);
        }
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

    /// Applies map and gradients to a row whose open update began at these values of FTRL.
    pub(super) fn apply_from(&self, values: RowPtr, state: RowPtr, begun_at: Option<&[f32]>) {
        match (begun_at, FtrlRule::of(&self.shape.optimizer)) {
            (Some(begun_at), Some(rule)) if self.has_map() => {
                let (w, s, map) = (values.as_ptr(), state.as_ptr(), self.map().as_ptr());
                let (dim, at) = (self.shape.dim, begun_at.as_ptr());
                assert!(values.len() == dim && state.len() == 2 * dim, "row of another shape");
                // SAFETY: `dim` values, state and map of two vectors of as many floats, and as many values to begin at.
                unsafe { vectors::ftrl_sums(instruction_set(), w, s, map, dim, (rule, at)) }
            }
            _ => self.apply_parts(values, state),
        }
    }

    /// Applies the map, not the gradients, to values and state of a row.
    pub(super) fn apply_map<E: Element>(&self, values: RowPtr<E>, state: RowPtr) {
        if !self.has_map() {
            return;
        }
        let dim = self.shape.dim;
        let (moved, change) = self.map().split_at(dim);
        assert!(
            values.len() == dim && state.len() == self.shape.state_len(),
            "row of another shape"
        );
        let (a, b, c) = (self.block[FACTOR_A], self.block[FACTOR_B], self.block[FACTOR_C]);
        let set = instruction_set();
        match self.shape.optimizer {
            Optimizer::Sgd { .. } => values.add(moved),
            Optimizer::Adagrad { .. } | Optimizer::RowAdagrad { .. } => {
                values.add(moved);
                state.add(change);
            }
            Optimizer::Momentum { .. } => {
                let (w, m, map) = (values.as_ptr(), state.as_ptr(), self.map().as_ptr());
                // SAFETY: row and map are two vectors of `dim` floats each.
                unsafe { vectors::coast(set, w, m, map, dim, [a, b]) }
            }
            Optimizer::Ftrl { .. } => {
                let rule = FtrlRule::of(&self.shape.optimizer).expect("FTRL");
                let (w, s, map) = (values.as_ptr(), state.as_ptr(), self.map().as_ptr());
                // SAFETY: state and map are two vectors of `dim` floats each.
                unsafe { vectors::ftrl_sums(set, w, s, map, dim, (rule, std::ptr::null())) }
            }
            Optimizer::Adam { .. } => {
                values.add(moved);
                let (first, second) = (state.part(0, dim), state.part(dim, dim));
                let (change1, change2) = change.split_at(dim);
                // SAFETY: `dim` floats on both sides, of both moments.
                unsafe {
                    vectors::affine(set, first.as_ptr(), a, change1.as_ptr(), dim);
                    vectors::affine(set, second.as_ptr(), c, change2[..dim].as_ptr(), dim);
                }
                let steps = state.get(2 * dim).to_bits().saturating_add(self.steps());
                state.put(2 * dim, f32::from_bits(steps));
            }
        }
    }
}
