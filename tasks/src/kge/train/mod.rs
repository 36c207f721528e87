//! The training loop.
//!
//! Each worker of the job runs a [`Trainer`]: rounds of steps through the epoch's order, then a
//! meeting of all workers, at times a validation, a checkpoint. Workers do not wait for each other
//! between meetings. What they decide together (to stop, to stop early) follows from numbers that
//! all of them have, so none has to lead.

mod best;
mod order;
mod rank;
mod save;
mod tell;

use std::time::Instant;

use sterna::{Init, Node, Optimizer, Table, TableSpec, Worker};

use super::checkpoint::{self, Checkpoints, Found, History, Position as Place, Share};
use super::evaluate::Quality;
use super::filter::Filter;
use super::progress::{EpochEnd, Progress};
use super::step::{Step, relation_rows};
use super::{Graph, KgeConfig, KgeError, Triple};
use crate::report::Report;
use best::Best;
use tell::Outcome;

/// What the workers of a node share.
struct Run<'a> {
    graph: &'a Graph,
    config: &'a KgeConfig,
    filter: Filter,
    entity: Table,
    relation: Table,
    valid: Vec<Triple>,
    checkpoints: Option<Checkpoints>,
    found: Option<Found>,
}

/// One worker's training.
struct Trainer<'a, 'p> {
    run: &'a Run<'a>,
    worker: Worker,
    share: Share,
    progress: Option<&'p mut dyn Progress>,
    step: Step,
    order: Vec<u32>,
    batch: Vec<Triple>,
    pool: Vec<u32>,
    place: Place,
    history: History,
    best: Option<Best>,
    evaluate_seconds: f64,
    last_valid: Option<Quality>,
}

/// Why the workers met.
struct Meeting {
    /// Sum of losses and number of queries since the last meeting.
    loss: f64,
    queries: f64,
    /// The furthest place in the epoch that any worker had reached, if the job is to stop.
    stop_at: Option<usize>,
}

/// Trains a model on all nodes of the job; every node calls it with the same graph and settings.
///
/// Returns when the training is over: after its epochs and the test, early for lack of progress,
/// or stopped by request, with a checkpoint if there is a folder for it.
///
/// # Errors
/// Settings that cannot work, files that cannot be read or written, a checkpoint of another
/// training, a loss that left the finite numbers, or an error of the parameter manager.
pub fn train(
    node: &Node,
    graph: &Graph,
    config: &KgeConfig,
    progress: &mut dyn Progress,
) -> Result<Report, KgeError> {
    config.check()?;
    let run = Run::prepare(node, graph, config)?;
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
            let share = Share { index: worker.global_index(), count: worker.global_count() };
            let trainer = Trainer::new(&run, worker, share, progress.take());
            let thread = std::thread::Builder::new().name(format!("worker-{index}"));
            let thread = thread
                .spawn_scoped(scope, move || trainer.train())
                .map_err(KgeError::io("start a thread for", std::path::Path::new("a worker")))?;
            threads.push(thread);
        }
        let outcomes = threads.into_iter().map(|thread| match thread.join() {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        outcomes.reduce(worse).expect("a node has a worker")
    })?;
    tell::report(node, graph, config, outcome)
}

/// Of two workers' results the one to tell: an error before none, its cause before its echo.
fn worse(
    one: Result<Outcome, KgeError>,
    other: Result<Outcome, KgeError>,
) -> Result<Outcome, KgeError> {
    match (&one, &other) {
        (Ok(_) | Err(KgeError::OtherWorker), Err(_)) => other,
        _ => one,
    }
}

impl<'a> Run<'a> {
    fn prepare(node: &Node, graph: &'a Graph, config: &'a KgeConfig) -> Result<Self, KgeError> {
        let row_len = config.model.row_len(config.dim);
        let relations = relation_rows(config, graph.relations.len());
        let table = |name, keys: usize| {
            let spec = TableSpec::new(name, keys as u64, row_len)
                .optimizer(Optimizer::adagrad(config.learning_rate))
                .init(Init::Normal { std: config.init_std });
            node.create_table(spec)
        };
        let (entity, relation) =
            (table("entity", graph.entities.len())?, table("relation", relations)?);
        let wanted = if config.valid_max == 0 { graph.valid.len() } else { config.valid_max };
        let stride = graph.valid.len().div_ceil(wanted.max(1)).max(1);
        let checkpoints =
            config.checkpoint.as_ref().map(|folder| Checkpoints::new(folder, graph, config));
        let found = match &checkpoints {
            Some(checkpoints) if config.resume => checkpoints.latest()?,
            _ => None,
        };
        let valid = graph.valid.iter().step_by(stride).copied().collect();
        let filter = Filter::new(graph);
        Ok(Self { graph, config, filter, entity, relation, valid, checkpoints, found })
    }

    fn tables(&self) -> [(&'static str, &Table); 2] {
        [("entity", &self.entity), ("relation", &self.relation)]
    }
}

impl<'a, 'p> Trainer<'a, 'p> {
    fn new(
        run: &'a Run<'a>,
        worker: Worker,
        share: Share,
        progress: Option<&'p mut dyn Progress>,
    ) -> Self {
        let (graph, config) = (run.graph, run.config);
        Self {
            run,
            worker,
            share,
            progress,
            step: Step::new(config, graph.entities.len(), graph.relations.len()),
            order: Vec::new(),
            batch: Vec::new(),
            pool: vec![0; config.negatives],
            place: run.found.as_ref().map(Found::position).unwrap_or_default(),
            history: run.found.as_ref().map(Found::history).unwrap_or_default(),
            best: None,
            evaluate_seconds: 0.0,
            last_valid: None,
        }
    }

    fn train(mut self) -> Result<Outcome, KgeError> {
        self.worker.pin_thread();
        self.compare()?;
        if let Some(found) = &self.run.found {
            let read = found.read_share(&mut self.worker, &self.run.tables(), self.share);
            self.agree(read)?;
        }
        self.worker.barrier()?;
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
        let started = Instant::now();
        let test = self.rank(&self.run.graph.test)?;
        self.evaluate_seconds += started.elapsed().as_secs_f64();
        self.export()?;
        Ok(self.outcome(false, Some(test)))
    }

    /// Makes sure that all workers are about to do the same.
    fn compare(&mut self) -> Result<(), KgeError> {
        let run = self.run;
        let mine = checkpoint::fingerprint(run.graph, run.config, self.place);
        let mut sum = [mine];
        self.worker.all_reduce_sum(&mut sum)?;
        #[expect(clippy::cast_precision_loss, reason = "workers are few")]
        let same = mine * self.share.count as f64;
        #[expect(clippy::float_cmp, reason = "integers below 2^53")]
        let agreed = sum[0] == same;
        if agreed { Ok(()) } else { Err(KgeError::Disagreement) }
    }

    /// Trains the rest of an epoch and validates it if one is due. Returns whether to stop.
    fn epoch(&mut self) -> Result<bool, KgeError> {
        let config = self.run.config;
        let epoch = self.place.epochs;
        order::of_epoch(&mut self.order, config.seed, epoch, self.run.graph.train.len());
        let started = Instant::now();
        let mut sums = (0.0, 0.0);
        let mut meeting = self.rounds(None, started, &mut sums)?;
        if let Some(furthest) = meeting.stop_at {
            // All go on to where the first of them was: what they did is then one whole part of
            // the epoch's order, and the checkpoint says all with one number.
            meeting = self.rounds(Some(furthest), started, &mut sums)?;
            if self.place.triples < self.order.len() {
                return Ok(true);
            }
            meeting.stop_at = Some(furthest);
        }
        let seconds = started.elapsed().as_secs_f64();
        let loss = sums.0 / sums.1.max(1.0);
        if !loss.is_finite() {
            let learning_rate = self.learning_rate();
            return Err(KgeError::Diverged { epoch: epoch + 1, loss, learning_rate });
        }
        self.place = Place { epochs: epoch + 1, triples: 0 };
        self.history.epoch_seconds.push(seconds);
        self.history.loss.push(loss);
        let stop = meeting.stop_at.is_some();
        let last = self.place.epochs == config.epochs;
        let due = config.valid_every > 0 && self.place.epochs.is_multiple_of(config.valid_every);
        let valid = if !stop && (due || last) { Some(self.validate()?) } else { None };
        let epochs = config.epochs;
        if let Some(progress) = &mut self.progress {
            progress.epoch(&EpochEnd { epoch: epoch + 1, epochs, loss, seconds, valid });
        }
        Ok(stop)
    }

    /// Runs rounds up to `until`, or up to the epoch's end or a request to stop; then meets.
    fn rounds(
        &mut self,
        until: Option<usize>,
        started: Instant,
        sums: &mut (f64, f64),
    ) -> Result<Meeting, KgeError> {
        let count = self.order.len();
        let batch = self.run.config.batch_for(self.share.count);
        let first = self.place.triples;
        let (mut loss, mut queries) = (0.0, 0.0);
        let mut stopped = false;
        while self.place.triples < until.unwrap_or(count) && !stopped {
            let (end, mine) = order::round(self.place.triples, count, batch, self.share);
            if !mine.is_empty() {
                #[expect(clippy::cast_precision_loss, reason = "a batch is small")]
                let added = 2.0 * mine.len() as f64;
                loss += self.one_step(mine)?;
                queries += added;
            }
            self.place.triples = end;
            self.tell_step(started, first, batch, loss / f64::max(queries, 1.0));
            // On the way to where another worker was, the request is known and being followed.
            stopped = until.is_none() && self.worker.stop_requested();
        }
        let meeting = self.meet(loss, queries, stopped)?;
        sums.0 += meeting.loss;
        sums.1 += meeting.queries;
        Ok(meeting)
    }

    /// Pulls the rows of these triples and a pool, computes and pushes their gradients.
    fn one_step(&mut self, mine: std::ops::Range<usize>) -> Result<f64, KgeError> {
        let (run, place) = (self.run, self.place);
        self.batch.clear();
        self.batch.extend(self.order[mine].iter().map(|&index| run.graph.train[index as usize]));
        let entities = u32::try_from(run.graph.entities.len()).expect("entities are u32");
        let at = (place.epochs, place.triples);
        order::draw_pool(&mut self.pool, entities, run.config.seed, at, self.share.index);
        self.step.plan(&self.batch, &self.pool);

        let (keys, rows) = self.step.entities.pull_into();
        self.worker.pull(&run.entity, keys, rows)?;
        let (keys, rows) = self.step.relations.pull_into();
        self.worker.pull(&run.relation, keys, rows)?;
        let loss = self.step.gradients();
        let learning_rate = self.learning_rate();
        for (table, rows) in
            [(&run.entity, &self.step.entities), (&run.relation, &self.step.relations)]
        {
            self.worker.set_learning_rate(table, learning_rate);
            let (keys, gradients) = rows.gradients();
            self.worker.push(table, keys, gradients)?;
        }
        self.worker.advance_clock()?;
        Ok(loss)
    }

    /// The learning rate at this place: from the start's, straight down to 0 at the end.
    fn learning_rate(&self) -> f32 {
        let config = self.run.config;
        #[expect(clippy::cast_precision_loss, reason = "a share of the way")]
        let in_epoch = self.place.triples as f64 / self.run.graph.train.len() as f64;
        let way = (f64::from(self.place.epochs) + in_epoch) / f64::from(config.epochs);
        #[expect(clippy::cast_possible_truncation, reason = "a learning rate needs no f64")]
        let learning_rate = (f64::from(config.learning_rate) * (1.0 - way)) as f32;
        learning_rate
    }

    /// Meets all workers of the job, to sum up losses and to learn whether any saw a request to
    /// stop. A worker comes here at the epoch's end or at the request, whichever it sees first.
    fn meet(&mut self, loss: f64, queries: f64, stopped: bool) -> Result<Meeting, KgeError> {
        let mut sums = vec![0.0; 3 + self.share.count];
        sums[..3].copy_from_slice(&[loss, queries, f64::from(u8::from(stopped))]);
        #[expect(clippy::cast_precision_loss, reason = "triples are far fewer than 2^52")]
        let place = self.place.triples as f64;
        sums[3 + self.share.index] = place;
        self.worker.all_reduce_sum(&mut sums)?;
        let furthest = sums[3..].iter().copied().fold(0.0, f64::max);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "it was a usize before"
        )]
        let stop_at = (sums[2] > 0.0).then_some(furthest as usize);
        Ok(Meeting { loss: sums[0], queries: sums[1], stop_at })
    }
}
