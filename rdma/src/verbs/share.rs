//! Read lanes within a budget of queue pairs: workers share those that there are when more would be too many.
//!
//! Devices keep the state of active queue pairs in caches, and slow down when it does not fit. A *hub* has one queue pair for each
//! peer and a completion queue; a lane is a seat at a hub. Each lane gets a hub of its own as long as the budget allows, then the
//! seats are spread over the hubs. Whoever takes completions of a hub keeps those of the other seats for them and wakes them.

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::completion::CompletionQueue;
use super::error::VerbsError;
use super::lane::VerbsLane;
use super::tuning::{LANE_READS, LANE_SPIN};
use crate::error::FabricError;
use crate::fabric::{Completion, Read, ReadData, ReadLane};
use crate::wake::Wake;

/// Queue pairs that a node may have in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PairBudget {
    pub(super) pairs: u64,
    /// Above it queue pairs cannot be had; otherwise they only become slow.
    pub(super) is_hard: bool,
}

impl PairBudget {
    /// What the user, the device and the caches of usual devices allow.
    pub(super) fn new(wish: Option<u32>, device_pairs: u64, advised: u64) -> Self {
        let most = wish.map_or(device_pairs, |wish| u64::from(wish).min(device_pairs));
        if wish.is_none() && advised < device_pairs {
            Self { pairs: advised, is_hard: false }
        } else {
            Self { pairs: most, is_hard: true }
        }
    }

    /// Hubs for lanes to `peers` peers: each has a queue pair to each peer, and each peer one of its own to here. At least one.
    ///
    /// # Errors
    /// [`VerbsError::Choice`] if not even one fits.
    pub(super) fn hubs(self, peers: usize, device: &str) -> Result<usize, VerbsError> {
        let peers = peers.max(1) as u64;
        if self.is_hard && 3 * peers > self.pairs {
            return Err(VerbsError::Choice(format!(
                "{peers} peers need three queue pairs each at least (a link, a read lane, and the peer's read lane), {} in all; \
                 {} may be used of {device}: raise STERNA_QUEUE_PAIRS if it is set, use fewer nodes per device, or \
                 --fabric tcp",
                3 * peers,
                self.pairs
            )));
        }
        let hubs = self.pairs.saturating_sub(peers) / (2 * peers);
        Ok(usize::try_from(hubs).unwrap_or(usize::MAX).max(1))
    }
}

/// Queue pairs to all peers, and who uses them.
pub(super) struct Hub {
    core: Mutex<Core>,
    completions: CompletionQueue,
}

struct Core {
    lane: VerbsLane,
    seats: Vec<Seat>,
    /// Seat and token of the READs under way, by the token that the lane knows.
    reads: Vec<(usize, u64)>,
    idle: Vec<usize>,
    /// Seats that are taken.
    taken: usize,
}

struct Seat {
    is_taken: bool,
    wake: Arc<Wake>,
    /// READs posted and not handed out.
    outstanding: usize,
    /// READs that another seat has taken in.
    done: VecDeque<Done>,
}

/// A READ that has ended, kept for its seat.
struct Done {
    token: u64,
    result: Result<([u64; 2], Vec<u8>), FabricError>,
}

impl Hub {
    pub(super) fn new(lane: VerbsLane, completions: CompletionQueue) -> Arc<Self> {
        let core = Core { lane, seats: Vec::new(), reads: Vec::new(), idle: Vec::new(), taken: 0 };
        Arc::new(Self { core: Mutex::new(core), completions })
    }

    fn core(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many lanes there are.
    pub(super) fn taken(&self) -> usize {
        self.core().taken
    }

    /// A lane more.
    pub(super) fn sit(self: &Arc<Self>) -> Result<Box<dyn ReadLane>, FabricError> {
        let wake = Arc::new(Wake::new()?);
        let seat =
            Seat { is_taken: true, wake: Arc::clone(&wake), outstanding: 0, done: VecDeque::new() };
        let mut core = self.core();
        core.taken += 1;
        // READs of who sat there before may still be under way.
        let free = core.seats.iter().position(|seat| !seat.is_taken && seat.outstanding == 0);
        let number = free.unwrap_or(core.seats.len());
        match free {
            Some(at) => core.seats[at] = seat,
            None => core.seats.push(seat),
        }
        Ok(Box::new(SharedLane { hub: Arc::clone(self), number, wake }))
    }
}

/// A worker's lane: a seat at a hub.
struct SharedLane {
    hub: Arc<Hub>,
    number: usize,
    wake: Arc<Wake>,
}

impl ReadLane for SharedLane {
    fn post(&mut self, read: Read) -> Result<(), FabricError> {
        let mut core = self.hub.core();
        let core = &mut *core;
        if core.seats[self.number].outstanding >= LANE_READS {
            return Err(FabricError::LaneFull { capacity: LANE_READS });
        }
        let at = core.idle.pop().unwrap_or_else(|| {
            core.reads.push((0, 0));
            core.reads.len() - 1
        });
        if let Err(error) = core.lane.post(Read { token: at as u64, ..read }) {
            core.idle.push(at);
            return Err(error);
        }
        core.reads[at] = (self.number, read.token);
        core.seats[self.number].outstanding += 1;
        Ok(())
    }

    fn submit(&mut self) -> Result<(), FabricError> {
        self.hub.core().lane.submit()
    }

    fn poll(&mut self, done: &mut dyn FnMut(Completion<'_>)) -> Result<usize, FabricError> {
        let mut guard = self.hub.core();
        let Core { lane, seats, reads, idle, taken } = &mut *guard;
        // Who shares may wait for this lock with a lock that `done` takes, so `done` is called without it then.
        let is_alone = *taken == 1;
        let mut handed = 0;
        let polled = lane.poll(&mut |completion: Completion<'_>| {
            let at = usize::try_from(completion.token).expect("a token of this hub");
            let (number, token) = reads[at];
            idle.push(at);
            if is_alone && number == self.number {
                handed += 1;
                return done(Completion { token, result: completion.result });
            }
            let seat = &mut seats[number];
            if !seat.is_taken {
                seat.outstanding -= 1;
                return;
            }
            let kept = completion.result.map(|data| (data.head_before, data.bytes.to_vec()));
            seat.done.push_back(Done { token, result: kept });
            if number != self.number {
                seat.wake.wake();
            }
        });
        let seat = &mut seats[self.number];
        let kept = std::mem::take(&mut seat.done);
        seat.outstanding -= handed + kept.len();
        drop(guard);
        handed += kept.len();
        for Done { token, result } in kept {
            let result = result
                .as_ref()
                .map(|(head_before, bytes)| ReadData { head_before: *head_before, bytes })
                .map_err(Clone::clone);
            done(Completion { token, result });
        }
        polled.map(|_| handed)
    }

    fn wait(&mut self, limit: Duration) -> Result<(), FabricError> {
        let start = Instant::now();
        loop {
            let mut core = self.hub.core();
            let spin = if core.lane.spins() { LANE_SPIN.min(limit) } else { Duration::ZERO };
            let seat = &core.seats[self.number];
            if seat.outstanding == 0 || !seat.done.is_empty() || core.lane.has_news()? {
                return Ok(());
            }
            if start.elapsed() >= spin {
                if core.lane.arm()? {
                    return Ok(());
                }
                break;
            }
            drop(core);
            std::hint::spin_loop();
        }
        // Woken by the device, or by another seat that has taken what was this one's.
        let left = limit.saturating_sub(start.elapsed());
        self.wake.sleep(Some(self.hub.completions.as_fd()), left)
    }

    fn outstanding(&self) -> usize {
        self.hub.core().seats[self.number].outstanding
    }

    fn capacity(&self) -> usize {
        LANE_READS
    }
}

impl Drop for SharedLane {
    fn drop(&mut self) {
        let mut core = self.hub.core();
        core.taken -= 1;
        let seat = &mut core.seats[self.number];
        seat.is_taken = false;
        seat.outstanding -= seat.done.len();
        seat.done.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hubs_are_as_many_as_the_budget_allows_and_one_in_any_case() {
        let advised = PairBudget::new(None, 1 << 16, 256);
        assert_eq!(advised, PairBudget { pairs: 256, is_hard: false });
        for (peers, hubs) in [(0, 127), (1, 127), (3, 42), (15, 8), (63, 1), (255, 1), (4000, 1)] {
            assert_eq!(advised.hubs(peers, "mlx5_0").expect("it only becomes slow"), hubs);
        }
    }

    #[test]
    fn more_peers_than_queue_pairs_are_refused_with_the_numbers() {
        for (wish, device) in [(Some(20), 1 << 16), (None, 20), (Some(99), 20)] {
            let budget = PairBudget::new(wish, device, 256);
            assert_eq!(budget, PairBudget { pairs: 20, is_hard: true });
            assert_eq!(budget.hubs(6, "mlx5_0").expect("18 are needed"), 1);
            let error = budget.hubs(7, "mlx5_0").expect_err("21 are needed").to_string();
            for part in ["7 peers", "21 in all", "20 may", "mlx5_0", "STERNA_QUEUE_PAIRS"] {
                assert!(error.contains(part), "{part}: {error}");
            }
        }
    }
}
