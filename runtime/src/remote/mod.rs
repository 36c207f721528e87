//! What a node does with other nodes: pulls, pushes, collective calls, and the engine that carries them.
//!
//! A job of one node has none of this. The engine is whoever holds its lock: its own thread, or a worker that waits and
//! runs a bounded step itself. A step never waits; a caller that has to wait runs steps, or sleeps until somebody else's step has
//! changed something.

pub(crate) mod chunks;
mod collective;
mod engine;
mod held;
mod quarantine;
mod read;
mod refresh;
mod storage;
mod wish;
mod write;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use sterna_protocol::Rank;
use sterna_protocol::ids::RowId;
use sterna_protocol::record::Arena;
use sterna_rdma::{Fabric, FabricError, LostReason, Provider};
use sterna_store::{Board, Budget, ChunkMemory, ForeignTable, clock_page_bytes};

use crate::clocks::Clocks;
use crate::config::{self, NodeConfig};
use crate::error::{Error, Result};
use crate::knobs::Knobs;
use crate::meeting::Meeting;
use crate::pace::Timing;
use crate::policy::Policy;
use crate::trial::{Gauge, Judge};

use engine::Engine;
use held::Held;
use quarantine::Quarantine;
use refresh::Refresher;

pub(crate) use chunks::PeerChunks;
pub(crate) use collective::Callers;
pub(crate) use read::{Reader, Request};
pub(crate) use write::{Taken, Unsettled};

/// Keys of other homes that may be in use at a time: wanted, replicated, owned, or with updates on their way.
const FOREIGN_KEYS_MAX: usize = 1 << 24;

/// How long a caller makes steps before it sleeps, where that is worth while.
const SPIN: Duration = Duration::from_micros(30);

/// What a caller waits for, in words.
pub(crate) struct Waiting {
    pub(crate) what: &'static str,
    pub(crate) rank: Option<Rank>,
}

/// What the manager did: rows and bytes in the order of the report.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Managed {
    /// Moved here, shared, refreshed, offered, refused, dropped, declined.
    pub(crate) rows: [u64; 7],
    /// Of updates, of rows that moved, of replicas set up, of READs that keep replicas fresh.
    pub(crate) bytes: [u64; 4],
    /// How old replicas may have been when they were read anew, summed up.
    pub(crate) stale_ns: u64,
}

/// What the node's other parts share with this one.
pub(crate) struct Shared {
    pub(crate) meeting: Arc<Meeting>,
    pub(crate) clocks: Option<Arc<Clocks>>,
    pub(crate) stop: Arc<AtomicBool>,
}

/// Steps that changed something, and callers that sleep until the next one.
#[derive(Debug, Default)]
struct Progress {
    steps: u64,
    sleepers: usize,
}

/// See the module.
pub(crate) struct Remote {
    pub(crate) fabric: Arc<dyn Fabric>,
    pub(crate) foreign: ForeignTable<Held>,
    pub(crate) budget: Arc<Budget>,
    /// Memory for rows of other homes: what is in use and what may be, in bytes.
    pool_bytes: AtomicUsize,
    pool_bytes_max: usize,
    pub(crate) board: Arc<Board>,
    /// Callers that wait for updates to be acknowledged.
    urgent: AtomicUsize,
    /// When the engine's thread will wake by itself; 0 while it is awake.
    wakes_ns: AtomicU64,
    round_trip_ns: AtomicU64,
    /// Records came or went since the engine's thread last looked.
    busy: AtomicBool,
    /// Rows here whose intents have ended and that others have replicas of.
    unwanted: Mutex<Vec<RowId>>,
    /// Where this node tells of its READs, if peers' devices read rows: they guard no READ.
    clock_page: Option<ChunkMemory>,
    /// When a row has left a slot last, and before when slots were left that are free by now.
    left_ns: AtomicU64,
    passed_ns: AtomicU64,
    pub(crate) policy: Policy,
    pub(crate) knobs: Knobs,
    /// Whether acting on intents pays.
    pub(crate) trial: Gauge,
    /// Keys that the user has called hot.
    hot: Arc<RwLock<HashSet<RowId>>>,
    pub(crate) wait_limit: Duration,
    meeting_limit: Duration,
    engine: Mutex<Engine>,
    /// Rows that owners were asked for.
    questions: read::Questions,
    meeting: Arc<Meeting>,
    clocks: Option<Arc<Clocks>>,
    /// Why peers are lost, by rank.
    lost: RwLock<Vec<Option<LostReason>>>,
    any_lost: AtomicBool,
    stop: Arc<AtomicBool>,
    stop_told: AtomicBool,
    closing: AtomicBool,
    /// Whether threads that wait have processors of their own.
    may_spin: AtomicBool,
    /// Those who wait sleep on it.
    progress: Mutex<Progress>,
    progressed: Condvar,
    pub(crate) timing: Timing,
}

impl Remote {
    pub(crate) fn new(
        fabric: Arc<dyn Fabric>,
        shared: Shared,
        config: &NodeConfig,
        timing: Timing,
    ) -> Result<Arc<Self>> {
        let Shared { meeting, clocks, stop } = shared;
        let (rank, size) = (fabric.rank(), fabric.size());
        let waker = Arc::clone(&fabric);
        let memory = chunks::allocate(&*fabric, "board", Board::BYTES)?;
        let hot = Arc::new(RwLock::new(HashSet::new()));
        let known = Arc::clone(&hot);
        let is_hot =
            move |row: RowId| known.read().unwrap_or_else(PoisonError::into_inner).contains(&row);
        let devices: Vec<Rank> = (0..size)
            .map(Rank::from_index)
            .filter(|&peer| peer != rank && fabric.provider(peer) == Provider::Verbs)
            .collect();
        let clock_page = match devices.is_empty() {
            true => None,
            // One line for each worker, one for the engine.
            false => {
                Some(chunks::allocate(&*fabric, "clocks", clock_page_bytes(config.workers + 1))?)
            }
        };
        let lane = quarantine::open_lane(&*fabric, clock_page.as_ref(), config.workers)?;
        let refresher = Refresher::new(lane, size, Quarantine::new(devices));
        let mut engine = Engine::new(rank, size, config.policy.rule(is_hot), refresher);
        let trial = config.knobs.trial().filter(|_| config.policy.tries());
        engine.judge = trial.filter(|_| rank == Rank(0)).map(|least| Judge::new(size, least));
        engine.tell_place(Arena::Boards, chunks::export(&*fabric, &memory)?);
        if let Some(page) = &clock_page {
            engine.tell_place(Arena::Clocks, chunks::export(&*fabric, page)?);
        }
        Ok(Arc::new(Self {
            foreign: ForeignTable::new(FOREIGN_KEYS_MAX, size),
            budget: Budget::new(config.update_bytes_max),
            pool_bytes: AtomicUsize::new(0),
            pool_bytes_max: config.knobs.pool_bytes(),
            knobs: config.knobs,
            trial: Gauge::new(trial),
            board: Arc::new(Board::new(memory, Box::new(move || waker.wake()))),
            urgent: AtomicUsize::new(0),
            wakes_ns: AtomicU64::new(0),
            round_trip_ns: AtomicU64::new(0),
            busy: AtomicBool::new(false),
            unwanted: Mutex::default(),
            clock_page,
            left_ns: AtomicU64::new(0),
            passed_ns: AtomicU64::new(0),
            policy: config.policy,
            hot,
            wait_limit: config.wait_limit,
            meeting_limit: config.meeting_limit,
            engine: Mutex::new(engine),
            questions: read::Questions::default(),
            meeting,
            clocks,
            lost: RwLock::new(vec![None; size]),
            any_lost: AtomicBool::new(false),
            stop,
            stop_told: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            may_spin: AtomicBool::new(false),
            progress: Mutex::default(),
            progressed: Condvar::new(),
            timing,
            fabric,
        }))
    }

    /// Runs an engine step if nobody else does, else sleeps for at most `pause` until somebody's step changed something.
    pub(crate) fn help(&self, pause: Duration) -> Result<()> {
        let seen = lock(&self.progress).steps;
        if self.step()? == Some(true) {
            return Ok(());
        }
        if self.timing.pause() {
            return Ok(());
        }
        let mut progress = lock(&self.progress);
        if progress.steps == seen {
            progress.sleepers += 1;
            let waited = self.progressed.wait_timeout(progress, pause);
            waited.unwrap_or_else(PoisonError::into_inner).0.sleepers -= 1;
        }
        Ok(())
    }

    /// The same for a caller whose answer takes microseconds: as long as there was news since `news`, or little time has passed, it goes on
    /// making steps, if there is a processor for that.
    pub(crate) fn help_at_once(&self, news: &mut Instant, pause: Duration) -> Result<()> {
        if !self.may_spin.load(Ordering::Relaxed) || news.elapsed() > SPIN {
            return self.help(pause);
        }
        if self.step()? == Some(true) {
            *news = Instant::now();
        } else {
            std::hint::spin_loop();
        }
        Ok(())
    }

    /// Sends what was just pushed, if the engine is free; else whoever has it is told to look again.
    pub(crate) fn nudge(&self) -> Result<()> {
        if self.step()?.is_none() {
            self.fabric.wake();
        }
        Ok(())
    }

    /// An error if this peer is lost.
    pub(crate) fn check_peer(&self, rank: Rank) -> Result<()> {
        if !self.any_lost.load(Ordering::Relaxed) {
            return Ok(());
        }
        let lost = self.lost.read().unwrap_or_else(PoisonError::into_inner);
        lost[rank.index()].as_ref().map_or(Ok(()), |reason| Err(peer_lost(rank, reason)))
    }

    /// An error if some peer has died (one that said goodbye may have finished).
    pub(crate) fn check_deaths(&self) -> Result<()> {
        if !self.any_lost.load(Ordering::Relaxed) {
            return Ok(());
        }
        let lost = self.lost.read().unwrap_or_else(PoisonError::into_inner);
        let died = lost.iter().enumerate().find_map(|(rank, reason)| match reason {
            None | Some(LostReason::Goodbye) => None,
            Some(reason) => Some(peer_lost(Rank::from_index(rank), reason)),
        });
        died.map_or(Ok(()), Err)
    }

    /// What a caller gets whose wait was too long.
    pub(crate) fn late(&self, waiting: &Waiting) -> Error {
        let mut waiting_for = waiting.rank.map_or_else(String::new, |rank| rank.to_string());
        if let Ok(engine) = self.engine.try_lock() {
            for request in engine.machine.waiting() {
                waiting_for.push_str(&format!(
                    "; {} has not answered {:?} {} of {} keys",
                    request.peer, request.kind, request.number, request.keys
                ));
            }
        }
        let seconds = self.wait_limit.as_secs();
        let (what, setting) = (waiting.what.to_owned(), config::WAIT_LIMIT);
        Error::Timeout { what, seconds, waiting_for, setting }
    }

    /// An error of the fabric, with the reason that this node knows for a lost peer.
    pub(crate) fn fault(&self, error: FabricError) -> Error {
        match error {
            FabricError::PeerLost { peer, reason } => {
                self.check_peer(peer).err().unwrap_or(Error::PeerLost { rank: peer, reason })
            }
            error => error.into(),
        }
    }

    /// Spreads a request to stop with the next step.
    pub(crate) fn tell_stop(&self) {
        self.fabric.wake();
    }

    /// From here on a peer's goodbye is no news.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
        self.fabric.goodbye();
        self.fabric.wake();
    }

    fn note_lost(&self, rank: Rank, reason: LostReason) {
        let died = reason != LostReason::Goodbye;
        let error = peer_lost(rank, &reason);
        self.lost.write().unwrap_or_else(PoisonError::into_inner)[rank.index()] = Some(reason);
        self.any_lost.store(true, Ordering::SeqCst);
        if died && !self.closing.load(Ordering::SeqCst) {
            tracing::warn!("{error}");
            self.meeting.break_up(error);
        }
    }

    fn note_progress(&self) {
        let mut progress = lock(&self.progress);
        progress.steps += 1;
        // To wake nobody is a system call, too.
        if progress.sleepers > 0 {
            drop(progress);
            self.progressed.notify_all();
        }
    }

    /// What the manager did so far.
    pub(crate) fn managed(&self) -> Managed {
        let engine = self.engine();
        let (counted, refresher) = (engine.machine.counters(), &engine.refresher);
        Managed {
            rows: [
                counted.moved_here,
                counted.shared,
                refresher.refreshed,
                counted.offered,
                counted.refused,
                counted.acquires_dropped,
                self.trial.declined(),
            ],
            bytes: [
                counted.update_bytes,
                counted.move_bytes,
                counted.share_bytes,
                refresher.read_bytes,
            ],
            stale_ns: refresher.stale_ns,
        }
    }

    /// Requests parked here, and the most that one peer has not answered; nothing while the engine is at work.
    pub(crate) fn owed(&self) -> Option<(usize, usize)> {
        let engine = self.engine.try_lock().ok()?;
        let peers = (0..self.fabric.size()).map(Rank::from_index);
        let unanswered = peers.map(|peer| engine.machine.unanswered(peer)).max();
        Some((engine.machine.parked(), unanswered.unwrap_or(0)))
    }

    /// Memory for rows of other homes: what is in use and what may be, in bytes.
    pub(crate) fn pool(&self) -> (usize, usize) {
        (self.pool_bytes.load(Ordering::Relaxed), self.pool_bytes_max)
    }

    /// How long a request and its answer take, smoothed, in nanoseconds.
    pub(crate) fn round_trip_ns(&self) -> u64 {
        self.round_trip_ns.load(Ordering::Relaxed)
    }

    /// Time since the node's start.
    pub(crate) fn now(&self) -> Duration {
        self.timing.now()
    }
}

fn peer_lost(rank: Rank, reason: &LostReason) -> Error {
    let reason = match reason {
        LostReason::Goodbye => "it ended while this node still needed it".to_owned(),
        LostReason::Died(why) => format!("it died ({why})"),
        LostReason::Malformed(why) => format!("it broke the protocol ({why})"),
        LostReason::Expelled(why) => format!("it was expelled ({why})"),
    };
    Error::PeerLost { rank, reason }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote").field("foreign", &self.foreign).finish_non_exhaustive()
    }
}
