//! The only module that touches row bytes which other threads or processes may use at the same time.
//!
//! A row is named by a [`RowPtr`], never by a slice: no `&[f32]` is made over memory that a peer can see. Each
//! value is read and written whole (a relaxed access); values of one row may come from before and
//! after somebody else's update. Whether that matters is the caller's business: the store guards
//! rows by their headers and the writer bit.

use std::ptr::NonNull;

use crate::element::Element;
use crate::simd::{Portable, Simd, dispatch, instruction_set};

const LINE_BYTES: usize = 64;

/// Values of a row in shared memory: a pointer and a length. What comes from and goes to callers is `f32`, whatever the element type.
#[derive(Clone, Copy, Debug)]
pub struct RowPtr<E = f32> {
    start: NonNull<E>,
    len: usize,
}

impl<E: Element> RowPtr<E> {
    /// Names `len` values at `start`.
    ///
    /// # Safety
    /// The memory must be valid for reads and writes, and aligned to `E`, for as long as the value or a copy of
    /// it is used. All others who touch it meanwhile must do so through this module, by atomics, or be
    /// outside this process.
    #[must_use]
    pub const unsafe fn new(start: NonNull<E>, len: usize) -> Self {
        Self { start, len }
    }

    /// A private slice as a row, for kernels that serve both.
    ///
    /// # Safety
    /// The value and its copies must not be used after the borrow of `row` ends.
    #[must_use]
    pub unsafe fn from_private(row: &mut [E]) -> Self {
        Self { start: NonNull::from(&mut *row).cast(), len: row.len() }
    }

    /// Number of values.
    #[must_use]
    pub const fn len(self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.len == 0
    }

    /// The values `at..at + len`.
    ///
    /// # Panics
    /// If they are not inside.
    #[must_use]
    #[inline]
    pub fn part(self, at: usize, len: usize) -> Self {
        assert!(at.checked_add(len).is_some_and(|end| end <= self.len), "part outside the row");
        // SAFETY: inside, as just checked.
        Self { start: unsafe { self.start.add(at) }, len }
    }

    /// Copies the values to `out`.
    ///
    /// # Panics
    /// If the lengths differ; so do the other methods.
    #[inline]
    pub fn copy_out(self, out: &mut [f32]) {
        assert_eq!(self.len, out.len(), "row and buffer differ in length");
        // SAFETY: both are valid for `len` floats.
        unsafe { copy_out(instruction_set(), self.start.as_ptr(), out.as_mut_ptr(), self.len) }
    }

    /// Overwrites the row with `values`.
    #[inline]
    pub fn copy_in(self, values: &[f32]) {
        assert_eq!(self.len, values.len(), "row and values differ in length");
        // SAFETY: both are valid for `len` floats.
        unsafe { copy_in(instruction_set(), self.start.as_ptr(), values.as_ptr(), self.len) }
    }

    /// `row += delta`.
    #[inline]
    pub fn add(self, delta: &[f32]) {
        assert_eq!(self.len, delta.len(), "row and delta differ in length");
        // SAFETY: both are valid for `len` floats.
        unsafe { add(instruction_set(), self.start.as_ptr(), delta.as_ptr(), self.len) }
    }

    /// `row += a * x`.
    #[inline]
    pub fn axpy(self, a: f32, x: &[f32]) {
        assert_eq!(self.len, x.len(), "row and vector differ in length");
        // SAFETY: both are valid for `len` floats.
        unsafe { axpy(instruction_set(), self.start.as_ptr(), a, x.as_ptr(), self.len) }
    }

    /// The inner product of the row and `x`.
    #[inline]
    #[must_use]
    pub fn dot(self, x: &[f32]) -> f32 {
        assert_eq!(self.len, x.len(), "row and vector differ in length");
        // SAFETY: both are valid for `len` floats.
        unsafe { dot(instruction_set(), self.start.as_ptr(), x.as_ptr(), self.len) }
    }

    /// Sets every value to `value`.
    pub fn fill(self, value: f32) {
        // SAFETY: valid for `len` floats.
        unsafe { fill(instruction_set(), self.start.as_ptr(), value, self.len) }
    }

    /// Asks the CPU to fetch the row's lines, all of a short row and the first eight of a long one (its own
    /// prefetcher follows from there).
    #[inline]
    pub fn prefetch(self) {
        let lines = (self.len * E::BYTES).div_ceil(LINE_BYTES).min(8);
        for line in 0..lines {
            prefetch_line(self.start.as_ptr().cast::<u8>().wrapping_add(line * LINE_BYTES));
        }
    }

    pub(crate) fn as_ptr(self) -> *mut E {
        self.start.as_ptr()
    }
}

impl RowPtr {
    /// The word at `at`, for state that is not a vector.
    #[must_use]
    pub fn get(self, at: usize) -> f32 {
        assert!(at < self.len, "word outside the row");
        // SAFETY: inside, as just checked.
        unsafe { Portable::load_shared(self.start.as_ptr().add(at)) }
    }

    /// Overwrites the word at `at`.
    pub fn put(self, at: usize, value: f32) {
        assert!(at < self.len, "word outside the row");
        // SAFETY: inside, as just checked.
        unsafe { Portable::store_shared(self.start.as_ptr().add(at), value) }
    }
}

/// Asks the CPU to fetch the line at `p` into its nearest cache. `p` need not be valid.
#[inline(always)]
pub fn prefetch_line(p: *const u8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a prefetch has no effect on memory and faults on no address; SSE is part of x86-64.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(p.cast());
    }
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    // SAFETY: a prefetch has no effect on memory and faults on no address.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{p}]", p = in(reg) p, options(nostack, preserves_flags, readonly));
    }
    #[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
    let _ = p;
}

/// Runs `whole` at each multiple of the lanes and `rest` at each index after them.
macro_rules! blocked {
    ($lanes:expr, $len:expr, |$i:ident| $whole:expr, |$j:ident| $rest:expr) => {{
        let mut $i = 0;
        while $i + $lanes <= $len {
            {
                $whole;
            }
            $i += $lanes;
        }
        let mut $j = $i;
        while $j < $len {
            {
                $rest;
            }
            $j += 1;
        }
    }};
}
pub(crate) use blocked;

/// # Safety
/// Of all kernels here: pointers are valid for `len` values, `row` is shared memory.
#[inline(always)]
unsafe fn copy_out_kernel<S: Simd, E: Element>(row: *const E, out: *mut f32, len: usize) {
    // SAFETY: indices stay below `len`.
    unsafe {
        blocked!(S::LANES, len, |i| S::store(out.add(i), E::load_shared::<S>(row.add(i))), |j| {
            Portable::store(out.add(j), E::load_shared::<Portable>(row.add(j)));
        });
    }
}

#[inline(always)]
unsafe fn copy_in_kernel<S: Simd, E: Element>(row: *mut E, values: *const f32, len: usize) {
    // SAFETY: indices stay below `len`.
    unsafe {
        blocked!(
            S::LANES,
            len,
            |i| E::store_shared::<S>(row.add(i), S::load(values.add(i))),
            |j| {
                E::store_shared::<Portable>(row.add(j), Portable::load(values.add(j)));
            }
        );
    }
}

#[inline(always)]
unsafe fn add_kernel<S: Simd, E: Element>(row: *mut E, delta: *const f32, len: usize) {
    // SAFETY: indices stay below `len`.
    unsafe {
        blocked!(
            S::LANES,
            len,
            |i| E::store_shared::<S>(
                row.add(i),
                S::add(E::load_shared::<S>(row.add(i)), S::load(delta.add(i)))
            ),
            |j| E::store_shared::<Portable>(
                row.add(j),
                E::load_shared::<Portable>(row.add(j)) + Portable::load(delta.add(j))
            )
        );
    }
}

#[inline(always)]
unsafe fn axpy_kernel<S: Simd, E: Element>(row: *mut E, a: f32, x: *const f32, len: usize) {
    // SAFETY: indices stay below `len`.
    unsafe {
        let factor = S::splat(a);
        blocked!(
            S::LANES,
            len,
            |i| E::store_shared::<S>(
                row.add(i),
                S::mul_add(factor, S::load(x.add(i)), E::load_shared::<S>(row.add(i)))
            ),
            |j| E::store_shared::<Portable>(
                row.add(j),
                a * Portable::load(x.add(j)) + E::load_shared::<Portable>(row.add(j))
            )
        );
    }
}

#[inline(always)]
unsafe fn dot_kernel<S: Simd, E: Element>(row: *const E, x: *const f32, len: usize) -> f32 {
    // SAFETY: indices stay below `len`.
    unsafe {
        let mut sum = S::splat(0.0);
        let mut rest = 0.0;
        blocked!(
            S::LANES,
            len,
            |i| sum = S::mul_add(E::load_shared::<S>(row.add(i)), S::load(x.add(i)), sum),
            |j| rest += E::load_shared::<Portable>(row.add(j)) * Portable::load(x.add(j))
        );
        S::sum(sum) + rest
    }
}

#[inline(always)]
unsafe fn fill_kernel<S: Simd, E: Element>(row: *mut E, value: f32, len: usize) {
    // SAFETY: indices stay below `len`.
    unsafe {
        let all = S::splat(value);
        blocked!(S::LANES, len, |i| E::store_shared::<S>(row.add(i), all), |j| E::store_shared::<
            Portable,
        >(
            row.add(j), value
        ));
    }
}

dispatch! { unsafe fn copy_out[E](row: *const E, out: *mut f32, len: usize) = copy_out_kernel }
dispatch! { unsafe fn copy_in[E](row: *mut E, values: *const f32, len: usize) = copy_in_kernel }
dispatch! { unsafe fn add[E](row: *mut E, delta: *const f32, len: usize) = add_kernel }
dispatch! { unsafe fn axpy[E](row: *mut E, a: f32, x: *const f32, len: usize) = axpy_kernel }
dispatch! { unsafe fn dot[E](row: *const E, x: *const f32, len: usize) -> f32 = dot_kernel }
dispatch! { unsafe fn fill[E](row: *mut E, value: f32, len: usize) = fill_kernel }

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::InstructionSet;
    use proptest::prelude::*;

    fn close(a: f32, b: f32) -> bool {
        (a - b).abs() <= 1e-4 * (1.0 + a.abs().max(b.abs()))
    }

    proptest! {
        #[test]
        fn every_body_of_this_cpu_computes_what_the_portable_one_does(
            offset in 0_usize..16,
            values in proptest::collection::vec(-100.0_f32..100.0, 0..150),
            a in -3.0_f32..3.0,
        ) {
            let len = values.len();
            let start: Vec<f32> = (0_u16..).take(offset + len + 16).map(f32::from).collect();
            for set in InstructionSet::available() {
                let mut memory = start.clone();
                let mut out = vec![0.0; len];
                // SAFETY: `offset..offset + len` is inside `memory`, which nobody else uses.
                let found = unsafe {
                    let row = memory.as_mut_ptr().add(offset);
                    axpy(set, row, a, values.as_ptr(), len);
                    add(set, row, values.as_ptr(), len);
                    let product = dot(set, row, values.as_ptr(), len);
                    copy_out(set, row, out.as_mut_ptr(), len);
                    fill(set, row, 7.0, len);
                    product
                };
                let expected: Vec<f32> =
                    (0..len).map(|i| start[offset + i] + a * values[i] + values[i]).collect();
                for i in 0..len {
                    prop_assert!(close(out[i], expected[i]), "{set:?} at {i}");
                }
                let product: f32 = (0..len).map(|i| out[i] * values[i]).sum();
                let scale: f32 = (0..len).map(|i| (out[i] * values[i]).abs()).sum();
                prop_assert!((found - product).abs() <= 1e-5 * (1.0 + scale), "{set:?}");
                prop_assert!(memory[offset..offset + len].iter().all(|&x| x == 7.0));
                prop_assert_eq!(&memory[..offset], &start[..offset]);
                prop_assert_eq!(&memory[offset + len..], &start[offset + len..]);
                // SAFETY: as above.
                unsafe { copy_in(set, memory.as_mut_ptr().add(offset), out.as_ptr(), len) };
                prop_assert_eq!(&memory[offset..offset + len], &out[..]);
            }
        }
    }

    #[test]
    #[should_panic(expected = "differ in length")]
    fn a_buffer_of_another_length_is_refused() {
        let mut row = [0.0; 4];
        // SAFETY: used while `row` is borrowed.
        unsafe { RowPtr::from_private(&mut row) }.copy_out(&mut [0.0; 5]);
    }

    #[test]
    #[should_panic(expected = "outside")]
    fn a_part_outside_the_row_is_refused() {
        let mut row = [0.0; 4];
        // SAFETY: used while `row` is borrowed.
        let _ = unsafe { RowPtr::from_private(&mut row) }.part(2, 3);
    }
}
