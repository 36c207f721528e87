//! Batches that are drawn ahead of their steps, and what they announce.
//!
//! Drawing goes on behind the end of a phase, into the next one: what its first steps use comes while workers meet and evaluate.

use std::collections::VecDeque;
use std::ops::Range;

use super::samples::Prepared;
use super::train::Trainer;
use super::{Dealt, Epoch, Part, Split, Task, TaskError, order};

/// A batch that was drawn: what it is, and where the epoch stands once it is done.
pub(super) struct Drawn<B> {
    /// None if this worker has no part in the round.
    pub(super) batch: Option<(B, Prepared)>,
    pub(super) first: usize,
    pub(super) end: usize,
    /// Whether it is of the phase behind the one under way.
    beyond: bool,
}

/// See the module.
pub(super) struct Ahead<B> {
    /// Batches that are drawn, the next one first.
    drawn: VecDeque<Drawn<B>>,
    /// Batches that are done, to be drawn again.
    used: Vec<B>,
    /// Of the batch that is announced, by table.
    keys: Vec<Vec<u64>>,
    /// The phase behind the one under way, if something was drawn from it.
    behind: Option<Behind>,
}

struct Behind {
    epoch: Epoch,
    dealt: Dealt,
    order: Vec<u32>,
}

impl<B> Default for Ahead<B> {
    fn default() -> Self {
        let (drawn, used, keys) = (VecDeque::new(), Vec::new(), Vec::new());
        Self { drawn, used, keys, behind: None }
    }
}

impl<B> Ahead<B> {
    /// The batch of the next step.
    pub(super) fn pop(&mut self) -> Option<Drawn<B>> {
        self.drawn.pop_front()
    }

    /// A step is over.
    pub(super) fn done(&mut self, batch: B) {
        self.used.push(batch);
    }

    /// What is drawn will not be trained on now.
    pub(super) fn forget(&mut self) {
        let batches = self.drawn.drain(..).filter_map(|drawn| drawn.batch);
        self.used.extend(batches.map(|(batch, _)| batch));
        self.behind = None;
    }
}

impl<T: Task> Trainer<'_, '_, T> {
    /// Makes the order of the phase that begins, or takes the one that was drawn from already.
    pub(super) fn begin_phase(&mut self) -> Dealt {
        let epoch = self.epoch_now();
        if let Some(behind) = self.ahead.behind.take_if(|behind| behind.epoch == epoch) {
            self.ahead.drawn.iter_mut().for_each(|drawn| drawn.beyond = false);
            self.order = behind.order;
            return behind.dealt;
        }
        self.ahead.forget();
        self.run.task.order(&epoch, &mut self.order)
    }

    fn ends_epoch(&self) -> bool {
        self.place.phases + 1 >= self.run.task.phases()
    }

    /// Makes the order of the phase behind the one under way; nothing if that is the last.
    fn look_behind(&mut self) -> Option<Behind> {
        let now = self.epoch_now();
        let epoch = if self.ends_epoch() {
            Epoch { number: now.number + 1, phase: 0, ..now }
        } else {
            Epoch { phase: now.phase + 1, ..now }
        };
        if epoch.number >= self.run.config.epochs {
            return None;
        }
        let mut order = Vec::new();
        let dealt = self.run.task.order(&epoch, &mut order);
        Some(Behind { epoch, dealt, order })
    }

    /// Draws batches until enough are waiting behind the next one, and announces their keys for the clocks of their steps.
    pub(super) fn draw(&mut self, dealt: Dealt, batch_len: usize) -> Result<(), TaskError> {
        while self.ahead.drawn.len() <= self.run.config.ahead {
            let last = self.ahead.drawn.back().map(|drawn| (drawn.beyond, drawn.end));
            let (mut beyond, mut first) = last.unwrap_or((false, self.place.examples));
            if !beyond && first >= self.order.len() {
                (beyond, first) = (true, 0);
                self.ahead.behind = self.look_behind();
            }
            let (epoch, dealt, order) = match &self.ahead.behind {
                _ if !beyond => (self.epoch_now(), dealt, &self.order),
                Some(behind) => (behind.epoch, behind.dealt, &behind.order),
                None => return Ok(()),
            };
            let count = order.len();
            if first >= count {
                return Ok(());
            }
            let (end, mine) = match dealt {
                Dealt::Shared => order::round(first, count, batch_len, self.share),
                Dealt::Own => {
                    let end = count.min(first + batch_len);
                    (end, first..end)
                }
            };
            let batch = if mine.is_empty() {
                None
            } else {
                let mut batch = self.ahead.used.pop().unwrap_or_default();
                let part = Part { examples: &order[mine], epoch, first };
                self.run.task.draw(&mut self.state, &part, &mut batch);
                let clocks = self.clocks_of_next(beyond);
                let drawn = (&batch, &part);
                let (task, worker) = (self.run.task, &mut self.worker);
                let prepared = self.sources.prepare(task, drawn, worker, clocks.clone())?;
                self.announce(clocks, &batch)?;
                Some((batch, prepared))
            };
            self.ahead.drawn.push_back(Drawn { batch, first, end, beyond });
        }
        Ok(())
    }

    /// The clocks of the step of a batch that is drawn behind all others; none if nothing is announced.
    fn clocks_of_next(&self, beyond: bool) -> Range<u64> {
        let steps = self.ahead.drawn.iter().filter(|drawn| drawn.batch.is_some()).count() as u64;
        // An evaluation in between takes a clock of its own.
        let config = self.run.config;
        let evaluates = beyond && self.ends_epoch() && config.validates(self.place.epochs + 1);
        let start = self.worker.clock().0 + steps + u64::from(evaluates);
        start..start + u64::from(config.ahead > 0)
    }

    /// Says which keys a batch will use.
    fn announce(&mut self, clocks: Range<u64>, batch: &T::Batch) -> Result<(), TaskError> {
        if clocks.is_empty() || self.run.nodes == 1 {
            return Ok(());
        }
        self.ahead.keys.resize_with(self.run.tables.len(), Vec::new);
        self.ahead.keys.iter_mut().for_each(Vec::clear);
        self.run.task.keys(batch, &mut self.ahead.keys);
        for (table, keys) in self.run.tables.iter().zip(&self.ahead.keys) {
            self.worker.intent(table, keys, clocks.clone())?;
        }
        Ok(())
    }

    /// Says which keys the evaluation will read that comes now.
    pub(super) fn announce_evaluation(&mut self, split: Split) -> Result<(), TaskError> {
        if self.run.config.ahead == 0 || self.run.nodes == 1 {
            return Ok(());
        }
        self.ahead.keys.resize_with(self.run.tables.len(), Vec::new);
        self.ahead.keys.iter_mut().for_each(Vec::clear);
        self.run.task.evaluated(split, self.share, &mut self.ahead.keys);
        let now = self.worker.clock().0;
        for (table, keys) in self.run.tables.iter().zip(&mut self.ahead.keys) {
            keys.sort_unstable();
            keys.dedup();
            self.worker.intent(table, keys, now..now + 1)?;
        }
        Ok(())
    }
}
