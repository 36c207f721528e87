//! The receive requests that all links of a node share.
//!
//! A record lands by WRITE in its ring, so a receive request has no memory; it only lets the completion
//! come. Credit bounds what peers may have outstanding by what was posted here.

use std::ptr::NonNull;
use std::sync::Arc;

use super::error::VerbsError;
use super::memory::ProtectionDomain;
use super::sys;
use super::sys::bindings::*;
use super::tuning::CHAIN_MAX;

/// What completions of receive requests carry as their number; no send request has it.
pub(super) const RECEIVED: u64 = u64::MAX;

/// A shared receive queue.
#[derive(Clone, Debug)]
pub(super) struct SharedQueue(Arc<SharedInner>);

#[derive(Debug)]
struct SharedInner {
    raw: NonNull<ibv_srq>,
    domain: ProtectionDomain,
}

// SAFETY: the functions of libibverbs may be called on a queue by any thread at any time.
unsafe impl Send for SharedInner {}
// SAFETY: as above.
unsafe impl Sync for SharedInner {}

impl SharedQueue {
    /// A queue with `requests` requests, all of them posted.
    pub(super) fn new(domain: &ProtectionDomain, requests: u32) -> Result<Self, VerbsError> {
        let queue = Self::empty(domain, requests)?;
        queue.post(requests)?;
        Ok(queue)
    }

    /// A queue with room for `requests` requests.
    pub(super) fn empty(domain: &ProtectionDomain, requests: u32) -> Result<Self, VerbsError> {
        let context = domain.context();
        let mut attr = ibv_srq_init_attr {
            srq_context: std::ptr::null_mut(),
            attr: ibv_srq_attr { max_wr: requests, max_sge: 1, srq_limit: 0 },
        };
        // SAFETY: the domain is alive and `attr` valid for the call.
        let raw = unsafe { (context.library().ibv_create_srq)(domain.raw(), &raw mut attr) };
        let raw = NonNull::new(raw).ok_or_else(|| {
            let what = format!("making a shared receive queue of {requests} requests");
            VerbsError::last(&what, context.name())
        })?;
        Ok(Self(Arc::new(SharedInner { raw, domain: domain.clone() })))
    }

    pub(super) fn raw(&self) -> *mut ibv_srq {
        self.0.raw.as_ptr()
    }

    /// Posts `count` requests.
    pub(super) fn post(&self, count: u32) -> Result<(), VerbsError> {
        let mut left = count as usize;
        while left > 0 {
            let chain = left.min(CHAIN_MAX);
            let blank = ibv_recv_wr {
                wr_id: RECEIVED,
                next: std::ptr::null_mut(),
                sg_list: std::ptr::null_mut(),
                num_sge: 0,
            };
            let mut requests = [blank; CHAIN_MAX];
            let first = requests.as_mut_ptr();
            let mut bad = std::ptr::null_mut();
            // SAFETY: both places of each step are in the array. The queue is alive; the list ends with null
            // and outlives the call.
            let status = unsafe {
                for at in 1..chain {
                    (*first.add(at - 1)).next = first.add(at);
                }
                sys::post_srq_recv(self.raw(), first, &mut bad)
            };
            self.0.domain.context().check(status, "posting receive requests")?;
            left -= chain;
        }
        Ok(())
    }
}

impl Drop for SharedInner {
    fn drop(&mut self) {
        // SAFETY: the queue pairs that share it held this; they are gone.
        let status =
            unsafe { (self.domain.context().library().ibv_destroy_srq)(self.raw.as_ptr()) };
        debug_assert_eq!(status, 0, "ending a shared receive queue");
    }
}
