//! The training loop.
//!
//! Each worker of the job runs a [`Trainer`]: rounds of steps through a phase's order, then a
//! meeting of all workers, at times a validation, a checkpoint. Workers do not wait for each other
//! between meetings. What they decide together (to stop, to stop early) follows from numbers that
//! all of them have, so none has to lead.

use std::time::Instant;

use sterna::{Node, Table, Worker};

use super::ahead::Ahead;
use super::best::Best;
use super::checkpoint::{self, Checkpoints, Found, History, Place};
use super::progress::{EpochEnd, Progress};
use super::samples::{Prepared, Sources};
use super::tell::{self, Outcome};
use super::{
    Dealt, Description, Epoch, Loss, Moment, Parameters, Quality, RunConfig, Share, Split, Task,
    TaskError,
};
use crate::report::Report;

/// What the workers of a node share.
pub(super) struct Run<'a, T> {
    pub(super) task: &'a T,
    pub(super) config: &'a RunConfig,
    pub(super) about: Description,
    pub(super) tables: Vec<Table>,
    pub(super) checkpoints: Option<Checkpoints>,
    found: Option<Found>,
    fingerprint: f64,
    pub(super) nodes: usize,
}

/// One worker's training.
pub(super) struct Trainer<'a, 'p, T: Task> {
    pub(super) run: &'a Run<'a, T>,
    pub(super) worker: Worker,
    pub(super) share: Share,
    pub(super) progress: Option<&'p mut dyn Progress>,
    pub(super) state: T::State,
    pub(super) sources: Sources,
    pub(super) order: Vec<u32>,
    pub(super) ahead: Ahead<T::Batch>,
    pub(super) place: Place,
    pub(super) history: History,
    pub(super) best: Option<Best>,
    pub(super) evaluate_seconds: f64,
    pub(super) last_valid: Option<Quality>,
    /// Where this epoch began for this worker, and what it has seen since.
    pub(super) started: Instant,
    pub(super) seen: Seen,
}

/// Progress in an epoch as one worker sees it, in examples of the whole job.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    pub(super) at_start: usize,
    pub(super) now: usize,
    pub(super) loss: Loss,
}

/// Why the workers met.
struct Meeting {
    loss: Loss,
    /// The furthest place in the phase that any worker had reached, if the job is to stop.
    stop_at: Option<usize>,
}

/// Trains a task on all nodes of the job; every node calls it with the same task.
///
/// Returns when the training is over: after its epochs and the test, early for lack of progress,
/// or stopped by request, with a checkpoint if there is a folder for it.
///
/// # Errors
/// Settings that cannot work, files that cannot be read or written, a checkpoint
/// of another training, a loss that left the finite numbers, or an error of the parameter manager.
pub fn train<T: Task>(
    node: &Node,
    task: &T,
    progress: &mut dyn Progress,
) -> Result<Report, TaskError> {
    let run = Run::prepare(node, task)?;
    if let Some(found) = &run.found {
        progress.note(&format!("continuing from {}", found.folder().display()));
    }
    let mut progress = Some(progress);
    // All before the first starts: a worker that others wait for must exist.
    let workers: Vec<Worker> =
        (0..node.workers()).map(|index| node.worker(index)).collect::<Result<_, _>>()?;
    let outcome = std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for (index, worker) in workers.into_iter().enumerate() {
            let (run, progress) = (&run, progress.take());
            let thread = std::thread::Builder::new().name(format!("worker-{index}"));
            let thread = thread
                .spawn_scoped(scope, move || Trainer::new(run, worker, progress).train())
                .map_err(TaskError::io("start a thread for", std::path::Path::new("a worker")))?;
            threads.push(thread);
        }
        let outcomes = threads.into_iter().map(|thread| match thread.join() {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        outcomes.reduce(worse).expect("a node has a worker")
    })?;
    tell::report(node, &run, outcome)
}

/// Of two workers' results the one to tell: an error before none, its cause before its echo.
fn worse(
    one: Result<Outcome, TaskError>,
    other: Result<Outcome, TaskError>,
) -> Result<Outcome, TaskError> {
    match (&one, &other) {
        (Ok(_), Err(_)) => other,
        (Err(first), Err(second)) if is_echo(first) && !is_echo(second) => other,
        _ => one,
    }
}

/// Whether an error only says that another worker has one.
fn is_echo(error: &TaskError) -> bool {
    matches!(error, TaskError::OtherWorker | TaskError::Manager(sterna::Error::WorkerLost(_)))
}

impl<'a, T: Task> Run<'a, T> {
    fn prepare(node: &Node, task: &'a T) -> Result<Self, TaskError> {
        let config = task.run();
        config.check()?;
        task.check_job(node.size(), node.size() * node.workers())?;
        let identity = checkpoint::identity(task);
        let checkpoints =
            config.checkpoint.as_ref().map(|folder| Checkpoints::new(folder, identity.clone()));
        let found = match &checkpoints {
            Some(checkpoints) if config.resume => checkpoints.latest()?,
            _ => None,
        };
        let tables = task.tables().into_iter().map(|spec| node.create_table(spec));
        let tables = tables.collect::<Result<Vec<_>, _>>()?;
        let place = found.as_ref().map(Found::place).unwrap_or_default();
        let fingerprint = checkpoint::fingerprint(&identity, place);
        let about = task.describe();
        let nodes = node.size();
        Ok(Self { task, config, about, tables, checkpoints, found, fingerprint, nodes })
    }
}

impl<'a, 'p, T: Task> Trainer<'a, 'p, T> {
    fn new(run: &'a Run<'a, T>, worker: Worker, progress: Option<&'p mut dyn Progress>) -> Self {
        let share = Share { index: worker.global_index(), count: worker.global_count() };
        let mut worker = worker;
        worker.pin_thread();
        Self {
            run,
            worker,
            share,
            progress,
            state: run.task.state(share),
            sources: Sources::default(),
            order: Vec::new(),
            ahead: Ahead::default(),
            place: run.found.as_ref().map(Found::place).unwrap_or_default(),
            history: run.found.as_ref().map(Found::history).unwrap_or_default(),
            best: None,
            evaluate_seconds: 0.0,
            last_valid: None,
            started: Instant::now(),
            seen: Seen::default(),
        }
    }

    fn train(mut self) -> Result<Outcome, TaskError> {
        self.compare()?;
        let first = match &self.run.found {
            Some(found) => found.read_share(&mut self.worker, &self.run.tables, self.share),
            None => {
                let mut parameters = Parameters::new(&mut self.worker, &self.run.tables);
                self.run.task.start(&mut parameters, self.share)
            }
        };
        self.agree(first)?;
        self.worker.barrier()?;
        self.sources = Sources::new(self.run.task, &mut self.worker, &self.run.tables)?;
        let config = self.run.config;
        while self.place.epochs < config.epochs {
            if self.epoch()? {
                self.save()?;
                return Ok(self.outcome(true, None));
            }
            if self.out_of_patience() {
                self.note(|_| "no better validation: stopping early".into());
                self.restore_best()?;
                break;
            }
            let every = config.checkpoint_every;
            if every > 0 && self.place.epochs.is_multiple_of(every) {
                self.save()?;
            }
        }
        if config.keep_best {
            self.restore_best()?;
        }
        let test = if self.run.task.has(Split::Test) {
            let started = Instant::now();
            let test = self.evaluate(Split::Test)?;
            self.evaluate_seconds += started.elapsed().as_secs_f64();
            Some(test)
        } else {
            None
        };
        self.export()?;
        Ok(self.outcome(false, test))
    }

    /// Makes sure that all workers are about to do the same.
    fn compare(&mut self) -> Result<(), TaskError> {
        let mine = self.run.fingerprint;
        let mut sum = [mine];
        self.worker.all_reduce_sum(&mut sum)?;
        #[expect(clippy::cast_precision_loss, reason = "workers are few")]
        let same = mine * self.share.count as f64;
        #[expect(clippy::float_cmp, reason = "integers below 2^53")]
        let agreed = sum[0] == same;
        if agreed { Ok(()) } else { Err(TaskError::Disagreement) }
    }

    /// Trains the rest of an epoch and validates it if one is due. Returns whether to stop.
    fn epoch(&mut self) -> Result<bool, TaskError> {
        let (config, number) = (self.run.config, self.place.epochs);
        let phases = self.run.task.phases().max(1);
        self.started = Instant::now();
        let before = self.run.task.examples() * self.place.phases as usize / phases as usize;
        let at_start = before + self.place.examples;
        self.seen = Seen { at_start, now: at_start, loss: Loss::default() };
        let mut loss = Loss::default();
        let mut stop = false;
        while self.place.phases < phases {
            let unfinished;
            (stop, unfinished) = self.phase(&mut loss)?;
            if unfinished {
                return Ok(true);
            }
            self.place.phases += 1;
            self.place.examples = 0;
            if stop && self.place.phases < phases {
                return Ok(true);
            }
        }
        let seconds = self.started.elapsed().as_secs_f64();
        let loss = loss.mean();
        if !loss.is_finite() {
            return Err(TaskError::Diverged { epoch: number + 1, loss });
        }
        self.place = Place { epochs: number + 1, phases: 0, examples: 0 };
        self.history.epoch_seconds.push(seconds);
        self.history.loss.push(loss);
        let last = self.place.epochs == config.epochs;
        let valid = !stop
            && (config.validates(self.place.epochs) || last)
            && self.run.task.has(Split::Valid);
        let valid = if valid { Some(self.validate()?) } else { None };
        if let Some(progress) = &mut self.progress {
            let (epoch, epochs) = (number + 1, config.epochs);
            progress.epoch(&EpochEnd { epoch, epochs, loss, seconds, valid });
        }
        Ok(stop)
    }

    /// Trains the rest of a phase. Returns whether to stop, and whether the phase is unfinished.
    fn phase(&mut self, loss: &mut Loss) -> Result<(bool, bool), TaskError> {
        let dealt = self.begin_phase();
        let meeting = self.rounds(dealt, None)?;
        loss.merge(meeting.loss);
        let Some(furthest) = meeting.stop_at else { return Ok((false, false)) };
        self.ahead.forget();
        if dealt == Dealt::Shared {
            // All go on to where the first of them was: what they did is then one whole part of
            // the phase's order, and the checkpoint says all with one number.
            let meeting = self.rounds(dealt, Some(furthest))?;
            loss.merge(meeting.loss);
        }
        Ok((true, self.place.examples < self.order.len()))
    }

    /// Runs rounds up to `until`, or up to the phase's end or a request to stop; then meets.
    fn rounds(&mut self, dealt: Dealt, until: Option<usize>) -> Result<Meeting, TaskError> {
        let count = self.order.len();
        let batch = self.run.task.batch_len(self.share.count).max(1);
        let workers = self.share.count;
        let mut loss = Loss::default();
        let mut stopped = false;
        while self.place.examples < until.unwrap_or(count) && !stopped {
            self.draw(dealt, batch)?;
            let next = self.ahead.pop().expect("one is drawn");
            if let Some((mut batch, mut prepared)) = next.batch {
                loss.merge(self.one_step(&mut batch, &mut prepared)?);
                self.ahead.done(batch);
            }
            self.place.examples = next.end;
            let done = next.end - next.first;
            self.seen.now += if dealt == Dealt::Shared { done } else { done * workers };
            self.seen.loss = loss;
            self.tell_step();
            if self.run.task.synchronous() && dealt == Dealt::Shared {
                // Everybody sees the request at the same round, or at the same later one.
                let mut stops = [f64::from(u8::from(self.worker.stop_requested()))];
                self.worker.all_reduce_sum(&mut stops)?;
                stopped = until.is_none() && stops[0] > 0.0;
            } else {
                // On the way to where another worker was, the request is known and being followed;
                // a list of one's own is followed to its end.
                stopped = until.is_none() && dealt == Dealt::Shared && self.worker.stop_requested();
            }
        }
        stopped |= until.is_none() && self.worker.stop_requested();
        self.meet(loss, stopped)
    }

    /// Trains on one batch.
    fn one_step(
        &mut self,
        batch: &mut T::Batch,
        prepared: &mut Prepared,
    ) -> Result<Loss, TaskError> {
        let moment = self.moment();
        let parameters = Parameters::new(&mut self.worker, &self.run.tables);
        let mut parameters = parameters.choosing(self.sources.choices(prepared));
        let loss = self.run.task.step(&mut self.state, batch, moment, &mut parameters)?;
        self.worker.advance_clock()?;
        Ok(loss)
    }

    pub(super) fn epoch_now(&self) -> Epoch {
        let (number, phase) = (self.place.epochs, self.place.phases);
        Epoch { number, phase, seed: self.run.config.seed, share: self.share }
    }

    fn moment(&self) -> Moment {
        #[expect(clippy::cast_precision_loss, reason = "a share of the way")]
        let in_epoch = self.seen.now as f64 / self.run.task.examples().max(1) as f64;
        let (epoch, epochs) = (self.place.epochs, self.run.config.epochs);
        let progress = (f64::from(epoch) + in_epoch.min(1.0)) / f64::from(epochs);
        Moment { epoch, progress }
    }

    /// Meets all workers of the job, to sum up losses and to learn whether any saw a request to
    /// stop. A worker comes here at the phase's end or at the request, whichever it sees first.
    fn meet(&mut self, loss: Loss, stopped: bool) -> Result<Meeting, TaskError> {
        let mut sums = vec![0.0; 3 + self.share.count];
        sums[..3].copy_from_slice(&[loss.sum, loss.count, f64::from(u8::from(stopped))]);
        #[expect(clippy::cast_precision_loss, reason = "examples are far fewer than 2^52")]
        let place = self.place.examples as f64;
        sums[3 + self.share.index] = place;
        self.worker.all_reduce_sum(&mut sums)?;
        let furthest = sums[3..].iter().copied().fold(0.0, f64::max);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it was a usize before"
        )]
        let stop_at = (sums[2] > 0.0).then_some(furthest as usize);
        Ok(Meeting { loss: Loss { sum: sums[0], count: sums[1] }, stop_at })
    }
}

#[cfg(test)]
mod tests {
    use super::{TaskError, worse};

    #[test]
    fn of_two_errors_the_cause_is_told_and_not_its_echo() {
        let cause = || Err(TaskError::Diverged { epoch: 3, loss: f64::NAN });
        let echoes = [
            || TaskError::OtherWorker,
            || TaskError::Manager(sterna::Error::WorkerLost("a meeting")),
        ];
        for echo in echoes {
            for told in [worse(Err(echo()), cause()), worse(cause(), Err(echo()))] {
                assert!(matches!(told, Err(TaskError::Diverged { epoch: 3, .. })));
            }
        }
    }
}
