//! Finite differences for tests of gradients.

use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

/// Numbers in `-1..1`, none closer to 0 than 0.05, so that no kink is within a difference's reach.
pub(crate) fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let mut number = || {
        let size = random.random_range(0.05..1.0);
        if random.random() { size } else { -size }
    };
    (0..count).map(|_| number()).collect()
}

/// `sum(weights * outputs)` in f64: a loss whose gradient by the outputs is `weights`.
pub(crate) fn weighted(weights: &[f32], outputs: &[f32]) -> f64 {
    assert_eq!(weights.len(), outputs.len());
    weights.iter().zip(outputs).map(|(&w, &y)| f64::from(w) * f64::from(y)).sum()
}

/// Compares `found` with the central differences of `loss` by each of `at`.
///
/// Where a difference and the gradient do not agree, shorter differences decide: a kink (of a rectifier) gets out of
/// their reach, a wrong gradient stays wrong.
///
/// # Panics
/// If one is further off than 0.2 % of the gradient's largest entry, with the entry's index.
pub(crate) fn assert_gradient(
    name: &str,
    at: &[f32],
    found: &[f32],
    loss: impl FnMut(&[f32]) -> f64,
) {
    assert_gradient_by(1e-2, name, at, found, loss);
}

/// The same with differences of `delta` to either side: less than 1e-2 is for losses computed in f64.
pub(crate) fn assert_gradient_by(
    delta: f32,
    name: &str,
    at: &[f32],
    found: &[f32],
    mut loss: impl FnMut(&[f32]) -> f64,
) {
    let deltas = [1.0, 0.2, 0.04].map(|share| share * delta);
    assert_eq!(at.len(), found.len(), "{name}");
    let mut moved = at.to_vec();
    let mut difference = |index: usize, delta: f32| {
        moved[index] = at[index] + delta;
        let (above, right) = (loss(&moved), moved[index]);
        moved[index] = at[index] - delta;
        let (below, left) = (loss(&moved), moved[index]);
        moved[index] = at[index];
        (above - below) / (f64::from(right) - f64::from(left))
    };
    let mut expected: Vec<f64> = (0..at.len()).map(|index| difference(index, deltas[0])).collect();
    let largest = expected.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
    assert!(largest > 1e-3, "{name}: a gradient of zeros tests nothing");
    for (index, (expected, &found)) in expected.iter_mut().zip(found).enumerate() {
        let agree = |expected: f64| (expected - f64::from(found)).abs() < 2e-3 * largest;
        for delta in &deltas[1..] {
            if !agree(*expected) {
                *expected = difference(index, *delta);
            }
        }
        assert!(
            agree(*expected),
            "{name}[{index}]: difference {expected}, gradient {found}, largest {largest}"
        );
    }
}
