//! Drawing from a list of weights in constant time: Walker's alias method (1977), tables as by Vose (1991).
//!
//! Cell `i` of `n` stands for index `i` up to its threshold and for its alias beyond. One random word chooses both: its product with `n` has the
//! cell above bit 64 and the place in the cell below.

/// One cell: 8 bytes.
#[derive(Clone, Copy, Debug)]
struct Cell {
    /// In units of 2^-32 of the cell.
    threshold: u32,
    alias: u32,
}

/// See the module.
#[derive(Debug)]
pub(super) struct AliasTable(Box<[Cell]>);

impl AliasTable {
    /// A table for weights, of which there are 1 to 2^32 - 1, finite, not negative, not all zero.
    pub(super) fn new(weights: &[f64]) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "below 2^32")]
        let scale = weights.len() as f64 / weights.iter().sum::<f64>();
        let mut left: Vec<f64> = weights.iter().map(|weight| weight * scale).collect();
        let indices = 0..u32::try_from(weights.len()).expect("below 2^32 weights");
        let (mut poor, mut rich): (Vec<u32>, Vec<u32>) =
            indices.partition(|&index| left[index as usize] < 1.0);
        let mut cells = vec![Cell { threshold: u32::MAX, alias: 0 }; weights.len()];
        while let (Some(small), Some(&large)) = (poor.pop(), rich.last()) {
            let own = left[small as usize];
            cells[small as usize] = Cell { threshold: fraction(own), alias: large };
            left[large as usize] -= 1.0 - own;
            if left[large as usize] < 1.0 {
                rich.pop();
                poor.push(large);
            }
        }
        // Whole cells, but for rounding; one that was never to be drawn still is not.
        let heaviest = weights.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        let heaviest = u32::try_from(heaviest.expect("there are weights").0).expect("as above");
        for index in poor.into_iter().chain(rich) {
            let drawn = weights[index as usize] > 0.0;
            cells[index as usize] = if drawn {
                Cell { threshold: u32::MAX, alias: index }
            } else {
                Cell { threshold: 0, alias: heaviest }
            };
        }
        Self(cells.into())
    }

    /// The index that a random word draws.
    #[inline]
    pub(super) fn draw(&self, word: u64) -> usize {
        let (cell, place) = scale(word, self.0.len() as u64);
        let Cell { threshold, alias } = self.0[cell];
        let place = (place >> 32) as u32;
        if place < threshold { cell } else { alias as usize }
    }
}

/// A random word as a number below `n`, and what is left of it, uniform again.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the halves of a product")]
pub(super) fn scale(word: u64, n: u64) -> (usize, u64) {
    let product = u128::from(word) * u128::from(n);
    ((product >> 64) as usize, product as u64)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 2^32")]
fn fraction(share: f64) -> u32 {
    (share.max(0.0) * f64::from(u32::MAX)).round() as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What the table draws, from its cells.
    fn shares(table: &AliasTable) -> Vec<f64> {
        let mut shares = vec![0.0; table.0.len()];
        for (index, cell) in table.0.iter().enumerate() {
            let own = f64::from(cell.threshold) / f64::from(u32::MAX);
            shares[index] += own;
            shares[cell.alias as usize] += 1.0 - own;
        }
        shares
    }

    proptest! {
        #[test]
        fn each_index_has_the_share_of_its_weight(
            mut weights in proptest::collection::vec(prop_oneof![Just(0.0), 0.0..1.0, 0.0..1e6], 1..300),
        ) {
            weights[0] += 1e-3;
            let (table, sum) = (AliasTable::new(&weights), weights.iter().sum::<f64>());
            let cells = f64::from(u32::try_from(weights.len()).unwrap());
            for (&weight, share) in weights.iter().zip(shares(&table)) {
                let wanted = weight / sum * cells;
                prop_assert!((share - wanted).abs() < 1e-6 * (1.0 + wanted), "{share} {wanted}");
                prop_assert!(weight > 0.0 || share == 0.0, "what has no weight is never drawn");
            }
        }
    }

    #[test]
    fn the_ends_of_the_words_draw_the_ends_of_the_list() {
        let table = AliasTable::new(&[1.0; 10]);
        assert_eq!((table.draw(0), table.draw(u64::MAX)), (0, 9));
    }
}
