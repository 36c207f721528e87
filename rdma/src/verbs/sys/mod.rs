//! libibverbs as it is: generated declarations, the functions found in the library at run time, and what
//! its header does inline. Nothing of it is used outside [`super`]; owned types stand above it.

#[expect(
    non_camel_case_types,
    dead_code,
    unreachable_pub,
    clippy::use_self,
    reason = "generated; all of what a struct needs is kept"
)]
pub(super) mod bindings;
mod inline;
mod load;

pub(super) use inline::{poll_cq, post_send, post_srq_recv, req_notify_cq};
pub(crate) use load::Library;
