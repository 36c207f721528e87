//! Putting keys into records: one record is open at a time, and takes keys as long as they go to the
//! same peer with the same kind, table and number.

use sterna_rdma::Rank;

use crate::entry::ExchangeKind;
use crate::ids::TableId;
use crate::machine::peer::Request;
use crate::machine::{ACQUIRE_KEYS_MAX, Machine};
use crate::outbox::Outbox;
use crate::owned::Policy;
use crate::record::{Header, Kind, Writer};

/// The open record.
#[derive(Clone, Debug)]
pub(super) struct Composer<K> {
    buffer: Vec<u8>,
    open: Option<Open<K>>,
}

#[derive(Clone, Debug)]
struct Open<K> {
    to: Rank,
    header: Header,
    at: usize,
    /// The exchange and the entries of a request of this node's.
    request: Option<(ExchangeKind, Vec<K>)>,
}

/// Which record an item belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Envelope {
    pub(super) to: Rank,
    pub(super) kind: Kind,
    pub(super) flags: u8,
    pub(super) table: TableId,
    /// The number of the peer's request; `None` for a request of this node's, which gets its own.
    pub(super) number: Option<u32>,
}

impl<K> Composer<K> {
    pub(super) fn new(record_bytes: usize) -> Self {
        Self { buffer: vec![0; record_bytes], open: None }
    }
}

impl<K> Open<K> {
    fn takes(&self, envelope: &Envelope) -> bool {
        let number = match (&self.request, envelope.number) {
            (Some(_), None) => true,
            (None, Some(number)) => number == self.header.number,
            _ => false,
        };
        let room = envelope.kind != Kind::Acquire || self.header.count < ACQUIRE_KEYS_MAX;
        number
            && room
            && self.to == envelope.to
            && self.header.kind == envelope.kind
            && self.header.flags == envelope.flags
            && self.header.table == envelope.table
    }
}

/// What became of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Composed {
    /// It is in a record with this number.
    In(u32),
    /// The link is not ready, or has enough requests unanswered: later.
    NotReady,
    /// It does not even fit an empty record, or its writer gave up.
    NoRoom,
}

impl<K: Copy, P: Policy> Machine<K, P> {
    /// Adds an item by `write` to the open record, or to a new one if it does not belong there or does
    /// not fit. `write` may be called twice; the second time the record is empty.
    pub(super) fn compose(
        &mut self,
        envelope: &Envelope,
        exchange: Option<(ExchangeKind, K)>,
        out: &mut dyn Outbox,
        mut write: impl FnMut(&mut Writer<'_>) -> bool,
    ) -> Composed {
        if !self.composer.open.as_ref().is_some_and(|open| open.takes(envelope)) {
            self.finish(out);
        }
        loop {
            let fresh = self.composer.open.is_none();
            if fresh && !self.start(envelope, exchange.map(|(kind, _)| kind), out) {
                return Composed::NotReady;
            }
            let open = self.composer.open.as_mut().expect("just made sure");
            let mut writer = Writer::resume(&mut self.composer.buffer, open.header, open.at);
            let added = write(&mut writer);
            (open.header, open.at) = writer.pause();
            if added {
                if let (Some((_, places)), Some((_, place))) = (&mut open.request, exchange) {
                    places.push(place);
                }
                return Composed::In(open.header.number);
            }
            if fresh {
                let open = self.composer.open.take().expect("just made sure");
                if let Some((_, places)) = open.request {
                    self.peers[envelope.to.index()].recycle(places);
                }
                return Composed::NoRoom;
            }
            self.finish(out);
        }
    }

    fn start(&mut self, to: &Envelope, kind: Option<ExchangeKind>, out: &mut dyn Outbox) -> bool {
        let peer = &mut self.peers[to.to.index()];
        if peer.lost || !out.ready(to.to) || (kind.is_some() && !peer.may_request()) {
            return false;
        }
        let request = kind.map(|kind| (kind, peer.spare()));
        let number = to.number.unwrap_or_else(|| self.next_number());
        let (kind, flags, table) = (to.kind, to.flags, to.table);
        let header = Header { kind, flags, table, number, count: 0 };
        let at = crate::record::HEADER_BYTES;
        self.composer.open = Some(Open { to: to.to, header, at, request });
        true
    }

    /// Sends the open record.
    pub(super) fn finish(&mut self, out: &mut dyn Outbox) {
        let Some(open) = self.composer.open.take() else { return };
        let Open { to, header, at, request } = open;
        if let Some((kind, places)) = request {
            let (number, sent_ns, open) = (header.number, self.now_ns, places.len());
            let request = Request { number, kind, places, open, sent_ns };
            self.peers[to.index()].requests.push_back(request);
        }
        let record = Writer::resume(&mut self.composer.buffer, header, at).finish();
        let bytes = record.len() as u64;
        match header.kind {
            Kind::Update | Kind::Release | Kind::Set => self.counters.update_bytes += bytes,
            Kind::GrantMove => self.counters.move_bytes += bytes,
            Kind::GrantShare => self.counters.share_bytes += bytes,
            _ => {}
        }
        out.send(to, record);
    }

    /// Sends the answers that are complete, as far as links are ready.
    pub(super) fn send_answers(&mut self, out: &mut dyn Outbox) {
        self.finish(out);
        for (peer, state) in self.peers.iter_mut().enumerate() {
            let to = Rank::from_index(peer);
            let mut index = 0;
            while index < state.owed.len() && out.ready(to) {
                if state.owed[index].open > 0 {
                    index += 1;
                    continue;
                }
                let mut owed = state.owed.remove(index).expect("below the length");
                // Those of parked keys came late.
                owed.nacks.sort_unstable_by_key(|&(index, _)| index);
                let table = owed.table;
                let mut writer =
                    Writer::new(&mut self.composer.buffer, Kind::Answer, table, owed.number);
                let fits = writer.answer(owed.count, &owed.nacks);
                assert!(fits, "an answer is shorter than its request");
                out.send(to, writer.finish());
            }
        }
    }
}
