//! A read lane that counts its READs in the node's clock page.

use std::time::Duration;

use sterna_rdma::{Completion, FabricError, Read, ReadLane};
use sterna_store::ReadClock;

/// The bit of a token that holds the low bit of its READ's generation.
const ODD: u64 = 1 << 63;

struct Counted {
    /// Dropped first: with it end the READs under way.
    inner: Box<dyn ReadLane>,
    clock: ReadClock,
}

/// `inner`, whose READs `clock` counts. Their tokens are below 2^63.
pub(super) fn counted(inner: Box<dyn ReadLane>, clock: ReadClock) -> Box<dyn ReadLane> {
    Box::new(Counted { inner, clock })
}

impl ReadLane for Counted {
    fn post(&mut self, read: Read) -> Result<(), FabricError> {
        debug_assert!(read.token & ODD == 0, "the upper bit is not the caller's");
        let odd = self.clock.begin();
        let token = read.token | if odd { ODD } else { 0 };
        let posted = self.inner.post(Read { token, ..read });
        if posted.is_err() {
            self.clock.end(odd);
        }
        posted
    }

    fn submit(&mut self) -> Result<(), FabricError> {
        self.inner.submit()
    }

    fn poll(&mut self, done: &mut dyn FnMut(Completion<'_>)) -> Result<usize, FabricError> {
        let Self { inner, clock } = self;
        inner.poll(&mut |completion: Completion<'_>| {
            clock.end(completion.token & ODD != 0);
            done(Completion { token: completion.token & !ODD, result: completion.result });
        })
    }

    fn wait(&mut self, limit: Duration) -> Result<(), FabricError> {
        self.inner.wait(limit)
    }

    fn outstanding(&self) -> usize {
        self.inner.outstanding()
    }

    fn capacity(&self) -> usize {
        self.inner.capacity()
    }
}
