//! Vector registers behind one trait, chosen at run time.
//!
//! A kernel is written once, generic over `Simd`, and compiled once per instruction set by the
//! `dispatch` macro. There are two kinds of memory:
//!
//! - *private*: ordinary slices, ordinary loads;
//! - *shared*: row bytes that other threads or processes may write or read at the same time. The compiler must not
//!   assume that such memory stays the same between two loads, nor invent or split accesses into ones
//!   it can reorder with those assumptions. Shared loads and stores are therefore inline assembly (opaque to the
//!   optimiser, on x86-64 and aarch64 as good as relaxed atomic accesses of each aligned 4-byte word) or,
//!   in the portable body, relaxed atomic words.
//!
//! `STERNA_SIMD=portable|avx2|avx512|neon` forces a body; a name that this CPU lacks is ignored.

#[cfg(all(target_arch = "aarch64", not(loom), not(miri)))]
mod neon;
mod portable;
#[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
mod x86;

use std::sync::OnceLock;

#[cfg(all(target_arch = "aarch64", not(loom), not(miri)))]
pub(crate) use neon::Neon;
pub(crate) use portable::Portable;
#[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
pub(crate) use x86::{Avx2, Avx512};

/// A set of vector registers.
///
/// # Safety
/// The methods may only be called on a CPU that has the instructions; pointers must be valid for
/// `LANES` floats, with no alignment beyond 4 bytes.
pub(crate) trait Simd: Copy {
    /// A register of `LANES` floats.
    type V: Copy;
    /// Floats in a register.
    const LANES: usize;

    unsafe fn load(p: *const f32) -> Self::V;
    unsafe fn store(p: *mut f32, v: Self::V);
    unsafe fn load_shared(p: *const f32) -> Self::V;
    unsafe fn store_shared(p: *mut f32, v: Self::V);
    unsafe fn splat(x: f32) -> Self::V;
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    /// `a * b + c`, rounded once where the CPU can.
    unsafe fn mul_add(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    unsafe fn sqrt(a: Self::V) -> Self::V;
    /// The smaller and the greater of two numbers, of each pair.
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sum(a: Self::V) -> f32;
}

/// An instruction set that this build has a body for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstructionSet {
    /// Relaxed words and scalar arithmetic.
    Portable,
    /// AVX2 and FMA.
    #[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
    Avx2,
    /// AVX-512 F.
    #[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
    Avx512,
    /// NEON.
    #[cfg(all(target_arch = "aarch64", not(loom), not(miri)))]
    Neon,
}

impl InstructionSet {
    /// Those that this CPU has, best last.
    #[must_use]
    pub fn available() -> Vec<Self> {
        #[allow(unused_mut, reason = "other architectures push nothing")]
        let mut sets = vec![Self::Portable];
        #[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                sets.push(Self::Avx2);
            }
            if is_x86_feature_detected!("avx512f") {
                sets.push(Self::Avx512);
            }
        }
        #[cfg(all(target_arch = "aarch64", not(loom), not(miri)))]
        sets.push(Self::Neon);
        sets
    }

    /// Its name in `STERNA_SIMD` and reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            #[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
            Self::Avx2 => "avx2",
            #[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
            Self::Avx512 => "avx512",
            #[cfg(all(target_arch = "aarch64", not(loom), not(miri)))]
            Self::Neon => "neon",
        }
    }
}

/// The instruction set in use, decided at the first call.
#[must_use]
#[inline]
pub fn instruction_set() -> InstructionSet {
    static CHOSEN: OnceLock<InstructionSet> = OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let sets = InstructionSet::available();
        let forced = std::env::var("STERNA_SIMD").ok();
        let chosen = sets.iter().find(|set| Some(set.name()) == forced.as_deref());
        *chosen.or(sets.last()).expect("the portable body is always there")
    })
}

/// Makes `fn $name(set, args..)` that runs the generic kernel `$kernel::<S>` compiled for `set`; `$name[E]` has the element type as
/// a further parameter, `$kernel::<S, E>`.
macro_rules! dispatch {
    ($(#[$doc:meta])* $vis:vis unsafe fn $name:ident$([$e:ident])?($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? = $kernel:ident) => {
        $(#[$doc])*
        #[inline]
        $vis unsafe fn $name$(<$e: $crate::Element>)?(set: $crate::simd::InstructionSet, $($arg: $ty),*) $(-> $ret)? {
            #[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
            #[target_feature(enable = "avx2,fma")]
            unsafe fn avx2$(<$e: $crate::Element>)?($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: handed on from the caller; the features are enabled here.
                unsafe { $kernel::<$crate::simd::Avx2$(, $e)?>($($arg),*) }
            }
            #[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
            #[target_feature(enable = "avx512f,avx2,fma")]
            unsafe fn avx512$(<$e: $crate::Element>)?($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: handed on from the caller; the features are enabled here.
                unsafe { $kernel::<$crate::simd::Avx512$(, $e)?>($($arg),*) }
            }
            // SAFETY: pointers are the caller's promise; an `InstructionSet` other than Portable is
            // only made after the CPU was asked for its features.
            unsafe {
                match set {
                    $crate::simd::InstructionSet::Portable => {
                        $kernel::<$crate::simd::Portable$(, $e)?>($($arg),*)
                    }
                    #[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
                    $crate::simd::InstructionSet::Avx2 => avx2($($arg),*),
                    #[cfg(all(target_arch = "x86_64", not(loom), not(miri)))]
                    $crate::simd::InstructionSet::Avx512 => avx512($($arg),*),
                    #[cfg(all(target_arch = "aarch64", not(loom), not(miri)))]
                    $crate::simd::InstructionSet::Neon => $kernel::<$crate::simd::Neon$(, $e)?>($($arg),*),
                }
            }
        }
    };
}
pub(crate) use dispatch;
