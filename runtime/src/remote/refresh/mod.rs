//! Replicas are kept fresh: their holder looks at the owner's board, and READs the rows that have changed.
//!
//! ```text
//! holder                                   owner
//!   | -- READ root, changed blocks' pages,
//!   |    changed pages' versions ---------> board    no thread of the owner runs
//!   | -- READ rows of newer versions -----> rows     each under rule K2
//!   |    pause: at least 100 us, 20 times the round's time
//!   |    .. until two rounds find nothing:
//!   | -- Arm(sequence) -------------------> |  arms, folds, and answers at once if it is past that
//!   | <------------------------- Notice --- |  at the first change
//! ```
//! Idle replicas cost nothing, and what a round moves follows what has changed, not what is held.

mod watch;

use std::collections::VecDeque;

use sterna_protocol::entry::{EntryState, ReadPermit, ReadVerdict};
use sterna_protocol::record::{Arena, Kind};
use sterna_protocol::{Rank, TableId};
use sterna_rdma::{Completion, FabricError, Read, ReadData, ReadLane, RegionId};
use sterna_store::{EntryId, board_layout as layout, shape::HEADER_BYTES};

use super::engine::Engine;
use super::held::CopyOf;
use super::quarantine::Quarantine;
use super::storage::{ForeignRow, NewCopy, is_older, read_floats};
use super::{Remote, read};
use crate::error::Result;
use crate::table::Table;

use watch::{Again, Mode, Watch};

/// How often an engine looks whether its rows have changed while holders look at its board, in nanoseconds.
const FOLD_NS: u64 = 200_000;

/// How soon an engine looks again for READs under way, in nanoseconds.
const READ_NS: u64 = 20_000;

/// A READ of a round.
#[derive(Clone, Copy, Debug)]
struct Job {
    owner: Rank,
    what: What,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Root,
    Pages(u32),
    /// Of a page with this word, from when on.
    Versions {
        page: u32,
        word: u64,
        posted_ns: u64,
    },
    /// `known`: a version that the row has had.
    Row {
        place: u32,
        entry: EntryId,
        again: bool,
        permit: Option<ReadPermit>,
        known: Option<u64>,
    },
    /// No part of a round: whether slots that the peer may be reading are free.
    Clocks,
}

/// See the module. The engine's lock guards it.
pub(super) struct Refresher {
    lane: Box<dyn ReadLane>,
    /// By owner.
    watches: Vec<Watch>,
    queue: VecDeque<Job>,
    /// READs under way, by token.
    open: Vec<Option<Job>>,
    idle: Vec<usize>,
    /// By holder, for this node's own board: the sequence it has seen and waits for a change of.
    armed: Vec<Option<u64>>,
    /// Holders that look at this node's board on their own.
    looking: Vec<bool>,
    row: Vec<f32>,
    /// Rows read anew, and how long after the looks before at their owners' boards, summed up.
    pub(super) refreshed: u64,
    pub(super) stale_ns: u64,
    /// Bytes of READs of boards and of rows.
    pub(super) read_bytes: u64,
    /// Its READs use the same lane.
    pub(super) quarantine: Quarantine,
}

impl Refresher {
    pub(super) fn new(lane: Box<dyn ReadLane>, size: usize, quarantine: Quarantine) -> Self {
        Self {
            lane,
            quarantine,
            watches: (0..size).map(|_| Watch::new()).collect(),
            queue: VecDeque::new(),
            open: Vec::new(),
            idle: Vec::new(),
            armed: vec![None; size],
            looking: vec![false; size],
            row: Vec::new(),
            refreshed: 0,
            stale_ns: 0,
            read_bytes: 0,
        }
    }

    /// A peer has told where its board is.
    pub(super) fn found_board(&mut self, owner: Rank, region: RegionId) {
        self.watches[owner.index()].board = Some(region);
    }

    pub(super) fn peer_lost(&mut self, peer: Rank) {
        self.armed[peer.index()] = None;
        self.looking[peer.index()] = false;
        let mut unposted = 0;
        self.queue.retain(|job| {
            let lost = job.owner == peer;
            unposted += usize::from(lost && !matches!(job.what, What::Clocks));
            !lost
        });
        self.watches[peer.index()].lose(unposted);
        self.quarantine.lost(peer);
    }

    /// A holder has seen this sequence of this node's board and wants to be told of the next.
    pub(super) fn armed(&mut self, holder: Rank, seen: u64) {
        self.armed[holder.index()] = Some(seen);
        self.looking[holder.index()] = false;
    }

    /// An owner's board has changed.
    pub(super) fn noticed(&mut self, owner: Rank, now_ns: u64) {
        let watch = &mut self.watches[owner.index()];
        watch.looked_ns = watch.looked_ns.max(now_ns);
        watch.hurry(0);
    }

    /// When the engine has to look again, if before long.
    pub(super) fn next_ns(&self, now_ns: u64) -> Option<u64> {
        let rounds = self.watches.iter().filter_map(|watch| match watch.mode {
            Mode::Active { next_ns } => Some(next_ns),
            Mode::Round => Some(now_ns + READ_NS),
            Mode::Idle | Mode::Armed => None,
        });
        let folds = self.looking.contains(&true).then(|| now_ns + FOLD_NS);
        rounds.chain(folds).min()
    }

    /// Asks for a round of all replicas; gives what [`Refresher::missing`] is asked about.
    pub(super) fn demand(&mut self, now_ns: u64) -> Vec<u64> {
        let demand = |watch: &mut Watch| {
            watch.hurry(now_ns);
            if watch.pages.is_empty() { 0 } else { watch.begun + 1 }
        };
        self.watches.iter_mut().map(demand).collect()
    }

    /// The first owner whose replicas have not been looked at since the demand.
    pub(super) fn missing(&mut self, demand: &[u64], now_ns: u64) -> Option<Rank> {
        let mut ranks = (0..).map(Rank::from_index).zip(self.watches.iter_mut().zip(demand));
        let missing = ranks.find(|(_, (watch, wanted))| {
            let late = watch.ended < **wanted || !watch.again.is_empty() || watch.retries;
            **wanted > 0 && !watch.pages.is_empty() && late
        });
        missing.map(|(rank, (watch, _))| {
            watch.hurry(now_ns);
            rank
        })
    }
}

impl Remote {
    /// Does what is due for this node's board and for its replicas; whether anything was done.
    pub(super) fn refresh(&self, engine: &mut Engine, now_ns: u64) -> Result<bool> {
        let mut done = self.fold_board(engine);
        for NewCopy { owner, board, place } in engine.copies.drain(..) {
            engine.refresher.watches[owner.index()].add(board, place, now_ns);
        }
        let refresher = &mut engine.refresher;
        for owner in self.look_at_clocks(&mut refresher.quarantine, now_ns) {
            refresher.queue.push_back(Job { owner, what: What::Clocks });
        }
        if refresher.open.len() == refresher.idle.len() && refresher.queue.is_empty() {
            let due =
                |watch: &Watch| matches!(watch.mode, Mode::Active { next_ns } if next_ns <= now_ns);
            if !refresher.watches.iter().any(due) {
                return Ok(done);
            }
        }
        refresher.begin_rounds(now_ns);
        refresher.post(self, &engine.tables)?;
        done |= refresher.collect(self, &engine.tables)? > 0;
        refresher.post(self, &engine.tables)?;
        let spent = self.timing.now_ns().saturating_sub(now_ns);
        let arms = engine.refresher.end_rounds(self, spent);
        for (owner, sequence) in arms {
            engine.tell(owner, Kind::Arm, TableId(0), 0, |writer| {
                writer.board_sequence(sequence);
            });
        }
        Ok(done)
    }

    /// Folds what this node's workers have changed into its board, and tells those who wait for it.
    pub(super) fn fold_board(&self, engine: &mut Engine) -> bool {
        let waiting = engine.refresher.armed.iter().any(Option::is_some);
        // First armed, then folded: a change that the fold misses wakes the engine.
        self.board.set_armed(waiting);
        let changed = self.tell_board(&engine.tables);
        if waiting {
            let sequence = self.board.sequence();
            for index in 0..engine.refresher.armed.len() {
                if engine.refresher.armed[index].take_if(|seen| *seen != sequence).is_some() {
                    engine.refresher.looking[index] = true;
                    let holder = Rank::from_index(index);
                    engine.tell(holder, Kind::Notice, TableId(0), 0, |writer| {
                        writer.board_sequence(sequence);
                    });
                }
            }
        }
        changed > 0
    }

    /// Folds what workers and updates have changed into this node's board; gives how many rows that were.
    pub(super) fn tell_board(&self, tables: &[Table]) -> usize {
        self.board.fold(|table, slot| {
            tables.get(usize::from(table.0)).and_then(|table| table.0.rows.version_of(slot))
        })
    }

    /// Reads all replicas of this node anew that have changed by now.
    pub(crate) fn refresh_all(&self) -> Result<()> {
        let deadline = self.now() + self.wait_limit;
        // A Grant under way may have been written before what has changed by now.
        let asked = self.engine().machine.last_number();
        while !self.engine().machine.answered_up_to(asked) {
            self.check_deaths()?;
            if self.now() >= deadline {
                return Err(
                    self.late(&super::Waiting { what: "replicas on their way", rank: None })
                );
            }
            self.help(std::time::Duration::from_micros(100))?;
        }
        let demand = self.engine().refresher.demand(self.timing.now_ns());
        loop {
            let missing = self.engine().refresher.missing(&demand, self.timing.now_ns());
            let Some(rank) = missing else { return Ok(()) };
            self.check_peer(rank)?;
            if self.now() >= deadline {
                let what = "a refresh of replicas";
                return Err(self.late(&super::Waiting { what, rank: Some(rank) }));
            }
            self.help(std::time::Duration::from_micros(100))?;
        }
    }
}

impl Refresher {
    fn begin_rounds(&mut self, now_ns: u64) {
        for (index, watch) in self.watches.iter_mut().enumerate() {
            let Mode::Active { next_ns } = watch.mode else { continue };
            if next_ns > now_ns || watch.board.is_none() {
                continue;
            }
            let owner = Rank::from_index(index);
            watch.mode = Mode::Round;
            watch.begun += 1;
            watch.begun_ns = now_ns;
            watch.spent_ns = 0;
            watch.open = 1;
            watch.retries = !watch.again.is_empty();
            self.queue.push_back(Job { owner, what: What::Root });
            for Again { place, entry, known } in std::mem::take(&mut watch.again) {
                watch.open += 1;
                let what = What::Row { place, entry, again: true, permit: None, known };
                self.queue.push_back(Job { owner, what });
            }
        }
    }

    /// Ends the rounds whose READs have all ended; gives whom to ask to tell of the next change.
    fn end_rounds(&mut self, remote: &Remote, spent_ns: u64) -> Vec<(Rank, u64)> {
        let (now_ns, quiet) = (remote.timing.now_ns(), remote.knobs.quiet_rounds);
        let mut arms = Vec::new();
        for (index, watch) in self.watches.iter_mut().enumerate() {
            if !matches!(watch.mode, Mode::Round) {
                continue;
            }
            watch.spent_ns += spent_ns;
            if watch.open == 0 {
                let pause = remote.pause_ns(watch.spent_ns);
                let found = watch.end(now_ns, pause, quiet);
                arms.extend(found.map(|found| (Rank::from_index(index), found)));
            }
        }
        arms
    }

    fn post(&mut self, remote: &Remote, tables: &[Table]) -> Result<()> {
        while let Some(mut job) = self.queue.pop_front() {
            let Some(read) = self.prepare(&mut job, remote, tables) else {
                self.drop_unposted(job, remote);
                continue;
            };
            let token = self.idle.pop().unwrap_or_else(|| {
                self.open.push(None);
                self.open.len() - 1
            });
            match self.lane.post(Read { token: token as u64, ..read }) {
                Ok(()) => {
                    self.open[token] = Some(job);
                    self.read_bytes += u64::from(read.len);
                }
                Err(error) => {
                    self.idle.push(token);
                    give_back(&mut job, remote, tables);
                    if !matches!(error, FabricError::LaneFull { .. }) {
                        self.drop_unposted(job, remote);
                        continue;
                    }
                    self.queue.push_front(job);
                    break;
                }
            }
        }
        Ok(self.lane.submit()?)
    }

    /// A job that needs, or gets, no READ.
    fn drop_unposted(&mut self, job: Job, remote: &Remote) {
        match job.what {
            What::Clocks => self.quarantine.looked(job.owner, None, remote.timing.now_ns()),
            _ => self.watches[job.owner.index()].open -= 1,
        }
    }

    /// What to read for a job; nothing if it is not to be done.
    fn prepare(&mut self, job: &mut Job, remote: &Remote, tables: &[Table]) -> Option<Read> {
        let watch = &mut self.watches[job.owner.index()];
        let on_board = |offset: usize, bytes: usize| {
            let len = u32::try_from(bytes).expect("a group");
            let region = watch.board?;
            Some(Read { peer: job.owner, region, offset: offset as u64, len, token: 0 })
        };
        match &mut job.what {
            What::Clocks => {
                let page = self.quarantine.page(job.owner)?;
                let len = u32::try_from(page.bytes).ok()?;
                Some(Read { peer: job.owner, region: page.id, offset: 0, len, token: 0 })
            }
            What::Root => on_board(0, layout::ROOT_BYTES),
            What::Pages(block) => on_board(layout::pages(*block as usize), layout::GROUP_BYTES),
            What::Versions { page, posted_ns, .. } => {
                *posted_ns = remote.timing.now_ns();
                on_board(layout::versions(*page as usize), layout::GROUP_BYTES)
            }
            What::Row { place, entry, again, permit, known } => {
                let later = Again { place: *place, entry: *entry, known: *known };
                let (mut row, copy) = held(*entry, (job.owner, *place), remote, tables)?;
                let location = row.guard.control.location();
                let Some(granted) = row.guard.control.control.refresh(*again) else {
                    let waits = row.guard.control.control.state() == EntryState::Replica;
                    if waits {
                        watch.again.push(later);
                    }
                    return None;
                };
                let (table, owner) = (row.table, granted.owner);
                let slot = location.filter(|at| at.epoch == copy.epoch && owner == job.owner);
                let at = slot.map(|at| table.rows.shape().place(at.slot));
                let region = at.and_then(|at| table.peers.region(owner, Arena::Rows, at.chunk));
                let (Some(at), Some(region)) = (at, region) else {
                    row.guard.control.control.cancel_read(granted);
                    row.list();
                    watch.again.push(later);
                    return None;
                };
                *permit = Some(granted);
                let bytes = HEADER_BYTES + table.shape.row_len() * size_of::<f32>();
                let len = u32::try_from(bytes.next_multiple_of(8)).expect("a row is at most 1 MiB");
                Some(Read { peer: owner, region, offset: at.offset as u64, len, token: 0 })
            }
        }
    }

    fn collect(&mut self, remote: &Remote, tables: &[Table]) -> Result<usize> {
        let Self { lane, watches, queue, open, idle, row, quarantine, .. } = self;
        let (refreshed, stale_ns) = (&mut self.refreshed, &mut self.stale_ns);
        let done = lane.poll(&mut |completion: Completion<'_>| {
            let token = usize::try_from(completion.token).expect("a token of this lane");
            let Some(mut job) = open.get_mut(token).and_then(Option::take) else { return };
            idle.push(token);
            let owner = job.owner;
            if let What::Clocks = job.what {
                let page = completion.result.as_ref().ok().map(|data| data.bytes);
                return quarantine.looked(owner, page, remote.timing.now_ns());
            }
            let watch = &mut watches[owner.index()];
            watch.open -= 1;
            let mut add = |watch: &mut Watch, what: What| {
                watch.open += 1;
                queue.push_back(Job { owner, what });
            };
            let Ok(data) = &completion.result else {
                give_back(&mut job, remote, tables);
                watch.forget_seen();
                return;
            };
            let word = |at: usize| {
                u64::from_le_bytes(data.bytes[at..at + 8].try_into().expect("eight bytes"))
            };
            match job.what {
                What::Clocks => {}
                What::Root => {
                    let blocks = watch.root(|block| word(layout::block(block)));
                    blocks.into_iter().for_each(|block| add(watch, What::Pages(block)));
                }
                What::Pages(block) => {
                    for (page, word) in watch.block(block, |page| word(8 * page)) {
                        add(watch, What::Versions { page, word, posted_ns: 0 });
                    }
                }
                What::Versions { page, word: now, posted_ns } => {
                    let Some(known) = watch.pages.get_mut(&page) else { return };
                    known.seen = Some(now);
                    let mut changed: Vec<Again> = Vec::new();
                    known.rows.retain(|&(place, entry, since_ns)| {
                        let version = word(8 * layout::within(place as usize));
                        let replica = held(entry, (owner, place), remote, tables);
                        // An Ack since counts in the copy's version, and may stand for another's update in this one.
                        let acked = |copy: &CopyOf| copy.acked_ns >= posted_ns;
                        if replica
                            .as_ref()
                            .is_some_and(|(_, copy)| copy.version != version || acked(copy))
                        {
                            // What was read before the replica was here may be what another row's version was.
                            let known = (posted_ns > since_ns).then_some(version);
                            changed.push(Again { place, entry, known });
                        }
                        replica.is_some()
                    });
                    if known.rows.is_empty() {
                        watch.pages.remove(&page);
                    }
                    for Again { place, entry, known } in changed {
                        let (again, permit) = (false, None);
                        add(watch, What::Row { place, entry, again, permit, known });
                    }
                }
                What::Row { place, entry, permit, known, .. } => {
                    let Some(permit) = permit else { return };
                    match settle(entry, (permit, known), data, row, remote, tables) {
                        Settled::Fresh => {
                            let now_ns = remote.timing.now_ns();
                            *refreshed += 1;
                            *stale_ns += now_ns.saturating_sub(watch.looked_ns);
                        }
                        Settled::Again(known) => watch.again.push(Again { place, entry, known }),
                        Settled::Gone => {}
                    }
                }
            }
        })?;
        Ok(done)
    }
}

/// An entry and its copy, if that is still a replica of the row at this place of this owner's board.
fn held<'n>(
    entry: EntryId,
    (owner, place): (Rank, u32),
    remote: &'n Remote,
    tables: &'n [Table],
) -> Option<(ForeignRow<'n>, CopyOf)> {
    let guard = remote.foreign.at(entry)?;
    let control = &guard.control.control;
    if control.state() != EntryState::Replica || control.owner() != owner {
        return None;
    }
    let copy = *guard.control.copy().filter(|copy| copy.board == place)?;
    let table = &tables.get(usize::from(guard.key().table.0))?.0;
    Some((ForeignRow { table, guard, remote, engine: None }, copy))
}

/// A READ that was not posted, or failed.
fn give_back(job: &mut Job, remote: &Remote, tables: &[Table]) {
    if let What::Row { entry, permit, .. } = &mut job.what
        && let Some(permit) = permit.take()
        && let Some(guard) = remote.foreign.at(*entry)
        && let Some(table) = tables.get(usize::from(guard.key().table.0))
    {
        let mut row = ForeignRow { table: &table.0, guard, remote, engine: None };
        row.guard.control.control.cancel_read(permit);
        row.list();
    }
}

/// What a row that was read is to a replica.
enum Settled {
    /// Its base.
    Fresh,
    /// It is to be read once more, after which its version is known to have been this.
    Again(Option<u64>),
    /// There is no replica.
    Gone,
}

/// Lets the entry judge a row that was read, and makes it the replica's base.
fn settle(
    entry: EntryId,
    (permit, known): (ReadPermit, Option<u64>),
    data: &ReadData<'_>,
    row: &mut Vec<f32>,
    remote: &Remote,
    tables: &[Table],
) -> Settled {
    let Some(guard) = remote.foreign.at(entry) else { return Settled::Gone };
    let Some(table) = tables.get(usize::from(guard.key().table.0)) else { return Settled::Gone };
    let table = &table.0;
    let mut entry = ForeignRow { table, guard, remote, engine: None };
    let found = read::judge(entry.guard.key().key, Some(permit.epoch), data);
    let verdict = entry.guard.control.control.finish_read(permit, found);
    let replica = entry.guard.control.control.state() == EntryState::Replica;
    let mut settled = if replica { Settled::Again(known) } else { Settled::Gone };
    if replica && verdict == ReadVerdict::Accept {
        let heads = read::metas(data);
        row.resize(table.shape.row_len(), 0.0);
        read_floats(&data.bytes[HEADER_BYTES..], row);
        if let Some(version) = entry.refresh(row, heads, known) {
            // Where a device reads, the header may be newer than the rest: the next READ will not be.
            let told = heads[0].version();
            let whole = !is_older(version, told);
            settled = if whole { Settled::Fresh } else { Settled::Again(Some(told)) };
        }
    }
    // An exchange may have been held back for this READ.
    entry.list();
    settled
}

impl std::fmt::Debug for Refresher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Refresher").field("refreshed", &self.refreshed).finish_non_exhaustive()
    }
}
