//! From categories to rows: features are numbered as they appear, or hashed.

use crate::data::Vocabulary;

use super::Examples;

/// How features get their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeatureIds {
    /// In the order of appearance, field by field. Each field has one more feature, which stands for all that occur less
    /// often in the training examples, those that do not occur included.
    Enumerated {
        /// Fewer occurrences than these are too few.
        min_count: u32,
    },
    /// By a hash of field and category: different ones may share a row, and no vocabulary is kept.
    Hashed {
        /// Number of features.
        buckets: u32,
    },
}

/// Numbers the features of delimited text.
#[derive(Clone, Debug)]
pub(super) struct Numbering {
    ids: FeatureIds,
    fields: Vec<Field>,
}

/// A field with its categories.
#[derive(Clone, Debug)]
struct Field {
    name: String,
    categories: Vocabulary,
}

/// The features as they are at the end.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Features {
    /// How many there are.
    pub count: usize,
    /// `field=category` of each, if they have names.
    pub names: Vec<String>,
}

/// Shown for the feature that stands for all rare ones of its field.
const RARE: &str = "(rare)";

impl Numbering {
    pub(super) fn new(ids: FeatureIds, fields: &[String]) -> Self {
        let field = |name: &String| Field { name: name.clone(), categories: Vocabulary::default() };
        Self { ids, fields: fields.iter().map(field).collect() }
    }

    /// The feature of a category: final if hashed, else its number in its field until [`Numbering::finish`].
    pub(super) fn number(&mut self, field: usize, category: &str) -> Option<u32> {
        match self.ids {
            FeatureIds::Hashed { buckets } => Some(hash(field, category, buckets)),
            FeatureIds::Enumerated { .. } => self.fields[field].categories.number_or_add(category),
        }
    }

    /// Gives features their final numbers in all sets, by how often they occur in the first one.
    pub(super) fn finish(self, sets: &mut [Examples; 3]) -> Option<Features> {
        let min_count = match self.ids {
            FeatureIds::Hashed { buckets } => {
                return Some(Features { count: buckets as usize, names: Vec::new() });
            }
            FeatureIds::Enumerated { min_count } => min_count.max(1),
        };
        let fields = self.fields.len();
        let mut counts: Vec<Vec<u32>> =
            self.fields.iter().map(|field| vec![0; field.categories.len()]).collect();
        for (index, &number) in sets[0].features().iter().enumerate() {
            let count = &mut counts[index % fields][number as usize];
            *count = count.saturating_add(1);
        }
        let mut names = Vec::new();
        // Field by field: first the rare ones' common number, then one for each of the others.
        for (field, counts) in self.fields.iter().zip(&mut counts) {
            let rare = u32::try_from(names.len()).ok()?;
            names.push(format!("{}={RARE}", field.name));
            for (count, category) in counts.iter_mut().zip(field.categories.names()) {
                if *count < min_count {
                    *count = rare;
                } else {
                    *count = u32::try_from(names.len()).ok()?;
                    names.push(format!("{}={category}", field.name));
                }
            }
        }
        for set in sets {
            for (index, feature) in set.features_mut().iter_mut().enumerate() {
                *feature = counts[index % fields][*feature as usize];
            }
        }
        Some(Features { count: names.len(), names })
    }
}

/// FNV-1a of field and category, mixed, so that its low bits are as good as its high ones. Fixed for all versions:
/// models that were exported are used with it.
fn hash(field: usize, category: &str, buckets: u32) -> u32 {
    let field = (field as u64).to_le_bytes();
    let mut state = 0xcbf2_9ce4_8422_2325_u64;
    for &byte in field.iter().chain(category.as_bytes()) {
        state = (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    state = (state ^ (state >> 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    state ^= state >> 29;
    u32::try_from((u128::from(state) * u128::from(buckets)) >> 64).expect("below a u32")
}

#[cfg(test)]
mod tests {
    use super::{Examples, FeatureIds, Numbering, hash};

    #[test]
    fn rare_and_unseen_categories_share_a_feature_of_their_field() {
        let fields = ["a".to_owned(), "b".to_owned()];
        let mut numbering = Numbering::new(FeatureIds::Enumerated { min_count: 2 }, &fields);
        let mut sets: [Examples; 3] = Default::default();
        for (set, rows) in sets.iter_mut().zip([
            &[["x", "x"], ["x", "y"], ["z", "y"]][..],
            &[["x", "new"]],
            &[["z", "y"]],
        ]) {
            for row in rows {
                for (field, category) in row.iter().enumerate() {
                    set.feature(numbering.number(field, category).unwrap(), 1.0);
                }
                set.end(true);
            }
        }
        let features = numbering.finish(&mut sets).unwrap();
        assert_eq!(features.names, ["a=(rare)", "a=x", "b=(rare)", "b=y"]);
        assert_eq!(sets[0].features(), [1, 2, 1, 3, 0, 3]);
        assert_eq!(sets[1].features(), [1, 2]);
        assert_eq!(sets[2].features(), [0, 3]);
    }

    #[test]
    fn hashes_are_fixed_and_spread_and_differ_by_field() {
        assert_eq!(hash(0, "", 1 << 20), 590_448);
        assert_eq!(hash(3, "68fd1e64", 1 << 20), 171_467);
        assert_ne!(hash(0, "x", 1 << 30), hash(1, "x", 1 << 30));
        let mut counts = [0; 10];
        for number in 0..10_000 {
            counts[hash(0, &number.to_string(), 10) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
    }
}
