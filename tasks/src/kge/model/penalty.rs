//! Regularisers of rows: their values and gradients.

use num_traits::Float;

use super::vector::sum;
use crate::kge::ModelKind;

impl ModelKind {
    /// Whether the rows of relations have a size to keep small; angles have none.
    #[must_use]
    pub const fn regularizes_relations(self) -> bool {
        !matches!(self, Self::RotatE)
    }

    /// The N3 norm of a row, `sum_k |x_k|^3` (Lacroix et al. 2018), where complex dimensions count
    /// by their modulus; adds `weight` times its gradient to `dx`.
    #[inline(always)]
    pub fn n3<T: Float>(self, x: &[T], weight: T, dx: &mut [T]) -> T {
        let three = T::one() + T::one() + T::one();
        match self {
            Self::ComplEx | Self::RotatE => {
                let half = x.len() / 2;
                let ((re, im), (dre, dim)) = (x.split_at(half), dx.split_at_mut(half));
                for (((&re, &im), dre), dim) in re.iter().zip(im).zip(dre).zip(dim) {
                    let slope = three * weight * (re * re + im * im).sqrt();
                    *dre = *dre + slope * re;
                    *dim = *dim + slope * im;
                }
                sum(half, |k| {
                    let square = re[k] * re[k] + im[k] * im[k];
                    square * square.sqrt()
                })
            }
            Self::DistMult | Self::Rescal | Self::TransE => {
                for (&x, dx) in x.iter().zip(dx) {
                    *dx = *dx + three * weight * x.abs() * x;
                }
                sum(x.len(), |k| x[k].abs() * x[k] * x[k])
            }
        }
    }
}

/// The squared length of a row; adds `weight` times its gradient, `2 x`, to `dx`.
#[inline(always)]
pub fn l2<T: Float>(x: &[T], weight: T, dx: &mut [T]) -> T {
    let slope = weight + weight;
    for (&x, dx) in x.iter().zip(dx) {
        *dx = *dx + slope * x;
    }
    sum(x.len(), |k| x[k] * x[k])
}
