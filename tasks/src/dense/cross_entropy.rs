//! Softmax and cross-entropy over classes.

/// Replaces scores of classes by the gradient of `scale` times the sum of the rows' losses
/// `-ln softmax(scores)[label]`, and returns the sum of losses without `scale`.
///
/// `dL/ds = scale (softmax(s) - onehot(label))`. `scores` has a row of `classes` floats per label.
///
/// # Panics
/// If there is not one row per label, or a label is none of the classes.
pub fn cross_entropy(scores: &mut [f32], classes: usize, labels: &[u32], scale: f32) -> f64 {
    assert_eq!(scores.len(), labels.len() * classes);
    let mut losses = 0.0;
    for (row, &label) in scores.chunks_exact_mut(classes).zip(labels) {
        let label = label as usize;
        let (max, mine) = (max_of(row), row[label]);
        let mut sum = 0.0;
        for score in row.iter_mut() {
            *score = (*score - max).exp();
            sum += *score;
        }
        losses += f64::from(sum).ln() + f64::from(max - mine);
        let share = scale / sum;
        row.iter_mut().for_each(|value| *value *= share);
        row[label] -= scale;
    }
    losses
}

/// How good scores are: the sum of losses `-ln softmax(scores)[label]`, and in how many rows the label's
/// score is the largest (of equal ones the first counts).
///
/// # Panics
/// As [`cross_entropy`].
#[must_use]
pub fn loss_and_hits(scores: &[f32], classes: usize, labels: &[u32]) -> (f64, u64) {
    assert_eq!(scores.len(), labels.len() * classes);
    let (mut losses, mut hits) = (0.0, 0);
    for (row, &label) in scores.chunks_exact(classes).zip(labels) {
        let max = max_of(row);
        let sum: f64 = row.iter().map(|&score| f64::from(score - max).exp()).sum();
        losses += sum.ln() + f64::from(max - row[label as usize]);
        hits += u64::from(best_class(row) == label as usize);
    }
    (losses, hits)
}

/// The class with the largest score; of equal ones the first.
#[must_use]
pub fn best_class(row: &[f32]) -> usize {
    let max = max_of(row);
    // Where a score is NaN, no class is best, and any will do: the loss says so.
    row.iter().position(|&score| score >= max).unwrap_or(0)
}

/// The largest number of a row, NaN if one is: a model that left the finite numbers must show.
fn max_of(row: &[f32]) -> f32 {
    row.iter().fold(f32::NEG_INFINITY, |max, &score| if score <= max { max } else { score })
}

#[cfg(test)]
mod tests {
    use super::{cross_entropy, loss_and_hits};
    use crate::dense::difference::{assert_gradient, numbers};

    const CLASSES: usize = 5;
    const LABELS: [u32; 4] = [0, 4, 2, 2];

    #[test]
    fn the_gradient_is_that_of_finite_differences() {
        let scores = numbers(LABELS.len() * CLASSES, 1);
        let mut gradient = scores.clone();
        let loss = cross_entropy(&mut gradient, CLASSES, &LABELS, 0.25);
        let plain = |scores: &[f32]| -> f64 {
            let rows = scores.chunks(CLASSES).zip(LABELS);
            rows.map(|(row, label)| {
                let sum: f64 = row.iter().map(|&score| f64::from(score).exp()).sum();
                sum.ln() - f64::from(row[label as usize])
            })
            .sum()
        };
        assert!((loss - plain(&scores)).abs() < 1e-5);
        assert!((loss_and_hits(&scores, CLASSES, &LABELS).0 - loss).abs() < 1e-5);
        assert_gradient("scores", &scores, &gradient, |scores| 0.25 * plain(scores));
    }

    #[test]
    fn far_apart_scores_neither_overflow_nor_hide_their_loss() {
        let mut scores = [200.0, -300.0, 0.0];
        assert!((cross_entropy(&mut scores, 3, &[1], 1.0) - 500.0).abs() < 1e-6);
        assert_eq!(scores, [1.0, -1.0, 0.0]);
        assert!(cross_entropy(&mut [f32::NAN, 1.0], 2, &[1], 1.0).is_nan());
        assert!(cross_entropy(&mut [1.0, f32::NAN], 2, &[0], 1.0).is_nan());
    }

    #[test]
    fn hits_are_rows_whose_label_is_the_first_of_the_largest() {
        let scores = [1.0, 3.0, 3.0, 0.0, 0.0, 1.0];
        assert_eq!(loss_and_hits(&scores, 3, &[1, 2]).1, 2);
        assert_eq!(loss_and_hits(&scores, 3, &[2, 0]).1, 0);
    }
}
