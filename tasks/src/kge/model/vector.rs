//! Arithmetic on rows, in loops that the compiler turns into vector code.

use num_traits::Float;

/// The dot product of two rows.
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
pub(crate) fn sum<T: Float>(count: usize, term: impl Fn(usize) -> T) -> T {
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
