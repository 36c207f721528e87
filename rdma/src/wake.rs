//! Ends a node's sleep from any thread.
//!
//! A counter in the kernel (eventfd) that stays readable until it is read: a wake-up that comes
//! before the sleep is not lost, and no other thread can take it away by polling for events.

use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd};
use std::time::{Duration, Instant};

use crate::error::FabricError;

/// Something to sleep on that any thread can end.
#[derive(Debug)]
pub(crate) struct Wake {
    counter: std::fs::File,
}

impl Wake {
    pub(crate) fn new() -> Result<Self, FabricError> {
        // SAFETY: no preconditions; the result is checked.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(FabricError::Os {
                what: "creating an eventfd".to_owned(),
                reason: std::io::Error::last_os_error().to_string(),
            });
        }
        // SAFETY: the descriptor is new and owned by nobody else.
        Ok(Self { counter: unsafe { std::fs::File::from_raw_fd(fd) } })
    }

    /// Ends a running or the next sleep.
    pub(crate) fn wake(&self) {
        // Fails only if 2^64 - 2 wake-ups are pending; then the sleep ends anyway.
        let _ = (&self.counter).write(&1_u64.to_ne_bytes());
    }

    /// Sleeps until `also` is readable, somebody woke it, or `limit` is over.
    pub(crate) fn sleep(
        &self,
        also: Option<BorrowedFd<'_>>,
        limit: Duration,
    ) -> Result<(), FabricError> {
        let mut fds = [pollfd(self.counter.as_fd().as_raw_fd(), libc::POLLIN); 2];
        if let Some(also) = also {
            fds[1].fd = also.as_raw_fd();
        }
        let count = if also.is_some() { 2 } else { 1 };
        poll(&mut fds[..count], limit)?;
        if fds[0].revents != 0 {
            let mut count = [0; 8];
            let _ = (&self.counter).read(&mut count);
        }
        Ok(())
    }
}

/// An entry for [`poll`].
pub(crate) fn pollfd(fd: i32, events: libc::c_short) -> libc::pollfd {
    libc::pollfd { fd, events, revents: 0 }
}

/// Sleeps until one of `fds` is ready or `limit` is over. A signal does not end the sleep.
pub(crate) fn poll(fds: &mut [libc::pollfd], limit: Duration) -> Result<usize, FabricError> {
    let deadline = Instant::now() + limit;
    let mut left = limit;
    loop {
        let timeout = libc::timespec {
            tv_sec: libc::time_t::try_from(left.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        let count = libc::nfds_t::try_from(fds.len()).expect("few descriptors");
        // SAFETY: `fds` is valid for `count` entries and `timeout` for the call; no signal mask.
        let ready =
            unsafe { libc::ppoll(fds.as_mut_ptr(), count, &raw const timeout, std::ptr::null()) };
        if let Ok(ready) = usize::try_from(ready) {
            return Ok(ready);
        }
        let error = std::io::Error::last_os_error();
        if error.kind() != std::io::ErrorKind::Interrupted {
            return Err(FabricError::Os {
                what: "waiting for events".to_owned(),
                reason: error.to_string(),
            });
        }
        left = deadline.saturating_duration_since(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wake_before_the_sleep_ends_it_and_only_it() {
        let wake = Wake::new().expect("an eventfd");
        wake.wake();
        wake.wake();
        let start = Instant::now();
        wake.sleep(None, Duration::from_secs(120)).expect("no fault");
        assert!(start.elapsed() < Duration::from_secs(120), "the first sleep ended by the wake-up");
        let mut fds = [pollfd(wake.counter.as_fd().as_raw_fd(), libc::POLLIN)];
        assert_eq!(poll(&mut fds, Duration::ZERO).expect("no fault"), 0, "nothing is left");
    }
}
