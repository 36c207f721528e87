//! Scores of triples and their gradients.
//!
//! Both models are dot products of a *query* with the row of a candidate entity, so the scores of
//! many queries against many candidates are one matrix product:
//!
//! - tail query `q = f(h, r)`, candidates for the tail: `s(h, r, t) = <q, t>`;
//! - head query `q' = f'(t, r)`, candidates for the head: `s(h, r, t) = <q', h>`.
//!
//! ComplEx (Trouillon et al. 2016), rows `[re | im]`, `*` the complex product:
//! `s = Re sum_k h_k r_k conj(t_k)`, so `q = h * r` and `q' = t * conj(r)`.
//! DistMult (Yang et al. 2015), real rows: `s = sum_k h_k r_k t_k`, `q = h * r`, `q' = t * r`.
//!
//! With *reciprocal relations* a relation has a second row, and the head query is the tail query
//! `f(t, r')` of the inverse relation.
//!
//! Everything is generic over the float type, so that the tests can compare the gradients with
//! finite differences in `f64`.

use num_traits::Float;

use super::ModelKind;

/// Which entity of a triple a query asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Given head and relation, which tail?
    Tail,
    /// Given tail and relation, which head?
    Head,
}

impl ModelKind {
    /// Floats in the row of an entity or relation.
    #[must_use]
    pub const fn row_len(self, dim: usize) -> usize {
        match self {
            Self::ComplEx => 2 * dim,
            Self::DistMult => dim,
        }
    }

    /// Writes the query of `side` for entity row `x` (head for [`Side::Tail`]) and relation `r`.
    #[inline(always)]
    pub fn query<T: Float>(self, side: Side, x: &[T], r: &[T], q: &mut [T]) {
        match (self, side) {
            (Self::DistMult, _) => {
                for ((q, &x), &r) in q.iter_mut().zip(x).zip(r) {
                    *q = x * r;
                }
            }
            (Self::ComplEx, Side::Tail) => complex_query(x, r, q, T::one()),
            (Self::ComplEx, Side::Head) => complex_query(x, r, q, -T::one()),
        }
    }

    /// Adds to `dx` and `dr` what the gradient `g` at the query of `side` means for its two rows.
    #[inline(always)]
    pub fn query_gradient<T: Float>(
        self,
        side: Side,
        x: &[T],
        r: &[T],
        g: &[T],
        dx: &mut [T],
        dr: &mut [T],
    ) {
        match (self, side) {
            (Self::DistMult, _) => {
                let rows = x.iter().zip(r).zip(g).zip(dx).zip(dr);
                for ((((&x, &r), &g), dx), dr) in rows {
                    *dx = *dx + g * r;
                    *dr = *dr + g * x;
                }
            }
            (Self::ComplEx, Side::Tail) => complex_gradient(x, r, g, dx, dr, T::one()),
            (Self::ComplEx, Side::Head) => complex_gradient(x, r, g, dx, dr, -T::one()),
        }
    }

    /// The N3 norm of a row, `sum_k |x_k|^3`; adds `weight` times its gradient to `dx`.
    #[inline(always)]
    pub fn n3<T: Float>(self, x: &[T], weight: T, dx: &mut [T]) -> T {
        let three = T::one() + T::one() + T::one();
        match self {
            Self::ComplEx => {
                let half = x.len() / 2;
                let ((re, im), (dre, dim)) = (x.split_at(half), dx.split_at_mut(half));
                for (((&re, &im), dre), dim) in re.iter().zip(im).zip(dre).zip(dim) {
                    let slope = three * weight * (re * re + im * im).sqrt();
                    *dre = *dre + slope * re;
                    *dim = *dim + slope * im;
                }
                sum(half, |k| {
                    let square = re[k] * re[k] + im[k] * im[k];
                    square * square.sqrt()
                })
            }
            Self::DistMult => {
                for (&x, dx) in x.iter().zip(dx) {
                    *dx = *dx + three * weight * x.abs() * x;
                }
                sum(x.len(), |k| x[k].abs() * x[k] * x[k])
            }
        }
    }
}

/// The dot product of two rows, which is the score of a query with a candidate.
#[inline(always)]
pub fn dot<T: Float>(x: &[T], y: &[T]) -> T {
    let y = &y[..x.len()];
    sum(x.len(), |k| x[k] * y[k])
}

/// Adds `a` times `x` to `y`.
#[inline(always)]
pub fn add_scaled<T: Float>(a: T, x: &[T], y: &mut [T]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = *y + a * x;
    }
}

/// Sums `term(0..count)` in 16 partial sums, which the compiler can keep in vector registers; a
/// plain sum would have to be taken one after the other.
#[inline(always)]
fn sum<T: Float>(count: usize, term: impl Fn(usize) -> T) -> T {
    let mut partial = [T::zero(); 16];
    let whole = count - count % 16;
    for block in (0..whole).step_by(16) {
        for (lane, partial) in partial.iter_mut().enumerate() {
            *partial = *partial + term(block + lane);
        }
    }
    let rest = (whole..count).fold(T::zero(), |sum, k| sum + term(k));
    partial.into_iter().fold(rest, |sum, part| sum + part)
}

/// `q = x * r` for `sign` 1 and `q = x * conj(r)` for `sign` -1.
#[inline(always)]
fn complex_query<T: Float>(x: &[T], r: &[T], q: &mut [T], sign: T) {
    let half = q.len() / 2;
    let ((x_re, x_im), (r_re, r_im)) = (x.split_at(half), r.split_at(half));
    let (q_re, q_im) = q.split_at_mut(half);
    let rows = x_re.iter().zip(x_im).zip(r_re).zip(r_im).zip(q_re).zip(q_im);
    for (((((&x_re, &x_im), &r_re), &r_im), q_re), q_im) in rows {
        let r_im = sign * r_im;
        *q_re = x_re * r_re - x_im * r_im;
        *q_im = x_re * r_im + x_im * r_re;
    }
}

/// The gradients of [`complex_query`]: `dx += g * conj(r)`, `dr += g * conj(x)` for `sign` 1;
/// `dx += g * r`, `dr += conj(g) * x` for `sign` -1.
#[inline(always)]
fn complex_gradient<T: Float>(x: &[T], r: &[T], g: &[T], dx: &mut [T], dr: &mut [T], sign: T) {
    let half = g.len() / 2;
    let ((x_re, x_im), (r_re, r_im)) = (x.split_at(half), r.split_at(half));
    let (g_re, g_im) = g.split_at(half);
    let ((dx_re, dx_im), (dr_re, dr_im)) = (dx.split_at_mut(half), dr.split_at_mut(half));
    // Equal lengths, said once: the compiler drops the bounds checks of the loop.
    let (x_re, x_im, r_re, r_im) = (&x_re[..half], &x_im[..half], &r_re[..half], &r_im[..half]);
    let (dx_re, dx_im) = (&mut dx_re[..half], &mut dx_im[..half]);
    let (dr_re, dr_im) = (&mut dr_re[..half], &mut dr_im[..half]);
    for k in 0..half {
        let (g_re, g_im, r_im) = (g_re[k], g_im[k], sign * r_im[k]);
        dx_re[k] = dx_re[k] + g_re * r_re[k] + g_im * r_im;
        dx_im[k] = dx_im[k] + g_im * r_re[k] - g_re * r_im;
        dr_re[k] = dr_re[k] + g_re * x_re[k] + g_im * x_im[k];
        dr_im[k] = dr_im[k] + sign * (g_im * x_re[k] - g_re * x_im[k]);
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::{ModelKind, Side, dot};

    const MODELS: [ModelKind; 2] = [ModelKind::ComplEx, ModelKind::DistMult];
    const SIDES: [Side; 2] = [Side::Tail, Side::Head];
    const DIM: usize = 21;

    fn rows(model: ModelKind, count: usize, seed: u64) -> Vec<Vec<f64>> {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        let len = model.row_len(DIM);
        let mut row = || (0..len).map(|_| random.random_range(-1.0..1.0)).collect();
        (0..count).map(|_| row()).collect()
    }

    /// The gradient of `value` at `x` by central differences.
    fn differences(x: &[f64], value: impl Fn(&[f64]) -> f64) -> Vec<f64> {
        let step = 1e-5;
        let at = |k: usize, delta: f64| {
            let mut x = x.to_vec();
            x[k] += delta;
            value(&x)
        };
        (0..x.len()).map(|k| (at(k, step) - at(k, -step)) / (2.0 * step)).collect()
    }

    fn assert_close(found: &[f64], expected: &[f64]) {
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-7, "{found} is not {expected}");
        }
    }

    #[test]
    fn complex_scores_follow_the_definition_for_both_sides() {
        let rows = rows(ModelKind::ComplEx, 3, 1);
        let [h, r, t] = [&rows[0], &rows[1], &rows[2]];
        let mut expected = 0.0;
        for k in 0..DIM {
            let hr_re = h[k] * r[k] - h[DIM + k] * r[DIM + k];
            let hr_im = h[k] * r[DIM + k] + h[DIM + k] * r[k];
            expected += hr_re * t[k] + hr_im * t[DIM + k];
        }
        let mut q = vec![0.0; 2 * DIM];
        ModelKind::ComplEx.query(Side::Tail, h, r, &mut q);
        assert!((dot(&q, t) - expected).abs() < 1e-12);
        ModelKind::ComplEx.query(Side::Head, t, r, &mut q);
        assert!((dot(&q, h) - expected).abs() < 1e-12);
    }

    #[test]
    fn query_gradients_are_those_of_finite_differences() {
        for (model, side) in MODELS.into_iter().flat_map(|m| SIDES.map(|s| (m, s))) {
            let rows = rows(model, 3, 2);
            let [x, r, y] = [&rows[0], &rows[1], &rows[2]];
            let score = |x: &[f64], r: &[f64]| {
                let mut q = vec![0.0; x.len()];
                model.query(side, x, r, &mut q);
                dot(&q, y)
            };
            let (mut dx, mut dr) = (vec![0.0; x.len()], vec![0.0; x.len()]);
            // The gradient of <q, y> at the query is y.
            model.query_gradient(side, x, r, y, &mut dx, &mut dr);
            assert_close(&dx, &differences(x, |x| score(x, r)));
            assert_close(&dr, &differences(r, |r| score(x, r)));
        }
    }

    #[test]
    fn the_regulariser_s_gradient_is_that_of_finite_differences() {
        for model in MODELS {
            let x = &rows(model, 1, 3)[0];
            let norm = |x: &[f64]| model.n3(x, 0.0, &mut vec![0.0; x.len()]);
            let mut dx = vec![1.0; x.len()];
            model.n3(x, 0.3, &mut dx);
            let expected: Vec<f64> =
                differences(x, norm).into_iter().map(|g| 1.0 + 0.3 * g).collect();
            assert_close(&dx, &expected);
        }
    }

    #[test]
    fn the_regulariser_counts_complex_dimensions_and_not_their_parts() {
        // |3 + 4i|^3 = 125, but 3^3 + 4^3 = 91.
        assert_eq!(ModelKind::ComplEx.n3(&[3.0, 4.0], 0.0, &mut [0.0; 2]), 125.0);
        assert_eq!(ModelKind::DistMult.n3(&[3.0, -4.0], 0.0, &mut [0.0; 2]), 91.0);
    }
}
