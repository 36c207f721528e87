//! Clicks in the form of Criteo's display advertising challenge: a label, 13 integers, 26 categories, tabs.
//!
//! Categories of a field occur by Zipf's law. A click's logit is a sum of a weight for each category and of
//! `<v_i, v_j>` over all pairs of categories, plus a little of the integers: a factorisation machine finds it, logistic
//! regression finds a part. Weights and vectors are hashes of seed, field and category, so that billions of
//! categories take no memory; the bias is found from a sample, so that the wanted share is clicked.
//!
//! Each example depends on the seed and its number alone: a range of numbers gives a test set of the same world.

use std::io::Write;

use rand::{Rng, RngCore, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::{Generator, Zipf, mixed};

const INTEGERS: usize = 13;
const FIELDS: usize = 26;

/// Categories of each field of Criteo's seven days, after which the default is shaped.
const CRITEO: [u32; FIELDS] = [
    1460, 583, 10_131_227, 2_202_608, 305, 24, 12_517, 633, 3, 93_145, 5683, 8_351_593, 3194, 27,
    14_992, 5_461_306, 10, 5652, 2173, 4, 7_046_547, 18, 15, 286_181, 105, 142_572,
];

/// Dimensions of the vectors whose products make the pairs.
const RANK: usize = 4;
/// Standard deviation of a category's weight: 26 of them have 1.2 together.
const WEIGHT_STD: f64 = 0.24;
/// Standard deviation of a vector's entries: 325 pairs of 4 dimensions have 0.9 together.
const VECTOR_STD: f64 = 0.158;
/// Share of examples in which an integer is missing.
const MISSING: f64 = 0.15;
/// Examples that the bias is found from, far behind those that anybody writes.
const SAMPLED: u64 = 4096;
const SAMPLED_FROM: u64 = u64::MAX / 2;

/// A generator of clicks.
#[derive(Clone, Debug)]
pub struct ClickLog {
    seed: u64,
    next: u64,
    end: u64,
    total: u64,
    laws: [Zipf; FIELDS],
    bias: f64,
}

/// One example, before it is written.
struct Example {
    /// None where the cell is empty.
    integers: [Option<u64>; INTEGERS],
    /// Ranks in their fields, from 1.
    categories: [u32; FIELDS],
    logit: f64,
    /// Uniform in 0..1: clicked if below the probability.
    chance: f64,
}

impl ClickLog {
    /// Examples `first..first + count` of this seed. Fields have Criteo's numbers of categories, or all have
    /// `categories`; these occur by Zipf's law with `exponent`; the share `click_rate` is clicked.
    ///
    /// # Panics
    /// If there are no categories, the exponent is negative or not finite, or the rate is not between 0 and 1.
    #[must_use]
    pub fn new(
        seed: u64,
        (first, count): (u64, u64),
        categories: Option<u32>,
        exponent: f64,
        click_rate: f64,
    ) -> Self {
        assert!(click_rate > 0.0 && click_rate < 1.0, "some are clicked, some are not");
        let laws = CRITEO.map(|number| Zipf::new(categories.unwrap_or(number), exponent));
        let end = first.saturating_add(count);
        let mut log = Self { seed, next: first, end, total: count, laws, bias: 0.0 };
        log.bias = log.bias_for(click_rate);
        log
    }

    /// The bias with which the mean probability over a sample is `rate`, by bisection.
    fn bias_for(&self, rate: f64) -> f64 {
        let logits: Vec<f64> =
            (0..SAMPLED).map(|number| self.example(SAMPLED_FROM + number).logit).collect();
        let (mut low, mut high) = (-50.0, 50.0);
        for _ in 0..60 {
            let middle = (low + high) / 2.0;
            let sum: f64 = logits.iter().map(|logit| probability(logit + middle)).sum();
            #[expect(clippy::cast_precision_loss, reason = "a sample is small")]
            let mean = sum / SAMPLED as f64;
            *(if mean < rate { &mut low } else { &mut high }) = middle;
        }
        (low + high) / 2.0
    }

    fn example(&self, number: u64) -> Example {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(mixed(self.seed ^ mixed(number)));
        let (mut logit, mut sums, mut squares) = (0.0, [0.0; RANK], 0.0);
        let mut categories = [0; FIELDS];
        for (field, (category, law)) in categories.iter_mut().zip(&self.laws).enumerate() {
            *category = law.sample(&mut random);
            let hash = mixed(self.seed ^ mixed((field as u64) << 32 | u64::from(*category)));
            logit += WEIGHT_STD * normal(hash);
            for (dimension, sum) in sums.iter_mut().enumerate() {
                let entry = VECTOR_STD * normal(mixed(hash ^ (dimension as u64 + 1)));
                *sum += entry;
                squares += entry * entry;
            }
        }
        // The sum over pairs of <v_i, v_j>.
        logit += 0.5 * (sums.iter().map(|sum| sum * sum).sum::<f64>() - squares);
        let mut integers = [None; INTEGERS];
        for (column, integer) in integers.iter_mut().enumerate() {
            if random.random_bool(MISSING) {
                continue;
            }
            // Counts: few large ones, the larger the further right the column.
            #[expect(clippy::cast_precision_loss, reason = "13 columns")]
            let log = 0.4 * column as f64 + 1.2 * normal(random.next_u64());
            #[expect(clippy::cast_possible_truncation, reason = "at most e^9")]
            #[expect(clippy::cast_sign_loss, reason = "exp is positive")]
            let count = log.exp() as u64;
            *integer = Some(count);
            logit += 0.1 * normal(mixed(self.seed ^ column as u64)) * log;
        }
        Example { integers, categories, logit, chance: random.random() }
    }

    fn write(&self, example: &Example, out: &mut Vec<u8>) {
        let clicked = example.chance < probability(example.logit + self.bias);
        out.push(if clicked { b'1' } else { b'0' });
        for integer in example.integers {
            out.push(b'\t');
            if let Some(count) = integer {
                write!(out, "{count}").expect("memory takes every byte");
            }
        }
        for (field, rank) in (0_u32..).zip(example.categories) {
            write!(out, "\t{:08x}", identity(rank, field)).expect("memory takes every byte");
        }
        out.push(b'\n');
    }
}

impl Generator for ClickLog {
    fn total(&self) -> u64 {
        self.total
    }

    fn next_part(&mut self, count: u64, out: &mut Vec<u8>) -> u64 {
        let first = self.next;
        self.next = self.end.min(first.saturating_add(count));
        for number in first..self.next {
            let example = self.example(number);
            self.write(&example, out);
        }
        self.next - first
    }
}

fn probability(logit: f64) -> f64 {
    1.0 / (1.0 + (-logit).exp())
}

/// About normal, mean 0 and variance 1, from 64 random bits: the sum of four numbers of 16 bits.
fn normal(bits: u64) -> f64 {
    let sum: u64 = (0..4).map(|part| bits >> (16 * part) & 0xFFFF).sum();
    // Each has a variance of a twelfth of 65536 squared.
    let std = 65_536.0 / 3.0_f64.sqrt();
    #[expect(clippy::cast_precision_loss, reason = "below 2^18")]
    let centred = sum as f64 - 2.0 * 65_535.0;
    centred / std
}

/// A category's id as in Criteo's files, which are hashed: of no order, different for different ranks of a field (every step is
/// one-to-one on 32 bits).
const fn identity(rank: u32, field: u32) -> u32 {
    let x = rank ^ field.wrapping_mul(0x9E37_79B9);
    let x = (x ^ (x >> 16)).wrapping_mul(0x7FEB_352D);
    let x = (x ^ (x >> 15)).wrapping_mul(0x846C_A68B);
    x ^ (x >> 16)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{ClickLog, FIELDS, Generator, identity, mixed, normal};
    use crate::ctr::data::{FeatureIds, Source};

    fn log(seed: u64, first: u64, count: u64) -> ClickLog {
        ClickLog::new(seed, (first, count), Some(200), 1.1, 0.25)
    }

    fn whole(mut log: ClickLog) -> Vec<u8> {
        let mut out = Vec::new();
        while log.next_part(70, &mut out) > 0 {}
        out
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes_and_ranges_are_parts_of_the_whole() {
        let all = whole(log(1, 0, 300));
        assert_eq!(whole(log(1, 0, 300)), all);
        assert_ne!(whole(log(2, 0, 300)), all);
        assert_eq!([whole(log(1, 0, 120)), whole(log(1, 120, 180))].concat(), all);
    }

    #[test]
    fn what_is_written_is_read_as_criteo_s_form() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clicks.tsv");
        std::fs::write(&path, whole(log(3, 0, 4000))).unwrap();
        let ids = FeatureIds::Enumerated { min_count: 1 };
        let clicks = Source { ids, ..Source::new(&path) }.read().unwrap();
        assert_eq!(clicks.fields, Some(39));
        let clicked: usize =
            [&clicks.train, &clicks.valid, &clicks.test].iter().map(|set| set.clicks()).sum();
        assert!((900..1100).contains(&clicked), "{clicked} of 4000");
        let categories =
            |field: &str| clicks.names.iter().filter(|name| name.starts_with(field)).count() - 1;
        assert!((100..=200).contains(&categories("C1=")), "{}", categories("C1="));
        assert!((10..100).contains(&categories("I13=")), "{}", categories("I13="));
    }

    #[test]
    fn ids_of_a_field_differ() {
        let ids: HashSet<u32> = (1..=100_000).map(|rank| identity(rank, 7)).collect();
        assert_eq!(ids.len(), 100_000);
        let fields: HashSet<u32> = (0..26).map(|field| identity(1, field)).collect();
        assert_eq!(fields.len(), FIELDS);
    }

    #[test]
    fn hashes_are_about_normal() {
        let drawn: Vec<f64> = (0..100_000).map(|number| normal(mixed(number))).collect();
        let moment = |power| drawn.iter().map(|x| x.powi(power)).sum::<f64>() / 100_000.0;
        assert!(moment(1).abs() < 0.02 && (moment(2) - 1.0).abs() < 0.03);
        assert!(drawn.iter().any(|x| x.abs() > 2.5));
    }
}
