//! First values of rows, as a function of seed, table and key alone: every number of nodes starts from the same model.
//!
//! Value `i` of a row comes from a counter-based generator: SplitMix64's finaliser (Steele et al. 2014) over a counter
//! that starts at a hash of (seed, table, key). No state is kept and no order matters.

use crate::optimizer::RowShape;

/// How the values of new rows are chosen. `fan` of Xavier's rules (Glorot and Bengio 2010) is twice the dimension.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Init {
    /// All zero.
    #[default]
    Zeros,
    /// Uniform in `low..high`.
    Uniform {
        /// Smallest value.
        low: f32,
        /// Bound above.
        high: f32,
    },
    /// Normal with mean 0.
    Normal {
        /// Standard deviation.
        std: f32,
    },
    /// Uniform in `-a..a` with `a = sqrt(6 / fan)`.
    XavierUniform,
    /// Normal with standard deviation `sqrt(2 / fan)`.
    XavierNormal,
}

impl Init {
    /// Its name in messages and reports.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Zeros => "zeros",
            Self::Uniform { .. } => "uniform",
            Self::Normal { .. } => "normal",
            Self::XavierUniform => "xavier_uniform",
            Self::XavierNormal => "xavier_normal",
        }
    }

    /// Writes the first values and state of a row of `shape` to `row`.
    ///
    /// # Panics
    /// If `row` does not fit the shape.
    pub fn fill_row(&self, shape: &RowShape, seed: u64, table: u16, key: u64, row: &mut [f32]) {
        assert_eq!(row.len(), shape.row_len(), "row does not fit the shape");
        self.fill_values(seed, table, key, &mut row[..shape.dim]);
        shape.reset_state(row);
    }

    fn fill_values(&self, seed: u64, table: u16, key: u64, values: &mut [f32]) {
        #[allow(clippy::cast_precision_loss, reason = "a dimension is far below 2^24")]
        let fan = (2 * values.len()) as f32;
        let mut stream = Stream::new(seed, table, key);
        match *self {
            Self::Zeros => values.fill(0.0),
            Self::Uniform { low, high } => {
                values.iter_mut().for_each(|value| *value = low + (high - low) * stream.unit());
            }
            Self::XavierUniform => {
                let bound = (6.0 / fan).sqrt();
                values.iter_mut().for_each(|value| *value = bound * (2.0 * stream.unit() - 1.0));
            }
            Self::Normal { std } => stream.normals(std, values),
            Self::XavierNormal => stream.normals((2.0 / fan).sqrt(), values),
        }
    }
}

struct Stream(u64);

impl Stream {
    const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

    fn new(seed: u64, table: u16, key: u64) -> Self {
        let mixed = mix(seed.wrapping_add(Self::STEP)) ^ mix(u64::from(table).wrapping_add(1));
        Self(mix(mixed ^ mix(key.wrapping_mul(Self::STEP).wrapping_add(1))))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(Self::STEP);
        mix(self.0)
    }

    /// Uniform in `0..1`, 24 bits.
    #[allow(clippy::cast_precision_loss, reason = "24 bits are exact")]
    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1_u32 << 24) as f32
    }

    /// Box and Muller's pairs.
    fn normals(&mut self, std: f32, values: &mut [f32]) {
        for pair in values.chunks_mut(2) {
            // In 0..1 without 0, whose logarithm is infinite.
            let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt() * std;
            let (sin, cos) = (std::f32::consts::TAU * self.unit()).sin_cos();
            for (value, part) in pair.iter_mut().zip([cos, sin]) {
                *value = radius * part;
            }
        }
    }
}

fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optimizer::Optimizer;

    fn sample(init: Init, keys: u64, dim: usize) -> Vec<f32> {
        let shape = RowShape { optimizer: Optimizer::sgd(0.1), dim };
        let mut all = vec![0.0; dim * usize::try_from(keys).expect("small")];
        for (key, row) in (0..keys).zip(all.chunks_mut(dim)) {
            init.fill_row(&shape, 7, 1, key, row);
        }
        all
    }

    fn moments(values: &[f32]) -> (f64, f64, f64) {
        let n = values.len() as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        let power = |p: i32| values.iter().map(|&v| (f64::from(v) - mean).powi(p)).sum::<f64>() / n;
        (mean, power(2).sqrt(), power(4) / power(2).powi(2))
    }

    #[test]
    fn distributions_have_their_mean_deviation_and_shape() {
        let (mean, std, kurtosis) = moments(&sample(Init::Normal { std: 0.05 }, 20_000, 9));
        assert!(mean.abs() < 5e-4 && (std - 0.05).abs() < 3e-4 && (kurtosis - 3.0).abs() < 0.05);
        let (mean, std, kurtosis) =
            moments(&sample(Init::Uniform { low: -1.0, high: 3.0 }, 20_000, 9));
        assert!((mean - 1.0).abs() < 0.02 && (std - 4.0 / 12.0_f64.sqrt()).abs() < 0.01);
        assert!((kurtosis - 1.8).abs() < 0.02);
        let (_, std, _) = moments(&sample(Init::XavierNormal, 20_000, 8));
        assert!((std - (2.0_f64 / 16.0).sqrt()).abs() < 3e-3);
        let xavier = sample(Init::XavierUniform, 20_000, 8);
        let bound = (6.0_f32 / 16.0).sqrt();
        assert!(xavier.iter().all(|v| v.abs() <= bound) && moments(&xavier).0.abs() < 5e-3);
    }

    #[test]
    fn rows_depend_on_seed_table_and_key_and_on_nothing_else() {
        let shape = RowShape { optimizer: Optimizer::adagrad(0.1), dim: 4 };
        let row = |seed, table, key| {
            let mut row = vec![f32::NAN; shape.row_len()];
            Init::Normal { std: 1.0 }.fill_row(&shape, seed, table, key, &mut row);
            row
        };
        assert_eq!(row(1, 2, 3), row(1, 2, 3));
        for other in [row(2, 2, 3), row(1, 3, 3), row(1, 2, 4), row(3, 2, 1)] {
            assert_ne!(row(1, 2, 3), other);
        }
        assert_eq!(row(1, 2, 3)[4..], [0.0; 4]);
    }
}
