//! Random choices of word vector training: negatives, and which words of a text to drop.

use rand::{Rng, RngCore};

/// Draws numbers with given weights in constant time by the alias method of Walker (1977), in the
/// form of Vose (1991): each of `n` equal columns holds at most two of the numbers.
#[derive(Clone, Debug)]
pub struct Alias {
    columns: Vec<Column>,
}

/// One column: its own number below `bound` of 2^32, `other` above.
#[derive(Clone, Copy, Debug)]
struct Column {
    bound: u32,
    other: u32,
}

impl Alias {
    /// For numbers `0..weights.len()`, each as likely as its weight says.
    ///
    /// # Panics
    /// If there are no weights or 2^32 and more, one is negative or not finite, or all are zero.
    #[must_use]
    pub fn new(weights: &[f64]) -> Self {
        let count = u32::try_from(weights.len()).expect("fewer than 2^32 weights");
        let sum: f64 = weights.iter().sum();
        assert!(
            sum > 0.0 && sum.is_finite() && weights.iter().all(|&weight| weight >= 0.0),
            "weights are not negative, and some are positive"
        );
        let mut columns: Vec<Column> =
            (0..count).map(|own| Column { bound: u32::MAX, other: own }).collect();
        // Shares of a column: those below 1 are filled up by those above.
        let scale = f64::from(count) / sum;
        let mut shares: Vec<f64> = weights.iter().map(|weight| weight * scale).collect();
        let (mut small, mut large): (Vec<u32>, Vec<u32>) =
            (0..count).partition(|&own| shares[own as usize] < 1.0);
        while let (Some(&low), Some(&high)) = (small.last(), large.last()) {
            small.pop();
            let share = shares[low as usize];
            columns[low as usize] = Column { bound: bound(share), other: high };
            shares[high as usize] -= 1.0 - share;
            if shares[high as usize] < 1.0 {
                large.pop();
                small.push(high);
            }
        }
        // What rounding left in one of the lists has a whole column.
        Self { columns }
    }

    /// Draws a number.
    #[inline]
    pub fn draw(&self, random: &mut impl RngCore) -> u32 {
        let word = random.next_u64();
        #[expect(clippy::cast_possible_truncation, reason = "the halves of a word")]
        let (high, low) = ((word >> 32) as u32, word as u32);
        // The high half picks a column by a multiplication instead of a remainder; its bias is below
        // one in 2^32 / n.
        let count = self.columns.len() as u64;
        let own = ((u64::from(high) * count) >> 32) as u32;
        let column = self.columns[own as usize];
        if low <= column.bound { own } else { column.other }
    }
}

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

    use super::{Alias, Subsample};

    #[test]
    fn numbers_come_as_often_as_their_weights_say() {
        let weights = [3.0, 0.0, 1.0, 0.5, 7.5];
        let alias = Alias::new(&weights);
        let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut counts = [0_u32; 5];
        let draws = 240_000;
        for _ in 0..draws {
            counts[alias.draw(&mut random) as usize] += 1;
        }
        assert_eq!(counts[1], 0);
        for (count, weight) in counts.into_iter().zip(weights) {
            let expected = f64::from(draws) * weight / 12.0;
            // Five standard deviations.
            assert!((f64::from(count) - expected).abs() <= 5.0 * expected.sqrt(), "{counts:?}");
        }
    }

    #[test]
    fn one_number_alone_is_always_drawn() {
        let alias = Alias::new(&[0.1]);
        let mut random = Xoshiro256PlusPlus::seed_from_u64(2);
        assert!((0..100).all(|_| alias.draw(&mut random) == 0));
    }

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
