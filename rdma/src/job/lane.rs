//! A read lane of a job whose peers are reached in several ways.

use std::sync::Arc;
use std::time::Duration;

use crate::error::FabricError;
use crate::fabric::{Completion, Read, ReadLane};

/// How long one of several lanes is waited for before the next gets its turn.
const TURN: Duration = Duration::from_micros(200);

/// One lane per provider.
pub(super) struct JobLane {
    lanes: Vec<Box<dyn ReadLane>>,
    /// So many of the first finish their READs while they are polled.
    instant: usize,
    /// By rank: the lane for this peer.
    routes: Arc<[Option<usize>]>,
}

impl JobLane {
    pub(super) fn new(
        lanes: Vec<Box<dyn ReadLane>>,
        instant: usize,
        routes: Arc<[Option<usize>]>,
    ) -> Self {
        Self { lanes, instant, routes }
    }
}

impl ReadLane for JobLane {
    fn post(&mut self, read: Read) -> Result<(), FabricError> {
        match self.routes.get(read.peer.index()) {
            Some(Some(lane)) => self.lanes[*lane].post(read),
            _ => Err(FabricError::UnknownRegion { peer: read.peer, region: read.region }),
        }
    }

    fn submit(&mut self) -> Result<(), FabricError> {
        self.lanes.iter_mut().try_for_each(|lane| lane.submit())
    }

    fn poll(&mut self, done: &mut dyn FnMut(Completion<'_>)) -> Result<usize, FabricError> {
        let mut handed = 0;
        // The last first: its requests are on their way while the others copy.
        for lane in self.lanes.iter_mut().rev() {
            handed += lane.poll(done)?;
        }
        Ok(handed)
    }

    fn wait(&mut self, limit: Duration) -> Result<(), FabricError> {
        self.submit()?;
        let (instant, others) = self.lanes.split_at_mut(self.instant);
        if instant.iter().any(|lane| lane.outstanding() > 0) {
            return Ok(());
        }
        let mut waiting: Vec<_> = others.iter_mut().filter(|lane| lane.outstanding() > 0).collect();
        match waiting.as_mut_slice() {
            [] => Ok(()),
            [only] => only.wait(limit),
            // No one descriptor stands for all of them.
            several => several.iter_mut().try_for_each(|lane| lane.wait(limit.min(TURN))),
        }
    }

    fn outstanding(&self) -> usize {
        self.lanes.iter().map(|lane| lane.outstanding()).sum()
    }

    fn capacity(&self) -> usize {
        self.lanes.iter().map(|lane| lane.capacity()).min().unwrap_or(0)
    }
}
