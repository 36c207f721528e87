//! What a training task is, and what runs one.
//!
//! A [`Task`] says which tables it has, what a batch is, which keys a batch will use, what a step
//! does with it, and how good the model is. [`train`] does everything else, once for all tasks:
//! workers as threads, epochs shuffled by a seed and shared out among the workers of all nodes,
//! keys announced ahead, progress, Ctrl-C, checkpoints that any number of nodes and workers can
//! resume, early stopping, export, and the report.
//!
//! # A training
//!
//! ```text
//! start                               the first rows, where Init cannot say them
//! for each epoch
//!   for each phase                    one, unless the schedule has meetings inside an epoch
//!     order                           the examples, in which order
//!     for each batch
//!       draw .. keys                  a few batches ahead: what it will do, which keys it will use
//!       step                          pull, compute, push
//!   evaluate(Valid)                   when one is due
//! evaluate(Test), export
//! ```
//!
//! Examples are numbers `0..examples()`: triples, ratings, rows of a table, walks, chunks of text.
//! An epoch takes each once. By default all workers know the whole order and take their parts of
//! its next *round* (a batch for each worker), so a run that stopped in the middle goes on from one
//! number. A task whose schedule depends on the worker hands out its own lists
//! ([`Dealt::Own`]), and may cut the epoch into *phases* between which all workers meet.
//!
//! Keys that are to be drawn from a distribution, such as negatives, a task leaves to the manager
//! ([`Task::samples`]): it knows which rows are near.
//!
//! What is drawn in [`Task::draw`] comes from [`Part::random`], which depends on seed, epoch, place
//! and worker alone: drawing ahead, stopping and resuming change nothing.
//!
//! # Example
//!
//! Each of ten keys is to become the mean of the examples that name it.
//!
//! ```
//! use sterna::{Node, NodeConfig, Optimizer, TableSpec};
//! use sterna_tasks::task::{
//!     Description, Digest, Goal, Loss, Moment, Parameters, Part, Quality, RunConfig, Share,
//!     Silent, Split, Task, TaskError, train,
//! };
//!
//! struct Means {
//!     run: RunConfig,
//!     examples: Vec<(u64, f32)>,
//! }
//!
//! #[derive(Default)]
//! struct Batch {
//!     keys: Vec<u64>,
//!     targets: Vec<f32>,
//! }
//!
//! const MEAN: usize = 0; // the table's number
//!
//! impl Task for Means {
//!     type Batch = Batch;
//!     type State = Vec<f32>; // buffers of a step
//!
//!     fn describe(&self) -> Description {
//!         Description::new("means", "mean", "inline", Goal::Minimise("rmse"))
//!     }
//!     fn run(&self) -> &RunConfig {
//!         &self.run
//!     }
//!     fn settings(&self) -> serde_json::Value {
//!         serde_json::json!(&self.run)
//!     }
//!     fn digest(&self, digest: &mut Digest) {
//!         self.examples.iter().for_each(|&(key, target)| {
//!             digest.number(key);
//!             digest.floats(&[target]);
//!         });
//!     }
//!     fn tables(&self) -> Vec<TableSpec> {
//!         vec![TableSpec::new("mean", 10, 1).optimizer(Optimizer::sgd(0.1))]
//!     }
//!     fn examples(&self) -> usize {
//!         self.examples.len()
//!     }
//!     fn batch_len(&self, _workers: usize) -> usize {
//!         8
//!     }
//!     fn state(&self, _share: Share) -> Vec<f32> {
//!         Vec::new()
//!     }
//!     fn draw(&self, _: &mut Vec<f32>, part: &Part<'_>, batch: &mut Batch) {
//!         let taken = part.examples.iter().map(|&number| self.examples[number as usize]);
//!         (batch.keys, batch.targets) = taken.unzip();
//!     }
//!     fn keys(&self, batch: &Batch, keys: &mut [Vec<u64>]) {
//!         keys[MEAN].extend(&batch.keys);
//!     }
//!     fn step(
//!         &self,
//!         values: &mut Vec<f32>,
//!         batch: &mut Batch,
//!         _: Moment,
//!         parameters: &mut Parameters<'_>,
//!     ) -> Result<Loss, TaskError> {
//!         values.resize(batch.keys.len(), 0.0);
//!         parameters.pull(MEAN, &batch.keys, values)?;
//!         let mut loss = Loss::default();
//!         for (value, target) in values.iter_mut().zip(&batch.targets) {
//!             let error = *value - target;
//!             loss.add(f64::from(error * error));
//!             *value = 2.0 * error;
//!         }
//!         parameters.push(MEAN, &batch.keys, values)?;
//!         Ok(loss)
//!     }
//!     fn has(&self, split: Split) -> bool {
//!         split == Split::Test
//!     }
//!     fn evaluate(
//!         &self,
//!         parameters: &mut Parameters<'_>,
//!         _: Split,
//!         share: Share,
//!     ) -> Result<Quality, TaskError> {
//!         let mut sums = [0.0, 0.0]; // of squares, and how many
//!         for &(key, target) in share.of(&self.examples) {
//!             let mut value = [0.0];
//!             parameters.pull(MEAN, &[key], &mut value)?;
//!             sums[0] += f64::from(value[0] - target).powi(2);
//!             sums[1] += 1.0;
//!         }
//!         parameters.all_reduce_sum(&mut sums)?;
//!         Ok(Quality::of([("rmse", (sums[0] / sums[1]).sqrt())]))
//!     }
//! }
//!
//! # fn main() -> Result<(), TaskError> {
//! let examples = (0..1000).map(|n| (n % 10, (n % 10) as f32)).collect();
//! let task = Means { run: RunConfig { epochs: 5, ..RunConfig::default() }, examples };
//! let node = Node::start(NodeConfig { pin: false, ..NodeConfig::with_workers(2) })?;
//! let report = train(&node, &task, &mut Silent)?;
//! assert!(report.quality["rmse"] < 0.01, "{:?}", report.quality);
//! # Ok(())
//! # }
//! ```

mod ahead;
mod best;
pub mod check;
mod checkpoint;
mod config;
mod digest;
mod error;
mod export;
mod memory;
mod npy;
mod order;
mod parameters;
mod part;
mod progress;
mod quality;
mod safetensors;
mod samples;
mod save;
mod tell;
mod train;

use serde_json::Value;
use sterna::TableSpec;
use sterna::sampling::Sampling;

pub(crate) use order::{shuffled, stream};

pub use config::{ExportFormat, RunConfig};
pub use digest::Digest;
pub use error::TaskError;
pub use export::Export;
pub use memory::{Memory, available_bytes, estimate};
pub use parameters::{Parameters, Touched};
pub use part::{Dealt, Epoch, Loss, Moment, Part, Share};
pub use progress::{EpochEnd, Position, Progress, Silent};
pub use quality::{Goal, Quality, Split};
pub use samples::scheme_name;
pub use train::train;

/// What a task is called, for people and for the report.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    /// The task: `kge`.
    pub task: &'static str,
    /// The model: `complex`.
    pub model: String,
    /// The data set's name.
    pub dataset: String,
    /// The figure of quality to improve.
    pub goal: Goal,
    /// What is counted in speeds: `triples`, `words`.
    pub unit: &'static str,
    /// Units in an example: 1, or the mean number of words in a chunk.
    pub units_per_example: f64,
}

impl Description {
    /// Speeds are told in examples.
    #[must_use]
    pub fn new(
        task: &'static str,
        model: impl Into<String>,
        dataset: impl Into<String>,
        goal: Goal,
    ) -> Self {
        let (model, dataset) = (model.into(), dataset.into());
        Self { task, model, dataset, goal, unit: "examples", units_per_example: 1.0 }
    }

    /// Speeds are told in these units.
    #[must_use]
    pub fn unit(mut self, unit: &'static str, per_example: f64) -> Self {
        (self.unit, self.units_per_example) = (unit, per_example);
        self
    }
}

/// A training task; see the [module](self).
///
/// All nodes build the same task from the same data and settings; all workers of a node share one.
pub trait Task: Sync {
    /// What a batch is going to do: its examples, and what was drawn for it. Used again and again.
    type Batch: Default;
    /// A worker's buffers. Made on the worker's own thread.
    type State;

    /// What the task is called.
    fn describe(&self) -> Description;

    /// The settings that all tasks have.
    fn run(&self) -> &RunConfig;

    /// All settings, for the report, and for checkpoints: a run resumes with equal settings only.
    /// Best a struct with [`RunConfig`] flattened into it (`#[serde(flatten)]`).
    fn settings(&self) -> Value;

    /// Settings that may differ from one run to the next, besides those of [`RunConfig`]: batch
    /// sizes, what is evaluated.
    fn free_settings(&self) -> &'static [&'static str] {
        &[]
    }

    /// Feeds the data that training uses to a digest: a run resumes with equal data only.
    fn digest(&self, digest: &mut Digest);

    /// The tables; everywhere else they are named by their place in this list.
    ///
    /// Checkpoints hold their rows, values and optimizer state; what must survive a resume has to
    /// be in a table (statistics of batch normalisation too).
    fn tables(&self) -> Vec<TableSpec>;

    /// Bytes that the data takes on each node, for the memory estimate.
    fn data_bytes(&self) -> u64 {
        0
    }

    /// Examples of an epoch, fewer than 2^32.
    fn examples(&self) -> usize;

    /// Examples in a batch of one worker when the job has this many workers.
    fn batch_len(&self, workers: usize) -> usize;

    /// Parts of an epoch after each of which all workers meet.
    fn phases(&self) -> u32 {
        1
    }

    /// Writes the examples of a phase to `order`, and says whether all workers have the same list.
    ///
    /// By default: all examples, shuffled anew for every epoch.
    fn order(&self, epoch: &Epoch, order: &mut Vec<u32>) -> Dealt {
        shuffled(order, epoch, self.examples());
        Dealt::Shared
    }

    /// Whether workers wait for each other after every batch, so that all see all updates of the
    /// last round (synchronous training).
    fn synchronous(&self) -> bool {
        false
    }

    /// A worker's buffers.
    fn state(&self, share: Share) -> Self::State;

    /// Sets first rows that an [`Init`](sterna::Init) cannot say; each worker its share of the keys.
    /// Not called when a run resumes.
    ///
    /// # Errors
    /// Those of the parameter manager.
    fn start(&self, parameters: &mut Parameters<'_>, share: Share) -> Result<(), TaskError> {
        let _ = (parameters, share);
        Ok(())
    }

    /// Makes `batch` (an old one, to be overwritten) the batch of these examples. Called up to
    /// [`RunConfig::ahead`] batches before the batch's step, so it cannot depend on rows.
    fn draw(&self, state: &mut Self::State, part: &Part<'_>, batch: &mut Self::Batch);

    /// Appends to `keys[t]` the keys of table `t` that the step of `batch` will use. Twice the same
    /// key is fine. Not called where nobody wants to know: on a single node.
    fn keys(&self, batch: &Self::Batch, keys: &mut [Vec<u64>]);

    /// What batches draw at random and leave to the manager to choose, such as negatives: each the number of its table, and how it is sampled.
    fn samples(&self) -> Vec<(usize, Sampling)> {
        Vec::new()
    }

    /// Keys of the sample with this number that the step of `batch` will ask for by [`Parameters::sample`]. They are not among
    /// [`Task::keys`].
    fn sample_len(&self, batch: &Self::Batch, sample: usize) -> usize {
        let _ = (batch, sample);
        0
    }

    /// Trains on a batch: pulls rows, computes, pushes gradients. Returns the loss of the rows as
    /// they were pulled.
    ///
    /// # Errors
    /// Those of the parameter manager.
    fn step(
        &self,
        state: &mut Self::State,
        batch: &mut Self::Batch,
        moment: Moment,
        parameters: &mut Parameters<'_>,
    ) -> Result<Loss, TaskError>;

    /// Whether there are examples of this split.
    fn has(&self, split: Split) -> bool;

    /// Appends to `keys[t]` the keys of table `t` that this worker will read in the evaluation of `split`, where that is worth
    /// saying: rows that it reads more than once. One that it reads once it had better read where it is, many in a call. Announced before the evaluation begins.
    fn evaluated(&self, split: Split, share: Share, keys: &mut [Vec<u64>]) {
        let _ = (split, share, keys);
    }

    /// Refuses jobs that this training cannot use, with what to do instead.
    ///
    /// # Errors
    /// [`TaskError::Setting`].
    fn check_job(&self, nodes: usize, workers: usize) -> Result<(), TaskError> {
        let _ = (nodes, workers);
        Ok(())
    }

    /// The model's quality. All workers call it together, with nobody training; each looks at its
    /// share, and all return the figures of the whole (by [`Parameters::all_reduce_sum`]).
    ///
    /// # Errors
    /// Those of the parameter manager.
    fn evaluate(
        &self,
        parameters: &mut Parameters<'_>,
        split: Split,
        share: Share,
    ) -> Result<Quality, TaskError>;

    /// Writes the trained model; one worker of the job calls it. By default: all tables whole.
    ///
    /// # Errors
    /// Files that cannot be written, or those of the parameter manager.
    fn export(&self, export: &mut Export<'_, '_>) -> Result<(), TaskError> {
        export.all_tables();
        Ok(())
    }
}

/// Settings as JSON, each number in its shortest form (0.1, not 0.10000000149).
#[must_use]
pub fn settings_of(settings: &impl serde::Serialize) -> Value {
    let text = serde_json::to_string(settings).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}
