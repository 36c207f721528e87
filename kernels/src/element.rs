//! The element type of a row's values.
//!
//! Only `f32` exists. Kernels that touch values take the type as a parameter, so that a narrower type
//! changes this file and the loads and stores, not their callers. Optimizer state and
//! accumulators are `f32` whatever the element type.

/// A type that rows may hold.
pub trait Element: Copy + Send + Sync + sealed::Sealed + 'static {
    /// Its size in bytes.
    const BYTES: usize;
    /// Its name in messages, reports and checkpoints.
    const NAME: &'static str;
    /// The value as `f32`.
    fn to_f32(self) -> f32;
    /// The nearest value of this type.
    fn from_f32(value: f32) -> Self;
}

impl Element for f32 {
    const BYTES: usize = 4;
    const NAME: &'static str = "f32";

    fn to_f32(self) -> f32 {
        self
    }

    fn from_f32(value: f32) -> Self {
        value
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
}
