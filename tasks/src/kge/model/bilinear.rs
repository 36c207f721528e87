//! Products of a row with a relation's matrix, stored row by row.

use num_traits::Float;

use super::Side;
use super::vector::{add_scaled, dot};

/// `q = W^T x` for the tail, `q = W x` for the head.
#[inline(always)]
pub(super) fn query<T: Float>(side: Side, x: &[T], w: &[T], q: &mut [T]) {
    let rows = w.chunks_exact(x.len());
    match side {
        Side::Tail => {
            q.fill(T::zero());
            for (&x, row) in x.iter().zip(rows) {
                add_scaled(x, row, q);
            }
        }
        Side::Head => {
            for (q, row) in q.iter_mut().zip(rows) {
                *q = dot(row, x);
            }
        }
    }
}

/// The gradients of [`query`]: `dx += W g`, `dW += x g^T` for the tail; `dx += W^T g`,
/// `dW += g x^T` for the head.
#[inline(always)]
pub(super) fn gradient<T: Float>(
    side: Side,
    x: &[T],
    w: &[T],
    g: &[T],
    dx: &mut [T],
    dw: &mut [T],
) {
    let rows = w.chunks_exact(x.len()).zip(dw.chunks_exact_mut(x.len()));
    for (i, (row, drow)) in rows.enumerate() {
        match side {
            Side::Tail => {
                dx[i] = dx[i] + dot(row, g);
                add_scaled(x[i], g, drow);
            }
            Side::Head => {
                add_scaled(g[i], row, dx);
                add_scaled(g[i], x, drow);
            }
        }
    }
}
