//! Who is trained on, by rules that any program can repeat.
//!
//! Nodes are ordered by `splitmix64(splitmix64(seed) ^ number)` (Steele et al. 2014), where `number` is the one
//! that the node has in its files; no library's random numbers are needed to draw the same split elsewhere.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::NO_CLASS;

/// How nodes are split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SplitRule {
    /// As the data set says.
    Given,
    /// In each class, the first 20 train and the next 30 validate; all others test.
    Few,
    /// The first 75 % train, the next 5 % validate, the others test.
    Many,
}

impl SplitRule {
    /// All rules.
    pub const ALL: [Self; 3] = [Self::Given, Self::Few, Self::Many];

    /// The name in settings: `given`, `few` or `many`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Given => "given",
            Self::Few => "few",
            Self::Many => "many",
        }
    }
}

impl FromStr for SplitRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|rule| rule.name() == text);
        found.ok_or_else(|| format!("`{text}` is no split: given, few or many"))
    }
}

/// Nodes by what they are for. Nodes without a class are in none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Splits {
    /// To train on.
    pub train: Vec<u32>,
    /// To steer by.
    pub valid: Vec<u32>,
    /// To report on.
    pub test: Vec<u32>,
}

impl Splits {
    /// Splits the nodes with these numbers and classes.
    pub(super) fn draw(rule: SplitRule, seed: u64, numbers: &[u64], classes: &[u32]) -> Self {
        let mut order: Vec<u32> = (0..)
            .zip(classes)
            .filter(|&(_, &class)| class != NO_CLASS)
            .map(|(node, _)| node)
            .collect();
        let seed = splitmix64(seed);
        // Distinct numbers have distinct keys, so that the order is one.
        order.sort_unstable_by_key(|&node| splitmix64(seed ^ numbers[node as usize]));
        match rule {
            SplitRule::Few => Self::few(&order, classes),
            SplitRule::Given | SplitRule::Many => {
                let (train, valid) = (order.len() * 75 / 100, order.len() * 80 / 100);
                let part = |range: std::ops::Range<usize>| order[range].to_vec();
                Self {
                    train: part(0..train),
                    valid: part(train..valid),
                    test: part(valid..order.len()),
                }
            }
        }
    }

    fn few(order: &[u32], classes: &[u32]) -> Self {
        const TRAIN: u32 = 20;
        const VALID: u32 = 30;
        let count = classes.iter().filter(|&&class| class != NO_CLASS).max();
        let mut seen = vec![0; count.map_or(0, |&class| class as usize + 1)];
        let mut splits = Self::default();
        for &node in order {
            let seen: &mut u32 = &mut seen[classes[node as usize] as usize];
            *seen += 1;
            let list = match *seen {
                1..=TRAIN => &mut splits.train,
                n if n <= TRAIN + VALID => &mut splits.valid,
                _ => &mut splits.test,
            };
            list.push(node);
        }
        splits
    }
}

fn splitmix64(x: u64) -> u64 {
    let z = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::{SplitRule, Splits, splitmix64};
    use crate::gnn::data::NO_CLASS;

    #[test]
    fn the_order_is_the_published_one() {
        assert_eq!(splitmix64(0), 0xE220_A839_7B1D_CDAF);
        // The first nodes of 22,470 (as many as the MUSAE set of Facebook pages has) for seed 1.
        let numbers: Vec<u64> = (0..22_470).collect();
        let splits = Splits::draw(SplitRule::Many, 1, &numbers, &vec![0; numbers.len()]);
        assert_eq!(splits.train[..5], [9455, 10527, 19205, 12750, 19420]);
        let sizes = [&splits.train, &splits.valid, &splits.test].map(Vec::len);
        assert_eq!(sizes, [16_852, 1_124, 4_494]);
    }

    #[test]
    fn few_takes_as_many_of_each_class_and_nobody_without_one() {
        let classes: Vec<u32> =
            (0..500).map(|n| if n % 5 == 4 { NO_CLASS } else { n % 5 % 3 }).collect();
        let numbers: Vec<u64> = (0..500).map(|n| 7 * n + 3).collect();
        let splits = Splits::draw(SplitRule::Few, 1, &numbers, &classes);
        let of_class = |nodes: &[u32], class| {
            nodes.iter().filter(|&&node| classes[node as usize] == class).count()
        };
        for class in 0..3 {
            assert_eq!((of_class(&splits.train, class), of_class(&splits.valid, class)), (20, 30));
        }
        assert_eq!(of_class(&splits.test, NO_CLASS), 0);
        assert_eq!(splits.train.len() + splits.valid.len() + splits.test.len(), 400);
        let other = Splits::draw(SplitRule::Few, 2, &numbers, &classes);
        assert_ne!(splits, other);
    }
}
