//! The one place that chooses between the standard atomics and loom's.

#[cfg(loom)]
pub(crate) use loom::{
    hint::spin_loop,
    sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence},
    sync::{Mutex, MutexGuard},
    thread::yield_now,
};
#[cfg(not(loom))]
pub(crate) use std::{
    hint::spin_loop,
    sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence},
    sync::{Mutex, MutexGuard},
    thread::yield_now,
};

/// Between accesses that are all sequentially consistent: nothing. Loom takes those for acquire and release, and knows only fences.
#[inline(always)]
pub(crate) fn sequentially() {
    #[cfg(loom)]
    fence(Ordering::SeqCst);
}
