//! Click-through prediction: logistic regression, factorisation machines, Wide & Deep, `DeepFM`, DCN-V2.
//!
//! An example is a set of features, one for each field as a rule (this user, this item, Monday), and whether it was
//! clicked. Every feature has a row in the manager: its embedding and its linear weight. Towers, cross networks and the
//! statistics of batch normalisation are rows of a second table, which every batch uses whole.
//!
//! A step takes a batch of examples, pulls the rows of its distinct features and the dense parameters, computes the
//! gradients of the mean log loss by hand, and pushes one gradient per row.
//!
//! | module | is for |
//! | --- | --- |
//! | [`data`] | reading Criteo, Avazu, libFM and any CSV with a schema; hashing, numbering, buckets |
//! | [`config`] | settings, and the recipe of each model |
//! | `interaction`, `cross`, `network` | the models and their gradients |
//! | `step` | what a worker does with a batch |
//! | [`metrics`] | AUC and log loss |

pub mod config;
mod cross;
pub mod data;
mod interaction;
pub mod metrics;
mod network;
mod step;

use rand::RngCore;
use serde_json::Value;
use sterna::{Init, TableSpec};

pub use config::{CtrConfig, ModelKind, RowOptimizer};
pub use data::{Clicks, Examples, Source};
pub use step::{Batch, State};

use crate::dense::Layout;
use crate::task::{
    Description, Digest, Export, Goal, Loss, Moment, Parameters, Part, Quality, RunConfig, Share,
    Split, Task, TaskError, settings_of,
};
use network::Network;

/// The table of features.
const FEATURE: usize = 0;
/// The table of dense parameters.
const DENSE: usize = 1;

/// The stream of random numbers for what is dropped.
const DROPOUT: u64 = 2;

/// Examples whose logits are computed at once in evaluation.
const EVALUATE_BATCH: usize = 4096;
/// Logits that travel at once to all workers.
const SHARED_BLOCK: usize = 1 << 16;

/// A click-through training.
#[derive(Debug)]
pub struct CtrTask {
    config: CtrConfig,
    clicks: Clicks,
    layout: Layout,
}

impl CtrTask {
    /// Of this data, by these settings.
    ///
    /// # Errors
    /// Settings that cannot work, alone or with this data.
    pub fn new(config: CtrConfig, clicks: Clicks) -> Result<Self, TaskError> {
        config.check()?;
        if config.model.is_deep() && clicks.fields.is_none() {
            let reason = "needs the same number of features in every example: choose lr or fm";
            return Err(TaskError::setting("model", &config.model.name(), reason));
        }
        let (_, layout) = Network::new(&config, clicks.fields.unwrap_or(0));
        Ok(Self { config, clicks, layout })
    }

    /// The data.
    #[must_use]
    pub fn clicks(&self) -> &Clicks {
        &self.clicks
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &CtrConfig {
        &self.config
    }

    fn fields(&self) -> usize {
        self.clicks.fields.unwrap_or(0)
    }
}

impl Task for CtrTask {
    type Batch = Batch;
    type State = State;

    fn describe(&self) -> Description {
        let goal = if self.config.by_log_loss {
            Goal::Minimise("log_loss")
        } else {
            Goal::Maximise("auc")
        };
        Description::new("ctr", self.config.model.name(), self.clicks.name.clone(), goal)
    }

    fn run(&self) -> &RunConfig {
        &self.config.run
    }

    fn settings(&self) -> Value {
        settings_of(&self.config)
    }

    fn free_settings(&self) -> &'static [&'static str] {
        &["batch", "by_log_loss"]
    }

    fn digest(&self, digest: &mut Digest) {
        digest.number(self.clicks.features as u64);
        self.clicks.train.digest(digest);
    }

    fn tables(&self) -> Vec<TableSpec> {
        let config = &self.config;
        let parts = config.row_parts();
        // A linear weight starts as an embedding's value does; alone it starts at 0.
        let init = if parts.dim > 0 { Init::Normal { std: config.init_std } } else { Init::Zeros };
        let feature = TableSpec::new("feature", self.clicks.features as u64, parts.row_len())
            .optimizer(config.row_optimizer())
            .init(init);
        vec![feature, self.layout.table("dense", config.dense_optimizer())]
    }

    fn data_bytes(&self) -> u64 {
        let clicks = &self.clicks;
        [&clicks.train, &clicks.valid, &clicks.test].map(Examples::bytes).iter().sum()
    }

    fn examples(&self) -> usize {
        self.clicks.train.len()
    }

    fn batch_len(&self, workers: usize) -> usize {
        self.config.batch_for(workers)
    }

    fn state(&self, share: Share) -> State {
        State::new(self, share.count)
    }

    fn start(&self, parameters: &mut Parameters<'_>, share: Share) -> Result<(), TaskError> {
        if share.index == 0 {
            self.layout.start(self.config.run.seed, DENSE, parameters)?;
        }
        Ok(())
    }

    fn draw(&self, state: &mut State, part: &Part<'_>, batch: &mut Batch) {
        let numbers = part.examples.iter().map(|&number| number as usize);
        state.take(batch, &self.clicks.train, numbers);
        batch.seed = part.random(DROPOUT).next_u64();
    }

    fn keys(&self, batch: &Batch, keys: &mut [Vec<u64>]) {
        keys[FEATURE].extend_from_slice(&batch.keys);
        keys[DENSE].extend(0..self.layout.rows() as u64);
    }

    fn step(
        &self,
        state: &mut State,
        batch: &mut Batch,
        _: Moment,
        parameters: &mut Parameters<'_>,
    ) -> Result<Loss, TaskError> {
        state.step(self, batch, parameters)
    }

    fn has(&self, split: Split) -> bool {
        !self.clicks.split(split).is_empty()
    }

    fn evaluated(&self, split: Split, share: Share, keys: &mut [Vec<u64>]) {
        let examples = self.clicks.split(split);
        for number in share.range(examples.len()) {
            keys[FEATURE].extend(examples.get(number).0.iter().copied().map(u64::from));
        }
        keys[DENSE].extend(0..self.layout.rows() as u64);
    }

    fn evaluate(
        &self,
        parameters: &mut Parameters<'_>,
        split: Split,
        share: Share,
    ) -> Result<Quality, TaskError> {
        let examples = self.clicks.split(split);
        let mut state = State::new(self, share.count);
        state.dense.pull(DENSE, parameters)?;
        let (mut logits, mut batch) = (Vec::new(), Batch::default());
        let mine = share.range(examples.len());
        for first in mine.clone().step_by(EVALUATE_BATCH) {
            let numbers = first..mine.end.min(first + EVALUATE_BATCH);
            state.predict(self, examples, numbers, &mut batch, parameters, &mut logits)?;
        }
        let all = logits_of_all(&logits, mine.start, examples.len(), parameters)?;
        let losses =
            all.iter().zip(examples.labels()).map(|(&z, &label)| metrics::log_loss(z, label));
        #[expect(clippy::cast_precision_loss, reason = "examples are fewer than 2^52")]
        let log_loss = losses.sum::<f64>() / all.len().max(1) as f64;
        // A split with no click, or with nothing else, has no AUC: as good as a coin.
        let auc = metrics::auc(&all, examples.labels()).unwrap_or(0.5);
        Ok(Quality::of([("auc", auc), ("log_loss", log_loss)]))
    }

    fn export(&self, export: &mut Export<'_, '_>) -> Result<(), TaskError> {
        data::export(&self.clicks, &self.layout, self.config.row_parts(), export)
    }
}

/// The logits of all workers, of which this one has those from `first` on.
fn logits_of_all(
    mine: &[f32],
    first: usize,
    count: usize,
    parameters: &mut Parameters<'_>,
) -> Result<Vec<f32>, TaskError> {
    let mut all = Vec::with_capacity(count);
    let mut block = Vec::new();
    for start in (0..count).step_by(SHARED_BLOCK) {
        let end = count.min(start + SHARED_BLOCK);
        block.clear();
        // A sum with zeros is exact: each logit is one worker's.
        block.resize(end - start, 0.0);
        let (from, to) = (first.clamp(start, end), (first + mine.len()).clamp(start, end));
        if from < to {
            for (sum, &logit) in
                block[from - start..to - start].iter_mut().zip(&mine[from - first..])
            {
                *sum = f64::from(logit);
            }
        }
        parameters.all_reduce_sum(&mut block)?;
        #[expect(clippy::cast_possible_truncation, reason = "they were f32 before")]
        all.extend(block.iter().map(|&logit| logit as f32));
    }
    Ok(all)
}
