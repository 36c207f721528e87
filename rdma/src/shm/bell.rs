//! The eventfd that ends a node's sleep; every peer of the host holds a handle of it.

use std::io::Write as _;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::error::FabricError;

/// A counter in the kernel; each ring of the bell is a new event for who waits with edge-triggered epoll,
/// so it is never read.
#[derive(Debug)]
pub(super) struct Bell(std::fs::File);

impl Bell {
    pub(super) fn new() -> Result<Self, FabricError> {
        // SAFETY: no preconditions; the result is checked.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(FabricError::Os {
                what: "creating an eventfd".to_owned(),
                reason: std::io::Error::last_os_error().to_string(),
            });
        }
        // SAFETY: the descriptor is new and owned by nobody else.
        Ok(Self::of_peer(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The bell whose descriptor a peer has sent.
    pub(super) fn of_peer(fd: OwnedFd) -> Self {
        Self(fd.into())
    }

    pub(super) fn ring(&self) {
        // Fails only if 2^64 - 2 rings are pending, or if a broken peer sent another kind of
        // file: then it is the peer who does not wake up.
        let _ = (&self.0).write(&1_u64.to_ne_bytes());
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
