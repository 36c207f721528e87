//! A list of chunks that grows while others read it.
//!
//! The list has a place for every chunk it can ever have. A new chunk's base is stored with Release
//! after the caller has filled in what readers expect; readers load it with Acquire and hold no lock.

use std::ptr::{self, NonNull};

use thiserror::Error;

use crate::memory::ChunkMemory;
use crate::sync::{AtomicPtr, AtomicUsize, Mutex, Ordering};

/// Why a chunk was not taken.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum ChunkError {
    /// The list was made for this many.
    #[error("all {limit} chunks of this table are in use: raise its memory cap")]
    Full {
        /// The list's limit.
        limit: usize,
    },
    /// All chunks of a table have the same size.
    #[error("a chunk of {bytes} bytes where {wanted} are needed")]
    WrongSize {
        /// What came.
        bytes: usize,
        /// What the table's chunks have.
        wanted: usize,
    },
}

/// Chunks of one size, published one by one and kept until the list is dropped.
pub(crate) struct ChunkList {
    bases: Box<[AtomicPtr<u8>]>,
    published: AtomicUsize,
    chunk_bytes: usize,
    kept: Mutex<Vec<ChunkMemory>>,
}

impl ChunkList {
    pub(crate) fn new(chunk_bytes: usize, limit: usize) -> Self {
        Self {
            bases: (0..limit).map(|_| AtomicPtr::new(ptr::null_mut())).collect(),
            published: AtomicUsize::new(0),
            chunk_bytes,
            kept: Mutex::new(Vec::new()),
        }
    }

    /// Publishes a chunk and gives its place in the list.
    pub(crate) fn publish(&self, memory: ChunkMemory) -> Result<usize, ChunkError> {
        if memory.bytes() < self.chunk_bytes {
            return Err(ChunkError::WrongSize { bytes: memory.bytes(), wanted: self.chunk_bytes });
        }
        let mut kept = self.kept.lock().expect("no holder of this lock panics");
        let at = kept.len();
        let Some(place) = self.bases.get(at) else {
            return Err(ChunkError::Full { limit: self.bases.len() });
        };
        let base = memory.base();
        kept.push(memory);
        place.store(base.as_ptr(), Ordering::Release);
        self.published.store(at + 1, Ordering::Release);
        Ok(at)
    }

    pub(crate) fn len(&self) -> usize {
        self.published.load(Ordering::Acquire)
    }

    pub(crate) fn limit(&self) -> usize {
        self.bases.len()
    }

    /// The first byte of a chunk; valid as long as the list.
    #[inline]
    pub(crate) fn base(&self, chunk: usize) -> Option<NonNull<u8>> {
        NonNull::new(self.bases.get(chunk)?.load(Ordering::Acquire))
    }

    pub(crate) fn memory(&self, chunk: usize) -> Option<ChunkMemory> {
        self.kept.lock().expect("no holder of this lock panics").get(chunk).cloned()
    }
}
