//! The owner's side of a read lane: requests come in, answers go out.
//!
//! Served by the thread that polls. Requests stay in the socket while the answers of earlier ones
//! wait for it to take more, so a reader that does not fetch its answers stops only its own lane;
//! what is kept for a lane is bounded by [`ANSWER_BYTES`] and one READ.

use std::io::{ErrorKind, Read as _, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, Weak};

use mio::net::TcpStream;

use super::limits::{ANSWER_BYTES, REQUESTS_BUFFERED, SERVE_BURST_BYTES};
use super::link::retry;
use super::request::{ANSWER_HEAD_BYTES, AnswerHead, REQUEST_BYTES, Request, Status};
use crate::copy::read_guarded;
use crate::rank::Rank;
use crate::region::{Region, RegionId, Rights};

/// The regions of this node that peers may read, by number.
#[derive(Default)]
pub(super) struct Exports {
    regions: RwLock<Vec<Weak<Region>>>,
}

impl Exports {
    pub(super) fn add(&self, region: &Arc<Region>) {
        if region.rights() != Rights::Read {
            return;
        }
        let at = region.id().0 as usize;
        let mut regions = self.regions.write().unwrap_or_else(PoisonError::into_inner);
        if regions.len() <= at {
            regions.resize(at + 1, Weak::new());
        }
        regions[at] = Arc::downgrade(region);
    }

    fn get(&self, id: RegionId) -> Option<Arc<Region>> {
        let regions = self.regions.read().unwrap_or_else(PoisonError::into_inner);
        regions.get(id.0 as usize)?.upgrade()
    }
}

/// What is left of a lane after some work on it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// Nothing to do until its socket says so.
    Idle,
    /// More can be done at once.
    Busy,
    /// The peer closed it.
    Ended,
    /// The peer broke the format.
    Malformed(String),
}

/// A lane of a peer.
pub(super) struct ServedLane {
    pub(super) peer: Rank,
    pub(super) stream: TcpStream,
    requests: Box<[u8]>,
    start: usize,
    end: usize,
    answers: Vec<u8>,
    sent: usize,
    /// Answers that were made since the last count. They are counted before the socket gets them, so that
    /// who has an answer finds it counted.
    uncounted: u64,
    readable: bool,
    ending: bool,
    /// The region of the last request: most requests of a batch name the same one.
    last: Option<Arc<Region>>,
}

impl ServedLane {
    pub(super) fn new(peer: Rank, stream: TcpStream) -> Self {
        Self {
            peer,
            stream,
            requests: vec![0; REQUESTS_BUFFERED * REQUEST_BYTES].into_boxed_slice(),
            start: 0,
            end: 0,
            answers: Vec::new(),
            sent: 0,
            uncounted: 0,
            readable: false,
            ending: false,
            last: None,
        }
    }

    /// Bytes of answers that it holds on to.
    #[cfg(test)]
    pub(super) fn kept_bytes(&self) -> usize {
        self.answers.capacity()
    }

    /// Its socket became readable or writable.
    pub(super) fn ready(&mut self) {
        self.readable = true;
    }

    /// Its socket's end was seen: it is read until there.
    pub(super) fn ending(&mut self) {
        self.ending = true;
        self.readable = true;
    }

    /// Serves what can be served now, within one burst. Adds the answers to `served`.
    pub(super) fn work(&mut self, exports: &Exports, served: &AtomicU64) -> Lane {
        let mut burst = SERVE_BURST_BYTES;
        let outcome = loop {
            if self.answers.len() - self.sent >= ANSWER_BYTES && !self.flush(served) {
                break Lane::Idle;
            }
            if burst == 0 {
                break Lane::Busy;
            }
            if self.end - self.start >= REQUEST_BYTES {
                match self.serve_next(exports) {
                    Ok(bytes) => burst = burst.saturating_sub(bytes),
                    Err(text) => return Lane::Malformed(text),
                }
                self.uncounted += 1;
            } else if self.readable {
                match self.receive() {
                    Ok(true) => {}
                    Ok(false) => return Lane::Ended,
                    Err(lane) => return lane,
                }
            } else {
                break Lane::Idle;
            }
        };
        self.last = None;
        self.flush(served);
        outcome
    }

    /// Receives requests; false at the end of the stream.
    fn receive(&mut self) -> Result<bool, Lane> {
        self.requests.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        let space = &mut self.requests[self.end..];
        match retry(|| (&self.stream).read(space)) {
            Ok(0) => return Ok(false),
            Ok(count) => {
                // A short read has emptied the socket; what comes later is announced anew.
                self.readable = self.ending || count == space.len();
                self.end += count;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
            Err(_) => return Err(Lane::Ended),
        }
        Ok(true)
    }

    /// Answers the next buffered request and returns the length of the answer.
    fn serve_next(&mut self, exports: &Exports) -> Result<usize, String> {
        let bytes = self.requests[self.start..self.end].first_chunk().expect("a whole request");
        let request = Request::from_bytes(bytes).map_err(|error| error.to_string())?;
        self.start += REQUEST_BYTES;
        let id = RegionId(request.region);
        if self.last.as_ref().is_none_or(|region| region.id() != id) {
            self.last = exports.get(id);
        }
        let refuse =
            |status| AnswerHead { slot: request.slot, status, len: 0, head_before: [0; 2] };
        let Some(region) = &self.last else {
            self.answers.extend(refuse(Status::UnknownRegion).to_bytes());
            return Ok(ANSWER_HEAD_BYTES);
        };
        let end = request.offset.checked_add(u64::from(request.len));
        if end.is_none_or(|end| end > region.bytes() as u64) {
            self.answers.extend(refuse(Status::OutOfRange).to_bytes());
            return Ok(ANSWER_HEAD_BYTES);
        }
        let at = self.answers.len();
        let len = request.len as usize;
        self.answers.resize(at + ANSWER_HEAD_BYTES + len, 0);
        let offset = usize::try_from(request.offset).expect("inside a mapping");
        // SAFETY: `offset + len` is inside the region by the check above, and `last` keeps it
        // mapped; both are multiples of 8 by the request's shape and the region is aligned to 64.
        let head_before = unsafe {
            let from = region.base().as_ptr().add(offset);
            read_guarded(from, &mut self.answers[at + ANSWER_HEAD_BYTES..])
        };
        let head =
            AnswerHead { slot: request.slot, status: Status::Done, len: request.len, head_before };
        self.answers[at..at + ANSWER_HEAD_BYTES].copy_from_slice(&head.to_bytes());
        Ok(ANSWER_HEAD_BYTES + len)
    }

    /// Gives answers to the socket; false if it takes no more for now.
    fn flush(&mut self, served: &AtomicU64) -> bool {
        if self.uncounted > 0 {
            served.fetch_add(std::mem::take(&mut self.uncounted), Ordering::Relaxed);
        }
        while self.sent < self.answers.len() {
            match retry(|| (&self.stream).write(&self.answers[self.sent..])) {
                Ok(written) => self.sent += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    let sent = std::mem::take(&mut self.sent);
                    self.answers.drain(..sent);
                    return false;
                }
                Err(_) => {
                    // The reader is gone; the end of the stream is what ends the lane.
                    self.sent = self.answers.len();
                    self.ending();
                }
            }
        }
        self.answers.clear();
        self.sent = 0;
        // One very long READ does not hold its memory for ever.
        self.answers.shrink_to(2 * ANSWER_BYTES);
        true
    }
}
