//! Validation, and the way back to the best model when it gets no better.

use std::time::Instant;

use super::checkpoint::Validation;
use super::train::Trainer;
use super::{Parameters, Quality, Split, Task, TaskError};

/// This worker's share of the rows at the best validation so far.
pub(super) struct Best {
    /// Values of each of its shards, table after table.
    shards: Vec<Vec<f32>>,
    quality: Quality,
}

impl<T: Task> Trainer<'_, '_, T> {
    /// The quality of the model as it is; all workers call it together.
    pub(super) fn evaluate(&mut self, split: Split) -> Result<Quality, TaskError> {
        // From here on all see the same rows, until all have met again at the end.
        self.worker.barrier()?;
        self.worker.set_evaluating(true);
        self.announce_evaluation(split)?;
        let mut parameters = Parameters::new(&mut self.worker, &self.run.tables);
        let quality = self.run.task.evaluate(&mut parameters, split, self.share)?;
        self.worker.set_evaluating(false);
        // What was announced is over.
        self.worker.advance_clock()?;
        self.worker.barrier()?;
        Ok(quality)
    }

    pub(super) fn validate(&mut self) -> Result<Quality, TaskError> {
        let started = Instant::now();
        let quality = self.evaluate(Split::Valid)?;
        let goal = self.run.about.goal;
        let figure = quality.get(goal.name()).unwrap_or(f64::NAN);
        if goal.better(figure, self.history.best) {
            self.history.best = Some(figure);
            self.history.worse = 0;
            self.keep_best(&quality)?;
        } else {
            self.history.worse += 1;
        }
        let seconds = self.history.epoch_seconds.iter().sum();
        let epoch = self.place.epochs;
        self.history.validations.push(Validation { epoch, seconds, quality: quality.clone() });
        self.last_valid = Some(quality.clone());
        self.evaluate_seconds += started.elapsed().as_secs_f64();
        Ok(quality)
    }

    pub(super) fn out_of_patience(&self) -> bool {
        let patience = self.run.config.patience;
        patience > 0 && self.history.worse >= patience && self.place.epochs < self.run.config.epochs
    }

    /// Copies this worker's share of the rows, to come back to if it does not get better.
    fn keep_best(&mut self, quality: &Quality) -> Result<(), TaskError> {
        if !self.run.config.keeps_best() {
            return Ok(());
        }
        self.worker.set_evaluating(true);
        // Buffers of the last best, if there was one.
        let mut old = self.best.take().map(|best| best.shards).unwrap_or_default().into_iter();
        let mut shards = Vec::new();
        for table in &self.run.tables {
            for (_, range) in self.share.shards(table.keys(), table.row_len()) {
                let keys: Vec<u64> = range.collect();
                let mut values = old.next().unwrap_or_default();
                values.resize(keys.len() * table.dim(), 0.0);
                self.worker.pull(table, &keys, &mut values)?;
                shards.push(values);
            }
        }
        self.worker.set_evaluating(false);
        self.best = Some(Best { shards, quality: quality.clone() });
        // Nobody steps on while another still copies.
        self.worker.barrier()?;
        Ok(())
    }

    /// Puts the rows of the best validation back, if this run has a copy of them.
    ///
    /// For runs that stop early. One that goes its whole way ends with the last rows, unless its
    /// settings say otherwise: where the learning rate went down to 0, a validation's noise is no
    /// reason to prefer earlier ones.
    pub(super) fn restore_best(&mut self) -> Result<(), TaskError> {
        // A run that was resumed after its best validation has no copy of it: all workers alike.
        let Some(Best { shards, quality }) = self.best.take() else { return Ok(()) };
        let mut shards = shards.into_iter();
        for table in &self.run.tables {
            for (_, range) in self.share.shards(table.keys(), table.row_len()) {
                let keys: Vec<u64> = range.collect();
                let values = shards.next().expect("one copy per shard");
                self.worker.set(table, &keys, &values)?;
            }
        }
        self.note(|_| format!("took back the best model, validation {quality}"));
        self.last_valid = Some(quality);
        Ok(())
    }
}
