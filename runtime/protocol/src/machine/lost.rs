//! A peer is gone: what waited for it ends, in bounded time (I6).

use sterna_rdma::Rank;

use crate::entry::ExchangeKind;
use crate::machine::Machine;
use crate::machine::acquire::RETRY_USES;
use crate::owned::Policy;
use crate::storage::{Foreign, Storage};

impl<K: Copy, P: Policy> Machine<K, P> {
    /// Ends all exchanges with a lost peer and forgets what it asked. Updates that were on their way
    /// return to the accumulators: whether the peer had applied them is not known, nor does it matter
    /// there. A row that another node grants to an Acquire that ends here is lost with the peer: the
    /// job goes back to its checkpoint. Returns how many keys waited for it.
    pub fn peer_lost<S: Storage<Place = K>>(&mut self, rank: Rank, store: &mut S) -> usize {
        let peer = &mut self.peers[rank.index()];
        peer.lost = true;
        peer.owed.clear();
        let requests = std::mem::take(&mut peer.requests);
        self.parked.retain(|parked| !parked.work.is_from(rank));
        self.holders.forget(rank);
        let mut ended = 0;
        for request in requests {
            if request.kind == ExchangeKind::Acquire {
                self.abandoned.push(request.number);
            }
            for &place in &request.places {
                let Some(mut foreign) = store.at(place) else { continue };
                let open = foreign.control().exchange();
                // Some keys of an Acquire may have been answered, and their entries be others' now.
                if open.is_none_or(|open| open.peer != rank || open.number != request.number) {
                    continue;
                }
                match foreign.control().abandon() {
                    Some(ExchangeKind::Flush | ExchangeKind::Release) => foreign.restore_flush(),
                    Some(ExchangeKind::Acquire) => {
                        foreign.unreserve();
                        foreign.refused(RETRY_USES);
                    }
                    Some(ExchangeKind::Set) | None => {}
                }
                ended += 1;
            }
        }
        ended
    }

    /// Whether a peer is lost.
    #[must_use]
    pub fn is_lost(&self, rank: Rank) -> bool {
        self.peers[rank.index()].lost
    }
}
