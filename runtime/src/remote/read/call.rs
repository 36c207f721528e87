//! One call for rows that are elsewhere: where to look for each, whether what was read counts, what is added to it.
//!
//! A key is read where its entry says that the main copy is; a key without an entry at its home, which says where the row has gone
//! if it has. If neither leads to the row, the home's directory is read, and that makes an entry.

use std::sync::Arc;

use sterna_kernels::Update;
use sterna_protocol::entry::{EntryState, Pull, ReadFound, ReadPermit, ReadVerdict};
use sterna_protocol::record::Arena;
use sterna_protocol::{DirectoryWord, Epoch, Key, MetaWord, Rank, SlotId};
use sterna_rdma::{FabricError, Read, ReadData, ReadLane, RegionId};
use sterna_store::shape::HEADER_BYTES;

use super::super::Remote;
use super::super::storage::read_floats;
use super::header::{judge, metas};
use crate::error::Result;
use crate::table::Table;

/// A location that was learned longer ago is looked up again, so that its epoch is never compared across half its range.
const LOCATION_NS_MAX: u64 = 10_000_000_000;

/// A key of a call that is being read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item {
    /// Its place in the user's call.
    index: usize,
    key: Key,
    /// Whom it was asked of last.
    pub(super) peer: Rank,
    permit: Option<ReadPermit>,
    /// Whether the row was known to be there, at the permit's epoch, before the READ was posted.
    proven: bool,
    asked: Asked,
    tries: u32,
}

/// What a READ under way asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Row,
    /// The row, of its owner by record under this number.
    Owner(u32),
    /// The directory's word.
    Location,
    /// Nothing yet; the row was not where it was looked for, so the directory comes next.
    Lost,
}

/// A call for rows of other homes: the first `floats` floats of each.
#[derive(Debug)]
pub(crate) struct Call {
    pub(super) serial: u32,
    pub(super) table: Table,
    pub(super) floats: usize,
    /// Whether a row must be of one version: no READ promises that, its owner is asked.
    pub(super) snapshot: bool,
    pub(super) items: Vec<Item>,
    /// Items that have to be posted.
    pub(super) waiting: Vec<u32>,
    /// READs that are under way.
    pub(super) open: usize,
    /// Items that their owners have been asked for.
    with_owners: Vec<u32>,
    /// What was read, by item.
    pub(super) rows: Vec<f32>,
    /// Nobody will ask for the result: READs under way end, no more are posted.
    pub(super) forgotten: bool,
    /// Held by the ticket of an asynchronous call; a dropped ticket forgets the call.
    pub(super) handle: Option<Arc<()>>,
}

/// What became of an item that was to be posted.
enum Posted {
    /// Its READ is under way.
    Open,
    /// Its owner has been asked.
    WithOwner,
    /// It has been served from this node.
    Served,
    /// It has to wait.
    Later,
    /// The lane has no room for more.
    Full,
}

/// Where to read.
struct Place {
    peer: Rank,
    region: Option<RegionId>,
    offset: usize,
    bytes: usize,
}

impl Call {
    pub(super) fn new(table: &Table) -> Self {
        Self {
            serial: 0,
            table: table.clone(),
            floats: 0,
            snapshot: false,
            items: Vec::new(),
            waiting: Vec::new(),
            open: 0,
            with_owners: Vec::new(),
            rows: Vec::new(),
            forgotten: false,
            handle: None,
        }
    }

    /// Makes it a call for the keys at these places of the user's call.
    pub(super) fn start(&mut self, keys: &[Key], places: &[usize]) {
        let placement = self.table.0.rows.placement();
        self.items.clear();
        self.items.extend(places.iter().map(|&index| {
            let (key, peer) = (keys[index], placement.locate_known(keys[index]).home);
            Item { index, key, peer, permit: None, proven: false, asked: Asked::Row, tries: 0 }
        }));
        let count = u32::try_from(self.items.len()).expect("a call has below 2^32 keys");
        self.waiting.clear();
        self.waiting.extend(0..count);
        self.rows.resize(places.len() * self.floats, 0.0);
        (self.open, self.forgotten) = (0, false);
    }

    /// Copies what was read to the places of the user's call.
    pub(crate) fn copy_to(&self, out: &mut [f32]) {
        let floats = self.floats;
        for (item, row) in self.items.iter().zip(self.rows.chunks_exact(floats)) {
            out[item.index * floats..(item.index + 1) * floats].copy_from_slice(row);
        }
    }

    pub(super) fn is_done(&self) -> bool {
        let left = !(self.waiting.is_empty() && self.with_owners.is_empty());
        self.open == 0 && (!left || self.is_forgotten())
    }

    /// Nobody will ask for the result.
    pub(super) fn forget(&mut self, remote: &Remote) {
        self.forgotten = true;
        for number in std::mem::take(&mut self.with_owners) {
            let item = &mut self.items[number as usize];
            if let Asked::Owner(question) = item.asked {
                remote.forget_answer(question);
            }
            Self::give_back(&self.table, remote, item);
        }
    }

    pub(super) fn is_forgotten(&self) -> bool {
        let dropped = self.handle.as_ref().is_some_and(|handle| Arc::strong_count(handle) == 1);
        self.forgotten || dropped
    }

    /// Posts what may be posted now; the others stay in `waiting`. Returns how many items went on.
    pub(super) fn post(
        &mut self,
        lane: &mut dyn ReadLane,
        remote: &Remote,
        may_hold: bool,
    ) -> Result<usize> {
        let (mut gone, mut kept, mut full) = (0, 0, false);
        for at in 0..self.waiting.len() {
            let number = self.waiting[at];
            let posted =
                if full { Posted::Full } else { self.post_one(lane, remote, number, may_hold)? };
            match posted {
                Posted::Open => {
                    self.open += 1;
                    gone += 1;
                }
                Posted::WithOwner => {
                    self.with_owners.push(number);
                    gone += 1;
                }
                Posted::Served => gone += 1,
                Posted::Later | Posted::Full => {
                    full |= matches!(posted, Posted::Full);
                    self.waiting[kept] = number;
                    kept += 1;
                }
            }
        }
        self.waiting.truncate(kept);
        Ok(gone)
    }

    fn post_one(
        &mut self,
        lane: &mut dyn ReadLane,
        remote: &Remote,
        number: u32,
        may_hold: bool,
    ) -> Result<Posted> {
        // The row may have come here.
        if self.read_here(number) {
            return Ok(Posted::Served);
        }
        // A row that was not where it was looked for stays lost until the directory has been asked: two such rows on a lane for one
        // READ would else look in the wrong places for ever, in turn.
        let asked = self.items[number as usize].asked;
        let Some(place) = self.place(remote, number, may_hold) else { return Ok(Posted::Later) };
        let item = &mut self.items[number as usize];
        item.peer = place.peer;
        remote.check_peer(place.peer)?;
        if self.snapshot && item.asked == Asked::Row {
            let Some(question) = remote.ask_owner(place.peer, &self.table, item.key) else {
                item.asked = asked;
                Self::give_back(&self.table, remote, item);
                return Ok(Posted::Later);
            };
            item.asked = Asked::Owner(question);
            return Ok(Posted::WithOwner);
        }
        let Some(region) = place.region else {
            // Its owner has told of the chunk before, but on another link than where this node heard of the slot.
            item.asked = asked;
            Self::give_back(&self.table, remote, item);
            return Ok(Posted::Later);
        };
        let read = Read {
            peer: place.peer,
            region,
            offset: place.offset as u64,
            len: u32::try_from(place.bytes).expect("a row is at most 1 MiB"),
            token: super::token(self.serial, number),
        };
        match lane.post(read) {
            Ok(()) => Ok(Posted::Open),
            Err(error) => {
                item.asked = asked;
                Self::give_back(&self.table, remote, item);
                match error {
                    FabricError::LaneFull { .. } => Ok(Posted::Full),
                    error => Err(remote.fault(error)),
                }
            }
        }
    }

    fn read_here(&mut self, number: u32) -> bool {
        let item = &self.items[number as usize];
        let start = number as usize * self.floats;
        let out = &mut self.rows[start..start + self.floats];
        let rows = &self.table.0.rows;
        let read =
            if self.snapshot { rows.snapshot(item.key, out) } else { rows.pull(item.key, out) };
        read.is_ok()
    }

    /// A permit whose READ was not posted.
    fn give_back(table: &Table, remote: &Remote, item: &mut Item) {
        if let Some(permit) = item.permit.take()
            && let Some(mut row) = remote.known(table, item.key)
        {
            row.guard.control.control.cancel_read(permit);
            row.list();
        }
    }

    /// Where to look for an item now; nothing if it has to wait.
    fn place(&mut self, remote: &Remote, number: u32, may_hold: bool) -> Option<Place> {
        let item = &mut self.items[number as usize];
        let rows = &self.table.0.rows;
        let home = rows.placement().locate_known(item.key);
        (item.permit, item.proven) = (None, false);
        let mut whole = false;
        let mut target = (home.home, home.slot);
        // Of a key at home here the directory is at hand, so its entry knows best.
        let entry = if home.home == rows.here() {
            Some(remote.row(&self.table, item.key)?)
        } else {
            remote.known(&self.table, item.key)
        };
        if let Some(mut row) = entry {
            if home.home == rows.here() {
                let word = rows.directory().load(home.slot).expect("a home slot");
                row.guard.control.learn(word, remote.timing.now_ns());
            }
            row.used();
            row.list();
            // What waits here may need the row's state; later pushes make the read be repeated.
            let replica = row.guard.control.control.state() == EntryState::Replica;
            whole = row.guard.accumulator.is_some() || item.tries > 0 || replica;
            let held = &mut row.guard.control;
            let second_try = may_hold && item.tries > 0;
            let permit = match held.control.pull(second_try) {
                Pull::Read(permit) => permit,
                // Of a replica only a snapshot is read, and that from the owner.
                Pull::Replica if self.snapshot => held.control.refresh(second_try)?,
                Pull::Wait | Pull::Replica | Pull::Live => return None,
            };
            let known = held.location().filter(|known| {
                known.epoch == permit.epoch
                    && remote.timing.now_ns() < known.learned_ns + LOCATION_NS_MAX
            });
            item.proven = known.is_some();
            target = match known {
                _ if permit.owner == home.home => (home.home, home.slot),
                Some(known) => (permit.owner, known.slot),
                None => (permit.owner, SlotId::UNDISCLOSED),
            };
            if item.asked == Asked::Lost
                || target.1 == SlotId::UNDISCLOSED
                || target.0 == rows.here()
            {
                held.control.cancel_read(permit);
                row.list();
                target.1 = SlotId::UNDISCLOSED;
            } else {
                item.permit = Some(permit);
            }
        } else if item.asked == Asked::Lost {
            target.1 = SlotId::UNDISCLOSED;
        }
        if target.1 == SlotId::UNDISCLOSED {
            item.asked = Asked::Location;
            if home.home == rows.here() {
                // What the directory says has been learned above; it will say more.
                item.asked = Asked::Row;
                return None;
            }
            let (chunk, offset) = rows.directory_place(home.home, home.slot);
            let region = self.table.0.peers.region(home.home, Arena::Directory, chunk);
            return Some(Place { peer: home.home, region, offset, bytes: size_of::<u64>() });
        }
        item.asked = Asked::Row;
        let floats = if whole { self.table.0.shape.row_len() } else { self.floats };
        let at = rows.shape().place(target.1);
        let region = self.table.0.peers.region(target.0, Arena::Rows, at.chunk);
        let bytes = (HEADER_BYTES + floats * size_of::<f32>()).next_multiple_of(8);
        Some(Place { peer: target.0, region, offset: at.offset, bytes })
    }

    /// Takes the result of an item's READ. `false`: it has to be posted again.
    pub(super) fn settle(
        &mut self,
        remote: &Remote,
        number: u32,
        data: Option<&ReadData<'_>>,
        row: &mut Vec<f32>,
    ) -> bool {
        self.open -= 1;
        if let (Asked::Location, Some(data)) = (self.items[number as usize].asked, data) {
            self.learn(remote, number, DirectoryWord(data.head_before[0]));
            return self.again(number);
        }
        self.try_settle(remote, number, data, row)
    }

    /// Takes what owners have answered. Returns how many items went on.
    pub(super) fn settle_answers(&mut self, remote: &Remote, row: &mut Vec<f32>) -> usize {
        let before = self.with_owners.len();
        let mut at = 0;
        while at < self.with_owners.len() {
            let number = self.with_owners[at];
            let item = &mut self.items[number as usize];
            let Asked::Owner(question) = item.asked else { unreachable!("asked by record") };
            let Some(answer) = remote.take_answer(question) else {
                at += 1;
                continue;
            };
            self.with_owners.swap_remove(at);
            // It says what was the case when the owner copied the row.
            (item.asked, item.proven) = (Asked::Row, true);
            self.try_settle(remote, number, Some(&answer.data()), row);
        }
        before - self.with_owners.len()
    }

    fn try_settle(
        &mut self,
        remote: &Remote,
        number: u32,
        data: Option<&ReadData<'_>>,
        row: &mut Vec<f32>,
    ) -> bool {
        if self.settle_row(remote, number, data, row) {
            return true;
        }
        self.items[number as usize].tries += 1;
        self.again(number)
    }

    fn again(&mut self, number: u32) -> bool {
        self.waiting.push(number);
        false
    }

    fn learn(&mut self, remote: &Remote, number: u32, word: DirectoryWord) {
        let item = &mut self.items[number as usize];
        item.asked = Asked::Row;
        if let Some(mut row) = remote.row(&self.table, item.key) {
            row.guard.control.learn(word, remote.timing.now_ns());
            row.list();
        }
    }

    /// A device has read a row that came back to its home: its header says so now, but the values may have been fetched before it
    /// came. The next READ begins after that.
    fn prove(&mut self, remote: &Remote, number: u32, epoch: Epoch) {
        let item = &mut self.items[number as usize];
        let permit = item.permit.take();
        let home = self.table.0.rows.placement().locate_known(item.key);
        let Some(mut row) = remote.row(&self.table, item.key) else { return };
        let held = &mut row.guard.control;
        if let Some(permit) = permit {
            held.control.cancel_read(permit);
        }
        held.learn(DirectoryWord::new(home.home, epoch, home.slot), remote.timing.now_ns());
        row.list();
    }

    /// Lets the entry judge, and combines what was read with what waits here.
    fn settle_row(
        &mut self,
        remote: &Remote,
        number: u32,
        data: Option<&ReadData<'_>>,
        row: &mut Vec<f32>,
    ) -> bool {
        let state = &self.table.0;
        let item = &mut self.items[number as usize];
        let start = number as usize * self.floats;
        let out = &mut self.rows[start..start + self.floats];
        let found_row = data.map_or(ReadFound::Nothing, |data| {
            judge(item.key, item.permit.map(|permit| permit.epoch), data)
        });
        if let (ReadFound::Row, Some(data)) = (found_row, data)
            && remote.reads_by_device(item.peer)
            && !item.proven
            && metas(data)[0].epoch() != Epoch::FIRST
        {
            self.prove(remote, number, metas(data)[0].epoch());
            return false;
        }
        let bytes = data.map_or(&[][..], |data| data.bytes);
        let mut entry = remote.known(&self.table, item.key);
        if let (None, ReadFound::Moved { .. }) = (&entry, found_row) {
            entry = remote.row(&self.table, item.key);
        }
        let Some(mut entry) = entry else {
            // An entry with a permit may have been given up since: it had nothing on its way then.
            let done = found_row == ReadFound::Row;
            if done {
                read_floats(&bytes[HEADER_BYTES..], out);
            } else {
                item.asked = Asked::Lost;
            }
            return done;
        };
        let held = &mut entry.guard.control;
        let verdict = match item.permit.take() {
            Some(permit) => held.control.finish_read(permit, found_row),
            None if found_row == ReadFound::Row && held.control.untouched() => ReadVerdict::Accept,
            None => ReadVerdict::Repeat,
        };
        match found_row {
            ReadFound::Moved { next, epoch } => {
                held.control.learn(next, epoch);
            }
            ReadFound::Nothing => item.asked = Asked::Lost,
            ReadFound::Row => {}
        }
        // An exchange may have been held back for this READ.
        entry.list();
        if verdict != ReadVerdict::Accept {
            return false;
        }
        if entry.guard.control.control.state() == EntryState::Replica {
            // What was seen once is not to be unseen by the next pull of the replica.
            row.resize(state.shape.row_len(), 0.0);
            read_floats(&bytes[HEADER_BYTES..], row);
            let heads = data.map_or([MetaWord(0); 2], metas);
            if entry.refresh(row, heads, None).is_some() {
                out.copy_from_slice(&row[..self.floats]);
                return true;
            }
            return false;
        }
        let Some(block) = entry.guard.accumulator.as_mut() else {
            read_floats(&bytes[HEADER_BYTES..], out);
            return true;
        };
        let len = state.shape.row_len();
        if bytes.len() < HEADER_BYTES + len * size_of::<f32>() {
            // A push came between: its step needs the whole row.
            return false;
        }
        row.resize(len, 0.0);
        read_floats(&bytes[HEADER_BYTES..], row);
        Update::in_block(&state.shape, block).apply_private(row);
        out.copy_from_slice(&row[..self.floats]);
        true
    }
}
