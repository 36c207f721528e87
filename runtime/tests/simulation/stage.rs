//! A seeded scheduler for threads: exactly one runs at a time, and where it would wait, the seed says what happens next.
//!
//! A waiting thread draws: an engine makes a step, the network's next event happens, or another thread goes on. Threads
//! change nowhere else, so that a run is a function of its seed alone: the code under test is the node's, with its locks,
//! blocking calls and all.

use std::cell::Cell;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sterna::{Node, Pace, Rank};
use sterna_protocol::invariants::{Consuming, Limits};
use sterna_rdma::sim::SimWorld;

use super::dice::Dice;
use super::wire::Wire;

/// Waits in one run before it counts as stuck.
const PAUSES_MAX: u64 = 20_000_000;

/// Waits between two looks at what nodes hold.
const LOOK_EVERY: u64 = 32;

/// Steps and events without news after which a job is at rest.
const REST: usize = 200;

/// Virtual time that goes by when nothing else is left to happen.
const QUIET: Duration = Duration::from_micros(20);

thread_local! {
    /// Which thread of the stage this is.
    static PART: Cell<usize> = const { Cell::new(usize::MAX) };
}

#[derive(Debug)]
struct Part {
    rank: Rank,
    done: bool,
}

struct Inner {
    dice: Dice,
    parts: Vec<Part>,
    /// Whose turn it is.
    turn: usize,
    nodes: Vec<Option<Arc<Node>>>,
    pauses: u64,
    consuming: Consuming,
    limits: Limits,
    /// Chance of a stall at each pause, in a million.
    stalls_per_million: u64,
    /// No stall begins before.
    calm_ns: u64,
    /// CPU time of each node's engine steps that did something, in nanoseconds.
    cpu_ns: Vec<u64>,
    /// Why the run is over, if it failed.
    fault: Option<String>,
}

impl Inner {
    /// I7, of one node.
    fn look(&mut self, node: &Node, divisor: usize) {
        for held in node.holdings() {
            let limit = held.limit / divisor;
            if let Err(violation) = self.limits.holds(held.what, held.count, limit) {
                self.fault.get_or_insert(violation.to_string());
            }
        }
    }
}

/// See the module.
pub struct Stage {
    world: SimWorld,
    wire: Arc<Wire>,
    inner: Mutex<Inner>,
    changed: Condvar,
}

impl Stage {
    /// A stage for the threads of these nodes; the first has the first turn.
    pub fn new(
        world: SimWorld,
        wire: Arc<Wire>,
        seed: u64,
        parts: &[Rank],
        stalls_per_million: u64,
    ) -> Arc<Self> {
        let size = parts.iter().map(|rank| rank.index() + 1).max().expect("somebody acts");
        Arc::new(Self {
            world,
            wire,
            inner: Mutex::new(Inner {
                dice: Dice::new(seed),
                parts: parts.iter().map(|&rank| Part { rank, done: false }).collect(),
                turn: 0,
                nodes: vec![None; size],
                cpu_ns: vec![0; size],
                pauses: 0,
                consuming: Consuming::default(),
                limits: Limits::default(),
                stalls_per_million,
                calm_ns: 0,
                fault: None,
            }),
            changed: Condvar::new(),
        })
    }

    /// Makes a node's engine part of the schedule.
    pub fn enter(&self, node: Arc<Node>) {
        let rank = node.rank().index();
        self.lock().nodes[rank] = Some(node);
    }

    /// Takes a node's engine out of the schedule.
    pub fn leave(&self, rank: Rank) -> Option<Arc<Node>> {
        self.lock().nodes[rank.index()].take()
    }

    /// Runs `act` as the thread of this number, from its first turn on. A panic of it ends the run.
    pub fn play(&self, part: usize, act: impl FnOnce()) {
        PART.set(part);
        let inner = self.lock();
        drop(self.await_turn(inner, part));
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(act));
        let mut inner = self.lock();
        inner.parts[part].done = true;
        if let Err(panic) = outcome {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
            inner.fault.get_or_insert(text.unwrap_or_else(|| "a panic".to_owned()));
        }
        self.hand_on(&mut inner);
        drop(inner);
        self.changed.notify_all();
    }

    /// All threads are done: lets engines and the network come to rest, and looks at what is left.
    pub fn come_to_rest(&self) {
        let nodes: Vec<Arc<Node>> = self.lock().nodes.iter().flatten().cloned().collect();
        let mut quiet = 0;
        while quiet < REST {
            let mut news = false;
            for node in &nodes {
                match node.step() {
                    Ok(done) => news |= done,
                    Err(error) => return self.fail(error.to_string()),
                }
            }
            if !self.world.advance() {
                let later = self.world.now_ns() + u64::try_from(QUIET.as_nanos()).expect("short");
                self.world.advance_until(later);
            }
            quiet = if news { 0 } else { quiet + 1 };
        }
        self.wire.at_rest();
        if let Some(fault) = self.wire.fault() {
            self.fail(fault);
        }
    }

    /// CPU time that a node's engine has spent in steps that did something, in nanoseconds.
    pub fn cpu_ns(&self, rank: Rank) -> u64 {
        self.lock().cpu_ns[rank.index()]
    }

    /// What went wrong.
    pub fn fault(&self) -> Option<String> {
        self.lock().fault.clone()
    }

    /// Fails the run.
    pub fn fail(&self, what: String) {
        self.lock().fault.get_or_insert(what);
    }

    /// A draw from the run's seed.
    pub fn draw(&self, limit: usize) -> usize {
        self.lock().dice.below(limit)
    }

    pub fn world(&self) -> &SimWorld {
        &self.world
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn await_turn<'s>(
        &'s self,
        mut inner: MutexGuard<'s, Inner>,
        part: usize,
    ) -> MutexGuard<'s, Inner> {
        while inner.turn != part {
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        inner
    }

    /// Gives the turn to a thread that is not done, if there is one.
    fn hand_on(&self, inner: &mut Inner) {
        let open: Vec<usize> = (0..inner.parts.len()).filter(|&p| !inner.parts[p].done).collect();
        if !open.is_empty() {
            inner.turn = open[inner.dice.below(open.len())];
        }
    }

    /// Something else than another thread's turn happens: an engine's step, or an event of the network.
    fn happen(&self, mut inner: MutexGuard<'_, Inner>) {
        let size = inner.nodes.len();
        let rank = Rank::from_index(inner.dice.below(size));
        let now_ns = self.world.now_ns();
        if inner.dice.next() % 1_000_000 < inner.stalls_per_million && now_ns > inner.calm_ns {
            // After a stall the job gets as much time again to recover.
            let micros = 1 + inner.dice.next() % 3_000;
            self.world.stall(rank, Duration::from_micros(micros));
            inner.calm_ns = now_ns + 2_000 * micros;
        }
        let node = inner.nodes[rank.index()].clone();
        let step = inner.dice.below(2) == 0;
        drop(inner);
        match node {
            Some(node) if step && !self.world.is_stalled(rank) => {
                let arrived = usize::from(self.world.has_arrivals(rank));
                let begun = thread_cpu();
                let done = node.step().map_err(|error| error.to_string());
                let took = thread_cpu().saturating_sub(begun);
                let mut inner = self.lock();
                if inner.pauses.is_multiple_of(LOOK_EVERY) {
                    inner.look(&node, self.wire.limits_divided_by());
                    self.wire.look();
                }
                if let Some(fault) = self.wire.fault() {
                    inner.fault.get_or_insert(fault);
                }
                if done == Ok(true) {
                    inner.cpu_ns[rank.index()] += u64::try_from(took.as_nanos()).unwrap_or(0);
                }
                // A step that another thread of the node is making counts as this one.
                let taken = usize::from(!matches!(done, Ok(false)));
                if let Err(violation) = inner.consuming.step(rank, arrived, taken) {
                    inner.fault.get_or_insert(violation.to_string());
                }
            }
            _ => {
                if !self.world.advance() {
                    let now = Duration::from_nanos(self.world.now_ns());
                    self.world.advance_until(
                        u64::try_from((now + QUIET).as_nanos()).expect("runs are short"),
                    );
                }
            }
        }
    }
}

fn thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or(Duration::ZERO)
}

impl Pace for Stage {
    fn now(&self) -> Duration {
        Duration::from_nanos(self.world.now_ns())
    }

    fn pause(&self) {
        let part = PART.get();
        loop {
            let mut inner = self.lock();
            inner.pauses += 1;
            if let Some(fault) = inner.fault.clone() {
                drop(inner);
                panic!("{fault}");
            }
            assert!(inner.pauses < PAUSES_MAX, "the job is stuck");
            let rank = inner.parts[part].rank;
            if inner.dice.below(8) > 0 {
                self.happen(inner);
                continue;
            }
            self.hand_on(&mut inner);
            if inner.turn != part {
                self.changed.notify_all();
                inner = self.await_turn(inner, part);
            }
            drop(inner);
            if !self.world.is_stalled(rank) {
                return;
            }
        }
    }
}
