//! Private blocks for updates that have not reached the owner: accumulators and open flushes.
//!
//! Every table has a pool of blocks of its own size; all pools of a node share one budget, which is
//! part of the memory cap. A block is taken at the first push to a clean key and given back when its
//! updates are in the main copy. An empty budget is a value that makes the push wait, running engine
//! steps; nothing is ever allocated beyond it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use thiserror::Error;

use crate::sync::Mutex;

/// A limit was met. The caller lets the engine work and tries again.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Full {
    /// No entry for another foreign key: all are pinned.
    #[error("all {limit} entries for keys of other nodes are in use")]
    Entries {
        /// The table's limit.
        limit: usize,
    },
    /// No memory for another accumulator.
    #[error("updates under way take all {limit_bytes} bytes of their budget")]
    Blocks {
        /// The budget.
        limit_bytes: usize,
    },
}

/// Memory that the pools of all tables of a node share, in bytes.
#[derive(Debug)]
pub struct Budget {
    limit_bytes: usize,
    used_bytes: AtomicUsize,
    used_bytes_max: AtomicUsize,
    refused: AtomicU64,
}

impl Budget {
    /// A budget of this many bytes.
    #[must_use]
    pub fn new(limit_bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            limit_bytes,
            used_bytes: AtomicUsize::new(0),
            used_bytes_max: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
        })
    }

    /// The limit.
    #[must_use]
    pub fn limit_bytes(&self) -> usize {
        self.limit_bytes
    }

    /// What is in use or kept for use.
    #[must_use]
    pub fn used_bytes(&self) -> usize {
        self.used_bytes.load(Ordering::Relaxed)
    }

    /// The most that ever was.
    #[must_use]
    pub fn used_bytes_max(&self) -> usize {
        self.used_bytes_max.load(Ordering::Relaxed)
    }

    /// How often a block was refused.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn reserve(&self, bytes: usize) -> Result<(), Full> {
        let grow = |used: usize| used.checked_add(bytes).filter(|&used| used <= self.limit_bytes);
        match self.used_bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grow) {
            Ok(before) => {
                self.used_bytes_max.fetch_max(before + bytes, Ordering::Relaxed);
                Ok(())
            }
            Err(_) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                Err(Full::Blocks { limit_bytes: self.limit_bytes })
            }
        }
    }

    fn release(&self, bytes: usize) {
        self.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Floats for one update, in the form that the kernels give it.
pub type Block = Box<[f32]>;

/// The blocks of one table.
pub struct BlockPool {
    budget: Arc<Budget>,
    block_len: usize,
    idle: Mutex<Vec<Block>>,
}

impl BlockPool {
    /// A pool of blocks of `block_len` floats (the kernels' `RowShape::block_len`).
    #[must_use]
    pub fn new(budget: Arc<Budget>, block_len: usize) -> Self {
        Self { budget, block_len, idle: Mutex::new(Vec::new()) }
    }

    /// Takes a block with whatever is in it (the kernels' `Update::empty` starts it).
    ///
    /// # Errors
    /// [`Full::Blocks`] if the budget is used up.
    pub fn take(&self) -> Result<Block, Full> {
        if let Some(block) = self.idle.lock().expect("no holder of this lock panics").pop() {
            return Ok(block);
        }
        self.budget.reserve(self.block_bytes())?;
        Ok(vec![0.0; self.block_len].into())
    }

    /// Gives a block back. It is kept for the next push as long as idle and used blocks of all tables
    /// are at most half of the budget, so that one table does not starve the others.
    pub fn put(&self, block: Block) {
        debug_assert_eq!(block.len(), self.block_len, "a block of this pool");
        if self.budget.used_bytes() <= self.budget.limit_bytes / 2 {
            self.idle.lock().expect("no holder of this lock panics").push(block);
        } else {
            drop(block);
            self.budget.release(self.block_bytes());
        }
    }
}

impl BlockPool {
    fn block_bytes(&self) -> usize {
        self.block_len * size_of::<f32>()
    }
}

impl Drop for BlockPool {
    fn drop(&mut self) {
        let idle = self.idle.lock().map_or(0, |idle| idle.len());
        self.budget.release(idle * self.block_bytes());
    }
}

impl fmt::Debug for BlockPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockPool")
            .field("budget", &self.budget)
            .field("block_len", &self.block_len)
            .finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn pools_share_a_budget_and_never_exceed_it() {
        let budget = Budget::new(400);
        let narrow = BlockPool::new(budget.clone(), 10);
        let wide = BlockPool::new(budget.clone(), 60);
        let mut taken: Vec<_> = (0..4).map(|_| narrow.take().unwrap()).collect();
        let large = wide.take().unwrap();
        assert_eq!(narrow.take(), Err(Full::Blocks { limit_bytes: 400 }));
        assert_eq!((budget.used_bytes(), budget.refused()), (400, 1));
        wide.put(large);
        assert_eq!(budget.used_bytes(), 160);
        taken.drain(..).for_each(|block| narrow.put(block));
        assert_eq!(budget.used_bytes(), 160, "idle blocks count");
        assert!(wide.take().is_ok());
        drop(narrow);
        assert_eq!((budget.used_bytes(), budget.used_bytes_max()), (240, 400));
    }
}
