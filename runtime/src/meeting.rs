//! Where the workers of a node meet: barriers and sums.
//!
//! Workers arrive with a vector; the last one to arrive acts for the node (it may have to meet other nodes), then all leave
//! with the sum. A worker that is dropped, a lost peer, or one that does not come in time breaks the meeting: all who wait
//! get the reason instead of waiting for ever.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::config;
use crate::error::{Error, Result};
use crate::pace::Timing;

/// See the module.
#[derive(Debug)]
pub(crate) struct Meeting {
    workers: usize,
    limit: Duration,
    timing: Timing,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    round: u64,
    arrived: usize,
    /// Workers that are gone: no later round can be whole.
    left: usize,
    sum: Vec<f64>,
    result: Vec<f64>,
    broken: Option<Error>,
}

impl Meeting {
    pub(crate) fn new(workers: usize, limit: Duration, timing: Timing) -> Self {
        Self { workers, limit, timing, state: Mutex::default(), changed: Condvar::new() }
    }

    /// Adds `values` of all workers; the last to arrive hands the sum to `act` before all leave with what that made of it.
    ///
    /// # Errors
    /// Those of `act`, for all workers; or why the meeting is broken.
    pub(crate) fn meet(
        &self,
        values: &mut [f64],
        act: impl FnOnce(&mut [f64]) -> Result<()>,
    ) -> Result<()> {
        let mut state = self.lock();
        if let Some(error) = &state.broken {
            return Err(error.clone());
        }
        if state.left > 0 {
            return Err(self.fail(state, Error::WorkerLost("a meeting")));
        }
        if state.arrived == 0 {
            state.sum.clear();
            state.sum.resize(values.len(), 0.0);
        }
        if state.sum.len() != values.len() {
            let error = Error::Config("workers meet with vectors of different lengths".to_owned());
            return Err(self.fail(state, error));
        }
        for (sum, &value) in state.sum.iter_mut().zip(&*values) {
            *sum += value;
        }
        state.arrived += 1;
        if state.arrived == self.workers {
            let mut sum = std::mem::take(&mut state.sum);
            drop(state);
            let outcome = act(&mut sum);
            state = self.lock();
            if let Err(error) = outcome {
                return Err(self.fail(state, error));
            }
            values.copy_from_slice(&sum);
            state.result = sum;
            state.arrived = 0;
            state.round += 1;
            self.changed.notify_all();
            return Ok(());
        }
        let round = state.round;
        let deadline = self.timing.now() + self.limit;
        while state.round == round {
            if let Some(error) = &state.broken {
                return Err(error.clone());
            }
            let left = deadline.saturating_sub(self.timing.now());
            // Once all are here, the last one acts, and what it waits for has limits of its own.
            let all_here = state.arrived == self.workers;
            if left.is_zero() && !all_here {
                let error = self.late(state.arrived);
                return Err(self.fail(state, error));
            }
            state = self.sleep(state, if all_here { self.limit } else { left });
        }
        // The next round cannot end, and replace the result, before this worker has arrived in it.
        values.copy_from_slice(&state.result);
        Ok(())
    }

    /// An error if no meeting can be whole any more, because a peer or the engine is lost.
    pub(crate) fn check(&self) -> Result<()> {
        self.lock().broken.clone().map_or(Ok(()), Err)
    }

    /// A worker is gone. Who waits for it gets an error; that it left the rounds before in order is no fault.
    pub(crate) fn leave(&self) {
        let mut state = self.lock();
        state.left += 1;
        if state.arrived > 0 {
            self.fail(state, Error::WorkerLost("a meeting"));
        }
    }

    /// Ends this and all later rounds with `error`.
    pub(crate) fn break_up(&self, error: Error) {
        let state = self.lock();
        self.fail(state, error);
    }

    fn fail(&self, mut state: MutexGuard<'_, State>, error: Error) -> Error {
        let error = state.broken.get_or_insert(error).clone();
        self.changed.notify_all();
        error
    }

    fn late(&self, arrived: usize) -> Error {
        Error::Timeout {
            what: "a meeting of this node's workers".to_owned(),
            seconds: self.limit.as_secs(),
            waiting_for: format!("{} of {} workers", self.workers - arrived, self.workers),
            setting: config::MEETING_LIMIT,
        }
    }

    fn sleep<'m>(
        &'m self,
        state: MutexGuard<'m, State>,
        longest: Duration,
    ) -> MutexGuard<'m, State> {
        if let Timing::Simulated(pace) = &self.timing {
            drop(state);
            pace.pause();
            return self.lock();
        }
        self.changed.wait_timeout(state, longest).unwrap_or_else(PoisonError::into_inner).0
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic of a worker leaves plain numbers behind; the broken meeting tells the others.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    #[test]
    fn all_leave_with_the_sum_round_after_round() {
        let meeting = Meeting::new(3, LIMIT, Timing::real());
        std::thread::scope(|scope| {
            for worker in 0..3_u32 {
                let meeting = &meeting;
                scope.spawn(move || {
                    for round in 0..1000_u32 {
                        let mut values = [f64::from(worker), f64::from(round)];
                        meeting
                            .meet(&mut values, |sum| {
                                sum[0] += 100.0;
                                Ok(())
                            })
                            .expect("nobody leaves");
                        assert_eq!(values, [103.0, 3.0 * f64::from(round)]);
                    }
                });
            }
        });
    }

    #[test]
    fn a_broken_meeting_lets_nobody_wait() {
        let meeting = Meeting::new(2, LIMIT, Timing::real());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| meeting.meet(&mut [], |_| Ok(())));
            meeting.break_up(Error::WorkerLost("barrier"));
            assert!(matches!(waiting.join().expect("no panic"), Err(Error::WorkerLost(_))));
        });
        assert!(meeting.meet(&mut [], |_| Ok(())).is_err());
    }

    #[test]
    fn nobody_waits_for_a_worker_that_left() {
        let meeting = Meeting::new(2, LIMIT, Timing::real());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| meeting.meet(&mut [], |_| Ok(())));
            meeting.leave();
            assert!(matches!(waiting.join().expect("no panic"), Err(Error::WorkerLost(_))));
        });
    }

    #[test]
    fn who_waits_too_long_is_told_how_many_are_missing_and_what_sets_the_limit() {
        let meeting = Meeting::new(3, Duration::from_millis(20), Timing::real());
        std::thread::scope(|scope| {
            let waiting = [0, 1].map(|_| scope.spawn(|| meeting.meet(&mut [], |_| Ok(()))));
            for waiting in waiting {
                let error = waiting.join().expect("no panic").expect_err("one never comes");
                let said = error.to_string();
                assert!(said.contains("of 3 workers") && said.contains("meeting_limit"), "{said}");
            }
        });
        assert!(meeting.meet(&mut [], |_| Ok(())).is_err(), "the late one is told as well");
    }

    #[test]
    fn workers_wait_for_the_act_of_the_last_one_beyond_their_own_limit() {
        let mut limit = Duration::from_millis(20);
        loop {
            let meeting = Meeting::new(2, limit, Timing::real());
            let acts = AtomicBool::new(false);
            let act = |_: &mut [f64]| {
                acts.store(true, Ordering::SeqCst);
                std::thread::sleep(5 * limit);
                Ok(())
            };
            let both: Vec<Result<()>> = std::thread::scope(|scope| {
                let both = [0, 1].map(|_| scope.spawn(|| meeting.meet(&mut [], act)));
                both.map(|one| one.join().expect("no panic")).into()
            });
            // On a busy machine one may come when the other's limit is over: then nobody acts, and there is nothing to see yet.
            if acts.into_inner() {
                both.into_iter().for_each(|one| one.expect("nobody is missing"));
                return;
            }
            assert!(limit < LIMIT, "two threads do not come together");
            limit *= 2;
        }
    }
}
