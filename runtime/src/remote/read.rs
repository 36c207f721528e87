//! Pulls of rows of other homes: one one-sided read each, batched per peer.
//!
//! A row is read where it is at home; its header says whether it was there all the time. What this node has pushed and the owner
//! may not have applied decides whether a read may be posted, whether its result counts, and what is added to it (rule K2); the
//! key's entry judges that. A key without an entry has nothing on its way.

use std::sync::Arc;
use std::time::Duration;

use sterna_kernels::Update;
use sterna_protocol::entry::{Pull, ReadFound, ReadPermit, ReadVerdict};
use sterna_protocol::{Epoch, Key, MetaWord, Rank, SlotId, SlotState};
use sterna_rdma::{Completion, FabricError, Read, ReadLane};
use sterna_store::{EntryGuard, ForeignKey, shape::HEADER_BYTES};

use super::held::Held;
use super::{Remote, Waiting};
use crate::error::Result;
use crate::table::Table;

/// How long to sleep on the lane before looking at peers and the engine again.
const LANE_WAIT: Duration = Duration::from_millis(1);

/// Finished calls whose memory is kept.
const CALLS_KEPT: usize = 8;

/// A key of a call that is being read.
#[derive(Clone, Copy, Debug)]
struct Item {
    /// Its place in the user's call.
    index: usize,
    key: Key,
    home: Rank,
    slot: SlotId,
    permit: Option<ReadPermit>,
    tries: u32,
}

/// A call for rows of other homes: the first `floats` floats of each.
#[derive(Debug)]
pub(crate) struct Call {
    serial: u32,
    table: Table,
    floats: usize,
    /// Whether a row must be of one version: the same before and after, with no writer at work.
    snapshot: bool,
    items: Vec<Item>,
    /// Items that have to be posted.
    waiting: Vec<u32>,
    /// READs that are under way.
    open: usize,
    /// What was read, by item.
    rows: Vec<f32>,
    /// Nobody will ask for the result: READs under way end, no more are posted.
    forgotten: bool,
    /// Held by the ticket of an asynchronous call; a dropped ticket forgets the call.
    handle: Option<Arc<()>>,
}

impl Call {
    /// Copies what was read to the places of the user's call.
    pub(crate) fn copy_to(&self, out: &mut [f32]) {
        let floats = self.floats;
        for (item, row) in self.items.iter().zip(self.rows.chunks_exact(floats)) {
            out[item.index * floats..(item.index + 1) * floats].copy_from_slice(row);
        }
    }

    fn is_done(&self) -> bool {
        self.open == 0 && (self.waiting.is_empty() || self.is_forgotten())
    }

    fn is_forgotten(&self) -> bool {
        let dropped = self.handle.as_ref().is_some_and(|handle| Arc::strong_count(handle) == 1);
        self.forgotten || dropped
    }
}

/// A worker's reads: its lane, the calls under way, and memory for the next ones.
pub(crate) struct Reader {
    lane: Box<dyn ReadLane>,
    calls: Vec<Call>,
    idle: Vec<Call>,
    serial: u32,
    row: Vec<f32>,
}

/// What a call wants.
pub(crate) struct Request<'a> {
    pub(crate) table: &'a Table,
    pub(crate) floats: usize,
    pub(crate) snapshot: bool,
    pub(crate) handle: Option<Arc<()>>,
}

impl Reader {
    pub(crate) fn new(lane: Box<dyn ReadLane>) -> Self {
        Self { lane, calls: Vec::new(), idle: Vec::new(), serial: 0, row: Vec::new() }
    }

    /// Reads the keys at these places of the user's call into their places of `out`.
    pub(crate) fn pull(
        &mut self,
        remote: &Remote,
        keys: &[Key],
        places: &[usize],
        request: Request<'_>,
        out: &mut [f32],
    ) -> Result<()> {
        let serial = self.begin(remote, keys, places, request)?;
        let call = self.finish(remote, serial)?;
        call.copy_to(out);
        self.recycle(call);
        Ok(())
    }

    /// Begins to read the keys at these places of the user's call; gives the call's number.
    pub(crate) fn begin(
        &mut self,
        remote: &Remote,
        keys: &[Key],
        places: &[usize],
        request: Request<'_>,
    ) -> Result<u32> {
        self.serial = self.serial.wrapping_add(1);
        let mut call = self.idle.pop().unwrap_or_else(|| Call {
            serial: 0,
            table: request.table.clone(),
            floats: 0,
            snapshot: false,
            items: Vec::new(),
            waiting: Vec::new(),
            open: 0,
            rows: Vec::new(),
            forgotten: false,
            handle: None,
        });
        call.table.clone_from(request.table);
        let Request { floats, snapshot, handle, .. } = request;
        (call.serial, call.floats, call.snapshot, call.handle) =
            (self.serial, floats, snapshot, handle);
        (call.open, call.forgotten) = (0, false);
        let placement = request.table.0.rows.placement();
        call.items.clear();
        call.items.extend(places.iter().map(|&index| {
            let at = placement.locate_known(keys[index]);
            let (home, slot) = (at.home, at.slot);
            Item { index, key: keys[index], home, slot, permit: None, tries: 0 }
        }));
        let count = u32::try_from(call.items.len()).expect("a call has below 2^32 keys");
        call.waiting.clear();
        call.waiting.extend(0..count);
        call.rows.resize(places.len() * call.floats, 0.0);
        self.calls.push(call);
        self.progress(remote, None)?;
        Ok(self.serial)
    }

    /// Whether a call has all its rows.
    pub(crate) fn is_done(&mut self, remote: &Remote, serial: u32) -> Result<bool> {
        self.progress(remote, None)?;
        Ok(self.calls.iter().find(|call| call.serial == serial).is_none_or(Call::is_done))
    }

    /// Waits until a call has all its rows.
    pub(crate) fn finish(&mut self, remote: &Remote, serial: u32) -> Result<Call> {
        let deadline = remote.now() + remote.wait_limit;
        loop {
            let moved = self.progress(remote, Some(serial));
            let at = self.calls.iter().position(|call| call.serial == serial);
            let at = at.expect("a call is there until it is finished");
            if let Err(error) = moved {
                self.calls[at].forgotten = true;
                return Err(error);
            }
            if self.calls[at].is_done() {
                return Ok(self.calls.swap_remove(at));
            }
            if matches!(moved, Ok(true)) {
                continue;
            }
            let call = &mut self.calls[at];
            let failed = call.items.iter().try_for_each(|item| remote.check_peer(item.home));
            if let Err(error) = failed {
                call.forgotten = true;
                return Err(error);
            }
            if remote.now() >= deadline {
                call.forgotten = true;
                let rank = call.items.first().map(|item| item.home);
                return Err(remote.late(&Waiting { what: "a pull", rank }));
            }
            if call.open > 0 {
                if !remote.timing.pause() {
                    self.lane.wait(LANE_WAIT)?;
                }
            } else {
                // All that is left waits for answers to exchanges.
                remote.help(LANE_WAIT)?;
            }
        }
    }

    /// Keeps a finished call's memory for the next one.
    pub(crate) fn recycle(&mut self, mut call: Call) {
        call.handle = None;
        if self.idle.len() < CALLS_KEPT {
            self.idle.push(call);
        }
    }

    /// Posts what may be posted and takes what has been read, of all calls. A second try holds exchanges back, so only the
    /// call that somebody waits for makes one. Returns whether anything was done.
    fn progress(&mut self, remote: &Remote, waited_for: Option<u32>) -> Result<bool> {
        let mut done = 0;
        for call in &mut self.calls {
            let may_hold = waited_for == Some(call.serial);
            if !call.is_forgotten() {
                done += call.post(&mut *self.lane, remote, may_hold)?;
            }
        }
        self.lane.submit()?;
        done += self.collect(remote)?;
        self.calls.retain(|call| !(call.is_forgotten() && call.open == 0));
        Ok(done > 0)
    }

    /// Takes what has been read. Returns how many reads ended.
    fn collect(&mut self, remote: &Remote) -> Result<usize> {
        let (calls, row) = (&mut self.calls, &mut self.row);
        let mut fault = None;
        let done = self.lane.poll(&mut |completion: Completion<'_>| {
            #[allow(clippy::cast_possible_truncation, reason = "the token's halves")]
            let (serial, number) = ((completion.token >> 32) as u32, completion.token as u32);
            let call = calls.iter_mut().find(|call| call.serial == serial);
            let call = call.expect("a call stays until its READs have ended");
            call.open -= 1;
            let (found, bytes) = match &completion.result {
                Ok(data) => {
                    let item = &call.items[number as usize];
                    (judge(item, data.head_before, data.bytes, call.snapshot), data.bytes)
                }
                Err(error) => {
                    fault.get_or_insert_with(|| error.clone());
                    (ReadFound::Nothing, &[][..])
                }
            };
            if call.settle(remote, number, found, bytes, row) != ReadVerdict::Accept {
                call.items[number as usize].tries += 1;
                call.waiting.push(number);
            }
        })?;
        fault.map_or(Ok(done), |error| Err(remote.fault(error)))
    }
}

impl Call {
    /// Posts what may be posted now; the others stay in `waiting`. Returns how many were.
    fn post(&mut self, lane: &mut dyn ReadLane, remote: &Remote, may_hold: bool) -> Result<usize> {
        let mut posted = 0;
        let mut kept = 0;
        let mut full = false;
        for at in 0..self.waiting.len() {
            let number = self.waiting[at];
            if full || !self.post_one(lane, remote, number, may_hold, &mut full)? {
                self.waiting[kept] = number;
                kept += 1;
            } else {
                posted += 1;
            }
        }
        self.waiting.truncate(kept);
        self.open += posted;
        Ok(posted)
    }

    fn post_one(
        &mut self,
        lane: &mut dyn ReadLane,
        remote: &Remote,
        number: u32,
        may_hold: bool,
        full: &mut bool,
    ) -> Result<bool> {
        let item = &mut self.items[number as usize];
        let state = &self.table.0;
        let id = ForeignKey { table: state.rows.id(), key: item.key };
        let mut whole = false;
        item.permit = None;
        if let Some(mut guard) = remote.foreign.find(id) {
            guard.control.at_home(item.home);
            // What waits here may need the row's state; later pushes make the read be repeated.
            whole = guard.accumulator.is_some() || item.tries > 0;
            match guard.control.control.pull(may_hold && item.tries > 0) {
                Pull::Read(permit) => item.permit = Some(permit),
                Pull::Wait | Pull::Replica | Pull::Live => return Ok(false),
            }
        }
        let floats = if whole { state.shape.row_len() } else { self.floats };
        let place = state.rows.shape().place(item.slot);
        let region = state.peers.region(item.home, place.chunk);
        let bytes = (HEADER_BYTES + floats * size_of::<f32>()).next_multiple_of(8);
        let read = Read {
            peer: item.home,
            region: region.ok_or_else(|| remote.unknown_chunk(item.home, &self.table))?,
            offset: place.offset as u64,
            len: u32::try_from(bytes).expect("a row is at most 1 MiB"),
            token: u64::from(self.serial) << 32 | u64::from(number),
        };
        match lane.post(read) {
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

    /// Lets the entry judge, and combines what was read with what waits here.
    fn settle(
        &mut self,
        remote: &Remote,
        number: u32,
        found: ReadFound,
        bytes: &[u8],
        row: &mut Vec<f32>,
    ) -> ReadVerdict {
        let state = &self.table.0;
        let item = &mut self.items[number as usize];
        let start = number as usize * self.floats;
        let out = &mut self.rows[start..start + self.floats];
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
        out.copy_from_slice(&row[..self.floats]);
        verdict
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
