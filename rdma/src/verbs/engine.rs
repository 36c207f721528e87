//! The receiving half of all links: takes completions, delivers records and losses, gives credit back.

use std::collections::{HashMap, VecDeque};
use std::io::{ErrorKind, Read as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::completion::{CompletionQueue, WorkCompletion, blank, immediate};
use super::counters::PortCounters;
use super::link::{Credited, Link, Standing};
use super::offer::said_goodbye;
use super::provider::Counters;
use super::receive_queue::{RECEIVED, SharedQueue};
use super::ring::{Amount, Cursor, RING_OFFSET};
use super::status::{failure, is_flush};
use super::sys::bindings::{IBV_WC_RECV_RDMA_WITH_IMM, IBV_WC_SUCCESS};
use super::tuning::{COMPLETIONS_EACH, LAST_RECORDS_MAX, Sizes};
use crate::copy::copy_out;
use crate::error::FabricError;
use crate::fabric::{LostReason, RECORD_BYTES_MAX, Sink};
use crate::tuning::RING_BYTES;

/// What the engine knows of one peer.
pub(super) struct Inbound {
    pub(super) link: Arc<Link>,
    cursor: Cursor,
    /// What the peer was told to have been consumed.
    told: Amount,
    credit_due: bool,
    /// What came over the link's connection.
    said: Vec<u8>,
    /// Records that came before its goodbye, and until when they are waited for.
    goodbye: Option<(u64, Instant)>,
}

impl Inbound {
    pub(super) fn new(link: Arc<Link>) -> Self {
        Self {
            link,
            cursor: Cursor::default(),
            told: Amount::default(),
            credit_due: false,
            said: Vec::new(),
            goodbye: None,
        }
    }
}

pub(super) struct Engine {
    completions: CompletionQueue,
    receives: SharedQueue,
    sizes: Sizes,
    pub(super) peers: Vec<Inbound>,
    /// By number of the queue pair.
    by_number: HashMap<u32, usize>,
    /// Completions that were taken and not yet handled.
    pending: VecDeque<WorkCompletion>,
    /// What the device's port has counted.
    port: Arc<PortCounters>,
    /// Room into which the device's library writes completions.
    taken: Box<[WorkCompletion; COMPLETIONS_EACH]>,
    record: Box<[u8]>,
    /// Receive requests that are used up.
    used: u32,
    /// Peers to which credit is due.
    due: Vec<usize>,
    /// Credit could not be given back because another thread was sending.
    credit_waits: bool,
    /// Peers that are ending and whose loss has not been delivered.
    leaving: Vec<usize>,
}

impl Engine {
    pub(super) fn new(
        completions: CompletionQueue,
        receives: SharedQueue,
        sizes: Sizes,
        peers: Vec<Inbound>,
        port: Arc<PortCounters>,
    ) -> Self {
        let numbers = peers.iter().enumerate().map(|(at, peer)| (peer.link.number, at));
        Self {
            completions,
            receives,
            sizes,
            by_number: numbers.collect(),
            peers,
            pending: VecDeque::new(),
            port,
            taken: Box::new([blank(); COMPLETIONS_EACH]),
            record: vec![0; RECORD_BYTES_MAX].into(),
            used: 0,
            due: Vec::new(),
            credit_waits: false,
            leaving: Vec::new(),
        }
    }

    /// The completion queue has announced something.
    pub(super) fn announced(&self) {
        self.completions.take_events();
    }

    /// The link that is made of this queue pair.
    pub(super) fn link_of(&self, number: u32) -> Option<&Arc<Link>> {
        self.by_number.get(&number).map(|at| &self.peers[*at].link)
    }

    /// Hears what a peer says over its link's connection.
    pub(super) fn hear(&mut self, at: usize) {
        let Some(peer) = self.peers.get_mut(at) else { return };
        let mut bytes = [0; 64];
        let why = loop {
            match (&peer.link.stream).read(&mut bytes) {
                Ok(0) => break "its process ended or closed the connection".to_owned(),
                Ok(count) => {
                    peer.said.extend_from_slice(&bytes[..count]);
                    if peer.said.len() > 64 {
                        let text = "it said something strange over its connection".to_owned();
                        peer.link.cut(LostReason::Malformed(text));
                        self.leave(at);
                        return;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => break format!("its connection broke: {error}"),
            }
        };
        peer.goodbye =
            said_goodbye(&peer.said).map(|records| (records, Instant::now() + LAST_RECORDS_MAX));
        peer.link.end(match peer.goodbye {
            Some(_) => LostReason::Goodbye,
            None => LostReason::Died(why),
        });
        self.leave(at);
    }

    /// Notes that a peer is going.
    pub(super) fn leave(&mut self, at: usize) {
        if !self.leaving.contains(&at) && self.peers[at].link.standing() < Standing::Lost {
            self.leaving.push(at);
        }
    }

    /// As [`Engine::leave`], of all peers that were cut meanwhile.
    pub(super) fn note_cuts(&mut self) {
        for at in 0..self.peers.len() {
            if self.peers[at].link.standing() == Standing::Cut {
                self.leave(at);
            }
        }
    }

    /// Delivers up to `budget` records and losses; those lost are given to `lost`. Returns how many, and
    /// whether anything else was done.
    pub(super) fn poll(
        &mut self,
        budget: usize,
        counters: &Counters,
        sink: &mut dyn Sink,
        lost: &mut dyn FnMut(&Link),
    ) -> Result<(usize, bool), FabricError> {
        let mut delivered = 0;
        let mut handled = 0;
        let mut is_drained = false;
        while delivered < budget {
            self.take_completions(budget - delivered)?;
            if self.pending.is_empty() {
                is_drained = true;
                break;
            }
            while delivered < budget
                && let Some(completion) = self.pending.pop_front()
            {
                handled += 1;
                delivered += usize::from(self.handle(&completion, counters, sink));
            }
            self.restore()?;
        }
        self.restore()?;
        if is_drained && !self.leaving.is_empty() {
            delivered += self.deliver_losses(sink, lost);
        }
        Ok((delivered, handled > delivered))
    }

    fn take_completions(&mut self, most: usize) -> Result<(), FabricError> {
        if self.pending.is_empty() {
            let count = self.completions.poll(&mut self.taken[..most.min(COMPLETIONS_EACH)])?;
            self.pending.extend(&self.taken[..count]);
        }
        Ok(())
    }

    /// Takes note of sent requests that have completed; received records are kept for the next poll.
    pub(super) fn note_completions(&mut self) {
        // What is kept is bounded by the size of the queue.
        while let Ok(count) = self.completions.poll(&mut self.taken[..]) {
            if count == 0 {
                break;
            }
            for completion in &self.taken[..count] {
                let peer = self.by_number.get(&completion.qp_num).map(|at| &self.peers[*at]);
                match peer {
                    Some(peer)
                        if completion.wr_id != RECEIVED && completion.status == IBV_WC_SUCCESS =>
                    {
                        peer.link.complete(completion.wr_id);
                    }
                    _ => self.pending.push_back(*completion),
                }
            }
        }
    }

    /// Handles a completion; whether a record was delivered.
    fn handle(
        &mut self,
        completion: &WorkCompletion,
        counters: &Counters,
        sink: &mut dyn Sink,
    ) -> bool {
        let is_receive = completion.wr_id == RECEIVED;
        self.used += u32::from(is_receive);
        let Some(&at) = self.by_number.get(&completion.qp_num) else { return false };
        let peer = &mut self.peers[at];
        if completion.status != IBV_WC_SUCCESS {
            // What is flushed has failed with another request, or with the connection's end.
            if !is_flush(completion.status) && peer.link.standing() < Standing::Cut {
                let text = failure(completion.status).text();
                peer.link.cut(LostReason::Died(self.port.beside(&text)));
                self.leave(at);
            }
            return false;
        }
        if !is_receive {
            peer.link.complete(completion.wr_id);
            return false;
        }
        if peer.link.standing() >= Standing::Cut {
            return false;
        }
        if completion.opcode != IBV_WC_RECV_RDMA_WITH_IMM {
            let text = "it sent what is no record".to_owned();
            peer.link.cut(LostReason::Malformed(text));
            self.leave(at);
            return false;
        }
        let inbox = Arc::clone(&peer.link.inbox);
        let load = |offset: usize, to: &mut [u8]| {
            assert!(offset + to.len() <= RING_BYTES, "outside the ring");
            // SAFETY: the inbox has the ring's bytes from RING_OFFSET, the range is in it by the assertion
            // and starts at a multiple of 8; `to` is private.
            unsafe { copy_out(inbox.base().add(RING_OFFSET + offset), to) };
        };
        let (announcement, written) = (immediate(completion), completion.byte_len);
        match peer.cursor.take(announcement, written, &mut self.record, load) {
            Ok(len) => {
                counters.records_received.fetch_add(1, Ordering::Relaxed);
                counters.record_bytes_received.fetch_add(len as u64, Ordering::Relaxed);
                let rank = peer.link.peer;
                let consumed = peer.cursor.consumed();
                let step = u64::from(self.sizes.records) / 4;
                if (consumed.bytes - peer.told.bytes >= RING_BYTES as u64 / 4
                    || consumed.records - peer.told.records >= step)
                    && !peer.credit_due
                {
                    peer.credit_due = true;
                    self.due.push(at);
                }
                sink.record(rank, &self.record[..len]);
                true
            }
            Err(broken) => {
                peer.link.cut(LostReason::Malformed(broken.to_owned()));
                self.leave(at);
                false
            }
        }
    }

    /// Posts receive requests for those that were used, then gives credit back, in this order: no peer
    /// has credit for a record without a receive request.
    fn restore(&mut self) -> Result<(), FabricError> {
        if self.used > 0 {
            self.receives.post(self.used)?;
            self.used = 0;
        }
        self.credit_waits = false;
        for at in std::mem::take(&mut self.due) {
            let peer = &mut self.peers[at];
            let consumed = peer.cursor.consumed();
            match peer.link.try_credit(consumed) {
                Credited::Done => {
                    peer.told = consumed;
                    peer.credit_due = false;
                }
                Credited::Full => self.due.push(at),
                Credited::Busy => {
                    self.credit_waits = true;
                    self.due.push(at);
                }
            }
        }
        Ok(())
    }

    fn deliver_losses(&mut self, sink: &mut dyn Sink, lost: &mut dyn FnMut(&Link)) -> usize {
        let mut delivered = 0;
        for at in std::mem::take(&mut self.leaving) {
            let peer = &mut self.peers[at];
            let mut instead = None;
            if let (Standing::Ending, Some((records, until))) = (peer.link.standing(), peer.goodbye)
            {
                let received = peer.cursor.consumed().records;
                if received < records && Instant::now() < until {
                    self.leaving.push(at);
                    continue;
                }
                if received != records {
                    let text =
                        format!("it said goodbye, but {received} of {records} records arrived");
                    instead = Some(LostReason::Died(text));
                }
            }
            let reason = peer.link.settle(instead);
            peer.link.destroy();
            lost(&peer.link);
            delivered += 1;
            sink.peer_lost(peer.link.peer, reason);
        }
        delivered
    }

    /// Asks for an announcement of the next completion. Returns false if something is to be done first.
    pub(super) fn fall_asleep(&mut self) -> Result<bool, FabricError> {
        if !self.pending.is_empty() || self.credit_waits || self.has_losses() {
            return Ok(false);
        }
        self.completions.arm()?;
        // What came before the queue was armed may not be announced.
        self.take_completions(COMPLETIONS_EACH)?;
        Ok(self.pending.is_empty())
    }

    /// Whether a loss can be delivered now.
    fn has_losses(&self) -> bool {
        self.leaving.iter().any(|at| {
            let peer = &self.peers[*at];
            // The last records of a goodbye are announced by themselves.
            peer.goodbye.is_none_or(|(records, until)| {
                peer.link.standing() != Standing::Ending
                    || peer.cursor.consumed().records >= records
                    || Instant::now() >= until
            })
        })
    }
}
