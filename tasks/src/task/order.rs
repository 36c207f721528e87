//! Which examples a worker takes at each step.
//!
//! Every worker computes the same order of an epoch's examples from the seed, and all take their
//! parts of its next round. So each example is trained on once an epoch, workers need not talk
//! about it, and a run that stopped after so many examples can go on with another number of
//! workers.

use std::ops::Range;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_xoshiro::Xoshiro256PlusPlus;

use super::{Epoch, Share};

/// The stream of an epoch's order.
const ORDER: u64 = 1;

/// Writes an epoch's order over `count` examples.
pub(crate) fn shuffled(order: &mut Vec<u32>, epoch: &Epoch, count: usize) {
    order.clear();
    order.extend(0..u32::try_from(count).expect("fewer than 2^32 examples"));
    order.shuffle(&mut epoch.random(ORDER));
}

/// The next round after `done` of `count` examples: where it ends, and which part is this worker's.
///
/// All rounds are `batch` examples a worker but the last, which is shared out evenly; a worker's
/// part of it can be empty.
pub(super) fn round(
    done: usize,
    count: usize,
    batch: usize,
    share: Share,
) -> (usize, Range<usize>) {
    let size = (batch * share.count).min(count - done);
    let mine = share.range(size);
    (done + size, done + mine.start..done + mine.end)
}

/// The random numbers for a purpose at a place; streams of different ones are independent.
pub(crate) fn stream(seed: u64, purpose: u64, place: [u64; 3]) -> Xoshiro256PlusPlus {
    Xoshiro256PlusPlus::seed_from_u64(stream_seed(seed, purpose, place))
}

/// The seed of such a stream.
pub(super) fn stream_seed(seed: u64, purpose: u64, place: [u64; 3]) -> u64 {
    let words = [purpose].into_iter().chain(place);
    words.fold(seed, |state, word| mix(state ^ mix(word)))
}

/// The finaliser of `SplitMix64` (Steele et al. 2014), after its increment.
fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::{Epoch, Share, round, shuffled, stream};

    fn epoch(number: u32) -> Epoch {
        Epoch { number, phase: 0, seed: 7, share: Share { index: 0, count: 1 } }
    }

    #[test]
    fn an_epoch_takes_every_example_once_in_an_order_of_its_own() {
        let (mut first, mut second) = (Vec::new(), Vec::new());
        shuffled(&mut first, &epoch(0), 1000);
        shuffled(&mut second, &epoch(1), 1000);
        assert_ne!(first, second);
        second.sort_unstable();
        assert!(second.into_iter().eq(0..1000));
    }

    #[test]
    fn rounds_share_out_an_epoch_among_any_number_of_workers() {
        for (examples, batch, count) in [(1000, 64, 3), (10, 64, 4), (1, 1, 2), (256, 256, 1)] {
            let mut taken = vec![0; examples];
            let mut done = 0;
            while done < examples {
                let mut end = done;
                for index in 0..count {
                    let part;
                    (end, part) = round(done, examples, batch, Share { index, count });
                    assert!(part.len() <= batch);
                    taken[part].iter_mut().for_each(|times| *times += 1);
                }
                assert!(end > done);
                done = end;
            }
            assert_eq!(taken, vec![1; examples]);
        }
    }

    #[test]
    fn streams_differ_by_purpose_and_place_and_repeat_with_the_seed() {
        let drawn = |seed, purpose, place| stream(seed, purpose, place).random::<u64>();
        let one = drawn(1, 2, [0, 0, 0]);
        assert_eq!(one, drawn(1, 2, [0, 0, 0]));
        for other in [
            drawn(2, 2, [0, 0, 0]),
            drawn(1, 3, [0, 0, 0]),
            drawn(1, 2, [1, 0, 0]),
            drawn(1, 2, [0, 256, 0]),
            drawn(1, 2, [0, 0, 1]),
        ] {
            assert_ne!(one, other);
        }
    }
}
