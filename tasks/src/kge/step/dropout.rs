//! Masks for dropout: each value is 0 with the chance `rate`, else `1 / (1 - rate)`.

use rand::RngCore;
use rand_xoshiro::Xoshiro256PlusPlus;

/// Fills `mask`; the rate is rounded to a multiple of 2^-16.
pub(super) fn draw(rate: f32, random: &mut Xoshiro256PlusPlus, mask: &mut [f32]) {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate is at least 0 and below 1"
    )]
    let dropped = (rate * 65_536.0) as u64;
    let kept = 1.0 / (1.0 - rate);
    for values in mask.chunks_mut(4) {
        let mut word = random.next_u64();
        for value in values {
            *value = if word & 0xffff < dropped { 0.0 } else { kept };
            word >>= 16;
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::draw;

    #[test]
    fn a_mask_drops_its_share_and_keeps_the_mean() {
        let mut mask = vec![9.0; 100_001];
        draw(0.3, &mut Xoshiro256PlusPlus::seed_from_u64(1), &mut mask);
        let dropped = mask.iter().filter(|&&value| value == 0.0).count();
        assert!((29_000..31_000).contains(&dropped), "{dropped}");
        let mean = mask.iter().map(|&value| f64::from(value)).sum::<f64>() / 100_001.0;
        assert!((mean - 1.0).abs() < 0.01, "{mean}");
    }
}
