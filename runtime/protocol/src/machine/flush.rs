//! Requests of this node: dirty keys become exchanges with their owners.

use sterna_rdma::Rank;

use crate::entry::ExchangeKind;
use crate::machine::Machine;
use crate::machine::acquire::RETRY_USES;
use crate::machine::compose::{Composed, Envelope};
use crate::outbox::Outbox;
use crate::owned::Policy;
use crate::record::{Acquire, Kind, SetScope};
use crate::storage::{Foreign, Storage};

impl<K: Copy, P: Policy> Machine<K, P> {
    /// Opens an exchange for each key that is listed dirty for `peer`, packed into as few records as
    /// possible, until the list is empty, the link is not ready, or 64 records are unanswered. Keys
    /// whose owner has changed are listed for the new one. Returns how many exchanges were opened.
    pub fn flush_dirty<S: Storage<Place = K>>(
        &mut self,
        peer: Rank,
        now_ns: u64,
        store: &mut S,
        out: &mut dyn Outbox,
    ) -> usize {
        self.now_ns = now_ns;
        let mut opened = 0;
        while peer == self.rank || (self.peers[peer.index()].may_request() && out.ready(peer)) {
            let Some(mut foreign) = store.next_dirty(peer) else { break };
            match self.open_exchange(peer, &mut foreign, out) {
                Some(count) => opened += count,
                None => {
                    foreign.mark_dirty(peer);
                    break;
                }
            }
        }
        self.finish(out);
        // Those that wait for a READ are tried again; the worker that ends it lists its key, too.
        while let Some(place) = self.held_back.pop() {
            if let Some(mut foreign) = store.at(place) {
                foreign.mark_dirty(peer);
            }
        }
        opened
    }

    /// Opens the exchange that a key needs, if any; `None` if the link is not ready.
    fn open_exchange<F: Foreign<Place = K>>(
        &mut self,
        peer: Rank,
        foreign: &mut F,
        out: &mut dyn Outbox,
    ) -> Option<usize> {
        let has_updates = foreign.has_updates();
        let owner = foreign.control().owner();
        if owner != peer || owner == self.rank {
            self.list(foreign);
            return Some(0);
        }
        let Some(mut kind) = foreign.control().next_exchange(has_updates) else {
            if foreign.control().held_back() {
                self.held_back.push(foreign.place());
            }
            return Some(0);
        };
        if kind == ExchangeKind::Acquire && foreign.reserve().is_none() {
            self.counters.acquires_dropped += 1;
            foreign.control().forget_acquire();
            foreign.unreserve();
            foreign.refused(RETRY_USES);
            let Some(other) = foreign.control().next_exchange(has_updates) else { return Some(0) };
            kind = other;
        }
        let number = match kind {
            ExchangeKind::Acquire => self.compose_acquire(peer, foreign, out),
            ExchangeKind::Set => self.compose_set(peer, foreign, out),
            ExchangeKind::Flush | ExchangeKind::Release => {
                self.compose_update(peer, kind, foreign, out)
            }
        }?;
        foreign.control().begin(kind, number);
        Some(1)
    }

    fn compose_update<F: Foreign<Place = K>>(
        &mut self,
        peer: Rank,
        exchange: ExchangeKind,
        foreign: &mut F,
        out: &mut dyn Outbox,
    ) -> Option<u32> {
        let (row, place) = (foreign.row(), foreign.place());
        let epoch = foreign.control().epoch();
        let kind = if exchange == ExchangeKind::Release { Kind::Release } else { Kind::Update };
        let to = Envelope { to: peer, kind, flags: 0, table: row.table, number: None };
        let composed = self.compose(&to, Some((exchange, place)), out, |writer| {
            writer.update(row.key, epoch, |room| foreign.begin_flush(room))
        });
        Self::number(composed)
    }

    fn compose_set<F: Foreign<Place = K>>(
        &mut self,
        peer: Rank,
        foreign: &mut F,
        out: &mut dyn Outbox,
    ) -> Option<u32> {
        let (row, place) = (foreign.row(), foreign.place());
        let epoch = foreign.control().epoch();
        let scope = foreign.set_scope();
        let flags = match scope {
            SetScope::Values => 0,
            SetScope::WholeRow => 1,
        };
        let to = Envelope { to: peer, kind: Kind::Set, flags, table: row.table, number: None };
        let composed = self.compose(&to, Some((ExchangeKind::Set, place)), out, |writer| {
            writer.update(row.key, epoch, |room| foreign.write_set(room))
        });
        Self::number(composed)
    }

    fn compose_acquire<F: Foreign<Place = K>>(
        &mut self,
        peer: Rank,
        foreign: &mut F,
        out: &mut dyn Outbox,
    ) -> Option<u32> {
        let (row, place, intent) = (foreign.row(), foreign.place(), foreign.intent());
        let acquire = Acquire {
            key: row.key,
            epoch: foreign.control().epoch(),
            slot: foreign.reserve()?,
            requester: self.rank,
            uses: intent.uses,
            span: intent.span,
            writes: intent.writes,
            force: intent.force,
            held: foreign.held(),
        };
        let to =
            Envelope { to: peer, kind: Kind::Acquire, flags: 0, table: row.table, number: None };
        let exchange = Some((ExchangeKind::Acquire, place));
        Self::number(self.compose(&to, exchange, out, |writer| writer.acquire(&acquire)))
    }

    fn number(composed: Composed) -> Option<u32> {
        match composed {
            Composed::In(number) => Some(number),
            Composed::NotReady => None,
            Composed::NoRoom => panic!("a table's payloads fit a record: checked at its creation"),
        }
    }
}
