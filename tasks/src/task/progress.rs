//! What a run tells while it goes on; the command line draws a bar from it.

use super::Quality;

/// Where a run stands. Figures are of the whole job, estimated from the telling worker.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Position {
    /// The epoch, from 1.
    pub epoch: u32,
    /// Epochs in all.
    pub epochs: u32,
    /// Examples done in this epoch.
    pub done: u64,
    /// Examples of an epoch.
    pub examples: u64,
    /// Units of the task (triples, ratings, words) a second since the epoch's start.
    pub units_per_s: f64,
    /// What the units are called.
    pub unit: &'static str,
    /// Mean loss since the epoch's start.
    pub loss: f64,
    /// Seconds of training steps that are left.
    pub eta_s: f64,
}

/// An epoch that is over.
#[derive(Clone, Debug, PartialEq)]
pub struct EpochEnd {
    /// The epoch, from 1.
    pub epoch: u32,
    /// Epochs in all.
    pub epochs: u32,
    /// Mean loss over all workers.
    pub loss: f64,
    /// Seconds that its steps took.
    pub seconds: f64,
    /// Validation quality, if the epoch ended with one.
    pub valid: Option<Quality>,
}

/// Takes news of a run. All methods are optional; they run on a worker's thread and should return
/// at once. One worker per node calls them.
pub trait Progress: Send {
    /// After every step.
    fn step(&mut self, position: &Position) {
        let _ = position;
    }

    /// After every epoch, and its validation if it has one.
    fn epoch(&mut self, end: &EpochEnd) {
        let _ = end;
    }

    /// Something worth a line: resumed, saved, stopped early, exported.
    fn note(&mut self, text: &str) {
        let _ = text;
    }
}

/// Says nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {}
