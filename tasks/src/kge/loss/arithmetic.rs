//! Exponentials and logarithms in straight-line code, so that a loop over them becomes vector code.

/// `e^x` for `x <= 0`, to about 2 units in the last place; 0 below -87.
///
/// Cody and Waite: `x = k ln 2 + r`, a polynomial for `e^r`, and `2^k` put together from its bits.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // Adding it leaves the nearest integer in the low bits.
    const ROUND: f32 = 12_582_912.0;
    // Not `max`, which would turn a NaN into a number: it must show in the loss.
    let clamped = if x < -87.0 { -87.0 } else { x };
    let shifted = clamped * std::f32::consts::LOG2_E + ROUND;
    let k = shifted - ROUND;
    let r = clamped - k * LN_2_HIGH - k * LN_2_LOW;
    let p = 1.987_569_2e-4 * r + 1.398_2e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let power = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    let value = (p * r * r + r + 1.0) * power;
    if x < -87.0 { 0.0 } else { value }
}

/// `ln(1 + e^x)` and its slope `1 / (1 + e^-x)`, each to a few units in the last place.
///
/// `ln(1 + e) = 2 atanh(e / (2 + e))` for `e = e^-|x|`, whose series is short because its argument
/// is at most 1/3.
#[inline(always)]
pub(super) fn softplus(x: f32) -> (f32, f32) {
    let e = exp(-x.abs());
    let z = e / (2.0 + e);
    let square = z * z;
    let p = 0.090_909_09 * square + 0.111_111_11;
    let p = p * square + 0.142_857_15;
    let p = p * square + 0.2;
    let p = p * square + 0.333_333_34;
    let logarithm = 2.0 * z * (p * square + 1.0);
    let share = 1.0 / (1.0 + e);
    let (above, slope) = if x < 0.0 { (0.0, e * share) } else { (x, share) };
    (above + logarithm, slope)
}

/// Lanes of the loops over scores.
pub(super) const LANES: usize = 16;

/// Visits all scores, each with its candidate's number, in blocks of [`LANES`], so that the
/// compiler can use vector registers.
#[inline(always)]
pub(super) fn blocks(
    scores: &mut [f32],
    offsets: &[f32],
    mut visit: impl FnMut(usize, &mut f32, f32),
) {
    let whole = scores.len() - scores.len() % LANES;
    let (scores, scores_rest) = scores.split_at_mut(whole);
    let (offsets, offsets_rest) = offsets.split_at(whole);
    for (scores, offsets) in scores.chunks_exact_mut(LANES).zip(offsets.chunks_exact(LANES)) {
        for lane in 0..LANES {
            visit(lane, &mut scores[lane], offsets[lane]);
        }
    }
    for (lane, (score, &offset)) in scores_rest.iter_mut().zip(offsets_rest).enumerate() {
        visit(lane, score, offset);
    }
}

#[cfg(test)]
#[expect(clippy::cast_precision_loss, reason = "small numbers")]
mod tests {
    use super::{exp, softplus};

    #[test]
    fn the_exponential_is_within_three_units_in_the_last_place() {
        for step in 0..1_000_000_u32 {
            let x = -87.0 * (step as f32 / 1_000_000.0);
            let exact = f64::from(x).exp();
            let error = (f64::from(exp(x)) - exact).abs() / exact;
            assert!(error < 3.0 * f64::from(f32::EPSILON), "exp({x}) is off by {error}");
        }
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-88.0), 0.0);
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
    }

    #[test]
    fn softplus_and_its_slope_are_within_six_units_in_the_last_place() {
        for step in -80_000..80_000_i32 {
            let narrow = step as f32 / 1000.0;
            let (value, slope) = softplus(narrow);
            let x = f64::from(narrow);
            let (exact, exact_slope) = (x.exp().ln_1p(), 1.0 / (1.0 + (-x).exp()));
            for (found, exact) in [(value, exact), (slope, exact_slope)] {
                let error = (f64::from(found) - exact).abs() / exact;
                assert!(error < 6.0 * f64::from(f32::EPSILON), "{x}: {found} is off by {error}");
            }
        }
        assert_eq!(softplus(f32::MIN), (0.0, 0.0));
        assert!(softplus(f32::NAN).0.is_nan());
    }
}
