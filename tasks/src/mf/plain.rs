//! The arithmetic of a factorisation on plain arrays, without a parameter manager: what one thread could
//! do at most, for measurements beside it.

use pulp::Arch;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_xoshiro::Xoshiro256PlusPlus;

use super::kernel::{self, Placed, Rates, Shape};
use super::{COLUMN, Mf, ROW};

/// All rows and columns of a model in two arrays.
#[derive(Debug)]
pub struct Plain {
    arch: Arch,
    shape: Shape,
    rates: Rates,
    rows: Vec<f32>,
    columns: Vec<f32>,
}

impl Plain {
    /// The model that `task` begins with.
    #[must_use]
    pub fn new(task: &Mf) -> Self {
        let shape = task.shape();
        let lines = |table, count: usize| {
            let mut lines = vec![0.0; count * shape.row_len()];
            for (key, line) in (0..).zip(lines.chunks_exact_mut(shape.row_len())) {
                task.first_row(table, key, line);
            }
            lines
        };
        Self {
            arch: Arch::new(),
            shape,
            rates: task.rates(0),
            rows: lines(ROW, task.ratings().rows.len()),
            columns: lines(COLUMN, task.ratings().columns.len()),
        }
    }

    /// All training ratings, in the order in which the task's schedule has sorted them.
    #[must_use]
    pub fn in_order(&self, task: &Mf) -> Vec<Placed> {
        let cells = task.ratings().train.iter();
        cells.map(|c| Placed { row: c.row, column: c.column, value: c.value }).collect()
    }

    /// All training ratings in a random order.
    #[must_use]
    pub fn shuffled(&self, task: &Mf) -> Vec<Placed> {
        let mut ratings = self.in_order(task);
        ratings.shuffle(&mut Xoshiro256PlusPlus::seed_from_u64(task.config().run.seed));
        ratings
    }

    /// Trains on these ratings, one after the other; returns the sum of their squared errors.
    pub fn train(&mut self, ratings: &[Placed]) -> f64 {
        let (rows, columns) = (&mut self.rows, &mut self.columns);
        kernel::train(self.arch, &self.shape, &self.rates, rows, columns, ratings)
    }
}
