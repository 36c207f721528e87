//! The sending half of a link, and how its peer stands.
//!
//! Any thread may send, one at a time under a lock that nobody waits for. A record is copied into the
//! mirror of the peer's ring, from where the device writes it into the ring itself. Two things must have
//! happened before a place is used again: the peer has consumed what lay there (credit), and this node's
//! device is done with the mirror (completion). One request in many asks for a completion.

use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};

use super::memory::MemoryRegion;
use super::offer::Inbox;
use super::queue_pair::{Operation, QueuePair, Request};
use super::ring::{Amount, CREDIT_BYTES, CUT_BYTES, RING_OFFSET, Slot};
use super::tuning::{CHAIN_MAX, SEND_RESERVE, SIGNAL_BYTES, Sizes};
use crate::copy::copy_in;
use crate::error::SendError;
use crate::fabric::{LostReason, RECORD_BYTES_MAX};
use crate::rank::Rank;
use crate::tuning::RING_BYTES;

/// How a peer stands. It only moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Standing {
    /// Connected.
    Live,
    /// Gone: what has landed is still delivered, then its loss.
    Ending,
    /// Cut off: its loss is delivered and nothing else.
    Cut,
    /// Its loss has been delivered.
    Lost,
}

/// What a node needs to send to a peer.
pub(super) struct LinkParts {
    pub(super) peer: Rank,
    pub(super) pair: QueuePair,
    /// The connection over which the link was made; its end is the peer's end.
    pub(super) stream: TcpStream,
    /// This node's inbox, where the peer writes credit and records.
    pub(super) inbox: Arc<MemoryRegion>,
    /// The mirror of the peer's ring.
    pub(super) mirror: MemoryRegion,
    /// The peer's inbox.
    pub(super) to: Inbox,
    pub(super) message_bytes_max: u32,
    pub(super) sizes: Sizes,
}

pub(super) struct Link {
    pub(super) peer: Rank,
    /// Number of its queue pair.
    pub(super) number: u32,
    pub(super) stream: TcpStream,
    pub(super) inbox: Arc<MemoryRegion>,
    sending: Mutex<Sending>,
    /// What the device is done with: position in the ring, and requests.
    done_bytes: AtomicU64,
    done_requests: AtomicU64,
    standing: AtomicU8,
    reason: Mutex<Option<LostReason>>,
    /// Why it is lost, in words, for errors.
    pub(super) why: OnceLock<String>,
    departed: AtomicBool,
}

struct Sending {
    /// Gone once the link is.
    pair: Option<QueuePair>,
    mirror: MemoryRegion,
    to: Inbox,
    /// The most that one WRITE of a record carries, a multiple of [`CUT_BYTES`].
    piece_bytes_max: usize,
    sizes: Sizes,
    sent: Amount,
    /// What the peer has said to have consumed.
    credit: Amount,
    /// What the peer was told to have been consumed here.
    told: Amount,
    /// Requests posted.
    requests: u64,
    /// Requests and bytes since the last one that asks for a completion.
    unsignalled: u64,
    unsignalled_bytes: u64,
    /// The completion of the last request has been asked for, and nothing follows it.
    flushed: bool,
}

impl Link {
    pub(super) fn new(parts: LinkParts) -> Self {
        let LinkParts { peer, pair, stream, inbox, mirror, to, message_bytes_max, sizes } = parts;
        Self {
            peer,
            number: pair.number(),
            stream,
            inbox,
            sending: Mutex::new(Sending {
                pair: Some(pair),
                mirror,
                to,
                piece_bytes_max: message_bytes_max as usize / CUT_BYTES * CUT_BYTES,
                sizes,
                sent: Amount::default(),
                credit: Amount::default(),
                told: Amount::default(),
                requests: 0,
                unsignalled: 0,
                unsignalled_bytes: 0,
                flushed: false,
            }),
            done_bytes: AtomicU64::new(0),
            done_requests: AtomicU64::new(0),
            standing: AtomicU8::new(Standing::Live as u8),
            reason: Mutex::new(None),
            why: OnceLock::new(),
            departed: AtomicBool::new(false),
        }
    }

    pub(super) fn standing(&self) -> Standing {
        match self.standing.load(Ordering::Acquire) {
            0 => Standing::Live,
            1 => Standing::Ending,
            2 => Standing::Cut,
            _ => Standing::Lost,
        }
    }

    /// Moves on to `standing`, if that is forward; the first reason counts, but for a cut, whose own does.
    fn advance(&self, standing: Standing, reason: LostReason) -> bool {
        let mut held = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        if self.standing() >= standing {
            return false;
        }
        let _ = self.why.set(in_words(&reason));
        *held = Some(reason);
        self.standing.store(standing as u8, Ordering::Release);
        true
    }

    /// The peer is gone by itself; what has landed counts.
    pub(super) fn end(&self, reason: LostReason) {
        self.advance(Standing::Ending, reason);
    }

    /// Cuts the peer off: nothing of it lands or is delivered from now on but its loss.
    pub(super) fn cut(&self, reason: LostReason) -> bool {
        let is_first = self.advance(Standing::Cut, reason);
        if is_first {
            self.stop();
        }
        is_first
    }

    /// Why it is lost; for a peer whose goodbye turns out not to be orderly, `instead`.
    pub(super) fn settle(&self, instead: Option<LostReason>) -> LostReason {
        let mut held = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(instead) = instead {
            *held = Some(instead);
        }
        self.standing.store(Standing::Lost as u8, Ordering::Release);
        held.clone().unwrap_or_else(|| LostReason::Died("unknown".to_owned()))
    }

    /// Lets nothing of the peer land any more.
    pub(super) fn stop(&self) {
        if let Some(pair) = &self.lock().pair {
            pair.fail();
        }
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Gives the queue pair back to the device.
    pub(super) fn destroy(&self) {
        self.lock().pair = None;
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Why nothing can be sent.
    pub(super) fn gone(&self) -> SendError {
        let reason = if self.departed.load(Ordering::Relaxed) {
            "this node has said goodbye".to_owned()
        } else {
            self.why.get().cloned().unwrap_or_else(|| "the connection is closed".to_owned())
        };
        SendError::PeerLost { peer: self.peer, reason }
    }

    /// Sends a record or says why not; never waits.
    pub(super) fn try_send(&self, parts: &[&[u8]]) -> Result<usize, SendError> {
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        if bytes > RECORD_BYTES_MAX {
            return Err(SendError::TooLong { bytes, max: RECORD_BYTES_MAX });
        }
        let Some(mut sending) = self.try_lock() else { return Err(SendError::Busy(self.peer)) };
        if self.standing() != Standing::Live || self.departed.load(Ordering::Relaxed) {
            return Err(self.gone());
        }
        let slot = Slot::after(sending.sent.bytes, bytes);
        let pieces = bytes.div_ceil(sending.piece_bytes_max).max(1);
        if !sending.has_room(self, slot, pieces) {
            if let Err(broken) = sending.look_at_credit(&self.inbox) {
                drop(sending);
                self.cut(LostReason::Malformed(broken.to_owned()));
                return Err(self.gone());
            }
            if !sending.has_room(self, slot, pieces) {
                return Err(SendError::Full(self.peer));
            }
        }
        sending.fill(slot, parts);
        if let Err(error) = sending.write(slot, bytes, pieces) {
            drop(sending);
            self.cut(LostReason::Died(error.to_string()));
            return Err(self.gone());
        }
        Ok(bytes)
    }

    /// Tells the peer what was consumed.
    pub(super) fn try_credit(&self, consumed: Amount) -> Credited {
        let Some(mut sending) = self.try_lock() else { return Credited::Busy };
        if self.standing() != Standing::Live || sending.flushed {
            return Credited::Done;
        }
        if !sending.has_requests(self, 1, 0) {
            return Credited::Full;
        }
        match sending.write_credit(consumed) {
            Ok(()) => Credited::Done,
            Err(error) => {
                drop(sending);
                self.cut(LostReason::Died(error.to_string()));
                Credited::Done
            }
        }
    }

    /// Nothing is sent after this. Returns how many records were, once the device is done with all; asks
    /// it to say so when that is not known.
    pub(super) fn depart(&self) -> Option<u64> {
        let mut sending = self.lock();
        self.departed.store(true, Ordering::Relaxed);
        if self.standing() != Standing::Live {
            return Some(sending.sent.records);
        }
        if !sending.flushed && sending.unsignalled == 0 {
            sending.flushed = true;
        }
        if !sending.flushed && sending.has_requests(self, 1, 0) {
            sending.flushed = true;
            sending.unsignalled = u64::from(sending.sizes.signal_every);
            let consumed = sending.told;
            if let Err(error) = sending.write_credit(consumed) {
                tracing::debug!(%error, "a goodbye cannot be sent");
                return Some(sending.sent.records);
            }
        }
        let is_done = self.done_requests.load(Ordering::Acquire) == sending.requests;
        (sending.flushed && is_done).then_some(sending.sent.records)
    }

    /// A request that asked for it has completed.
    pub(super) fn complete(&self, id: u64) {
        // One thread at a time takes completions, so no read-modify-write is needed.
        let advance = |counter: &AtomicU64, low: u64| {
            let before = counter.load(Ordering::Relaxed);
            let step = low.wrapping_sub(before) & u64::from(u32::MAX);
            counter.store(before + step, Ordering::Release);
        };
        advance(&self.done_bytes, id >> 32);
        advance(&self.done_requests, id & u64::from(u32::MAX));
    }

    fn try_lock(&self) -> Option<MutexGuard<'_, Sending>> {
        match self.sending.try_lock() {
            Ok(sending) => Some(sending),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Sending> {
        self.sending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of credit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Credited {
    /// It is on its way, or the peer is gone.
    Done,
    /// Another thread is sending.
    Busy,
    /// The send queue is full; a completion will come.
    Full,
}

impl Sending {
    /// Whether a record fits: into the peer's ring, into the mirror, into the send queue.
    fn has_room(&self, link: &Link, slot: Slot, pieces: usize) -> bool {
        let after = self.sent.bytes + slot.taken();
        let done = link.done_bytes.load(Ordering::Acquire);
        after - self.credit.bytes <= RING_BYTES as u64
            && after - done <= RING_BYTES as u64
            && self.sent.records - self.credit.records < u64::from(self.to.records)
            && self.has_requests(link, pieces as u64, SEND_RESERVE)
    }

    fn has_requests(&self, link: &Link, more: u64, reserve: u64) -> bool {
        let outstanding = self.requests - link.done_requests.load(Ordering::Acquire);
        outstanding + more + reserve <= u64::from(self.sizes.send)
    }

    fn look_at_credit(&mut self, inbox: &MemoryRegion) -> Result<(), &'static str> {
        let words: *const AtomicU64 = inbox.base().cast();
        // SAFETY: the inbox is mapped, starts at a page and is longer than a credit; peers change it by
        // their devices, which an atomic load takes like any other store.
        let load = |at: usize| u64::from_le(unsafe { (*words.add(at)).load(Ordering::Acquire) });
        let Some(told) = Amount::from_words(load) else { return Ok(()) };
        let is_possible = |told, before, sent| told >= before && told <= sent;
        if !is_possible(told.bytes, self.credit.bytes, self.sent.bytes)
            || !is_possible(told.records, self.credit.records, self.sent.records)
        {
            return Err("it gave back credit that it never had");
        }
        self.credit = told;
        Ok(())
    }

    /// Copies a record into the mirror.
    fn fill(&mut self, slot: Slot, parts: &[&[u8]]) {
        let mut at = slot.offset;
        for part in parts {
            // SAFETY: a slot lies inside the mirror; the device is done with it and does not write there;
            // the lock keeps other threads out.
            unsafe { copy_in(part, self.mirror.base().add(at)) };
            at += part.len();
        }
    }

    /// Writes a record that was filled in, in pieces that the port carries, the last one announced.
    fn write(&mut self, slot: Slot, bytes: usize, pieces: usize) -> Result<(), super::VerbsError> {
        let pair = self.pair.as_ref().expect("a live link has a queue pair");
        let before = (pieces - 1) * self.piece_bytes_max;
        let announcement = slot.announcement(self.sent.records, before);
        self.sent.bytes += slot.taken();
        self.sent.records += 1;
        self.requests += pieces as u64;
        self.unsignalled += pieces as u64;
        self.unsignalled_bytes += slot.taken();
        let signalled = self.unsignalled >= u64::from(self.sizes.signal_every)
            || self.unsignalled_bytes >= SIGNAL_BYTES;
        if signalled {
            (self.unsignalled, self.unsignalled_bytes) = (0, 0);
        }
        let id = self.id();
        let request = |piece: usize| {
            let start = piece * self.piece_bytes_max;
            let length = (bytes - start).min(self.piece_bytes_max);
            let is_last = piece + 1 == pieces;
            let at = (slot.offset + start) as u64;
            Request {
                id,
                operation: if is_last {
                    Operation::Announce(announcement)
                } else {
                    Operation::Write
                },
                local: (
                    self.mirror.address() + at,
                    u32::try_from(length).expect("a short record"),
                    self.mirror.local_key(),
                ),
                remote: (self.to.address + RING_OFFSET as u64 + at, self.to.key),
                signalled: signalled && is_last,
                inline: length <= pair.inline_bytes(),
            }
        };
        if pieces == 1 {
            // SAFETY: as below.
            return unsafe { pair.post(&[request(0)]) };
        }
        let mut chain = [request(pieces - 1); CHAIN_MAX];
        for (piece, place) in chain.iter_mut().enumerate().take(pieces) {
            *place = request(piece);
        }
        // SAFETY: the pieces are of the mirror, which is registered, lives as long as the pair, and is not
        // written there before the requests have completed.
        unsafe { pair.post(&chain[..pieces]) }
    }

    fn write_credit(&mut self, consumed: Amount) -> Result<(), super::VerbsError> {
        self.told = consumed;
        self.requests += 1;
        self.unsignalled += 1;
        let signalled = self.unsignalled >= u64::from(self.sizes.signal_every);
        if signalled {
            (self.unsignalled, self.unsignalled_bytes) = (0, 0);
        }
        let bytes = consumed.to_bytes();
        let request = Request {
            id: self.id(),
            operation: Operation::Write,
            local: (
                bytes.as_ptr().expose_provenance() as u64,
                u32::try_from(CREDIT_BYTES).expect("small"),
                0,
            ),
            remote: (self.to.address, self.to.key),
            signalled,
            inline: true,
        };
        let pair = self.pair.as_ref().expect("a live link has a queue pair");
        // SAFETY: the bytes are readable during the call, which copies them.
        unsafe { pair.post(&[request]) }
    }

    /// What is known to be done when a request posted now has completed.
    fn id(&self) -> u64 {
        let low = u64::from(u32::MAX);
        (self.sent.bytes & low) << 32 | (self.requests & low)
    }
}

fn in_words(reason: &LostReason) -> String {
    match reason {
        LostReason::Goodbye => "it said goodbye".to_owned(),
        LostReason::Died(why) => why.clone(),
        LostReason::Malformed(why) => format!("it broke the protocol: {why}"),
        LostReason::Expelled(why) => format!("this node expelled it: {why}"),
    }
}
