//! READs from mapped memory: a copy out of the peer's region, done when the result is polled.
//!
//! Copying in `poll` rather than in `post` lets the lines of the next READs arrive while one is copied,
//! and lets all results pass through one buffer that stays in the nearest cache. A READ is thus never
//! older than its poll, which the order that the fabric promises allows.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::peer::{Peer, Standing};
use super::provider::PeerTable;
use crate::copy::{prefetch, read_guarded};
use crate::error::FabricError;
use crate::fabric::{Completion, READ_BYTES_MAX, Read, ReadData, ReadLane};
use crate::memory::Mapping;
use crate::region::RegionId;
use crate::tuning::{SHM_LANE_READS_MAX, SHM_PREFETCH_LINES_MAX, SHM_PREFETCH_READS};

/// What a lane has done; written by its thread alone, read by reports.
#[derive(Debug, Default)]
pub(super) struct LaneCounters {
    pub(super) reads: AtomicU64,
    pub(super) read_bytes: AtomicU64,
}

impl LaneCounters {
    fn add(&self, bytes: u32) {
        // There is one writer, so no read-modify-write is needed.
        self.reads.store(self.reads.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        let total = self.read_bytes.load(Ordering::Relaxed) + u64::from(bytes);
        self.read_bytes.store(total, Ordering::Relaxed);
    }
}

/// A posted READ: checked, and its memory held by the lane.
struct Posted {
    from: *const u8,
    len: u32,
    peer: u32,
    token: u64,
}

/// A lane.
pub(super) struct ShmLane {
    peers: PeerTable,
    /// Per peer of the table, by number: the regions that this lane has read. They are never taken
    /// out, so the pointers in `posted` stay valid.
    regions: Vec<Vec<Option<Arc<Mapping>>>>,
    posted: VecDeque<Posted>,
    /// Where results are handed out; words, for their alignment.
    result: Box<[u64]>,
    counters: Arc<LaneCounters>,
}

// SAFETY: the pointers lead into mappings that the lane itself keeps alive, and mappings belong to the
// process, not to a thread.
unsafe impl Send for ShmLane {}

impl ShmLane {
    pub(super) fn new(peers: PeerTable, counters: Arc<LaneCounters>) -> Self {
        let regions = (0..peers.len()).map(|_| Vec::new()).collect();
        let posted = VecDeque::with_capacity(SHM_LANE_READS_MAX);
        let result = vec![0; READ_BYTES_MAX / 8].into();
        Self { peers, regions, posted, result, counters }
    }

    /// The mapping of a region, looked up among all regions of the peer only once.
    #[inline]
    fn mapping(&mut self, peer: usize, id: RegionId) -> Option<&Mapping> {
        let index = id.0 as usize;
        if !matches!(self.regions[peer].get(index), Some(Some(_))) {
            self.look_up(peer, id)?;
        }
        self.regions[peer][index].as_deref()
    }

    #[cold]
    fn look_up(&mut self, peer: usize, id: RegionId) -> Option<()> {
        let mapping = self.peers.at(peer).imported_region(id)?;
        let (regions, index) = (&mut self.regions[peer], id.0 as usize);
        if regions.len() <= index {
            regions.resize_with(index + 1, || None);
        }
        regions[index] = Some(mapping);
        Some(())
    }

    fn prefetch(&self, at: usize) {
        if let Some(read) = self.posted.get(at) {
            prefetch(read.from, read.len as usize, SHM_PREFETCH_LINES_MAX);
        }
    }
}

impl ReadLane for ShmLane {
    fn post(&mut self, read: Read) -> Result<(), FabricError> {
        let Read { peer: rank, region, offset, len, token } = read;
        if self.posted.len() == SHM_LANE_READS_MAX {
            return Err(FabricError::LaneFull { capacity: SHM_LANE_READS_MAX });
        }
        let Some(peer) = self.peers.index_of(rank) else {
            return Err(FabricError::UnknownRegion { peer: rank, region });
        };
        if self.peers.at(peer).standing() >= Standing::Cut {
            return Err(self.peers.at(peer).lost_error());
        }
        let Some(mapping) = self.mapping(peer, region) else {
            return Err(FabricError::UnknownRegion { peer: rank, region });
        };
        let bytes = mapping.bytes() as u64;
        if !in_range(offset, len, bytes) {
            return Err(out_of_range(&read, bytes));
        }
        #[expect(clippy::cast_possible_truncation, reason = "below the size of the mapping")]
        let at = offset as usize;
        // SAFETY: `at + len` is inside the mapping.
        let from = unsafe { mapping.base().as_ptr().add(at) };
        let peer = u32::try_from(peer).expect("at most 4,096 peers");
        if self.posted.len() < SHM_PREFETCH_READS {
            prefetch(from, len as usize, SHM_PREFETCH_LINES_MAX);
        }
        self.posted.push_back(Posted { from, len, peer, token });
        self.counters.add(len);
        Ok(())
    }

    fn submit(&mut self) -> Result<(), FabricError> {
        Ok(())
    }

    fn poll(&mut self, done: &mut dyn FnMut(Completion<'_>)) -> Result<usize, FabricError> {
        let mut count = 0;
        while let Some(Posted { from, len, peer, token }) = self.posted.pop_front() {
            self.prefetch(SHM_PREFETCH_READS - 1);
            count += 1;
            let peer: &Peer = self.peers.at(peer as usize);
            if peer.standing() >= Standing::Cut {
                done(Completion { token, result: Err(peer.lost_error()) });
                continue;
            }
            let bytes = &mut bytes_of(&mut self.result)[..len as usize];
            // SAFETY: `post` has checked that the range lies in a mapping, which `regions` holds, and
            // that its start and length are multiples of 8; the file cannot shrink (it is sealed).
            let head_before = unsafe { read_guarded(from, bytes) };
            done(Completion { token, result: Ok(ReadData { head_before, bytes }) });
        }
        Ok(count)
    }

    /// Results are there as soon as READs are posted, so there is nothing to wait for.
    fn wait(&mut self, _limit: Duration) -> Result<(), FabricError> {
        Ok(())
    }

    fn outstanding(&self) -> usize {
        self.posted.len()
    }

    fn capacity(&self) -> usize {
        SHM_LANE_READS_MAX
    }
}

#[inline]
fn in_range(offset: u64, len: u32, region_bytes: u64) -> bool {
    let shape = offset.is_multiple_of(8) && len.is_multiple_of(8) && len >= 8;
    let inside = offset <= region_bytes && u64::from(len) <= region_bytes - offset;
    shape && inside && len as usize <= READ_BYTES_MAX
}

#[cold]
fn out_of_range(read: &Read, region_bytes: u64) -> FabricError {
    let Read { peer, region, offset, len, .. } = *read;
    if offset <= region_bytes && u64::from(len) <= region_bytes - offset {
        return FabricError::Config(format!(
            "a READ of {len} bytes at offset {offset} is impossible: both must be multiples of 8, the \
             length from 8 to {READ_BYTES_MAX}"
        ));
    }
    FabricError::OutOfRange { peer, region, offset, len, region_bytes }
}

fn bytes_of(words: &mut [u64]) -> &mut [u8] {
    // SAFETY: the same memory; bytes need no alignment, and any bytes are words.
    unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), size_of_val(words)) }
}
