//! What training vectors on sentences needs, wherever the sentences come from.

use sterna::sampling::{Distribution, Sampling, Scheme};
use sterna::{Init, TableSpec};

use super::step::{Plan, Planner, Step};
use super::{Shape, Subsample};
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
    subsample: Subsample,
    negatives: Sampling,
}

impl Trainer {
    /// For words (or nodes) that occur in proportion to `counts`: negatives are drawn by their
    /// `power` in this way, and frequent words dropped as `subsample` says.
    ///
    /// # Errors
    /// If nothing occurs.
    pub fn new(
        shape: Shape,
        rate: Rate,
        counts: impl Iterator<Item = f64>,
        (power, scheme): (f64, Scheme),
        subsample: Subsample,
    ) -> Result<Self, TaskError> {
        let weights: Vec<f64> = counts.map(|count| count.powf(power)).collect();
        let words = weights.len();
        let negatives = Sampling::new(Distribution::weighted(0, weights)?).scheme(scheme);
        Ok(Self { shape, rate, words, subsample, negatives })
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

    /// Which words of a text are dropped.
    #[must_use]
    pub fn subsample(&self) -> &Subsample {
        &self.subsample
    }

    /// How negatives are drawn, and of which table.
    #[must_use]
    pub fn samples(&self) -> Vec<(usize, Sampling)> {
        vec![(OUTPUT, self.negatives.clone())]
    }

    /// Negatives of a planned batch.
    #[must_use]
    pub fn sample_len(&self, plan: &Plan) -> usize {
        plan.words() * self.shape.negatives
    }

    /// How many words there are.
    #[must_use]
    pub fn words(&self) -> usize {
        self.words
    }

    /// Bytes of what the workers share.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        // A cell and a weight of the negatives, a share of the subsample.
        20 * self.words as u64
    }

    /// What a step is like.
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Names the keys of a planned batch but for its negatives: each word is a centre.
    pub fn keys(&self, plan: &Plan, keys: &mut [Vec<u64>]) {
        keys[INPUT].extend(plan.inputs());
        keys[OUTPUT].extend(plan.inputs());
    }

    /// Trains on a planned batch.
    ///
    /// # Errors
    /// Those of the parameter manager.
    pub fn step(
        &self,
        (planner, step): (&mut Planner, &mut Step),
        plan: &mut Plan,
        moment: Moment,
        parameters: &mut Parameters<'_>,
    ) -> Result<Loss, TaskError> {
        if plan.inputs().is_empty() {
            return Ok(Loss::default());
        }
        parameters.sample(0, plan.negatives_into(self.shape))?;
        planner.complete(plan);
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
