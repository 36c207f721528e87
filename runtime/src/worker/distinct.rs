//! Sums what one call says about the same key: duplicates inside a call are one optimizer step.
//!
//! Most calls have no duplicates, so there are two looks: a cheap one that may only err by suspecting
//! ([`Distinct::suspects`]), and an exact one that also says which keys belong together.

use sterna_protocol::Key;

/// Places of the cheap look for each key of a call: few enough to stay in the nearest cache, enough that
/// two keys seldom want the same one, which costs a mispredicted branch.
const MARKS_PER_KEY: usize = 8;

/// Finds duplicates among the keys of a call, with memory that is used again by the next call.
#[derive(Debug, Default)]
pub(crate) struct Distinct {
    /// Open-addressed places of the cheap look: the call's stamp above the low half of a key.
    marks: Vec<u64>,
    mark: u32,
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
    /// Whether a key might occur twice: `true` if one does, and seldom for keys that are alike in their low halves.
    #[inline]
    pub(crate) fn suspects(&mut self, keys: &[Key]) -> bool {
        if keys.len() < 2 {
            return false;
        }
        let wanted = (MARKS_PER_KEY * keys.len()).next_power_of_two();
        if self.marks.len() < wanted || self.mark == u32::MAX {
            self.marks.clear();
            self.marks.resize(wanted.max(self.marks.len()), 0);
            self.mark = 0;
        }
        self.mark += 1;
        let stamp = u64::from(self.mark) << 32;
        // A short call uses the front of what a long one needed: it stays in the nearest cache.
        let marks = &mut self.marks[..wanted];
        for &key in keys {
            let found = stamp | (key.0 & u64::from(u32::MAX));
            let mut at = hash(key);
            loop {
                let mark = &mut marks[at & (wanted - 1)];
                if *mark == found {
                    return true;
                }
                if *mark < stamp {
                    *mark = found;
                    break;
                }
                at += 1;
            }
        }
        false
    }

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
            let mut at = hash(key) & mask;
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

/// 32 bits that depend on all of the key.
#[inline]
fn hash(key: Key) -> usize {
    usize::try_from(key.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32).expect("32 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cheap_look_finds_every_duplicate_and_suspects_only_keys_that_are_alike() {
        let mut distinct = Distinct::default();
        for calls in 0..200_u64 {
            let mut keys: Vec<Key> = (0..64).map(|key| Key(key * 7919 + calls)).collect();
            assert!(!distinct.suspects(&keys));
            keys.push(keys[usize::try_from(calls).expect("small") % keys.len()]);
            assert!(distinct.suspects(&keys));
        }
        let alike = (1..10_000_u64).map(|half| [Key(5), Key(5 + (half << 32))]);
        let suspected = alike.filter(|keys| distinct.suspects(keys)).collect::<Vec<_>>();
        assert!(!suspected.is_empty());
        assert!(suspected.iter().all(|keys| !distinct.scan(keys)), "the exact look knows better");
        distinct.mark = u32::MAX;
        assert!(!distinct.suspects(&[Key(5), Key(6)]), "stamps begin again");
        assert!(!distinct.suspects(&[Key(9)]));
    }

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
