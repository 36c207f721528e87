//! Sterna's protocol as pure state machines: no clock, no socket, no thread, no unsafe code.
#![forbid(unsafe_code)]

pub mod entry;
pub mod ids;
pub mod machine;
pub mod outbox;
pub mod owned;
pub mod record;
#[doc(hidden)]
pub mod rules;
pub mod storage;
pub mod words;

pub use entry::{Entry, EntryState};
pub use ids::{Clock, Epoch, Key, RowId, SlotId, TableId};
pub use machine::Machine;
pub use outbox::{Outbox, Staging};
pub use owned::{Classic, Decision, Policy};
pub use sterna_rdma::Rank;
pub use storage::{Foreign, Full, Storage};
pub use words::{DirectoryWord, MetaWord, SlotState};
