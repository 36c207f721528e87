//! The steps over vectors.
//!
//! # Safety
//! Of all kernels here: pointers are valid for the lengths that the names say; row pointers are shared memory,
//! the gradient is private.

use crate::element::Element;
use crate::optimizer::Optimizer;
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

/// FTRL's settings, as its formulas want them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FtrlRule {
    /// 1 / alpha.
    pub(crate) slowness: f32,
    pub(crate) beta: f32,
    pub(crate) l1: f32,
    pub(crate) l2: f32,
}

impl FtrlRule {
    /// Those of an optimizer that is FTRL.
    pub(crate) fn of(optimizer: &Optimizer) -> Option<Self> {
        match *optimizer {
            Optimizer::Ftrl { lr, beta, l1, l2 } => Some(Self { slowness: 1.0 / lr, beta, l1, l2 }),
            _ => None,
        }
    }

    /// `z` of a row without gradients whose value is `w`.
    pub(crate) fn start(&self, w: f32) -> f32 {
        let penalty = if w == 0.0 { 0.0 } else { self.l1.copysign(w) };
        -w * (self.beta * self.slowness + self.l2) - penalty
    }

    /// z, n and w after a gradient (or the sum of several) and its square (or the sum of theirs), on a row that was at
    /// `w`, or that was there when the first of several came.
    #[inline(always)]
    pub(crate) unsafe fn step<S: Simd>(
        &self,
        [z, n, w]: [S::V; 3],
        gradient: S::V,
        square: S::V,
    ) -> [S::V; 3] {
        // SAFETY: arithmetic on a CPU that has it, by the caller's promise.
        unsafe {
            let slowness = S::splat(self.slowness);
            let sum = S::add(n, square);
            let root = S::sqrt(sum);
            let sigma = S::mul(S::sub(root, S::sqrt(n)), slowness);
            let z = S::sub(S::add(z, gradient), S::mul(sigma, w));
            let inside = S::max(S::min(z, S::splat(self.l1)), S::splat(-self.l1));
            let rate = S::mul_add(S::add(S::splat(self.beta), root), slowness, S::splat(self.l2));
            [z, sum, S::div(S::sub(inside, z), rate)]
        }
    }
}

/// One register of an FTRL step at `i`; the state is `z`, then `n`.
#[inline(always)]
unsafe fn ftrl_at<S: Simd, E: Element>(
    w: *mut E,
    state: *mut f32,
    g: *const f32,
    dim: usize,
    i: usize,
    rule: FtrlRule,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let (z, n, gradient) = (state.add(i), state.add(dim + i), S::load(g.add(i)));
        let row = [S::load_shared(z), S::load_shared(n), E::load_shared::<S>(w.add(i))];
        let [z_now, n_now, w_now] = rule.step::<S>(row, gradient, S::mul(gradient, gradient));
        S::store_shared(z, z_now);
        S::store_shared(n, n_now);
        E::store_shared::<S>(w.add(i), w_now);
    }
}

#[inline(always)]
unsafe fn ftrl_kernel<S: Simd, E: Element>(
    w: *mut E,
    state: *mut f32,
    g: *const f32,
    dim: usize,
    rule: FtrlRule,
) {
    // SAFETY: indices stay below `dim`.
    unsafe {
        blocked!(S::LANES, dim, |i| ftrl_at::<S, E>(w, state, g, dim, i, rule), |j| ftrl_at::<
            Portable,
            E,
        >(
            w, state, g, dim, j, rule
        ));
    }
}

dispatch! { pub(crate) unsafe fn ftrl[E](w: *mut E, state: *mut f32, g: *const f32, dim: usize, rule: FtrlRule) = ftrl_kernel }
dispatch! { pub(crate) unsafe fn momentum[E](w: *mut E, m: *mut f32, g: *const f32, len: usize, lr: f32, mu: f32) = momentum_kernel }
dispatch! { pub(crate) unsafe fn adagrad[E](w: *mut E, s: *mut f32, g: *const f32, len: usize, lr: f32, eps: f32) = adagrad_kernel }
dispatch! { pub(crate) unsafe fn adam[E](w: *mut E, state: *mut f32, g: *const f32, dim: usize, with: [f32; 5]) = adam_kernel }
