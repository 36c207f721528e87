//! Sterna's protocol as pure state machines: no clock, no socket, no thread, no unsafe code.
#![forbid(unsafe_code)]

pub mod ids;
pub mod words;

pub use ids::{Clock, Epoch, Key, SlotId, TableId};
pub use sterna_rdma::Rank;
pub use words::{DirectoryWord, MetaWord, SlotState};
