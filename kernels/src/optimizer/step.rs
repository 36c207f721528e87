//! The steps over vectors.
//!
//! # Safety
//! Of all kernels here: pointers are valid for the lengths that the names say; row pointers are shared memory,
//! the gradient is private.

use crate::element::Element;
use crate::rowcopy::blocked;
use crate::simd::{Portable, Simd, dispatch};

/// Adam's rate and root factor of step `steps`: `w -= rate * m / (sqrt(v) * root + eps)` with
/// `rate = lr / (1 - beta1^t)` and `root = 1 / sqrt(1 - beta2^t)`.
#[must_use]
pub fn adam_correction(lr: f32, beta1: f32, beta2: f32, steps: u32) -> (f32, f32) {
    // In f64: 1 - beta2^t loses all digits in f32 for the first steps.
    let power = |beta: f32| f64::from(beta).powf(f64::from(steps));
    let rate = f64::from(lr) / (1.0 - power(beta1));
    let root = 1.0 / (1.0 - power(beta2)).sqrt();
    #[allow(clippy::cast_possible_truncation, reason = "rounding to the row's precision is meant")]
    (rate as f32, root as f32)
}

/// The mean of the squares of `grad`; 0 for an empty one.
pub(crate) fn mean_square(grad: &[f32]) -> f32 {
    if grad.is_empty() {
        return 0.0;
    }
    // Several sums: one would make every addition wait for the one before. The order is the same on all CPUs.
    let mut sums = [0.0_f64; 8];
    let (blocks, rest) = grad.as_chunks::<8>();
    for block in blocks {
        for (sum, &g) in sums.iter_mut().zip(block) {
            *sum += f64::from(g) * f64::from(g);
        }
    }
    let rest: f64 = rest.iter().map(|&g| f64::from(g) * f64::from(g)).sum();
    let sum = sums.iter().sum::<f64>() + rest;
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "a mean in f32"
    )]
    let mean = (sum / grad.len() as f64) as f32;
    mean
}

/// One register of a momentum step at `i`.
#[inline(always)]
unsafe fn momentum_at<S: Simd, E: Element>(
    w: *mut E,
    m: *mut f32,
    g: *const f32,
    i: usize,
    lr: S::V,
    mu: S::V,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let velocity = S::mul_add(mu, S::load_shared(m.add(i)), S::load(g.add(i)));
        S::store_shared(m.add(i), velocity);
        E::store_shared::<S>(w.add(i), S::sub(E::load_shared::<S>(w.add(i)), S::mul(lr, velocity)));
    }
}

#[inline(always)]
unsafe fn momentum_kernel<S: Simd, E: Element>(
    w: *mut E,
    m: *mut f32,
    g: *const f32,
    len: usize,
    lr: f32,
    mu: f32,
) {
    // SAFETY: indices stay below `len`.
    unsafe {
        let (rate, keep) = (S::splat(lr), S::splat(mu));
        blocked!(
            S::LANES,
            len,
            |i| momentum_at::<S, E>(w, m, g, i, rate, keep),
            |j| momentum_at::<Portable, E>(w, m, g, j, lr, mu)
        );
    }
}

/// One register of an Adagrad step at `i`.
#[inline(always)]
unsafe fn adagrad_at<S: Simd, E: Element>(
    w: *mut E,
    s: *mut f32,
    g: *const f32,
    i: usize,
    lr: S::V,
    eps: S::V,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let gradient = S::load(g.add(i));
        let sum = S::mul_add(gradient, gradient, S::load_shared(s.add(i)));
        S::store_shared(s.add(i), sum);
        let step = S::div(S::mul(lr, gradient), S::add(S::sqrt(sum), eps));
        E::store_shared::<S>(w.add(i), S::sub(E::load_shared::<S>(w.add(i)), step));
    }
}

#[inline(always)]
unsafe fn adagrad_kernel<S: Simd, E: Element>(
    w: *mut E,
    s: *mut f32,
    g: *const f32,
    len: usize,
    lr: f32,
    eps: f32,
) {
    // SAFETY: indices stay below `len`.
    unsafe {
        let (rate, floor) = (S::splat(lr), S::splat(eps));
        blocked!(S::LANES, len, |i| adagrad_at::<S, E>(w, s, g, i, rate, floor), |j| adagrad_at::<
            Portable,
            E,
        >(
            w, s, g, j, lr, eps
        ));
    }
}

/// One register of an Adam step at `i`; the state is `m`, then `v`.
#[inline(always)]
unsafe fn adam_at<S: Simd, E: Element>(
    w: *mut E,
    state: *mut f32,
    g: *const f32,
    dim: usize,
    i: usize,
    with: &[S::V; 7],
) {
    let [beta1, beta2, rest1, rest2, eps, rate, root] = *with;
    // SAFETY: the caller's promise.
    unsafe {
        let (m, v) = (state.add(i), state.add(dim + i));
        let gradient = S::load(g.add(i));
        let first = S::mul_add(beta1, S::load_shared(m), S::mul(rest1, gradient));
        let second =
            S::mul_add(beta2, S::load_shared(v), S::mul(rest2, S::mul(gradient, gradient)));
        S::store_shared(m, first);
        S::store_shared(v, second);
        let step = S::div(S::mul(rate, first), S::mul_add(S::sqrt(second), root, eps));
        E::store_shared::<S>(w.add(i), S::sub(E::load_shared::<S>(w.add(i)), step));
    }
}

/// `with` is beta1, beta2, eps, rate, root.
#[inline(always)]
unsafe fn adam_kernel<S: Simd, E: Element>(
    w: *mut E,
    state: *mut f32,
    g: *const f32,
    dim: usize,
    with: [f32; 5],
) {
    let [beta1, beta2, eps, rate, root] = with;
    let scalars = [beta1, beta2, 1.0 - beta1, 1.0 - beta2, eps, rate, root];
    // SAFETY: indices stay below `dim`.
    unsafe {
        let mut vectors = [S::splat(0.0); 7];
        for (vector, &scalar) in vectors.iter_mut().zip(&scalars) {
            *vector = S::splat(scalar);
        }
        blocked!(S::LANES, dim, |i| adam_at::<S, E>(w, state, g, dim, i, &vectors), |j| adam_at::<
            Portable,
            E,
        >(
            w, state, g, dim, j, &scalars
        ));
    }
}

dispatch! { pub(crate) unsafe fn momentum[E](w: *mut E, m: *mut f32, g: *const f32, len: usize, lr: f32, mu: f32) = momentum_kernel }
dispatch! { pub(crate) unsafe fn adagrad[E](w: *mut E, s: *mut f32, g: *const f32, len: usize, lr: f32, eps: f32) = adagrad_kernel }
dispatch! { pub(crate) unsafe fn adam[E](w: *mut E, state: *mut f32, g: *const f32, dim: usize, with: [f32; 5]) = adam_kernel }
