//! The floats of rows in chunks, lent to the kernels as [`RowPtr`]s.
//!
//! A copy may mix values from before and after updates made during it; whether that matters is for
//! the slot's header to tell. Under loom floats are halves of loom's words, so that models see every
//! access, and a pointer to a private copy is lent.

use std::ptr::NonNull;

use sterna_kernels::RowPtr;

/// Floats of a row in a chunk: the first one's place and how many.
#[derive(Clone, Copy)]
pub(crate) struct Lanes {
    base: NonNull<u8>,
    offset: usize,
    len: usize,
}

impl Lanes {
    /// Lanes at a byte offset behind a place in a chunk.
    ///
    /// # Safety
    /// The chunk must hold `len` floats at `offset`, a multiple of 8, for as long as the value is
    /// used, and nobody may refer to them as Rust values.
    #[inline]
    pub(crate) unsafe fn new(base: NonNull<u8>, offset: usize, len: usize) -> Self {
        Self { base, offset, len }
    }
}

#[cfg(not(loom))]
impl Lanes {
    /// Lends the lanes for reading; others may write them meanwhile.
    #[inline]
    pub(crate) fn peek<R>(self, work: impl FnOnce(RowPtr) -> R) -> R {
        self.edit(work)
    }

    /// Lends the lanes for writing; others may read them meanwhile.
    #[inline]
    pub(crate) fn edit<R>(self, work: impl FnOnce(RowPtr) -> R) -> R {
        // SAFETY: inside the chunk, by the constructor's contract, which is also the kernels': the
        // memory lives long enough and is touched by them and by peers only.
        work(unsafe { RowPtr::new(self.base.add(self.offset).cast(), self.len) })
    }
}

#[cfg(loom)]
impl Lanes {
    pub(crate) fn peek<R>(self, work: impl FnOnce(RowPtr) -> R) -> R {
        let mut lanes = self.load();
        // SAFETY: the copy outlives the work.
        work(unsafe { RowPtr::from_private(&mut lanes) })
    }

    pub(crate) fn edit<R>(self, work: impl FnOnce(RowPtr) -> R) -> R {
        let mut lanes = self.load();
        // SAFETY: the copy outlives the work.
        let result = work(unsafe { RowPtr::from_private(&mut lanes) });
        for (pair, at) in lanes.chunks(2).zip((self.offset..).step_by(8)) {
            let high = pair.get(1).map_or(0, |lane| lane.to_bits());
            // SAFETY: inside the chunk, by the constructor's contract.
            let word = unsafe { crate::memory::word(self.base, at) };
            let bits = u64::from(pair[0].to_bits()) | u64::from(high) << 32;
            word.store(bits, crate::sync::Ordering::Relaxed);
        }
        result
    }

    #[expect(clippy::cast_possible_truncation, reason = "halves of a word")]
    fn load(self) -> Vec<f32> {
        let mut lanes = Vec::with_capacity(self.len + 1);
        for at in (self.offset..self.offset + 4 * self.len).step_by(8) {
            // SAFETY: inside the chunk, by the constructor's contract.
            let word = unsafe { crate::memory::word(self.base, at) };
            let bits = word.load(crate::sync::Ordering::Relaxed);
            lanes.extend([f32::from_bits(bits as u32), f32::from_bits((bits >> 32) as u32)]);
        }
        lanes.truncate(self.len);
        lanes
    }
}
