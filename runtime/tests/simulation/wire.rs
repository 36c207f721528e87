//! What goes over the wire of a simulated job, for the checkers: every node's fabric is wrapped, so that each record is seen when
//! it is taken by a link and when its receiver has acted on it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use sterna::{Node, Table};
use sterna_protocol::MetaWord;
use sterna_protocol::ids::{Key, RowId, TableId};
use sterna_protocol::invariants::{
    BoundedWaits, ExactlyOnce, Owners, Passing, SlotKeys, View, Violation,
};
use sterna_protocol::record::{Arena, Record};
use sterna_rdma::sim::{ReadUnderWay, SimWorld};
use sterna_rdma::{Fabric, Rank, RegionId};

use super::tap::{Sabotage, Tapped};

struct Checks {
    owners: Owners,
    passing: Passing,
    once: ExactlyOnce,
    waits: BoundedWaits,
    slots: SlotKeys,
    /// The keys of requests that have not been answered, by source and number.
    requests: HashMap<(Rank, u32), Vec<RowId>>,
    /// Regions with rows.
    rows: HashSet<(Rank, RegionId)>,
    fault: Option<Violation>,
}

/// A node that has made its table.
type Known = (Weak<Node>, Table);

/// All that the checkers see of a job.
pub struct Wire {
    pub(super) world: SimWorld,
    pub(super) device: bool,
    pub(super) sabotage: Sabotage,
    checks: Mutex<Checks>,
    /// Each node, once it has made its table, until the job is over.
    nodes: Mutex<Vec<Option<Known>>>,
}

impl Wire {
    /// For a job whose READs are those of devices, or not, and whose waits have a limit.
    pub fn new(
        world: SimWorld,
        nodes: usize,
        device: bool,
        limit: Duration,
        sabotage: Sabotage,
    ) -> Arc<Self> {
        let limit_ns = u64::try_from(limit.as_nanos()).expect("seconds");
        Arc::new(Self {
            world,
            device,
            sabotage,
            checks: Mutex::new(Checks {
                owners: Owners::default(),
                passing: Passing::default(),
                once: ExactlyOnce::default(),
                waits: BoundedWaits::new(limit_ns),
                slots: SlotKeys::default(),
                requests: HashMap::new(),
                rows: HashSet::new(),
                fault: None,
            }),
            nodes: Mutex::new(vec![None; nodes]),
        })
    }

    /// A node's fabric, seen by this.
    pub fn tap(self: &Arc<Self>, rank: Rank) -> Arc<dyn Fabric> {
        Arc::new(Tapped { inner: self.world.fabric(rank), wire: Arc::clone(self) })
    }

    /// A node has made its table; once all have, their rows are looked at.
    pub fn enter(&self, node: &Arc<Node>, table: &Table) {
        let mut checks = self.checks();
        for key in 0..table.keys() {
            checks.owners.starts(row(0, key), table.home(key));
        }
        drop(checks);
        self.known()[node.rank().index()] = Some((Arc::downgrade(node), table.clone()));
    }

    /// The job is over. Tables hold fabrics, and fabrics this: taken apart here, or every run would stay in memory.
    pub fn leave(&self) {
        self.known().fill(None);
    }

    fn known(&self) -> MutexGuard<'_, Vec<Option<Known>>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All nodes with their tables, if all have made one.
    fn nodes(&self) -> Option<Vec<(Arc<Node>, Table)>> {
        let known = self.known();
        let whole = known.iter().map(|node| {
            let (node, table) = node.as_ref()?;
            Some((node.upgrade()?, table.clone()))
        });
        whole.collect()
    }

    /// By how much limits are taken to be smaller than they are.
    pub fn limits_divided_by(&self) -> usize {
        if self.sabotage == Sabotage::Hoard { usize::MAX } else { 1 }
    }

    /// What was seen that must not be.
    pub fn fault(&self) -> Option<String> {
        self.checks().fault.as_ref().map(ToString::to_string)
    }

    fn checks(&self) -> MutexGuard<'_, Checks> {
        self.checks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, found: Result<(), Violation>) {
        if let Err(violation) = found {
            self.checks().fault.get_or_insert(violation);
        }
    }

    /// The job is over and nothing is on its way: all that was applied was acked, and every row has one owner.
    pub fn at_rest(&self) {
        let mut found = self.checks().once.end();
        let Some(nodes) = self.nodes() else { return };
        for (rank, (node, table)) in nodes.iter().enumerate() {
            let keys = 0..table.keys();
            let open = keys.clone().find(|&key| {
                let held = node.inspect(table, key);
                held.open || held.updates
            });
            if let Some(key) = open {
                let what =
                    format!("{} still has something open for key {key}", Rank::from_index(rank));
                found = found.and(Err(Violation { invariant: "I6", what }));
            }
            keys.for_each(|key| self.found(row(0, key)));
        }
        self.note(found);
    }

    /// Looks at waits that have not ended.
    pub fn look(&self) {
        let now_ns = self.world.now_ns();
        let found = self.checks().waits.check(now_ns);
        self.note(found);
    }

    /// I1, for one row at this moment.
    fn found(&self, row: RowId) {
        let Some(nodes) = self.nodes().filter(|_| row.table == TableId(0)) else { return };
        let views: Vec<View> = nodes
            .iter()
            .map(|(node, table)| {
                let found = node.inspect(table, row.key.0);
                View { live: found.live, points: found.points, directory: found.directory }
            })
            .collect();
        let home = nodes[0].1.home(row.key.0);
        let found = self.checks().owners.found(row, home, &views);
        self.note(found);
    }

    /// I3, for all READs that are under way to a row that was there when they were posted. One that was posted later, because its
    /// node had not heard of the move, is shown a header that says so, or that of another row.
    fn look_at_reads(&self) {
        if !self.device {
            return;
        }
        let mut checks = self.checks();
        let reads = self.world.reads_under_way();
        let mut found = Ok(());
        for &ReadUnderWay { number, read, posted, now } in &reads {
            let was_there = MetaWord(posted[1]).state().owns();
            if checks.rows.contains(&(read.peer, read.region)) && was_there && found.is_ok() {
                found = checks.slots.looks_at(number, Key(posted[0]));
                found = found.and_then(|()| checks.slots.looks_at(number, Key(now[0])));
            }
        }
        let numbers: Vec<u64> = reads.iter().map(|read| read.number).collect();
        checks.slots.under_way(&numbers);
        drop(checks);
        self.note(found);
    }

    /// A link has taken a record.
    pub(super) fn sent(&self, from: Rank, to: Rank, record: &[u8]) {
        let Ok(decoded) = Record::decode(record) else { return };
        let now_ns = self.world.now_ns();
        let mut found = Ok(());
        let mut keep = |this: Result<(), Violation>| {
            if found.is_ok() {
                found = this;
            }
        };
        let mut moved = Vec::new();
        let mut checks = self.checks();
        match decoded {
            Record::Update(updates) | Record::Release(updates) | Record::Set(updates, _) => {
                let rows = updates.iter().map(|it| row(updates.table.0, it.key.0)).collect();
                checks.requests.insert((from, updates.number), rows);
            }
            Record::Answer(answer) => {
                let rows = checks.requests.get(&(to, answer.number)).cloned().unwrap_or_default();
                for (&row, nack) in rows.iter().zip(answer.iter()) {
                    if nack.is_none() {
                        keep(checks.once.applied(to, answer.number, row, from));
                    }
                }
            }
            Record::Acquire(acquires) => {
                for it in acquires.iter() {
                    let row = row(acquires.table.0, it.key.0);
                    let (requester, number) = (it.requester, acquires.number);
                    keep(checks.passing.passes(requester, number, row, from, it.epoch));
                    if from == requester {
                        checks.waits.begins(requester, row, now_ns);
                    }
                }
            }
            Record::GrantMove(grants) => {
                for grant in grants.iter() {
                    let row = row(grants.table.0, grant.key.0);
                    keep(checks.owners.granted(row, from, to, grant.epoch));
                    moved.push(row);
                }
            }
            Record::GrantShare(grants) => {
                for grant in grants.iter() {
                    let row = row(grants.table.0, grant.key.0);
                    keep(checks.owners.serves(row, from, grant.epoch));
                }
            }
            Record::Chunk(chunk) if chunk.arena == Arena::Rows => {
                checks.rows.insert((from, chunk.token.id));
            }
            _ => {}
        }
        drop(checks);
        self.note(found);
        moved.into_iter().for_each(|row| self.found(row));
    }

    /// A record's receiver has acted on it.
    pub(super) fn delivered(&self, to: Rank, record: &[u8]) {
        let Ok(decoded) = Record::decode(record) else { return };
        let now_ns = self.world.now_ns();
        let mut found = Ok(());
        let mut answered = |number: u32, row: RowId| {
            let mut checks = self.checks();
            checks.passing.answered(to, number, row);
            let ended = checks.waits.ends(to, row, now_ns);
            if found.is_ok() {
                found = ended;
            }
        };
        let mut moved = Vec::new();
        match decoded {
            Record::GrantMove(grants) | Record::GrantShare(grants) => {
                for grant in grants.iter() {
                    moved.push(row(grants.table.0, grant.key.0));
                    answered(grants.number, row(grants.table.0, grant.key.0));
                }
            }
            Record::Refuse(refusals) => {
                let table = refusals.table.0;
                refusals.iter().for_each(|it| answered(refusals.number, row(table, it.key.0)));
            }
            Record::Location(told) => {
                moved.extend(told.iter().map(|it| row(told.table.0, it.key.0)));
            }
            Record::Answer(answer) => {
                let mut checks = self.checks();
                let rows = checks.requests.remove(&(to, answer.number)).unwrap_or_default();
                for (row, nack) in rows.into_iter().zip(answer.iter()) {
                    if nack.is_none() && found.is_ok() {
                        found = checks.once.acked(to, answer.number, row);
                    }
                }
            }
            _ => {}
        }
        self.note(found);
        moved.into_iter().for_each(|row| self.found(row));
        self.look_at_reads();
    }
}

fn row(table: u16, key: u64) -> RowId {
    RowId { table: TableId(table), key: Key(key) }
}
