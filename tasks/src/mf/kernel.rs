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

use pulp::{Arch, Simd, WithSimd};

use super::OptimizerKind;

/// Added to Adagrad's roots.
const EPS: f32 = 1e-10;

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
    pub fn predict(&self, row: &[f32], column: &[f32], mean: f32) -> f32 {
        let product = row[..self.rank].iter().zip(&column[..self.rank]).map(|(p, q)| p * q).sum();
        self.with_biases(product, row, column, mean)
    }

    #[inline(always)]
    fn with_biases(&self, product: f32, row: &[f32], column: &[f32], mean: f32) -> f32 {
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
    let (optimizer, nonnegative) = (shape.optimizer, rates.nonnegative);
    let all = All { shape, rates, rows, columns, ratings };
    match (optimizer, nonnegative) {
        (OptimizerKind::Sgd, false) => arch.dispatch(By::<Sgd<false>>(all, Sgd)),
        (OptimizerKind::Sgd, true) => arch.dispatch(By::<Sgd<true>>(all, Sgd)),
        (OptimizerKind::Adagrad, false) => arch.dispatch(By::<Adagrad<false>>(all, Adagrad)),
        (OptimizerKind::Adagrad, true) => arch.dispatch(By::<Adagrad<true>>(all, Adagrad)),
        (OptimizerKind::RowAdagrad, false) => {
            arch.dispatch(By::<RowAdagrad<false>>(all, RowAdagrad))
        }
        (OptimizerKind::RowAdagrad, true) => arch.dispatch(By::<RowAdagrad<true>>(all, RowAdagrad)),
    }
}

/// What [`train`] was given.
struct All<'a> {
    shape: &'a Shape,
    rates: &'a Rates,
    rows: &'a mut [f32],
    columns: &'a mut [f32],
    ratings: &'a [Placed],
}

/// All ratings by one optimizer.
struct By<'a, R>(All<'a>, R);

/// Factors and the optimizer's state of a row.
type Factors<'a> = (&'a mut [f32], &'a mut [f32]);

/// How an optimizer steps the factors of two rows.
trait Rule {
    fn step<S: Simd>(simd: S, p: Factors<'_>, q: Factors<'_>, error: f32, rates: &Rates);
}

impl<R: Rule> WithSimd for By<'_, R> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f64 {
        let All { shape, rates, rows, columns, ratings } = self.0;
        let (row_len, rank, values) = (shape.row_len(), shape.rank, shape.values());
        let mut loss = 0.0;
        for rating in ratings {
            let row = &mut rows[rating.row as usize * row_len..][..row_len];
            let column = &mut columns[rating.column as usize * row_len..][..row_len];
            let product = dot(simd, &row[..rank], &column[..rank]);
            let error = rating.value - shape.with_biases(product, row, column, rates.mean);
            loss += f64::from(error * error);
            let (row, row_state) = row.split_at_mut(values);
            let (column, column_state) = column.split_at_mut(values);
            if shape.biases {
                bias(shape, &mut row[rank], row_state, error, rates);
                bias(shape, &mut column[rank], column_state, error, rates);
            }
            let (p, q) = ((&mut row[..rank], row_state), (&mut column[..rank], column_state));
            R::step(simd, p, q, error, rates);
        }
        loss
    }
}

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

struct Sgd<const NONNEGATIVE: bool>;

impl<const NONNEGATIVE: bool> Rule for Sgd<NONNEGATIVE> {
    #[inline(always)]
    fn step<S: Simd>(simd: S, (p, _): Factors<'_>, (q, _): Factors<'_>, e: f32, rates: &Rates) {
        let keep = simd.splat_f32s(1.0 - rates.learning_rate * rates.reg);
        let e = simd.splat_f32s(rates.learning_rate * e);
        each_two(simd, p, q, |p, q| {
            let new_p = simd.mul_add_e_f32s(e, q, simd.mul_f32s(keep, p));
            let new_q = simd.mul_add_e_f32s(e, p, simd.mul_f32s(keep, q));
            (allowed::<NONNEGATIVE, S>(simd, new_p), allowed::<NONNEGATIVE, S>(simd, new_q))
        });
    }
}

struct Adagrad<const NONNEGATIVE: bool>;

impl<const NONNEGATIVE: bool> Rule for Adagrad<NONNEGATIVE> {
    #[inline(always)]
    fn step<S: Simd>(
        simd: S,
        (p, p_sums): Factors<'_>,
        (q, q_sums): Factors<'_>,
        e: f32,
        rates: &Rates,
    ) {
        let rank = p.len();
        let [lr, reg, e, eps] =
            [rates.learning_rate, rates.reg, e, EPS].map(|value| simd.splat_f32s(value));
        // The new value and the new sum of one side.
        let side = |own, other, sum| {
            let gradient = simd.sub_f32s(simd.mul_f32s(reg, own), simd.mul_f32s(e, other));
            let sum = simd.mul_add_e_f32s(gradient, gradient, sum);
            let root = simd.add_f32s(simd.sqrt_f32s(sum), eps);
            let step = simd.div_f32s(simd.mul_f32s(lr, gradient), root);
            (allowed::<NONNEGATIVE, S>(simd, simd.sub_f32s(own, step)), sum)
        };
        let (p, p_rest) = S::as_mut_simd_f32s(p);
        let (q, q_rest) = S::as_mut_simd_f32s(q);
        let (p_sums, p_sums_rest) = S::as_mut_simd_f32s(&mut p_sums[..rank]);
        let (q_sums, q_sums_rest) = S::as_mut_simd_f32s(&mut q_sums[..rank]);
        for (((p, q), p_sum), q_sum) in p.iter_mut().zip(q).zip(p_sums).zip(q_sums) {
            let (old_p, old_q) = (*p, *q);
            (*p, *p_sum) = side(old_p, old_q, *p_sum);
            (*q, *q_sum) = side(old_q, old_p, *q_sum);
        }
        if !p_rest.is_empty() {
            let [old_p, old_q] = [&*p_rest, &*q_rest].map(|rest| simd.partial_load_f32s(rest));
            let (new, sums) = side(old_p, old_q, simd.partial_load_f32s(p_sums_rest));
            simd.partial_store_f32s(p_rest, new);
            simd.partial_store_f32s(p_sums_rest, sums);
            let (new, sums) = side(old_q, old_p, simd.partial_load_f32s(q_sums_rest));
            simd.partial_store_f32s(q_rest, new);
            simd.partial_store_f32s(q_sums_rest, sums);
        }
    }
}

struct RowAdagrad<const NONNEGATIVE: bool>;

impl<const NONNEGATIVE: bool> Rule for RowAdagrad<NONNEGATIVE> {
    #[inline(always)]
    fn step<S: Simd>(
        simd: S,
        (p, p_sum): Factors<'_>,
        (q, q_sum): Factors<'_>,
        e: f32,
        rates: &Rates,
    ) {
        let reg = rates.reg;
        // |reg p - e q|^2 from three inner products, so that gradients need no buffer.
        let (pp, qq, pq) = (dot(simd, p, p), dot(simd, q, q), dot(simd, p, q));
        #[expect(clippy::cast_precision_loss, reason = "a rank is far below 2^24")]
        let share = 1.0 / p.len() as f32;
        let rate = |sum: &mut f32, own: f32, other: f32| {
            let square = reg * reg * own - 2.0 * reg * e * pq + e * e * other;
            // Not `max`, which would turn a NaN into 0.
            *sum += if square < 0.0 { 0.0 } else { square * share };
            rates.learning_rate / (sum.sqrt() + EPS)
        };
        let (p_rate, q_rate) = (rate(&mut p_sum[0], pp, qq), rate(&mut q_sum[0], qq, pp));
        let [p_keep, q_keep, p_add, q_add] =
            [1.0 - p_rate * reg, 1.0 - q_rate * reg, p_rate * e, q_rate * e]
                .map(|value| simd.splat_f32s(value));
        each_two(simd, p, q, |p, q| {
            let new_p = simd.mul_add_e_f32s(p_add, q, simd.mul_f32s(p_keep, p));
            let new_q = simd.mul_add_e_f32s(q_add, p, simd.mul_f32s(q_keep, q));
            (allowed::<NONNEGATIVE, S>(simd, new_p), allowed::<NONNEGATIVE, S>(simd, new_q))
        });
    }
}

/// Replaces the values of both slices, vector by vector, by what `step` makes of the old ones.
#[inline(always)]
fn each_two<S: Simd>(
    simd: S,
    p: &mut [f32],
    q: &mut [f32],
    step: impl Fn(S::f32s, S::f32s) -> (S::f32s, S::f32s),
) {
    let (p, p_rest) = S::as_mut_simd_f32s(p);
    let (q, q_rest) = S::as_mut_simd_f32s(q);
    for (p, q) in p.iter_mut().zip(q) {
        (*p, *q) = step(*p, *q);
    }
    if !p_rest.is_empty() {
        let (p, q) = step(simd.partial_load_f32s(p_rest), simd.partial_load_f32s(q_rest));
        simd.partial_store_f32s(p_rest, p);
        simd.partial_store_f32s(q_rest, q);
    }
}

#[inline(always)]
fn allowed<const NONNEGATIVE: bool, S: Simd>(simd: S, factors: S::f32s) -> S::f32s {
    if !NONNEGATIVE {
        return factors;
    }
    // Not a maximum, which would turn a NaN into 0: it must show in the loss.
    let zero = simd.splat_f32s(0.0);
    simd.select_f32s(simd.less_than_f32s(factors, zero), zero, factors)
}

/// The inner product of two slices of one length.
#[inline(always)]
fn dot<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    let (a, a_rest) = S::as_simd_f32s(a);
    let (b, b_rest) = S::as_simd_f32s(b);
    // Sums side by side, so that one does not wait for the other.
    let mut sums = [simd.splat_f32s(0.0); 4];
    let (a_fours, a) = a.as_chunks::<4>();
    let (b_fours, b) = b.as_chunks::<4>();
    for (a, b) in a_fours.iter().zip(b_fours) {
        for lane in 0..4 {
            sums[lane] = simd.mul_add_e_f32s(a[lane], b[lane], sums[lane]);
        }
    }
    for (lane, (&a, &b)) in a.iter().zip(b).enumerate() {
        sums[lane] = simd.mul_add_e_f32s(a, b, sums[lane]);
    }
    if !a_rest.is_empty() {
        let (a, b) = (simd.partial_load_f32s(a_rest), simd.partial_load_f32s(b_rest));
        sums[3] = simd.mul_add_e_f32s(a, b, sums[3]);
    }
    let (even, odd) = (simd.add_f32s(sums[0], sums[1]), simd.add_f32s(sums[2], sums[3]));
    simd.reduce_sum_f32s(simd.add_f32s(even, odd))
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
