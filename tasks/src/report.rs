//! What a run found: one object for the whole job, printed and written as JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The layout of [`Report`]; goes up when a field changes its meaning or goes away.
pub const REPORT_VERSION: u32 = 2;

/// The result of a training run. Times are in seconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`REPORT_VERSION`] of the program that wrote it.
    pub version: u32,
    /// What was trained: `kge`.
    pub task: String,
    /// The model: `complex`, `distmult`.
    pub model: String,
    /// The data set's name.
    pub dataset: String,
    /// How nodes exchange bytes: `none` for one node, else the providers in use.
    pub fabric: String,
    /// The rule that places parameters.
    pub policy: String,
    /// Processes of the job.
    pub nodes: usize,
    /// Workers of each node.
    pub workers: usize,
    /// Seed of initial rows, order and samples.
    pub seed: u64,
    /// Epochs trained, those before a resume included.
    pub epochs: u32,
    /// Whether training ended because it was told to stop.
    pub stopped: bool,
    /// Time spent in training steps, those before a resume included.
    pub train_seconds: f64,
    /// Time of each epoch's steps. An epoch that was resumed counts from there.
    pub epoch_seconds: Vec<f64>,
    /// Time spent evaluating, for validation and the test.
    pub evaluate_seconds: f64,
    /// The figure of quality that training was to improve.
    pub goal: String,
    /// Figures of quality by name, such as `mrr`, `hits1`, `valid_mrr`.
    pub quality: BTreeMap<String, f64>,
    /// Every validation.
    pub validations: Vec<Validation>,
    /// Mean loss, by epoch.
    pub loss: Vec<f64>,
    /// All settings of the task.
    pub settings: serde_json::Value,
    /// Operations by path, as the node reports them: `paths{local,replica,remote}{count,..}`.
    pub paths: serde_json::Value,
    /// Bytes moved, as the node reports them.
    pub bytes: serde_json::Value,
    /// CPU time, as the node reports it.
    pub cpu_seconds: serde_json::Value,
    /// What the manager did with rows, as the node's report has it.
    #[serde(default)]
    pub management: serde_json::Value,
    /// How old replicas were at most when they were read anew, in the mean, in microseconds.
    #[serde(default)]
    pub staleness_us: f64,
}

/// Quality on the validation examples in the course of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Validation {
    /// Epochs trained before.
    pub epoch: u32,
    /// Seconds of training before.
    pub seconds: f64,
    /// Figures by name.
    pub quality: BTreeMap<String, f64>,
}
