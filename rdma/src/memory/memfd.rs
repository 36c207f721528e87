//! Memory with a file descriptor, to be handed to peers and mapped there.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use libc::c_int;

use super::mapping::{Mapping, out_of_memory, page_bytes};
use super::{HUGE_BYTES, Pages, warn_of_small_pages};
use crate::error::FabricError;

/// A memfd and its size.
#[derive(Debug)]
pub(crate) struct Memfd {
    fd: OwnedFd,
    bytes: usize,
    pages: Pages,
    label: String,
}

impl Memfd {
    /// Memory for a ring, less than a huge page: sealed in its size, writable by whoever holds it.
    pub(crate) fn for_ring(label: &str, bytes: usize) -> Result<(Self, Mapping), FabricError> {
        let memfd = Self::create(label, bytes, Pages::Small)?;
        let mapping = memfd.map_own()?;
        memfd.seal(false)?;
        Ok((memfd, mapping))
    }

    /// New memory of at least `bytes` bytes; without reserved huge pages if they are gone meanwhile.
    pub(super) fn create(label: &str, bytes: usize, pages: Pages) -> Result<Self, FabricError> {
        if pages == Pages::Reserved {
            let huge = Self::try_create(label, bytes, pages);
            // Mapping reserves the pages or fails; the mapping itself is made again by the owner.
            if let Ok(huge) = huge
                && huge.map_own().is_ok()
            {
                return Ok(huge);
            }
            return Self::create(label, bytes, Pages::Transparent);
        }
        Self::try_create(label, bytes, pages).map_err(|error| out_of_memory(bytes, label, &error))
    }

    fn try_create(label: &str, bytes: usize, pages: Pages) -> io::Result<Self> {
        let huge = pages == Pages::Reserved;
        let bytes = bytes.next_multiple_of(if huge { HUGE_BYTES } else { page_bytes() });
        let length = libc::off_t::try_from(bytes).map_err(io::Error::other)?;
        let name = CString::new(label).map_err(io::Error::other)?;
        let kind = if huge { libc::MFD_HUGETLB | libc::MFD_HUGE_2MB } else { 0 };
        // SAFETY: the name ends with a zero byte and is copied by the kernel.
        let fd = unsafe {
            libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING | kind)
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new descriptor that nobody else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: an open file of this process.
        if unsafe { libc::ftruncate(fd.as_raw_fd(), length) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { fd, bytes, pages, label: label.to_owned() })
    }

    /// Maps all of it, readable and writable.
    pub(super) fn map_own(&self) -> Result<Mapping, FabricError> {
        let mapping = Mapping::of_file(self.fd.as_fd(), self.bytes, true)
            .map_err(|error| out_of_memory(self.bytes, &self.label, &error))?;
        match self.pages {
            Pages::Transparent => mapping.prefer_huge_pages(),
            Pages::Collapsed if mapping.collapse() => {}
            Pages::Collapsed | Pages::Small if self.bytes >= HUGE_BYTES => {
                warn_of_small_pages(self.bytes);
            }
            Pages::Collapsed | Pages::Small | Pages::Reserved => {}
        }
        Ok(mapping)
    }

    /// Fixes its size for ever and, if `read_only`, lets nobody write who has not mapped it yet.
    pub(super) fn seal(&self, read_only: bool) -> Result<(), FabricError> {
        let write = if read_only { libc::F_SEAL_FUTURE_WRITE } else { 0 };
        let seals = libc::F_SEAL_GROW | libc::F_SEAL_SHRINK | libc::F_SEAL_SEAL | write;
        // SAFETY: an open memfd of this process.
        if unsafe { libc::fcntl(self.fd.as_raw_fd(), libc::F_ADD_SEALS, seals) } < 0 {
            return Err(FabricError::Os {
                what: format!("sealing {} (Linux 5.1 or newer is needed)", self.label),
                reason: io::Error::last_os_error().to_string(),
            });
        }
        Ok(())
    }

    /// The descriptor.
    pub(crate) fn into_fd(self) -> OwnedFd {
        self.fd
    }
}

/// Maps a peer's rows, read-only. The mapping holds the memory; the descriptor may be closed.
///
/// # Errors
/// If the file could shrink under a reader's feet, is shorter than `bytes`, or cannot be mapped.
pub(crate) fn map_peer_rows(fd: BorrowedFd<'_>, bytes: usize) -> Result<Mapping, MapError> {
    map_peer(fd, bytes, false)
}

/// Maps the ring that a peer offers to this node for sending, writable. As [`map_peer_rows`].
pub(crate) fn map_peer_ring(fd: BorrowedFd<'_>, bytes: usize) -> Result<Mapping, MapError> {
    map_peer(fd, bytes, true)
}

/// Why a peer's memory was not mapped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MapError {
    /// The peer offers something that is not sealed memory of the stated size.
    #[error("{0}")]
    Unfit(&'static str),
    /// This node cannot map it.
    #[error("mapping {bytes} bytes of a peer: {error}")]
    Os {
        /// Size.
        bytes: usize,
        /// The system's reason.
        error: io::Error,
    },
}

fn map_peer(fd: BorrowedFd<'_>, bytes: usize, writable: bool) -> Result<Mapping, MapError> {
    if bytes == 0 || !bytes.is_multiple_of(page_bytes()) || bytes > isize::MAX as usize {
        return Err(MapError::Unfit("the offered memory is not a number of pages"));
    }
    // SAFETY: an open file of this process; anything but a memfd makes the call fail.
    let seals: c_int = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GET_SEALS) };
    if seals < 0 || seals & libc::F_SEAL_SHRINK == 0 {
        return Err(MapError::Unfit("the offered memory is not sealed against shrinking"));
    }
    if file_bytes(fd).is_none_or(|size| size < bytes as u64) {
        return Err(MapError::Unfit("the offered memory is shorter than stated"));
    }
    let mapping =
        Mapping::of_file(fd, bytes, writable).map_err(|error| MapError::Os { bytes, error })?;
    // Huge pages of the file are mapped as such only where the mapping asks for them.
    mapping.prefer_huge_pages();
    Ok(mapping)
}

fn file_bytes(fd: BorrowedFd<'_>) -> Option<u64> {
    let file = std::fs::File::from(fd.try_clone_to_owned().ok()?);
    Some(file.metadata().ok()?.len())
}
