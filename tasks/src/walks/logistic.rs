//! Logistic regression with a quadratic regulariser, to its optimum.
//!
//! Minimises `|w|^2 / 2 + C sum_i log(1 + exp(-y_i w x_i))`, `y_i` 1 or -1, with a constant 1 behind
//! each `x_i`, as liblinear does (Fan et al. 2008, section 2.2.1), by Newton's method:
//! the Hessian `I + C X^T D X` is one matrix product in `f32`, gradient and objective are `f64`, so
//! the optimum is exact though steps are not.

use crate::dense::product;

/// Newton steps at most; it takes less than ten.
const STEPS_MAX: usize = 50;
/// Halvings of a step that does not lower the objective.
const HALVINGS_MAX: usize = 30;
/// The gradient's length at the end, as a part of that at the start.
const TOLERANCE: f64 = 1e-6;

/// Rows to fit, with their constant 1, and buffers for it.
#[derive(Clone, Debug)]
pub struct LogisticRegression {
    rows: Vec<f32>,
    dim: usize,
    cost: f64,
    scaled: Vec<f32>,
    hessian: Vec<f32>,
}

/// The objective and what Newton's method needs at a place.
struct Place {
    weights: Vec<f64>,
    objective: f64,
    /// The margins `w x_i`.
    margins: Vec<f64>,
}

impl LogisticRegression {
    /// For `rows` of `dim` floats each; `cost` is `C`.
    ///
    /// # Panics
    /// If the rows are not whole.
    #[must_use]
    pub fn new(rows: &[f32], dim: usize, cost: f64) -> Self {
        assert!(rows.len().is_multiple_of(dim), "whole rows");
        let with_one = rows.chunks_exact(dim).flat_map(|row| row.iter().copied().chain([1.0]));
        let rows: Vec<f32> = with_one.collect();
        let dim = dim + 1;
        let scaled = vec![0.0; rows.len()];
        Self { rows, dim, cost, scaled, hessian: vec![0.0; dim * dim] }
    }

    /// The weights that tell rows that are `positive` from the others, the constant's last.
    ///
    /// # Panics
    /// If there is not one label a row.
    pub fn fit(&mut self, positive: &[bool]) -> Vec<f64> {
        assert_eq!(positive.len() * self.dim, self.rows.len(), "a label for each row");
        let mut place = self.place(vec![0.0; self.dim], positive);
        let mut start = None;
        for _ in 0..STEPS_MAX {
            let gradient = self.gradient(&place, positive);
            let length = gradient.iter().map(|value| value * value).sum::<f64>().sqrt();
            if length <= TOLERANCE * *start.get_or_insert(length) {
                break;
            }
            self.fill_hessian(&place);
            let mut step = gradient.clone();
            solve(&self.hessian, self.dim, &mut step);
            let descent: f64 = gradient.iter().zip(&step).map(|(g, s)| g * s).sum();
            let Some(next) = self.search(&place, &step, descent, positive) else { break };
            place = next;
        }
        place.weights
    }

    /// The first of ever shorter steps that lowers the objective enough; none at the precision of
    /// the objective.
    fn search(
        &self,
        place: &Place,
        step: &[f64],
        descent: f64,
        positive: &[bool],
    ) -> Option<Place> {
        let mut size = 1.0;
        for _ in 0..HALVINGS_MAX {
            let weights = place.weights.iter().zip(step).map(|(w, s)| w - size * s).collect();
            let next = self.place(weights, positive);
            if next.objective <= place.objective - 1e-4 * size * descent {
                return Some(next);
            }
            size /= 2.0;
        }
        None
    }

    fn place(&self, weights: Vec<f64>, positive: &[bool]) -> Place {
        let margins: Vec<f64> = self
            .rows
            .chunks_exact(self.dim)
            .map(|row| row.iter().zip(&weights).map(|(&x, w)| f64::from(x) * w).sum())
            .collect();
        let losses = margins.iter().zip(positive).map(|(&margin, &positive)| {
            let signed = if positive { margin } else { -margin };
            // log(1 + exp(-x)) without overflow.
            (-signed).max(0.0) + (-signed.abs()).exp().ln_1p()
        });
        let norm: f64 = weights.iter().map(|w| w * w).sum();
        let objective = norm / 2.0 + self.cost * losses.sum::<f64>();
        Place { weights, objective, margins }
    }

    fn gradient(&self, place: &Place, positive: &[bool]) -> Vec<f64> {
        let mut gradient = place.weights.clone();
        let margins = place.margins.iter().zip(positive);
        for (row, (&margin, &positive)) in self.rows.chunks_exact(self.dim).zip(margins) {
            let error = self.cost * (probability(margin) - f64::from(u8::from(positive)));
            for (gradient, &x) in gradient.iter_mut().zip(row) {
                *gradient += error * f64::from(x);
            }
        }
        gradient
    }

    fn fill_hessian(&mut self, place: &Place) {
        let dim = self.dim;
        let rows = self.rows.chunks_exact(dim).zip(self.scaled.chunks_exact_mut(dim));
        for ((row, scaled), &margin) in rows.zip(&place.margins) {
            let p = probability(margin);
            #[expect(clippy::cast_possible_truncation, reason = "steps need no f64")]
            let weight = (self.cost * p * (1.0 - p)).sqrt() as f32;
            scaled.iter_mut().zip(row).for_each(|(scaled, x)| *scaled = weight * x);
        }
        let count = self.scaled.len() / dim;
        product::tn((dim, dim, count), &self.scaled, &self.scaled, &mut self.hessian);
        (0..dim).for_each(|at| self.hessian[at * dim + at] += 1.0);
    }
}

fn probability(margin: f64) -> f64 {
    1.0 / (1.0 + (-margin).exp())
}

/// Replaces `x` by the solution `y` of `matrix y = x`, by Cholesky's decomposition. The matrix is
/// symmetric and has no eigenvalue below 1.
fn solve(matrix: &[f32], dim: usize, x: &mut [f64]) {
    let mut lower = vec![0.0; dim * dim];
    for row in 0..dim {
        for column in 0..=row {
            let (done, left) = lower.split_at(row * dim);
            let other = if column == row { left } else { &done[column * dim..] };
            let sum: f64 = left[..column].iter().zip(&other[..column]).map(|(a, b)| a * b).sum();
            let rest = f64::from(matrix[row * dim + column]) - sum;
            lower[row * dim + column] = if column == row {
                // At least 1 but for rounding.
                rest.max(0.5).sqrt()
            } else {
                rest / lower[column * dim + column]
            };
        }
    }
    for row in 0..dim {
        let of_row = &lower[row * dim..][..row];
        let sum: f64 = of_row.iter().zip(&*x).map(|(a, b)| a * b).sum();
        x[row] = (x[row] - sum) / lower[row * dim + row];
    }
    for row in (0..dim).rev() {
        let sum: f64 = (row + 1..dim).map(|below| lower[below * dim + row] * x[below]).sum();
        x[row] = (x[row] - sum) / lower[row * dim + row];
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::{LogisticRegression, solve};

    #[test]
    fn a_system_is_solved() {
        let matrix = [4.0, 1.0, 0.5, 1.0, 3.0, -1.0, 0.5, -1.0, 2.0];
        let expected = [1.0, -2.0, 0.5];
        let mut x = [0.0; 3];
        for row in 0..3 {
            x[row] = (0..3).map(|at| f64::from(matrix[row * 3 + at]) * expected[at]).sum();
        }
        solve(&matrix, 3, &mut x);
        assert!(x.iter().zip(expected).all(|(x, y)| (x - y).abs() < 1e-12), "{x:?}");
    }

    #[test]
    fn the_fit_is_where_the_gradient_of_the_objective_vanishes() {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(2);
        let (dim, count) = (7, 200);
        for (cost, scale) in [(1.0, 1.0), (0.1, 20.0), (100.0, 0.05)] {
            let rows: Vec<f32> =
                (0..dim * count).map(|_| scale * random.random_range(-1.0_f32..1.0)).collect();
            let positive: Vec<bool> = rows
                .chunks_exact(dim)
                .map(|row| row[0] + row[1] + scale * random.random_range(-0.5..0.5) > 0.3 * scale)
                .collect();
            let weights = LogisticRegression::new(&rows, dim, cost).fit(&positive);
            let objective = |weights: &[f64]| {
                let mut sum = weights.iter().map(|w| w * w).sum::<f64>() / 2.0;
                for (row, &positive) in rows.chunks_exact(dim).zip(&positive) {
                    let dot: f64 = row.iter().zip(weights).map(|(&x, w)| f64::from(x) * w).sum();
                    let margin = dot + weights[dim];
                    sum += cost * (if positive { -margin } else { margin }).exp().ln_1p();
                }
                sum
            };
            for at in 0..=dim {
                let moved = |by: f64| {
                    let mut weights = weights.clone();
                    weights[at] += by;
                    objective(&weights)
                };
                let slope = (moved(1e-4) - moved(-1e-4)) / 2e-4;
                assert!(slope.abs() < 1e-3 * cost * f64::from(scale), "{at}: {slope}");
            }
        }
    }

    #[test]
    fn labels_that_are_all_alike_are_fitted_too() {
        let rows = [0.5, -1.0, 2.0];
        let weights = LogisticRegression::new(&rows, 1, 1.0).fit(&[false; 3]);
        assert!(rows.iter().all(|&x| f64::from(x) * weights[0] + weights[1] < 0.0), "{weights:?}");
    }
}
