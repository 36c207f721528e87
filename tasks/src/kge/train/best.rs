//! Validation, and the way back to the best model when it gets no better.

use std::time::Instant;

use super::Trainer;
use crate::kge::KgeError;
use crate::kge::evaluate::Quality;

/// This worker's share of the rows at the best validation so far, for early stopping.
pub(super) struct Best {
    rows: Vec<(u64, Vec<f32>)>,
}

impl Trainer<'_, '_> {
    pub(super) fn validate(&mut self) -> Result<Quality, KgeError> {
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

    pub(super) fn out_of_patience(&self) -> bool {
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
    pub(super) fn restore_best(&mut self) -> Result<(), KgeError> {
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
}
