//! The sampled softmax's exponentials: `exp` of a block of scores in vector registers.
//!
//! With shared negatives a step takes `2 B N` exponentials; one at a time they would cost more than
//! the products that made the scores. [`exp_sum`] is Cody-Waite range reduction and a polynomial of degree 6 on
//! `[-ln 2 / 2, ln 2 / 2]`, relative error below 2e-7.

use crate::rowcopy::blocked;
use crate::simd::{Portable, Simd, dispatch, instruction_set};

const LN_2_HIGH: f32 = 0.693_359_4;
const LN_2_LOW: f32 = -2.121_944_4e-4;

/// Below this the result is a denormal number; it becomes the smallest normal one's neighbourhood, which a sum with a 1 in it
/// does not see.
const EXPONENT_MIN: f32 = -87.0;

/// Taylor coefficients 1/n! from n = 6 down to 0.
const POLYNOMIAL: [f32; 7] = [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];

/// Replaces each score `x` by `exp(x + shift)` and returns their sum. `shift` is usually minus the largest score, so that
/// nothing overflows: arguments must not be above 88.
#[must_use]
pub fn exp_sum(scores: &mut [f32], shift: f32) -> f32 {
    // SAFETY: pointer and length are a slice's.
    unsafe { exp_sum_all(instruction_set(), scores.as_mut_ptr(), scores.len(), shift) }
}

/// The largest score, or minus infinity if there is none.
#[must_use]
pub fn max(scores: &[f32]) -> f32 {
    // SAFETY: pointer and length are a slice's.
    unsafe { max_all(instruction_set(), scores.as_ptr(), scores.len()) }
}

/// `scores *= factor`.
pub fn scale(scores: &mut [f32], factor: f32) {
    for score in scores {
        *score *= factor;
    }
}

#[inline(always)]
unsafe fn exp<S: Simd>(x: S::V) -> S::V {
    // SAFETY: registers only.
    unsafe {
        let x = S::max(x, S::splat(EXPONENT_MIN));
        let n = S::round(S::mul(x, S::splat(std::f32::consts::LOG2_E)));
        let r = S::sub(x, S::mul(n, S::splat(LN_2_HIGH)));
        let r = S::sub(r, S::mul(n, S::splat(LN_2_LOW)));
        let mut p = S::splat(POLYNOMIAL[0]);
        for &coefficient in &POLYNOMIAL[1..] {
            p = S::mul_add(p, r, S::splat(coefficient));
        }
        S::mul(p, S::exp2_int(n))
    }
}

/// # Safety
/// `scores` is valid for `len` floats.
#[inline(always)]
unsafe fn exp_sum_kernel<S: Simd>(scores: *mut f32, len: usize, shift: f32) -> f32 {
    // SAFETY: indices stay below `len`.
    unsafe {
        let offset = S::splat(shift);
        let mut sum = S::splat(0.0);
        let mut rest = 0.0;
        blocked!(
            S::LANES,
            len,
            |i| {
                let e = exp::<S>(S::add(S::load(scores.add(i)), offset));
                S::store(scores.add(i), e);
                sum = S::add(sum, e);
            },
            |j| {
                let e = exp::<Portable>(*scores.add(j) + shift);
                *scores.add(j) = e;
                rest += e;
            }
        );
        S::sum(sum) + rest
    }
}

/// # Safety
/// `scores` is valid for `len` floats.
#[inline(always)]
unsafe fn max_kernel<S: Simd>(scores: *const f32, len: usize) -> f32 {
    // SAFETY: indices stay below `len`.
    unsafe {
        let mut most = S::splat(f32::NEG_INFINITY);
        let mut rest = f32::NEG_INFINITY;
        blocked!(S::LANES, len, |i| most = S::max(most, S::load(scores.add(i))), |j| rest =
            rest.max(*scores.add(j)));
        S::max_lane(most).max(rest)
    }
}

dispatch! { unsafe fn exp_sum_all(scores: *mut f32, len: usize, shift: f32) -> f32 = exp_sum_kernel }
dispatch! { unsafe fn max_all(scores: *const f32, len: usize) -> f32 = max_kernel }

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::InstructionSet;

    #[test]
    fn exponentials_are_those_of_f64_to_a_few_ulp_on_every_body() {
        let arguments: Vec<f32> =
            (-87_000..=80_000_i32).step_by(7).map(|i| i as f32 / 1000.0).collect();
        for set in InstructionSet::available() {
            let mut found = arguments.clone();
            // SAFETY: pointer and length are the vector's.
            unsafe { exp_sum_all(set, found.as_mut_ptr(), found.len(), 0.0) };
            for (&x, &e) in arguments.iter().zip(&found) {
                let wanted = f64::from(x).exp();
                let error = (f64::from(e) - wanted).abs() / wanted;
                assert!(error < 3e-7, "{set:?}: exp({x}) = {e}, off by {error:e}");
            }
        }
    }

    #[test]
    fn sums_and_maxima_cover_every_length_and_far_negative_scores_vanish() {
        for len in 0..70_usize {
            let mut scores: Vec<f32> = (0..len).map(|i| -((i % 7) as f32)).collect();
            let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(max(&scores), most);
            let wanted: f32 = scores.iter().map(|x| (x + 1.0).exp()).sum();
            let sum = exp_sum(&mut scores, 1.0);
            assert!((sum - wanted).abs() <= 1e-5 * (1.0 + wanted));
        }
        let mut scores = [0.0, -1e30, f32::NEG_INFINITY];
        assert!((exp_sum(&mut scores, 0.0) - 1.0).abs() < 1e-6);
    }
}
