//! Sums what one call says about the same key: duplicates inside a call are one optimizer step.

use sterna_protocol::Key;

/// Finds duplicates among the keys of a call, with memory that is used again by the next call.
#[derive(Debug, Default)]
pub(crate) struct Distinct {
    /// Open-addressed places: the call's stamp and the index of the key that sits there.
    places: Vec<(u32, u32)>,
    stamp: u32,
    /// Of each key, which distinct key it is.
    pub(crate) which: Vec<u32>,
    /// The distinct keys, in order of first appearance.
    pub(crate) keys: Vec<Key>,
    /// Sums of the parts of each distinct key.
    pub(crate) sums: Vec<f32>,
}

impl Distinct {
    /// Whether a key occurs twice; then [`Distinct::keys`] and `which` tell.
    pub(crate) fn scan(&mut self, keys: &[Key]) -> bool {
        if keys.len() < 2 {
            return false;
        }
        let wanted = (2 * keys.len()).next_power_of_two();
        if self.places.len() < wanted || self.stamp == u32::MAX {
            self.places.clear();
            self.places.resize(wanted.max(self.places.len()), (0, 0));
            self.stamp = 0;
        }
        self.stamp += 1;
        self.which.clear();
        self.keys.clear();
        let mask = self.places.len() - 1;
        for &key in keys {
            let mut at = usize::try_from(key.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32)
                .expect("32 bits")
                & mask;
            let index = loop {
                let (stamp, index) = self.places[at];
                if stamp != self.stamp {
                    let index = u32::try_from(self.keys.len()).expect("a call has below 2^32 keys");
                    self.places[at] = (self.stamp, index);
                    self.keys.push(key);
                    break index;
                }
                if self.keys[index as usize] == key {
                    break index;
                }
                at = (at + 1) & mask;
            };
            self.which.push(index);
        }
        self.keys.len() < keys.len()
    }

    /// After a scan that found duplicates: sums `parts` (`floats` per key) by distinct key.
    pub(crate) fn sum(&mut self, parts: &[f32], floats: usize) {
        self.sums.clear();
        self.sums.resize(self.keys.len() * floats, 0.0);
        for (&which, part) in self.which.iter().zip(parts.chunks_exact(floats)) {
            let start = which as usize * floats;
            for (sum, &value) in self.sums[start..start + floats].iter_mut().zip(part) {
                *sum += value;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicates_are_found_and_their_parts_summed_in_order_of_appearance() {
        let mut distinct = Distinct::default();
        let keys = [7, 1 << 40, 7, 3, 7].map(Key);
        assert!(distinct.scan(&keys));
        distinct.sum(&[1.0, 2.0, 10.0, 20.0, 100.0, 200.0, 5.0, 6.0, 1000.0, 2000.0], 2);
        assert_eq!(distinct.keys, [Key(7), Key(1 << 40), Key(3)]);
        assert_eq!(distinct.sums, [1101.0, 2202.0, 10.0, 20.0, 5.0, 6.0]);
        assert!(!distinct.scan(&[Key(1), Key(2)]));
        assert!(distinct.scan(&[Key(2); 1000]));
        assert_eq!(distinct.keys, [Key(2)]);
    }
}
