//! Inverted dropout (Srivastava et al. 2014): each value is dropped with a probability while training, and
//! those that stay are divided by the probability of staying, so that nothing is done in evaluation.

use rand::RngCore;

/// A dropout layer: its probability, and which values the last forward pass kept.
#[derive(Clone, Debug)]
pub struct Dropout {
    /// Of 65,536 values so many stay.
    kept_of_65536: u32,
    /// `1 / share kept` where a value stayed, else 0.
    factors: Vec<f32>,
}

impl Dropout {
    /// Drops each value with `probability`, in steps of 1/65,536.
    ///
    /// # Panics
    /// If it is not in `0..1`.
    #[must_use]
    pub fn new(probability: f32) -> Self {
        assert!((0.0..1.0).contains(&probability), "a probability of dropping below 1");
        #[expect(clippy::cast_possible_truncation, reason = "0 to 65,536")]
        #[expect(clippy::cast_sign_loss, reason = "0 to 65,536")]
        let kept_of_65536 = ((1.0 - probability) * 65_536.0).round().max(1.0) as u32;
        Self { kept_of_65536, factors: Vec::new() }
    }

    /// Whether it changes anything.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.kept_of_65536 < 65_536
    }

    /// Drops values of `x`, as in training. In evaluation it is left out.
    pub fn forward(&mut self, random: &mut impl RngCore, x: &mut [f32]) {
        if !self.is_active() {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "below 2^17")]
        let factor = 65_536.0 / self.kept_of_65536 as f32;
        self.factors.resize(x.len(), 0.0);
        for factors in self.factors.chunks_mut(4) {
            // Four decisions of 16 bits from one draw: the draws cost as much as the layer.
            let mut bits = random.next_u64();
            for kept in factors {
                let kept_now = (bits & 0xFFFF) < u64::from(self.kept_of_65536);
                *kept = if kept_now { factor } else { 0.0 };
                bits >>= 16;
            }
        }
        self.scale(x);
    }

    /// Turns the gradient by the output of the last [`Dropout::forward`] into the one by its input.
    ///
    /// # Panics
    /// If it was of another size.
    pub fn backward(&self, gradient: &mut [f32]) {
        if self.is_active() {
            assert_eq!(gradient.len(), self.factors.len());
            self.scale(gradient);
        }
    }

    fn scale(&self, values: &mut [f32]) {
        for (value, &factor) in values.iter_mut().zip(&self.factors) {
            *value *= factor;
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::Dropout;
    use crate::dense::difference::{assert_gradient, numbers, weighted};

    fn random() -> Xoshiro256PlusPlus {
        Xoshiro256PlusPlus::seed_from_u64(7)
    }

    #[test]
    fn the_gradient_is_that_of_finite_differences() {
        let (x, dy) = (numbers(19, 1), numbers(19, 2));
        let mut layer = Dropout::new(0.5);
        let mut y = x.clone();
        layer.forward(&mut random(), &mut y);
        let mut dx = dy.clone();
        layer.backward(&mut dx);
        assert_gradient("input", &x, &dx, |x| {
            let mut y = x.to_vec();
            // The same seed drops the same values.
            Dropout::new(0.5).forward(&mut random(), &mut y);
            weighted(&dy, &y)
        });
    }

    #[test]
    fn the_mean_stays_and_the_share_dropped_is_the_probability() {
        let mut x = vec![1.0; 100_000];
        Dropout::new(0.3).forward(&mut random(), &mut x);
        let dropped = x.iter().filter(|&&x| x == 0.0).count();
        assert!((29_000..31_000).contains(&dropped), "{dropped} of 100,000 dropped");
        let mean = x.iter().sum::<f32>() / 100_000.0;
        assert!((0.98..1.02).contains(&mean), "mean {mean}");
    }

    #[test]
    fn probability_zero_changes_nothing() {
        let (mut x, mut layer) = (numbers(9, 1), Dropout::new(0.0));
        layer.forward(&mut random(), &mut x);
        layer.backward(&mut x);
        assert_eq!(x, numbers(9, 1));
    }
}
