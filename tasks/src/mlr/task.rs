//! Multinomial logistic regression as a task: what a batch is, and what its step does.

use serde_json::Value;
use sterna::TableSpec;

use super::step::{Batch, Step};
use super::{Dataset, Examples, Features, MlrConfig};
use crate::data::DataError;
use crate::task::{
    Description, Digest, Export, Goal, Loss, Moment, Parameters, Part, Quality, RunConfig, Share,
    Split, Task, TaskError, settings_of,
};

/// The only table: a row of weights for each feature, then the bias.
pub const WEIGHT: usize = 0;

/// Examples of an evaluation whose weights are pulled at a time.
const EVALUATED: usize = 512;

/// A regression on a data set.
#[derive(Debug)]
pub struct Mlr {
    data: Dataset,
    config: MlrConfig,
}

impl Mlr {
    /// Learns the classes of `data` by `config`.
    ///
    /// # Errors
    /// Settings that cannot work, and data with a single class.
    pub fn new(data: Dataset, config: MlrConfig) -> Result<Self, TaskError> {
        config.check()?;
        if data.classes.len() < 2 || data.train.is_empty() {
            let reason = format!(
                "{} examples to train on, of {} classes",
                data.train.len(),
                data.classes.len()
            );
            let expected = "examples of at least two classes";
            return Err(DataError::refused(data.name.as_ref(), reason, expected).into());
        }
        Ok(Self { data, config })
    }

    /// The data set.
    #[must_use]
    pub fn data(&self) -> &Dataset {
        &self.data
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &MlrConfig {
        &self.config
    }

    fn examples_of(&self, split: Split) -> &Examples {
        match split {
            Split::Valid => &self.data.valid,
            Split::Test => &self.data.test,
        }
    }

    fn learning_rate(&self, moment: Moment) -> f32 {
        let decay = f64::from(self.config.decay).powf(f64::from(moment.epoch));
        #[expect(clippy::cast_possible_truncation, reason = "a learning rate needs no f64")]
        let rate = (f64::from(self.config.learning_rate) * decay) as f32;
        rate
    }
}

/// Takes the weights that a batch uses.
fn pull(step: &mut Step, batch: &Batch, parameters: &mut Parameters<'_>) -> Result<(), TaskError> {
    step.weights.resize(batch.keys.len() * parameters.table(WEIGHT).dim(), 0.0);
    parameters.pull(WEIGHT, &batch.keys, &mut step.weights)?;
    Ok(())
}

impl Task for Mlr {
    type Batch = Batch;
    type State = Step;

    fn describe(&self) -> Description {
        let model = format!("mlr_{}", self.config.optimizer.name());
        let goal = Goal::Maximise("accuracy");
        Description::new("mlr", model, self.data.name.clone(), goal)
    }

    fn run(&self) -> &RunConfig {
        &self.config.run
    }

    fn settings(&self) -> Value {
        settings_of(&self.config)
    }

    fn free_settings(&self) -> &'static [&'static str] {
        &["batch"]
    }

    fn digest(&self, digest: &mut Digest) {
        self.data.classes.iter().for_each(|name| digest.name(name));
        for examples in [&self.data.train, &self.data.valid, &self.data.test] {
            digest.number(examples.len() as u64);
            digest.numbers(&examples.classes);
            match &examples.features {
                Features::Sparse(rows) => {
                    for row in 0..rows.len() {
                        digest.number(rows.row(row).0.len() as u64);
                        digest.numbers(rows.row(row).0);
                    }
                    digest.floats(rows.values());
                }
                Features::Dense(values, _) => digest.floats(values),
            }
        }
    }

    fn tables(&self) -> Vec<TableSpec> {
        let keys = self.data.features as u64 + 1;
        let table = TableSpec::new("weight", keys, self.data.classes.len());
        vec![table.optimizer(self.config.optimizer())]
    }

    fn data_bytes(&self) -> u64 {
        let parts = [&self.data.train, &self.data.valid, &self.data.test];
        parts.iter().map(|examples| examples.bytes() as u64).sum()
    }

    fn examples(&self) -> usize {
        self.data.train.len()
    }

    fn batch_len(&self, workers: usize) -> usize {
        self.config.batch_for(workers)
    }

    fn state(&self, _: Share) -> Step {
        Step::new(self.data.features, self.data.classes.len())
    }

    fn draw(&self, step: &mut Step, part: &Part<'_>, batch: &mut Batch) {
        let numbers = part.examples.iter().map(|&number| number as usize);
        step.draw(&self.data.train, numbers, batch);
    }

    fn keys(&self, batch: &Batch, keys: &mut [Vec<u64>]) {
        keys[WEIGHT].extend(&batch.keys);
    }

    fn step(
        &self,
        step: &mut Step,
        batch: &mut Batch,
        moment: Moment,
        parameters: &mut Parameters<'_>,
    ) -> Result<Loss, TaskError> {
        pull(step, batch, parameters)?;
        let sum = step.gradients(batch, self.config.l2);
        parameters.set_learning_rate(WEIGHT, self.learning_rate(moment));
        parameters.push(WEIGHT, &batch.keys, &step.gradients)?;
        Ok(Loss::of(sum, batch.classes.len()))
    }

    fn has(&self, split: Split) -> bool {
        !self.examples_of(split).is_empty()
    }

    fn evaluated(&self, split: Split, share: Share, keys: &mut [Vec<u64>]) {
        let examples = self.examples_of(split);
        match &examples.features {
            Features::Sparse(rows) => {
                for number in share.range(examples.len()) {
                    keys[WEIGHT].extend(rows.row(number).0.iter().copied().map(u64::from));
                }
                keys[WEIGHT].push(self.data.features as u64);
            }
            Features::Dense(..) => keys[WEIGHT].extend(0..=self.data.features as u64),
        }
    }

    /// Accuracy (of equal scores the first class counts) and mean log loss.
    fn evaluate(
        &self,
        parameters: &mut Parameters<'_>,
        split: Split,
        share: Share,
    ) -> Result<Quality, TaskError> {
        let examples = self.examples_of(split);
        let (mut step, mut batch) = (self.state(share), Batch::default());
        let mut sums = [0.0; 3];
        let mine = share.range(examples.len());
        for first in mine.clone().step_by(EVALUATED) {
            step.draw(examples, first..mine.end.min(first + EVALUATED), &mut batch);
            pull(&mut step, &batch, parameters)?;
            let (loss, hits) = step.evaluate(&batch);
            #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
            let counts = [hits as f64, batch.classes.len() as f64];
            sums = [sums[0] + loss, sums[1] + counts[0], sums[2] + counts[1]];
        }
        parameters.all_reduce_sum(&mut sums)?;
        let [loss, hits, count] = sums;
        Ok(Quality::of([("accuracy", hits / count), ("log_loss", loss / count)]))
    }

    /// Weights (features x classes), the bias, and the names of the classes.
    fn export(&self, export: &mut Export<'_, '_>) -> Result<(), TaskError> {
        let (features, classes) = (self.data.features as u64, self.data.classes.len());
        export.matrix("weight", WEIGHT, 0..features, 0..classes);
        export.matrix("bias", WEIGHT, features..features + 1, 0..classes);
        export.names("class", self.data.classes.iter().map(String::as_str))
    }
}
