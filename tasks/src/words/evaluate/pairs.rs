//! Judgements of similarity: pairs of words that people have scored.
//!
//! A file has lines `word<TAB>word<TAB>score`; those that start with `#` are comments. The figure is
//! Spearman's rank correlation between the scores and the cosines of the vectors.

use std::path::Path;

use super::{Spellings, pull_units, unit};
use crate::data::{DataError, Lines};
use crate::task::{Parameters, TaskError};

const EXPECTED: &str = "word<TAB>word<TAB>score, or a comment after #";

/// Scored pairs whose words are in the vocabulary.
#[derive(Clone, Debug, Default)]
pub struct WordPairs {
    /// Both words of each pair, one after the other.
    words: Vec<u64>,
    scores: Vec<f64>,
    /// Pairs in the file.
    read: usize,
}

impl WordPairs {
    /// Reads a file.
    ///
    /// # Errors
    /// A file that cannot be read or has another form.
    pub fn read(path: &Path, spellings: &Spellings) -> Result<Self, DataError> {
        let mut pairs = Self::default();
        let mut lines = Lines::open(path, EXPECTED)?;
        while let Some(line) = lines.next_filled()? {
            if line.text.starts_with('#') {
                continue;
            }
            let [one, other, score] = line.split_exactly('\t')?;
            let score = f64::from(score.finite()?);
            pairs.read += 1;
            let number = |word: &str| spellings.number(word.trim());
            if let (Some(one), Some(other)) = (number(one.text), number(other.text)) {
                pairs.words.extend([u64::from(one), u64::from(other)]);
                pairs.scores.push(score);
            }
        }
        if pairs.read == 0 {
            return Err(lines.refused("no pair of words"));
        }
        Ok(pairs)
    }

    /// Both words of each pair.
    pub(super) fn words(&self) -> &[u64] {
        &self.words
    }

    /// Pairs that can be asked, and pairs in the file.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.scores.len(), self.read)
    }

    /// The rank correlation of cosines and scores; 0 with fewer than two pairs.
    ///
    /// # Errors
    /// Those of the parameter manager.
    pub fn correlation(&self, parameters: &mut Parameters<'_>) -> Result<f64, TaskError> {
        let mut rows = Vec::new();
        pull_units(parameters, &self.words, &mut rows)?;
        let dim = rows.len() / self.words.len().max(1);
        let pairs = rows.chunks_exact(2 * dim.max(1));
        let cosines = pairs.map(|pair| f64::from(unit::dot(&pair[..dim], &pair[dim..])));
        Ok(spearman(&cosines.collect::<Vec<_>>(), &self.scores))
    }
}

/// Spearman's correlation: Pearson's of the ranks, equal numbers sharing their mean rank. 0 if there
/// is none, because one side is all equal.
///
/// # Panics
/// If the two are not equally long.
#[must_use]
pub fn spearman(one: &[f64], other: &[f64]) -> f64 {
    assert_eq!(one.len(), other.len());
    let (one, other) = (ranks(one), ranks(other));
    // The mean of ranks is the same with and without ties.
    #[expect(clippy::cast_precision_loss, reason = "pairs are few")]
    let mean = (one.len() as f64 - 1.0) / 2.0;
    let product =
        |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - mean) * (b - mean)).sum::<f64>();
    let scale = (product(&one, &one) * product(&other, &other)).sqrt();
    if scale > 0.0 { product(&one, &other) / scale } else { 0.0 }
}

/// The rank of each number, from 0.
fn ranks(numbers: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..numbers.len()).collect();
    order.sort_by(|&a, &b| numbers[a].total_cmp(&numbers[b]));
    let mut ranks = vec![0.0; numbers.len()];
    let mut first = 0;
    for equal in order.chunk_by(|&a, &b| numbers[a].total_cmp(&numbers[b]).is_eq()) {
        #[expect(clippy::cast_precision_loss, reason = "pairs are few")]
        let rank = first as f64 + (equal.len() as f64 - 1.0) / 2.0;
        equal.iter().for_each(|&index| ranks[index] = rank);
        first += equal.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::{WordPairs, ranks, spearman};
    use crate::data::Vocabulary;
    use crate::words::evaluate::Spellings;

    #[test]
    fn equal_numbers_share_their_mean_rank() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0, 3.0]), [3.0, 0.0, 3.0, 1.0, 3.0]);
        assert_eq!(ranks(&[-0.5, -0.5]), [0.5, 0.5]);
    }

    #[test]
    fn the_correlation_is_that_of_ranks() {
        // scipy.stats.spearmanr([1, 2, 3, 4, 5], [5, 6, 7, 8, 7]) = 0.8207826816681233
        let found = spearman(&[1.0, 2.0, 3.0, 4.0, 5.0], &[5.0, 6.0, 7.0, 8.0, 7.0]);
        assert!((found - 0.820_782_681_668_123_3).abs() < 1e-12, "{found}");
        assert_eq!(spearman(&[1.0, 10.0, 100.0], &[-1.0, -2.0, -3.0]), -1.0);
        assert_eq!(spearman(&[1.0, 2.0], &[3.0, 3.0]), 0.0);
        assert_eq!(spearman(&[], &[]), 0.0);
    }

    #[test]
    fn pairs_of_known_words_are_read_and_others_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pairs.tsv");
        let mut words = Vocabulary::default();
        for word in ["cat", "Dog", "dog"] {
            words.number_or_add(word);
        }
        std::fs::write(&path, "# scored\nCat\tDOG\t7.5\ncat\tunicorn\t1\n").unwrap();
        let pairs = WordPairs::read(&path, &Spellings::new(&words)).unwrap();
        assert_eq!((pairs.counts(), pairs.words), ((1, 2), vec![0, 1]));

        std::fs::write(&path, "cat\tdog\thigh\n").unwrap();
        let error = WordPairs::read(&path, &Spellings::new(&words)).unwrap_err().to_string();
        assert!(error.contains("pairs.tsv:1:9: `high` is no number"), "{error}");
    }
}
