//! Chunks of memory that the caller allocated and registered, and the words in them.
//!
//! Peers read this memory one-sidedly and other threads write it at any time, so no reference to its
//! content is ever made but to atomic words; rows are touched by [`crate::lanes`] alone. Under loom a
//! chunk is a list of loom's words, one for every eight bytes, so that models see each access.

use std::any::Any;
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

use crate::sync::AtomicU64;

/// Memory for slots or directory words, kept alive by whatever owns the mapping.
#[derive(Clone)]
pub struct ChunkMemory {
    base: NonNull<u8>,
    bytes: usize,
    keep: Arc<dyn Any + Send + Sync>,
}

// SAFETY: plain memory owned by `keep`, which is itself Send; accesses go by the rules of `lanes`.
unsafe impl Send for ChunkMemory {}
// SAFETY: as above; the methods only hand out the pointer.
unsafe impl Sync for ChunkMemory {}

impl ChunkMemory {
    /// Wraps a mapping.
    ///
    /// # Safety
    /// `base` must point to `bytes` zeroed, readable and writable bytes, aligned to 64, that stay
    /// valid while `keep` lives and that nobody refers to as Rust values. Under loom use
    /// [`ChunkMemory::heap`].
    #[must_use]
    pub unsafe fn new(base: NonNull<u8>, bytes: usize, keep: Arc<dyn Any + Send + Sync>) -> Self {
        assert!(base.as_ptr().addr().is_multiple_of(64), "a chunk starts at a cache line");
        Self { base, bytes, keep }
    }

    /// Zeroed private memory, for tests, models and benchmarks.
    #[must_use]
    pub fn heap(bytes: usize) -> Self {
        let keep = Arc::new(heap::Block::new(bytes));
        Self { base: keep.base(), bytes, keep }
    }

    /// First byte.
    #[must_use]
    pub fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Size in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What keeps the memory alive, for the caller that gave it.
    #[must_use]
    pub fn keep(&self) -> &Arc<dyn Any + Send + Sync> {
        &self.keep
    }
}

impl fmt::Debug for ChunkMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChunkMemory")
            .field("base", &self.base)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

/// The place at a byte offset, a multiple of 8, behind a place in a chunk.
///
/// # Safety
/// Both must lie in the same chunk.
#[inline]
pub(crate) unsafe fn advance(start: NonNull<u8>, offset: usize) -> NonNull<u8> {
    let word_bytes = size_of::<AtomicU64>();
    // SAFETY: inside the chunk; under loom words are larger than eight bytes.
    unsafe { start.add(offset / 8 * word_bytes) }
}

/// The word at a byte offset behind a place in a chunk.
///
/// # Safety
/// The word must lie in the chunk, which lives for `'a`; `offset` must be a multiple of 8, and these
/// eight bytes only be accessed as an atomic word.
#[inline]
pub(crate) unsafe fn word<'a>(start: NonNull<u8>, offset: usize) -> &'a AtomicU64 {
    debug_assert!(offset.is_multiple_of(8));
    // SAFETY: upheld by the caller.
    let at = unsafe { advance(start, offset) };
    #[cfg(not(loom))]
    // SAFETY: upheld by the caller; chunks are aligned to 64, so the word is aligned.
    unsafe {
        AtomicU64::from_ptr(at.as_ptr().cast())
    }
    #[cfg(loom)]
    // SAFETY: under loom a chunk is an array of these words, one for every eight bytes.
    unsafe {
        at.cast::<AtomicU64>().as_ref()
    }
}

#[cfg(not(loom))]
mod heap {
    use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
    use std::ptr::NonNull;

    /// Zeroed memory aligned to a huge page if it is as large as one.
    pub(super) struct Block {
        base: NonNull<u8>,
        layout: Layout,
    }

    // SAFETY: owns plain memory and never reads it.
    unsafe impl Send for Block {}
    // SAFETY: as above.
    unsafe impl Sync for Block {}

    impl Block {
        pub(super) fn new(bytes: usize) -> Self {
            const HUGE_PAGE_BYTES: usize = 2 << 20;
            let align = if bytes >= HUGE_PAGE_BYTES { HUGE_PAGE_BYTES } else { 64 };
            let layout = Layout::from_size_align(bytes.max(64), align).expect("a size in range");
            // SAFETY: the layout is not empty.
            let base = unsafe { alloc_zeroed(layout) };
            let Some(base) = NonNull::new(base) else { handle_alloc_error(layout) };
            Self { base, layout }
        }

        pub(super) fn base(&self) -> NonNull<u8> {
            self.base
        }
    }

    impl Drop for Block {
        fn drop(&mut self) {
            // SAFETY: allocated in `new` with this layout, freed once.
            unsafe { dealloc(self.base.as_ptr(), self.layout) }
        }
    }
}

#[cfg(loom)]
mod heap {
    use std::ptr::NonNull;

    use loom::sync::atomic::AtomicU64;

    pub(super) struct Block(Box<[AtomicU64]>);

    impl Block {
        pub(super) fn new(bytes: usize) -> Self {
            Self((0..bytes.div_ceil(8)).map(|_| AtomicU64::new(0)).collect())
        }

        pub(super) fn base(&self) -> NonNull<u8> {
            NonNull::from(&*self.0).cast()
        }
    }
}
