//! A batch's scores and gradients.

use pulp::Arch;

use super::{Examples, Features};
use crate::dense::cross_entropy::{cross_entropy, loss_and_hits};
use crate::dense::product;
use crate::sparse::product::{gather, scatter_add};
use crate::sparse::{Distinct, SparseRows};

/// Examples, and the weights that they use.
#[derive(Debug, Default)]
pub struct Batch {
    /// Keys of the weights: distinct features, then the bias.
    pub(super) keys: Vec<u64>,
    /// Sparse examples, columns by their place in `keys`; none has the bias.
    rows: SparseRows,
    /// Dense ones, each with a 1 for the bias behind.
    full: Vec<f32>,
    pub(super) classes: Vec<u32>,
}

/// A worker's buffers.
#[derive(Debug)]
pub struct Step {
    arch: Arch,
    /// Features of the data set, and classes.
    features: usize,
    width: usize,
    distinct: Distinct,
    columns: Vec<u32>,
    places: Vec<u32>,
    /// Pulled rows, in the order of the batch's keys.
    pub(super) weights: Vec<f32>,
    pub(super) gradients: Vec<f32>,
    scores: Vec<f32>,
}

impl Step {
    pub(super) fn new(features: usize, classes: usize) -> Self {
        Self {
            arch: Arch::new(),
            features,
            width: classes,
            distinct: Distinct::new(features),
            columns: Vec::new(),
            places: Vec::new(),
            weights: Vec::new(),
            gradients: Vec::new(),
            scores: Vec::new(),
        }
    }

    /// Makes a batch of these examples.
    pub(super) fn draw(
        &mut self,
        examples: &Examples,
        numbers: impl Iterator<Item = usize> + Clone,
        batch: &mut Batch,
    ) {
        let bias = self.features as u64;
        batch.classes.clear();
        batch.classes.extend(numbers.clone().map(|number| examples.classes[number]));
        match &examples.features {
            Features::Sparse(rows) => {
                self.columns.clear();
                for number in numbers.clone() {
                    self.columns.extend_from_slice(rows.row(number).0);
                }
                self.distinct.scan(&self.columns, &mut batch.keys, &mut self.places);
                batch.keys.push(bias);
                batch.rows.clear(batch.keys.len());
                let mut places = &self.places[..];
                for number in numbers {
                    let values = rows.row(number).1;
                    let (mine, rest) = places.split_at(values.len());
                    places = rest;
                    batch.rows.push_parts(mine, values);
                }
            }
            Features::Dense(values, columns) => {
                if batch.keys.is_empty() {
                    batch.keys.extend(0..=bias);
                }
                batch.full.clear();
                for number in numbers {
                    batch.full.extend_from_slice(&values[number * columns..][..*columns]);
                    batch.full.push(1.0);
                }
            }
        }
    }

    /// The gradients of the mean loss of a batch, by the weights that were pulled; returns the sum of the losses.
    pub(super) fn gradients(&mut self, batch: &Batch, l2: f32) -> f64 {
        self.score(batch);
        let Self { arch, width, weights, gradients, scores, .. } = self;
        let count = batch.classes.len();
        #[expect(clippy::cast_precision_loss, reason = "a batch is small")]
        let share = 1.0 / count as f32;
        let losses = cross_entropy(scores, *width, &batch.classes, share);
        gradients.clear();
        gradients.resize(weights.len(), 0.0);
        if batch.is_dense() {
            product::tn((batch.keys.len(), *width, count), &batch.full, scores, gradients);
        } else {
            scatter_add(*arch, &batch.rows, scores, *width, gradients);
            let bias = gradients.len() - *width;
            for scores in scores.chunks_exact(*width) {
                add(&mut gradients[bias..], scores);
            }
        }
        if l2 > 0.0 {
            // The bias, last of the keys, is free.
            let decayed = weights.len() - *width;
            for (gradient, weight) in gradients[..decayed].iter_mut().zip(weights) {
                *gradient += l2 * *weight;
            }
        }
        losses
    }

    /// The sum of a batch's losses, and how many of its examples get their class.
    pub(super) fn evaluate(&mut self, batch: &Batch) -> (f64, u64) {
        self.score(batch);
        loss_and_hits(&self.scores, self.width, &batch.classes)
    }

    fn score(&mut self, batch: &Batch) {
        let count = batch.classes.len();
        self.scores.resize(count * self.width, 0.0);
        if batch.is_dense() {
            let shape = (count, self.width, batch.keys.len());
            product::nn(shape, &batch.full, &self.weights, &mut self.scores);
        } else {
            gather(self.arch, &batch.rows, &self.weights, self.width, &mut self.scores);
            let bias = &self.weights[self.weights.len() - self.width..];
            for scores in self.scores.chunks_exact_mut(self.width) {
                add(scores, bias);
            }
        }
    }
}

fn add(to: &mut [f32], values: &[f32]) {
    for (to, value) in to.iter_mut().zip(values) {
        *to += value;
    }
}

impl Batch {
    fn is_dense(&self) -> bool {
        !self.full.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::{Batch, Examples, Features, Step};
    use crate::dense::difference::{assert_gradient, numbers};
    use crate::sparse::SparseRows;

    const CLASSES: usize = 3;
    const FEATURES: usize = 6;

    /// The same examples, sparse and dense.
    fn both_forms() -> [Examples; 2] {
        let mut full = numbers(4 * FEATURES, 5);
        // Feature 2 is nowhere, feature 0 only in the last example.
        for example in 0..4 {
            full[example * FEATURES + 2] = 0.0;
            full[example * FEATURES] *= f32::from(u8::from(example == 3));
        }
        let mut rows = SparseRows::new(FEATURES);
        for example in full.chunks(FEATURES) {
            rows.push((0..).zip(example.iter().copied()).filter(|pair| pair.1 != 0.0));
        }
        let classes = vec![0, 2, 1, 2];
        let sparse = Examples { features: Features::Sparse(rows), classes: classes.clone() };
        [sparse, Examples { features: Features::Dense(full, FEATURES), classes }]
    }

    #[test]
    fn gradients_are_those_of_finite_differences_sparse_and_dense() {
        const L2: f32 = 0.3;
        for examples in both_forms() {
            let (mut step, mut batch) = (Step::new(FEATURES, CLASSES), Batch::default());
            step.draw(&examples, 0..4, &mut batch);
            let weights = numbers(batch.keys.len() * CLASSES, 6);
            step.weights.clone_from(&weights);
            let sum = step.gradients(&batch, L2);
            let found = step.gradients.clone();
            assert!((step.evaluate(&batch).0 - sum).abs() < 1e-5);
            let decayed = weights.len() - CLASSES;
            assert_gradient("weights", &weights, &found, |weights| {
                step.weights.copy_from_slice(weights);
                let squares: f64 = weights[..decayed].iter().map(|&w| f64::from(w).powi(2)).sum();
                step.evaluate(&batch).0 / 4.0 + 0.5 * f64::from(L2) * squares
            });
        }
    }

    #[test]
    fn both_forms_give_the_same_scores() {
        let losses = both_forms().map(|examples| {
            let (mut step, mut batch) = (Step::new(FEATURES, CLASSES), Batch::default());
            step.draw(&examples, [3, 1].into_iter(), &mut batch);
            let whole = numbers((FEATURES + 1) * CLASSES, 7);
            let rows = batch.keys.iter().map(|&key| usize::try_from(key).unwrap() * CLASSES);
            step.weights = rows.flat_map(|at| whole[at..at + CLASSES].to_vec()).collect();
            step.evaluate(&batch)
        });
        assert!((losses[0].0 - losses[1].0).abs() < 1e-5 && losses[0].1 == losses[1].1);
    }
}
