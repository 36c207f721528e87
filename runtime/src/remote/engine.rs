//! The engine: polls the links, feeds the protocol, sends what is owed.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, TryLockError};
use std::time::{Duration, Instant};

use sterna_protocol::machine::{Handled, Machine};
use sterna_protocol::outbox::Staging;
use sterna_protocol::owned::Policy;
use sterna_protocol::record::{Arena, Kind, Record, Trial, TrialStep, Writer};
use sterna_protocol::{Clock, Rank, TableId};
use sterna_rdma::{Fabric, LostReason, RegionId, RegionToken, SendError, Sink};
use sterna_store::{Due, EntryId};

use super::collective::{Callers, Reduction};
use super::refresh::Refresher;
use super::storage::{NewCopy, NodeStorage};
use super::{Remote, chunks};
use crate::error::Result;
use crate::table::Table;
use crate::trial::{Counted, Judge, Order};

/// Records taken in one step.
const RECORDS_PER_STEP: usize = 64;

/// Between records of this length, which take some time, goes out what has been listed meanwhile: who has to answer that should
/// not be idle until the last of them has been taken.
const LONG_RECORD_BYTES: usize = 4096;

/// How long an engine with a core of its own goes on polling after records came or went: an answer may follow. Rounds of replicas
/// have their times, and nothing follows them.
const SPIN: Duration = Duration::from_micros(20);

/// How long the engine sleeps when nothing is left to do; a peer's record or a worker's wake ends it.
const SLEEP: Duration = Duration::from_millis(500);

/// How long it sleeps when it could not send all that it owes.
const SLEEP_OWING: Duration = Duration::from_millis(1);

/// Room for a control record.
pub(super) const CONTROL_BYTES_MAX: usize = 64 * 1024;

/// What the engine's lock guards.
pub(super) struct Engine {
    pub(super) machine: Machine<EntryId, Box<dyn Policy + Send>>,
    pub(super) tables: Vec<Table>,
    /// Chunks of rows of each table that peers have been told of.
    pub(super) announced: Vec<usize>,
    staging: Staging,
    scratch: Vec<f32>,
    taken: Vec<EntryId>,
    pub(super) copies: Vec<NewCopy>,
    pub(super) refresher: Refresher,
    /// At rank 0, if trials are made.
    pub(super) judge: Option<Judge>,
    /// When the next round of updates and refreshes of replicas is due.
    pub(super) round_ns: u64,
    /// Chunks that peers have told of, of tables that are being made.
    pub(super) chunks: HashMap<(TableId, Rank, Arena, u32), RegionId>,
    /// What peers have said that their tables are: name and definition.
    pub(super) definitions: HashMap<(TableId, Rank), (String, Vec<u8>)>,
    /// The sums under way, by who makes them.
    pub(super) reductions: [Reduction; Callers::ALL.len()],
    /// Control records that no link has taken yet, oldest first.
    pub(super) unsent: Vec<(Rank, Vec<u8>)>,
    record: Vec<u8>,
}

impl Engine {
    pub(super) fn new(
        rank: Rank,
        size: usize,
        policy: Box<dyn Policy + Send>,
        refresher: Refresher,
    ) -> Self {
        Self {
            machine: Machine::new(rank, size, policy),
            tables: Vec::new(),
            announced: Vec::new(),
            staging: Staging::new(size),
            scratch: Vec::new(),
            taken: Vec::new(),
            copies: Vec::new(),
            refresher,
            judge: None,
            round_ns: 0,
            chunks: HashMap::new(),
            definitions: HashMap::new(),
            reductions: Callers::ALL.map(|callers| Reduction::new(callers, size)),
            unsent: Vec::new(),
            record: vec![0; CONTROL_BYTES_MAX],
        }
    }

    /// Queues a control record for a peer.
    pub(super) fn tell(
        &mut self,
        to: Rank,
        kind: Kind,
        table: TableId,
        number: u32,
        body: impl FnOnce(&mut Writer<'_>),
    ) {
        let mut writer = Writer::new(&mut self.record, kind, table, number);
        body(&mut writer);
        let record = writer.finish().to_vec();
        self.unsent.push((to, record));
    }

    /// The same for each of them.
    pub(super) fn tell_all(
        &mut self,
        kind: Kind,
        table: TableId,
        number: u32,
        body: impl Fn(&mut Writer<'_>),
    ) {
        for peer in self.machine.others() {
            self.tell(peer, kind, table, number, &body);
        }
    }

    /// Tells all peers where this node has what is not of a table.
    pub(super) fn tell_place(&mut self, arena: Arena, token: RegionToken) {
        self.tell_all(Kind::Chunk, TableId(0), 0, |writer| {
            writer.chunk(arena, 0, &token);
        });
    }

    /// Tells all peers of chunks that tables have got since the last time.
    fn tell_chunks(&mut self, fabric: &dyn Fabric) -> Result<()> {
        let mut grown = Vec::new();
        for (table, announced) in self.tables.iter().zip(&mut self.announced) {
            let arena = table.0.rows.arena();
            for chunk in *announced..arena.chunks() {
                let memory = arena.chunk(chunk).expect("a chunk of the arena");
                let token = chunks::export(fabric, &memory)?;
                grown.push((table.id(), u32::try_from(chunk).expect("fewer than slots"), token));
                *announced = chunk + 1;
            }
        }
        for (table, chunk, token) in grown {
            self.tell_all(Kind::Chunk, table, 0, |writer| {
                writer.chunk(Arena::Rows, chunk, &token);
            });
        }
        Ok(())
    }

    /// The machine, with what it works on.
    fn parts<'e>(
        &'e mut self,
        remote: &'e Remote,
        round: bool,
        now_ns: u64,
    ) -> (&'e mut Machine<EntryId, Box<dyn Policy + Send>>, &'e mut Staging, NodeStorage<'e>) {
        let Self { machine, staging, tables, scratch, taken, copies, .. } = self;
        (machine, staging, NodeStorage { remote, tables, scratch, taken, copies, now_ns, round })
    }
}

/// A link took the record, or there is nobody to take it.
fn sent(fabric: &dyn Fabric, to: Rank, record: &[u8]) -> bool {
    match fabric.try_send(to, &[record]) {
        Ok(()) | Err(SendError::PeerLost { .. } | SendError::TooLong { .. }) => true,
        Err(SendError::Full(_) | SendError::Busy(_)) => false,
    }
}

/// Takes what the fabric delivers.
struct Inbox<'e> {
    remote: &'e Remote,
    engine: &'e mut Engine,
    now_ns: u64,
    expel: Vec<(Rank, String)>,
}

impl Sink for Inbox<'_> {
    fn record(&mut self, from: Rank, record: &[u8]) {
        let fabric = &*self.remote.fabric;
        let long = record.len() >= LONG_RECORD_BYTES;
        // Records before this one in the step may have taken longer than a row has to stay.
        let now_ns = if long { self.remote.timing.now_ns() } else { self.now_ns };
        let (machine, staging, mut store) = self.engine.parts(self.remote, false, now_ns);
        let mut outbox = staging.outbox(|to, record: &[u8]| sent(fabric, to, record));
        let handled = machine.handle(from, record, self.now_ns, &mut store, &mut outbox);
        if long {
            let ranks = (0..fabric.size()).map(Rank::from_index);
            for peer in ranks.filter(|&peer| self.remote.foreign.dirty_len(peer, Due::Now) > 0) {
                machine.flush_dirty(peer, self.now_ns, &mut store, &mut outbox);
            }
        }
        let control = match handled {
            Ok(Handled::Done) => return,
            Ok(Handled::Record(record)) => record,
            Err(fault) => return self.expel.push((from, fault.to_string())),
        };
        if let Err(fault) = self.control(from, &control) {
            self.expel.push((from, fault));
        }
    }

    fn peer_lost(&mut self, peer: Rank, reason: LostReason) {
        let (machine, staging, mut store) = self.engine.parts(self.remote, false, self.now_ns);
        machine.peer_lost(peer, &mut store);
        staging.forget(peer);
        self.engine.refresher.peer_lost(peer);
        self.remote.note_lost(peer, reason);
    }
}

impl Inbox<'_> {
    /// A record of the job's collective calls.
    fn control(&mut self, from: Rank, record: &Record<'_>) -> Result<(), String> {
        match record {
            Record::Chunk(chunk) => {
                let imported = self.remote.fabric.import(from, &chunk.token);
                imported.map_err(|error| error.to_string())?;
                let (arena, index, region) = (chunk.arena, chunk.index, chunk.token.id);
                let table = self.engine.tables.get(usize::from(chunk.table.0));
                match (arena, table) {
                    (Arena::Boards, _) => self.engine.refresher.found_board(from, region),
                    (Arena::Clocks, _) => {
                        self.engine.refresher.quarantine.found(from, chunk.token);
                    }
                    (_, Some(table)) => {
                        if !table.0.peers.learn(from, arena, index as usize, region) {
                            return Err(format!(
                                "{from} has more chunks of `{}` than keys",
                                table.name()
                            ));
                        }
                    }
                    (_, None) => {
                        self.engine.chunks.insert((chunk.table, from, arena, index), region);
                    }
                }
            }
            Record::Table(table) => {
                let said = (table.name.to_owned(), table.definition.to_vec());
                self.engine.definitions.insert((table.table, from), said);
            }
            Record::Reduce(reduce) => {
                let callers = Callers::of_round(reduce.round);
                self.engine.reductions[callers as usize].on_record(from, reduce)?;
            }
            Record::Stop(_) => self.remote.stop_heard(),
            Record::Clock(clock) => {
                if let Some(clocks) = &self.remote.clocks {
                    clocks.heard(from, clock.meetings, clock.flushed.0);
                }
            }
            Record::SnapshotRows(rows) => self.remote.answered(from, rows)?,
            Record::Arm(seen) => self.engine.refresher.armed(from, seen.0),
            Record::Notice(_) => self.engine.refresher.noticed(from, self.now_ns),
            Record::Trial(trial) => self.trial(from, *trial)?,
            _ => {}
        }
        Ok(())
    }
}

impl Inbox<'_> {
    /// A phase of a trial begins, or is over at a peer.
    fn trial(&mut self, from: Rank, trial: Trial) -> Result<(), String> {
        let Trial { phase, step } = trial;
        match (step, &mut self.engine.judge) {
            (TrialStep::Begins { act }, None) if from == Rank(0) => {
                let Counted { keys, ns } = self.remote.trial.begin(Order { phase, act });
                let over = TrialStep::Over { keys, ns };
                self.engine.tell(from, Kind::Trial, TableId(0), phase.wrapping_sub(1), |writer| {
                    writer.trial(over);
                });
                Ok(())
            }
            (TrialStep::Over { keys, ns }, Some(judge)) => {
                judge.told(from, phase, Counted { keys, ns });
                Ok(())
            }
            _ => Err("it is not rank 0 that leads trials there, or not here".to_owned()),
        }
    }
}

impl Remote {
    /// Begins the next phase of a trial when it is time, here and everywhere. Only rank 0 has a judge.
    fn lead_trial(&self, engine: &mut Engine, now_ns: u64) {
        let Some(judge) = &mut engine.judge else { return };
        let Some(order) = judge.next(now_ns, self.trial.keys()) else { return };
        let counted = self.trial.begin(order);
        judge.told(Rank(0), order.phase.wrapping_sub(1), counted);
        engine.tell_all(Kind::Trial, TableId(0), order.phase, |writer| {
            writer.trial(TrialStep::Begins { act: order.act });
        });
    }

    /// One bounded step, without waiting. `None` if somebody else is running one; else whether anything was done.
    pub(crate) fn step(&self) -> Result<Option<bool>> {
        let mut engine = match self.engine.try_lock() {
            Ok(engine) => engine,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(None),
        };
        let done = self.step_locked(&mut engine)?;
        // What a worker's step has left for later must not wait until the engine's thread has slept enough.
        let wakes_ns = self.wakes_ns.load(Ordering::SeqCst);
        let oversleeps = wakes_ns > 0 && self.due(&engine).1 < wakes_ns;
        drop(engine);
        if oversleeps {
            self.wakes_ns.store(0, Ordering::SeqCst);
            self.fabric.wake();
        }
        if done {
            self.note_progress();
        }
        Ok(Some(done))
    }

    fn step_locked(&self, engine: &mut Engine) -> Result<bool> {
        let now_ns = self.timing.now_ns();
        let fabric = &*self.fabric;
        self.lead_trial(engine, now_ns);
        let mut done = self.send_control(engine);
        // What a full link has not taken is no work done: whoever waits for that sleeps.
        let waiting = engine.staging.waiting();
        done |= engine.staging.pump(|to, record| sent(fabric, to, record)) < waiting;
        let mut inbox = Inbox { remote: self, engine, now_ns, expel: Vec::new() };
        done |= fabric.poll(RECORDS_PER_STEP, &mut inbox)? > 0;
        let expel = inbox.expel;
        for (peer, fault) in expel {
            fabric.expel(peer, &fault);
        }
        // What is in main copies now is on the boards below, before anybody is told.
        let flushed_clock =
            self.clocks.as_ref().and_then(|clocks| clocks.settle(|it| self.is_settled(it)));
        // Updates of replicas go when their round has come, or somebody waits for them.
        let urgent = self.urgent.load(Ordering::SeqCst) > 0
            || self.clocks.as_ref().is_some_and(|clocks| clocks.pending());
        let round = urgent || now_ns >= engine.round_ns;
        let unwanted = std::mem::take(&mut *super::lock(&self.unwanted));
        let (machine, staging, mut store) = engine.parts(self, round, now_ns);
        unwanted.into_iter().for_each(|row| machine.unwanted(row));
        let mut outbox = staging.outbox(|to, record: &[u8]| sent(fabric, to, record));
        if let Err(fault) = machine.settle(now_ns, &mut store, &mut outbox) {
            fabric.expel(fault.culprit(), &fault.to_string());
        }
        let mut flushed = false;
        for peer in 0..fabric.size() {
            let peer = Rank::from_index(peer);
            let late = round && self.foreign.dirty_len(peer, Due::Round) > 0;
            if late || self.foreign.dirty_len(peer, Due::Now) > 0 {
                done |= machine.flush_dirty(peer, now_ns, &mut store, &mut outbox) > 0;
                flushed |= late;
            }
        }
        if done {
            self.busy.store(true, Ordering::Relaxed);
        }
        engine.tell_chunks(fabric)?;
        self.round_trip_ns.store(engine.machine.round_trip_ns(), Ordering::Relaxed);
        done |= self.refresh(engine, now_ns)?;
        if let Some((meetings, flushed)) = flushed_clock {
            engine.tell_all(Kind::Clock, TableId(0), meetings, |writer| {
                writer.clock(Clock(flushed));
            });
            done = true;
        }
        if flushed {
            let spent = self.timing.now_ns().saturating_sub(now_ns);
            engine.round_ns = now_ns + self.pause_ns(spent);
        }
        Ok(done)
    }

    fn send_control(&self, engine: &mut Engine) -> bool {
        if self.stop.load(Ordering::Relaxed) && !self.stop_told.swap(true, Ordering::Relaxed) {
            engine.tell_all(Kind::Stop, TableId(0), 0, |writer| {
                writer.stop(false, "asked to stop");
            });
        }
        let before = engine.unsent.len();
        // Order matters per peer: what one link has not taken holds back what follows on it.
        let mut held: Vec<Rank> = Vec::new();
        engine.unsent.retain(|(to, record)| {
            let keep = held.contains(to) || !sent(&*self.fabric, *to, record);
            if keep {
                held.push(*to);
            }
            keep
        });
        engine.unsent.len() < before
    }

    /// A peer was asked to stop: so are we, and it has told the others.
    fn stop_heard(&self) {
        self.stop_told.store(true, Ordering::Relaxed);
        self.stop.store(true, Ordering::SeqCst);
    }

    /// The engine, once nobody else runs a step.
    pub(super) fn engine(&self) -> MutexGuard<'_, Engine> {
        super::lock(&self.engine)
    }

    /// How long there is nothing to do but to wait for others.
    fn sleep(&self, engine: &Engine) -> Duration {
        let owing =
            engine.machine.unsettled() || !engine.unsent.is_empty() || engine.staging.waiting() > 0;
        let mut sleep = if owing { SLEEP_OWING } else { SLEEP };
        let ranks = (0..self.fabric.size()).map(Rank::from_index);
        let late = ranks.map(|peer| self.foreign.dirty_len(peer, Due::Round)).sum::<usize>() > 0;
        if late {
            sleep = sleep.min(self.until(engine.round_ns));
        }
        match engine.refresher.next_ns(self.timing.now_ns()) {
            Some(next) => sleep.min(self.until(next)),
            None => sleep,
        }
    }

    /// That, and when it is over.
    fn due(&self, engine: &Engine) -> (Duration, u64) {
        let sleep = self.sleep(engine);
        let sleep_ns = u64::try_from(sleep.as_nanos()).unwrap_or(u64::MAX);
        (sleep, self.timing.now_ns().saturating_add(sleep_ns))
    }

    /// The pause after a round of replicas that took so long.
    pub(super) fn pause_ns(&self, spent_ns: u64) -> u64 {
        let (least, factor) = (self.knobs.pause_us, self.knobs.pause_factor);
        (u64::from(least) * 1000).max(u64::from(factor) * spent_ns)
    }

    fn until(&self, ns: u64) -> Duration {
        Duration::from_nanos(ns.saturating_sub(self.timing.now_ns()).max(1_000))
    }

    /// What the engine's thread does until the node ends.
    pub(crate) fn run_engine(self: Arc<Self>, may_spin: bool) {
        let mut last_work = Instant::now();
        self.may_spin.store(may_spin, Ordering::Relaxed);
        while !self.closing.load(Ordering::SeqCst) {
            match self.step() {
                Ok(done) => {
                    if self.busy.swap(false, Ordering::Relaxed) {
                        last_work = Instant::now();
                    }
                    if done == Some(true) {
                        continue;
                    }
                }
                Err(error) => {
                    self.meeting.break_up(error);
                    return;
                }
            }
            if may_spin && last_work.elapsed() < SPIN {
                std::hint::spin_loop();
                continue;
            }
            let sleep = {
                let engine = self.engine();
                let (sleep, wakes_ns) = self.due(&engine);
                self.wakes_ns.store(wakes_ns, Ordering::SeqCst);
                sleep
            };
            let parked = self.fabric.park(sleep);
            self.wakes_ns.store(0, Ordering::SeqCst);
            if let Err(error) = parked {
                self.meeting.break_up(error.into());
                return;
            }
        }
    }
}
