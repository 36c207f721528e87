//! Protection domains and registered memory.
//!
//! What is registered is always a [`Region`], which the registration holds: a device never reaches memory
//! that was given back. Rights are those of the region and nothing more.

use std::ptr::NonNull;
use std::sync::Arc;

use super::context::Context;
use super::error::VerbsError;
use super::memlock;
use super::sys::bindings::*;
use crate::region::Region;

/// A protection domain: queue pairs reach the memory of their own only.
#[derive(Clone, Debug)]
pub(super) struct ProtectionDomain(Arc<DomainInner>);

#[derive(Debug)]
struct DomainInner {
    raw: NonNull<ibv_pd>,
    context: Context,
}

// SAFETY: the functions of libibverbs may be called on a domain by any thread at any time.
unsafe impl Send for DomainInner {}
// SAFETY: as above.
unsafe impl Sync for DomainInner {}

impl ProtectionDomain {
    pub(super) fn new(context: &Context) -> Result<Self, VerbsError> {
        // SAFETY: the context is open.
        let raw = unsafe { (context.library().ibv_alloc_pd)(context.raw()) };
        let raw = NonNull::new(raw)
            .ok_or_else(|| VerbsError::last("making a protection domain", context.name()))?;
        Ok(Self(Arc::new(DomainInner { raw, context: context.clone() })))
    }

    pub(super) fn context(&self) -> &Context {
        &self.0.context
    }

    pub(super) fn raw(&self) -> *mut ibv_pd {
        self.0.raw.as_ptr()
    }
}

impl Drop for DomainInner {
    fn drop(&mut self) {
        // SAFETY: nothing made in the domain is left: all of it holds this.
        let status = unsafe { (self.context.library().ibv_dealloc_pd)(self.raw.as_ptr()) };
        debug_assert_eq!(status, 0, "giving a protection domain back");
    }
}

/// What a device may do with registered memory; reading it for this node's own sends is always allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Nothing more.
    Send,
    /// READs of this node land there.
    Land,
    /// Peers may read.
    PeersRead,
    /// Peers may write.
    PeersWrite,
}

impl Access {
    fn flags(self) -> u32 {
        match self {
            Self::Send => 0,
            Self::Land => IBV_ACCESS_LOCAL_WRITE,
            Self::PeersRead => IBV_ACCESS_REMOTE_READ,
            // The specification asks for the right of local writes with that of remote ones.
            Self::PeersWrite => IBV_ACCESS_LOCAL_WRITE | IBV_ACCESS_REMOTE_WRITE,
        }
    }
}

/// Registered memory.
#[derive(Debug)]
pub(super) struct MemoryRegion {
    raw: NonNull<ibv_mr>,
    domain: ProtectionDomain,
    /// Dropped after the registration.
    region: Arc<Region>,
}

// SAFETY: a registration is a number at the device; the memory behind it is plain (see `Region`).
unsafe impl Send for MemoryRegion {}
// SAFETY: as above.
unsafe impl Sync for MemoryRegion {}

impl MemoryRegion {
    /// Registers all of a region. `what` is its purpose, for messages.
    pub(super) fn register(
        domain: &ProtectionDomain,
        region: Arc<Region>,
        access: Access,
        what: &str,
    ) -> Result<Self, VerbsError> {
        let (context, bytes) = (domain.context(), region.bytes());
        memlock::check(bytes as u64, what)?;
        let flags = i32::try_from(access.flags()).expect("small flags");
        let at = region.base().as_ptr().cast();
        // SAFETY: the range is mapped as long as `region`, which outlives the registration.
        let raw = unsafe { (context.library().ibv_reg_mr)(domain.raw(), at, bytes, flags) };
        let Some(raw) = NonNull::new(raw) else {
            let error =
                VerbsError::last(&format!("registering {bytes} bytes for {what}"), context.name());
            return Err(error);
        };
        Ok(Self { raw, domain: domain.clone(), region })
    }

    /// The device.
    #[cfg(feature = "witness")]
    pub(super) fn context(&self) -> &Context {
        self.domain.context()
    }

    /// First byte.
    pub(super) fn base(&self) -> *mut u8 {
        self.region.base().as_ptr()
    }

    /// As peers and work requests name it.
    pub(super) fn address(&self) -> u64 {
        self.base().addr() as u64
    }

    /// Key for work requests of this node.
    pub(super) fn local_key(&self) -> u32 {
        // SAFETY: registered as long as this lives.
        unsafe { self.raw.as_ref().lkey }
    }

    /// Key for peers.
    pub(super) fn remote_key(&self) -> u32 {
        // SAFETY: as above.
        unsafe { self.raw.as_ref().rkey }
    }
}

impl Drop for MemoryRegion {
    fn drop(&mut self) {
        let library = self.domain.context().library();
        // SAFETY: registered above and not used any more: queue pairs that use it are gone or failed.
        let status = unsafe { (library.ibv_dereg_mr)(self.raw.as_ptr()) };
        debug_assert_eq!(status, 0, "ending a registration");
    }
}
