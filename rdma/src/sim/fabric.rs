//! The fabric of one simulated node, and its lanes: the traits on top of the shared state. The
//! state is never locked while a caller's code runs, so that a sink may send.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::links::Item;
use super::state::State;
use crate::error::{FabricError, SendError};
use crate::fabric::{Completion, Fabric, FabricCounters, Provider, Read, ReadData, ReadLane, Sink};
use crate::rank::Rank;
use crate::region::{Region, RegionSpec, RegionToken};

/// Buffers kept for records to come.
const BUFFERS_KEPT: usize = 1024;

/// A lock that a panic of a test's thread does not take from the others.
pub(super) fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One node's fabric.
pub(super) struct SimFabric {
    pub(super) rank: Rank,
    pub(super) size: usize,
    pub(super) state: Arc<Mutex<State>>,
}

impl SimFabric {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Takes one arrived item, unless the node is stalled.
    fn take_arrived(&self) -> Result<Option<(Rank, Item)>, FabricError> {
        let mut state = self.state();
        state.check_alive(self.rank)?;
        if state.is_stalled(self.rank) {
            return Ok(None);
        }
        Ok(state.take_arrived(self.rank))
    }
}

impl Fabric for SimFabric {
    fn rank(&self) -> Rank {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn provider(&self, _peer: Rank) -> Provider {
        Provider::Sim
    }

    fn allocate(&self, spec: RegionSpec) -> Result<Arc<Region>, FabricError> {
        self.state().allocate(self.rank, spec)
    }

    fn export(&self, region: &Arc<Region>) -> Result<RegionToken, FabricError> {
        self.state().export(self.rank, region)
    }

    fn import(&self, peer: Rank, token: &RegionToken) -> Result<(), FabricError> {
        self.state().import(self.rank, peer, token)
    }

    fn try_send(&self, to: Rank, parts: &[&[u8]]) -> Result<(), SendError> {
        self.state().try_send(self.rank, to, parts)
    }

    fn poll(&self, budget: usize, sink: &mut dyn Sink) -> Result<usize, FabricError> {
        for delivered in 0..budget {
            match self.take_arrived()? {
                None => return Ok(delivered),
                Some((from, Item::Lost(reason))) => sink.peer_lost(from, reason),
                Some((from, Item::Record(record))) => {
                    sink.record(from, &record);
                    let buffers = &mut self.state().buffers;
                    if buffers.len() < BUFFERS_KEPT {
                        buffers.push(record);
                    }
                }
            }
        }
        Ok(budget)
    }

    fn park(&self, _limit: Duration) -> Result<(), FabricError> {
        let mut state = self.state();
        state.nodes[self.rank.index()].counters.parks += 1;
        state.check_alive(self.rank)
    }

    fn wake(&self) {}

    fn open_lane(&self) -> Result<Box<dyn ReadLane>, FabricError> {
        let mut state = self.state();
        state.check_alive(self.rank)?;
        let lane = state.open_lane(self.rank);
        let capacity = state.config.lane_reads;
        Ok(Box::new(SimLane { lane, capacity, rank: self.rank, state: Arc::clone(&self.state) }))
    }

    fn expel(&self, peer: Rank, reason: &str) {
        self.state().expel(self.rank, peer, reason);
    }

    fn goodbye(&self) {
        self.state().goodbye(self.rank);
    }

    fn describe(&self) -> String {
        format!("{} of {} in a simulated network", self.rank, self.size)
    }

    fn counters(&self) -> FabricCounters {
        self.state().nodes[self.rank.index()].counters.clone()
    }
}

/// A lane of a simulated node.
struct SimLane {
    lane: usize,
    capacity: usize,
    rank: Rank,
    state: Arc<Mutex<State>>,
}

impl ReadLane for SimLane {
    fn post(&mut self, read: Read) -> Result<(), FabricError> {
        lock(&self.state).post(self.lane, read)
    }

    fn submit(&mut self) -> Result<(), FabricError> {
        let mut state = lock(&self.state);
        state.check_alive(self.rank)?;
        state.submit(self.lane);
        Ok(())
    }

    fn poll(&mut self, done: &mut dyn FnMut(Completion<'_>)) -> Result<usize, FabricError> {
        let mut count = 0;
        let mut finished = None;
        loop {
            let mut state = lock(&self.state);
            if let Some((index, bytes)) = finished.take() {
                state.finish_read(self.lane, index, bytes);
            }
            state.check_alive(self.rank)?;
            if state.is_stalled(self.rank) {
                return Ok(count);
            }
            let Some(index) = state.lanes[self.lane].done.pop_front() else { return Ok(count) };
            let place = &mut state.reads[index as usize];
            let read = place.read;
            let head_before = place.head_before;
            let failed = place.failed.take();
            let bytes = std::mem::take(&mut place.bytes);
            drop(state);
            let result = match failed {
                None => Ok(ReadData { head_before, bytes: &bytes }),
                Some(reason) => Err(FabricError::PeerLost { peer: read.peer, reason }),
            };
            done(Completion { token: read.token, result });
            finished = Some((index, bytes));
            count += 1;
        }
    }

    fn wait(&mut self, _limit: Duration) -> Result<(), FabricError> {
        lock(&self.state).check_alive(self.rank)
    }

    fn outstanding(&self) -> usize {
        lock(&self.state).lanes[self.lane].outstanding
    }

    fn capacity(&self) -> usize {
        self.capacity
    }
}

impl Drop for SimLane {
    fn drop(&mut self) {
        lock(&self.state).close_lane(self.lane);
    }
}
