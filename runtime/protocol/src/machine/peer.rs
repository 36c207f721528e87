//! What is open with one peer: this node's requests, and the answers that it owes.

use std::collections::VecDeque;

use crate::entry::ExchangeKind;
use crate::ids::TableId;
use crate::machine::REQUESTS_MAX;
use crate::record::PlacedNack;

/// A request record of this node.
#[derive(Clone, Debug)]
pub(super) struct Request<K> {
    pub(super) number: u32,
    pub(super) kind: ExchangeKind,
    /// The entries of its keys, in order.
    pub(super) places: Vec<K>,
    /// Keys without an answer (those of an Acquire are answered one by one).
    pub(super) open: usize,
    pub(super) sent_ns: u64,
}

/// The answer to a request record of the peer.
#[derive(Clone, Debug)]
pub(super) struct Owed {
    pub(super) table: TableId,
    pub(super) number: u32,
    pub(super) count: u32,
    /// Keys that are parked.
    pub(super) open: u32,
    pub(super) nacks: Vec<PlacedNack>,
}

#[derive(Clone, Debug)]
pub(super) struct Peer<K> {
    pub(super) requests: VecDeque<Request<K>>,
    pub(super) owed: VecDeque<Owed>,
    /// Emptied lists, for reuse.
    spare: Vec<Vec<K>>,
    pub(super) lost: bool,
}

impl<K> Default for Peer<K> {
    fn default() -> Self {
        let (requests, owed) = (VecDeque::new(), VecDeque::new());
        Self { requests, owed, spare: Vec::new(), lost: false }
    }
}

impl<K> Peer<K> {
    pub(super) fn may_request(&self) -> bool {
        !self.lost && self.requests.len() < REQUESTS_MAX
    }

    /// Whether an answer could be sent.
    pub(super) fn has_answers(&self) -> bool {
        self.owed.iter().any(|owed| owed.open == 0)
    }

    pub(super) fn spare(&mut self) -> Vec<K> {
        self.spare.pop().unwrap_or_default()
    }

    pub(super) fn recycle(&mut self, mut places: Vec<K>) {
        places.clear();
        if self.spare.len() < REQUESTS_MAX {
            self.spare.push(places);
        }
    }

    /// Where the request with this number is; nearly always in front.
    pub(super) fn request(&self, number: u32) -> Option<usize> {
        self.requests.iter().position(|request| request.number == number)
    }

    /// One key of an Acquire has been answered.
    pub(super) fn answered(&mut self, number: u32) {
        let Some(index) = self.request(number) else { return };
        self.requests[index].open -= 1;
        if self.requests[index].open == 0 {
            let request = self.requests.remove(index).expect("it was found");
            self.recycle(request.places);
        }
    }

    pub(super) fn owed(&mut self, number: u32) -> Option<&mut Owed> {
        self.owed.iter_mut().rev().find(|owed| owed.number == number)
    }
}
