//! Distances `norm(q - y)`, by one matrix product for a block: `D^2 = |q|^2 + |y|^2 - 2 <q, y>`.

use num_traits::Float;

use super::Shape;
use crate::kge::model::vector::{add_scaled, dot, sum};

/// Where the distance is taken to be at least this large, so that its gradient stays finite.
const LEAST: f32 = 1e-6;

fn least<T: Float>() -> T {
    T::from(LEAST).expect("a float holds it")
}

#[inline(always)]
pub(super) fn distance<T: Float>(q: &[T], y: &[T]) -> T {
    let square = sum(q.len(), |k| (q[k] - y[k]) * (q[k] - y[k]));
    square.max(least::<T>() * least()).sqrt()
}

#[inline(always)]
pub(super) fn gradient<T: Float>(q: &[T], y: &[T], slope: T, dq: &mut [T], dy: &mut [T]) {
    let scale = slope / distance(q, y);
    for (((&q, &y), dq), dy) in q.iter().zip(y).zip(dq).zip(dy) {
        let step = scale * (q - y);
        *dq = *dq - step;
        *dy = *dy + step;
    }
}

/// Turns dot products into scores; `inverses` gets `1 / D`, `norms` is room for `n` numbers.
#[inline(always)]
pub(super) fn scores(
    (_, n, k): Shape,
    q: &[f32],
    y: &[f32],
    norms: &mut [f32],
    inverses: &mut [f32],
    scores: &mut [f32],
) {
    for (norm, y) in norms.iter_mut().zip(y.chunks_exact(k)) {
        *norm = dot(y, y);
    }
    let rows = scores.chunks_exact_mut(n).zip(inverses.chunks_exact_mut(n));
    for ((scores, inverses), q) in rows.zip(q.chunks_exact(k)) {
        let own = dot(q, q);
        for ((score, inverse), &norm) in scores.iter_mut().zip(inverses).zip(&*norms) {
            let square = own + norm - 2.0 * *score;
            // Not `max`, which would turn a NaN into a number: it must show in the loss.
            let square = if square < LEAST * LEAST { LEAST * LEAST } else { square };
            let distance = square.sqrt();
            *inverse = 1.0 / distance;
            *score = -distance;
        }
    }
}

/// Takes the sums over rows and columns of `slopes`, times the rows themselves, off the products.
#[inline(always)]
pub(super) fn subtract(
    (_, n, k): Shape,
    [q, y]: [&[f32]; 2],
    slopes: &[f32],
    columns: &mut [f32],
    [dq, dy]: [&mut [f32]; 2],
) {
    columns.fill(0.0);
    let rows = q.chunks_exact(k).zip(dq.chunks_exact_mut(k));
    for (slopes, (q, dq)) in slopes.chunks_exact(n).zip(rows) {
        add_scaled(1.0, slopes, columns);
        add_scaled(-sum(n, |j| slopes[j]), q, dq);
    }
    for ((&column, y), dy) in columns.iter().zip(y.chunks_exact(k)).zip(dy.chunks_exact_mut(k)) {
        add_scaled(-column, y, dy);
    }
}
