//! The loops of composed updates over vectors.
//!
//! A *noted* step changes a private copy `[w | state]` and, in the same pass, the map `[Dw | Dstate]` that says what it did;
//! the vectors of either lie `dim` apart. The other loops apply a map to a row in shared memory.
//!
//! # Safety
//! Of all kernels here: pointers are valid for as many floats as the shape of the optimizer says and do not overlap; copies,
//! maps and gradients are private, `w`, `m` and `row` shared memory.

use crate::element::Element;
use crate::optimizer::FtrlRule;
use crate::rowcopy::blocked;
use crate::simd::{Portable, Simd, dispatch};

/// What a noted step reads and writes.
#[derive(Clone, Copy)]
pub(super) struct Noted {
    pub(super) copy: *mut f32,
    pub(super) map: *mut f32,
    pub(super) grad: *const f32,
    pub(super) dim: usize,
}

/// `x -= step` in the copy and in the map.
#[inline(always)]
unsafe fn descend<S: Simd>(row: Noted, i: usize, step: S::V) {
    // SAFETY: the caller's promise.
    unsafe {
        let (w, moved) = (row.copy.add(i), row.map.add(i));
        S::store(w, S::sub(S::load(w), step));
        S::store(moved, S::sub(S::load(moved), step));
    }
}

/// One register of `w -= rate g`: SGD and row-wise Adagrad, and additions with a rate of -1.
#[inline(always)]
unsafe fn shift_at<S: Simd>(row: Noted, i: usize, rate: S::V) {
    // SAFETY: the caller's promise.
    unsafe { descend::<S>(row, i, S::mul(rate, S::load(row.grad.add(i)))) }
}

#[inline(always)]
unsafe fn shift_kernel<S: Simd>(row: Noted, rate: f32) {
    // SAFETY: indices stay below `dim`.
    unsafe {
        let rates = S::splat(rate);
        blocked!(S::LANES, row.dim, |i| shift_at::<S>(row, i, rates), |j| shift_at::<Portable>(
            row, j, rate
        ));
    }
}

/// One register of a momentum step: the velocity of the copy has the row's own in it, that of the map not.
#[inline(always)]
unsafe fn momentum_at<S: Simd>(row: Noted, i: usize, lr: S::V, mu: S::V) {
    // SAFETY: the caller's promise.
    unsafe {
        let gradient = S::load(row.grad.add(i));
        for (values, velocity) in
            [(row.copy, row.copy.add(row.dim)), (row.map, row.map.add(row.dim))]
        {
            let now = S::mul_add(mu, S::load(velocity.add(i)), gradient);
            S::store(velocity.add(i), now);
            S::store(values.add(i), S::sub(S::load(values.add(i)), S::mul(lr, now)));
        }
    }
}

#[inline(always)]
unsafe fn momentum_kernel<S: Simd>(row: Noted, lr: f32, mu: f32) {
    // SAFETY: indices stay below `dim`.
    unsafe {
        let (rate, keep) = (S::splat(lr), S::splat(mu));
        blocked!(S::LANES, row.dim, |i| momentum_at::<S>(row, i, rate, keep), |j| momentum_at::<
            Portable,
        >(
            row, j, lr, mu
        ));
    }
}

/// One register of an Adagrad step.
#[inline(always)]
unsafe fn adagrad_at<S: Simd>(row: Noted, i: usize, lr: S::V, eps: S::V) {
    // SAFETY: the caller's promise.
    unsafe {
        let (sums, change) = (row.copy.add(row.dim + i), row.map.add(row.dim + i));
        let gradient = S::load(row.grad.add(i));
        let square = S::mul(gradient, gradient);
        let sum = S::add(S::load(sums), square);
        S::store(sums, sum);
        S::store(change, S::add(S::load(change), square));
        descend::<S>(row, i, S::div(S::mul(lr, gradient), S::add(S::sqrt(sum), eps)));
    }
}

#[inline(always)]
unsafe fn adagrad_kernel<S: Simd>(row: Noted, lr: f32, eps: f32) {
    // SAFETY: indices stay below `dim`.
    unsafe {
        let (rate, floor) = (S::splat(lr), S::splat(eps));
        blocked!(S::LANES, row.dim, |i| adagrad_at::<S>(row, i, rate, floor), |j| adagrad_at::<
            Portable,
        >(
            row, j, lr, eps
        ));
    }
}

/// One register of an FTRL step; behind the map's sums lie the values from which the update began.
#[inline(always)]
unsafe fn ftrl_at<S: Simd>(row: Noted, i: usize, rule: FtrlRule) {
    // SAFETY: the caller's promise.
    unsafe {
        let gradient = S::load(row.grad.add(i));
        let square = S::mul(gradient, gradient);
        let (w, z, n) = (row.copy.add(i), row.copy.add(row.dim + i), row.copy.add(2 * row.dim + i));
        let begun_at = S::load(row.map.add(2 * row.dim + i));
        let now = rule.step::<S>([S::load(z), S::load(n), begun_at], gradient, square);
        for (at, now) in [z, n, w].into_iter().zip(now) {
            S::store(at, now);
        }
        let (sums, squares) = (row.map.add(i), row.map.add(row.dim + i));
        S::store(sums, S::add(S::load(sums), gradient));
        S::store(squares, S::add(S::load(squares), square));
    }
}

#[inline(always)]
unsafe fn ftrl_kernel<S: Simd>(row: Noted, rule: FtrlRule) {
    // SAFETY: indices stay below `dim`.
    unsafe {
        blocked!(S::LANES, row.dim, |i| ftrl_at::<S>(row, i, rule), |j| ftrl_at::<Portable>(
            row, j, rule
        ));
    }
}

/// One register of FTRL's sums, applied: as one step of the row's own values, or of those that are given.
#[inline(always)]
unsafe fn ftrl_sums_at<S: Simd, E: Element>(
    w: *mut E,
    state: *mut f32,
    map: *const f32,
    dim: usize,
    i: usize,
    (rule, begun_at): (FtrlRule, *const f32),
) {
    // SAFETY: the caller's promise.
    unsafe {
        let (z, n) = (state.add(i), state.add(dim + i));
        let from = if begun_at.is_null() {
            E::load_shared::<S>(w.add(i))
        } else {
            S::load(begun_at.add(i))
        };
        let row = [S::load_shared(z), S::load_shared(n), from];
        let sums = (S::load(map.add(i)), S::load(map.add(dim + i)));
        let [z_now, n_now, w_now] = rule.step::<S>(row, sums.0, sums.1);
        S::store_shared(z, z_now);
        S::store_shared(n, n_now);
        E::store_shared::<S>(w.add(i), w_now);
    }
}

#[inline(always)]
#[allow(clippy::semicolon_if_nothing_returned, reason = "the macro ends both with one")]
unsafe fn ftrl_sums_kernel<S: Simd, E: Element>(
    w: *mut E,
    state: *mut f32,
    map: *const f32,
    dim: usize,
    with: (FtrlRule, *const f32),
) {
    // SAFETY: indices stay below `dim`.
    unsafe {
        blocked!(S::LANES, dim, |i| ftrl_sums_at::<S, E>(w, state, map, dim, i, with), |j| {
            ftrl_sums_at::<Portable, E>(w, state, map, dim, j, with)
        });
    }
}

/// `x = keep x + part`.
#[inline(always)]
unsafe fn fade<S: Simd>(at: *mut f32, keep: S::V, part: S::V) -> S::V {
    // SAFETY: the caller's promise.
    unsafe {
        let now = S::mul_add(keep, S::load(at), part);
        S::store(at, now);
        now
    }
}

/// One register of an Adam step; `with` is beta1, beta2, their distances to 1, eps, rate, root.
#[inline(always)]
unsafe fn adam_at<S: Simd>(row: Noted, i: usize, with: &[S::V; 7]) {
    let [beta1, beta2, rest1, rest2, eps, rate, root] = *with;
    // SAFETY: the caller's promise.
    unsafe {
        let gradient = S::load(row.grad.add(i));
        let part1 = S::mul(rest1, gradient);
        let part2 = S::mul(rest2, S::mul(gradient, gradient));
        let first = fade::<S>(row.copy.add(row.dim + i), beta1, part1);
        let second = fade::<S>(row.copy.add(2 * row.dim + i), beta2, part2);
        fade::<S>(row.map.add(row.dim + i), beta1, part1);
        fade::<S>(row.map.add(2 * row.dim + i), beta2, part2);
        let step = S::div(S::mul(rate, first), S::mul_add(S::sqrt(second), root, eps));
        descend::<S>(row, i, step);
    }
}

/// `with` is beta1, beta2, eps, rate, root.
#[inline(always)]
unsafe fn adam_kernel<S: Simd>(row: Noted, with: [f32; 5]) {
    let [beta1, beta2, eps, rate, root] = with;
    let scalars = [beta1, beta2, 1.0 - beta1, 1.0 - beta2, eps, rate, root];
    // SAFETY: indices stay below `dim`.
    unsafe {
        let mut vectors = [S::splat(0.0); 7];
        for (vector, &scalar) in vectors.iter_mut().zip(&scalars) {
            *vector = S::splat(scalar);
        }
        blocked!(S::LANES, row.dim, |i| adam_at::<S>(row, i, &vectors), |j| adam_at::<Portable>(
            row, j, &scalars
        ));
    }
}

/// One register of a momentum map's application: `w += b m + Dw`, `m = a m + Dm`; `map` is `[Dw | Dm]`.
#[inline(always)]
unsafe fn coast_at<S: Simd, E: Element>(
    w: *mut E,
    m: *mut f32,
    map: *const f32,
    dim: usize,
    i: usize,
    [a, b]: [S::V; 2],
) {
    // SAFETY: the caller's promise.
    unsafe {
        let velocity = S::load_shared(m.add(i));
        let moved = S::mul_add(b, velocity, S::load(map.add(i)));
        E::store_shared::<S>(w.add(i), S::add(E::load_shared::<S>(w.add(i)), moved));
        S::store_shared(m.add(i), S::mul_add(a, velocity, S::load(map.add(dim + i))));
    }
}

#[inline(always)]
unsafe fn coast_kernel<S: Simd, E: Element>(
    w: *mut E,
    m: *mut f32,
    map: *const f32,
    dim: usize,
    with: [f32; 2],
) {
    // SAFETY: indices stay below `dim`.
    unsafe {
        let factors = [S::splat(with[0]), S::splat(with[1])];
        blocked!(S::LANES, dim, |i| coast_at::<S, E>(w, m, map, dim, i, factors), |j| coast_at::<
            Portable,
            E,
        >(
            w, m, map, dim, j, with
        ));
    }
}

/// One register of `row = a row + change`.
#[inline(always)]
unsafe fn affine_at<S: Simd>(row: *mut f32, a: S::V, change: *const f32, i: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        let now = S::mul_add(a, S::load_shared(row.add(i)), S::load(change.add(i)));
        S::store_shared(row.add(i), now);
    }
}

#[inline(always)]
unsafe fn affine_kernel<S: Simd>(row: *mut f32, a: f32, change: *const f32, len: usize) {
    // SAFETY: indices stay below `len`.
    unsafe {
        let factor = S::splat(a);
        blocked!(S::LANES, len, |i| affine_at::<S>(row, factor, change, i), |j| affine_at::<
            Portable,
        >(
            row, a, change, j
        ));
    }
}

dispatch! { pub(super) unsafe fn shift(row: Noted, rate: f32) = shift_kernel }
dispatch! { pub(super) unsafe fn momentum(row: Noted, lr: f32, mu: f32) = momentum_kernel }
dispatch! { pub(super) unsafe fn adagrad(row: Noted, lr: f32, eps: f32) = adagrad_kernel }
dispatch! { pub(super) unsafe fn adam(row: Noted, with: [f32; 5]) = adam_kernel }
dispatch! { pub(super) unsafe fn ftrl(row: Noted, rule: FtrlRule) = ftrl_kernel }
dispatch! { pub(super) unsafe fn ftrl_sums[E](w: *mut E, state: *mut f32, map: *const f32, dim: usize, with: (FtrlRule, *const f32)) = ftrl_sums_kernel }
dispatch! { pub(super) unsafe fn coast[E](w: *mut E, m: *mut f32, map: *const f32, dim: usize, with: [f32; 2]) = coast_kernel }
dispatch! { pub(super) unsafe fn affine(row: *mut f32, a: f32, change: *const f32, len: usize) = affine_kernel }

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::InstructionSet;
    use proptest::prelude::*;

    /// Copy, map and shared row of three vectors each, after one call of every kernel.
    fn run(set: InstructionSet, dim: usize, start: &[f32]) -> [Vec<f32>; 3] {
        let part = |index: usize| start[index * 3 * dim..][..3 * dim].to_vec();
        let [mut copy, mut map, mut shared] = [part(0), part(1), part(2)];
        let grad = &start[9 * dim..10 * dim];
        let (copy_at, map_at) = (copy.as_mut_ptr(), map.as_mut_ptr());
        let row = Noted { copy: copy_at, map: map_at, grad: grad.as_ptr(), dim };
        // SAFETY: three vectors of `dim` floats each in copy, map and shared row, one in the gradient.
        unsafe {
            shift(set, row, 0.3);
            momentum(set, row, 0.1, 0.9);
            adagrad(set, row, 0.1, 1e-3);
            adam(set, row, [0.9, 0.99, 1e-3, 0.1, 1.5]);
            let rule = FtrlRule { slowness: 2.0, beta: 0.5, l1: 0.3, l2: 0.1 };
            ftrl(set, row, rule);
            let at = shared.as_mut_ptr();
            ftrl_sums(set, at, at.add(dim), map_at, dim, (rule, std::ptr::null()));
            ftrl_sums(set, at, at.add(dim), map_at, dim, (rule, map_at.add(2 * dim)));
            coast(set, at, at.add(dim), map_at, dim, [0.5, -0.2]);
            affine(set, at.add(2 * dim), 0.7, map_at, dim);
        }
        [copy, map, shared]
    }

    proptest! {
        #[test]
        fn every_body_of_this_cpu_computes_what_the_portable_one_does(
            dim in 0_usize..70,
            start in proptest::collection::vec(0.5_f32..2.0, 700),
        ) {
            let wanted = run(InstructionSet::Portable, dim, &start);
            for set in InstructionSet::available() {
                let found = run(set, dim, &start);
                for (found, wanted) in found.iter().flatten().zip(wanted.iter().flatten()) {
                    prop_assert!((found - wanted).abs() <= 1e-5 * (1.0 + wanted.abs()), "{set:?}");
                }
            }
        }
    }
}
