//! Copies out of memory that other processes write while it is read.
//!
//! Such memory is outside Rust's model of ownership: no reference to it is ever made. It is read by
//! vector loads in inline assembly, which the optimiser cannot see through, or by relaxed loads of
//! words under Miri and on other processors. Either way each word is loaded once, and a copy that
//! raced with a store holds words from before and after it: the caller validates the private copy.

use std::sync::atomic::{AtomicU64, Ordering, fence};

/// Bytes of the head of a READ that are loaded before and after the rest.
const HEAD_BYTES: usize = 16;

/// Bytes of a cache line.
const LINE_BYTES: usize = 64;

/// Copies `to.len()` bytes from `from`, which others may be writing.
///
/// # Safety
/// `from` must be aligned to 8 and readable for `to.len()` bytes, a multiple of 8, for the whole
/// call, and must not overlap `to`.
pub(crate) unsafe fn copy_out(from: *const u8, to: &mut [u8]) {
    debug_assert!(from.addr().is_multiple_of(8) && to.len().is_multiple_of(8));
    let vector = to.len() & !(LINE_BYTES - 1);
    if vector > 0 {
        // SAFETY: the first `vector` bytes lie inside both ranges, and `vector` is a positive multiple
        // of a line.
        unsafe { copy_lines(from, to.as_mut_ptr(), vector) };
    }
    // SAFETY: the rest of both ranges; `vector` is a multiple of 8, so the alignment stays.
    unsafe { copy_words(from.add(vector), &mut to[vector..]) };
}

/// Copies `from` to memory that devices read. A vector loop: string instructions, which the usual copy takes for
/// what is long, start slowly, and emulated processors do them byte by byte.
///
/// # Safety
/// `to` must be writable for `from.len()` bytes, which nobody else reads or writes during the call.
pub(crate) unsafe fn copy_in(from: &[u8], to: *mut u8) {
    let has_vectors = cfg!(all(any(target_arch = "x86_64", target_arch = "aarch64"), not(miri)));
    let vector = if has_vectors { from.len() & !(LINE_BYTES - 1) } else { 0 };
    if vector > 0 {
        // SAFETY: the first `vector` bytes lie inside both ranges; no alignment is needed of memory that does not
        // change meanwhile.
        unsafe { copy_lines(from.as_ptr(), to, vector) };
    }
    let rest = &from[vector..];
    // SAFETY: the rest of both ranges, which do not overlap: nobody else may reach `to`.
    unsafe { std::ptr::copy_nonoverlapping(rest.as_ptr(), to.add(vector), rest.len()) };
}

/// Reads as [`crate::ReadData`] promises: returns the first (up to) 16 bytes as loaded before the
/// rest; in `to` they are as loaded after the rest.
///
/// # Safety
/// As [`copy_out`], and `to` has at least 8 bytes.
#[inline]
pub(crate) unsafe fn read_guarded(from: *const u8, to: &mut [u8]) -> [u64; 2] {
    let head = HEAD_BYTES.min(to.len());
    // SAFETY: `head` is 8 or 16 and inside the range.
    let before = unsafe { load_head(from, head) };
    // What is loaded from here on is no older than the head.
    fence(Ordering::Acquire);
    // SAFETY: the rest of the range.
    unsafe { copy_out(from.add(head), &mut to[head..]) };
    // The head's second load is not moved before the loads of the rest.
    fence(Ordering::Acquire);
    // SAFETY: as the first load.
    let after = unsafe { load_head(from, head) };
    to[..8].copy_from_slice(&after[0].to_ne_bytes());
    if head == HEAD_BYTES {
        to[8..HEAD_BYTES].copy_from_slice(&after[1].to_ne_bytes());
    }
    before
}

/// Asks for the lines of `bytes` bytes at `at`, at most the first `lines_max`, ahead of their use.
#[inline]
pub(crate) fn prefetch(at: *const u8, bytes: usize, lines_max: usize) {
    let lines = bytes.div_ceil(LINE_BYTES).min(lines_max);
    for line in 0..lines {
        prefetch_line(at.wrapping_add(line * LINE_BYTES));
    }
}

#[inline]
fn prefetch_line(at: *const u8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a prefetch of any address has no effect that the program can see.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(at.cast());
    }
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    // SAFETY: as above.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{at}]", at = in(reg) at, options(nostack, readonly));
    }
    #[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
    let _ = at;
}

/// # Safety
/// `from` must be aligned to 8 and readable for `head` bytes, 8 or 16.
#[inline]
unsafe fn load_head(from: *const u8, head: usize) -> [u64; 2] {
    let words: *const AtomicU64 = from.cast();
    // SAFETY: aligned and readable by the caller's word; a relaxed load does not write, so read-only
    // mappings are fine.
    let first = unsafe { (*words).load(Ordering::Relaxed) };
    let second = if head == HEAD_BYTES {
        // SAFETY: as above, the second word is inside the range.
        unsafe { (*words.add(1)).load(Ordering::Relaxed) }
    } else {
        0
    };
    [first, second]
}

/// # Safety
/// As [`copy_out`].
#[inline]
unsafe fn copy_words(from: *const u8, to: &mut [u8]) {
    let words: *const AtomicU64 = from.cast();
    for (i, out) in to.chunks_exact_mut(8).enumerate() {
        // SAFETY: word `i` lies inside the range of the caller's word, aligned to 8.
        let word = unsafe { (*words.add(i)).load(Ordering::Relaxed) };
        out.copy_from_slice(&word.to_ne_bytes());
    }
}

/// # Safety
/// As [`copy_out`]; `bytes` is a positive multiple of 64.
#[cfg(all(target_arch = "x86_64", not(miri)))]
#[inline]
unsafe fn copy_lines(from: *const u8, to: *mut u8, bytes: usize) {
    // SAFETY: loads and stores stay inside the ranges of the caller's word; SSE2 belongs to every x86-64.
    unsafe {
        std::arch::asm!(
            "2:",
            "movdqu {a}, [{from}]",
            "movdqu {b}, [{from} + 16]",
            "movdqu {c}, [{from} + 32]",
            "movdqu {d}, [{from} + 48]",
            "movdqu [{to}], {a}",
            "movdqu [{to} + 16], {b}",
            "movdqu [{to} + 32], {c}",
            "movdqu [{to} + 48], {d}",
            "add {from}, 64",
            "add {to}, 64",
            "sub {left}, 64",
            "jnz 2b",
            from = inout(reg) from => _,
            to = inout(reg) to => _,
            left = inout(reg) bytes => _,
            a = out(xmm_reg) _,
            b = out(xmm_reg) _,
            c = out(xmm_reg) _,
            d = out(xmm_reg) _,
            options(nostack),
        );
    }
}

/// # Safety
/// As [`copy_out`]; `bytes` is a positive multiple of 64.
#[cfg(all(target_arch = "aarch64", not(miri)))]
#[inline]
unsafe fn copy_lines(from: *const u8, to: *mut u8, bytes: usize) {
    // SAFETY: loads and stores stay inside the ranges of the caller's word.
    unsafe {
        std::arch::asm!(
            "2:",
            "ldp {a:q}, {b:q}, [{from}]",
            "ldp {c:q}, {d:q}, [{from}, #32]",
            "stp {a:q}, {b:q}, [{to}]",
            "stp {c:q}, {d:q}, [{to}, #32]",
            "add {from}, {from}, #64",
            "add {to}, {to}, #64",
            "subs {left}, {left}, #64",
            "b.ne 2b",
            from = inout(reg) from => _,
            to = inout(reg) to => _,
            left = inout(reg) bytes => _,
            a = out(vreg) _,
            b = out(vreg) _,
            c = out(vreg) _,
            d = out(vreg) _,
            options(nostack),
        );
    }
}

/// # Safety
/// As [`copy_out`]; `bytes` is a positive multiple of 64.
#[cfg(any(miri, not(any(target_arch = "x86_64", target_arch = "aarch64"))))]
unsafe fn copy_lines(from: *const u8, to: *mut u8, bytes: usize) {
    // SAFETY: `to` is the caller's exclusive slice of at least `bytes` bytes.
    unsafe { copy_words(from, std::slice::from_raw_parts_mut(to, bytes)) };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(words: usize) -> Vec<AtomicU64> {
        (0..words as u64).map(|i| AtomicU64::new(i.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect()
    }

    #[test]
    fn every_length_and_offset_is_copied_exactly_and_nothing_beside_it() {
        let source = pattern(80);
        for start in 0..9 {
            for words in 1..=64 {
                let mut copy = vec![0xee_u8; words * 8 + 16];
                // SAFETY: words `start..start + words` lie inside `source`.
                unsafe {
                    copy_out(source.as_ptr().add(start).cast(), &mut copy[8..8 + words * 8]);
                }
                for (i, chunk) in copy[8..8 + words * 8].chunks_exact(8).enumerate() {
                    assert_eq!(chunk, source[start + i].load(Ordering::Relaxed).to_ne_bytes());
                }
                assert!(copy[..8].iter().chain(&copy[8 + words * 8..]).all(|&byte| byte == 0xee));
            }
        }
    }

    #[test]
    fn what_devices_read_is_copied_in_exactly_from_any_address() {
        let source: Vec<u8> = (0..=250).cycle().take(700).collect();
        for start in [0, 1, 7, 64] {
            for len in [0, 1, 63, 64, 65, 127, 128, 500] {
                let mut copy = vec![0xee_u8; len + 16];
                // SAFETY: `copy` has so many bytes behind its eighth.
                unsafe { copy_in(&source[start..start + len], copy.as_mut_ptr().add(8)) };
                assert_eq!(copy[8..8 + len], source[start..start + len]);
                assert!(copy[..8].iter().chain(&copy[8 + len..]).all(|&byte| byte == 0xee));
            }
        }
    }

    #[test]
    fn a_guarded_read_returns_both_heads() {
        let source = pattern(16);
        for words in [1, 2, 3, 16] {
            let mut copy = vec![0_u8; words * 8];
            // SAFETY: the first `words` words of `source`.
            let head = unsafe { read_guarded(source.as_ptr().cast(), &mut copy) };
            assert_eq!(head[0], source[0].load(Ordering::Relaxed));
            let second = if words > 1 { source[1].load(Ordering::Relaxed) } else { 0 };
            assert_eq!(head[1], second);
            for (i, chunk) in copy.chunks_exact(8).enumerate() {
                assert_eq!(chunk, source[i].load(Ordering::Relaxed).to_ne_bytes());
            }
        }
    }

    #[test]
    fn a_copy_that_races_with_stores_holds_whole_words_of_before_or_after() {
        let words: Vec<AtomicU64> = (0..64).map(|_| AtomicU64::new(0)).collect();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for round in 1..=2_000_u64 {
                    for word in &words {
                        word.store(round << 32 | round, Ordering::Relaxed);
                    }
                }
            });
            let mut copy = vec![0_u8; 512];
            while !writer.is_finished() {
                // SAFETY: all 64 words.
                unsafe { read_guarded(words.as_ptr().cast(), &mut copy) };
                for chunk in copy.chunks_exact(8) {
                    let word = u64::from_ne_bytes(chunk.try_into().expect("8 bytes"));
                    assert_eq!(word >> 32, word & 0xffff_ffff, "a word was torn");
                }
            }
        });
    }
}
