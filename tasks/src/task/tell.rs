//! What a run says while it goes on, and at its end.

use std::collections::BTreeMap;

use sterna::Node;

use super::checkpoint::History;
use super::progress::Position;
use super::train::{Run, Trainer};
use super::{Quality, Task, TaskError};
use crate::report::{REPORT_VERSION, Report, Validation};

/// How a training ended.
pub(super) struct Outcome {
    history: History,
    epochs: u32,
    stopped: bool,
    evaluate_seconds: f64,
    valid: Option<Quality>,
    test: Option<Quality>,
}

impl<T: Task> Trainer<'_, '_, T> {
    pub(super) fn tell_step(&mut self) {
        let Some(progress) = &mut self.progress else { return };
        let about = &self.run.about;
        let examples = self.run.task.examples();
        let seconds = self.started.elapsed().as_secs_f64().max(1e-9);
        let done = self.seen.now.min(examples);
        let epochs_left = self.run.config.epochs - self.place.epochs - 1;
        #[expect(clippy::cast_precision_loss, reason = "for people to read")]
        let (examples_per_s, left) = (
            (self.seen.now - self.seen.at_start) as f64 / seconds,
            (examples - done) as f64 + f64::from(epochs_left) * examples as f64,
        );
        progress.step(&Position {
            epoch: self.place.epochs + 1,
            epochs: self.run.config.epochs,
            done: done as u64,
            examples: examples as u64,
            units_per_s: examples_per_s * about.units_per_example,
            unit: about.unit,
            loss: self.seen.loss.mean(),
            eta_s: left / examples_per_s,
        });
    }

    pub(super) fn note(&mut self, text: impl FnOnce(&Self) -> String) {
        if self.progress.is_some() {
            let text = text(self);
            if let Some(progress) = &mut self.progress {
                progress.note(&text);
            }
        }
    }

    pub(super) fn outcome(self, stopped: bool, test: Option<Quality>) -> Outcome {
        Outcome {
            history: self.history,
            epochs: self.place.epochs,
            stopped,
            evaluate_seconds: self.evaluate_seconds,
            valid: self.last_valid,
            test,
        }
    }
}

/// The result of a training, for the whole job; all nodes call it.
pub(super) fn report<T: Task>(
    node: &Node,
    run: &Run<'_, T>,
    outcome: Outcome,
) -> Result<Report, TaskError> {
    let mut quality = BTreeMap::new();
    for (prefix, found) in [("", outcome.test), ("valid_", outcome.valid)] {
        let figures = found.into_iter().flat_map(|quality| quality.0);
        quality.extend(figures.map(|(name, figure)| (format!("{prefix}{name}"), figure)));
    }
    let validations = outcome.history.validations.into_iter().map(|validation| Validation {
        epoch: validation.epoch,
        seconds: validation.seconds,
        quality: validation.quality.0.into_iter().collect(),
    });
    let measured = node.job_report()?;
    Ok(Report {
        version: REPORT_VERSION,
        task: run.about.task.into(),
        model: run.about.model.clone(),
        dataset: run.about.dataset.clone(),
        nodes: node.size(),
        workers: node.workers(),
        seed: run.config.seed,
        epochs: outcome.epochs,
        stopped: outcome.stopped,
        train_seconds: outcome.history.epoch_seconds.iter().sum(),
        epoch_seconds: outcome.history.epoch_seconds,
        evaluate_seconds: outcome.evaluate_seconds,
        goal: run.about.goal.name().into(),
        quality,
        validations: validations.collect(),
        loss: outcome.history.loss,
        settings: run.task.settings(),
        fabric: node.fabric_name(),
        policy: node.policy().to_string(),
        paths: serde_json::to_value(measured.paths).unwrap_or_default(),
        bytes: serde_json::to_value(measured.bytes).unwrap_or_default(),
        cpu_seconds: serde_json::to_value(measured.cpu_seconds).unwrap_or_default(),
        management: serde_json::to_value(measured.management).unwrap_or_default(),
        staleness_us: measured.staleness_us,
    })
}
