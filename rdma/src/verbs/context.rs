//! An open device. Whatever is made on it holds it, so it closes when the last of them is gone.

use std::ffi::CStr;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::Arc;

use super::error::VerbsError;
use super::sys::Library;
use super::sys::bindings::*;

/// A handle of an open device.
#[derive(Clone, Debug)]
pub(crate) struct Context(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    library: &'static Library,
    raw: NonNull<ibv_context>,
    name: String,
    node: PathBuf,
}

// SAFETY: the functions of libibverbs may be called on a context by any thread at any time.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

impl Context {
    /// # Safety
    /// `device` is of a list of devices that is alive.
    pub(super) unsafe fn open(
        library: &'static Library,
        device: *mut ibv_device,
        name: &str,
    ) -> Result<Self, VerbsError> {
        // SAFETY: the library ends names with a zero byte.
        let file = unsafe { CStr::from_ptr((*device).dev_name.as_ptr()) };
        let node = Path::new("/dev/infiniband").join(file.to_string_lossy().as_ref());
        protect_forks(library);
        // SAFETY: by the caller's word.
        let raw = unsafe { (library.ibv_open_device)(device) };
        let Some(raw) = NonNull::new(raw) else {
            return Err(not_opened(&node, name, &std::io::Error::last_os_error()));
        };
        let context = Self(Arc::new(Inner { library, raw, name: name.to_owned(), node }));
        set_nonblocking(context.async_fd())
            .map_err(|errno| VerbsError::of_errno("preparing its events", name, errno))?;
        Ok(context)
    }

    pub(super) fn library(&self) -> &'static Library {
        self.0.library
    }

    pub(super) fn raw(&self) -> *mut ibv_context {
        self.0.raw.as_ptr()
    }

    /// Its device's name.
    pub(super) fn name(&self) -> &str {
        &self.0.name
    }

    /// Its device's file.
    pub(super) fn node(&self) -> &Path {
        &self.0.node
    }

    /// Readable when the device has something to tell.
    pub(super) fn async_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is open as long as the context.
        unsafe { BorrowedFd::borrow_raw((*self.raw()).async_fd) }
    }

    /// What the device can do.
    pub(super) fn query_device(&self) -> Result<ibv_device_attr, VerbsError> {
        // SAFETY: plain numbers, for which zeroes are valid.
        let mut attr: ibv_device_attr = unsafe { std::mem::zeroed() };
        // SAFETY: the context is open and `attr` valid for the call.
        let status = unsafe { (self.library().ibv_query_device)(self.raw(), &raw mut attr) };
        self.check(status, "asking for its limits")?;
        Ok(attr)
    }

    /// The state of a port.
    pub(super) fn query_port(&self, port: u8) -> Result<ibv_port_attr, VerbsError> {
        // SAFETY: plain numbers, for which zeroes are valid.
        let mut attr: ibv_port_attr = unsafe { std::mem::zeroed() };
        let compat: *mut _compat_ibv_port_attr = (&raw mut attr).cast();
        // SAFETY: the context is open. The function fills the first part of `attr` as verbs.h's own
        // wrapper has it do for devices without the later fields, which stay zero.
        let status = unsafe { (self.library().ibv_query_port)(self.raw(), port, compat) };
        self.check(status, &format!("asking for port {port}"))?;
        Ok(attr)
    }

    /// The error of a call that returned `status`, 0 being success.
    pub(super) fn check(&self, status: i32, what: &str) -> Result<(), VerbsError> {
        match status {
            0 => Ok(()),
            // Some calls return -1 and set errno, some return it.
            -1 => Err(VerbsError::last(what, self.name())),
            errno => Err(VerbsError::of_errno(what, self.name(), errno.abs())),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // SAFETY: nothing made on the context is left: all of it holds this.
        let status = unsafe { (self.library.ibv_close_device)(self.raw.as_ptr()) };
        debug_assert_eq!(status, 0, "closing {}", self.name);
    }
}

/// Why a device was not opened. The library tries other ways when its file cannot be opened, and tells only
/// why the last of them did not work.
fn not_opened(node: &Path, name: &str, told: &std::io::Error) -> VerbsError {
    use std::io::ErrorKind;
    let file = std::fs::OpenOptions::new().read(true).write(true).open(node);
    match (file.map_err(|error| error.kind()), told.raw_os_error()) {
        (Err(ErrorKind::PermissionDenied), _) | (_, Some(libc::EACCES | libc::EPERM)) => {
            VerbsError::Permission { node: node.display().to_string() }
        }
        (Err(ErrorKind::NotFound), _) => VerbsError::Choice(format!(
            "{} is not there, through which programs use {name}: modprobe ib_uverbs; in a container, pass \
             it in: --device={}",
            node.display(),
            node.display()
        )),
        (_, errno) => VerbsError::of_errno("opening the device", name, errno.unwrap_or(0)),
    }
}

/// A child of this process must not take pinned pages away. Newer kernels copy them for the child; older
/// ones need the library to hide registered memory, which has to begin before anything is registered.
fn protect_forks(library: &'static Library) {
    let needed = match library.ibv_is_fork_initialized {
        // SAFETY: no preconditions.
        Some(query) => unsafe { query() == IBV_FORK_DISABLED },
        None => true,
    };
    // SAFETY: no preconditions; calling it again changes nothing.
    if needed && unsafe { (library.ibv_fork_init)() } != 0 {
        static WARN: std::sync::Once = std::sync::Once::new();
        WARN.call_once(|| {
            tracing::warn!(
                "this process must not fork without exec: memory was registered before it could be \
                 protected (Python: use the spawn method)"
            );
        });
    }
}

/// Lets reads of a descriptor return at once.
pub(super) fn set_nonblocking(fd: BorrowedFd<'_>) -> Result<(), i32> {
    use std::os::fd::AsRawFd as _;
    // SAFETY: an open descriptor; the flags are kept but for the one that is added.
    let status = unsafe {
        let flags = libc::fcntl(fd.as_raw_fd(), libc::F_GETFL);
        libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK)
    };
    if status < 0 {
        return Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0));
    }
    Ok(())
}
