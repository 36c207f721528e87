//! The distinct features of a batch: each is pulled once, and its gradients are summed.

/// Finds the distinct features among a batch's, with memory that the next batch uses again.
#[derive(Debug)]
pub(crate) struct Distinct {
    /// Features of the table.
    features: usize,
    /// Open-addressed: the batch's stamp, and which distinct feature sits there.
    places: Vec<(u32, u32)>,
    stamp: u32,
}

impl Distinct {
    /// For features `0..features`.
    pub(crate) fn new(features: usize) -> Self {
        Self { features, places: Vec::new(), stamp: 0 }
    }

    /// Writes the distinct ones of `features` to `keys`, in order of first appearance, and to `places` which of them
    /// each is.
    pub(crate) fn scan(&mut self, features: &[u32], keys: &mut Vec<u64>, places: &mut Vec<u32>) {
        // Small tables get a place for each feature, large ones places for the batch.
        let wanted = self.features.min(2 * features.len()).max(1).next_power_of_two();
        if self.places.len() < wanted || self.stamp == u32::MAX {
            self.places.clear();
            self.places.resize(wanted, (0, 0));
            self.stamp = 0;
        }
        self.stamp += 1;
        let mask = self.places.len() - 1;
        let direct = self.features <= self.places.len();
        keys.clear();
        places.clear();
        places.reserve(features.len());
        for &feature in features {
            let spread = u64::from(feature).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
            let mut at = (if direct { feature as usize } else { index(spread) }) & mask;
            let place = loop {
                let (stamp, place) = self.places[at];
                if stamp != self.stamp {
                    let place = u32::try_from(keys.len()).expect("a batch has fewer than 2^32");
                    self.places[at] = (self.stamp, place);
                    keys.push(u64::from(feature));
                    break place;
                }
                if keys[place as usize] == u64::from(feature) {
                    break place;
                }
                at = (at + 1) & mask;
            };
            places.push(place);
        }
    }
}

fn index(word: u64) -> usize {
    usize::try_from(word).expect("32 bits")
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::Distinct;

    #[test]
    fn every_feature_is_listed_once_and_found_at_its_place() {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
        for features in [1, 7, 300, 1 << 30] {
            let mut distinct = Distinct::new(features as usize);
            let (mut keys, mut places) = (Vec::new(), Vec::new());
            for size in [0, 1, 1000, 10, 5000] {
                let batch: Vec<u32> = (0..size).map(|_| random.random_range(0..features)).collect();
                distinct.scan(&batch, &mut keys, &mut places);
                let found: Vec<u64> = places.iter().map(|&place| keys[place as usize]).collect();
                assert!(found.iter().copied().eq(batch.iter().map(|&f| u64::from(f))));
                let mut sorted = keys.clone();
                sorted.sort_unstable();
                sorted.dedup();
                assert_eq!(sorted.len(), keys.len());
            }
        }
    }
}
