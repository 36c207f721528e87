//! One lane, plain arithmetic, relaxed atomic words for shared memory: every architecture, loom and Miri. Kernels
//! also use it for the last few elements after the whole registers.

use std::sync::atomic::{AtomicU32, Ordering};

use super::Simd;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Portable;

// SAFETY notes: each method's pointer is valid for one aligned float by the trait's contract.
impl Simd for Portable {
    type V = f32;
    const LANES: usize = 1;

    #[inline(always)]
    unsafe fn load(p: *const f32) -> f32 {
        // SAFETY: valid by the trait's contract.
        unsafe { *p }
    }

    #[inline(always)]
    unsafe fn store(p: *mut f32, v: f32) {
        // SAFETY: valid by the trait's contract.
        unsafe { *p = v };
    }

    #[inline(always)]
    unsafe fn load_shared(p: *const f32) -> f32 {
        // SAFETY: valid and aligned by the trait's contract; all who touch shared memory do so by
        // atomic words or by assembly that amounts to them.
        let word = unsafe { AtomicU32::from_ptr(p.cast_mut().cast()) };
        f32::from_bits(word.load(Ordering::Relaxed))
    }

    #[inline(always)]
    unsafe fn store_shared(p: *mut f32, v: f32) {
        // SAFETY: as for the load.
        let word = unsafe { AtomicU32::from_ptr(p.cast()) };
        word.store(v.to_bits(), Ordering::Relaxed);
    }

    #[inline(always)]
    unsafe fn splat(x: f32) -> f32 {
        x
    }

    #[inline(always)]
    unsafe fn add(a: f32, b: f32) -> f32 {
        a + b
    }

    #[inline(always)]
    unsafe fn sub(a: f32, b: f32) -> f32 {
        a - b
    }

    #[inline(always)]
    unsafe fn mul(a: f32, b: f32) -> f32 {
        a * b
    }

    #[inline(always)]
    unsafe fn div(a: f32, b: f32) -> f32 {
        a / b
    }

    #[inline(always)]
    unsafe fn mul_add(a: f32, b: f32, c: f32) -> f32 {
        a * b + c
    }

    #[inline(always)]
    unsafe fn sqrt(a: f32) -> f32 {
        a.sqrt()
    }

    #[inline(always)]
    unsafe fn min(a: f32, b: f32) -> f32 {
        a.min(b)
    }

    #[inline(always)]
    unsafe fn max(a: f32, b: f32) -> f32 {
        a.max(b)
    }

    #[inline(always)]
    unsafe fn sum(a: f32) -> f32 {
        a
    }
}
