//! How nodes find each other and keep strangers out.
//!
//! Rank 0 listens where everybody was told to meet ([`rendezvous`]); each node has one listening
//! socket, its [`door`], where its peers come for links and read lanes. Whoever connects to a door
//! has to show within a few seconds, in messages of fixed length, that he knows the job's token
//! ([`proof`]). Whoever does not is refused, logged and counted, and costs the job nothing else.

pub(crate) mod call;
pub(crate) mod door;
pub(crate) mod doorkeeper;
pub(crate) mod identity;
pub(crate) mod proof;
pub(crate) mod rendezvous;
