//! Completion queues, each with a channel of its own to sleep on.

use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::Arc;

use super::context::{Context, set_nonblocking};
use super::error::VerbsError;
use super::sys;
use super::sys::bindings::*;

/// A completion queue.
#[derive(Clone, Debug)]
pub(super) struct CompletionQueue(Arc<QueueInner>);

#[derive(Debug)]
struct QueueInner {
    raw: NonNull<ibv_cq>,
    /// Dropped after the queue.
    channel: Channel,
}

// SAFETY: the functions of libibverbs may be called on a queue by any thread at any time.
unsafe impl Send for QueueInner {}
// SAFETY: as above.
unsafe impl Sync for QueueInner {}

/// A finished work request.
pub(super) type WorkCompletion = ibv_wc;

/// An unused place for a completion.
pub(super) fn blank() -> WorkCompletion {
    // SAFETY: plain numbers, for which zeroes are valid.
    unsafe { std::mem::zeroed() }
}

/// The immediate data of a received record.
pub(super) fn immediate(completion: &WorkCompletion) -> u32 {
    // SAFETY: both members are plain numbers of the same size.
    u32::from_be(unsafe { completion.__bindgen_anon_1.imm_data })
}

impl CompletionQueue {
    /// A queue with room for `entries` completions.
    pub(super) fn new(context: &Context, entries: u32) -> Result<Self, VerbsError> {
        let channel = Channel::new(context)?;
        let entries = i32::try_from(entries).unwrap_or(i32::MAX);
        // SAFETY: context and channel are alive; the queue's own pointer is not used.
        let raw = unsafe {
            let create = context.library().ibv_create_cq;
            create(context.raw(), entries, std::ptr::null_mut(), channel.raw.as_ptr(), 0)
        };
        let raw = NonNull::new(raw).ok_or_else(|| {
            let what = format!("making a completion queue of {entries} entries");
            VerbsError::last(&what, context.name())
        })?;
        Ok(Self(Arc::new(QueueInner { raw, channel })))
    }

    pub(super) fn raw(&self) -> *mut ibv_cq {
        self.0.raw.as_ptr()
    }

    fn context(&self) -> &Context {
        &self.0.channel.context
    }

    /// Takes completions, as many as are there and fit.
    pub(super) fn poll(&self, to: &mut [WorkCompletion]) -> Result<usize, VerbsError> {
        // SAFETY: the queue is alive.
        let count = unsafe { sys::poll_cq(self.raw(), to) };
        usize::try_from(count)
            .map_err(|_| VerbsError::of_errno("taking completions", self.context().name(), -count))
    }

    /// Asks for the descriptor to become readable with the next completion. One that came before this
    /// call may or may not count, so the caller looks once more afterwards.
    pub(super) fn arm(&self) -> Result<(), VerbsError> {
        // SAFETY: the queue is alive and has a channel.
        let status = unsafe { sys::req_notify_cq(self.raw()) };
        self.context().check(status, "asking for completion events")
    }

    /// Takes the events that made the descriptor readable.
    pub(super) fn take_events(&self) {
        let library = self.context().library();
        let (mut queue, mut of) = (std::ptr::null_mut(), std::ptr::null_mut());
        let mut count = 0;
        // SAFETY: the channel is alive and does not block; both pointers are valid for the call.
        while unsafe {
            (library.ibv_get_cq_event)(self.0.channel.raw.as_ptr(), &raw mut queue, &raw mut of)
        } == 0
        {
            count += 1;
        }
        if count > 0 {
            // SAFETY: so many events of this queue, the only one of its channel, were taken above.
            unsafe { (library.ibv_ack_cq_events)(self.raw(), count) };
        }
    }
}

impl AsFd for CompletionQueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.channel.as_fd()
    }
}

impl Drop for QueueInner {
    fn drop(&mut self) {
        // SAFETY: the queue pairs that complete here held this; they are gone. All events that were taken
        // are acknowledged.
        let status = unsafe { (self.channel.context.library().ibv_destroy_cq)(self.raw.as_ptr()) };
        debug_assert_eq!(status, 0, "ending a completion queue");
    }
}

/// Where a completion queue announces completions.
#[derive(Debug)]
struct Channel {
    raw: NonNull<ibv_comp_channel>,
    context: Context,
}

impl Channel {
    fn new(context: &Context) -> Result<Self, VerbsError> {
        // SAFETY: the context is open.
        let raw = unsafe { (context.library().ibv_create_comp_channel)(context.raw()) };
        let raw = NonNull::new(raw)
            .ok_or_else(|| VerbsError::last("making a completion channel", context.name()))?;
        let channel = Self { raw, context: context.clone() };
        set_nonblocking(channel.as_fd()).map_err(|errno| {
            VerbsError::of_errno("preparing a completion channel", context.name(), errno)
        })?;
        Ok(channel)
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is open as long as the channel.
        unsafe { BorrowedFd::borrow_raw(self.raw.as_ref().fd) }
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        // SAFETY: its queue is gone.
        let status =
            unsafe { (self.context.library().ibv_destroy_comp_channel)(self.raw.as_ptr()) };
        debug_assert_eq!(status, 0, "ending a completion channel");
    }
}
