//! The steps of one rating, on copies of its two rows.
//!
//! ```text
//! row of a table:  factors [rank] | bias | state of the factors [0, rank or 1] | state of the bias
//! ```
//!
//! Bias and its state are there if the model has biases. With `e = r - r(u, i)` the gradients of
//! the loss are `reg p_u - e q_i`, `reg q_i - e p_u` and `reg_b b - e`; both rows step from their old
//! values:
//!
//! | optimizer | state | step |
//! | --- | --- | --- |
//! | SGD | - | `w -= lr g` |
//! | Adagrad | a sum for each value | `S += g^2; w -= lr g / (sqrt(S) + eps)` |
//! | row-wise Adagrad | one sum for the factors, one for the bias | `s += mean(g^2); w -= lr g / (sqrt(s) + eps)` |
//!
//! A nonnegative model goes back to 0 with every factor that a step made negative (projected gradient).

use pulp::Arch;

use super::OptimizerKind;

/// Added to Adagrad's roots.
const EPS: f32 = 1e-10;
/// Sums of an inner product that go side by side: two vectors of the widest registers.
const LANES: usize = 32;

/// What a row of the model holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Length of the factors.
    pub rank: usize,
    /// Whether a bias follows.
    pub biases: bool,
    /// Which state follows.
    pub optimizer: OptimizerKind,
}

/// How a step goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Learning rate.
    pub learning_rate: f32,
    /// Weight of the factors' squares.
    pub reg: f32,
    /// Weight of the biases' squares.
    pub reg_bias: f32,
    /// What all predictions start from: `mu`.
    pub mean: f32,
    /// Whether factors stay at 0 or above.
    pub nonnegative: bool,
}

/// A rating whose rows are in buffers: places, not keys.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Placed {
    /// The row's place in its buffer, in rows.
    pub row: u32,
    /// The column's place in its buffer.
    pub column: u32,
    /// The rating.
    pub value: f32,
}

impl Shape {
    /// Values of a row: factors and bias.
    #[must_use]
    pub fn values(&self) -> usize {
        self.rank + usize::from(self.biases)
    }

    /// Floats of a row: values and state.
    #[must_use]
    pub fn row_len(&self) -> usize {
        self.values()
            + match self.optimizer {
                OptimizerKind::Sgd => 0,
                OptimizerKind::Adagrad => self.values(),
                OptimizerKind::RowAdagrad => 1 + usize::from(self.biases),
            }
    }

    /// What the model says about the cell of these two rows.
    #[must_use]
    #[inline(always)]
    pub fn predict(&self, row: &[f32], column: &[f32], mean: f32) -> f32 {
        let product = dot(&row[..self.rank], &column[..self.rank]);
        if self.biases { mean + row[self.rank] + column[self.rank] + product } else { product }
    }
}

/// Trains on `ratings`, one after the other, and returns the sum of their squared errors.
///
/// `rows` and `columns` are buffers of rows of [`Shape::row_len`] floats.
///
/// # Panics
/// If a place is outside its buffer.
pub fn train(
    arch: Arch,
    shape: &Shape,
    rates: &Rates,
    rows: &mut [f32],
    columns: &mut [f32],
    ratings: &[Placed],
) -> f64 {
    arch.dispatch(|| match (shape.optimizer, rates.nonnegative) {
        (OptimizerKind::Sgd, false) => each(shape, rates, rows, columns, ratings, sgd::<false>),
        (OptimizerKind::Sgd, true) => each(shape, rates, rows, columns, ratings, sgd::<true>),
        (OptimizerKind::Adagrad, false) => {
            each(shape, rates, rows, columns, ratings, adagrad::<false>)
        }
        (OptimizerKind::Adagrad, true) => {
            each(shape, rates, rows, columns, ratings, adagrad::<true>)
        }
        (OptimizerKind::RowAdagrad, false) => {
            each(shape, rates, rows, columns, ratings, row_adagrad::<false>)
        }
        (OptimizerKind::RowAdagrad, true) => {
            each(shape, rates, rows, columns, ratings, row_adagrad::<true>)
        }
    })
}

/// Calls `step` with the factors and their state of each rating's rows, then steps the biases.
#[inline(always)]
fn each(
    shape: &Shape,
    rates: &Rates,
    rows: &mut [f32],
    columns: &mut [f32],
    ratings: &[Placed],
    step: impl Fn(Factors<'_>, Factors<'_>, f32, &Rates),
) -> f64 {
    let (row_len, rank, values) = (shape.row_len(), shape.rank, shape.values());
    let mut loss = 0.0;
    for rating in ratings {
        let place = |place: u32| place as usize * row_len..(place as usize + 1) * row_len;
        let row = &mut rows[place(rating.row)];
        let column = &mut columns[place(rating.column)];
        let error = rating.value - shape.predict(row, column, rates.mean);
        loss += f64::from(error * error);
        let (row, row_state) = row.split_at_mut(values);
        let (column, column_state) = column.split_at_mut(values);
        if shape.biases {
            bias(shape, &mut row[rank], row_state, error, rates);
            bias(shape, &mut column[rank], column_state, error, rates);
        }
        step((&mut row[..rank], row_state), (&mut column[..rank], column_state), error, rates);
    }
    loss
}

/// Factors and the optimizer's state of a row.
type Factors<'a> = (&'a mut [f32], &'a mut [f32]);

#[inline(always)]
fn bias(shape: &Shape, bias: &mut f32, state: &mut [f32], error: f32, rates: &Rates) {
    let gradient = rates.reg_bias * *bias - error;
    let mut step = rates.learning_rate * gradient;
    if shape.optimizer != OptimizerKind::Sgd {
        let sum = state.last_mut().expect("a state for the bias");
        *sum += gradient * gradient;
        step /= sum.sqrt() + EPS;
    }
    *bias -= step;
}

#[inline(always)]
fn sgd<const NONNEGATIVE: bool>((p, _): Factors<'_>, (q, _): Factors<'_>, e: f32, rates: &Rates) {
    let keep = 1.0 - rates.learning_rate * rates.reg;
    let e = rates.learning_rate * e;
    for (p, q) in p.iter_mut().zip(q) {
        let (old_p, old_q) = (*p, *q);
        *p = allowed::<NONNEGATIVE>(keep * old_p + e * old_q);
        *q = allowed::<NONNEGATIVE>(keep * old_q + e * old_p);
    }
}

#[inline(always)]
fn adagrad<const NONNEGATIVE: bool>(
    (p, p_sums): Factors<'_>,
    (q, q_sums): Factors<'_>,
    e: f32,
    rates: &Rates,
) {
    let (lr, reg, rank) = (rates.learning_rate, rates.reg, p.len());
    let (q, p_sums, q_sums) = (&mut q[..rank], &mut p_sums[..rank], &mut q_sums[..rank]);
    for k in 0..rank {
        let (gp, gq) = (reg * p[k] - e * q[k], reg * q[k] - e * p[k]);
        p_sums[k] += gp * gp;
        q_sums[k] += gq * gq;
        p[k] = allowed::<NONNEGATIVE>(p[k] - lr * gp / (p_sums[k].sqrt() + EPS));
        q[k] = allowed::<NONNEGATIVE>(q[k] - lr * gq / (q_sums[k].sqrt() + EPS));
    }
}

#[inline(always)]
fn row_adagrad<const NONNEGATIVE: bool>(
    (p, p_sum): Factors<'_>,
    (q, q_sum): Factors<'_>,
    e: f32,
    rates: &Rates,
) {
    let reg = rates.reg;
    // |reg p - e q|^2 from three inner products, so that gradients need no buffer.
    let (pp, qq, pq) = (dot(p, p), dot(q, q), dot(p, q));
    #[expect(clippy::cast_precision_loss, reason = "a rank is far below 2^24")]
    let share = 1.0 / p.len() as f32;
    let square = |own: f32, other: f32| {
        (reg * reg * own - 2.0 * reg * e * pq + e * e * other).max(0.0) * share
    };
    p_sum[0] += square(pp, qq);
    q_sum[0] += square(qq, pp);
    let rate = |sum: f32| rates.learning_rate / (sum.sqrt() + EPS);
    let (p_rate, q_rate) = (rate(p_sum[0]), rate(q_sum[0]));
    for (p, q) in p.iter_mut().zip(q) {
        let (old_p, old_q) = (*p, *q);
        *p = allowed::<NONNEGATIVE>(old_p - p_rate * (reg * old_p - e * old_q));
        *q = allowed::<NONNEGATIVE>(old_q - q_rate * (reg * old_q - e * old_p));
    }
}

#[inline(always)]
fn allowed<const NONNEGATIVE: bool>(factor: f32) -> f32 {
    // Not `max`, which would turn a NaN into 0: it must show in the loss.
    if NONNEGATIVE && factor < 0.0 { 0.0 } else { factor }
}

/// The inner product of two slices of one length.
#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let b = &b[..a.len()];
    let mut sums = [0.0_f32; LANES];
    let whole = a.len() - a.len() % LANES;
    let (a, a_rest) = a.split_at(whole);
    let (b, b_rest) = b.split_at(whole);
    for (a, b) in a.chunks_exact(LANES).zip(b.chunks_exact(LANES)) {
        for lane in 0..LANES {
            sums[lane] += a[lane] * b[lane];
        }
    }
    for (sum, (a, b)) in sums.iter_mut().zip(a_rest.iter().zip(b_rest)) {
        *sum += a * b;
    }
    // Halves onto each other, which vector registers can do.
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            sums[lane] += sums[lane + width];
        }
        width /= 2;
    }
    sums[0]
}

/// `now[i] - before[i]`, written to `before`.
pub(super) fn changes(arch: Arch, now: &[f32], before: &mut [f32]) {
    arch.dispatch(|| {
        for (before, now) in before.iter_mut().zip(now) {
            *before = now - *before;
        }
    });
}

#[cfg(test)]
mod tests {
    use pulp::Arch;

    use super::{OptimizerKind, Placed, Rates, Shape, train};
    use crate::dense::difference::{assert_gradient, numbers};

    const KINDS: [OptimizerKind; 3] =
        [OptimizerKind::Sgd, OptimizerKind::Adagrad, OptimizerKind::RowAdagrad];

    fn rates() -> Rates {
        let (learning_rate, reg, reg_bias, mean) = (0.01, 0.3, 0.2, 0.5);
        Rates { learning_rate, reg, reg_bias, mean, nonnegative: false }
    }

    /// The loss of one rating, in `f64`, by the values of its two rows.
    fn loss(shape: &Shape, rates: &Rates, value: f32, both: &[f32]) -> f64 {
        let (row, column) = both.split_at(shape.values());
        let wide = |values: &[f32]| values.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
        let (p, q) = (wide(row), wide(column));
        let mut said: f64 = p[..shape.rank].iter().zip(&q[..shape.rank]).map(|(p, q)| p * q).sum();
        let squares = |v: &[f64]| v.iter().map(|v| v * v).sum::<f64>();
        let mut penalty =
            f64::from(rates.reg) * (squares(&p[..shape.rank]) + squares(&q[..shape.rank]));
        if shape.biases {
            said += f64::from(rates.mean) + p[shape.rank] + q[shape.rank];
            let biases = squares(&p[shape.rank..]) + squares(&q[shape.rank..]);
            penalty += f64::from(rates.reg_bias) * biases;
        }
        0.5 * (f64::from(value) - said).powi(2) + 0.5 * penalty
    }

    /// Both rows before and after one step, without state.
    fn step(shape: &Shape, rates: &Rates, value: f32) -> (Vec<f32>, Vec<f32>) {
        let values = shape.values();
        let row = |seed| {
            let mut row = numbers(values, seed);
            row.resize(shape.row_len(), 0.0);
            row
        };
        let (mut p, mut q) = (row(1), row(2));
        let before = [&p[..values], &q[..values]].concat();
        let rating = Placed { row: 0, column: 0, value };
        let squared = train(Arch::new(), shape, rates, &mut p, &mut q, &[rating]);
        let said = f64::from(shape.predict(&before[..values], &before[values..], rates.mean));
        assert!((squared - (f64::from(value) - said).powi(2)).abs() < 1e-4);
        (before, [&p[..values], &q[..values]].concat())
    }

    #[test]
    fn steps_of_sgd_go_down_the_gradient_of_the_loss() {
        for (rank, biases) in [(3, false), (32, false), (45, true), (64, true)] {
            let shape = Shape { rank, biases, optimizer: OptimizerKind::Sgd };
            let (before, after) = step(&shape, &rates(), 4.0);
            let gradient: Vec<f32> = before
                .iter()
                .zip(&after)
                .map(|(before, after)| (before - after) / rates().learning_rate)
                .collect();
            assert_gradient("rows", &before, &gradient, |at| loss(&shape, &rates(), 4.0, at));
        }
    }

    #[test]
    fn first_steps_of_adagrad_have_the_length_of_the_learning_rate() {
        for biases in [false, true] {
            let sgd = Shape { rank: 37, biases, optimizer: OptimizerKind::Sgd };
            let (before, plain) = step(&sgd, &rates(), 4.0);
            let gradient = before.iter().zip(&plain).map(|(before, after)| before - after);
            let gradient: Vec<f32> = gradient.map(|step| step / rates().learning_rate).collect();
            for optimizer in [OptimizerKind::Adagrad, OptimizerKind::RowAdagrad] {
                let (_, after) = step(&Shape { optimizer, ..sgd }, &rates(), 4.0);
                for (side, gradient) in gradient.chunks(sgd.values()).enumerate() {
                    let mean = gradient[..37].iter().map(|g| g * g).sum::<f32>() / 37.0;
                    for (k, g) in gradient.iter().enumerate() {
                        let row_wise = optimizer == OptimizerKind::RowAdagrad && k < 37;
                        let root = if row_wise { mean.sqrt() } else { g.abs() };
                        let at = side * sgd.values() + k;
                        let expected = before[at] - rates().learning_rate * g / root;
                        assert!((after[at] - expected).abs() < 1e-4, "{optimizer:?} {side} {k}");
                    }
                }
            }
        }
    }

    #[test]
    fn ratings_are_trained_one_after_the_other() {
        for optimizer in KINDS {
            let shape = Shape { rank: 20, biases: true, optimizer };
            let rows = |seed| -> Vec<f32> {
                let some = numbers(3 * shape.row_len(), seed);
                some.into_iter().map(f32::abs).collect()
            };
            let (mut p, mut q) = (rows(1), rows(2));
            let (mut one_p, mut one_q) = (p.clone(), q.clone());
            let ratings = [(0, 1, 4.0), (2, 1, 1.0), (0, 1, 5.0), (1, 0, 2.0), (2, 2, 3.0)];
            let ratings = ratings.map(|(row, column, value)| Placed { row, column, value });
            let together = train(Arch::new(), &shape, &rates(), &mut p, &mut q, &ratings);
            let mut alone = 0.0;
            for rating in ratings {
                alone += train(Arch::new(), &shape, &rates(), &mut one_p, &mut one_q, &[rating]);
            }
            assert_eq!((together, p, q), (alone, one_p, one_q));
        }
    }

    #[test]
    fn a_nonnegative_model_has_no_negative_factor() {
        for optimizer in KINDS {
            let shape = Shape { rank: 20, biases: false, optimizer };
            let row = |seed| -> Vec<f32> {
                numbers(shape.row_len(), seed).into_iter().map(f32::abs).collect()
            };
            let (mut p, mut q) = (row(1), row(2));
            let rates = Rates { learning_rate: 0.5, nonnegative: true, ..rates() };
            let rating = Placed { row: 0, column: 0, value: -9.0 };
            train(Arch::new(), &shape, &rates, &mut p, &mut q, &[rating]);
            let factors = [&p[..20], &q[..20]].concat();
            assert!(factors.iter().all(|&factor| factor >= 0.0));
            assert!(factors.contains(&0.0), "{optimizer:?}: none was stopped at 0");
        }
    }
}
