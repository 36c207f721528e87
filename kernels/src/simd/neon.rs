//! NEON, which every aarch64 CPU has.

use std::arch::aarch64::*;
use std::arch::asm;

use super::Simd;

/// 4 lanes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Neon;

/// The methods that are one intrinsic each, or a few.
macro_rules! methods {
    ($($name:ident($($arg:ident: $ty:ty),*) -> $ret:ty = $body:expr;)*) => {
        $(
            #[inline(always)]
            unsafe fn $name($($arg: $ty),*) -> $ret {
                // SAFETY: pointers are valid by the trait's contract.
                unsafe { $body }
            }
        )*
    };
}

impl Simd for Neon {
    type V = float32x4_t;
    const LANES: usize = 4;

    #[inline(always)]
    unsafe fn load_shared(p: *const f32) -> float32x4_t {
        let v: float32x4_t;
        // SAFETY: reads 16 bytes at `p`, valid by the trait's contract; no flags, no stack.
        unsafe {
            asm!("ldr {v:q}, [{p}]", v = out(vreg) v, p = in(reg) p,
                options(nostack, preserves_flags, readonly));
        }
        v
    }

    #[inline(always)]
    unsafe fn store_shared(p: *mut f32, v: float32x4_t) {
        // SAFETY: writes 16 bytes at `p`, valid by the trait's contract; no flags, no stack.
        unsafe {
            asm!("str {v:q}, [{p}]", v = in(vreg) v, p = in(reg) p,
                options(nostack, preserves_flags));
        }
    }

    methods! {
        load(p: *const f32) -> float32x4_t = vld1q_f32(p);
        store(p: *mut f32, v: float32x4_t) -> () = vst1q_f32(p, v);
        splat(x: f32) -> float32x4_t = vdupq_n_f32(x);
        add(a: float32x4_t, b: float32x4_t) -> float32x4_t = vaddq_f32(a, b);
        sub(a: float32x4_t, b: float32x4_t) -> float32x4_t = vsubq_f32(a, b);
        mul(a: float32x4_t, b: float32x4_t) -> float32x4_t = vmulq_f32(a, b);
        div(a: float32x4_t, b: float32x4_t) -> float32x4_t = vdivq_f32(a, b);
        mul_add(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t = vfmaq_f32(c, a, b);
        sqrt(a: float32x4_t) -> float32x4_t = vsqrtq_f32(a);
        min(a: float32x4_t, b: float32x4_t) -> float32x4_t = vminq_f32(a, b);
        max(a: float32x4_t, b: float32x4_t) -> float32x4_t = vmaxq_f32(a, b);
        sum(a: float32x4_t) -> f32 = vaddvq_f32(a);
    }
}
