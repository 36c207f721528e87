//! AVX2 and AVX-512.

use std::arch::asm;
use std::arch::x86_64::*;

use super::Simd;

/// 8 lanes; needs `avx2` and `fma`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2;

/// 16 lanes; needs `avx512f` (and `avx2`, `fma`, which every such CPU has).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512;

#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn load_shared_256(p: *const f32) -> __m256 {
    let v: __m256;
    // SAFETY: reads 32 bytes at `p`, valid by the caller's promise; no flags, no stack.
    unsafe {
        asm!("vmovups {v}, [{p}]", v = out(ymm_reg) v, p = in(reg) p,
            options(nostack, preserves_flags, readonly));
    }
    v
}

#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn store_shared_256(p: *mut f32, v: __m256) {
    // SAFETY: writes 32 bytes at `p`, valid by the caller's promise; no flags, no stack.
    unsafe {
        asm!("vmovups [{p}], {v}", v = in(ymm_reg) v, p = in(reg) p,
            options(nostack, preserves_flags));
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn load_shared_512(p: *const f32) -> __m512 {
    let v: __m512;
    // SAFETY: reads 64 bytes at `p`, valid by the caller's promise; no flags, no stack.
    unsafe {
        asm!("vmovups {v}, [{p}]", v = out(zmm_reg) v, p = in(reg) p,
            options(nostack, preserves_flags, readonly));
    }
    v
}

#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn store_shared_512(p: *mut f32, v: __m512) {
    // SAFETY: writes 64 bytes at `p`, valid by the caller's promise; no flags, no stack.
    unsafe {
        asm!("vmovups [{p}], {v}", v = in(zmm_reg) v, p = in(reg) p,
            options(nostack, preserves_flags));
    }
}

/// The methods that are one intrinsic each, or a few.
macro_rules! methods {
    ($($name:ident($($arg:ident: $ty:ty),*) -> $ret:ty = $body:expr;)*) => {
        $(
            #[inline(always)]
            unsafe fn $name($($arg: $ty),*) -> $ret {
                // SAFETY: the CPU has the instructions and pointers are valid, by the trait's contract.
                unsafe { $body }
            }
        )*
    };
}

impl Simd for Avx2 {
    type V = __m256;
    const LANES: usize = 8;

    methods! {
        load(p: *const f32) -> __m256 = _mm256_loadu_ps(p);
        store(p: *mut f32, v: __m256) -> () = _mm256_storeu_ps(p, v);
        load_shared(p: *const f32) -> __m256 = load_shared_256(p);
        store_shared(p: *mut f32, v: __m256) -> () = store_shared_256(p, v);
        splat(x: f32) -> __m256 = _mm256_set1_ps(x);
        add(a: __m256, b: __m256) -> __m256 = _mm256_add_ps(a, b);
        sub(a: __m256, b: __m256) -> __m256 = _mm256_sub_ps(a, b);
        mul(a: __m256, b: __m256) -> __m256 = _mm256_mul_ps(a, b);
        div(a: __m256, b: __m256) -> __m256 = _mm256_div_ps(a, b);
        mul_add(a: __m256, b: __m256, c: __m256) -> __m256 = _mm256_fmadd_ps(a, b, c);
        sqrt(a: __m256) -> __m256 = _mm256_sqrt_ps(a);
        min(a: __m256, b: __m256) -> __m256 = _mm256_min_ps(a, b);
        max(a: __m256, b: __m256) -> __m256 = _mm256_max_ps(a, b);
        sum(a: __m256) -> f32 = {
            let half = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            let quarter = _mm_add_ps(half, _mm_movehl_ps(half, half));
            _mm_cvtss_f32(_mm_add_ss(quarter, _mm_shuffle_ps::<1>(quarter, quarter)))
        };
    }
}

impl Simd for Avx512 {
    type V = __m512;
    const LANES: usize = 16;

    methods! {
        load(p: *const f32) -> __m512 = _mm512_loadu_ps(p);
        store(p: *mut f32, v: __m512) -> () = _mm512_storeu_ps(p, v);
        load_shared(p: *const f32) -> __m512 = load_shared_512(p);
        store_shared(p: *mut f32, v: __m512) -> () = store_shared_512(p, v);
        splat(x: f32) -> __m512 = _mm512_set1_ps(x);
        add(a: __m512, b: __m512) -> __m512 = _mm512_add_ps(a, b);
        sub(a: __m512, b: __m512) -> __m512 = _mm512_sub_ps(a, b);
        mul(a: __m512, b: __m512) -> __m512 = _mm512_mul_ps(a, b);
        div(a: __m512, b: __m512) -> __m512 = _mm512_div_ps(a, b);
        mul_add(a: __m512, b: __m512, c: __m512) -> __m512 = _mm512_fmadd_ps(a, b, c);
        sqrt(a: __m512) -> __m512 = _mm512_sqrt_ps(a);
        min(a: __m512, b: __m512) -> __m512 = _mm512_min_ps(a, b);
        max(a: __m512, b: __m512) -> __m512 = _mm512_max_ps(a, b);
        sum(a: __m512) -> f32 = _mm512_reduce_add_ps(a);
    }
}
