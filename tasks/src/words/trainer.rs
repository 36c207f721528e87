//! What training vectors on sentences needs, wherever the sentences come from.

use sterna::{Init, TableSpec};

use super::step::{Plan, Samplers, Step};
use super::{Alias, Shape, Subsample};
use crate::task::{Loss, Moment, Parameters, TaskError};

/// The table of input vectors, which are the result.
pub const INPUT: usize = 0;
/// The table of output vectors.
pub const OUTPUT: usize = 1;

/// The course of the learning rate: a straight line over the whole training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// At the start.
    pub start: f32,
    /// At the end.
    pub end: f32,
}

impl Rate {
    /// The rate at a moment.
    #[must_use]
    pub fn at(self, moment: Moment) -> f32 {
        #[expect(clippy::cast_possible_truncation, reason = "a learning rate needs no f64")]
        let progress = moment.progress as f32;
        self.start + (self.end - self.start) * progress
    }

    /// Refuses rates that cannot work, by the setting's name.
    ///
    /// # Errors
    /// [`TaskError::Setting`].
    pub fn check(self) -> Result<(), TaskError> {
        let Self { start, end } = self;
        if !(start.is_finite() && start > 0.0) {
            return Err(TaskError::setting("learning_rate", &start, "must be a positive number"));
        }
        if !(end >= 0.0 && end <= start) {
            let reason = "must be from 0 to the learning rate at the start";
            return Err(TaskError::setting("learning_rate_min", &end, reason));
        }
        Ok(())
    }
}

/// Trains the two tables of vectors by planned batches.
#[derive(Clone, Debug)]
pub struct Trainer {
    shape: Shape,
    rate: Rate,
    words: usize,
    samplers: Samplers,
}

impl Trainer {
    /// For words (or nodes) that occur in proportion to `counts`: negatives are drawn by their
    /// `power`, and frequent words dropped as `subsample` says.
    #[must_use]
    pub fn new(
        shape: Shape,
        rate: Rate,
        counts: impl Iterator<Item = f64>,
        power: f64,
        subsample: Subsample,
    ) -> Self {
        let weights: Vec<f64> = counts.map(|count| count.powf(power)).collect();
        let samplers = Samplers { subsample, negatives: Alias::new(&weights) };
        Self { shape, rate, words: weights.len(), samplers }
    }

    /// The tables: input vectors start uniform in `+-0.5 / dim`, output vectors at zero.
    #[must_use]
    pub fn tables(&self) -> Vec<TableSpec> {
        let (keys, dim) = (self.words as u64, self.shape.dim);
        #[expect(clippy::cast_precision_loss, reason = "a dimension is small")]
        let reach = 0.5 / dim as f32;
        let init = Init::Uniform { low: -reach, high: reach };
        vec![TableSpec::new("input", keys, dim).init(init), TableSpec::new("output", keys, dim)]
    }

    /// What words are drawn by.
    #[must_use]
    pub fn samplers(&self) -> &Samplers {
        &self.samplers
    }

    /// How many words there are.
    #[must_use]
    pub fn words(&self) -> usize {
        self.words
    }

    /// Bytes of what the workers share.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        // A column of the negatives and a share of the subsample.
        12 * self.words as u64
    }

    /// What a step is like.
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Names the keys of a planned batch.
    pub fn keys(&self, plan: &Plan, keys: &mut [Vec<u64>]) {
        keys[INPUT].extend(plan.inputs());
        keys[OUTPUT].extend(plan.outputs());
    }

    /// Trains on a planned batch.
    ///
    /// # Errors
    /// Those of the parameter manager.
    pub fn step(
        &self,
        step: &mut Step,
        plan: &Plan,
        moment: Moment,
        parameters: &mut Parameters<'_>,
    ) -> Result<Loss, TaskError> {
        if plan.inputs().is_empty() {
            return Ok(Loss::default());
        }
        let (inputs, outputs) = (plan.inputs(), plan.outputs());
        parameters.pull(INPUT, inputs, step.inputs.pull_into(inputs.len()))?;
        parameters.pull(OUTPUT, outputs, step.outputs.pull_into(outputs.len()))?;
        let loss = step.train(plan, self.rate.at(moment));
        if !loss.sum.is_finite() {
            // Rows that are no numbers would be refused with a key and not with a reason.
            return Err(TaskError::Diverged { epoch: moment.epoch + 1, loss: loss.mean() });
        }
        parameters.add(INPUT, inputs, step.inputs.added())?;
        parameters.add(OUTPUT, outputs, step.outputs.added())?;
        Ok(loss)
    }
}
