//! READs of the simulator. A READ is a chain of events: the head is loaded first, then its lines in
//! random order at several random times, then the head once more; then the data travels back. With
//! `device_reads` the head is one of the lines, as a device reads it.

use std::collections::VecDeque;
use std::sync::Arc;

use super::agenda::Event;
use super::memory::{load_bytes, load_word};
use super::state::State;
use crate::error::FabricError;
use crate::fabric::{READ_BYTES_MAX, Read};
use crate::rank::Rank;
use crate::region::Region;

/// The unit in which the memory of a peer is fetched.
const LINE_BYTES: usize = 64;

/// What a READ does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    HeadBefore,
    /// The next lines, at this and so many more times.
    Lines {
        times: usize,
    },
    HeadAfter,
    Complete,
}

/// A READ that has not completed.
#[derive(Clone, Copy, Debug)]
pub struct ReadUnderWay {
    /// Its own number.
    pub number: u64,
    /// What it reads.
    pub read: Read,
    /// The first two words of that as they were when it was posted; of 8 bytes only one.
    pub posted: [u64; 2],
    /// As they are now.
    pub now: [u64; 2],
}

/// A READ under way, or a free place for one.
#[derive(Debug)]
pub(super) struct ReadState {
    generation: u32,
    from: Rank,
    lane: usize,
    pub(super) read: Read,
    region: Option<Arc<Region>>,
    step: Step,
    /// Last fetch and completion.
    fetched_ns: u64,
    complete_ns: u64,
    /// First byte (in the READ) of each line, in the order of fetching.
    order: Vec<usize>,
    next_line: usize,
    /// The first words as they were when it was posted.
    head_posted: [u64; 2],
    pub(super) head_before: [u64; 2],
    pub(super) bytes: Vec<u8>,
    pub(super) failed: Option<String>,
    /// Its lane is gone.
    orphan: bool,
}

/// A worker's lane.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) owner: Rank,
    queued: Vec<u32>,
    pub(super) done: VecDeque<u32>,
    pub(super) outstanding: usize,
    open: bool,
}

impl State {
    pub(super) fn open_lane(&mut self, owner: Rank) -> usize {
        let (queued, done) = (Vec::new(), VecDeque::new());
        let lane = Lane { owner, queued, done, outstanding: 0, open: true };
        if let Some(place) = self.lanes.iter().position(|lane| !lane.open) {
            self.lanes[place] = lane;
            return place;
        }
        self.lanes.push(lane);
        self.lanes.len() - 1
    }

    pub(super) fn close_lane(&mut self, lane: usize) {
        let place = &mut self.lanes[lane];
        place.open = false;
        let (queued, done) = (std::mem::take(&mut place.queued), std::mem::take(&mut place.done));
        for read in queued.into_iter().chain(done) {
            self.free_read(read);
        }
        for read in &mut self.reads {
            if read.lane == lane && read.region.is_some() {
                read.orphan = true;
            }
        }
    }

    fn check_read(&self, owner: Rank, read: &Read) -> Result<Arc<Region>, FabricError> {
        let unknown = FabricError::UnknownRegion { peer: read.peer, region: read.region };
        if read.peer.index() >= self.config.nodes || read.peer == owner {
            return Err(unknown);
        }
        if let Some(reason) = &self.links[self.link_index(owner, read.peer)].broken {
            return Err(FabricError::PeerLost { peer: read.peer, reason: reason.clone() });
        }
        let node = &self.nodes[owner.index()];
        if !node.imports[read.peer.index()].contains(&read.region) {
            return Err(unknown);
        }
        let exports = &self.nodes[read.peer.index()].exports;
        let Some((_, region)) = exports.get(&read.region) else { return Err(unknown) };
        let end = read.offset.checked_add(u64::from(read.len));
        let fits = end.is_some_and(|end| end <= region.bytes() as u64);
        let legal = read.len >= 8
            && read.len.is_multiple_of(8)
            && read.len as usize <= READ_BYTES_MAX
            && read.offset.is_multiple_of(8);
        if fits && legal {
            return Ok(Arc::clone(region));
        }
        Err(FabricError::OutOfRange {
            peer: read.peer,
            region: read.region,
            offset: read.offset,
            len: read.len,
            region_bytes: region.bytes() as u64,
        })
    }

    pub(super) fn post(&mut self, lane: usize, read: Read) -> Result<(), FabricError> {
        let owner = self.lanes[lane].owner;
        self.check_alive(owner)?;
        let capacity = self.config.lane_reads;
        if self.lanes[lane].outstanding >= capacity {
            return Err(FabricError::LaneFull { capacity });
        }
        let region = self.check_read(owner, &read)?;
        let counters = &mut self.nodes[owner.index()].counters;
        counters.reads += 1;
        counters.read_bytes += u64::from(read.len);
        let index = self.place_read(owner, lane, read, region);
        self.lanes[lane].outstanding += 1;
        if self.random.chance(250) {
            self.start_read(index);
        } else {
            self.lanes[lane].queued.push(index);
        }
        Ok(())
    }

    pub(super) fn submit(&mut self, lane: usize) {
        let mut queued = std::mem::take(&mut self.lanes[lane].queued);
        for index in queued.drain(..) {
            self.start_read(index);
        }
        self.lanes[lane].queued = queued;
    }

    fn place_read(&mut self, from: Rank, lane: usize, read: Read, region: Arc<Region>) -> u32 {
        let index = self.reads_free.pop().unwrap_or_else(|| {
            self.reads.push(ReadState {
                generation: 0,
                from,
                lane,
                read,
                region: None,
                step: Step::Complete,
                fetched_ns: 0,
                complete_ns: 0,
                order: Vec::new(),
                next_line: 0,
                head_posted: [0; 2],
                head_before: [0; 2],
                bytes: Vec::new(),
                failed: None,
                orphan: false,
            });
            u32::try_from(self.reads.len() - 1).expect("lanes are bounded")
        });
        let place = &mut self.reads[index as usize];
        place.head_posted = head(&region, &read);
        place.from = from;
        place.lane = lane;
        place.read = read;
        place.region = Some(region);
        place.failed = None;
        place.orphan = false;
        place.head_before = [0; 2];
        place.bytes.clear();
        place.bytes.resize(read.len as usize, 0);
        index
    }

    /// The READ leaves: draws its times and the order of its lines.
    fn start_read(&mut self, index: u32) {
        let (from, read) = {
            let state = &self.reads[index as usize];
            (state.from, state.read)
        };
        let request_ns = self.travel_ns(self.link_index(from, read.peer));
        let back = self.link_index(read.peer, from);
        let complete_ns = self.read_data_arrives_ns(back, request_ns, u64::from(read.len));
        let start = usize::try_from(read.offset).expect("checked against a region of this process");
        let device_reads = self.config.device_reads;
        let state = &mut self.reads[index as usize];
        state.order.clear();
        state.order.push(0);
        let first_end = LINE_BYTES - start % LINE_BYTES;
        state.order.extend((first_end..read.len as usize).step_by(LINE_BYTES));
        self.random.shuffle(&mut state.order);
        state.next_line = 0;
        state.fetched_ns = self.now_ns;
        state.complete_ns = complete_ns;
        let times = self.config.fetch_moments.min(state.order.len());
        state.step = if device_reads { Step::Lines { times } } else { Step::HeadBefore };
        self.plan_step(index);
    }

    /// Plans the next fetch somewhere between the last one and the completion.
    fn plan_step(&mut self, index: u32) {
        let state = &self.reads[index as usize];
        let fetches_left = match state.step {
            Step::HeadBefore => self.config.fetch_moments.min(state.order.len()) as u64 + 2,
            Step::Lines { times } => times as u64 + 1,
            Step::HeadAfter => 1,
            Step::Complete => 0,
        };
        let left_ns = state.complete_ns - state.fetched_ns;
        let at_ns = if fetches_left == 0 {
            state.complete_ns
        } else {
            let step_ns = self.random.below(2 * left_ns / (fetches_left + 1) + 1);
            state.fetched_ns + step_ns.min(left_ns)
        };
        let state = &mut self.reads[index as usize];
        state.fetched_ns = at_ns;
        let generation = state.generation;
        self.agenda.plan(at_ns, Event::Read { read: index, generation });
    }

    /// Event: the next step of a READ.
    pub(super) fn step_read(&mut self, index: u32, generation: u32) {
        let state = &self.reads[index as usize];
        if state.generation != generation {
            return;
        }
        let link = self.link_index(state.from, state.read.peer);
        let link = &self.links[link];
        let reachable = !link.severed && link.broken.is_none();
        let device_reads = self.config.device_reads;
        let fetch_moments = self.config.fetch_moments;
        let state = &mut self.reads[index as usize];
        if state.step == Step::Complete {
            return self.complete_read(index);
        }
        if !reachable && state.failed.is_none() {
            state.failed = Some("its memory cannot be read any more".to_owned());
        }
        state.step = if state.failed.is_some() || state.orphan {
            Step::Complete
        } else {
            state.fetch(device_reads, fetch_moments)
        };
        self.plan_step(index);
    }

    fn complete_read(&mut self, index: u32) {
        let state = &mut self.reads[index as usize];
        if state.orphan {
            return self.free_read(index);
        }
        let (lane, from, peer) = (state.lane, state.from, state.read.peer);
        let link = self.link_index(from, peer);
        if let Some(reason) = self.links[link].broken.clone() {
            self.reads[index as usize].failed = Some(reason);
        }
        self.lanes[lane].done.push_back(index);
    }

    /// A READ was handed out: takes its buffer back.
    pub(super) fn finish_read(&mut self, lane: usize, index: u32, bytes: Vec<u8>) {
        self.reads[index as usize].bytes = bytes;
        self.lanes[lane].outstanding -= 1;
        self.free_read(index);
    }

    pub(super) fn reads_under_way(&self) -> Vec<ReadUnderWay> {
        let under_way = self.reads.iter().enumerate().filter_map(|(index, state)| {
            let region = state.region.as_ref().filter(|_| !state.orphan)?;
            let number = (index as u64) << 32 | u64::from(state.generation);
            let (posted, now) = (state.head_posted, head(region, &state.read));
            Some(ReadUnderWay { number, read: state.read, posted, now })
        });
        under_way.collect()
    }

    /// Makes the place of a READ free again.
    pub(super) fn free_read(&mut self, index: u32) {
        let state = &mut self.reads[index as usize];
        state.generation = state.generation.wrapping_add(1);
        state.region = None;
        self.reads_free.push(index);
    }
}

/// The first two words of what it reads; of 8 bytes only one.
fn head(region: &Region, read: &Read) -> [u64; 2] {
    let start = usize::try_from(read.offset).expect("checked when posted");
    let second = if read.len >= 16 { load_word(region, start + 8) } else { 0 };
    [load_word(region, start), second]
}

impl ReadState {
    /// Does the fetch that is due and says what comes next.
    fn fetch(&mut self, device_reads: bool, fetch_moments: usize) -> Step {
        let region = self.region.as_ref().expect("a READ under way holds its region");
        let start = usize::try_from(self.read.offset).expect("checked when posted");
        let len = self.bytes.len();
        match self.step {
            Step::HeadBefore => {
                self.head_before = head(region, &self.read);
                Step::Lines { times: fetch_moments.min(self.order.len()) }
            }
            Step::Lines { times } => {
                let lines = (self.order.len() - self.next_line).div_ceil(times);
                for &first in &self.order[self.next_line..self.next_line + lines] {
                    let end = first + LINE_BYTES - (start + first) % LINE_BYTES;
                    let end = end.min(len);
                    load_bytes(region, start + first, &mut self.bytes[first..end]);
                }
                self.next_line += lines;
                match (times, device_reads) {
                    (2.., _) => Step::Lines { times: times - 1 },
                    (_, false) => Step::HeadAfter,
                    (_, true) => {
                        self.copy_head();
                        Step::Complete
                    }
                }
            }
            Step::HeadAfter => {
                load_bytes(region, start, &mut self.bytes[..len.min(16)]);
                Step::Complete
            }
            Step::Complete => Step::Complete,
        }
    }

    /// The device loaded the head once.
    fn copy_head(&mut self) {
        for (word, bytes) in self.head_before.iter_mut().zip(self.bytes.chunks_exact(8)) {
            *word = u64::from_ne_bytes(bytes.try_into().expect("8 bytes"));
        }
    }
}
