//! The concurrent row store of a node.
//!
//! Rows live in slots of peer-readable chunks ([`SlotArena`]); where a key's slot is follows from
//! arithmetic ([`Placement`]) and is confirmed by the slot's header. Workers read and write rows
//! straight from their threads. The memory is the caller's ([`ChunkMemory`]); nothing here knows of
//! the fabric, opens files or starts threads.

pub mod placement;
pub mod shape;

mod arena;
mod chunks;
mod directory;
mod foreign;
mod hot;
mod lanes;
mod memory;
mod pool;
mod prefetch;
mod slot;
mod sync;
mod table;

pub use arena::SlotArena;
pub use chunks::ChunkError;
pub use directory::Directory;
pub use foreign::{Control, Entry, EntryGuard, EntryId, ForeignCounts, ForeignKey, ForeignTable};
pub use hot::{Change, HotCounts, HotRows};
pub use memory::ChunkMemory;
pub use placement::{Location, PARTITIONS, PartitionMap, Placement, PlacementError};
pub use pool::{Block, BlockPool, Budget, Full};
pub use shape::{ShapeError, SlotPlace, TableShape};
pub use slot::{Patience, Slot, SlotError, SlotGuard};
pub use table::{Missed, RowTable, WrongLength};
