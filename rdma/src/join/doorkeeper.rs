//! A thread that keeps a node's door once the job has met.
//!
//! It sleeps unless somebody connects. Peers can so open read lanes while this node's engine is
//! busy or not yet running, and no stranger ever takes time from the engine.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::Waker;

use super::door::{Admitted, Door};
use super::proof::{Purpose, Refusal};
use crate::error::FabricError;
use crate::wake::Wake;

/// Admitted connections that wait for the engine (I7).
const ARRIVALS_MAX: usize = 4096;

/// Limit for telling a caller the verdict; 40 bytes fit into an empty socket buffer.
const VERDICT_LIMIT: Duration = Duration::from_secs(1);

/// Takes the connections that it wants, in the door's thread, and gives the others back.
pub(crate) type Diversion = Box<dyn Fn(Admitted) -> Option<Admitted> + Send>;

/// Connections of peers that have proven themselves, for whoever uses them.
#[derive(Default)]
pub(crate) struct Arrivals {
    queue: Mutex<VecDeque<Admitted>>,
    waiting: AtomicUsize,
    arrived: Condvar,
    wake: Mutex<Option<Arc<Wake>>>,
    diversion: Mutex<Option<Diversion>>,
}

impl Arrivals {
    /// Wakes this as well when somebody arrives.
    pub(crate) fn notify(&self, wake: Arc<Wake>) {
        *self.wake.lock().unwrap_or_else(PoisonError::into_inner) = Some(wake);
    }

    /// Shows each new connection to this first.
    pub(crate) fn divert(&self, diversion: Diversion) {
        *self.diversion.lock().unwrap_or_else(PoisonError::into_inner) = Some(diversion);
    }

    /// Whether somebody waits; one load.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.load(Ordering::Acquire) == 0
    }

    /// The next one, if any.
    pub(crate) fn take(&self) -> Option<Admitted> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let next = queue.pop_front();
        self.waiting.store(queue.len(), Ordering::Release);
        next
    }

    /// The first one for this purpose; waits until `deadline`.
    pub(crate) fn wait(&self, purpose: Purpose, deadline: Instant) -> Option<Admitted> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(at) = queue.iter().position(|admitted| admitted.purpose() == purpose) {
                let found = queue.remove(at);
                self.waiting.store(queue.len(), Ordering::Release);
                return found;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            queue =
                self.arrived.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn put(&self, admitted: Admitted) {
        let diversion = self.diversion.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(admitted) = (match diversion.as_ref() {
            Some(diversion) => diversion(admitted),
            None => Some(admitted),
        }) else {
            return;
        };
        drop(diversion);
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.len() >= ARRIVALS_MAX {
            tracing::warn!(from = %admitted.node.rank, "dropped a connection: the engine does not run");
            return;
        }
        queue.push_back(admitted);
        self.waiting.store(queue.len(), Ordering::Release);
        drop(queue);
        self.arrived.notify_all();
        if let Some(wake) = self.wake.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            wake.wake();
        }
    }
}

/// Keeps a door until dropped.
pub(crate) struct Doorkeeper {
    arrivals: Arc<Arrivals>,
    stop: Arc<AtomicBool>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

impl Doorkeeper {
    pub(crate) fn start(mut door: Door) -> Result<Self, FabricError> {
        let failed = |error: std::io::Error| FabricError::Os {
            what: "starting the thread that accepts connections".to_owned(),
            reason: error.to_string(),
        };
        let waker = door.waker().map_err(failed)?;
        let arrivals = Arc::new(Arrivals::default());
        let stop = Arc::new(AtomicBool::new(false));
        let (for_thread, stopped) = (Arc::clone(&arrivals), Arc::clone(&stop));
        let thread = std::thread::Builder::new()
            .name("sterna-door".to_owned())
            .spawn(move || keep(&mut door, &for_thread, &stopped))
            .map_err(failed)?;
        Ok(Self { arrivals, stop, waker, thread: Some(thread) })
    }

    pub(crate) fn arrivals(&self) -> &Arc<Arrivals> {
        &self.arrivals
    }
}

impl Drop for Doorkeeper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        let _ = self.waker.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn keep(door: &mut Door, arrivals: &Arrivals, stop: &AtomicBool) {
    let key = door.key().clone();
    let mut admitted = Vec::new();
    while !stop.load(Ordering::Acquire) {
        if let Err(error) = door.step(None, &mut admitted) {
            tracing::error!(%error, "no connections are accepted any more");
            return;
        }
        for mut node in admitted.drain(..) {
            let late = node.purpose() == Purpose::Join;
            let refusal = late.then_some(Refusal::NotJoining);
            let answered = node.answer(&key, refusal, b"", VERDICT_LIMIT);
            if late {
                tracing::warn!(from = %node.node.rank, "refused a node that came after the start");
            } else if answered.is_ok() {
                arrivals.put(node);
            }
        }
    }
}
