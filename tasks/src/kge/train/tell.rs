//! What a run says while it goes on, and at its end.

use std::collections::BTreeMap;
use std::time::Instant;

use sterna::Node;

use super::Trainer;
use crate::kge::KgeError;
use crate::kge::checkpoint::History;
use crate::kge::evaluate::Quality;
use crate::kge::progress::Position;
use crate::kge::{Graph, KgeConfig};
use crate::report::{REPORT_VERSION, Report};

/// How a training ended.
pub(super) struct Outcome {
    history: History,
    epochs: u32,
    stopped: bool,
    evaluate_seconds: f64,
    valid: Option<Quality>,
    test: Option<Quality>,
}

impl Trainer<'_, '_> {
    pub(super) fn tell_step(&mut self, started: Instant, first: usize, batch: usize, loss: f64) {
        let Some(progress) = &mut self.progress else { return };
        let count = self.order.len();
        let seconds = started.elapsed().as_secs_f64().max(1e-9);
        let round = batch * self.share.count;
        #[expect(clippy::cast_precision_loss, reason = "for people to read")]
        let triples_per_s = (self.place.triples - first) as f64 / seconds;
        let epochs_left = self.run.config.epochs - self.place.epochs - 1;
        #[expect(clippy::cast_precision_loss, reason = "for people to read")]
        let left = (count - self.place.triples) as f64 + f64::from(epochs_left) * count as f64;
        progress.step(&Position {
            epoch: self.place.epochs + 1,
            epochs: self.run.config.epochs,
            step: self.place.triples.div_ceil(round) as u64,
            steps: count.div_ceil(round) as u64,
            triples_per_s,
            loss,
            eta_s: left / triples_per_s,
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
pub(super) fn report(
    node: &Node,
    graph: &Graph,
    config: &KgeConfig,
    outcome: Outcome,
) -> Result<Report, KgeError> {
    let mut quality = BTreeMap::new();
    for (prefix, found) in [("", outcome.test), ("valid_", outcome.valid)] {
        let Some(found) = found else { continue };
        let figures = [
            ("mrr", found.mrr),
            ("hits1", found.hits1),
            ("hits3", found.hits3),
            ("hits10", found.hits10),
        ];
        quality.extend(figures.map(|(name, figure)| (format!("{prefix}{name}"), figure)));
    }
    let measured = node.job_report()?;
    Ok(Report {
        version: REPORT_VERSION,
        task: "kge".into(),
        model: config.model.name().into(),
        dataset: graph.name.clone(),
        nodes: node.size(),
        workers: node.workers(),
        seed: config.seed,
        epochs: outcome.epochs,
        stopped: outcome.stopped,
        train_seconds: outcome.history.epoch_seconds.iter().sum(),
        epoch_seconds: outcome.history.epoch_seconds,
        evaluate_seconds: outcome.evaluate_seconds,
        quality,
        loss: outcome.history.loss,
        settings: config.to_json(),
        fabric: node.fabric_name(),
        policy: "classic".into(),
        paths: serde_json::to_value(measured.paths).unwrap_or_default(),
        bytes: serde_json::to_value(measured.bytes).unwrap_or_default(),
        cpu_seconds: serde_json::to_value(measured.cpu_seconds).unwrap_or_default(),
    })
}
