//! READs by the device: posted in chains, landed in the lane's own memory, handed out from there.
//!
//! A lane has a queue pair for each peer and one completion queue. READs of one peer complete in order, so
//! only the last of a chain asks for a completion. What does not fit (the pool, the queue pair) waits in
//! the lane and goes out when earlier READs have been handed out.

use std::collections::VecDeque;
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::completion::{CompletionQueue, WorkCompletion, blank};
use super::memory::MemoryRegion;
use super::pool::{Part, Pool};
use super::provider::{Import, Shared};
use super::queue_pair::{Operation, QueuePair, Request};
use super::status::failure;
use super::sys::bindings::IBV_WC_SUCCESS;
use super::tuning::{
    CHAIN_MAX, COMPLETIONS_EACH, LANE_DEPTH, LANE_POOL_BYTES, LANE_READS, LANE_SPIN,
};
use crate::error::FabricError;
use crate::fabric::{Completion, READ_BYTES_MAX, Read, ReadData, ReadLane};
use crate::rank::Rank;
use crate::region::RegionId;
use crate::wake;

/// A lane's way to one peer.
pub(super) struct Channel {
    /// Gone once it has failed: nothing lands any more.
    pair: Option<Arc<QueuePair>>,
    /// The other end serves the lane until this is closed.
    _stream: Option<TcpStream>,
    /// Requests posted and not yet given to the device.
    chain: Vec<Request>,
    /// Requests made and done, since the start.
    made: u64,
    done: u64,
    flying: VecDeque<Flying>,
    /// Why it has failed.
    broken: Option<String>,
    regions: Vec<Option<Import>>,
}

impl Channel {
    pub(super) fn new(pair: Arc<QueuePair>, stream: TcpStream) -> Self {
        Self::of(Some(pair), Some(stream), None)
    }

    /// One whose READs fail.
    pub(super) fn broken(reason: String) -> Self {
        Self::of(None, None, Some(reason))
    }

    fn of(pair: Option<Arc<QueuePair>>, stream: Option<TcpStream>, broken: Option<String>) -> Self {
        Self {
            pair,
            _stream: stream,
            chain: Vec::with_capacity(CHAIN_MAX),
            made: 0,
            done: 0,
            flying: VecDeque::new(),
            broken,
            regions: Vec::new(),
        }
    }
}

/// A READ that the device has or is about to get.
struct Flying {
    /// Requests of the channel that are done when it is.
    end: u64,
    part: Part,
    len: u32,
    token: u64,
}

/// A READ that waits for its turn.
struct Queued {
    peer: Rank,
    /// Address and key.
    remote: (u64, u32),
    len: u32,
    token: u64,
}

pub(super) struct VerbsLane {
    shared: Arc<Shared>,
    /// By rank. Dropped before the memory in which READs land.
    channels: Vec<Option<Channel>>,
    /// Ranks of channels with READs under way.
    active: Vec<usize>,
    completions: CompletionQueue,
    memory: MemoryRegion,
    pool: Pool,
    queued: VecDeque<Queued>,
    /// READs that have failed and were not handed out.
    failed: VecDeque<(u64, FabricError)>,
    /// Completions that a wait has found.
    found: VecDeque<WorkCompletion>,
    /// Room into which the device's library writes completions.
    taken: Box<[WorkCompletion; COMPLETIONS_EACH]>,
    flying: usize,
    message_bytes_max: u32,
    spins: bool,
}

impl VerbsLane {
    pub(super) fn new(
        shared: Arc<Shared>,
        channels: Vec<Option<Channel>>,
        completions: CompletionQueue,
        memory: MemoryRegion,
    ) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let message_bytes_max = shared.message_bytes_max;
        Self {
            shared,
            channels,
            active: Vec::new(),
            completions,
            memory,
            pool: Pool::new(LANE_POOL_BYTES),
            queued: VecDeque::new(),
            failed: VecDeque::new(),
            found: VecDeque::new(),
            taken: Box::new([blank(); COMPLETIONS_EACH]),
            flying: 0,
            message_bytes_max,
            spins: cores > 1,
        }
    }

    /// The region of a peer, looked up among all only once.
    fn import(&mut self, peer: Rank, region: RegionId) -> Option<Import> {
        let at = region.0 as usize;
        let known = self.channels[peer.index()].as_ref()?.regions.get(at).copied().flatten();
        if known.is_some() {
            return known;
        }
        let import = self.shared.imported(peer, region)?;
        let regions = &mut self.channels[peer.index()].as_mut()?.regions;
        if regions.len() <= at {
            regions.resize(at + 1, None);
        }
        regions[at] = Some(import);
        Some(import)
    }

    /// Why a peer cannot be read any more.
    fn lost(&self, peer: Rank) -> Option<FabricError> {
        let reason = match (&self.shared.lost[peer.index()].get(), &self.channels[peer.index()]) {
            (Some(reason), _) => (*reason).clone(),
            (None, Some(channel)) => channel.broken.clone()?,
            (None, None) => return None,
        };
        Some(FabricError::PeerLost { peer, reason })
    }

    /// Makes requests of queued READs as long as they fit, and gives them to the device.
    fn issue(&mut self) {
        let mut touched: Vec<usize> = Vec::new();
        while let Some(next) = self.queued.front() {
            let rank = next.peer.index();
            if let Some(error) = self.lost(next.peer) {
                let token = next.token;
                self.queued.pop_front();
                self.failed.push_back((token, error));
                continue;
            }
            let channel = self.channels[rank].as_mut().expect("posted to a channel");
            let pieces = u64::from(next.len.div_ceil(self.message_bytes_max));
            if channel.made + pieces - channel.done > u64::from(LANE_DEPTH) {
                break;
            }
            let Some(part) = self.pool.take(next.len as usize) else { break };
            let Queued { remote, len, token, .. } = self.queued.pop_front().expect("the front");
            let landing = self.memory.address() + part.offset as u64;
            let mut start = 0;
            while start < len {
                let length = (len - start).min(self.message_bytes_max);
                channel.made += 1;
                channel.chain.push(Request {
                    id: (rank as u64) << 48 | channel.made & ((1 << 48) - 1),
                    operation: Operation::Read,
                    local: (landing + u64::from(start), length, self.memory.local_key()),
                    remote: (remote.0 + u64::from(start), remote.1),
                    signalled: false,
                    inline: false,
                });
                start += length;
                if channel.chain.len() == CHAIN_MAX {
                    Self::give(channel);
                }
            }
            channel.flying.push_back(Flying { end: channel.made, part, len, token });
            self.flying += 1;
            if !touched.contains(&rank) {
                touched.push(rank);
            }
        }
        for rank in touched {
            Self::give(self.channels[rank].as_mut().expect("touched above"));
            if !self.active.contains(&rank) {
                self.active.push(rank);
            }
        }
    }

    /// Gives a channel's chain to the device.
    fn give(channel: &mut Channel) {
        let Some(last) = channel.chain.last_mut() else { return };
        last.signalled = true;
        let Some(pair) = &channel.pair else { return };
        // SAFETY: each READ lands in a part of the pool that nobody else has until it has completed or its
        // queue pair is gone.
        if let Err(error) = unsafe { pair.post(&channel.chain) } {
            channel.broken.get_or_insert_with(|| error.to_string());
        }
        channel.chain.clear();
    }

    /// Hands out all READs of a channel up to request `done`, which have landed.
    fn hand_out(&mut self, rank: usize, done: u64, to: &mut dyn FnMut(Completion<'_>)) -> usize {
        let mut handed = 0;
        let channel = self.channels[rank].as_mut().expect("it has READs");
        channel.done = done;
        while channel.flying.front().is_some_and(|flying| flying.end <= done) {
            let flying = channel.flying.pop_front().expect("the front");
            let len = flying.len as usize;
            // SAFETY: the part lies in the lane's memory; the device is done with it, and nobody else has
            // it until it is given back below.
            let bytes = unsafe {
                std::slice::from_raw_parts(self.memory.base().add(flying.part.offset), len)
            };
            let word = |at: usize| {
                let word = bytes.get(at..at + 8).map(|word| word.try_into().expect("8 bytes"));
                word.map_or(0, u64::from_ne_bytes)
            };
            let head_before = [word(0), word(8)];
            let result = Ok(ReadData { head_before, bytes });
            to(Completion { token: flying.token, result });
            self.pool.give_back(flying.part);
            self.flying -= 1;
            handed += 1;
        }
        handed
    }

    /// Ends a channel: its queue pair is destroyed, so nothing lands any more, and all its READs fail.
    fn fail(&mut self, rank: usize, reason: &str) {
        let Some(channel) = self.channels[rank].as_mut() else { return };
        let peer = Rank::from_index(rank);
        if let Some(pair) = channel.pair.take() {
            pair.fail();
            self.shared.forget_reader(&pair);
        }
        let reason = channel.broken.get_or_insert_with(|| reason.to_owned()).clone();
        let reason = self.shared.lost[rank].get().cloned().unwrap_or(reason);
        for flying in std::mem::take(&mut channel.flying) {
            self.pool.give_back(flying.part);
            self.flying -= 1;
            let error = FabricError::PeerLost { peer, reason: reason.clone() };
            self.failed.push_back((flying.token, error));
        }
        channel.chain.clear();
        channel.done = channel.made;
    }

    /// Ends channels whose peer is lost or that could not take requests.
    fn fail_lost(&mut self) {
        for at in (0..self.active.len()).rev() {
            let rank = self.active[at];
            if let Some(FabricError::PeerLost { reason, .. }) = self.lost(Rank::from_index(rank)) {
                self.fail(rank, &reason);
            }
            let channel = self.channels[rank].as_ref();
            if channel.is_none_or(|channel| channel.flying.is_empty()) {
                self.active.swap_remove(at);
            }
        }
    }

    /// Whether it is worth while to look for completions before going to sleep.
    pub(super) fn spins(&self) -> bool {
        self.spins
    }

    /// Whether there is something to poll for, or nothing to wait for.
    pub(super) fn has_news(&mut self) -> Result<bool, FabricError> {
        self.issue();
        if self.flying == 0 || !self.failed.is_empty() || self.take_completions()? {
            return Ok(true);
        }
        Ok(self.active.iter().any(|&rank| self.lost(Rank::from_index(rank)).is_some()))
    }

    /// Asks for the completion queue's descriptor to become readable with the next completion; true if one is here already.
    pub(super) fn arm(&mut self) -> Result<bool, FabricError> {
        self.completions.take_events();
        self.completions.arm()?;
        // What came before the queue was armed may not be announced.
        self.take_completions()
    }

    fn take_completions(&mut self) -> Result<bool, FabricError> {
        if self.found.is_empty() {
            let count = self.completions.poll(&mut self.taken[..])?;
            self.found.extend(&self.taken[..count]);
        }
        Ok(!self.found.is_empty())
    }
}

impl ReadLane for VerbsLane {
    fn post(&mut self, read: Read) -> Result<(), FabricError> {
        let Read { peer, region, offset, len, token } = read;
        if self.outstanding() >= LANE_READS {
            return Err(FabricError::LaneFull { capacity: LANE_READS });
        }
        if peer.index() >= self.channels.len() {
            return Err(FabricError::UnknownRegion { peer, region });
        }
        if let Some(lost) = self.lost(peer) {
            return Err(lost);
        }
        let Some(import) = self.import(peer, region) else {
            return Err(FabricError::UnknownRegion { peer, region });
        };
        let region_bytes = import.bytes;
        if offset > region_bytes || u64::from(len) > region_bytes - offset {
            return Err(FabricError::OutOfRange { peer, region, offset, len, region_bytes });
        }
        let shape = offset.is_multiple_of(8) && len.is_multiple_of(8) && len >= 8;
        if !shape || len as usize > READ_BYTES_MAX {
            return Err(FabricError::Config(format!(
                "a READ of {len} bytes at offset {offset} is impossible: both must be multiples of 8, the \
                 length from 8 to {READ_BYTES_MAX}"
            )));
        }
        let remote = (import.address + offset, import.key);
        self.queued.push_back(Queued { peer, remote, len, token });
        let counters = &self.shared.counters;
        counters.reads.fetch_add(1, Ordering::Relaxed);
        counters.read_bytes.fetch_add(u64::from(len), Ordering::Relaxed);
        Ok(())
    }

    fn submit(&mut self) -> Result<(), FabricError> {
        self.issue();
        Ok(())
    }

    fn poll(&mut self, done: &mut dyn FnMut(Completion<'_>)) -> Result<usize, FabricError> {
        self.issue();
        let mut handed = 0;
        while self.flying > 0 && self.take_completions()? {
            while let Some(completion) = self.found.pop_front() {
                let rank = usize::try_from(completion.wr_id >> 48).expect("a rank");
                let Some(Some(channel)) = self.channels.get(rank) else { continue };
                if channel.pair.is_none() {
                    continue;
                }
                // The number's upper bits are those of the requests under way.
                let mask = (1 << 48) - 1;
                let ahead = completion.wr_id.wrapping_sub(channel.done) & mask;
                let request = channel.done + ahead;
                if completion.status == IBV_WC_SUCCESS {
                    handed += self.hand_out(rank, request, done);
                } else {
                    // All before it have landed.
                    handed += self.hand_out(rank, request - 1, done);
                    let text = failure(completion.status).text();
                    let text = self.shared.port.beside(&text);
                    self.fail(rank, &text);
                }
            }
            self.issue();
        }
        self.fail_lost();
        self.issue();
        while let Some((token, error)) = self.failed.pop_front() {
            handed += 1;
            done(Completion { token, result: Err(error) });
        }
        Ok(handed)
    }

    fn wait(&mut self, limit: Duration) -> Result<(), FabricError> {
        let start = Instant::now();
        let spin = if self.spins { LANE_SPIN.min(limit) } else { Duration::ZERO };
        while !self.has_news()? {
            if start.elapsed() >= spin {
                if self.arm()? {
                    return Ok(());
                }
                let mut fds = [wake::pollfd(self.completions.as_fd().as_raw_fd(), libc::POLLIN)];
                wake::poll(&mut fds, limit.saturating_sub(start.elapsed()))?;
                return Ok(());
            }
            std::hint::spin_loop();
        }
        Ok(())
    }

    fn outstanding(&self) -> usize {
        self.queued.len() + self.flying + self.failed.len()
    }

    fn capacity(&self) -> usize {
        LANE_READS
    }
}

impl Drop for VerbsLane {
    fn drop(&mut self) {
        // Queue pairs go before the memory in which their READs land.
        for channel in self.channels.iter_mut().flatten() {
            if let Some(pair) = channel.pair.take() {
                pair.fail();
                self.shared.forget_reader(&pair);
            }
        }
    }
}
