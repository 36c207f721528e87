//! Sterna's protocol as pure state machines: no clock, no socket, no thread, no unsafe code.
//!
//! A row has one *main copy*, at its *owner*; its *home* always knows, or leads to, the owner. Other
//! nodes read the main copy one-sidedly and send it their updates, or hold replicas. This crate says
//! which records nodes exchange about that, what each does with them, and when a worker may trust what
//! it has read. The node feeds it records, wishes and time, and carries out what it says.
//!
//! # Records ([`record`])
//!
//! | record | from -> to | answered by |
//! | --- | --- | --- |
//! | Update(key, composed update) | source -> owner | Answer: ack, or nack(next owner, epoch) |
//! | Release(key, last update) | holder -> owner | Answer |
//! | Set(key, values or row) | setter -> owner | Answer |
//! | Acquire(key, what for, what is held) | requester -> owner, who may pass it on | Grant share, Grant move, Refuse; by anybody |
//! | Location(key, slot, epoch) | new owner -> home | |
//! | Where(key) | anybody -> home | Whereabouts(directory word) |
//! | SnapshotRead(key) | anybody -> owner | SnapshotRows |
//! | Offer(key) | owner -> last holder | an Acquire, if the row is still wanted |
//! | Chunk, Table, Barrier, Reduce, Stop, Clock, Arm, Notice, Trial | the node's own | |
//!
//! A record carries up to 1,024 keys of one table. Requests have numbers, answers repeat them. An *ack*
//! says: it is in the main copy. A *nack* says: I do not own it, you still hold it. Credit on a link
//! says nothing of either.
//!
//! # States ([`entry`], [`owned`])
//!
//! A key that a node uses but does not own has one [`Entry`]: Remote (no base), Pending (an Acquire is
//! open) or Replica. Beside it lie an accumulator of updates and at most one open flush; a worker sees
//! the *view*: base, then open flush, then accumulator. At the owner the row is Live; when it moves, its
//! epoch goes one up, and whoever had it before leads to the next.
//!
//! # Rules
//!
//! - **K1** For one key a node has at most one *exchange* open: a flush, a Release (even an empty one), a
//!   Set or an Acquire. It ends with its answer. Meanwhile pushes go into the accumulator.
//! - **K2** A READ of a key is posted only while no exchange of it is open. Its result counts only if since
//!   then none was opened, and state and epoch are unchanged (one generation per entry); then the result
//!   is READ + accumulator. Else it is repeated, and the second try holds new exchanges back.
//! - **K3** Writers re-check key and state after taking the writer bit; the engine tries the bit and comes
//!   back later ([`storage::Outcome::Busy`]).
//! - **K4** Live and Replica are published with the accumulator added; by K1 nothing is in flight then.
//! - **K5** A set drops its setter's accumulator and replica; the key cannot be seen there until the answer.
//! - **K6** A request of a node that knows of a newer epoch, or was told that this node is next, is parked
//!   where the answer comes: at a node with an Acquire open, and at the home. (Anywhere else the node has
//!   owned the row and has forgotten; it names the home. Parked there, the request would wait for ever.)
//!   Other updates are nacked, other Acquires passed on, along strictly growing epochs (I4). Parked
//!   requests are served in order of arrival, in the same step as the change that makes them servable.
//! - **K7** An ack changes nothing in the view, a nack puts the flush back *before* the accumulator, a
//!   refresh writes READ + accumulator.
//!
//! News about an owner counts only if its epoch is newer. The answer of the peer that was asked is no
//! exception: it may be about to own the row, with the grant still on its way, and would send the asker
//! back to where it came from for ever (the exploration finds this in eleven steps).
//!
//! # The machine ([`machine`])
//!
//! [`Machine`] serves records and turns dirty keys into requests. It is generic over the rows
//! ([`Storage`]) and the links ([`Outbox`]); the runtime and the exhaustive exploration in
//! `tests/enumeration` run the same code. What it owes is bounded: 64 unanswered request records per
//! peer and as many answers, one composed record per peer that its link has not taken yet, and parked
//! requests up to a limit, beyond which updates are nacked and Acquires refused.
//!
//! A policy that moves a row while third nodes have replicas leaves them without a board to look at;
//! those of the runtime never do.
#![forbid(unsafe_code)]

pub mod entry;
pub mod ids;
pub mod invariants;
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
