//! Unix sockets that keep packets apart (SOCK_SEQPACKET), have abstract names, pass descriptors, and never
//! block: the foreign calls of this provider.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use libc::c_int;

/// Descriptors that one packet may carry.
pub(super) const FDS_MAX: usize = 2;

/// Bytes of [`FDS_MAX`] descriptors.
const FDS_BYTES: u32 = 2 * 4;

/// Bytes of the control message that carries them.
// SAFETY: a computation.
const CONTROL_BYTES: usize = unsafe { libc::CMSG_SPACE(FDS_BYTES) } as usize;

const _: () = assert!(FDS_BYTES as usize == FDS_MAX * size_of::<c_int>());

/// A control buffer, aligned as the system wants it.
#[repr(C)]
union Control {
    bytes: [u8; CONTROL_BYTES],
    _align: libc::cmsghdr,
}

/// A socket.
#[derive(Debug)]
pub(super) struct Socket(OwnedFd);

/// A packet as it came.
#[derive(Debug, Default)]
pub(super) struct Received {
    /// Its length; 0 if the other side has hung up.
    pub(super) len: usize,
    /// The descriptors that came with it.
    pub(super) fds: Vec<OwnedFd>,
    /// Whether descriptors were lost, because there were too many or this process may open no more.
    pub(super) truncated: bool,
}

impl Socket {
    /// Listens at the abstract name `name`, which ends with the socket.
    pub(super) fn listen(name: &str) -> io::Result<Self> {
        let socket = Self::new()?;
        let (address, len) = address(name);
        // SAFETY: `address` is valid for `len` bytes.
        check(unsafe { libc::bind(socket.raw(), (&raw const address).cast(), len) })?;
        // SAFETY: an open socket.
        check(unsafe { libc::listen(socket.raw(), 1024) })?;
        Ok(socket)
    }

    /// Connects to who listens at `name`.
    pub(super) fn connect(name: &str) -> io::Result<Self> {
        let socket = Self::new()?;
        let (address, len) = address(name);
        // SAFETY: `address` is valid for `len` bytes.
        check(unsafe { libc::connect(socket.raw(), (&raw const address).cast(), len) })?;
        Ok(socket)
    }

    /// The next caller, if there is one.
    pub(super) fn accept(&self) -> io::Result<Option<Self>> {
        // SAFETY: an open socket; no address is asked for.
        let fd = unsafe {
            libc::accept4(
                self.raw(),
                std::ptr::null_mut(),
                std::ptr::null_mut(),
                libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
            )
        };
        match check(fd) {
            // SAFETY: a new descriptor that nobody else owns.
            Ok(fd) => Ok(Some(Self(unsafe { OwnedFd::from_raw_fd(fd) }))),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// User and process at the other end.
    pub(super) fn credentials(&self) -> io::Result<libc::ucred> {
        let mut cred = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
        let mut len = socklen(size_of::<libc::ucred>());
        // SAFETY: `cred` is valid for `len` bytes and any bytes are a `ucred`.
        check(unsafe {
            libc::getsockopt(
                self.raw(),
                libc::SOL_SOCKET,
                libc::SO_PEERCRED,
                (&raw mut cred).cast(),
                &raw mut len,
            )
        })?;
        Ok(cred)
    }

    /// Sends a packet with descriptors, or nothing at all.
    pub(super) fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        assert!(fds.len() <= FDS_MAX && !bytes.is_empty());
        let mut part =
            libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let mut control = Control { bytes: [0; CONTROL_BYTES] };
        // SAFETY: a `msghdr` of zeroes is valid: nothing to send.
        let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        if !fds.is_empty() {
            let raw: Vec<c_int> = fds.iter().map(AsRawFd::as_raw_fd).collect();
            let payload = u32::try_from(size_of_val(raw.as_slice())).expect("two numbers");
            message.msg_control = (&raw mut control).cast();
            // SAFETY: computations, and stores into `control`, which has room for `FDS_MAX` descriptors.
            unsafe {
                message.msg_controllen = libc::CMSG_SPACE(payload) as _;
                let header = libc::CMSG_FIRSTHDR(&raw const message);
                (*header).cmsg_level = libc::SOL_SOCKET;
                (*header).cmsg_type = libc::SCM_RIGHTS;
                (*header).cmsg_len = libc::CMSG_LEN(payload) as _;
                let data = libc::CMSG_DATA(header);
                std::ptr::copy_nonoverlapping(raw.as_ptr().cast(), data, payload as usize);
            }
        }
        // SAFETY: `message` points to live buffers of the stated lengths, which the call only reads.
        let sent = unsafe {
            libc::sendmsg(self.raw(), &raw const message, libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT)
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Takes the next packet, of which at most `bytes.len()` bytes are kept.
    pub(super) fn receive(&self, bytes: &mut [u8]) -> io::Result<Received> {
        let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        let mut control = Control { bytes: [0; CONTROL_BYTES] };
        // SAFETY: a `msghdr` of zeroes is valid.
        let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = (&raw mut control).cast();
        message.msg_controllen = CONTROL_BYTES as _;
        // SAFETY: `message` points to live buffers of the stated lengths.
        let len = unsafe {
            libc::recvmsg(
                self.raw(),
                &raw mut message,
                libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC | libc::MSG_TRUNC,
            )
        };
        let Ok(len) = usize::try_from(len) else { return Err(io::Error::last_os_error()) };
        Ok(Received {
            len,
            // SAFETY: the call above has filled `message` and `control`, which lives.
            fds: unsafe { descriptors(&message) },
            truncated: message.msg_flags & libc::MSG_CTRUNC != 0,
        })
    }

    /// Ends the connection in both directions; the other side sees a hang-up.
    pub(super) fn shut_down(&self) {
        // SAFETY: an open socket. An error means that it was down already.
        unsafe { libc::shutdown(self.raw(), libc::SHUT_RDWR) };
    }

    fn new() -> io::Result<Self> {
        let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: no preconditions.
        let fd = check(unsafe { libc::socket(libc::AF_UNIX, kind, 0) })?;
        // SAFETY: a new descriptor that nobody else owns.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    fn raw(&self) -> c_int {
        self.0.as_raw_fd()
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Takes ownership of the descriptors that came with a message.
///
/// # Safety
/// `message` must be as `recvmsg` has left it, its control buffer alive, and this is the only call
/// for it.
unsafe fn descriptors(message: &libc::msghdr) -> Vec<OwnedFd> {
    let mut fds = Vec::new();
    // SAFETY: the caller's word; the macros walk the control buffer within its length, and each
    // descriptor in it is new and owned by nobody else.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(message);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS {
                let bytes = (*header).cmsg_len as usize - libc::CMSG_LEN(0) as usize;
                let data: *const c_int = libc::CMSG_DATA(header).cast();
                for i in 0..bytes / size_of::<c_int>() {
                    fds.push(OwnedFd::from_raw_fd(data.add(i).read_unaligned()));
                }
            }
            header = libc::CMSG_NXTHDR(message, header);
        }
    }
    fds
}

/// The abstract address of `name`: a zero byte and the name, without a file.
fn address(name: &str) -> (libc::sockaddr_un, libc::socklen_t) {
    // SAFETY: zeroes are a valid address.
    let mut address: libc::sockaddr_un = unsafe { MaybeUninit::zeroed().assume_init() };
    #[expect(clippy::cast_possible_truncation, reason = "a small constant")]
    let family = libc::AF_UNIX as libc::sa_family_t;
    address.sun_family = family;
    assert!(name.len() < address.sun_path.len(), "names are short");
    for (to, byte) in address.sun_path[1..].iter_mut().zip(name.bytes()) {
        *to = libc::c_char::from_ne_bytes([byte]);
    }
    let len = std::mem::offset_of!(libc::sockaddr_un, sun_path) + 1 + name.len();
    (address, socklen(len))
}

fn socklen(bytes: usize) -> libc::socklen_t {
    libc::socklen_t::try_from(bytes).expect("a small structure")
}

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
