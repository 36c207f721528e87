//! Batch normalisation (Ioffe and Szegedy 2015), in place.
//!
//! While training, each feature is normalised over the batch of this worker: `x^ = (x - mean) / sqrt(var + eps)`,
//! `y = scale x^ + shift`. For evaluation, running means and variances take the batch's place; they are parameters
//! that move a little with each batch ([`BatchNorm::moves`]) and so are shared by all workers. As in PyTorch, the
//! batch's variance is the biased one and the running variance follows the unbiased one.

/// Added to the variance, as in PyTorch.
const EPSILON: f32 = 1e-5;

/// A batch normalisation layer: what it keeps from the forward to the backward pass.
#[derive(Clone, Debug)]
pub struct BatchNorm {
    features: usize,
    rows: usize,
    mean: Vec<f32>,
    variance: Vec<f32>,
    /// `1 / sqrt(variance + eps)`.
    inverse: Vec<f32>,
    normalised: Vec<f32>,
}

impl BatchNorm {
    /// For rows of so many features.
    #[must_use]
    pub fn new(features: usize) -> Self {
        let zeros = vec![0.0; features];
        Self {
            features,
            rows: 0,
            mean: zeros.clone(),
            variance: zeros.clone(),
            inverse: zeros,
            normalised: Vec::new(),
        }
    }

    /// Normalises `x` over its rows, as in training.
    ///
    /// # Panics
    /// If a slice has another length.
    pub fn forward(&mut self, scale: &[f32], shift: &[f32], x: &mut [f32]) {
        self.check(&[scale, shift], x);
        self.rows = x.len() / self.features;
        #[expect(clippy::cast_precision_loss, reason = "batches are small")]
        let share = 1.0 / self.rows.max(1) as f32;
        self.mean.fill(0.0);
        self.variance.fill(0.0);
        for row in x.chunks_exact(self.features) {
            add(row, &mut self.mean);
        }
        self.mean.iter_mut().for_each(|mean| *mean *= share);
        // In two passes: the difference of large sums would lose the variance of features far from 0.
        for row in x.chunks_exact(self.features) {
            for ((variance, &x), &mean) in self.variance.iter_mut().zip(row).zip(&self.mean) {
                *variance += (x - mean) * (x - mean);
            }
        }
        for (inverse, variance) in self.inverse.iter_mut().zip(&mut self.variance) {
            *variance *= share;
            *inverse = 1.0 / (*variance + EPSILON).sqrt();
        }
        self.normalised.resize(x.len(), 0.0);
        let rows = x.chunks_exact_mut(self.features);
        for (row, kept) in rows.zip(self.normalised.chunks_exact_mut(self.features)) {
            for f in 0..self.features {
                kept[f] = (row[f] - self.mean[f]) * self.inverse[f];
                row[f] = scale[f] * kept[f] + shift[f];
            }
        }
    }

    /// Normalises `x` by running statistics, as in evaluation.
    ///
    /// # Panics
    /// If a slice has another length.
    pub fn forward_fixed(
        &self,
        (scale, shift): (&[f32], &[f32]),
        (mean, variance): (&[f32], &[f32]),
        x: &mut [f32],
    ) {
        self.check(&[scale, shift, mean, variance], x);
        for row in x.chunks_exact_mut(self.features) {
            for f in 0..self.features {
                // Workers' moves of the variance may pass each other; none takes it below 0 for long.
                let inverse = 1.0 / (variance[f].max(0.0) + EPSILON).sqrt();
                row[f] = scale[f] * (row[f] - mean[f]) * inverse + shift[f];
            }
        }
    }

    /// Turns the gradient by the output of the last [`BatchNorm::forward`] into the one by its input, and adds
    /// those by scale and shift.
    ///
    /// `dx = scale / sqrt(var + eps) * (dy - mean(dy) - x^ mean(dy x^))`, means over the batch.
    ///
    /// # Panics
    /// If a slice has another length.
    pub fn backward(
        &self,
        scale: &[f32],
        gradient: &mut [f32],
        (d_scale, d_shift): (&mut [f32], &mut [f32]),
    ) {
        self.check(&[scale, d_scale, d_shift], gradient);
        assert_eq!(gradient.len(), self.normalised.len());
        #[expect(clippy::cast_precision_loss, reason = "batches are small")]
        let share = 1.0 / self.rows.max(1) as f32;
        let (mut by_shift, mut by_scale) = (vec![0.0; self.features], vec![0.0; self.features]);
        let normalised = self.normalised.chunks_exact(self.features);
        for (dy, x) in gradient.chunks_exact(self.features).zip(normalised.clone()) {
            for f in 0..self.features {
                by_shift[f] += dy[f];
                by_scale[f] += dy[f] * x[f];
            }
        }
        add(&by_scale, d_scale);
        add(&by_shift, d_shift);
        for (dy, x) in gradient.chunks_exact_mut(self.features).zip(normalised) {
            for f in 0..self.features {
                let centred = dy[f] - share * by_shift[f] - x[f] * share * by_scale[f];
                dy[f] = scale[f] * self.inverse[f] * centred;
            }
        }
    }

    /// What to add to the running mean and variance after the last [`BatchNorm::forward`]: `share` of the way to the
    /// batch's. PyTorch's share is 0.1; divide it by the number of workers that move them side by side.
    ///
    /// # Panics
    /// If a slice has another length.
    pub fn moves(
        &self,
        share: f32,
        (mean, variance): (&[f32], &[f32]),
        (d_mean, d_variance): (&mut [f32], &mut [f32]),
    ) {
        self.check(&[mean, variance, d_mean, d_variance], &[]);
        #[expect(clippy::cast_precision_loss, reason = "batches are small")]
        let unbiased = if self.rows > 1 { self.rows as f32 / (self.rows - 1) as f32 } else { 1.0 };
        for f in 0..self.features {
            d_mean[f] = share * (self.mean[f] - mean[f]);
            d_variance[f] = share * (unbiased * self.variance[f] - variance[f]);
        }
    }

    fn check(&self, parameters: &[&[f32]], rows: &[f32]) {
        assert!(parameters.iter().all(|part| part.len() == self.features));
        assert_eq!(rows.len() % self.features, 0, "whole rows of {} floats", self.features);
    }
}

fn add(part: &[f32], sum: &mut [f32]) {
    for (sum, &part) in sum.iter_mut().zip(part) {
        *sum += part;
    }
}

#[cfg(test)]
mod tests {
    use super::BatchNorm;
    use crate::dense::difference::{assert_gradient, numbers, weighted};

    const FEATURES: usize = 3;
    const ROWS: usize = 8;

    #[test]
    fn gradients_are_those_of_finite_differences() {
        let (x, dy) = (numbers(ROWS * FEATURES, 1), numbers(ROWS * FEATURES, 2));
        let (scale, shift) = (numbers(FEATURES, 3), numbers(FEATURES, 4));
        let mut layer = BatchNorm::new(FEATURES);
        layer.forward(&scale, &shift, &mut x.clone());
        let (mut d_scale, mut d_shift) = (vec![0.0; FEATURES], vec![0.0; FEATURES]);
        let mut dx = dy.clone();
        layer.backward(&scale, &mut dx, (&mut d_scale, &mut d_shift));
        let loss = |scale: &[f32], shift: &[f32], x: &[f32]| {
            let mut y = x.to_vec();
            BatchNorm::new(FEATURES).forward(scale, shift, &mut y);
            weighted(&dy, &y)
        };
        assert_gradient("scale", &scale, &d_scale, |scale| loss(scale, &shift, &x));
        assert_gradient("shift", &shift, &d_shift, |shift| loss(&scale, shift, &x));
        assert_gradient("input", &x, &dx, |x| loss(&scale, &shift, x));
    }

    #[test]
    fn outputs_have_the_shift_as_mean_and_the_scale_as_deviation() {
        let mut x: Vec<f32> = numbers(ROWS * 2, 1).iter().map(|x| 40.0 + 3.0 * x).collect();
        BatchNorm::new(2).forward(&[2.0, 1.0], &[5.0, 0.0], &mut x);
        let first: Vec<f32> = x.chunks_exact(2).map(|row| row[0]).collect();
        let mean = first.iter().sum::<f32>() / 8.0;
        let variance = first.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / 8.0;
        assert!((mean - 5.0).abs() < 1e-4, "mean {mean}");
        assert!((variance - 4.0).abs() < 1e-2, "variance {variance}");
    }

    #[test]
    fn running_statistics_arrive_at_the_batch_s_own() {
        let x = numbers(ROWS * FEATURES, 1);
        let (scale, shift) = (vec![1.0; FEATURES], vec![0.0; FEATURES]);
        let (mut mean, mut variance) = (vec![0.0; FEATURES], vec![1.0; FEATURES]);
        let mut layer = BatchNorm::new(FEATURES);
        let mut trained = x.clone();
        layer.forward(&scale, &shift, &mut trained);
        for _ in 0..200 {
            let mut moves = (vec![0.0; FEATURES], vec![0.0; FEATURES]);
            layer.moves(0.1, (&mean, &variance), (&mut moves.0, &mut moves.1));
            super::add(&moves.0, &mut mean);
            super::add(&moves.1, &mut variance);
        }
        // The unbiased variance is 8/7 of the biased one.
        let biased: Vec<f32> = variance.iter().map(|v| v * 7.0 / 8.0).collect();
        let mut fixed = x;
        layer.forward_fixed((&scale, &shift), (&mean, &biased), &mut fixed);
        for (fixed, trained) in fixed.iter().zip(&trained) {
            assert!((fixed - trained).abs() < 1e-4, "{fixed} and {trained}");
        }
    }
}
