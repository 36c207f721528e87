//! Answers to this node's Updates, Releases and Sets (K7).

use sterna_rdma::Rank;

use crate::entry::ExchangeKind;
use crate::machine::{Machine, PeerFault};
use crate::owned::Policy;
use crate::record::{Answer, Nack};
use crate::storage::{Foreign, Storage};

impl<K: Copy, P: Policy> Machine<K, P> {
    pub(super) fn on_answer<S: Storage<Place = K>>(
        &mut self,
        from: Rank,
        answer: Answer<'_>,
        store: &mut S,
    ) -> Result<(), PeerFault> {
        let number = answer.number;
        answer.iter().flatten().try_for_each(|nack| self.known(from, nack.next))?;
        let fault = PeerFault::Answer { from, number };
        let peer = &mut self.peers[from.index()];
        let Some(index) = peer.request(number) else { return Err(fault) };
        let request = &peer.requests[index];
        if request.kind == ExchangeKind::Acquire || request.places.len() != answer.len() {
            return Err(fault);
        }
        let request = peer.requests.remove(index).expect("it was found");
        for (&place, nack) in request.places.iter().zip(answer.iter()) {
            let mut foreign = store.at(place).ok_or(PeerFault::Answer { from, number })?;
            match nack {
                None => self.acked(number, &mut foreign),
                Some(nack) => self.nacked(number, nack, &mut foreign),
            }
            .ok_or(PeerFault::Answer { from, number })?;
        }
        self.note_round_trip(request.sent_ns);
        self.peers[from.index()].recycle(request.places);
        Ok(())
    }

    fn acked<F: Foreign>(&mut self, number: u32, foreign: &mut F) -> Option<()> {
        match foreign.control().acked(number)? {
            ExchangeKind::Set => foreign.drop_set(),
            _ => foreign.drop_flush(),
        }
        self.counters.acked += 1;
        self.list(foreign);
        Some(())
    }

    fn nacked<F: Foreign>(&mut self, number: u32, nack: Nack, foreign: &mut F) -> Option<()> {
        let entry = foreign.control();
        let kind = entry.nacked(number, nack.next, nack.epoch)?;
        let setting = entry.setting();
        if kind != ExchangeKind::Set {
            if setting {
                // It came before the values that are staged now.
                foreign.drop_flush();
            } else {
                foreign.restore_flush();
            }
        }
        self.counters.nacked += 1;
        self.changed(foreign);
        Some(())
    }

    /// An entry's owner or state may have changed: its parked requests are looked at again.
    pub(super) fn changed<F: Foreign>(&mut self, foreign: &mut F) {
        if foreign.control().parked() {
            self.unpark.push(foreign.row());
        }
        self.list(foreign);
    }
}
