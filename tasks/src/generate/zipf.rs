//! Ranks by Zipf's law: rank `k` of `1..=n` with a probability proportional to `k^-s`.
//!
//! Rejection-inversion (Hörmann and Derflinger, "Rejection-inversion to generate variates from monotone discrete
//! distributions", 1996): a number under the continuous hat `x^-s` is rounded, and accepted nearly always. No table, so
//! any `n` costs the same.

use rand::Rng;

/// A law of Zipf over a number of ranks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Zipf {
    ranks: f64,
    exponent: f64,
    /// The hat's integral from the middle of rank 1, less the probability of rank 1, and to the end.
    integral_first: f64,
    integral_last: f64,
    /// Numbers so close below their rank are always accepted.
    surely: f64,
}

impl Zipf {
    /// Over ranks `1..=ranks`; an exponent of 0 makes all alike.
    ///
    /// # Panics
    /// If there is no rank, or the exponent is negative or not finite.
    #[must_use]
    pub fn new(ranks: u32, exponent: f64) -> Self {
        assert!(ranks > 0, "a law needs a rank");
        assert!(exponent.is_finite() && exponent >= 0.0, "an exponent is finite and not negative");
        let mut law = Self {
            ranks: f64::from(ranks),
            exponent,
            integral_first: 0.0,
            integral_last: 0.0,
            surely: 0.0,
        };
        law.integral_first = law.integral(1.5) - 1.0;
        law.integral_last = law.integral(law.ranks + 0.5);
        law.surely = 2.0 - law.integral_inverse(law.integral(2.5) - law.hat(2.0));
        law
    }

    /// A rank, from 1 on.
    pub fn sample(&self, random: &mut impl Rng) -> u32 {
        loop {
            let share: f64 = random.random();
            let at = self.integral_last + share * (self.integral_first - self.integral_last);
            let x = self.integral_inverse(at);
            let rank = x.round().clamp(1.0, self.ranks);
            if rank - x <= self.surely || at >= self.integral(rank + 0.5) - self.hat(rank) {
                #[expect(clippy::cast_possible_truncation, reason = "between 1 and a u32")]
                #[expect(clippy::cast_sign_loss, reason = "between 1 and a u32")]
                return rank as u32;
            }
        }
    }

    fn hat(&self, x: f64) -> f64 {
        x.powf(-self.exponent)
    }

    /// `(x^(1-s) - 1) / (1-s)`, and `ln x` for `s = 1`, without the loss of digits near it.
    fn integral(&self, x: f64) -> f64 {
        let (power, log) = (1.0 - self.exponent, x.ln());
        if (power * log).abs() < 1e-8 { log } else { (power * log).exp_m1() / power }
    }

    fn integral_inverse(&self, at: f64) -> f64 {
        let power = 1.0 - self.exponent;
        // Below -1 only by rounding.
        let grown = (at * power).max(-1.0);
        if grown.abs() < 1e-8 { at.exp() } else { (grown.ln_1p() / power).exp() }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::Zipf;

    #[test]
    fn ranks_occur_as_often_as_the_law_says() {
        const DRAWN: u32 = 200_000;
        for (ranks, exponent) in [(1_u32, 1.1), (2, 1.0), (7, 0.0), (40, 0.6), (40, 1.0), (40, 2.5)]
        {
            let law = Zipf::new(ranks, exponent);
            let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
            let mut counts = vec![0_u32; ranks as usize];
            for _ in 0..DRAWN {
                counts[law.sample(&mut random) as usize - 1] += 1;
            }
            let weights: Vec<f64> =
                (1..=ranks).map(|rank| f64::from(rank).powf(-exponent)).collect();
            let sum: f64 = weights.iter().sum();
            for (weight, &count) in weights.iter().zip(&counts) {
                let expected = f64::from(DRAWN) * weight / sum;
                let error = (f64::from(count) - expected).abs();
                assert!(
                    error < 5.0 * expected.sqrt() + 1.0,
                    "{ranks} {exponent}: {count} {expected}"
                );
            }
        }
    }

    #[test]
    fn the_largest_law_stays_within_its_ranks() {
        let law = Zipf::new(u32::MAX, 0.01);
        let mut random = Xoshiro256PlusPlus::seed_from_u64(2);
        let drawn: Vec<u32> = (0..1000).map(|_| law.sample(&mut random)).collect();
        assert!(drawn.iter().all(|&rank| rank >= 1));
        assert!(drawn.iter().any(|&rank| rank > u32::MAX / 2));
    }
}
