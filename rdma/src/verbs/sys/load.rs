//! Finds libibverbs at run time: a host without it runs the same binary and says so.
//!
//! Each function is looked up with the version of its interface that the bindings describe, so that a
//! later library with newer defaults still gives the one that fits.

use std::ffi::{CStr, c_void};
use std::sync::OnceLock;

use libc::{c_int, c_uint};

use super::bindings::{self, *};
use crate::verbs::error::VerbsError;

/// The names under which systems have the library, the usual one first.
const NAMES: [&CStr; 2] = [c"libibverbs.so.1", c"libibverbs.so"];

macro_rules! functions {
    ($($(#[$optional:ident])? $name:ident @ $version:literal : fn($($arg:ident : $type:ty),*) $(-> $ret:ty)?;)+) => {
        /// The functions of libibverbs that are used here. It is loaded once and stays.
        #[derive(Debug)]
        pub(crate) struct Library {
            $(pub(in super::super) $name: functions!(@field $($optional)? ; unsafe extern "C" fn($($type),*) $(-> $ret)?),)+
        }

        // The prototypes here are those of the header; nothing is linked by this.
        $(const _: unsafe extern "C" fn($($type),*) $(-> $ret)? = bindings::$name;)+

        impl Library {
            fn find(handle: Handle) -> Result<Self, VerbsError> {
                Ok(Self {
                    $($name: {
                        let found = handle.symbol(
                            concat!(stringify!($name), "\0"),
                            concat!($version, "\0"),
                        );
                        // SAFETY: the symbol of this name and version has this prototype (checked
                        // against the header above); a null pointer is `None`.
                        let found = unsafe {
                            std::mem::transmute::<
                                *mut c_void,
                                Option<unsafe extern "C" fn($($type),*) $(-> $ret)?>,
                            >(found)
                        };
                        functions!(@value $($optional)? ; found, stringify!($name), $version)
                    },)+
                })
            }
        }
    };
    (@field optional ; $type:ty) => { Option<$type> };
    (@field ; $type:ty) => { $type };
    (@value optional ; $found:ident, $name:expr, $version:expr) => { $found };
    (@value ; $found:ident, $name:expr, $version:expr) => {
        $found.ok_or(VerbsError::OldLibrary { symbol: $name, version: $version })?
    };
}

functions! {
    ibv_get_device_list @ "IBVERBS_1.1": fn(count: *mut c_int) -> *mut *mut ibv_device;
    ibv_free_device_list @ "IBVERBS_1.1": fn(list: *mut *mut ibv_device);
    ibv_open_device @ "IBVERBS_1.1": fn(device: *mut ibv_device) -> *mut ibv_context;
    ibv_close_device @ "IBVERBS_1.1": fn(context: *mut ibv_context) -> c_int;
    ibv_query_device @ "IBVERBS_1.1": fn(context: *mut ibv_context, attr: *mut ibv_device_attr) -> c_int;
    ibv_query_port @ "IBVERBS_1.1": fn(context: *mut ibv_context, port: u8, attr: *mut _compat_ibv_port_attr) -> c_int;
    ibv_get_async_event @ "IBVERBS_1.1": fn(context: *mut ibv_context, event: *mut ibv_async_event) -> c_int;
    ibv_ack_async_event @ "IBVERBS_1.1": fn(event: *mut ibv_async_event);
    ibv_alloc_pd @ "IBVERBS_1.1": fn(context: *mut ibv_context) -> *mut ibv_pd;
    ibv_dealloc_pd @ "IBVERBS_1.1": fn(pd: *mut ibv_pd) -> c_int;
    ibv_reg_mr @ "IBVERBS_1.1": fn(pd: *mut ibv_pd, at: *mut c_void, bytes: usize, access: c_int) -> *mut ibv_mr;
    ibv_dereg_mr @ "IBVERBS_1.1": fn(mr: *mut ibv_mr) -> c_int;
    ibv_create_comp_channel @ "IBVERBS_1.0": fn(context: *mut ibv_context) -> *mut ibv_comp_channel;
    ibv_destroy_comp_channel @ "IBVERBS_1.0": fn(channel: *mut ibv_comp_channel) -> c_int;
    ibv_create_cq @ "IBVERBS_1.1": fn(context: *mut ibv_context, entries: c_int, of: *mut c_void, channel: *mut ibv_comp_channel, vector: c_int) -> *mut ibv_cq;
    ibv_destroy_cq @ "IBVERBS_1.1": fn(cq: *mut ibv_cq) -> c_int;
    ibv_get_cq_event @ "IBVERBS_1.1": fn(channel: *mut ibv_comp_channel, cq: *mut *mut ibv_cq, of: *mut *mut c_void) -> c_int;
    ibv_ack_cq_events @ "IBVERBS_1.1": fn(cq: *mut ibv_cq, count: c_uint);
    ibv_create_srq @ "IBVERBS_1.1": fn(pd: *mut ibv_pd, attr: *mut ibv_srq_init_attr) -> *mut ibv_srq;
    ibv_destroy_srq @ "IBVERBS_1.1": fn(srq: *mut ibv_srq) -> c_int;
    ibv_create_qp @ "IBVERBS_1.1": fn(pd: *mut ibv_pd, attr: *mut ibv_qp_init_attr) -> *mut ibv_qp;
    ibv_modify_qp @ "IBVERBS_1.1": fn(qp: *mut ibv_qp, attr: *mut ibv_qp_attr, mask: c_int) -> c_int;
    ibv_destroy_qp @ "IBVERBS_1.1": fn(qp: *mut ibv_qp) -> c_int;
    ibv_fork_init @ "IBVERBS_1.1": fn() -> c_int;
    #[optional] ibv_is_fork_initialized @ "IBVERBS_1.13": fn() -> ibv_fork_status;
}

impl Library {
    /// The library, loaded at the first call.
    ///
    /// # Errors
    /// [`VerbsError::NoLibrary`], [`VerbsError::OldLibrary`].
    pub(crate) fn get() -> Result<&'static Self, VerbsError> {
        static LIBRARY: OnceLock<Result<Library, VerbsError>> = OnceLock::new();
        LIBRARY.get_or_init(|| Handle::open().and_then(Self::find)).as_ref().map_err(Clone::clone)
    }
}

/// A loaded library; it is never closed, since threads of its own may run in it.
#[derive(Clone, Copy)]
struct Handle(*mut c_void);

impl Handle {
    fn open() -> Result<Self, VerbsError> {
        let mut reason = String::new();
        for name in NAMES {
            // SAFETY: the name ends with a zero byte; the library's constructors are the system's own.
            let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
            if !handle.is_null() {
                return Ok(Self(handle));
            }
            if reason.is_empty() {
                reason = last_error();
            }
        }
        Err(VerbsError::NoLibrary { reason })
    }

    /// A function, null if there is none. Both names end with a zero byte.
    fn symbol(self, name: &'static str, version: &'static str) -> *mut c_void {
        assert!(name.ends_with('\0') && version.ends_with('\0'));
        #[cfg(target_env = "gnu")]
        // SAFETY: the library is loaded; both names end with a zero byte.
        unsafe {
            libc::dlvsym(self.0, name.as_ptr().cast(), version.as_ptr().cast())
        }
        #[cfg(not(target_env = "gnu"))]
        // SAFETY: as above; without versions the default is taken.
        unsafe {
            libc::dlsym(self.0, name.as_ptr().cast())
        }
    }
}

/// Why the last `dlopen` of this thread failed.
fn last_error() -> String {
    // SAFETY: the text is valid until the next call of this kind by this thread, and copied before.
    unsafe {
        let text = libc::dlerror();
        if text.is_null() {
            return "no reason given".to_owned();
        }
        CStr::from_ptr(text).to_string_lossy().into_owned()
    }
}
