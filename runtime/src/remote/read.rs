//! Pulls of rows of other homes: one one-sided read each, batched per peer.
//!
//! A row is read where it is at home; its header says whether it was there all the time. What this node has pushed and the owner
//! may not have applied decides whether a read may be posted, whether its result counts, and what is added to it (rule K2); the
//! key's entry judges that. A key without an entry has nothing on its way.

use std::time::{Duration, Instant};

use sterna_kernels::Update;
use sterna_protocol::entry::{Pull, ReadFound, ReadPermit, ReadVerdict};
use sterna_protocol::{Epoch, Key, MetaWord, Rank, SlotId, SlotState};
use sterna_rdma::{Completion, FabricError, Read, ReadLane};
use sterna_store::{EntryGuard, ForeignKey, shape::HEADER_BYTES};

use super::held::Held;
use super::{Remote, Waiting};
use crate::error::{Error, Result};
use crate::table::Table;

/// How long to sleep on the lane before looking at peers and the engine again.
const LANE_WAIT: Duration = Duration::from_millis(1);

/// A key of a call that is being read.
#[derive(Clone, Copy, Debug)]
struct Item {
    /// Its place in the call.
    index: usize,
    key: Key,
    home: Rank,
    slot: SlotId,
    permit: Option<ReadPermit>,
    tries: u32,
}

/// A worker's reads: its lane, and memory that is used again by the next call.
pub(crate) struct Reader {
    lane: Box<dyn ReadLane>,
    items: Vec<Item>,
    waiting: Vec<u32>,
    row: Vec<f32>,
}

/// What a call wants of rows: the first `floats` floats of each, one after the other.
pub(crate) struct Request<'a> {
    pub(crate) table: &'a Table,
    pub(crate) floats: usize,
    pub(crate) out: &'a mut [f32],
    /// Whether a row must be of one version: the same before and after, with no writer at work.
    pub(crate) snapshot: bool,
}

impl Reader {
    pub(crate) fn new(lane: Box<dyn ReadLane>) -> Self {
        Self { lane, items: Vec::new(), waiting: Vec::new(), row: Vec::new() }
    }

    /// Reads the keys at these places of the call.
    pub(crate) fn pull(
        &mut self,
        remote: &Remote,
        keys: &[Key],
        places: impl Iterator<Item = usize>,
        mut request: Request<'_>,
    ) -> Result<()> {
        let placement = request.table.0.rows.placement();
        self.items.clear();
        self.items.extend(places.map(|index| {
            let at = placement.locate_known(keys[index]);
            let (home, slot) = (at.home, at.slot);
            Item { index, key: keys[index], home, slot, permit: None, tries: 0 }
        }));
        self.waiting.clear();
        self.waiting
            .extend(0..u32::try_from(self.items.len()).expect("a call has below 2^32 keys"));
        let deadline = Instant::now() + remote.wait_limit;
        let mut open = 0_usize;
        while open > 0 || !self.waiting.is_empty() {
            let posted = self.post(remote, &request)?;
            open += posted;
            self.lane.submit()?;
            let done = self.collect(remote, &mut request)?;
            open -= done;
            if done > 0 || posted > 0 {
                continue;
            }
            self.check_peers(remote)?;
            if Instant::now() >= deadline {
                return Err(self.late(remote));
            }
            if open > 0 {
                self.lane.wait(LANE_WAIT)?;
            } else {
                // All that is left waits for answers to exchanges.
                remote.help(LANE_WAIT)?;
            }
        }
        Ok(())
    }

    /// Posts what may be posted now; the others stay in `waiting`. Returns how many were.
    fn post(&mut self, remote: &Remote, request: &Request<'_>) -> Result<usize> {
        let mut posted = 0;
        let mut kept = 0;
        let mut full = false;
        for at in 0..self.waiting.len() {
            let number = self.waiting[at];
            if full || !self.post_one(remote, request, number, &mut full)? {
                self.waiting[kept] = number;
                kept += 1;
            } else {
                posted += 1;
            }
        }
        self.waiting.truncate(kept);
        Ok(posted)
    }

    fn post_one(
        &mut self,
        remote: &Remote,
        request: &Request<'_>,
        number: u32,
        full: &mut bool,
    ) -> Result<bool> {
        let item = &mut self.items[number as usize];
        let state = &request.table.0;
        let id = ForeignKey { table: state.rows.id(), key: item.key };
        let mut whole = false;
        item.permit = None;
        if let Some(mut guard) = remote.foreign.find(id) {
            guard.control.at_home(item.home);
            // What waits here may need the row's state; later pushes make the read be repeated.
            whole = guard.accumulator.is_some() || item.tries > 0;
            match guard.control.control.pull(item.tries > 0) {
                Pull::Read(permit) => item.permit = Some(permit),
                Pull::Wait | Pull::Replica | Pull::Live => return Ok(false),
            }
        }
        let floats = if whole { state.shape.row_len() } else { request.floats };
        let place = state.rows.shape().place(item.slot);
        let region = state.peers.region(item.home, place.chunk);
        let bytes = (HEADER_BYTES + floats * size_of::<f32>()).next_multiple_of(8);
        let read = Read {
            peer: item.home,
            region: region.ok_or_else(|| remote.unknown_chunk(item.home, request.table))?,
            offset: place.offset as u64,
            len: u32::try_from(bytes).expect("a row is at most 1 MiB"),
            token: u64::from(number),
        };
        match self.lane.post(read) {
            Ok(()) => Ok(true),
            Err(error) => {
                if let Some(permit) = item.permit.take()
                    && let Some(mut guard) = remote.foreign.find(id)
                {
                    guard.control.control.cancel_read(permit);
                    list(&mut guard);
                }
                *full = matches!(error, FabricError::LaneFull { .. });
                if *full { Ok(false) } else { Err(remote.fault(error)) }
            }
        }
    }

    /// Takes what has been read. Returns how many reads ended.
    fn collect(&mut self, remote: &Remote, request: &mut Request<'_>) -> Result<usize> {
        let (items, waiting, row) = (&mut self.items, &mut self.waiting, &mut self.row);
        let mut fault = None;
        let done = self.lane.poll(&mut |completion: Completion<'_>| {
            let number = u32::try_from(completion.token).expect("a number of this call");
            // A read of a call that failed may still come back.
            let Some(item) = items.get_mut(number as usize) else { return };
            let verdict = match &completion.result {
                Ok(data) => {
                    let found = judge(item, data.head_before, data.bytes, request.snapshot);
                    settle(remote, request, item, found, data.bytes, row)
                }
                Err(error) => {
                    settle(remote, request, item, ReadFound::Nothing, &[], row);
                    fault.get_or_insert_with(|| error.clone());
                    ReadVerdict::Repeat
                }
            };
            if verdict != ReadVerdict::Accept {
                item.tries += 1;
                waiting.push(number);
            }
        })?;
        fault.map_or(Ok(done), |error| Err(remote.fault(error)))
    }

    fn check_peers(&self, remote: &Remote) -> Result<()> {
        self.waiting
            .iter()
            .map(|&number| self.items[number as usize].home)
            .chain(self.items.iter().map(|item| item.home))
            .try_for_each(|home| remote.check_peer(home))
    }

    fn late(&self, remote: &Remote) -> Error {
        let rank = self.waiting.first().map(|&number| self.items[number as usize].home);
        remote.late(&Waiting {
            what: "a pull",
            rank: rank.or(self.items.first().map(|item| item.home)),
        })
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader")
            .field("outstanding", &self.lane.outstanding())
            .finish_non_exhaustive()
    }
}

/// Whether the header says that the row was there, before and after its values were read.
fn judge(item: &Item, before: [u64; 2], bytes: &[u8], snapshot: bool) -> ReadFound {
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    let epoch = item.permit.map_or(Epoch::FIRST, |permit| permit.epoch);
    let right = |key: u64, meta: u64| {
        let meta = MetaWord(meta);
        key == item.key.0 && meta.state() == SlotState::Live && meta.epoch() == epoch
    };
    let still = before[1] == word(8) && !MetaWord(before[1]).writer();
    if right(before[0], before[1]) && right(word(0), word(8)) && (still || !snapshot) {
        ReadFound::Row
    } else {
        ReadFound::Nothing
    }
}

/// Lists an entry for its owner if the engine has something to do for it.
fn list(guard: &mut EntryGuard<'_, Held>) {
    if guard.control.control.needs_engine(guard.accumulator.is_some()) {
        let owner = guard.control.control.owner();
        guard.mark_dirty(owner);
    }
}

/// Lets the entry judge, and combines what was read with what waits here.
fn settle(
    remote: &Remote,
    request: &mut Request<'_>,
    item: &mut Item,
    found: ReadFound,
    bytes: &[u8],
    row: &mut Vec<f32>,
) -> ReadVerdict {
    let state = &request.table.0;
    let out = &mut request.out[item.index * request.floats..(item.index + 1) * request.floats];
    let id = ForeignKey { table: state.rows.id(), key: item.key };
    let Some(mut guard) = remote.foreign.find(id) else {
        // An entry with a permit may have been given up since: it had nothing on its way then.
        if found == ReadFound::Row {
            super::storage::read_floats(&bytes[HEADER_BYTES..], out);
            return ReadVerdict::Accept;
        }
        return ReadVerdict::Repeat;
    };
    let verdict = match item.permit.take() {
        Some(permit) => guard.control.control.finish_read(permit, found),
        None if found == ReadFound::Row && guard.control.untouched() => ReadVerdict::Accept,
        None => ReadVerdict::Repeat,
    };
    // An exchange may have been held back for this READ.
    list(&mut guard);
    if verdict != ReadVerdict::Accept {
        return verdict;
    }
    let Some(block) = guard.accumulator.as_mut() else {
        super::storage::read_floats(&bytes[HEADER_BYTES..], out);
        return verdict;
    };
    let len = state.shape.row_len();
    if bytes.len() < HEADER_BYTES + len * size_of::<f32>() {
        // A push came between: its step needs the whole row.
        return ReadVerdict::Repeat;
    }
    row.resize(len, 0.0);
    super::storage::read_floats(&bytes[HEADER_BYTES..], row);
    Update::in_block(&state.shape, block).apply_private(row);
    out.copy_from_slice(&row[..request.floats]);
    verdict
}
