//! What a relation does to an entity, and the gradients of that.
//!
//! In every model a *query* is made of one entity and the relation, and the score of a triple
//! compares the query with the row of the other entity:
//!
//! - tail query `q = f(h, r)`, candidates for the tail: `s(h, r, t) = score(q, t)`;
//! - head query `q' = f'(t, r)`, candidates for the head: `s(h, r, t) = score(q', h)`.
//!
//! So the scores of many queries against many candidates are one block ([`super::score`]).
//!
//! | model | entity, relation | tail query | head query | score |
//! | --- | --- | --- | --- | --- |
//! | ComplEx (Trouillon et al. 2016) | `C^d`, `C^d` | `h * r` | `t * conj(r)` | `Re <q, conj(y)>` |
//! | DistMult (Yang et al. 2015) | `R^d`, `R^d` | `h * r` | `t * r` | `<q, y>` |
//! | RESCAL (Nickel et al. 2011) | `R^d`, `R^(d x d)` | `W^T h` | `W t` | `<q, y>` |
//! | TransE (Bordes et al. 2013) | `R^d`, `R^d` | `h + r` | `t - r` | `-norm(q - y)` |
//! | RotatE (Sun et al. 2019) | `C^d`, `d` angles | `h * exp(i r)` | `t * exp(-i r)` | `-sum_k abs(q_k - y_k)` |
//!
//! Complex rows are stored `[re | im]`, so ComplEx's score is a plain dot product of `2d` reals.
//! With *reciprocal relations* a relation has a second row, and the head query is the tail query
//! `f(t, r')` of the inverse relation.
//!
//! A relation's row acts through its *operator*: the row itself, but for RotatE, whose operator
//! `exp(i r)` is computed once for all queries of a step.
//!
//! Everything is generic over the float type, so that the tests can compare the gradients with
//! finite differences in `f64`.

mod bilinear;
mod complex;
mod penalty;
pub mod vector;

use num_traits::Float;

use super::ModelKind;
pub use penalty::l2;
pub use vector::{add_scaled, dot};

/// Floats of a row that fit a record with every optimizer.
const PART_FLOATS_MAX: usize = 4096;

/// Which entity of a triple a query asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Given head and relation, which tail?
    Tail,
    /// Given tail and relation, which head?
    Head,
}

impl Side {
    fn sign<T: Float>(self) -> T {
        match self {
            Self::Tail => T::one(),
            Self::Head => -T::one(),
        }
    }
}

impl ModelKind {
    /// Floats in the row of an entity, and in a query.
    #[must_use]
    pub const fn row_len(self, dim: usize) -> usize {
        match self {
            Self::ComplEx | Self::RotatE => 2 * dim,
            Self::DistMult | Self::Rescal | Self::TransE => dim,
        }
    }

    /// Floats in the row of a relation.
    #[must_use]
    pub const fn relation_len(self, dim: usize) -> usize {
        match self {
            Self::ComplEx => 2 * dim,
            Self::DistMult | Self::TransE | Self::RotatE => dim,
            Self::Rescal => dim * dim,
        }
    }

    /// Keys of the table of relations over which the row of one is split.
    ///
    /// A row of one key travels in one record, which a matrix does not fit: it is cut between its
    /// rows.
    #[must_use]
    pub const fn relation_parts(self, dim: usize) -> usize {
        let Self::Rescal = self else { return 1 };
        let mut rows = dim;
        while rows > 1 && (!dim.is_multiple_of(rows) || rows * dim > PART_FLOATS_MAX) {
            rows -= 1;
        }
        dim / rows
    }

    /// Floats of a relation's operator.
    #[must_use]
    pub const fn operator_len(self, dim: usize) -> usize {
        match self {
            Self::RotatE => 2 * dim,
            _ => self.relation_len(dim),
        }
    }

    /// Whether a relation's operator is something else than its row.
    #[must_use]
    pub const fn has_operator(self) -> bool {
        matches!(self, Self::RotatE)
    }

    /// Writes the operator of relation row `r`.
    pub fn operator<T: Float>(self, r: &[T], operator: &mut [T]) {
        match self {
            Self::RotatE => complex::rotation(r, operator),
            _ => operator.copy_from_slice(r),
        }
    }

    /// Adds to `dr` what the gradient `g` at an operator means for its relation's row.
    pub fn operator_gradient<T: Float>(self, operator: &[T], g: &[T], dr: &mut [T]) {
        match self {
            Self::RotatE => complex::rotation_gradient(operator, g, dr),
            _ => add_scaled(T::one(), g, dr),
        }
    }

    /// Writes the query of `side` for entity row `x` (head for [`Side::Tail`]) and operator `r`.
    #[inline(always)]
    pub fn query<T: Float>(self, side: Side, x: &[T], r: &[T], q: &mut [T]) {
        match self {
            Self::DistMult => {
                for ((q, &x), &r) in q.iter_mut().zip(x).zip(r) {
                    *q = x * r;
                }
            }
            Self::TransE => {
                let sign = side.sign::<T>();
                for ((q, &x), &r) in q.iter_mut().zip(x).zip(r) {
                    *q = x + sign * r;
                }
            }
            Self::ComplEx | Self::RotatE => complex::query(x, r, q, side.sign()),
            Self::Rescal => bilinear::query(side, x, r, q),
        }
    }

    /// Adds to `dx` and `dr` what the gradient `g` at the query of `side` means for entity row and
    /// operator.
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
        match self {
            Self::DistMult => {
                let rows = x.iter().zip(r).zip(g).zip(dx).zip(dr);
                for ((((&x, &r), &g), dx), dr) in rows {
                    *dx = *dx + g * r;
                    *dr = *dr + g * x;
                }
            }
            Self::TransE => {
                add_scaled(T::one(), g, dx);
                add_scaled(side.sign(), g, dr);
            }
            Self::ComplEx | Self::RotatE => complex::gradient(x, r, g, dx, dr, side.sign()),
            Self::Rescal => bilinear::gradient(side, x, r, g, dx, dr),
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::{ModelKind, Side, dot, l2};

    const SIDES: [Side; 2] = [Side::Tail, Side::Head];
    const DIM: usize = 21;

    fn row(len: usize, seed: u64) -> Vec<f64> {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
        (0..len).map(|_| random.random_range(-1.0..1.0)).collect()
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
        let [h, r, t] = [1, 2, 3].map(|seed| row(2 * DIM, seed));
        let mut expected = 0.0;
        for k in 0..DIM {
            let hr_re = h[k] * r[k] - h[DIM + k] * r[DIM + k];
            let hr_im = h[k] * r[DIM + k] + h[DIM + k] * r[k];
            expected += hr_re * t[k] + hr_im * t[DIM + k];
        }
        let mut q = vec![0.0; 2 * DIM];
        ModelKind::ComplEx.query(Side::Tail, &h, &r, &mut q);
        assert!((dot(&q, &t) - expected).abs() < 1e-12);
        ModelKind::ComplEx.query(Side::Head, &t, &r, &mut q);
        assert!((dot(&q, &h) - expected).abs() < 1e-12);
    }

    #[test]
    fn both_sides_of_a_triple_give_it_the_same_score() {
        for model in ModelKind::ALL {
            let [h, t] = [1, 2].map(|seed| row(model.row_len(DIM), seed));
            let mut r = vec![0.0; model.operator_len(DIM)];
            model.operator(&row(model.relation_len(DIM), 3), &mut r);
            let mut q = vec![0.0; h.len()];
            model.query(Side::Tail, &h, &r, &mut q);
            let by_tail = model.form().pair(&q, &t);
            model.query(Side::Head, &t, &r, &mut q);
            let by_head = model.form().pair(&q, &h);
            assert!((by_tail - by_head).abs() < 1e-12, "{model:?}: {by_tail} is not {by_head}");
        }
    }

    #[test]
    fn only_matrices_are_split_and_only_between_their_rows() {
        for dim in [1, 5, 64, 100, 101, 128, 200] {
            for model in ModelKind::ALL {
                let (len, parts) = (model.relation_len(dim), model.relation_parts(dim));
                assert!(len.is_multiple_of(parts) && (len / parts).is_multiple_of(dim));
                assert!(len / parts <= 4096);
                assert!(parts == 1 || model == ModelKind::Rescal);
            }
        }
        assert_eq!(
            [64, 128, 100, 101].map(|d| ModelKind::Rescal.relation_parts(d)),
            [1, 4, 4, 101]
        );
    }

    #[test]
    fn rescal_scores_follow_the_definition() {
        let (h, t, w) = (row(DIM, 1), row(DIM, 2), row(DIM * DIM, 3));
        let mut expected = 0.0;
        for i in 0..DIM {
            for j in 0..DIM {
                expected += h[i] * w[i * DIM + j] * t[j];
            }
        }
        let mut q = vec![0.0; DIM];
        ModelKind::Rescal.query(Side::Tail, &h, &w, &mut q);
        assert!((dot(&q, &t) - expected).abs() < 1e-12);
    }

    #[test]
    fn a_turn_by_a_right_angle_is_a_product_with_i() {
        let mut e = [0.0; 2];
        ModelKind::RotatE.operator(&[std::f64::consts::FRAC_PI_2], &mut e);
        let mut q = [0.0; 2];
        ModelKind::RotatE.query(Side::Tail, &[3.0, 4.0], &e, &mut q);
        assert!((q[0] + 4.0).abs() < 1e-12 && (q[1] - 3.0).abs() < 1e-12, "{q:?}");
    }

    #[test]
    fn query_gradients_are_those_of_finite_differences() {
        for (model, side) in ModelKind::ALL.into_iter().flat_map(|m| SIDES.map(|s| (m, s))) {
            let (x, y) = (row(model.row_len(DIM), 1), row(model.row_len(DIM), 2));
            let relation = row(model.relation_len(DIM), 3);
            let operator = |row: &[f64]| {
                let mut operator = vec![0.0; model.operator_len(DIM)];
                model.operator(row, &mut operator);
                operator
            };
            let score = |x: &[f64], relation: &[f64]| {
                let mut q = vec![0.0; x.len()];
                model.query(side, x, &operator(relation), &mut q);
                dot(&q, &y)
            };
            let r = operator(&relation);
            let (mut dx, mut dr) = (vec![0.0; x.len()], vec![0.0; r.len()]);
            // The gradient of <q, y> at the query is y.
            model.query_gradient(side, &x, &r, &y, &mut dx, &mut dr);
            let mut drelation = vec![0.0; relation.len()];
            model.operator_gradient(&r, &dr, &mut drelation);
            assert_close(&dx, &differences(&x, |x| score(x, &relation)));
            assert_close(&drelation, &differences(&relation, |relation| score(&x, relation)));
        }
    }

    #[test]
    fn the_regularisers_gradients_are_those_of_finite_differences() {
        for model in ModelKind::ALL {
            let x = row(model.row_len(DIM), 3);
            let mut dx = vec![1.0; x.len()];
            model.n3(&x, 0.3, &mut dx);
            let found = differences(&x, |x| model.n3(x, 0.0, &mut vec![0.0; x.len()]));
            assert_close(&dx, &found.into_iter().map(|g| 1.0 + 0.3 * g).collect::<Vec<_>>());
            let mut dx = vec![1.0; x.len()];
            l2(&x, 0.3, &mut dx);
            let found = differences(&x, |x| l2(x, 0.0, &mut vec![0.0; x.len()]));
            assert_close(&dx, &found.into_iter().map(|g| 1.0 + 0.3 * g).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_regulariser_counts_complex_dimensions_and_not_their_parts() {
        // |3 + 4i|^3 = 125, but 3^3 + 4^3 = 91.
        assert_eq!(ModelKind::ComplEx.n3(&[3.0, 4.0], 0.0, &mut [0.0; 2]), 125.0);
        assert_eq!(ModelKind::DistMult.n3(&[3.0, -4.0], 0.0, &mut [0.0; 2]), 91.0);
    }
}
