//! Sampled softmax with shared negatives.
//!
//! One pool of `N` entities, drawn uniformly with replacement from all `n`, serves every query of
//! a batch. With the positive score `a` of a query, the pool's scores `b_j` and the correction
//! `c = ln((n-1)/N)`, which makes the pool stand for all entities,
//!
//! ```text
//! Z = exp(a) + sum_j (1 - m_j) exp(b_j + c)        m_j = 1 if pool entity j is the target itself
//! L = ln Z - a
//! dL/da = exp(a)/Z - 1        dL/db_j = (1 - m_j) exp(b_j + c)/Z
//! ```
//!
//! An entity drawn several times is one candidate here whose score has the logarithm of that
//! number added: the sum is the same, and each candidate is a distinct row.
//! Other true answers in the pool stay in, as they do in a softmax over all entities.

use super::arithmetic::{LANES, blocks, exp};

/// `ln((n-1)/N)`: what to add to the score of an entity drawn once into a pool of `drawn`.
#[must_use]
pub fn correction(entities: usize, drawn: usize) -> f32 {
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    let ratio = entities.saturating_sub(1).max(1) as f64 / drawn as f64;
    #[expect(clippy::cast_possible_truncation, reason = "a logarithm of moderate size")]
    let correction = ratio.ln() as f32;
    correction
}

/// Turns one query's scores into its loss and gradients, in place.
///
/// `scores` holds `b_j` on entry and `scale * dL/db_j` on return; `offsets` holds what each
/// candidate's score gets added; `target` is the candidate to leave out, if the target was drawn.
/// Returns `L` and `scale * dL/da`.
#[inline(always)]
pub fn sampled_softmax(
    positive: f32,
    scores: &mut [f32],
    offsets: &[f32],
    target: Option<usize>,
    scale: f32,
) -> (f32, f32) {
    let offsets = &offsets[..scores.len()];
    if let Some(target) = target {
        // Its weight below is exp(-huge) = 0 exactly, without a test in the loop.
        scores[target] = f32::MIN;
    }
    let mut maxima = [positive; LANES];
    blocks(scores, offsets, |lane, score, offset| {
        *score += offset;
        maxima[lane] = maxima[lane].max(*score);
    });
    let max = maxima.into_iter().fold(positive, f32::max);
    let mut sums = [0.0_f32; LANES];
    blocks(scores, offsets, |lane, score, _| {
        *score = exp(*score - max);
        sums[lane] += *score;
    });
    let others = sums.into_iter().sum::<f32>();
    let mine = exp(positive - max);
    let total = others + mine;
    let share = scale / total;
    for score in scores.iter_mut() {
        *score *= share;
    }
    // Not `mine / total - 1`: for a well learnt triple that difference would have no digits left.
    (total.ln() + max - positive, -others * share)
}

#[cfg(test)]
#[expect(clippy::cast_possible_truncation, reason = "small numbers, and f64 kept as f32")]
mod tests {
    use super::{correction, sampled_softmax};

    /// The loss as the module states it, in `f64`, with the pool written out draw by draw.
    fn plain_loss(positive: f64, drawn: &[f64], correction: f64) -> f64 {
        let sum: f64 = drawn.iter().map(|b| (b + correction).exp()).sum();
        (positive.exp() + sum).ln() - positive
    }

    #[test]
    fn loss_and_gradients_are_those_of_finite_differences() {
        let (a, b, c) = (0.7, [-1.2, 0.4, 2.1, 0.0, -3.0], 1.3);
        let mut scores = b.map(|b| b as f32);
        let (loss, da) = sampled_softmax(a as f32, &mut scores, &[c as f32; 5], None, 1.0);
        assert!((f64::from(loss) - plain_loss(a, &b, c)).abs() < 1e-6);
        let step = 1e-5;
        let slope = (plain_loss(a + step, &b, c) - plain_loss(a - step, &b, c)) / (2.0 * step);
        assert!((f64::from(da) - slope).abs() < 1e-6);
        for j in 0..b.len() {
            let moved = |delta| {
                let mut b = b;
                b[j] += delta;
                plain_loss(a, &b, c)
            };
            let slope = (moved(step) - moved(-step)) / (2.0 * step);
            assert!((f64::from(scores[j]) - slope).abs() < 1e-6);
        }
    }

    #[test]
    fn a_candidate_drawn_twice_counts_as_two() {
        let c = 0.5;
        let offsets = [c as f32, (c + 2.0_f64.ln()) as f32];
        let (loss, _) = sampled_softmax(0.3, &mut [1.0, -0.5], &offsets, None, 1.0);
        assert!((f64::from(loss) - plain_loss(0.3_f32.into(), &[1.0, -0.5, -0.5], c)).abs() < 1e-6);
    }

    #[test]
    fn the_target_in_the_pool_is_left_out() {
        let mut scores = [9.0, -0.5];
        let (loss, _) = sampled_softmax(0.3, &mut scores, &[0.0; 2], Some(0), 1.0);
        assert!((f64::from(loss) - plain_loss(0.3_f32.into(), &[-0.5], 0.0)).abs() < 1e-6);
        assert_eq!(scores[0], 0.0);
    }

    #[test]
    fn gradients_sum_to_zero_and_huge_scores_do_not_overflow() {
        for (positive, pool) in [(300.0, [1.0, 2.0]), (-300.0, [200.0, 100.0]), (0.0, [0.0, 0.0])] {
            let mut scores = pool;
            let (loss, da) = sampled_softmax(positive, &mut scores, &[0.0; 2], None, 0.25);
            assert!(loss.is_finite() && loss >= 0.0);
            assert!((da + scores.iter().sum::<f32>()).abs() < 1e-6);
        }
    }

    #[test]
    fn a_score_that_is_no_number_shows_in_the_loss() {
        let (loss, _) = sampled_softmax(f32::NAN, &mut [0.0], &[0.0], None, 1.0);
        assert!(!loss.is_finite());
        let (loss, _) = sampled_softmax(0.0, &mut [f32::NAN], &[0.0], None, 1.0);
        assert!(!loss.is_finite());
    }

    #[test]
    fn the_correction_makes_the_pool_stand_for_all_other_entities() {
        assert!((correction(1001, 10) - 100.0_f32.ln()).abs() < 1e-6);
    }
}
