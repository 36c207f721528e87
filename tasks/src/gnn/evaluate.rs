//! How good a network is: accuracy, the mean of the classes' F1, and log loss.
//!
//! Nodes are evaluated with all their neighbours, whether or not training draws some, and nothing is dropped.

use std::sync::{Mutex, PoisonError};

use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;
use rustc_hash::FxHashMap;

use super::batch::Batch;
use super::step::Step;
use super::task::Gnn;
use crate::dense::cross_entropy::{best_class, loss_and_hits};
use crate::task::{Parameters, Quality, Share, Split, TaskError};

/// What a worker keeps from one evaluation to the next.
#[derive(Debug)]
pub(super) struct Evaluator {
    step: Step,
    /// The batch of a split that is evaluated in one piece.
    valid: Option<Batch>,
    scratch: Batch,
}

/// The evaluators of this node's workers.
#[derive(Debug, Default)]
pub(super) struct Evaluators(Mutex<FxHashMap<usize, Evaluator>>);

impl Evaluators {
    fn take(&self, task: &Gnn, share: Share) -> Evaluator {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&share.index);
        kept.unwrap_or_else(|| Evaluator {
            step: Step::new(&task.data, &task.config, &task.tables),
            valid: None,
            scratch: Batch::default(),
        })
    }

    fn put(&self, share: Share, evaluator: Evaluator) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(share.index, evaluator);
    }
}

/// Counts of one class, and sums over all.
struct Counts {
    /// For each class: nodes of it that were found, nodes taken for it, nodes of it.
    classes: Vec<[f64; 3]>,
    loss: f64,
}

impl Counts {
    fn add(&mut self, scores: &[f32], labels: &[u32]) {
        let classes = self.classes.len();
        self.loss += loss_and_hits(scores, classes, labels).0;
        for (row, &label) in scores.chunks_exact(classes).zip(labels) {
            let found = best_class(row);
            self.classes[found][1] += 1.0;
            self.classes[label as usize][2] += 1.0;
            if found == label as usize {
                self.classes[found][0] += 1.0;
            }
        }
    }

    /// The figures of all workers' counts.
    fn quality(&self, parameters: &mut Parameters<'_>) -> Result<Quality, TaskError> {
        let mut sums: Vec<f64> =
            self.classes.iter().flatten().copied().chain([self.loss]).collect();
        parameters.all_reduce_sum(&mut sums)?;
        let (loss, counts) = sums.split_last().expect("the loss at least");
        let nodes: f64 = counts.chunks(3).map(|class| class[2]).sum();
        let hits: f64 = counts.chunks(3).map(|class| class[0]).sum();
        // F1 = 2 tp / (predicted + actual); a class that neither occurs nor is predicted has none.
        let f1: Vec<f64> = counts
            .chunks(3)
            .filter(|class| class[1] + class[2] > 0.0)
            .map(|class| 2.0 * class[0] / (class[1] + class[2]))
            .collect();
        #[expect(clippy::cast_precision_loss, reason = "classes are few")]
        let macro_f1 = f1.iter().sum::<f64>() / f1.len().max(1) as f64;
        let nodes = nodes.max(1.0);
        let figures = [("accuracy", hits / nodes), ("macro_f1", macro_f1), ("loss", loss / nodes)];
        Ok(Quality::of(figures))
    }
}

impl Gnn {
    /// Evaluates a split; see [`Task::evaluate`](crate::task::Task::evaluate).
    pub(super) fn quality(
        &self,
        parameters: &mut Parameters<'_>,
        split: Split,
        share: Share,
    ) -> Result<Quality, TaskError> {
        let nodes: Vec<u32> = share.of(self.nodes_of(split)).copied().collect();
        let mut evaluator = self.evaluators.take(self, share);
        let Evaluator { step, valid, scratch } = &mut evaluator;
        let classes = vec![[0.0; 3]; self.data.class_names.len()];
        let mut counts = Counts { classes, loss: 0.0 };
        let fanouts = vec![0; self.config.layers];
        let whole = split == Split::Valid && nodes.len() <= self.config.evaluate_batch;
        for chunk in nodes.chunks(self.config.evaluate_batch) {
            let batch = match valid {
                Some(batch) if whole => &*batch,
                _ => {
                    // Nothing is drawn with all neighbours.
                    let mut random = Xoshiro256PlusPlus::seed_from_u64(0);
                    step.builder.build(&self.data, chunk, &fanouts, &mut random, scratch);
                    if whole { valid.insert(std::mem::take(scratch)) } else { &mut *scratch }
                }
            };
            let scores = step.scores(&self.tables, batch, parameters)?;
            counts.add(scores, &batch.labels);
        }
        self.evaluators.put(share, evaluator);
        counts.quality(parameters)
    }
}
