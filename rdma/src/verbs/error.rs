//! What can go wrong with an RDMA device, each with what to do.

/// Why RDMA cannot be used, or a call to a device failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerbsError {
    /// The library is not there.
    #[error(
        "libibverbs cannot be loaded ({reason}): install it (Debian, Ubuntu: apt-get install \
         libibverbs1 ibverbs-providers; Fedora, RHEL: dnf install libibverbs)"
    )]
    NoLibrary {
        /// The loader's reason.
        reason: String,
    },
    /// The library is older than any that is supported.
    #[error("libibverbs has no {symbol}@{version}: install rdma-core 17 or newer")]
    OldLibrary {
        /// The function that is missing.
        symbol: &'static str,
        /// The version of its interface.
        version: &'static str,
    },
    /// The kernel has no RDMA subsystem, or it is not loaded.
    #[error(
        "the kernel gives no RDMA devices to programs ({reason}): modprobe ib_uverbs, or use a kernel \
         with InfiniBand support"
    )]
    NoKernelSupport {
        /// The system's reason.
        reason: String,
    },
    /// There is none.
    #[error(
        "this host has no RDMA device: load its driver (modprobe mlx5_ib, ..), or make a software device \
         (rdma link add rxe0 type rxe netdev INTERFACE)"
    )]
    NoDevice,
    /// A device file cannot be opened.
    #[error(
        "no permission to open {node}: chmod 0666 {node} (udev does so where rdma-core is installed); in a \
         container, pass it in: --device={node}"
    )]
    Permission {
        /// The path.
        node: String,
    },
    /// What was asked for cannot be had on this host.
    #[error("{0}")]
    Choice(String),
    /// Memory cannot be registered within this process's limit.
    #[error(
        "registering {bytes} bytes for {what} needs {needed} bytes of locked memory, the limit is \
         {limit}: ulimit -l unlimited (systemd: LimitMEMLOCK=infinity; Docker: --ulimit memlock=-1:-1; \
         for good: '* - memlock unlimited' in /etc/security/limits.conf)"
    )]
    Memlock {
        /// Bytes of this region.
        bytes: u64,
        /// Its purpose.
        what: String,
        /// With what is locked already.
        needed: u64,
        /// RLIMIT_MEMLOCK.
        limit: u64,
    },
    /// A call failed.
    #[error("{what} on {device}: {reason}")]
    Call {
        /// What was tried.
        what: String,
        /// The device.
        device: String,
        /// The system's reason and what to do.
        reason: String,
    },
}

impl VerbsError {
    /// The error of a call that left its reason in `errno`.
    pub(super) fn last(what: &str, device: &str) -> Self {
        Self::of_errno(what, device, std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
    }

    /// The error of a call that returned its error number.
    pub(super) fn of_errno(what: &str, device: &str, errno: i32) -> Self {
        let text = std::io::Error::from_raw_os_error(errno).to_string();
        let hint = match errno {
            libc::ENOMEM => {
                "; the limit of locked memory is the usual cause (ulimit -l unlimited), or the device's \
                 own resources are used up (rdma resource show)"
            }
            libc::ETIMEDOUT | libc::EHOSTUNREACH | libc::ENETUNREACH => {
                "; the peer's address cannot be resolved: check that both devices are in networks that \
                 reach each other"
            }
            libc::ENODEV | libc::EIO => "; the device is gone or in error: see dmesg",
            _ => "",
        };
        Self::Call {
            what: what.to_owned(),
            device: device.to_owned(),
            reason: format!("{text}{hint}"),
        }
    }
}
