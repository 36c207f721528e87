//! Validation, and the way back to the best model when it gets no better.

use std::time::Instant;

use super::Trainer;
use crate::kge::KgeError;
use crate::kge::evaluate::Quality;

/// This worker's share of the rows at the best validation so far, for early stopping.
pub(super) struct Best {
    /// Values of each of its shards, table after table.
    shards: Vec<Vec<f32>>,
    quality: Quality,
}

impl Trainer<'_, '_> {
    pub(super) fn validate(&mut self) -> Result<Quality, KgeError> {
        let started = Instant::now();
        let quality = self.rank(&self.run.valid)?;
        if quality.mrr > self.history.best_mrr {
            self.history.best_mrr = quality.mrr;
            self.history.worse = 0;
            self.keep_best(quality)?;
        } else {
            self.history.worse += 1;
        }
        self.last_valid = Some(quality);
        self.evaluate_seconds += started.elapsed().as_secs_f64();
        Ok(quality)
    }

    pub(super) fn out_of_patience(&self) -> bool {
        let patience = self.run.config.patience;
        patience > 0 && self.history.worse >= patience && self.place.epochs < self.run.config.epochs
    }

    /// Copies this worker's share of the rows, to come back to if it does not get better.
    fn keep_best(&mut self, quality: Quality) -> Result<(), KgeError> {
        if self.run.config.patience == 0 {
            return Ok(());
        }
        // Buffers of the last best, if there was one.
        let mut old = self.best.take().map(|best| best.shards).unwrap_or_default().into_iter();
        let mut shards = Vec::new();
        for (_, table) in self.run.tables() {
            for (_, range) in self.share.shards(table.keys(), table.row_len()) {
                let keys: Vec<u64> = range.collect();
                let mut values = old.next().unwrap_or_default();
                values.resize(keys.len() * table.dim(), 0.0);
                self.worker.pull(table, &keys, &mut values)?;
                shards.push(values);
            }
        }
        self.best = Some(Best { shards, quality });
        // Nobody steps on while another still copies.
        self.worker.barrier()?;
        Ok(())
    }

    /// Puts the rows of the best validation back, if this run has a copy of them.
    ///
    /// For runs that stop early. One that goes its whole way ends with the last rows: their learning
    /// rate went down to 0, and a validation's noise is no reason to prefer earlier ones.
    pub(super) fn restore_best(&mut self) -> Result<(), KgeError> {
        // A run that was resumed after its best validation has no copy of it: all workers alike.
        let Some(Best { shards, quality }) = self.best.take() else { return Ok(()) };
        let mut shards = shards.into_iter();
        for (_, table) in self.run.tables() {
            for (_, range) in self.share.shards(table.keys(), table.row_len()) {
                let keys: Vec<u64> = range.collect();
                let values = shards.next().expect("one copy per shard");
                self.worker.set(table, &keys, &values)?;
            }
        }
        self.last_valid = Some(quality);
        self.note(|_| format!("took back the best model, validation MRR {:.4}", quality.mrr));
        Ok(())
    }
}
