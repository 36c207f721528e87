//! What verbs.h does inline: the calls of the data path go through the device's own functions, which the
//! context of an object leads to. There are no symbols of these names in the library.

use libc::c_int;

use super::bindings::{ibv_cq, ibv_qp, ibv_recv_wr, ibv_send_wr, ibv_srq, ibv_wc};

/// Gives a list of work requests to a queue pair; 0 or an error number, with `bad` at the first request that
/// was not taken.
///
/// # Safety
/// `qp` is alive; `wr` is a list that ends with null, whose memory is as the requests say.
#[inline]
pub(in super::super) unsafe fn post_send(
    qp: *mut ibv_qp,
    wr: *mut ibv_send_wr,
    bad: &mut *mut ibv_send_wr,
) -> c_int {
    // SAFETY: a queue pair that is alive has a context, whose functions its device has set.
    unsafe {
        let call = (*(*qp).context).ops.post_send.expect("every device sends");
        call(qp, wr, bad)
    }
}

/// Gives receive requests to a shared queue. As [`post_send`].
///
/// # Safety
/// As [`post_send`].
#[inline]
pub(in super::super) unsafe fn post_srq_recv(
    srq: *mut ibv_srq,
    wr: *mut ibv_recv_wr,
    bad: &mut *mut ibv_recv_wr,
) -> c_int {
    // SAFETY: as in `post_send`; a device that made a shared queue has the function.
    unsafe {
        let call = (*(*srq).context).ops.post_srq_recv.expect("the device has shared queues");
        call(srq, wr, bad)
    }
}

/// Takes up to `wc.len()` completions; how many, or below zero for an error.
///
/// # Safety
/// `cq` is alive.
#[inline]
pub(in super::super) unsafe fn poll_cq(cq: *mut ibv_cq, wc: &mut [ibv_wc]) -> c_int {
    let entries = c_int::try_from(wc.len()).unwrap_or(c_int::MAX);
    // SAFETY: as in `post_send`; `wc` has room for `entries`.
    unsafe {
        let call = (*(*cq).context).ops.poll_cq.expect("every device completes");
        call(cq, entries, wc.as_mut_ptr())
    }
}

/// Asks for an event at the next completion; 0 or an error number.
///
/// # Safety
/// `cq` is alive and has a channel.
#[inline]
pub(in super::super) unsafe fn req_notify_cq(cq: *mut ibv_cq) -> c_int {
    // SAFETY: as in `post_send`.
    unsafe {
        let call = (*(*cq).context).ops.req_notify_cq.expect("every device notifies");
        call(cq, 0)
    }
}
