//! Which keys a sample is to hold, and how often.

use std::ops::Range;
use std::sync::Arc;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::RngCore;

use super::alias::{AliasTable, scale};
use crate::error::{Error, Result};

/// The power of word2vec's noise distribution (Mikolov et al. 2013, section 2.2).
const UNIGRAM_POWER: f64 = 0.75;

/// A distribution over keys; cheap to clone, so that all workers of a node share its table.
#[derive(Clone, Debug)]
pub struct Distribution {
    keys: Range<u64>,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Uniform,
    LogUniform,
    Weighted(Arc<Weighted>),
}

#[derive(Debug)]
struct Weighted {
    table: AliasTable,
    weights: Box<[f64]>,
    sum: f64,
    drawn: u64,
}

impl Distribution {
    /// Each of `keys` with the same probability.
    ///
    /// # Errors
    /// [`Error::Config`] if there are none.
    pub fn uniform(keys: Range<u64>) -> Result<Self> {
        Self::over(keys, Kind::Uniform)
    }

    /// Key number `i` of `keys`, from 0, with probability `ln((i + 2) / (i + 1)) / ln(n + 1)`: for keys that are sorted by falling
    /// frequency (Zipf's law), as TensorFlow's candidate sampler has it.
    ///
    /// # Errors
    /// [`Error::Config`] if there are none.
    pub fn log_uniform(keys: Range<u64>) -> Result<Self> {
        Self::over(keys, Kind::LogUniform)
    }

    /// Key `first + i` in proportion to `weights[i]`, by an alias table of 8 bytes a key (and 8 for its weight).
    ///
    /// # Errors
    /// [`Error::Config`] if there are no weights or more than 2^32 - 1, one is negative or not finite, or all are zero.
    pub fn weighted(first: u64, weights: Vec<f64>) -> Result<Self> {
        let count = u32::try_from(weights.len());
        let end = count.ok().and_then(|count| first.checked_add(count.into()));
        let end = end.ok_or_else(|| Error::Config("too many weights to sample from".to_owned()))?;
        if let Some(at) = weights.iter().position(|weight| !(weight.is_finite() && *weight >= 0.0))
        {
            let reason = format!(
                "weight {} of key {} cannot be sampled from",
                weights[at],
                first + at as u64
            );
            return Err(Error::Config(reason));
        }
        let sum: f64 = weights.iter().sum();
        if !(sum > 0.0 && sum.is_finite()) {
            return Err(Error::Config(format!("weights to sample from add up to {sum}")));
        }
        let drawn = weights.iter().filter(|&&weight| weight > 0.0).count() as u64;
        let table = AliasTable::new(&weights);
        let weighted = Weighted { table, weights: weights.into(), sum, drawn };
        Self::over(first..end, Kind::Weighted(Arc::new(weighted)))
    }

    /// Key `first + i` in proportion to `counts[i]^0.75`: word2vec's noise.
    ///
    /// # Errors
    /// As [`Distribution::weighted`].
    pub fn unigram(first: u64, counts: &[u64]) -> Result<Self> {
        #[expect(clippy::cast_precision_loss, reason = "a weight")]
        let weight = |&count: &u64| (count as f64).powf(UNIGRAM_POWER);
        Self::weighted(first, counts.iter().map(weight).collect())
    }

    fn over(keys: Range<u64>, kind: Kind) -> Result<Self> {
        if keys.is_empty() {
            return Err(Error::Config("there are no keys to sample from".to_owned()));
        }
        Ok(Self { keys, kind })
    }

    /// All keys that it may draw, and maybe others between them.
    #[must_use]
    pub fn keys(&self) -> Range<u64> {
        self.keys.clone()
    }

    /// How many keys have a chance.
    #[must_use]
    pub fn support(&self) -> u64 {
        match &self.kind {
            Kind::Uniform | Kind::LogUniform => self.keys.end - self.keys.start,
            Kind::Weighted(weighted) => weighted.drawn,
        }
    }

    /// The probability of a key in one draw.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a probability")]
    pub fn probability(&self, key: u64) -> f64 {
        if !self.keys.contains(&key) {
            return 0.0;
        }
        let (index, count) = (key - self.keys.start, self.keys.end - self.keys.start);
        match &self.kind {
            Kind::Uniform => 1.0 / count as f64,
            Kind::LogUniform => (1.0 / (index as f64 + 1.0)).ln_1p() / (count as f64).ln_1p(),
            Kind::Weighted(weighted) => {
                let index = usize::try_from(index).expect("an index of the weights");
                weighted.weights[index] / weighted.sum
            }
        }
    }

    /// One draw.
    #[inline]
    pub(super) fn draw(&self, random: &mut Xoshiro256PlusPlus) -> u64 {
        let count = self.keys.end - self.keys.start;
        let index = match &self.kind {
            Kind::Uniform => scale(random.next_u64(), count).0 as u64,
            Kind::LogUniform => log_uniform(unit(random), count),
            Kind::Weighted(weighted) => weighted.table.draw(random.next_u64()) as u64,
        };
        self.keys.start + index
    }

    /// One draw among the keys that `may` be drawn, by adding up their probabilities: for what draws that are refused would seldom find.
    /// `None` if there are none.
    pub(super) fn draw_among(
        &self,
        random: &mut Xoshiro256PlusPlus,
        may: impl Fn(u64) -> bool,
    ) -> Option<u64> {
        let open = || self.keys().map(|key| (key, self.probability(key)));
        let open = || open().filter(|&(key, share)| share > 0.0 && may(key));
        let sum: f64 = open().map(|(_, share)| share).sum();
        let mut place = unit(random) * sum;
        let mut last = None;
        for (key, share) in open() {
            last = Some(key);
            place -= share;
            if place < 0.0 {
                break;
            }
        }
        last
    }
}

/// Uniform in `0..1`, with 53 random bits.
#[inline]
#[expect(clippy::cast_precision_loss, reason = "53 bits")]
pub(super) fn unit(random: &mut Xoshiro256PlusPlus) -> f64 {
    (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

/// The inverse of the distribution function `ln(i + 1) / ln(n + 1)`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "rounded down into the range"
)]
fn log_uniform(place: f64, count: u64) -> u64 {
    let index = (place * (count as f64).ln_1p()).exp() - 1.0;
    (index.max(0.0) as u64).min(count - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_xoshiro::rand_core::SeedableRng;

    #[test]
    fn probabilities_add_up_to_one_and_are_zero_elsewhere() {
        let counts: Vec<u64> = (0..100).map(|i| i * i).collect();
        for distribution in [
            Distribution::uniform(5..1000).expect("keys"),
            Distribution::log_uniform(5..1000).expect("keys"),
            Distribution::unigram(5, &counts).expect("counts"),
        ] {
            let sum: f64 = distribution.keys().map(|key| distribution.probability(key)).sum();
            assert!((sum - 1.0).abs() < 1e-9, "{sum}");
            assert_eq!(distribution.probability(4) + distribution.probability(1000), 0.0);
            let drawn = distribution.keys().filter(|&key| distribution.probability(key) > 0.0);
            assert_eq!(drawn.count() as u64, distribution.support());
        }
    }

    #[test]
    fn what_cannot_be_sampled_from_is_refused() {
        assert!(Distribution::uniform(3..3).is_err());
        assert!(Distribution::weighted(0, Vec::new()).is_err());
        assert!(Distribution::weighted(0, vec![0.0, 0.0]).is_err());
        assert!(Distribution::weighted(u64::MAX, vec![1.0, 1.0]).is_err());
        let error = Distribution::weighted(7, vec![1.0, -1.0]).expect_err("a negative weight");
        assert!(error.to_string().contains("key 8"), "{error}");
    }

    #[test]
    fn what_is_left_is_found_however_unlikely() {
        let random = &mut Xoshiro256PlusPlus::seed_from_u64(1);
        let skewed = Distribution::weighted(0, vec![1e12, 1.0, 0.0]).expect("weights");
        assert_eq!(skewed.draw_among(random, |key| key > 0), Some(1));
        assert_eq!(skewed.draw_among(random, |key| key > 1), None);
    }
}
