//! Draws that are used more than once.
//!
//! A pool holds as many draws as it has keys. It is gone through `reuse` times, each time in a new order, then drawn anew: every draw is
//! used exactly `reuse` times, and draws of different pools have nothing to do with each other.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::RngCore;

use super::Distribution;
use super::alias::scale;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Pool {
    draws: Vec<u64>,
    /// The next one.
    at: usize,
    /// Times that the draws may still be gone through after this one.
    rounds_left: u32,
}

impl Pool {
    /// The next use of a draw.
    pub(super) fn next(
        &mut self,
        (keys, reuse): (usize, u32),
        distribution: &Distribution,
        random: &mut Xoshiro256PlusPlus,
    ) -> u64 {
        if self.at == self.draws.len() {
            self.at = 0;
            if self.rounds_left == 0 {
                self.draws.clear();
                self.draws.extend((0..keys).map(|_| distribution.draw(random)));
                self.rounds_left = reuse;
            }
            self.rounds_left -= 1;
            shuffle(&mut self.draws, random);
        }
        self.at += 1;
        self.draws[self.at - 1]
    }
}

/// Every order with the same probability (Fisher and Yates, Durstenfeld 1964).
fn shuffle(draws: &mut [u64], random: &mut Xoshiro256PlusPlus) {
    for last in (1..draws.len()).rev() {
        draws.swap(last, scale(random.next_u64(), last as u64 + 1).0);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use rand_xoshiro::rand_core::SeedableRng;

    use super::*;

    #[test]
    fn every_draw_is_used_as_often_as_said_before_there_are_new_ones() {
        let all = Distribution::uniform(0..1 << 40).expect("keys");
        let random = &mut Xoshiro256PlusPlus::seed_from_u64(5);
        let mut pool = Pool::default();
        let mut orders = Vec::new();
        for _ in 0..10 {
            let drawn: Vec<u64> = (0..30 * 4).map(|_| pool.next((30, 4), &all, random)).collect();
            let mut uses = HashMap::<u64, u32>::new();
            drawn.iter().for_each(|&key| *uses.entry(key).or_default() += 1);
            assert!(uses.len() == 30 && uses.values().all(|&uses| uses == 4), "{uses:?}");
            let rounds: Vec<&[u64]> = drawn.chunks(30).collect();
            assert!(rounds.windows(2).all(|pair| pair[0] != pair[1]), "each round has its order");
            orders.push(drawn);
        }
        assert!(orders.windows(2).all(|pair| pair[0][0] != pair[1][0]), "each pool has its draws");
    }
}
