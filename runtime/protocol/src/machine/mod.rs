//! The machine of a node: what it does with records, and when it sends which.
//!
//! It is fed by the engine: [`Machine::handle`] for each record received, then [`Machine::settle`], then
//! [`Machine::flush_dirty`] for each peer. All of it is pure: rows are reached through [`Storage`], links
//! through [`Outbox`], time is an argument.
//!
//! *Nothing waits* (I11). What the machine owes is a mark, bounded by what peers may ask (I7): a peer
//! has at most [`REQUESTS_MAX`] records unanswered, so as many answers are owed to it at most; a request
//! that cannot be served yet (a worker has the writer bit, the link is full, rule K6) is *parked* with
//! the number of its record, and served in order of arrival as soon as it can be.

mod acquire;
mod answer;
mod compose;
mod flush;
mod grant;
mod location;
mod lookahead;
mod lost;
mod offer;
mod park;
mod peer;
mod snapshot;
mod update;

use std::fmt;

use sterna_rdma::Rank;
use sterna_rdma::fabric::RECORD_BYTES_MAX;

use crate::entry::ExchangeKind;
use crate::ids::RowId;
use crate::outbox::Outbox;
use crate::owned::{HolderLists, Policy};
use crate::record::{DecodeError, Record};
use crate::storage::{Foreign, Storage};

use compose::Composer;
use park::Parked;
use peer::Peer;

/// Request records from one node to another that are not answered.
pub const REQUESTS_MAX: usize = 64;

/// Keys of an Acquire record: its owner is to be at work on them while the next ones are still being collected, and this
/// node on its answer while the owner is at work on those.
pub const ACQUIRE_KEYS_MAX: u32 = 256;

/// Requests that are parked at a node; beyond it Acquires are refused and updates nacked.
pub const PARKED_MAX: usize = 1 << 16;

/// A record of a peer that breaks the protocol. The peer has to be expelled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerFault {
    /// No record at all.
    #[error("{from} sent bytes that are no record: {error}")]
    Decode {
        /// Who.
        from: Rank,
        /// What is wrong with them.
        error: DecodeError,
    },
    /// A table or key that there is not, or that has another home.
    #[error("{from} named {row}, which is not a row here: do all nodes create the same tables?")]
    Row {
        /// Who.
        from: Rank,
        /// What was named.
        row: RowId,
    },
    /// A payload that is no update or row of the table.
    #[error("{from} sent a payload for {row} that does not fit the table")]
    Payload {
        /// Who.
        from: Rank,
        /// The row.
        row: RowId,
    },
    /// More requests than may be unanswered.
    #[error("{from} has more than {REQUESTS_MAX} requests unanswered, or two with one number")]
    Requests {
        /// Who.
        from: Rank,
    },
    /// An answer to nothing.
    #[error("{from} answered request {number}, which is not open")]
    Answer {
        /// Who.
        from: Rank,
        /// The number.
        number: u32,
    },
    /// A rank that is not in the job.
    #[error("{from} named {rank}, which is not in the job")]
    Rank {
        /// Who.
        from: Rank,
        /// What was named.
        rank: Rank,
    },
}

impl PeerFault {
    /// The peer to expel.
    #[must_use]
    pub fn culprit(&self) -> Rank {
        match *self {
            Self::Decode { from, .. }
            | Self::Row { from, .. }
            | Self::Payload { from, .. }
            | Self::Requests { from }
            | Self::Answer { from, .. }
            | Self::Rank { from, .. } => from,
        }
    }
}

/// A request that waits for its answer, for messages: what the node waits for, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Who has to answer.
    pub peer: Rank,
    /// What was asked.
    pub kind: ExchangeKind,
    /// The request's number.
    pub number: u32,
    /// Keys in it.
    pub keys: usize,
    /// When it was sent.
    pub since_ns: u64,
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let record = match self.kind {
            ExchangeKind::Flush => "Ack of Update",
            ExchangeKind::Release => "Ack of Release",
            ExchangeKind::Set => "Ack of Set",
            ExchangeKind::Acquire => "Grant for Acquire",
        };
        write!(f, "{} ({record} {}, {} keys)", self.peer, self.number, self.keys)
    }
}

/// How often what happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MachineCounters {
    /// Keys applied for peers.
    pub applied: u64,
    /// Keys of this node acked.
    pub acked: u64,
    /// Keys of this node nacked.
    pub nacked: u64,
    /// Requests that had to be parked.
    pub parked: u64,
    /// Requests turned away because too many were parked.
    pub park_full: u64,
    /// Acquires not sent for want of room.
    pub acquires_dropped: u64,
    /// Rows given away.
    pub moved_away: u64,
    /// Rows received.
    pub moved_here: u64,
    /// Replicas granted.
    pub shared: u64,
    /// Acquires refused.
    pub refused: u64,
    /// Acquires passed on.
    pub passed_on: u64,
    /// Rows offered to their last holders.
    pub offered: u64,
    /// Bytes of records with updates and sets.
    pub update_bytes: u64,
    /// Bytes of grants of main copies.
    pub move_bytes: u64,
    /// Bytes of grants of replicas.
    pub share_bytes: u64,
}

/// What is left of a record for the node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Handled<'a> {
    /// Nothing.
    Done,
    /// A record that is not the machine's: a control record, or the answer to a node's question.
    Record(Record<'a>),
}

/// The protocol of one node. `K` names entries ([`Storage::Place`]), `P` is the policy.
#[derive(Clone, Debug)]
pub struct Machine<K, P> {
    rank: Rank,
    policy: P,
    peers: Vec<Peer<K>>,
    holders: HolderLists,
    parked: Vec<Parked>,
    /// Rows whose parked requests may be servable now.
    unpark: Vec<RowId>,
    /// Rows that have come here and whose home has not been told.
    undisclosed: Vec<RowId>,
    /// Rows that may have to be offered to the last node that wants them.
    unwanted: Vec<RowId>,
    composer: Composer<K>,
    /// Entries whose exchange lets a READ go first.
    held_back: Vec<K>,
    next_number: u32,
    now_ns: u64,
    /// Acquires that ended with the peer they went to. It may have passed them on before: what others
    /// still answer to them is for nobody.
    abandoned: Vec<u32>,
    /// How long requests take to be answered, smoothed.
    round_trip_ns: u64,
    counters: MachineCounters,
}

impl<K: Copy, P: Policy> Machine<K, P> {
    /// The machine of node `rank` in a job of `size` nodes.
    #[must_use]
    pub fn new(rank: Rank, size: usize, policy: P) -> Self {
        Self::with_record_bytes(rank, size, policy, RECORD_BYTES_MAX)
    }

    /// The same with shorter records.
    #[must_use]
    pub fn with_record_bytes(rank: Rank, size: usize, policy: P, record_bytes: usize) -> Self {
        Self {
            rank,
            policy,
            peers: (0..size).map(|_| Peer::default()).collect(),
            holders: HolderLists::default(),
            parked: Vec::new(),
            unpark: Vec::new(),
            undisclosed: Vec::new(),
            unwanted: Vec::new(),
            composer: Composer::new(record_bytes),
            held_back: Vec::new(),
            next_number: 1,
            now_ns: 0,
            abandoned: Vec::new(),
            round_trip_ns: 0,
            counters: MachineCounters::default(),
        }
    }

    /// This node.
    #[must_use]
    pub fn rank(&self) -> Rank {
        self.rank
    }

    /// How long requests take from their composition to their answer, smoothed, in nanoseconds; 0 before the first answer.
    #[must_use]
    pub fn round_trip_ns(&self) -> u64 {
        self.round_trip_ns
    }

    fn note_round_trip(&mut self, sent_ns: u64) {
        let took = self.now_ns.saturating_sub(sent_ns);
        let before = self.round_trip_ns;
        self.round_trip_ns = if before == 0 { took } else { before - before / 8 + took / 8 };
    }

    /// All other nodes.
    #[must_use]
    pub fn others(&self) -> Vec<Rank> {
        let ranks = (0..self.peers.len()).map(Rank::from_index);
        ranks.filter(|&rank| rank != self.rank).collect()
    }

    /// The policy.
    pub fn policy(&mut self) -> &mut P {
        &mut self.policy
    }

    /// Who has replicas of the rows that are Live here.
    #[must_use]
    pub fn holders(&self) -> &HolderLists {
        &self.holders
    }

    /// Lists a node as holder of a row that is Live here.
    pub fn adopt_holder(&mut self, row: RowId, holder: Rank) {
        self.holders.insert(row, holder);
    }

    /// Counters since the start.
    #[must_use]
    pub fn counters(&self) -> MachineCounters {
        self.counters
    }

    /// A number for a request that the node makes itself (Where, SnapshotRead).
    pub fn next_number(&mut self) -> u32 {
        let number = self.next_number;
        self.next_number = number.wrapping_add(1);
        number
    }

    /// Takes one record from `from`. Sends grants and passes Acquires on; acks wait for
    /// [`Machine::settle`].
    ///
    /// # Errors
    /// If the record breaks the protocol. Whatever was done of it before stays done.
    pub fn handle<'r, S: Storage<Place = K>>(
        &mut self,
        from: Rank,
        record: &'r [u8],
        now_ns: u64,
        store: &mut S,
        out: &mut dyn Outbox,
    ) -> Result<Handled<'r>, PeerFault> {
        self.now_ns = now_ns;
        if self.peers[from.index()].lost {
            return Ok(Handled::Done);
        }
        let record = Record::decode(record).map_err(|error| PeerFault::Decode { from, error })?;
        let done = match record {
            Record::Update(updates) => self.on_updates(from, ExchangeKind::Flush, updates, store),
            Record::Release(updates) => {
                self.on_updates(from, ExchangeKind::Release, updates, store)
            }
            Record::Set(updates, scope) => self.on_set(from, scope, updates, store),
            Record::Answer(answer) => self.on_answer(from, answer, store),
            Record::Acquire(acquires) => self.on_acquires(from, acquires, store, out),
            Record::GrantShare(grants) => self.on_shares(from, grants, store),
            Record::GrantMove(grants) => self.on_moves(from, grants, store),
            Record::Refuse(refusals) => self.on_refusals(from, refusals, store),
            Record::Offer(keys) => self.on_offers(from, keys, store),
            Record::Location(locations) => self.on_locations(from, locations, store),
            Record::Where(keys) => self.on_where(from, keys, store, out),
            Record::SnapshotRead(keys) => self.on_snapshot_read(from, keys, store, out),
            Record::Whereabouts(found) => {
                self.on_whereabouts(from, found, store)?;
                return self.served(store, out).map(|()| Handled::Record(record));
            }
            _ => return Ok(Handled::Record(record)),
        };
        done?;
        self.served(store, out).map(|()| Handled::Done)
    }

    /// Serves what can now be served of the rows that have changed, and sends what has been composed.
    fn served<S: Storage<Place = K>>(
        &mut self,
        store: &mut S,
        out: &mut dyn Outbox,
    ) -> Result<(), PeerFault> {
        while !self.unpark.is_empty() {
            let mut rows = std::mem::take(&mut self.unpark);
            if !self.parked.is_empty() {
                rows.sort_unstable();
                self.serve_parked(|row| rows.binary_search(&row).is_ok(), store, out)?;
            }
        }
        self.disclose(store, out);
        self.offer(store, out);
        self.finish(out);
        Ok(())
    }

    /// Serves what is parked if it can be, tells homes of rows that came here, and sends the answers
    /// that are complete, as far as links are ready.
    ///
    /// # Errors
    /// If a parked request turns out to break the protocol; [`PeerFault::culprit`] has to be expelled.
    /// All else is settled all the same, but answers go out with the next call.
    pub fn settle<S: Storage<Place = K>>(
        &mut self,
        now_ns: u64,
        store: &mut S,
        out: &mut dyn Outbox,
    ) -> Result<(), PeerFault> {
        self.now_ns = now_ns;
        if !self.parked.is_empty() {
            self.serve_parked(|_| true, store, out)?;
        }
        self.served(store, out)?;
        // Who learns that an update has been applied finds it on the board.
        store.tell_board();
        self.send_answers(out);
        Ok(())
    }

    /// Serves what is parked for one row, after a worker's READ has found where it is now.
    ///
    /// # Errors
    /// As [`Machine::settle`].
    pub fn settle_row<S: Storage<Place = K>>(
        &mut self,
        row: RowId,
        store: &mut S,
        out: &mut dyn Outbox,
    ) -> Result<(), PeerFault> {
        if !self.parked.is_empty() {
            self.unpark.push(row);
        }
        self.served(store, out)
    }

    /// Whether there is something that [`Machine::settle`] has to come back for: an answer or a row's
    /// new place that a link has not taken, or a request that waits for a writer.
    #[must_use]
    pub fn unsettled(&self) -> bool {
        !self.parked.is_empty()
            || !self.undisclosed.is_empty()
            || !self.unwanted.is_empty()
            || self.peers.iter().any(Peer::has_answers)
    }

    /// The oldest request to each peer that is not answered.
    pub fn waiting(&self) -> impl Iterator<Item = Waiting> + '_ {
        self.peers.iter().enumerate().filter_map(|(peer, state)| {
            let request = state.requests.front()?;
            Some(Waiting {
                peer: Rank::from_index(peer),
                kind: request.kind,
                number: request.number,
                keys: request.open,
                since_ns: request.sent_ns,
            })
        })
    }

    /// Requests parked here.
    #[must_use]
    pub fn parked(&self) -> usize {
        self.parked.len()
    }

    /// Request records to `peer` that are not answered.
    #[must_use]
    pub fn unanswered(&self, peer: Rank) -> usize {
        self.peers[peer.index()].requests.len()
    }

    /// All that decides what the machine does next, apart from the numbers of requests: what an
    /// exhaustive exploration tells states apart by.
    #[doc(hidden)]
    pub fn fingerprint(&self, out: &mut Vec<u8>) {
        use std::hash::{Hash, Hasher};
        struct Bytes<'a>(&'a mut Vec<u8>);
        impl Hasher for Bytes<'_> {
            fn write(&mut self, bytes: &[u8]) {
                self.0.extend_from_slice(bytes);
            }
            fn finish(&self) -> u64 {
                0
            }
        }
        for parked in &self.parked {
            parked.hash(&mut Bytes(out));
        }
        out.push(0xFF);
        for peer in &self.peers {
            for owed in &peer.owed {
                (owed.count, owed.open, &owed.nacks).hash(&mut Bytes(out));
            }
            out.push(0xFE);
            out.push(peer.requests.iter().map(|request| request.kind as u8 + 1).sum());
        }
        self.undisclosed.hash(&mut Bytes(out));
        self.holders.hash(&mut Bytes(out));
    }

    /// The numbers of requests, for explorations in which several are open with a peer.
    #[doc(hidden)]
    pub fn fingerprint_numbers(&self, out: &mut Vec<u8>) {
        out.extend(self.next_number.to_le_bytes());
        for peer in &self.peers {
            for request in &peer.requests {
                out.extend(request.number.to_le_bytes());
                out.push(u8::try_from(request.open).unwrap_or(u8::MAX));
            }
            out.push(0xFD);
            out.extend(peer.owed.iter().flat_map(|owed| owed.number.to_le_bytes()));
        }
    }

    /// Gives the next request this number again, where at most one is open.
    #[doc(hidden)]
    pub fn renumber(&mut self, number: u32) {
        self.next_number = number;
    }

    /// Whether all requests up to this number ([`Machine::last_number`]) have been answered.
    #[must_use]
    pub fn answered_up_to(&self, number: u32) -> bool {
        let open = |request: &peer::Request<K>| number.wrapping_sub(request.number) < 1 << 31;
        !self.peers.iter().any(|peer| peer.requests.iter().any(open))
    }

    /// The number of the newest request.
    #[must_use]
    pub fn last_number(&self) -> u32 {
        self.next_number.wrapping_sub(1)
    }

    /// A rank that came from a peer.
    fn known(&self, from: Rank, rank: Rank) -> Result<(), PeerFault> {
        if rank.index() < self.peers.len() { Ok(()) } else { Err(PeerFault::Rank { from, rank }) }
    }

    /// Lists an entry for its owner if the engine has something to do for it.
    fn list<F: Foreign>(&self, foreign: &mut F) {
        let has_updates = foreign.has_updates();
        let entry = foreign.control();
        let owner = entry.owner();
        if owner != self.rank && entry.needs_engine(has_updates) {
            foreign.mark_dirty(owner);
        }
    }
}
