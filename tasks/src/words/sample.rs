//! Which words of a text word vector training drops.

use rand::Rng;

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share is 0 to 1")]
fn bound(share: f64) -> u32 {
    (share * f64::from(u32::MAX)) as u32
}

/// Drops words of a text, the more often the more frequent they are (Mikolov et al. 2013b, section
/// 2.3, in the form of their program).
///
/// A word with count `c` of `t` in all stays with probability `min(1, sqrt(1 / x) + 1 / x)`, where
/// `x = c / (sample t)`.
#[derive(Clone, Debug)]
pub struct Subsample {
    /// Of 2^32, by word; empty if all words stay.
    keep: Vec<u32>,
}

impl Subsample {
    /// For words of these counts. With `sample` 0 all words stay.
    #[must_use]
    pub fn new(counts: &[u64], sample: f64) -> Self {
        if sample <= 0.0 {
            return Self { keep: Vec::new() };
        }
        #[expect(clippy::cast_precision_loss, reason = "counts are below 2^52")]
        let threshold = sample * counts.iter().sum::<u64>() as f64;
        let keep = |&count: &u64| {
            #[expect(clippy::cast_precision_loss, reason = "counts are below 2^52")]
            let x = count as f64 / threshold;
            bound((x.sqrt() + 1.0) / x.max(f64::MIN_POSITIVE)).max(1)
        };
        Self { keep: counts.iter().map(keep).collect() }
    }

    /// Whether this occurrence of a word stays.
    #[inline]
    pub fn keeps(&self, word: u32, random: &mut impl Rng) -> bool {
        match self.keep.get(word as usize) {
            Some(&bound) => random.next_u32() <= bound,
            None => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::Subsample;

    #[test]
    fn frequent_words_are_dropped_as_the_formula_says_and_rare_ones_never() {
        let subsample = Subsample::new(&[900_000, 99_900, 100], 1e-3);
        let mut random = Xoshiro256PlusPlus::seed_from_u64(3);
        let mut share = |word| {
            let kept = (0..100_000).filter(|_| subsample.keeps(word, &mut random)).count();
            f64::from(u32::try_from(kept).unwrap()) / 1e5
        };
        // x = 900 and 99.9: (sqrt(x) + 1) / x.
        assert!((share(0) - 31.0 / 900.0).abs() < 0.003);
        assert!((share(1) - 10.995 / 99.9).abs() < 0.005);
        assert!(share(2) > 0.9999);
    }

    #[test]
    fn without_a_threshold_all_words_stay() {
        let subsample = Subsample::new(&[1_000_000, 1], 0.0);
        let mut random = Xoshiro256PlusPlus::seed_from_u64(4);
        assert!((0..1000).all(|_| subsample.keeps(0, &mut random)));
    }
}
