//! The reader's side of read lanes: one socket per peer, all READs of a submit in one write.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Shared;
use super::limits::{LANE_BUFFER_BYTES, LANE_READS, LANE_SPIN};
use super::link::retry;
use super::request::{ANSWER_HEAD_BYTES, AnswerHead, Request, Status, is_shape_valid};
use crate::error::FabricError;
use crate::fabric::{Completion, READ_BYTES_MAX, Read, ReadData, ReadLane};
use crate::rank::Rank;
use crate::wake;

/// The socket to one peer.
struct Channel {
    stream: TcpStream,
    /// Requests that the socket has not taken yet.
    requests: Vec<u8>,
    sent: usize,
    answers: Vec<u8>,
    start: usize,
    end: usize,
    outstanding: usize,
    /// Why it can no longer be used.
    broken: Option<String>,
}

/// The next answer of a channel.
enum Next {
    /// It is all here: its head, where its bytes begin.
    Here(AnswerHead, usize),
    /// It takes this many bytes in all; fewer are here.
    Needs(usize),
}

impl Channel {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            requests: Vec::with_capacity(4096),
            sent: 0,
            answers: vec![0; LANE_BUFFER_BYTES],
            start: 0,
            end: 0,
            outstanding: 0,
            broken: None,
        }
    }

    fn flush(&mut self) {
        while self.sent < self.requests.len() && self.broken.is_none() {
            match retry(|| (&self.stream).write(&self.requests[self.sent..])) {
                Ok(written) => self.sent += written,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => self.broken = Some(error.to_string()),
            }
        }
        self.requests.clear();
        self.sent = 0;
    }

    fn next(&self) -> Result<Next, String> {
        let Some(head) = self.answers[self.start..self.end].first_chunk() else {
            return Ok(Next::Needs(ANSWER_HEAD_BYTES));
        };
        let head = AnswerHead::from_bytes(head).map_err(|error| error.to_string())?;
        if head.len as usize > READ_BYTES_MAX {
            return Err("an answer longer than any READ".to_owned());
        }
        let needed = ANSWER_HEAD_BYTES + head.len as usize;
        if self.end - self.start < needed {
            return Ok(Next::Needs(needed));
        }
        Ok(Next::Here(head, self.start + ANSWER_HEAD_BYTES))
    }

    /// Receives what is there, room for `needed` bytes from the start of the next answer being
    /// made first. Returns whether more may be there.
    fn receive(&mut self, needed: usize) -> bool {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.start + needed > self.answers.len() || self.end == self.answers.len() {
            self.answers.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if needed > self.answers.len() {
            self.answers.resize(needed, 0);
        }
        let space = &mut self.answers[self.end..];
        match retry(|| (&self.stream).read(space)) {
            Ok(0) => self.broken = Some("it closed the connection".to_owned()),
            Ok(count) => {
                self.end += count;
                return count == space.len();
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => self.broken = Some(error.to_string()),
        }
        false
    }

    /// Whether something can be handed out; receives if not.
    fn is_ready(&mut self) -> bool {
        loop {
            match self.next() {
                Ok(Next::Needs(needed)) if self.broken.is_none() => {
                    let before = self.end - self.start;
                    self.receive(needed);
                    if self.end - self.start == before && self.broken.is_none() {
                        return false;
                    }
                }
                _ => return true,
            }
        }
    }
}

/// A READ that is on its way.
#[derive(Clone, Copy)]
struct Slot {
    /// `None` while free.
    read: Option<Read>,
}

/// A lane over sockets.
pub(super) struct TcpLane {
    shared: Arc<Shared>,
    channels: Vec<Option<Channel>>,
    /// Peers with READs that are not handed out.
    active: Vec<usize>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    failed: VecDeque<(u64, FabricError)>,
    unsent: bool,
    spins: bool,
    posted: (u64, u64),
}

impl TcpLane {
    /// A lane with a socket to each peer that is in `channels`.
    pub(super) fn new(shared: Arc<Shared>, streams: Vec<Option<TcpStream>>) -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let count = u32::try_from(LANE_READS).expect("a small number");
        Self {
            shared,
            channels: streams.into_iter().map(|stream| stream.map(Channel::new)).collect(),
            active: Vec::new(),
            slots: vec![Slot { read: None }; LANE_READS],
            free: (0..count).rev().collect(),
            failed: VecDeque::new(),
            unsent: false,
            spins: cpus > 1,
            posted: (0, 0),
        }
    }

    fn lost(&self, peer: Rank) -> FabricError {
        let reason = match (&self.shared.lost[peer.index()].get(), &self.channels[peer.index()]) {
            (Some(reason), _) => (*reason).clone(),
            (None, Some(Channel { broken: Some(reason), .. })) => reason.clone(),
            _ => "it was lost before this lane was opened".to_owned(),
        };
        FabricError::PeerLost { peer, reason }
    }

    /// Turns all READs of a peer that cannot be answered any more into failures.
    fn fail_all(&mut self, peer: Rank) {
        let error = self.lost(peer);
        for (number, slot) in (0..).zip(&mut self.slots) {
            if let Some(read) = slot.read.take_if(|read| read.peer == peer) {
                self.free.push(number);
                self.failed.push_back((read.token, error.clone()));
            }
        }
        if let Some(channel) = &mut self.channels[peer.index()] {
            channel.outstanding = 0;
            channel.requests.clear();
            channel.sent = 0;
            (channel.start, channel.end) = (0, 0);
            channel.broken.get_or_insert_with(|| "the peer is lost".to_owned());
        }
        self.active.retain(|at| *at != peer.index());
    }

    /// Hands out what has come from one peer.
    fn collect(
        &mut self,
        at: usize,
        done: &mut dyn FnMut(Completion<'_>),
    ) -> Result<usize, String> {
        let channel = self.channels[at].as_mut().expect("active peers have a channel");
        channel.flush();
        let mut handed = 0;
        let mut drained = false;
        while channel.outstanding > 0 {
            match channel.next()? {
                Next::Needs(_) if channel.broken.is_some() => break,
                Next::Needs(_) if drained => return Ok(handed),
                Next::Needs(needed) => drained = !channel.receive(needed),
                Next::Here(head, at_byte) => {
                    let slot = self.slots.get_mut(head.slot as usize);
                    let read = slot.and_then(|slot| {
                        slot.read.take_if(|read| {
                            read.peer.index() == at
                                && (head.status != Status::Done || head.len == read.len)
                        })
                    });
                    let Some(read) = read else {
                        return Err("it answered a READ that was not asked for".to_owned());
                    };
                    let bytes = &channel.answers[at_byte..at_byte + head.len as usize];
                    let result = outcome(&self.shared, read, head, bytes);
                    channel.start = at_byte + head.len as usize;
                    channel.outstanding -= 1;
                    self.free.push(head.slot);
                    handed += 1;
                    done(Completion { token: read.token, result });
                }
            }
        }
        match &channel.broken {
            Some(reason) => Err(reason.clone()),
            None => Ok(handed),
        }
    }
}

/// What the READ's owner is told.
fn outcome<'a>(
    shared: &Shared,
    read: Read,
    head: AnswerHead,
    bytes: &'a [u8],
) -> Result<ReadData<'a>, FabricError> {
    let Read { peer, region, offset, len, .. } = read;
    match head.status {
        Status::Done => Ok(ReadData { head_before: head.head_before, bytes }),
        Status::UnknownRegion => Err(FabricError::UnknownRegion { peer, region }),
        Status::OutOfRange => {
            let region_bytes = shared.imports.bytes(peer, region).unwrap_or(0);
            Err(FabricError::OutOfRange { peer, region, offset, len, region_bytes })
        }
    }
}

impl ReadLane for TcpLane {
    fn post(&mut self, read: Read) -> Result<(), FabricError> {
        let Read { peer, region, offset, len, .. } = read;
        let Some(region_bytes) = self.shared.imports.bytes(peer, region) else {
            return Err(FabricError::UnknownRegion { peer, region });
        };
        let end = offset.checked_add(u64::from(len));
        if !is_shape_valid(len, offset) || end.is_none_or(|end| end > region_bytes) {
            return Err(FabricError::OutOfRange { peer, region, offset, len, region_bytes });
        }
        let is_lost = self.shared.lost[peer.index()].get().is_some();
        let channel = self.channels[peer.index()]
            .as_mut()
            .filter(|channel| !is_lost && channel.broken.is_none());
        let Some(channel) = channel else { return Err(self.lost(peer)) };
        let Some(number) = self.free.pop() else {
            return Err(FabricError::LaneFull { capacity: LANE_READS });
        };
        self.slots[number as usize].read = Some(read);
        let request = Request { slot: number, region: region.0, len, offset };
        channel.requests.extend_from_slice(&request.to_bytes());
        if channel.outstanding == 0 {
            self.active.push(peer.index());
        }
        channel.outstanding += 1;
        self.unsent = true;
        self.posted.0 += 1;
        self.posted.1 += u64::from(len);
        Ok(())
    }

    fn submit(&mut self) -> Result<(), FabricError> {
        if std::mem::take(&mut self.unsent) {
            for at in &self.active {
                self.channels[*at].as_mut().expect("active peers have a channel").flush();
            }
            let (reads, bytes) = std::mem::take(&mut self.posted);
            self.shared.counters.reads.fetch_add(reads, Ordering::Relaxed);
            self.shared.counters.read_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        Ok(())
    }

    fn poll(&mut self, done: &mut dyn FnMut(Completion<'_>)) -> Result<usize, FabricError> {
        self.submit()?;
        let mut handed = 0;
        let mut next = 0;
        while let Some(&at) = self.active.get(next) {
            let peer = Rank::from_index(at);
            let result = self.collect(at, &mut |completion| {
                handed += 1;
                done(completion);
            });
            if let Err(reason) = result {
                if let Some(channel) = &mut self.channels[at] {
                    channel.broken.get_or_insert(reason);
                }
                self.fail_all(peer);
            } else if self.shared.lost[at].get().is_some() {
                self.fail_all(peer);
            } else if self.channels[at].as_ref().is_some_and(|channel| channel.outstanding == 0) {
                self.active.swap_remove(next);
            } else {
                next += 1;
            }
        }
        while let Some((token, error)) = self.failed.pop_front() {
            handed += 1;
            done(Completion { token, result: Err(error) });
        }
        Ok(handed)
    }

    fn wait(&mut self, limit: Duration) -> Result<(), FabricError> {
        self.submit()?;
        let start = Instant::now();
        let spin = if self.spins { LANE_SPIN.min(limit) } else { Duration::ZERO };
        loop {
            if self.active.is_empty() || !self.failed.is_empty() {
                return Ok(());
            }
            for &at in &self.active {
                let channel = self.channels[at].as_mut().expect("active peers have a channel");
                if self.shared.lost[at].get().is_some() || channel.is_ready() {
                    return Ok(());
                }
            }
            if start.elapsed() >= spin {
                break;
            }
            std::hint::spin_loop();
        }
        let mut fds: Vec<libc::pollfd> = Vec::with_capacity(self.active.len());
        for &at in &self.active {
            let channel = self.channels[at].as_ref().expect("active peers have a channel");
            let full = channel.sent < channel.requests.len();
            let events = libc::POLLIN | if full { libc::POLLOUT } else { 0 };
            fds.push(wake::pollfd(channel.stream.as_raw_fd(), events));
        }
        wake::poll(&mut fds, limit.saturating_sub(start.elapsed()))?;
        Ok(())
    }

    fn outstanding(&self) -> usize {
        LANE_READS - self.free.len() + self.failed.len()
    }

    fn capacity(&self) -> usize {
        LANE_READS
    }
}
