//! The linear layer `y = x W^T + b`.

use super::product;

/// The shape of a linear layer. Its weight is `[outputs, inputs]` row by row, as PyTorch keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Linear {
    /// Floats of an input row.
    pub inputs: usize,
    /// Floats of an output row.
    pub outputs: usize,
}

impl Linear {
    /// Floats of the weight.
    #[must_use]
    pub const fn weights(&self) -> usize {
        self.inputs * self.outputs
    }

    /// `y[n, outputs] = x[n, inputs] W^T + b`.
    ///
    /// # Panics
    /// If a slice has another length.
    pub fn forward(&self, weight: &[f32], bias: Option<&[f32]>, x: &[f32], y: &mut [f32]) {
        let rows = self.rows(x);
        product::nt((rows, self.outputs, self.inputs), x, weight, y);
        let Some(bias) = bias else { return };
        assert_eq!(bias.len(), self.outputs);
        for row in y.chunks_exact_mut(self.outputs) {
            for (y, &b) in row.iter_mut().zip(bias) {
                *y += b;
            }
        }
    }

    /// Adds the gradients by weight and bias to `d_weight`, `d_bias`; overwrites `dx`, if it is wanted.
    ///
    /// `dW += dy^T x`, `db += sum of the rows of dy`, `dx = dy W`.
    ///
    /// # Panics
    /// If a slice has another length.
    pub fn backward(
        &self,
        weight: &[f32],
        x: &[f32],
        dy: &[f32],
        (d_weight, d_bias): (&mut [f32], Option<&mut [f32]>),
        dx: Option<&mut [f32]>,
    ) {
        let rows = self.rows(x);
        product::tn_add((self.outputs, self.inputs, rows), dy, x, d_weight);
        if let Some(d_bias) = d_bias {
            assert_eq!(d_bias.len(), self.outputs);
            for row in dy.chunks_exact(self.outputs) {
                for (db, &d) in d_bias.iter_mut().zip(row) {
                    *db += d;
                }
            }
        }
        if let Some(dx) = dx {
            product::nn((rows, self.inputs, self.outputs), dy, weight, dx);
        }
    }

    fn rows(&self, x: &[f32]) -> usize {
        assert_eq!(x.len() % self.inputs, 0, "whole rows of {} floats", self.inputs);
        x.len() / self.inputs
    }
}

#[cfg(test)]
mod tests {
    use super::Linear;
    use crate::dense::difference::{assert_gradient, numbers, weighted};

    const LAYER: Linear = Linear { inputs: 5, outputs: 3 };
    const ROWS: usize = 4;

    #[test]
    fn outputs_are_the_products_with_the_weight_s_rows() {
        let (weight, bias) = ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [0.5, -0.5]);
        let layer = Linear { inputs: 3, outputs: 2 };
        let mut y = [0.0; 4];
        layer.forward(&weight, Some(&bias), &[1.0, 0.0, 0.0, 1.0, 1.0, 1.0], &mut y);
        assert_eq!(y, [1.5, 3.5, 6.5, 14.5]);
        layer.forward(&weight, None, &[1.0, 0.0, 0.0, 1.0, 1.0, 1.0], &mut y);
        assert_eq!(y, [1.0, 4.0, 6.0, 15.0]);
    }

    #[test]
    fn gradients_are_those_of_finite_differences() {
        let (weight, bias) = (numbers(LAYER.weights(), 1), numbers(LAYER.outputs, 2));
        let (x, dy) = (numbers(ROWS * LAYER.inputs, 3), numbers(ROWS * LAYER.outputs, 4));
        let mut d_weight = vec![0.0; weight.len()];
        let (mut d_bias, mut dx) = (vec![0.0; bias.len()], vec![f32::NAN; x.len()]);
        let gradients = (&mut d_weight[..], Some(&mut d_bias[..]));
        LAYER.backward(&weight, &x, &dy, gradients, Some(&mut dx));
        let loss = |weight: &[f32], bias: &[f32], x: &[f32]| {
            let mut y = vec![0.0; dy.len()];
            LAYER.forward(weight, Some(bias), x, &mut y);
            weighted(&dy, &y)
        };
        assert_gradient("weight", &weight, &d_weight, |weight| loss(weight, &bias, &x));
        assert_gradient("bias", &bias, &d_bias, |bias| loss(&weight, bias, &x));
        assert_gradient("input", &x, &dx, |x| loss(&weight, &bias, x));
    }

    #[test]
    fn gradients_of_parameters_are_added_to_what_is_there() {
        let (weight, x) = (numbers(LAYER.weights(), 1), numbers(ROWS * LAYER.inputs, 3));
        let dy = numbers(ROWS * LAYER.outputs, 4);
        let (mut once, mut twice) = (vec![0.0; weight.len()], vec![0.0; weight.len()]);
        LAYER.backward(&weight, &x, &dy, (&mut once, None), None);
        LAYER.backward(&weight, &x, &dy, (&mut twice, None), None);
        LAYER.backward(&weight, &x, &dy, (&mut twice, None), None);
        for (once, twice) in once.iter().zip(&twice) {
            assert!((2.0 * once - twice).abs() < 1e-5);
        }
    }
}
