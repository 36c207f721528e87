//! Logistic losses: each score is told apart from 0 by itself.
//!
//! With the positive score `a`, the pool's scores `b_j`, the margin `c` and the logistic function
//! `f(x) = 1 / (1 + exp(-x))`,
//!
//! ```text
//! L = -ln f(a + c) - sum_j w_j ln f(-(b_j + c))
//! dL/da = -f(-(a + c))        dL/db_j = w_j f(b_j + c)
//! ```
//!
//! - *logistic*: `w_j = 1/N`, the mean over the pool, so that positives and negatives weigh the same;
//! - *self-adversarial* (Sun et al. 2019, equation 5): `w_j = exp(v b_j) / sum_i exp(v b_i)` with a
//!   temperature `v`, so that negatives count by how wrong they are. The weights are taken as
//!   constants: no gradient flows through them.
//!
//! The margin is what distances are compared with; for dot products it is usually 0. The target
//! itself, if it was drawn, is left out; an entity drawn several times counts as often.

use super::arithmetic::{LANES, blocks, exp, softplus};

/// Turns one query's scores into its loss and gradients, in place, with a fixed weight for each
/// candidate.
///
/// `scores` holds `b_j` on entry and `scale * dL/db_j` on return. Returns `L` and `scale * dL/da`.
#[inline(always)]
pub fn logistic(
    positive: f32,
    scores: &mut [f32],
    weights: &[f32],
    margin: f32,
    target: Option<usize>,
    scale: f32,
) -> (f32, f32) {
    leave_out(scores, target);
    let mut losses = [0.0_f32; LANES];
    blocks(scores, &weights[..scores.len()], |lane, score, weight| {
        let (loss, slope) = softplus(*score + margin);
        losses[lane] += weight * loss;
        *score = scale * weight * slope;
    });
    let (loss, slope) = softplus(-(positive + margin));
    (losses.into_iter().sum::<f32>() + loss, -scale * slope)
}

/// As [`logistic`], with weights that follow from the scores; `offsets` holds the logarithm of how
/// often each candidate was drawn.
#[inline(always)]
pub fn self_adversarial(
    positive: f32,
    scores: &mut [f32],
    offsets: &[f32],
    (margin, temperature): (f32, f32),
    target: Option<usize>,
    scale: f32,
) -> (f32, f32) {
    leave_out(scores, target);
    let offsets = &offsets[..scores.len()];
    let mut maxima = [f32::MIN; LANES];
    blocks(scores, offsets, |lane, score, offset| {
        maxima[lane] = maxima[lane].max(temperature * *score + offset);
    });
    let max = maxima.into_iter().fold(f32::MIN, f32::max);
    let mut sums = [0.0_f32; LANES];
    blocks(scores, offsets, |lane, score, offset| {
        sums[lane] += exp(temperature * *score + offset - max);
    });
    let share = 1.0 / sums.into_iter().sum::<f32>();
    let mut losses = [0.0_f32; LANES];
    blocks(scores, offsets, |lane, score, offset| {
        let weight = share * exp(temperature * *score + offset - max);
        let (loss, slope) = softplus(*score + margin);
        losses[lane] += weight * loss;
        *score = scale * weight * slope;
    });
    let (loss, slope) = softplus(-(positive + margin));
    (losses.into_iter().sum::<f32>() + loss, -scale * slope)
}

/// So low a score that it weighs nothing, without a test in the loops.
#[inline(always)]
fn leave_out(scores: &mut [f32], target: Option<usize>) {
    if let Some(target) = target {
        scores[target] = f32::MIN;
    }
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "f64 kept as f32")]
mod tests {
    use super::{logistic, self_adversarial};

    const A: f64 = -1.3;
    const B: [f64; 5] = [-1.2, 0.4, 2.1, 0.0, -3.0];
    /// How often each of them was drawn.
    const DRAWS: [f64; 5] = [1.0, 2.0, 1.0, 1.0, 3.0];
    const MARGIN: f64 = 0.8;

    fn plain_loss(a: f64, b: &[f64], weights: &[f64]) -> f64 {
        let minus_ln = |x: f64| (1.0 + (-x).exp()).ln();
        let negatives = b.iter().zip(weights).map(|(b, w)| w * minus_ln(-(b + MARGIN)));
        minus_ln(a + MARGIN) + negatives.sum::<f64>()
    }

    fn adversarial_weights(temperature: f64) -> Vec<f64> {
        let raw = B.iter().zip(DRAWS).map(|(b, n)| n * (temperature * b).exp());
        let sum: f64 = raw.clone().sum();
        raw.map(|weight| weight / sum).collect()
    }

    fn check(found: (f32, f32), slopes: &[f32], weights: &[f64]) {
        let step = 1e-5;
        assert!((f64::from(found.0) - plain_loss(A, &B, weights)).abs() < 1e-6);
        let above = plain_loss(A + step, &B, weights);
        let slope = (above - plain_loss(A - step, &B, weights)) / (2.0 * step);
        assert!((f64::from(found.1) - slope).abs() < 1e-6);
        for j in 0..B.len() {
            let moved = |delta| {
                let mut b = B;
                b[j] += delta;
                plain_loss(A, &b, weights)
            };
            let slope = (moved(step) - moved(-step)) / (2.0 * step);
            assert!((f64::from(slopes[j]) - slope).abs() < 1e-6, "{j}: {} {slope}", slopes[j]);
        }
    }

    #[test]
    fn logistic_loss_and_gradients_are_those_of_finite_differences() {
        let weights = DRAWS.map(|draws| draws / 8.0);
        let mut scores = B.map(|b| b as f32);
        let narrow = weights.map(|weight| weight as f32);
        let found = logistic(A as f32, &mut scores, &narrow, MARGIN as f32, None, 1.0);
        check(found, &scores, &weights);
    }

    #[test]
    fn self_adversarial_gradients_are_those_of_its_loss_with_constant_weights() {
        for temperature in [0.0, 0.5, 2.0] {
            let mut scores = B.map(|b| b as f32);
            let offsets = DRAWS.map(|draws| draws.ln() as f32);
            let settings = (MARGIN as f32, temperature as f32);
            let found = self_adversarial(A as f32, &mut scores, &offsets, settings, None, 1.0);
            check(found, &scores, &adversarial_weights(temperature));
        }
    }

    #[test]
    fn the_target_in_the_pool_is_left_out() {
        let mut scores = [9.0, -0.5];
        let (loss, _) = self_adversarial(0.3, &mut scores, &[0.0; 2], (0.1, 1.0), Some(0), 1.0);
        let (alone, _) = self_adversarial(0.3, &mut [-0.5], &[0.0], (0.1, 1.0), None, 1.0);
        assert!((loss - alone).abs() < 1e-6);
        assert_eq!(scores[0], 0.0);
        let mut scores = [9.0, -0.5];
        let (loss, _) = logistic(0.3, &mut scores, &[0.5; 2], 0.1, Some(0), 1.0);
        let (alone, _) = logistic(0.3, &mut [-0.5], &[0.5], 0.1, None, 1.0);
        assert!((loss - alone).abs() < 1e-6);
        assert_eq!(scores[0], 0.0);
    }

    #[test]
    fn huge_scores_do_not_overflow_and_what_is_no_number_shows() {
        for (positive, pool) in [(300.0, [1.0, 2.0]), (-300.0, [200.0, 100.0])] {
            let mut scores = pool;
            let settings = (9.0, 2.0);
            let (loss, da) =
                self_adversarial(positive, &mut scores, &[0.0; 2], settings, None, 0.25);
            assert!(loss.is_finite() && loss >= 0.0 && da.is_finite());
            assert!(scores.iter().all(|slope| (0.0..=0.25).contains(slope)));
        }
        assert!(logistic(f32::NAN, &mut [0.0], &[1.0], 0.0, None, 1.0).0.is_nan());
        assert!(self_adversarial(0.0, &mut [f32::NAN], &[0.0], (0.0, 1.0), None, 1.0).0.is_nan());
    }
}
