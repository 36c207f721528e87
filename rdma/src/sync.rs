//! The atomics of the rings: those of `std`, or loom's where `tests/loom_*` explores interleavings.
//!
//! Those tests compile the ring's source files as modules of their own, so the library itself always
//! has the atomics of `std`, which may lie in memory that another process maps.

#[cfg(all(loom, test))]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
#[cfg(not(all(loom, test)))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
