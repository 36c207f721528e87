//! Places all over a range, without a table.

use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

/// A permutation of `0..count`: `(factor * n + shift) mod count`, the factor prime to the count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread {
    count: u64,
    factor: u64,
    shift: u64,
}

impl Spread {
    /// One of the permutations of `0..count`, chosen by the seed.
    ///
    /// # Panics
    /// If the count is 0.
    #[must_use]
    pub fn new(count: u64, seed: u64) -> Self {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let shift = random.random_range(0..count);
        let factor = loop {
            let factor = random.random_range(0..count);
            if gcd(factor, count) == 1 {
                break factor;
            }
        };
        Self { count, factor, shift }
    }

    /// Where `number` goes.
    #[must_use]
    pub fn place(&self, number: u64) -> u64 {
        let wide = u128::from(number) * u128::from(self.factor) + u128::from(self.shift);
        u64::try_from(wide % u128::from(self.count)).expect("less than the count")
    }
}

/// The greatest common divisor; of 0 and `n` it is `n`.
fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::Spread;

    #[test]
    fn every_place_is_taken_once() {
        for count in [1, 2, 12, 97, 1000] {
            let spread = Spread::new(count, 3);
            let mut places: Vec<u64> = (0..count).map(|number| spread.place(number)).collect();
            places.sort_unstable();
            assert!(places.into_iter().eq(0..count));
        }
    }
}
