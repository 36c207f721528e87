//! The concurrent row store of a node.
//!
//! Rows live in slots of peer-readable chunks ([`SlotArena`]); where a key's slot is follows from
//! arithmetic ([`Placement`]) and is confirmed by the slot's header. Workers read and write rows
//! straight from their threads. The memory is the caller's ([`ChunkMemory`]); nothing here knows of
//! the fabric, opens files or starts threads.

pub mod placement;
pub mod shape;

mod arena;
mod board;
mod chunks;
mod clock;
mod directory;
mod foreign;
mod foreign_slots;
mod hot;
mod lanes;
mod memory;
mod pool;
mod prefetch;
mod slot;
mod sync;
mod table;

pub use arena::SlotArena;
pub use board::{BOARD_ROWS, Board, layout as board_layout};
pub use chunks::ChunkError;
pub use clock::{LaneSeen, ReadClock, clock_page_bytes, lanes_seen};
pub use directory::Directory;
pub use foreign::{
    Control, Due, Entry, EntryGuard, EntryId, ForeignCounts, ForeignKey, ForeignTable, Listing,
    entry_bytes,
};
pub use foreign_slots::NoSlot;
pub use hot::{Change, Changed, HotCounts, HotRows};
pub use memory::ChunkMemory;
pub use placement::{Location, PARTITIONS, PartitionMap, Placement, PlacementError};
pub use pool::{Block, BlockPool, Budget, Full};
pub use shape::{ShapeError, SlotPlace, TableShape};
pub use slot::{Patience, Slot, SlotError, SlotGuard};
pub use table::{Missed, RowTable, WrongLength};
