//! A range of mapped memory, unmapped when dropped.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;

use libc::c_int;

use super::HUGE_BYTES;
use crate::error::FabricError;

/// A mapping of this process.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<u8>,
    bytes: usize,
}

// SAFETY: a mapping is plain memory that belongs to the process, not to a thread; all access is through
// raw pointers, whose users uphold the rules of their own copies.
unsafe impl Send for Mapping {}
// SAFETY: as above; the methods only hand out the pointer and plain values.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// First byte, at the start of a page.
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Size in bytes, whole pages.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Private zeroed memory, in transparent huge pages where the system gives them.
    pub(super) fn anonymous(bytes: usize, label: &str) -> Result<Self, FabricError> {
        let bytes = bytes.next_multiple_of(page_bytes());
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let mapping = Self::map(bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1)
            .map_err(|error| out_of_memory(bytes, label, &error))?;
        mapping.prefer_huge_pages();
        mapping.name(label);
        Ok(mapping)
    }

    /// Maps `bytes` bytes of `file`, shared.
    pub(super) fn of_file(file: BorrowedFd<'_>, bytes: usize, writable: bool) -> io::Result<Self> {
        let write = if writable { libc::PROT_WRITE } else { 0 };
        Self::map(bytes, libc::PROT_READ | write, libc::MAP_SHARED, file.as_raw_fd())
    }

    /// Asks for huge pages; nothing is lost where they are not to be had.
    pub(super) fn prefer_huge_pages(&self) {
        if self.bytes >= HUGE_BYTES {
            // SAFETY: the range is this mapping; the advice does not change its content.
            unsafe { libc::madvise(self.base.as_ptr().cast(), self.bytes, libc::MADV_HUGEPAGE) };
        }
    }

    /// Touches all pages and makes huge ones of them (Linux 6.1 or newer). Returns whether it worked.
    pub(super) fn collapse(&self) -> bool {
        self.prefer_huge_pages();
        let (at, whole) = (self.base.as_ptr(), self.bytes / HUGE_BYTES * HUGE_BYTES);
        // SAFETY: both ranges are in this mapping; neither call changes its content.
        unsafe {
            libc::madvise(at.cast(), self.bytes, libc::MADV_POPULATE_WRITE) == 0
                && libc::madvise(at.cast(), whole, libc::MADV_COLLAPSE) == 0
        }
    }

    /// Shows the purpose in `/proc/self/maps` where the kernel supports it.
    fn name(&self, label: &str) {
        let Ok(label) = CString::new(label) else { return };
        // SAFETY: the range is this mapping; the kernel copies the text.
        unsafe {
            libc::prctl(
                libc::PR_SET_VMA,
                libc::PR_SET_VMA_ANON_NAME,
                self.base.as_ptr(),
                self.bytes,
                label.as_ptr(),
            );
        }
    }

    /// Maps at an address that huge pages can start at, if the range is large enough for one: address
    /// space for one page more is reserved, and the new mapping put at the boundary inside.
    fn map(bytes: usize, protection: c_int, flags: c_int, fd: c_int) -> io::Result<Self> {
        assert!(bytes > 0 && bytes.is_multiple_of(page_bytes()), "whole pages");
        if bytes < HUGE_BYTES {
            // SAFETY: a new mapping at an address of the kernel's choice.
            return unsafe { mmap(std::ptr::null_mut(), bytes, protection, flags, fd) };
        }
        let space = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: as above.
        let reserved =
            unsafe { mmap(std::ptr::null_mut(), bytes + HUGE_BYTES, libc::PROT_NONE, space, -1)? };
        let start = reserved.base.as_ptr();
        let lead = start.align_offset(HUGE_BYTES);
        // SAFETY: `lead` is under a huge page, so the new range lies inside the reserved one, which
        // nobody else knows; replacing that part of it is what MAP_FIXED does.
        let mapping =
            unsafe { mmap(start.add(lead), bytes, protection, flags | libc::MAP_FIXED, fd) };
        if let Ok(mapping) = &mapping {
            std::mem::forget(reserved);
            let tail = mapping.base.as_ptr().wrapping_add(bytes);
            // SAFETY: both ranges are what is left of the reserved one before and after the new mapping.
            unsafe {
                if lead > 0 {
                    libc::munmap(start.cast(), lead);
                }
                if lead < HUGE_BYTES {
                    libc::munmap(tail.cast(), HUGE_BYTES - lead);
                }
            }
        }
        mapping
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by this value and nobody uses it after its owner is dropped.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.bytes) };
    }
}

/// # Safety
/// With MAP_FIXED in `flags`, the range must belong to the caller.
unsafe fn mmap(
    at: *mut u8,
    bytes: usize,
    protection: c_int,
    flags: c_int,
    fd: c_int,
) -> io::Result<Mapping> {
    // SAFETY: the caller's word for fixed addresses; else the kernel picks a free range.
    let base = unsafe { libc::mmap(at.cast(), bytes, protection, flags, fd, 0) };
    if base == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let base = NonNull::new(base.cast()).expect("the null page is never mapped");
    Ok(Mapping { base, bytes })
}

/// The error for memory that the system did not give.
pub(super) fn out_of_memory(bytes: usize, what: &str, error: &io::Error) -> FabricError {
    FabricError::OutOfMemory {
        bytes,
        what: what.to_owned(),
        reason: format!("{error}; use fewer keys or more nodes, or check ulimit -v and overcommit"),
    }
}

/// Bytes of an ordinary page.
pub(super) fn page_bytes() -> usize {
    // SAFETY: a constant of the system.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}
