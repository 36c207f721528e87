//! How well a classifier finds the labels of nodes from their vectors.
//!
//! The protocol of the authors of `DeepWalk`: a part of the labelled nodes, drawn at random, trains
//! one logistic regression for each label (C = 1, vectors as they are); for each of the others as
//! many labels are predicted as it has, those with the highest scores. Micro-F1 is over all
//! decisions, macro-F1 the mean over labels, 0 for one that is never right. Both are means over some
//! random splits, which are the same in every run.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_xoshiro::Xoshiro256PlusPlus;

use super::{Labels, LogisticRegression};
use crate::task::{Parameters, Quality, Share, TaskError};
use crate::words::INPUT;

/// The regression's `C`.
const COST: f64 = 1.0;

/// Labels to be found.
#[derive(Clone, Debug)]
pub struct Evaluation {
    labels: Labels,
    /// The part of the labelled nodes that trains the classifier.
    labelled: f64,
    splits: u32,
}

/// Decisions by label.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Decisions {
    right: f64,
    predicted: f64,
    actual: f64,
}

impl Decisions {
    fn f1(self) -> f64 {
        let all = self.predicted + self.actual;
        if all > 0.0 { 2.0 * self.right / all } else { 0.0 }
    }
}

impl Evaluation {
    /// Trains classifiers on the part `labelled` of the nodes, in `splits` random ways.
    ///
    /// # Errors
    /// [`TaskError::Setting`] if nothing would be left to train on or to ask, or there is no split.
    pub fn new(labels: Labels, labelled: f64, splits: u32) -> Result<Self, TaskError> {
        let evaluation = Self { labels, labelled, splits };
        let (train, all) = (evaluation.train_len(), evaluation.labels.nodes.len());
        if !(labelled > 0.0 && labelled < 1.0) || train == 0 || train == all {
            let reason = "must leave nodes to train on and nodes to ask";
            return Err(TaskError::setting("labelled", &labelled, reason));
        }
        if splits == 0 {
            return Err(TaskError::setting("splits", &splits, "must be at least 1"));
        }
        Ok(evaluation)
    }

    /// The labels.
    #[must_use]
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    fn train_len(&self) -> usize {
        #[expect(clippy::cast_precision_loss, reason = "nodes are u32")]
        #[expect(clippy::cast_possible_truncation, reason = "a part of a count")]
        #[expect(clippy::cast_sign_loss, reason = "shares are checked to be positive")]
        let count = (self.labelled * self.labels.nodes.len() as f64) as usize;
        count
    }

    /// Micro-F1 and macro-F1; all workers call it together, and share out the splits.
    ///
    /// # Errors
    /// Those of the parameter manager.
    pub fn evaluate(
        &self,
        parameters: &mut Parameters<'_>,
        share: Share,
    ) -> Result<Quality, TaskError> {
        let splits = self.splits as usize;
        // Of each split the two figures, its own worker's being the only ones that are not zero.
        let mut figures = vec![0.0; 2 * splits];
        let mine: Vec<usize> = share.of(&(0..splits).collect::<Vec<_>>()).copied().collect();
        if !mine.is_empty() {
            let keys: Vec<u64> =
                self.labels.nodes.iter().map(|&(node, _)| u64::from(node)).collect();
            let dim = parameters.table(INPUT).dim();
            let mut rows = vec![0.0; keys.len() * dim];
            parameters.pull(INPUT, &keys, &mut rows)?;
            for split in mine {
                let found = self.ask(&rows, dim, split);
                figures[2 * split..2 * split + 2].copy_from_slice(&found);
            }
        }
        parameters.all_reduce_sum(&mut figures)?;
        let count = f64::from(self.splits);
        let mean = |at: usize| figures[at..].iter().step_by(2).sum::<f64>() / count;
        let (micro, macro_) = (mean(0), mean(1));
        let squares = figures.iter().step_by(2).map(|figure| (figure - micro).powi(2));
        let deviation = (squares.sum::<f64>() / count).sqrt();
        Ok(Quality::of([("micro_f1", micro), ("macro_f1", macro_), ("micro_f1_std", deviation)]))
    }

    /// Micro-F1 and macro-F1 of one split.
    fn ask(&self, rows: &[f32], dim: usize, split: usize) -> [f64; 2] {
        let nodes = &self.labels.nodes;
        let mut order: Vec<usize> = (0..nodes.len()).collect();
        order.shuffle(&mut Xoshiro256PlusPlus::seed_from_u64(split as u64));
        let (train, test) = order.split_at(self.train_len());
        let row = |node: usize| &rows[node * dim..][..dim];
        let train_rows: Vec<f32> = train.iter().flat_map(|&node| row(node)).copied().collect();
        let mut regression = LogisticRegression::new(&train_rows, dim, COST);
        let weights: Vec<Vec<f64>> = (0..self.labels.names.len())
            .map(|label| {
                let has = |&node: &usize| nodes[node].1.iter().any(|&own| own as usize == label);
                regression.fit(&train.iter().map(has).collect::<Vec<bool>>())
            })
            .collect();
        let mut decisions = vec![Decisions::default(); weights.len()];
        for &node in test {
            let score = |weights: &Vec<f64>| {
                let products = row(node).iter().zip(weights).map(|(&x, w)| f64::from(x) * w);
                products.sum::<f64>() + weights[dim]
            };
            let scores: Vec<f64> = weights.iter().map(score).collect();
            let mut ranked: Vec<usize> = (0..scores.len()).collect();
            ranked.sort_by(|&one, &other| scores[other].total_cmp(&scores[one]));
            let own = &nodes[node].1;
            for &label in own {
                decisions[label as usize].actual += 1.0;
            }
            for &label in &ranked[..own.len()] {
                decisions[label].predicted += 1.0;
                let right = own.iter().any(|&own| own as usize == label);
                decisions[label].right += f64::from(u8::from(right));
            }
        }
        f1(&decisions)
    }
}

/// Micro-F1 and macro-F1.
fn f1(decisions: &[Decisions]) -> [f64; 2] {
    let sum = |part: fn(&Decisions) -> f64| decisions.iter().map(part).sum();
    let all = Decisions {
        right: sum(|d| d.right),
        predicted: sum(|d| d.predicted),
        actual: sum(|d| d.actual),
    };
    #[expect(clippy::cast_precision_loss, reason = "labels are few")]
    let count = decisions.len().max(1) as f64;
    [all.f1(), decisions.iter().map(|of_label| of_label.f1()).sum::<f64>() / count]
}

#[cfg(test)]
mod tests {
    use super::{Decisions, Evaluation, f1};
    use crate::data::Vocabulary;
    use crate::walks::Labels;

    fn labels(nodes: impl Iterator<Item = Vec<u32>>, names: usize) -> Labels {
        let mut labels = Labels { names: Vocabulary::default(), nodes: (0..).zip(nodes).collect() };
        for name in 0..names {
            labels.names.number_or_add(&name.to_string());
        }
        labels
    }

    #[test]
    fn f1_is_over_all_decisions_and_the_mean_over_labels() {
        let decisions = |right, predicted, actual| Decisions { right, predicted, actual };
        let found = f1(&[decisions(3.0, 4.0, 6.0), decisions(0.0, 0.0, 2.0)]);
        // 2 * 3 / (4 + 8), and (2 * 3 / 10 + 0) / 2.
        assert!((found[0] - 0.5).abs() < 1e-12 && (found[1] - 0.3).abs() < 1e-12, "{found:?}");
    }

    #[test]
    fn labels_that_the_vectors_say_are_found_and_those_they_do_not_are_not() {
        // Entry `l` of a node's vector says whether it has label `l`; a node has one or two.
        let own =
            |node: u32| if node.is_multiple_of(3) { vec![node % 4, 4] } else { vec![node % 4] };
        let labels = labels((0..200).map(own), 5);
        let says = |node: u32, at: u32| if own(node).contains(&at) { 2.0 } else { -2.0 };
        let rows: Vec<f32> =
            (0..200).flat_map(|node| (0..5).map(move |at| says(node, at))).collect();
        let evaluation = Evaluation::new(labels, 0.5, 3).unwrap();
        assert_eq!(evaluation.ask(&rows, 5, 0), [1.0, 1.0]);
        let nothing = vec![1.0; rows.len()];
        let [micro, macro_] = evaluation.ask(&nothing, 5, 1);
        assert!(micro < 0.6 && macro_ < 0.4, "{micro} {macro_}");
    }

    #[test]
    fn shares_that_leave_nothing_are_refused() {
        let labels = labels((0..5).map(|node| vec![node % 2]), 2);
        for (labelled, splits, good) in
            [(0.5, 1, true), (0.1, 1, false), (1.0, 1, false), (0.5, 0, false)]
        {
            assert_eq!(Evaluation::new(labels.clone(), labelled, splits).is_ok(), good);
        }
    }
}
