//! The receiving half of the links: takes records out of the rings and tells of peers that are lost.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use super::inbox::RingMemory;
use super::peer::{Peer, Standing};
use crate::fabric::{LostReason, RECORD_BYTES_MAX, Sink};
use crate::ring::Receiver;
use crate::tuning::RING_BURST_RECORDS;

/// The rings of this node and one buffer for the record that is being delivered.
pub(super) struct Engine {
    peers: Arc<[Arc<Peer>]>,
    /// In the order of `peers`.
    inboxes: Vec<Receiver<RingMemory>>,
    record: Box<[u8]>,
    /// Whose turn is first.
    first: usize,
}

/// What a poll has delivered.
#[derive(Debug, Default)]
pub(super) struct Delivered {
    pub(super) records: u64,
    pub(super) record_bytes: u64,
    pub(super) losses: u64,
}

impl Delivered {
    fn total(&self) -> usize {
        usize::try_from(self.records + self.losses).unwrap_or(usize::MAX)
    }
}

impl Engine {
    pub(super) fn new(peers: Arc<[Arc<Peer>]>, inboxes: Vec<Receiver<RingMemory>>) -> Self {
        assert_eq!(peers.len(), inboxes.len());
        Self { peers, inboxes, record: vec![0; RECORD_BYTES_MAX].into(), first: 0 }
    }

    /// Delivers up to `budget` records and losses; peers take turns.
    pub(super) fn poll(&mut self, budget: usize, sink: &mut dyn Sink) -> Delivered {
        let mut delivered = Delivered::default();
        let peers = self.peers.len();
        loop {
            let before = delivered.total();
            for turn in 0..peers {
                let left = budget.saturating_sub(delivered.total()).min(RING_BURST_RECORDS);
                self.poll_peer((self.first + turn) % peers, left, sink, &mut delivered);
            }
            if delivered.total() == before || delivered.total() >= budget {
                break;
            }
        }
        self.first = (self.first + 1) % peers.max(1);
        delivered
    }

    fn poll_peer(
        &mut self,
        at: usize,
        budget: usize,
        sink: &mut dyn Sink,
        delivered: &mut Delivered,
    ) {
        let (peer, inbox) = (&self.peers[at], &mut self.inboxes[at]);
        for _ in 0..budget {
            let standing = peer.standing();
            let popped = match standing {
                Standing::Lost => return,
                Standing::Cut => Ok(None),
                // The loss was seen before the ring is looked at, so an empty ring stays empty.
                Standing::Live | Standing::Draining => inbox.try_pop(&mut self.record),
            };
            match popped {
                Ok(Some(len)) => {
                    delivered.records += 1;
                    delivered.record_bytes += len as u64;
                    sink.record(peer.rank, &self.record[..len]);
                }
                Ok(None) if standing == Standing::Live => break,
                Ok(None) => {
                    delivered.losses += 1;
                    sink.peer_lost(peer.rank, peer.settle());
                    return;
                }
                Err(broken) => peer.cut(LostReason::Malformed(broken.to_string())),
            }
        }
        inbox.return_credit();
    }

    /// Asks all peers to ring this node's bell. Returns false, and takes it back, if there is something to
    /// do already.
    pub(super) fn fall_asleep(&mut self) -> bool {
        for inbox in &self.inboxes {
            inbox.fall_asleep();
        }
        // See `crate::ring`: either a sender sees the wish after this fence, or its record is seen here.
        fence(Ordering::SeqCst);
        let busy =
            self.peers.iter().zip(&mut self.inboxes).any(|(peer, inbox)| match peer.standing() {
                Standing::Lost => false,
                Standing::Draining | Standing::Cut => true,
                Standing::Live => {
                    peer.more_packets.load(Ordering::Relaxed) || inbox.has_record() != Ok(false)
                }
            });
        if busy {
            self.rise();
        }
        !busy
    }

    /// Takes the wish to be woken back.
    pub(super) fn rise(&self) {
        for inbox in &self.inboxes {
            inbox.rise();
        }
    }
}
