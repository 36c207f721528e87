//! The element type of a row's values.
//!
//! Only `f32` exists. Row pointers and kernels have the type as a parameter, tables name it ([`ElementType`]): a narrower type is one
//! more `impl` here, one more name, and a match where a slot lends its row, which the compiler then asks for. Callers' buffers, gradients, optimizer state
//! and accumulators are `f32` whatever the element type.

use crate::simd::Simd;

/// A type that rows may hold.
pub trait Element: Copy + Send + Sync + sealed::Lanes + 'static {
    /// Its size in bytes.
    const BYTES: usize = size_of::<Self>();
    /// What tables call it.
    const TYPE: ElementType;
}

impl Element for f32 {
    const TYPE: ElementType = ElementType::F32;
}

/// The name of an element type.
///
/// Code that depends on it says `let ElementType::F32 = ..`, so that the compiler finds all of it when there is another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ElementType {
    /// IEEE 754 single precision.
    #[default]
    F32,
}

impl ElementType {
    /// The size of a value in bytes.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::F32 => f32::BYTES,
        }
    }

    /// Its name in messages, reports and checkpoints.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
        }
    }
}

#[allow(private_bounds, private_interfaces, reason = "nobody outside can name this module")]
mod sealed {
    use super::Simd;

    /// Registers of `f32` from and to shared memory of another type.
    pub trait Lanes: Sized {
        /// # Safety
        /// As [`Simd::load_shared`], for `S::LANES` values of this type.
        unsafe fn load_shared<S: Simd>(p: *const Self) -> S::V;

        /// # Safety
        /// As [`Simd::store_shared`], for `S::LANES` values of this type.
        unsafe fn store_shared<S: Simd>(p: *mut Self, v: S::V);
    }

    impl Lanes for f32 {
        #[inline(always)]
        unsafe fn load_shared<S: Simd>(p: *const Self) -> S::V {
            // SAFETY: the caller's promise.
            unsafe { S::load_shared(p) }
        }

        #[inline(always)]
        unsafe fn store_shared<S: Simd>(p: *mut Self, v: S::V) {
            // SAFETY: the caller's promise.
            unsafe { S::store_shared(p, v) }
        }
    }
}
