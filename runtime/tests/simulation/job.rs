//! One job: workers do random calls on few keys, and every checker watches.
//!
//! Value `w` of each row belongs to worker `w`, who adds one to it, one call at a time: so each pull shows how many of
//! everybody's additions are in it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use sterna::{Node, NodeConfig, Policy, Rank, Table, TableSpec, Ticket, Worker};
use sterna_protocol::ids::{Key, RowId, TableId};
use sterna_protocol::invariants::history::Order;
use sterna_protocol::invariants::{
    BoundedStaleness, BoundedWaits, Conservation, OwnWrites, Violation,
};
use sterna_rdma::sim::{SimConfig, SimWorld};

use super::past::{Deed, Past, promised, set_of};
use super::plan::{KINDS, Plan};
use super::stage::Stage;
use super::tap::Sabotage;
use super::wire::Wire;

/// Whether each call is printed.
pub static TRACE: AtomicBool = AtomicBool::new(false);

/// Virtual time that no call may take, stalls of all nodes one after the other included.
const CALL_LIMIT: Duration = Duration::from_secs(2);

/// What all threads of a run share.
struct Watch {
    sums: Conservation,
    writes: OwnWrites,
    waits: BoundedWaits,
    /// Under `ssp`.
    stale: Option<BoundedStaleness>,
}

struct Shared {
    plan: Plan,
    stage: Arc<Stage>,
    watch: Mutex<Watch>,
    wire: Arc<Wire>,
    past: Past,
    /// Each node, once it has made its table.
    nodes: Vec<OnceLock<(Arc<Node>, [Table; 2])>>,
}

/// Keys whose history is told.
const TOLD_KEYS: u64 = 3;

/// Runs a plan.
///
/// # Errors
/// What went wrong, with the plan that shows it again.
pub fn run(plan: &Plan) -> Result<u64, String> {
    let mut config = SimConfig::new(plan.nodes, plan.seed);
    if plan.narrow {
        config.ring_bytes = 2048;
        config.ring_records = 2;
        config.busy_per_mille = 100;
        config.lane_reads = 4;
    }
    config.device_reads = plan.device || plan.sabotage == Sabotage::ReusedSlot;
    let device = config.device_reads;
    let world = SimWorld::new(config);
    let wire = Wire::new(world.clone(), plan.nodes, device, CALL_LIMIT, plan.sabotage);
    let ranks: Vec<Rank> =
        (0..plan.nodes * plan.workers).map(|part| Rank::from_index(part % plan.nodes)).collect();
    let stage = Stage::new(world, Arc::clone(&wire), plan.seed, &ranks, plan.stalls_per_million);
    let total = plan.nodes * plan.workers;
    let shared = Shared {
        plan: plan.clone(),
        stage: Arc::clone(&stage),
        watch: Mutex::new(Watch {
            sums: Conservation::default(),
            writes: OwnWrites::new(total),
            waits: BoundedWaits::new(u64::try_from(CALL_LIMIT.as_nanos()).expect("seconds")),
            stale: match plan.policy {
                Policy::Ssp { staleness } => Some(BoundedStaleness::new(total, staleness.into())),
                _ => None,
            },
        }),
        wire,
        past: Past::new(TOLD_KEYS),
        nodes: (0..plan.nodes).map(|_| OnceLock::new()).collect(),
    };
    std::thread::scope(|scope| {
        for (part, &rank) in ranks.iter().enumerate() {
            let (shared, stage) = (&shared, &stage);
            scope.spawn(move || stage.play(part, || act(shared, part, rank)));
        }
    });
    if stage.fault().is_none() {
        stage.come_to_rest();
    }
    if stage.fault().is_none()
        && let Err(violation) = shared.past.check(promised(plan.policy, plan.waits, plan.workers))
    {
        stage.fail(violation.to_string());
    }
    let outcome = match stage.fault() {
        Some(fault) => Err(format!("{fault}\n  in {plan}")),
        None => Ok(stage.world().trace_digest()),
    };
    // Stage and nodes hold each other: taken apart here, or every run would stay in memory.
    (0..plan.nodes).for_each(|rank| drop(stage.leave(Rank::from_index(rank))));
    shared.wire.leave();
    outcome
}

/// What one thread does.
fn act(shared: &Shared, part: usize, rank: Rank) {
    let Shared { plan, stage, nodes, .. } = shared;
    let number = part / plan.nodes;
    if number == 0 {
        let config = NodeConfig {
            workers: plan.workers,
            seed: plan.seed,
            pin: false,
            policy: match plan.sabotage {
                Sabotage::NoBound => Policy::Replication,
                _ => plan.policy,
            },
            knobs: plan.knobs,
            ..NodeConfig::default()
        };
        let fabric = shared.wire.tap(rank);
        let node = Node::simulated(config, fabric, Arc::clone(stage) as _).expect("a node");
        let node = Arc::new(node);
        stage.enter(Arc::clone(&node));
        let hot = (0..plan.keys).filter(|key| key % 3 == 0);
        let spec = TableSpec::new("t", plan.keys, plan.nodes * plan.workers).hot(hot);
        let table = node.create_table(spec).expect("a table");
        let told = node.create_table(TableSpec::new("told", TOLD_KEYS, 1)).expect("a table");
        shared.wire.enter(&node, &table);
        let _ = nodes[rank.index()].set((node, [table, told]));
    }
    let (node, [table, told]) = loop {
        match nodes[rank.index()].get() {
            Some(made) => break made,
            None => sterna::Pace::pause(&**stage),
        }
    };
    let worker = node.worker(number).expect("a worker");
    let mut actor = Actor {
        shared,
        node: rank.index(),
        table: table.clone(),
        told: told.clone(),
        me: worker.global_index(),
        worker,
        open: Vec::new(),
    };
    for _ in 0..plan.calls {
        actor.call();
    }
    actor.end();
    let Actor { worker, .. } = actor;
    drop(worker);
    // Whoever ends first must not take its engine away from those who still need it.
    stage.world().advance_until(stage.world().now_ns());
}

/// A pull under way: its keys, and how many own additions each must show at least.
struct Begun {
    keys: Vec<u64>,
    own: Vec<u32>,
}

struct Actor<'s> {
    shared: &'s Shared,
    node: usize,
    table: Table,
    /// The table whose keys' history is told.
    told: Table,
    me: usize,
    worker: Worker,
    open: Vec<(Ticket, Option<Begun>)>,
}

impl Actor<'_> {
    fn draw(&self, limit: usize) -> usize {
        self.shared.stage.draw(limit)
    }

    fn watch(&self) -> MutexGuard<'_, Watch> {
        self.shared.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn row(&self, key: u64) -> RowId {
        RowId { table: TableId(0), key: Key(key) }
    }

    fn check(&self, found: Result<(), Violation>) {
        if let Err(violation) = found {
            self.shared.stage.fail(violation.to_string());
            panic!("{violation}");
        }
    }

    fn keys(&self) -> Vec<u64> {
        let count = 1 + self.draw(4);
        (0..count).map(|_| self.draw(64) as u64 % self.table.keys()).collect()
    }

    /// Does `work` and sees that it ends in time.
    fn timed<R>(&mut self, work: impl FnOnce(&mut Self) -> R) -> R {
        let row = RowId { table: TableId(0), key: Key(self.me as u64) };
        let begun = self.shared.stage.world().now_ns();
        self.watch().waits.begins(Rank(0), row, begun);
        let result = work(self);
        let ended = self.shared.stage.world().now_ns();
        let within = self.watch().waits.ends(Rank(0), row, ended);
        self.check(within);
        result
    }

    /// Tells of a call, when somebody follows a run.
    fn tell(&self, what: &str, keys: &[u64], values: &[f32]) {
        if TRACE.load(Ordering::Relaxed) {
            let now = self.shared.stage.world().now_ns();
            println!("{now:>10} ns: worker {} {what} {keys:?} {values:?}", self.me);
        }
    }

    fn call(&mut self) {
        // Others go on between calls, too.
        sterna::Pace::pause(&*self.shared.stage);
        match self.kind() {
            "add" => self.timed(Self::add),
            "pull" => self.timed(Self::pull),
            "add_async" => self.timed(Self::add_async),
            "pull_async" => self.timed(Self::pull_async),
            "end" => self.timed(Self::end_ticket),
            "snapshot" => self.timed(Self::snapshot),
            "localize" => self.timed(Self::localize),
            "intent" => self.timed(Self::intent),
            "flush" => {
                self.tell("flushes", &[], &[]);
                self.timed(|actor| actor.worker.flush().expect("no peer is lost"));
                self.shared.past.flushed(&self.worker);
            }
            "clock" => {
                self.tell("advances its clock", &[], &[]);
                self.timed(|actor| actor.worker.advance_clock().expect("rows are free"));
                let (me, clock) = (self.me, self.worker.clock());
                if let Some(stale) = &mut self.watch().stale {
                    stale.advances(me, clock);
                }
            }
            _ => self.timed(Self::act_told),
        }
    }

    /// What kind of call comes next.
    fn kind(&self) -> &'static str {
        let kinds =
            KINDS.iter().enumerate().filter(|(at, _)| self.shared.plan.kinds >> at & 1 == 1);
        let total = kinds.clone().map(|(_, (_, weight))| weight).sum();
        let mut drawn = self.draw(total);
        for (_, &(name, weight)) in kinds {
            match drawn.checked_sub(weight) {
                Some(rest) => drawn = rest,
                None => return name,
            }
        }
        unreachable!("a draw is below the sum of weights")
    }

    /// Something with a key whose history is told.
    fn act_told(&mut self) {
        let Plan { waits, workers, policy, .. } = self.shared.plan;
        let key = self.draw(TOLD_KEYS as usize) as u64;
        let orders = promised(policy, waits, workers) == Order::Linearizable;
        let deed = match self.draw(10) {
            0 => {
                let clock = self.worker.clock().0;
                self.tell("announces, told,", &[key], &[]);
                return self.worker.intent(&self.told, &[key], clock..clock + 2).expect("one");
            }
            1 => {
                self.tell("asks for, told,", &[key], &[]);
                let ticket = self.worker.localize(&self.told, &[key]).expect("a wish");
                return self.open.push((ticket, None));
            }
            2 if orders => Deed::Clear,
            3 => Deed::Snapshot,
            2..=5 => Deed::Pull,
            _ if waits => Deed::AddAndWait,
            _ => Deed::Add,
        };
        self.tell(&format!("does {deed:?}, told,"), &[key], &[]);
        let Self { shared, worker, told, node, .. } = self;
        shared.past.act(worker, *node, told, key, deed).expect("no peer is lost");
    }

    fn intent(&mut self) {
        let keys = self.keys();
        let now = self.worker.clock().0;
        let start = now + self.draw(3) as u64;
        let clocks = start..start + self.draw(4) as u64;
        self.tell(&format!("announces for {clocks:?}"), &keys, &[]);
        self.worker.intent(&self.table, &keys, clocks).expect("an intent");
    }

    fn localize(&mut self) {
        let keys = self.keys();
        self.tell("asks for", &keys, &[]);
        let ticket = self.worker.localize(&self.table, &keys).expect("a wish");
        self.open.push((ticket, None));
    }

    /// One for each distinct key, in this worker's column.
    fn additions(&mut self, keys: &[u64]) -> Vec<f32> {
        let dim = self.table.dim();
        self.tell("adds to", keys, &[]);
        let mut deltas = vec![0.0; keys.len() * dim];
        for (index, &key) in keys.iter().enumerate() {
            deltas[index * dim + self.me] = 1.0;
            let row = self.row(key);
            let mut watch = self.watch();
            watch.writes.pushes(self.me, row);
            watch.sums.added(row, &deltas[index * dim..(index + 1) * dim]);
            let me = self.me;
            if let Some(stale) = &mut watch.stale {
                stale.pushes(me, row);
            }
        }
        deltas
    }

    fn add(&mut self) {
        let keys = self.keys();
        let deltas = self.additions(&keys);
        self.worker.add(&self.table, &keys, &deltas).expect("add");
    }

    fn add_async(&mut self) {
        let keys = self.keys();
        let deltas = self.additions(&keys);
        let ticket = self.worker.add_async(&self.table, &keys, &deltas).expect("add");
        self.open.push((ticket, None));
    }

    fn pull(&mut self) {
        let keys = self.keys();
        let mut values = vec![f32::NAN; keys.len() * self.table.dim()];
        self.worker.pull(&self.table, &keys, &mut values).expect("pull");
        self.seen(&keys, &values);
    }

    fn seen(&self, keys: &[u64], values: &[f32]) {
        self.tell("sees", keys, values);
        for (index, value) in values.chunks_exact(self.table.dim()).enumerate() {
            let key = keys[index];
            if keys[..index].contains(&key) {
                // Between the places of one call there is no order.
                continue;
            }
            let mut watch = self.watch();
            let mut found = watch.writes.pulled(self.me, self.row(key), value);
            if let (Ok(()), Some(stale)) = (&found, &watch.stale) {
                found = stale.pulled(self.me, self.row(key), value);
            }
            drop(watch);
            self.check(found);
        }
    }

    /// Additions of this worker to a row so far.
    fn own(&self, key: u64) -> u32 {
        self.watch().writes.pushes_of(self.me, self.row(key))
    }

    fn pull_async(&mut self) {
        let keys = self.keys();
        self.tell("begins to pull", &keys, &[]);
        let ticket = self.worker.pull_async(&self.table, &keys).expect("pull");
        let own = keys.iter().map(|&key| self.own(key)).collect();
        self.open.push((ticket, Some(Begun { keys, own })));
    }

    fn end_ticket(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let at = self.draw(self.open.len());
        match self.open.swap_remove(at) {
            (ticket, None) => ticket.wait(&mut self.worker).expect("acks"),
            (ticket, Some(Begun { keys, own })) => {
                let mut values = vec![f32::NAN; keys.len() * self.table.dim()];
                ticket.wait_into(&mut self.worker, &mut values).expect("values");
                let dim = self.table.dim();
                for (index, least) in own.into_iter().enumerate() {
                    // Additions made since the call may or may not be in it.
                    let (shown, most) = (values[index * dim + self.me], self.own(keys[index]));
                    assert!(
                        (f64::from(least)..=f64::from(most)).contains(&f64::from(shown)),
                        "I8: worker {} began to pull key {} with {least} own additions, \
                         ends with {most}, and is shown {values:?}",
                        self.me,
                        keys[index]
                    );
                }
            }
        }
    }

    fn snapshot(&mut self) {
        let keys = self.keys();
        let mut values = vec![f32::NAN; keys.len() * self.table.dim()];
        self.worker.snapshot(&self.table, &keys, &mut values).expect("snapshot");
        self.seen(&keys, &values);
    }

    /// All updates come to rest; everybody sees the sums.
    fn end(&mut self) {
        while let Some((ticket, _)) = self.open.pop() {
            ticket.wait(&mut self.worker).expect("ends");
        }
        self.worker.barrier().expect("all come");
        let keys: Vec<u64> = (0..self.table.keys()).collect();
        let mut values = vec![f32::NAN; keys.len() * self.table.dim()];
        self.worker.pull(&self.table, &keys, &mut values).expect("pull");
        for (&key, value) in keys.iter().zip(values.chunks_exact(self.table.dim())) {
            let found = self.watch().sums.is(self.row(key), value);
            self.check(found);
        }
        let Plan { policy, waits, workers, .. } = self.shared.plan;
        if promised(policy, waits, workers) != Order::Linearizable {
            self.told_sums();
        }
        self.worker.barrier().expect("all come");
    }

    fn told_sums(&mut self) {
        for key in 0..TOLD_KEYS {
            let mut value = [f32::NAN];
            self.worker.pull(&self.told, &[key], &mut value).expect("pull");
            let (found, wanted) = (set_of(value[0]), self.shared.past.sum(key));
            if found != wanted {
                let what = format!("told key {key} is {found:#x} where {wanted:#x} was added");
                self.check(Err(Violation { invariant: "I2", what }));
            }
        }
    }
}
