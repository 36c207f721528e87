//! The memory of tables: chunks of this node, and those that peers have told of.

use std::sync::{Arc, OnceLock};

use sterna_protocol::Rank;
use sterna_protocol::record::Arena;
use sterna_rdma::{Fabric, FabricError, Region, RegionId, RegionSpec, RegionToken, Rights};
use sterna_store::ChunkMemory;

/// The regions in which peers keep one table: rows and directory words, by rank, then chunk.
#[derive(Debug, Default)]
pub(crate) struct PeerChunks(Vec<[Box<[OnceLock<RegionId>]>; 2]>);

/// Which of the two arenas of a table.
fn kind(arena: Arena) -> Option<usize> {
    match arena {
        Arena::Rows => Some(0),
        Arena::Directory => Some(1),
        Arena::Boards | Arena::Clocks => None,
    }
}

impl PeerChunks {
    /// Room for so many chunks of rows and of the directory at each peer.
    pub(crate) fn new(most: impl Iterator<Item = [usize; 2]>) -> Self {
        let room = |count: usize| (0..count).map(|_| OnceLock::new()).collect();
        Self(most.map(|counts| counts.map(room)).collect())
    }

    /// A chunk, once its node has told of it.
    pub(crate) fn region(&self, peer: Rank, arena: Arena, chunk: usize) -> Option<RegionId> {
        self.0.get(peer.index())?[kind(arena)?].get(chunk)?.get().copied()
    }

    /// A peer tells of a chunk. `false` if there is no room for it, or it was told of before.
    pub(crate) fn learn(&self, peer: Rank, arena: Arena, chunk: usize, region: RegionId) -> bool {
        let list = self.0.get(peer.index()).zip(kind(arena)).map(|(lists, kind)| &lists[kind]);
        list.and_then(|list| list.get(chunk)).is_some_and(|place| place.set(region).is_ok())
    }
}

/// New zeroed memory that peers may read.
pub(crate) fn allocate(
    fabric: &dyn Fabric,
    name: &'static str,
    bytes: usize,
) -> Result<ChunkMemory, FabricError> {
    let region = fabric.allocate(RegionSpec { name, bytes, rights: Rights::Read })?;
    let (base, bytes) = (region.base(), region.bytes());
    // SAFETY: the region is zeroed, valid and aligned for as long as `keep` lives, and its content is only reached
    // through the store and by peers' reads.
    Ok(unsafe { ChunkMemory::new(base, bytes, region) })
}

/// Makes memory from [`allocate`] reachable for peers.
pub(crate) fn export(
    fabric: &dyn Fabric,
    memory: &ChunkMemory,
) -> Result<RegionToken, FabricError> {
    let region = Arc::clone(memory.keep()).downcast::<Region>();
    fabric.export(&region.expect("chunks are regions"))
}
