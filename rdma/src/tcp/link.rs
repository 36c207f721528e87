//! One link: a socket, what still has to go into it, and the counters of credit.
//!
//! Any thread may send, one at a time under a lock that nobody waits for. A record goes straight
//! into the socket if nothing is queued, else into the queue; credit bounds the queue, since no
//! more may be queued than the peer may have unconsumed. Only the thread that polls receives.

use std::io::{self, ErrorKind, IoSlice, Write as _};
use std::net::Shutdown;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, TryLockError};

use mio::net::TcpStream;

use super::frame::{Consumed, FrameKind, HEADER_BYTES, header};
use super::limits::{CREDIT_BYTES, CREDIT_RECORDS, CREDIT_STEP_BYTES, CREDIT_STEP_RECORDS};
use crate::error::SendError;
use crate::fabric::RECORD_BYTES_MAX;
use crate::rank::Rank;

/// Parts of a record that go into the socket without a copy; more are gathered in the queue.
const PARTS_MAX: usize = 15;

/// A pair of counters that only one side writes at a time.
#[derive(Default)]
struct Counters {
    bytes: AtomicU64,
    records: AtomicU64,
}

impl Counters {
    fn get(&self) -> Consumed {
        Consumed {
            bytes: self.bytes.load(Ordering::Relaxed),
            records: self.records.load(Ordering::Relaxed),
        }
    }

    fn set(&self, value: Consumed) {
        self.bytes.store(value.bytes, Ordering::Relaxed);
        self.records.store(value.records, Ordering::Relaxed);
    }
}

/// What has to go into the socket yet.
#[derive(Default)]
struct Outbox {
    queue: Vec<u8>,
    start: usize,
    /// Nothing may follow: a goodbye was queued or the socket is broken.
    closed: bool,
    /// Why it is broken. The system tells it once, to whoever uses the socket first.
    broken: Option<String>,
}

pub(super) struct Link {
    pub(super) peer: Rank,
    pub(super) stream: TcpStream,
    outbox: Mutex<Outbox>,
    /// Records given to [`Link::try_send`].
    sent: Counters,
    /// What the peer has said to have consumed of them.
    credit: Counters,
    /// What this node has consumed.
    consumed: Counters,
    /// What of it the peer has been told.
    told: Counters,
}

impl Link {
    pub(super) fn new(peer: Rank, stream: TcpStream) -> Self {
        Self {
            peer,
            stream,
            outbox: Mutex::default(),
            sent: Counters::default(),
            credit: Counters::default(),
            consumed: Counters::default(),
            told: Counters::default(),
        }
    }

    /// Sends a record or says why not; never waits.
    pub(super) fn try_send(&self, parts: &[&[u8]]) -> Result<usize, SendError> {
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        if bytes > RECORD_BYTES_MAX {
            return Err(SendError::TooLong { bytes, max: RECORD_BYTES_MAX });
        }
        let Some(mut outbox) = self.try_outbox() else { return Err(SendError::Busy(self.peer)) };
        if outbox.closed {
            return Err(SendError::PeerLost {
                peer: self.peer,
                reason: "the connection is closed".to_owned(),
            });
        }
        let (sent, credit) = (self.sent.get(), self.credit.get());
        let after = Consumed { bytes: sent.bytes + bytes as u64, records: sent.records + 1 };
        if after.bytes - credit.bytes > CREDIT_BYTES
            || after.records - credit.records > CREDIT_RECORDS
        {
            return Err(SendError::Full(self.peer));
        }
        // Before the bytes leave, so that the peer's counters never pass these.
        self.sent.set(after);
        self.put(&mut outbox, FrameKind::Record, parts, bytes);
        Ok(bytes)
    }

    /// Checks and takes the counters of a received frame; false if they cannot be.
    pub(super) fn take_credit(&self, told: Consumed) -> bool {
        let (before, sent) = (self.credit.get(), self.sent.get());
        let is_possible = |told, before, sent| told >= before && told <= sent;
        if !is_possible(told.bytes, before.bytes, sent.bytes)
            || !is_possible(told.records, before.records, sent.records)
        {
            return false;
        }
        self.credit.set(told);
        true
    }

    /// Notes a consumed record.
    pub(super) fn consume(&self, bytes: usize) {
        let before = self.consumed.get();
        self.consumed
            .set(Consumed { bytes: before.bytes + bytes as u64, records: before.records + 1 });
    }

    /// Tells the peer what was consumed if that is much. Returns false if it could not now.
    pub(super) fn return_credit(&self) -> bool {
        let (consumed, told) = (self.consumed.get(), self.told.get());
        if consumed.bytes - told.bytes < CREDIT_STEP_BYTES
            && consumed.records - told.records < CREDIT_STEP_RECORDS
        {
            return true;
        }
        let Some(mut outbox) = self.try_outbox() else { return false };
        if !outbox.closed {
            self.put(&mut outbox, FrameKind::Credit, &[], 0);
        }
        true
    }

    /// Puts as much of the queue into the socket as it takes. Returns false if another thread is
    /// sending just now, so that this has to be tried again.
    pub(super) fn flush(&self) -> bool {
        let Some(mut outbox) = self.try_outbox() else { return false };
        self.drain(&mut outbox);
        true
    }

    /// Queues a goodbye and flushes as far as the socket takes it. Returns true if all has left.
    pub(super) fn goodbye(&self) -> bool {
        let mut outbox = self.lock_outbox();
        if !outbox.closed {
            self.put(&mut outbox, FrameKind::Goodbye, &[], 0);
            outbox.closed = true;
        }
        self.drain(&mut outbox);
        let done = outbox.queue.is_empty();
        if done {
            let _ = self.stream.shutdown(Shutdown::Write);
        }
        done
    }

    /// Ends the connection in both directions.
    pub(super) fn close(&self) {
        let mut outbox = self.lock_outbox();
        *outbox = Outbox { closed: true, ..Outbox::default() };
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Why sending has failed, if it has.
    pub(super) fn broken(&self) -> Option<String> {
        self.lock_outbox().broken.clone()
    }

    fn try_outbox(&self) -> Option<MutexGuard<'_, Outbox>> {
        match self.outbox.try_lock() {
            Ok(outbox) => Some(outbox),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    fn lock_outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Sends or queues a frame.
    fn put(&self, outbox: &mut Outbox, kind: FrameKind, parts: &[&[u8]], bytes: usize) {
        let consumed = self.consumed.get();
        self.told.set(consumed);
        let header = header(kind, bytes, consumed);
        let mut written = 0;
        let was_empty = outbox.queue.is_empty();
        if was_empty && parts.len() <= PARTS_MAX {
            let mut slices = [IoSlice::new(&header); PARTS_MAX + 1];
            for (slice, part) in slices[1..].iter_mut().zip(parts) {
                *slice = IoSlice::new(part);
            }
            written = match retry(|| (&self.stream).write_vectored(&slices[..=parts.len()])) {
                Ok(written) => written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                Err(error) => return fail(outbox, &error),
            };
        }
        if written == HEADER_BYTES + bytes {
            return;
        }
        for part in std::iter::once(&header[..]).chain(parts.iter().copied()) {
            let skip = written.min(part.len());
            written -= skip;
            outbox.queue.extend_from_slice(&part[skip..]);
        }
        // A queue is left alone only when the socket has said that it is full: it then says when
        // it takes more.
        if was_empty {
            self.drain(outbox);
        }
    }

    fn drain(&self, outbox: &mut Outbox) {
        while outbox.start < outbox.queue.len() {
            match retry(|| (&self.stream).write(&outbox.queue[outbox.start..])) {
                Ok(0) => return fail(outbox, &ErrorKind::WriteZero.into()),
                Ok(written) => outbox.start += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    // Keeps the queue from growing at its front.
                    let start = std::mem::take(&mut outbox.start);
                    outbox.queue.drain(..start);
                    return;
                }
                Err(error) => return fail(outbox, &error),
            }
        }
        outbox.queue.clear();
        outbox.start = 0;
    }
}

/// The socket is broken: what the peer sent before can still be received; the thread that polls finds
/// the end there and reports it.
fn fail(outbox: &mut Outbox, error: &io::Error) {
    *outbox = Outbox { closed: true, broken: Some(error.to_string()), ..Outbox::default() };
}

/// Repeats a call that a signal interrupted.
pub(super) fn retry(mut call: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match call() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
