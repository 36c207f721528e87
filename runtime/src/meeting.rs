//! Where the workers of a node meet: barriers and sums.
//!
//! Workers arrive with a vector; the last one to arrive acts for the node (it may have to meet other nodes), then all leave
//! with the sum. A worker that is dropped, or a lost peer, breaks the meeting: all who wait get the reason instead of
//! waiting for ever.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, Result};
use crate::pace::Timing;

/// See the module.
#[derive(Debug)]
pub(crate) struct Meeting {
    workers: usize,
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
    pub(crate) fn new(workers: usize, timing: Timing) -> Self {
        Self { workers, timing, state: Mutex::default(), changed: Condvar::new() }
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
        while state.round == round {
            if let Some(error) = &state.broken {
                return Err(error.clone());
            }
            state = self.sleep(state);
        }
        // The next round cannot end, and replace the result, before this worker has arrived in it.
        values.copy_from_slice(&state.result);
        Ok(())
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

    fn sleep<'m>(&'m self, state: MutexGuard<'m, State>) -> MutexGuard<'m, State> {
        if let Timing::Simulated(pace) = &self.timing {
            drop(state);
            pace.pause();
            return self.lock();
        }
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic of a worker leaves plain numbers behind; the broken meeting tells the others.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_leave_with_the_sum_round_after_round() {
        let meeting = Meeting::new(3, Timing::real());
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
        let meeting = Meeting::new(2, Timing::real());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| meeting.meet(&mut [], |_| Ok(())));
            meeting.break_up(Error::WorkerLost("barrier"));
            assert!(matches!(waiting.join().expect("no panic"), Err(Error::WorkerLost(_))));
        });
        assert!(meeting.meet(&mut [], |_| Ok(())).is_err());
    }

    #[test]
    fn nobody_waits_for_a_worker_that_left() {
        let meeting = Meeting::new(2, Timing::real());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| meeting.meet(&mut [], |_| Ok(())));
            meeting.leave();
            assert!(matches!(waiting.join().expect("no panic"), Err(Error::WorkerLost(_))));
        });
    }
}
