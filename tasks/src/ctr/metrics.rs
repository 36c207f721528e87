//! Area under the ROC curve, and log loss, from scores of examples.

/// The share of pairs of a positive and a negative example in which the positive has the higher score; equal scores
/// count half (Mann and Whitney 1947). None if there are not both.
///
/// # Panics
/// If the slices differ in length.
#[must_use]
pub fn auc(scores: &[f32], labels: &[bool]) -> Option<f64> {
    assert_eq!(scores.len(), labels.len());
    let mut order: Vec<(f32, bool)> = scores.iter().copied().zip(labels.iter().copied()).collect();
    order.sort_unstable_by(|one, other| one.0.total_cmp(&other.0));
    let (mut below, mut positives, mut pairs) = (0.0, 0.0, 0.0);
    for ties in order.chunk_by(|one, other| one.0 == other.0) {
        let count = count(ties.len());
        let high = self::count(ties.iter().filter(|tie| tie.1).count());
        let low = count - high;
        pairs += high * (below + 0.5 * low);
        below += low;
        positives += high;
    }
    let all = positives * below;
    (all > 0.0).then(|| pairs / all)
}

/// The log loss of a logit: `ln(1 + exp(-z))` for a positive, `ln(1 + exp(z))` for a negative example.
#[must_use]
#[inline]
pub fn log_loss(logit: f32, label: bool) -> f64 {
    let against = f64::from(if label { -logit } else { logit });
    // Exact for large logits of either sign: exp never overflows here.
    against.max(0.0) + (-against.abs()).exp().ln_1p()
}

/// The probability of a positive.
#[must_use]
#[inline]
pub fn sigmoid(logit: f32) -> f32 {
    1.0 / (1.0 + (-logit).exp())
}

#[expect(clippy::cast_precision_loss, reason = "examples are fewer than 2^52")]
fn count(number: usize) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::{auc, log_loss, sigmoid};

    #[test]
    fn auc_is_the_share_of_pairs_in_order_with_ties_as_half() {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
        // Few distinct scores, so that there are many ties.
        let scores: Vec<f32> = (0..200).map(|_| random.random_range(0..20_u8).into()).collect();
        let labels: Vec<bool> = (0..200).map(|_| random.random_bool(0.3)).collect();
        let (mut won, mut pairs) = (0.0, 0.0);
        for (positive, _) in scores.iter().zip(&labels).filter(|(_, label)| **label) {
            for (negative, _) in scores.iter().zip(&labels).filter(|(_, label)| !**label) {
                pairs += 1.0;
                won += if positive > negative { 1.0 } else { 0.0 };
                won += if positive == negative { 0.5 } else { 0.0 };
            }
        }
        let found = auc(&scores, &labels).unwrap();
        assert!((found - won / pairs).abs() < 1e-12, "{found} and {}", won / pairs);
    }

    #[test]
    fn auc_of_perfect_reversed_and_constant_scores() {
        let labels = [false, false, true, true];
        assert_eq!(auc(&[0.1, 0.2, 0.3, 0.4], &labels), Some(1.0));
        assert_eq!(auc(&[0.4, 0.3, 0.2, 0.1], &labels), Some(0.0));
        assert_eq!(auc(&[0.5; 4], &labels), Some(0.5));
        assert_eq!(auc(&[0.5; 2], &[true; 2]), None);
        assert_eq!(auc(&[], &[]), None);
    }

    #[test]
    fn log_loss_is_minus_the_log_of_the_probability_of_what_happened() {
        for logit in [-3.0, -0.1, 0.0, 2.5] {
            let p = f64::from(sigmoid(logit));
            assert!((log_loss(logit, true) + p.ln()).abs() < 1e-6);
            assert!((log_loss(logit, false) + (1.0 - p).ln()).abs() < 1e-6);
        }
        assert_eq!(log_loss(1000.0, false), 1000.0);
        assert_eq!(log_loss(1000.0, true), 0.0);
    }
}
