//! The only code that touches the floats of rows in memory that others read and write meanwhile.
//!
//! A copy may mix values from before and after updates made during it; whether that matters is for
//! the slot's header to tell. Under loom floats are halves of loom's words, so that models see every
//! access; there the functions that lend a pointer lend one to a private copy.

use std::ptr::NonNull;

/// Floats of a row in a chunk: the first one's place and how many.
#[derive(Clone, Copy)]
pub(crate) struct Lanes {
    base: NonNull<u8>,
    offset: usize,
    len: usize,
}

impl Lanes {
    /// Lanes at a byte offset of a chunk.
    ///
    /// # Safety
    /// The chunk must hold `len` floats at `offset`, a multiple of 8, for as long as the value is
    /// used, and nobody may refer to them as Rust values.
    #[inline]
    pub(crate) unsafe fn new(base: NonNull<u8>, offset: usize, len: usize) -> Self {
        Self { base, offset, len }
    }

    /// Copies the first lanes out, as many as `out` holds.
    #[inline]
    pub(crate) fn read(self, out: &mut [f32]) {
        assert!(out.len() <= self.len, "no more than the row has");
        self.peek(|lanes| {
            // SAFETY: `peek` lends `len` readable floats; `out` is the caller's own.
            unsafe { rowcopy::read(lanes, out) }
        });
    }

    /// Overwrites the first lanes. The caller holds the writer bit or nobody knows the slot yet.
    #[inline]
    pub(crate) fn write(self, from: &[f32]) {
        assert!(from.len() <= self.len, "no more than the row has");
        self.edit(|lanes| {
            // SAFETY: `edit` lends `len` writable floats; `from` is the caller's own.
            unsafe { rowcopy::write(from, lanes) }
        });
    }
}

#[cfg(not(loom))]
impl Lanes {
    /// Lends the lanes for reading; others may write them meanwhile.
    #[inline]
    pub(crate) fn peek<R>(self, f: impl FnOnce(*const f32) -> R) -> R {
        // SAFETY: inside the chunk, by the constructor's contract.
        f(unsafe { self.base.as_ptr().add(self.offset) }.cast_const().cast())
    }

    /// Lends the lanes for writing; others may read them meanwhile.
    #[inline]
    pub(crate) fn edit<R>(self, f: impl FnOnce(*mut f32) -> R) -> R {
        // SAFETY: inside the chunk, by the constructor's contract.
        f(unsafe { self.base.as_ptr().add(self.offset) }.cast())
    }
}

#[cfg(loom)]
impl Lanes {
    pub(crate) fn peek<R>(self, f: impl FnOnce(*const f32) -> R) -> R {
        f(self.load().as_ptr())
    }

    pub(crate) fn edit<R>(self, f: impl FnOnce(*mut f32) -> R) -> R {
        let mut lanes = self.load();
        let result = f(lanes.as_mut_ptr());
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

mod rowcopy {
    pub(super) unsafe fn read(from: *const f32, to: &mut [f32]) {
        // SAFETY: upheld by the caller.
        unsafe { std::ptr::copy_nonoverlapping(from, to.as_mut_ptr(), to.len()) }
    }

    pub(super) unsafe fn write(from: &[f32], to: *mut f32) {
        // SAFETY: upheld by the caller.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to, from.len()) }
    }
}

pub(crate) unsafe fn dot(values: *const f32, x: &[f32]) -> f32 {
    let mut sum = 0.0;
    for (i, x) in x.iter().enumerate() {
        // SAFETY: upheld by the caller.
        sum += unsafe { values.add(i).read() } * x;
    }
    sum
}
