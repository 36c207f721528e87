//! Which triples and which pool a worker takes at each step.
//!
//! Every worker computes the same order of an epoch's triples from the seed, and all take their
//! parts of its next round. So each triple is trained on once an epoch, workers need not talk about
//! it, and a run that stopped after so many triples can go on with another number of workers.

use std::ops::Range;

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use crate::kge::checkpoint::Share;

/// What a stream of random numbers is for; streams of different purposes are independent.
#[derive(Clone, Copy, Debug)]
enum Purpose {
    Order = 1,
    Pool = 2,
}

/// Writes the order of `epoch` (from 0) over `count` triples.
pub(super) fn of_epoch(order: &mut Vec<u32>, seed: u64, epoch: u32, count: usize) {
    order.clear();
    order.extend(0..u32::try_from(count).expect("fewer than 2^32 triples"));
    order.shuffle(&mut stream(seed, Purpose::Order, [u64::from(epoch), 0, 0]));
}

/// Draws a worker's pool for the round of `epoch` that starts at triple `done`.
pub(super) fn draw_pool(
    pool: &mut [u32],
    entities: u32,
    seed: u64,
    (epoch, done): (u32, usize),
    worker: usize,
) {
    let place = [u64::from(epoch), done as u64, worker as u64];
    let mut random = stream(seed, Purpose::Pool, place);
    pool.fill_with(|| random.random_range(0..entities));
}

/// The next round after `done` of `count` triples: where it ends, and which part is this worker's.
///
/// All rounds are `batch` triples a worker but the last, which is shared out evenly; a worker's
/// part of it can be empty.
pub(super) fn round(
    done: usize,
    count: usize,
    batch: usize,
    share: Share,
) -> (usize, Range<usize>) {
    let size = (batch * share.count).min(count - done);
    let bound = |index: usize| done + size * index / share.count;
    (done + size, bound(share.index)..bound(share.index + 1))
}

fn stream(seed: u64, purpose: Purpose, place: [u64; 3]) -> Xoshiro256PlusPlus {
    let words = [purpose as u64].into_iter().chain(place);
    let mixed = words.fold(seed, |state, word| mix(state ^ mix(word)));
    Xoshiro256PlusPlus::seed_from_u64(mixed)
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
    use super::{Share, draw_pool, of_epoch, round};

    #[test]
    fn an_epoch_takes_every_triple_once_in_an_order_of_its_own() {
        let (mut first, mut second) = (Vec::new(), Vec::new());
        of_epoch(&mut first, 7, 0, 1000);
        of_epoch(&mut second, 7, 1, 1000);
        assert_ne!(first, second);
        second.sort_unstable();
        assert!(second.into_iter().eq(0..1000));
    }

    #[test]
    fn rounds_share_out_an_epoch_among_any_number_of_workers() {
        for (triples, batch, count) in [(1000, 64, 3), (10, 64, 4), (1, 1, 2), (256, 256, 1)] {
            let mut taken = vec![0; triples];
            let mut done = 0;
            while done < triples {
                let mut end = done;
                for index in 0..count {
                    let part;
                    (end, part) = round(done, triples, batch, Share { index, count });
                    assert!(part.len() <= batch);
                    taken[part].iter_mut().for_each(|times| *times += 1);
                }
                assert!(end > done);
                done = end;
            }
            assert_eq!(taken, vec![1; triples]);
        }
    }

    #[test]
    fn pools_differ_by_place_and_worker_and_repeat_with_the_seed() {
        let pool = |seed, place, worker| {
            let mut pool = [0; 64];
            draw_pool(&mut pool, 1000, seed, place, worker);
            pool
        };
        let one = pool(1, (0, 0), 0);
        assert_eq!(one, pool(1, (0, 0), 0));
        for other in [pool(2, (0, 0), 0), pool(1, (1, 0), 0), pool(1, (0, 256), 0)] {
            assert_ne!(one, other);
        }
        assert_ne!(one, pool(1, (0, 0), 1));
    }
}
