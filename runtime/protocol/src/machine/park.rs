//! Requests that cannot be served yet, in order of arrival.

use sterna_rdma::Rank;

use crate::ids::{Epoch, RowId};
use crate::machine::update::{Change, ChangeWork, Reply};
use crate::machine::{Machine, PARKED_MAX, PeerFault};
use crate::outbox::Outbox;
use crate::owned::Policy;
use crate::record::Acquire;
use crate::storage::{Foreign, Storage};

/// A parked request for one row.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Parked {
    pub(super) row: RowId,
    pub(super) why: Why,
    pub(super) work: Work,
}

/// What it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Why {
    /// A worker has the writer bit.
    Busy,
    /// This node is about to own the row, or to learn who does (K6).
    Early,
    /// A link is not ready.
    NotReady,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Work {
    Change {
        from: Rank,
        /// The record in whose answer it is, and its place there.
        number: u32,
        index: u16,
        epoch: Epoch,
        work: ChangeWork,
        payload: Box<[u8]>,
    },
    Acquire {
        number: u32,
        acquire: Acquire,
    },
    Snapshot {
        from: Rank,
        number: u32,
    },
    Where {
        from: Rank,
        number: u32,
    },
}

impl Work {
    pub(super) fn change(change: &Change<'_>, number: u32, index: u16) -> Self {
        let &Change { from, epoch, work, payload, .. } = change;
        Self::Change { from, number, index, epoch, work, payload: payload.into() }
    }

    pub(super) fn is_from(&self, rank: Rank) -> bool {
        match self {
            Self::Change { from, .. } | Self::Snapshot { from, .. } | Self::Where { from, .. } => {
                *from == rank
            }
            Self::Acquire { acquire, .. } => acquire.requester == rank,
        }
    }
}

impl<K: Copy, P: Policy> Machine<K, P> {
    /// Parks a request; `false` if there are too many, or no entry can be had to remember it by.
    pub(super) fn park<S: Storage<Place = K>>(&mut self, parked: Parked, store: &mut S) -> bool {
        let remembered = match parked.why {
            Why::Early => match store.entry(parked.row) {
                Ok(mut foreign) => {
                    foreign.control().set_parked(true);
                    true
                }
                Err(_) => false,
            },
            Why::Busy | Why::NotReady => true,
        };
        if !remembered || self.parked.len() == PARKED_MAX {
            self.counters.park_full += 1;
            return false;
        }
        self.counters.parked += 1;
        self.parked.push(parked);
        true
    }

    /// Serves parked requests for these rows in order, as far as possible. One that turns out to break
    /// the protocol is dropped and reported; the others are served all the same.
    pub(super) fn serve_parked<S: Storage<Place = K>>(
        &mut self,
        these: impl Fn(RowId) -> bool,
        store: &mut S,
        out: &mut dyn Outbox,
    ) -> Result<(), PeerFault> {
        let waiting = std::mem::take(&mut self.parked);
        let mut left = Vec::with_capacity(waiting.len());
        let mut fault = None;
        for mut parked in waiting {
            let row = parked.row;
            if !these(row) {
                left.push(parked);
                continue;
            }
            match self.serve(&parked, store, out) {
                Ok(Some(why)) => {
                    parked.why = why;
                    left.push(parked);
                    continue;
                }
                Ok(None) => {}
                Err(found) => {
                    fault.get_or_insert(found);
                }
            }
            if let Some(mut foreign) = store.find(row) {
                foreign.control().set_parked(false);
            }
        }
        // Whatever was parked meanwhile came later.
        left.append(&mut self.parked);
        for parked in &left {
            if parked.why == Why::Early
                && let Ok(mut foreign) = store.entry(parked.row)
            {
                foreign.control().set_parked(true);
            }
        }
        self.parked = left;
        fault.map_or(Ok(()), Err)
    }

    /// Serves one; `Some` says why it stays.
    fn serve<S: Storage<Place = K>>(
        &mut self,
        parked: &Parked,
        store: &mut S,
        out: &mut dyn Outbox,
    ) -> Result<Option<Why>, PeerFault> {
        let row = parked.row;
        match parked.work {
            Work::Change { from, number, index, epoch, work, ref payload } => {
                let change = Change { from, row, epoch, work, payload };
                let reply = self.change(&change, store)?;
                if let Reply::Park(why) = reply {
                    return Ok(Some(why));
                }
                let owed = self.peers[from.index()].owed(number).expect("its answer is owed");
                owed.open -= 1;
                if let Reply::Nack(nack) = reply {
                    owed.nacks.push((index, nack));
                }
                Ok(None)
            }
            Work::Acquire { number, acquire } => {
                self.acquire(acquire.requester, row, number, &acquire, store, out)
            }
            Work::Snapshot { from, number } => Ok(self.snapshot(from, row, number, store, out)?),
            Work::Where { from, number } => Ok(self.locate(from, row, number, store, out)?),
        }
    }
}
