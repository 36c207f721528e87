//! The training loop.
//!
//! Each worker of the job runs a [`Trainer`]: rounds of steps through the epoch's order, then a
//! meeting of all workers, at times a validation, a checkpoint. Workers do not wait for each other
//! between meetings. What they decide together (to stop, to stop early) follows from numbers that
//! all of them have, so none has to lead.

mod order;
mod rank;

use std::collections::BTreeMap;
use std::time::Instant;

use sterna::{Init, Node, Optimizer, Table, TableSpec, Worker};

use super::checkpoint::{Checkpoints, Found, History, Position as Place, Share};
use super::evaluate::Quality;
use super::filter::Filter;
use super::progress::{EpochEnd, Position, Progress};
use super::step::{Step, relation_rows};
use super::{Graph, KgeConfig, KgeError, Triple, export};
use crate::report::{REPORT_VERSION, Report};

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

/// This worker's share of the rows at the best validation so far, for early stopping.
struct Best {
    rows: Vec<(u64, Vec<f32>)>,
}

/// How a training ended.
struct Outcome {
    history: History,
    epochs: u32,
    stopped: bool,
    evaluate_seconds: f64,
    valid: Option<Quality>,
    test: Option<Quality>,
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
        let mut outcomes = threads.into_iter().map(|thread| match thread.join() {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        let first = outcomes.next().expect("a node has a worker");
        outcomes.fold(first, |first, next| first.and_then(|first| next.map(|_| first)))
    })?;
    Ok(report(node, graph, config, outcome))
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
                break;
            }
            let every = config.checkpoint_every;
            if every > 0 && self.place.epochs.is_multiple_of(every) {
                self.save()?;
            }
        }
        self.restore_best()?;
        let started = Instant::now();
        let test = self.rank(&self.run.graph.test)?;
        self.evaluate_seconds += started.elapsed().as_secs_f64();
        self.export()?;
        Ok(self.outcome(false, Some(test)))
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
        self.worker.advance_clock();
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

    fn validate(&mut self) -> Result<Quality, KgeError> {
        let started = Instant::now();
        let quality = self.rank(&self.run.valid)?;
        if quality.mrr > self.history.best_mrr {
            self.history.best_mrr = quality.mrr;
            self.history.worse = 0;
            self.keep_best()?;
        } else {
            self.history.worse += 1;
        }
        self.last_valid = Some(quality);
        self.evaluate_seconds += started.elapsed().as_secs_f64();
        Ok(quality)
    }

    fn out_of_patience(&self) -> bool {
        let patience = self.run.config.patience;
        patience > 0 && self.history.worse >= patience && self.place.epochs < self.run.config.epochs
    }

    /// Copies this worker's share of the rows, to come back to if it does not get better.
    fn keep_best(&mut self) -> Result<(), KgeError> {
        if self.run.config.patience == 0 {
            return Ok(());
        }
        let mut rows = self.best.take().map(|best| best.rows).unwrap_or_default();
        let mut at = 0;
        for (_, table) in self.run.tables() {
            for (_, range) in self.share.shards(table.keys(), table.row_len()) {
                let keys: Vec<u64> = range.collect();
                if at == rows.len() {
                    rows.push((keys[0], vec![0.0; keys.len() * table.dim()]));
                }
                self.worker.pull(table, &keys, &mut rows[at].1)?;
                at += 1;
            }
        }
        self.best = Some(Best { rows });
        // Nobody steps on while another still copies.
        self.worker.barrier()?;
        Ok(())
    }

    /// Puts the rows of the best validation back, if the last one was worse and they were kept.
    fn restore_best(&mut self) -> Result<(), KgeError> {
        if self.history.worse == 0 {
            return Ok(());
        }
        // A run that was resumed after its best validation has no copy of it: all workers alike.
        let Some(Best { rows }) = self.best.take() else { return Ok(()) };
        let mut kept = rows.into_iter();
        for (_, table) in self.run.tables() {
            for (_, range) in self.share.shards(table.keys(), table.row_len()) {
                let keys: Vec<u64> = range.collect();
                let (_, values) = kept.next().expect("one copy per shard");
                self.worker.set(table, &keys, &values)?;
            }
        }
        self.last_valid = None;
        self.note(|trainer| format!("took back the best model, {:.4}", trainer.history.best_mrr));
        Ok(())
    }

    /// Writes a checkpoint, if there is a folder for it.
    fn save(&mut self) -> Result<(), KgeError> {
        let run = self.run;
        let Some(checkpoints) = &run.checkpoints else { return Ok(()) };
        let leads = self.share.index == 0;
        let begun = if leads { checkpoints.begin() } else { Ok(()) };
        self.agree(begun)?;
        self.worker.barrier()?;
        let written = checkpoints.write_share(&mut self.worker, &run.tables(), self.share);
        self.agree(written)?;
        let published = if leads {
            checkpoints.publish(self.place, &self.history, &run.tables()).map(Some)
        } else {
            Ok(None)
        };
        let folder = self.agree(published)?;
        self.note(|_| folder.map_or_else(String::new, |f| format!("saved {}", f.display())));
        Ok(())
    }

    fn export(&mut self) -> Result<(), KgeError> {
        let run = self.run;
        let Some(folder) = &run.config.export else { return Ok(()) };
        let mut exported = Ok(());
        if self.share.index == 0 {
            for (table, names) in
                run.tables().into_iter().zip([&run.graph.entities, &run.graph.relations])
            {
                exported =
                    exported.and_then(|()| export::write(folder, &mut self.worker, table, names));
            }
        }
        self.agree(exported)?;
        self.note(|_| format!("embeddings are in {}", folder.display()));
        Ok(())
    }

    /// Lets all workers know whether this one failed; if any did, all do.
    fn agree<T>(&mut self, mine: Result<T, KgeError>) -> Result<T, KgeError> {
        let mut failed = [f64::from(u8::from(mine.is_err()))];
        self.worker.all_reduce_sum(&mut failed)?;
        match mine {
            Ok(_) if failed[0] > 0.0 => Err(KgeError::OtherWorker),
            mine => mine,
        }
    }

    fn tell_step(&mut self, started: Instant, first: usize, batch: usize, loss: f64) {
        let Some(progress) = &mut self.progress else { return };
        let count = self.order.len();
        let seconds = started.elapsed().as_secs_f64().max(1e-9);
        let round = batch * self.share.count;
        #[expect(clippy::cast_precision_loss, reason = "for people to read")]
        let triples_per_s = (self.place.triples - first) as f64 / seconds;
        let epochs_left = self.run.config.epochs - self.place.epochs - 1;
        #[expect(clippy::cast_precision_loss, reason = "for people to read")]
        let left = (count - self.place.triples) as f64 + f64::from(epochs_left) * count as f64;
        progress.step(&Position {
            epoch: self.place.epochs + 1,
            epochs: self.run.config.epochs,
            step: self.place.triples.div_ceil(round) as u64,
            steps: count.div_ceil(round) as u64,
            triples_per_s,
            loss,
            eta_s: left / triples_per_s,
        });
    }

    fn note(&mut self, text: impl FnOnce(&Self) -> String) {
        if self.progress.is_some() {
            let text = text(self);
            if let Some(progress) = &mut self.progress {
                progress.note(&text);
            }
        }
    }

    fn outcome(self, stopped: bool, test: Option<Quality>) -> Outcome {
        Outcome {
            history: self.history,
            epochs: self.place.epochs,
            stopped,
            evaluate_seconds: self.evaluate_seconds,
            valid: self.last_valid,
            test,
        }
    }
}

fn report(node: &Node, graph: &Graph, config: &KgeConfig, outcome: Outcome) -> Report {
    let mut quality = BTreeMap::new();
    for (prefix, found) in [("", outcome.test), ("valid_", outcome.valid)] {
        let Some(found) = found else { continue };
        let figures = [
            ("mrr", found.mrr),
            ("hits1", found.hits1),
            ("hits3", found.hits3),
            ("hits10", found.hits10),
        ];
        quality.extend(figures.map(|(name, figure)| (format!("{prefix}{name}"), figure)));
    }
    let measured = node.report();
    Report {
        version: REPORT_VERSION,
        task: "kge".into(),
        model: config.model.name().into(),
        dataset: graph.name.clone(),
        nodes: node.size(),
        workers: node.workers(),
        seed: config.seed,
        epochs: outcome.epochs,
        stopped: outcome.stopped,
        train_seconds: outcome.history.epoch_seconds.iter().sum(),
        epoch_seconds: outcome.history.epoch_seconds,
        evaluate_seconds: outcome.evaluate_seconds,
        quality,
        loss: outcome.history.loss,
        settings: config.to_json(),
        fabric: if node.size() == 1 { "none".into() } else { String::new() },
        policy: "classic".into(),
        paths: serde_json::to_value(measured.paths).unwrap_or_default(),
        bytes: serde_json::to_value(measured.bytes).unwrap_or_default(),
        cpu_seconds: serde_json::to_value(measured.cpu_seconds).unwrap_or_default(),
    }
}
