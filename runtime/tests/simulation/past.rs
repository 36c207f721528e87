//! What workers did with a few keys, with the times of calls and returns, to be explained by an order.
//!
//! Each addition has a bit of its own, so a pull shows which of them are in it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use sterna::{Policy, Table, Worker};
use sterna_protocol::invariants::Violation;
use sterna_protocol::invariants::history::{Action, OPERATIONS_MAX, Operation, Order, UPDATES_MAX};

/// The histories of a table's keys.
pub struct Past {
    time: AtomicU64,
    keys: Vec<Mutex<Vec<Operation>>>,
}

/// What a worker does next with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    Pull,
    Snapshot,
    /// Adds; the update may travel later.
    Add,
    /// Adds and waits until that is in the main copy.
    AddAndWait,
    Clear,
}

impl Past {
    pub fn new(keys: u64) -> Self {
        Self { time: AtomicU64::new(1), keys: (0..keys).map(|_| Mutex::default()).collect() }
    }

    fn now(&self) -> u64 {
        self.time.fetch_add(1, Ordering::SeqCst)
    }

    fn of(&self, key: u64) -> MutexGuard<'_, Vec<Operation>> {
        let key = usize::try_from(key).expect("few keys");
        self.keys[key].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the call of an operation; nothing if the key's history is full.
    fn call(&self, worker: &Worker, node: usize, key: u64, deed: Deed) -> Option<(usize, u32)> {
        let mut history = self.of(key);
        let added = history.iter().filter(|it| matches!(it.action, Action::Add(_))).count();
        let adds = matches!(deed, Deed::Add | Deed::AddAndWait);
        if history.len() == OPERATIONS_MAX || (adds && added == UPDATES_MAX) {
            return None;
        }
        let bit = 1 << added.min(UPDATES_MAX - 1);
        let action = match deed {
            Deed::Pull | Deed::Snapshot => Action::Pull(0),
            Deed::Add | Deed::AddAndWait => Action::Add(bit),
            Deed::Clear => Action::Clear,
        };
        let (worker, called) = (worker.global_index(), self.now());
        let (returned, ended) = (u64::MAX, u64::MAX);
        history.push(Operation { worker, node, action, called, returned, ended });
        Some((history.len() - 1, bit))
    }

    /// Does something and notes it.
    #[allow(clippy::cast_precision_loss, reason = "a power of two below 2^24")]
    pub fn act(
        &self,
        worker: &mut Worker,
        node: usize,
        table: &Table,
        key: u64,
        deed: Deed,
    ) -> sterna::Result<()> {
        let Some((at, bit)) = self.call(worker, node, key, deed) else { return Ok(()) };
        let mut value = [0.0];
        match deed {
            Deed::Pull => worker.pull(table, &[key], &mut value)?,
            Deed::Snapshot => worker.snapshot(table, &[key], &mut value)?,
            Deed::Add => worker.add(table, &[key], &[bit as f32])?,
            Deed::AddAndWait => {
                let ticket = worker.add_async(table, &[key], &[bit as f32])?;
                self.of(key)[at].returned = self.now();
                ticket.wait(worker)?;
            }
            Deed::Clear => worker.set(table, &[key], &[0.0])?,
        }
        let now = self.now();
        let operation = &mut self.of(key)[at];
        operation.returned = operation.returned.min(now);
        if deed != Deed::Add {
            operation.ended = now;
        }
        if let Action::Pull(saw) = &mut operation.action {
            *saw = set_of(value[0]);
        }
        Ok(())
    }

    /// All that a worker did before is in the main copies now.
    pub fn flushed(&self, worker: &Worker) {
        let now = self.now();
        for key in &self.keys {
            let mut history = key.lock().unwrap_or_else(PoisonError::into_inner);
            let own = history.iter_mut().filter(|it| it.worker == worker.global_index());
            own.for_each(|it| it.ended = it.ended.min(now));
        }
    }

    /// The histories, explained.
    pub fn check(&self, order: Order) -> Result<(), Violation> {
        let keys = u64::try_from(self.keys.len()).expect("few");
        (0..keys).try_for_each(|key| order.check(&format!("key {key}"), &self.of(key)))
    }

    /// The sum of a key's additions, if nothing was set.
    pub fn sum(&self, key: u64) -> u32 {
        self.of(key).iter().fold(0, |sum, it| match it.action {
            Action::Add(bit) => sum | bit,
            _ => sum,
        })
    }
}

/// Which additions are in a value. Anything that is no sum of different ones shows as one that was never made.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked")]
pub fn set_of(value: f32) -> u32 {
    let whole = value.fract() == 0.0 && (0.0..16_777_216.0).contains(&value);
    if whole { value as u32 } else { 1 << 31 }
}

/// What is promised of the order of operations on a key that a policy never replicates, and of others.
pub fn promised(policy: Policy, waits: bool, workers: usize) -> Order {
    match policy {
        Policy::Classic | Policy::Relocation | Policy::Mixed if waits && workers == 1 => {
            Order::Linearizable
        }
        Policy::Classic | Policy::Relocation | Policy::Mixed if waits => Order::Forwarding,
        _ => Order::Session,
    }
}
