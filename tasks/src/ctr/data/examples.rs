//! Examples in memory: features, their values, labels.

use crate::task::Digest;

/// Labelled examples. All features of all examples lie one after the other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Examples {
    features: Vec<u32>,
    /// A value for each feature; empty if all are 1.
    values: Vec<f32>,
    /// Where each example ends among the features.
    ends: Vec<u64>,
    labels: Vec<bool>,
}

impl Examples {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Features and values of an example; no values if all are 1.
    #[must_use]
    #[inline]
    pub fn get(&self, number: usize) -> (&[u32], &[f32]) {
        let range = self.range(number);
        let values = if self.values.is_empty() { &[] } else { &self.values[range.clone()] };
        (&self.features[range], values)
    }

    /// Whether an example was clicked.
    #[must_use]
    #[inline]
    pub fn label(&self, number: usize) -> bool {
        self.labels[number]
    }

    /// The labels of all examples.
    #[must_use]
    pub fn labels(&self) -> &[bool] {
        &self.labels
    }

    /// Examples that were clicked.
    #[must_use]
    pub fn clicks(&self) -> usize {
        self.labels.iter().filter(|&&label| label).count()
    }

    /// Adds a feature to the example that the next [`Examples::end`] ends.
    pub fn feature(&mut self, feature: u32, value: f32) {
        #[expect(clippy::float_cmp, reason = "exactly the value that needs no place")]
        if value != 1.0 && self.values.is_empty() {
            self.values.resize(self.features.len(), 1.0);
        }
        // Once one value was not 1, all are kept, from then on.
        #[expect(clippy::float_cmp, reason = "exactly the value that needs no place")]
        if !self.values.is_empty() || value != 1.0 {
            self.values.push(value);
        }
        self.features.push(feature);
    }

    /// Ends an example.
    pub fn end(&mut self, label: bool) {
        self.ends.push(self.features.len() as u64);
        self.labels.push(label);
    }

    /// The number of features that all examples have, if it is one, above 0.
    pub(super) fn fields(&self) -> Option<usize> {
        let first = self.range_of_first()?;
        let same = (0..self.len()).all(|number| self.range(number).len() == first);
        (same && first > 0).then_some(first)
    }

    /// All features, to be renumbered.
    pub(super) fn features_mut(&mut self) -> &mut [u32] {
        &mut self.features
    }

    /// All features.
    pub(super) fn features(&self) -> &[u32] {
        &self.features
    }

    /// Moves examples to two other sets, 1 and 2, by what `choose` says of each; those of set 0 stay, in their order. Takes no
    /// memory for those.
    pub(super) fn deal(&mut self, mut choose: impl FnMut() -> usize) -> [Self; 2] {
        let mut dealt: [Self; 2] = Default::default();
        let (mut start, mut kept, mut kept_features) = (0, 0, 0);
        for number in 0..self.len() {
            let (end, label) = (bound(self.ends[number]), self.labels[number]);
            if let Some(set) = choose().checked_sub(1) {
                for index in start..end {
                    let value = self.values.get(index).copied().unwrap_or(1.0);
                    dealt[set].feature(self.features[index], value);
                }
                dealt[set].end(label);
            } else {
                self.features.copy_within(start..end, kept_features);
                if !self.values.is_empty() {
                    self.values.copy_within(start..end, kept_features);
                }
                kept_features += end - start;
                self.ends[kept] = kept_features as u64;
                self.labels[kept] = label;
                kept += 1;
            }
            start = end;
        }
        self.features.truncate(kept_features);
        self.values.truncate(kept_features);
        self.ends.truncate(kept);
        self.labels.truncate(kept);
        dealt
    }

    /// Bytes in memory.
    pub(crate) fn bytes(&self) -> u64 {
        let bytes = size_of_val(&self.features[..])
            + size_of_val(&self.values[..])
            + size_of_val(&self.ends[..])
            + self.labels.len();
        bytes as u64
    }

    pub(crate) fn digest(&self, digest: &mut Digest) {
        digest.numbers(&self.features);
        digest.floats(&self.values);
        for (&end, &label) in self.ends.iter().zip(&self.labels) {
            digest.number(2 * end + u64::from(label));
        }
    }

    fn range(&self, number: usize) -> std::ops::Range<usize> {
        let start = if number == 0 { 0 } else { bound(self.ends[number - 1]) };
        start..bound(self.ends[number])
    }

    fn range_of_first(&self) -> Option<usize> {
        (!self.is_empty()).then(|| self.range(0).len())
    }
}

fn bound(end: u64) -> usize {
    usize::try_from(end).expect("it was a usize")
}

#[cfg(test)]
mod tests {
    use super::Examples;

    #[test]
    fn values_are_kept_from_the_first_that_is_not_1() {
        let mut examples = Examples::default();
        examples.feature(3, 1.0);
        examples.end(true);
        assert_eq!(examples.get(0), (&[3][..], &[][..]));
        examples.feature(4, 1.0);
        examples.feature(5, 0.5);
        examples.feature(6, 1.0);
        examples.end(false);
        examples.end(false);
        assert_eq!(examples.get(0), (&[3][..], &[1.0][..]));
        assert_eq!(examples.get(1), (&[4, 5, 6][..], &[1.0, 0.5, 1.0][..]));
        assert_eq!(examples.get(2), (&[][..], &[][..]));
        assert_eq!((examples.len(), examples.clicks(), examples.fields()), (3, 1, None));
    }

    #[test]
    fn dealing_out_keeps_examples_whole() {
        let mut examples = Examples::default();
        for number in 0..10 {
            examples.feature(number, 1.0);
            examples.feature(number + 100, 2.0);
            examples.end(number % 2 == 0);
        }
        assert_eq!(examples.fields(), Some(2));
        let mut turn = 0;
        let [valid, test] = examples.deal(|| {
            turn += 1;
            turn % 3
        });
        assert_eq!([&examples, &valid, &test].map(Examples::len), [3, 4, 3]);
        let firsts = |set: &Examples| (0..set.len()).map(|n| set.get(n).0[0]).collect::<Vec<_>>();
        assert_eq!(
            [&examples, &valid, &test].map(firsts),
            [vec![2, 5, 8], vec![0, 3, 6, 9], vec![1, 4, 7]]
        );
        assert_eq!(examples.get(1), (&[5, 105][..], &[1.0, 2.0][..]));
        assert_eq!(test.get(2), (&[7, 107][..], &[1.0, 2.0][..]));
        assert_eq!((examples.labels(), valid.clicks()), (&[true, false, true][..], 2));
    }
}
