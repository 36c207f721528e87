//! Scores of queries with candidates, block by block, and the gradients of a block.
//!
//! Many queries `Q` (`m x k`) meet many candidates `Y` (`n x k`). With `C` the gradients that
//! arrive at the scores:
//!
//! | form | score | `dQ` | `dY` |
//! | --- | --- | --- | --- |
//! | dot product | `Q Y^T` | `C Y` | `C^T Q` |
//! | Euclidean | `-D`, `D = norm(q - y)` | `C' Y - rows(C') Q` | `C'^T Q - columns(C') Y` |
//! | moduli | `-sum_k abs(q_k - y_k)`, complex `k` | summed pair by pair | the same |
//!
//! where `C' = C / D`, and `rows`, `columns` are sums that scale the rows of what follows. The
//! first two are matrix products; the third has a square root for every complex dimension of every
//! pair, and its loops are written to become vector code.

mod euclidean;
mod moduli;

use num_traits::Float;
use pulp::{Arch, Simd, WithSimd};

use super::model::vector::{add_scaled, dot};
use super::{ModelKind, product};

/// How a query is compared with a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `<q, y>`.
    Dot,
    /// `-norm(q - y)`.
    Euclidean,
    /// `-sum_k abs(q_k - y_k)` over complex dimensions.
    Moduli,
}

impl ModelKind {
    /// How the model compares a query with a candidate.
    #[must_use]
    pub const fn form(self) -> Form {
        match self {
            Self::ComplEx | Self::DistMult | Self::Rescal => Form::Dot,
            Self::TransE => Form::Euclidean,
            Self::RotatE => Form::Moduli,
        }
    }
}

impl Form {
    /// The score of one pair.
    #[inline(always)]
    pub fn pair<T: Float>(self, q: &[T], y: &[T]) -> T {
        match self {
            Self::Dot => dot(q, y),
            Self::Euclidean => -euclidean::distance(q, y),
            Self::Moduli => -moduli::distance(q, y),
        }
    }

    /// Adds `slope` times the gradients of a pair's score to `dq` and `dy`.
    #[inline(always)]
    pub fn pair_gradient<T: Float>(self, q: &[T], y: &[T], slope: T, dq: &mut [T], dy: &mut [T]) {
        match self {
            Self::Dot => {
                add_scaled(slope, y, dq);
                add_scaled(slope, q, dy);
            }
            Self::Euclidean => euclidean::gradient(q, y, slope, dq, dy),
            Self::Moduli => moduli::gradient(q, y, slope, dq, dy),
        }
    }
}

/// Queries, candidates, and the length of both.
pub(crate) type Shape = (usize, usize, usize);

/// Computes blocks of scores and their gradients; keeps what the second needs of the first.
#[derive(Debug)]
pub(crate) struct Scorer {
    form: Form,
    arch: Arch,
    /// Squared lengths of the candidates, then sums over columns.
    columns: Vec<f32>,
    /// `1 / D`, as large as the block.
    inverses: Vec<f32>,
}

impl Scorer {
    pub(crate) fn new(form: Form) -> Self {
        Self { form, arch: Arch::new(), columns: Vec::new(), inverses: Vec::new() }
    }

    /// Writes the `m x n` scores of a block.
    pub(crate) fn scores(&mut self, shape: Shape, q: &[f32], y: &[f32], scores: &mut [f32]) {
        match self.form {
            Form::Dot => product::nt(shape, q, y, scores),
            Form::Euclidean => {
                product::nt(shape, q, y, scores);
                self.columns.resize(shape.1, 0.0);
                self.inverses.resize(scores.len(), 0.0);
                let (columns, inverses) = (&mut self.columns, &mut self.inverses);
                self.arch.dispatch(Euclidean { shape, q, y, columns, inverses, scores });
            }
            Form::Moduli => self.arch.dispatch(Moduli { shape, q, y, scores }),
        }
    }

    /// Writes the gradients of the block that [`Self::scores`] computed last, of which `slopes`
    /// holds the gradients at its scores. Leaves nothing of use in `slopes`.
    pub(crate) fn gradients(
        &mut self,
        (m, n, k): Shape,
        [q, y]: [&[f32]; 2],
        slopes: &mut [f32],
        [dq, dy]: [&mut [f32]; 2],
    ) {
        if self.form == Form::Moduli {
            dq.fill(0.0);
            dy.fill(0.0);
            self.arch.dispatch(ModuliGradients { shape: (m, n, k), q, y, slopes, dq, dy });
            return;
        }
        if self.form == Form::Euclidean {
            let inverses = &self.inverses;
            self.arch.dispatch(Divide { slopes, inverses });
        }
        product::nn((m, k, n), slopes, y, dq);
        product::tn((n, k, m), slopes, q, dy);
        if self.form == Form::Euclidean {
            let columns = &mut self.columns;
            self.arch.dispatch(Subtract { shape: (m, n, k), q, y, slopes, columns, dq, dy });
        }
    }
}

// The loops, compiled once for each instruction set that the machine may have. They are types
// because a closure's body would not be inlined into the code that is compiled so.

struct Euclidean<'a> {
    shape: Shape,
    q: &'a [f32],
    y: &'a [f32],
    columns: &'a mut [f32],
    inverses: &'a mut [f32],
    scores: &'a mut [f32],
}

impl WithSimd for Euclidean<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { shape, q, y, columns, inverses, scores } = self;
        euclidean::scores(shape, q, y, columns, inverses, scores);
    }
}

struct Divide<'a> {
    slopes: &'a mut [f32],
    inverses: &'a [f32],
}

impl WithSimd for Divide<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (slope, inverse) in self.slopes.iter_mut().zip(self.inverses) {
            *slope *= inverse;
        }
    }
}

struct Subtract<'a> {
    shape: Shape,
    q: &'a [f32],
    y: &'a [f32],
    slopes: &'a [f32],
    columns: &'a mut [f32],
    dq: &'a mut [f32],
    dy: &'a mut [f32],
}

impl WithSimd for Subtract<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { shape, q, y, slopes, columns, dq, dy } = self;
        euclidean::subtract(shape, [q, y], slopes, columns, [dq, dy]);
    }
}

struct Moduli<'a> {
    shape: Shape,
    q: &'a [f32],
    y: &'a [f32],
    scores: &'a mut [f32],
}

impl WithSimd for Moduli<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        moduli::scores(simd, self.shape, self.q, self.y, self.scores);
    }
}

struct ModuliGradients<'a> {
    shape: Shape,
    q: &'a [f32],
    y: &'a [f32],
    slopes: &'a [f32],
    dq: &'a mut [f32],
    dy: &'a mut [f32],
}

impl WithSimd for ModuliGradients<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { shape, q, y, slopes, dq, dy } = self;
        moduli::gradients(simd, shape, [q, y], slopes, [dq, dy]);
    }
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "f64 kept as f32")]
mod tests;
