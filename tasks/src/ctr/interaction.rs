//! The shallow parts of the models, from the rows of a batch's features: the linear part `sum w_i x_i`, and the
//! factorisation machine's pairs `sum_{i<j} <v_i, v_j> x_i x_j` (Rendle 2010), computed as
//! `1/2 sum_f ((sum_i v_if x_i)^2 - sum_i (v_if x_i)^2)`.
//!
//! A row is `[embedding v: dim | linear weight w, if there is one]`. Dimensions are independent of each other in all of
//! this, so they are taken in blocks of a size that the compiler knows, which keeps a block's sums in registers.

use pulp::{Simd, WithSimd};

/// What a row holds, and which parts of the model use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RowParts {
    /// Floats of an embedding; may be 0.
    pub(super) dim: usize,
    /// Whether a linear weight follows it.
    pub(super) linear: bool,
    /// Whether the pairs of embeddings count.
    pub(super) pairs: bool,
}

impl RowParts {
    /// Floats of a row.
    pub(super) const fn row_len(self) -> usize {
        self.dim + if self.linear { 1 } else { 0 }
    }
}

/// The examples of a batch: which rows each uses, and by what factor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Examples<'a> {
    /// For each feature of each example, one after the other, which row it is.
    pub(super) places: &'a [u32],
    /// Its value; empty if all are 1.
    pub(super) values: &'a [f32],
    /// Where each example ends among them.
    pub(super) ends: &'a [u32],
}

impl Examples<'_> {
    /// Where the features of each example are.
    #[inline(always)]
    fn ranges(&self) -> impl Iterator<Item = std::ops::Range<usize>> {
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            let end = end as usize;
            std::mem::replace(&mut start, end)..end
        })
    }

    #[inline(always)]
    fn value(&self, index: usize) -> f32 {
        // The branch goes the same way for a whole data set.
        if self.values.is_empty() { 1.0 } else { self.values[index] }
    }
}

/// Runs `$body` with the constant `$block` for blocks that together cover `$dim` dimensions from `$first` on.
macro_rules! blocks {
    ($dim:expr, $first:ident, $block:ident, $body:expr) => {
        let mut $first = 0;
        while $first < $dim {
            macro_rules! run {
                ($size:literal) => {{
                    const $block: usize = $size;
                    $body;
                    $first += $size;
                }};
            }
            match $dim - $first {
                16.. => run!(16),
                8.. => run!(8),
                4.. => run!(4),
                _ => run!(1),
            }
        }
    };
}

/// Adds the shallow parts to the logit of each example, and writes each example's sums of `v x` (`dim` floats) to
/// `sums` if the pairs count.
pub(super) struct Forward<'a> {
    pub(super) parts: RowParts,
    pub(super) examples: Examples<'a>,
    pub(super) rows: &'a [f32],
    pub(super) sums: &'a mut [f32],
    pub(super) logits: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let (parts, examples, len) = (self.parts, self.examples, self.parts.row_len());
        for (example, (range, logit)) in examples.ranges().zip(self.logits).enumerate() {
            if parts.linear {
                for index in range.clone() {
                    let row = examples.places[index] as usize * len;
                    *logit += self.rows[row + parts.dim] * examples.value(index);
                }
            }
            if parts.pairs {
                let sums = &mut self.sums[example * parts.dim..][..parts.dim];
                blocks!(parts.dim, first, BLOCK, {
                    let (sum, pairs) =
                        pairs_of::<BLOCK>(&examples, range.clone(), (self.rows, len, first));
                    sums[first..first + BLOCK].copy_from_slice(&sum);
                    *logit += pairs;
                });
            }
        }
    }
}

/// The sums of `v x` of a block of dimensions, and what the block's pairs add to the logit.
#[inline(always)]
fn pairs_of<const BLOCK: usize>(
    examples: &Examples<'_>,
    range: std::ops::Range<usize>,
    (rows, len, first): (&[f32], usize, usize),
) -> ([f32; BLOCK], f32) {
    let (mut sum, mut squares) = ([0.0; BLOCK], [0.0; BLOCK]);
    for index in range {
        let x = examples.value(index);
        let row = examples.places[index] as usize * len + first;
        let v: &[f32; BLOCK] = rows[row..row + BLOCK].try_into().expect("a block");
        for f in 0..BLOCK {
            let vx = v[f] * x;
            sum[f] += vx;
            squares[f] += vx * vx;
        }
    }
    let mut pairs = 0.0;
    for f in 0..BLOCK {
        pairs += sum[f] * sum[f] - squares[f];
    }
    (sum, 0.5 * pairs)
}

/// Adds the gradients of the shallow parts to those of the rows: `slope x` for a linear weight, and
/// `slope x (sum - v x)` for an embedding of a pair.
pub(super) struct Backward<'a> {
    pub(super) parts: RowParts,
    pub(super) examples: Examples<'a>,
    pub(super) rows: &'a [f32],
    pub(super) sums: &'a [f32],
    /// The loss's slope by each example's logit.
    pub(super) slopes: &'a [f32],
    pub(super) gradients: &'a mut [f32],
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let (parts, examples, len) = (self.parts, self.examples, self.parts.row_len());
        for (example, (range, &slope)) in examples.ranges().zip(self.slopes).enumerate() {
            if parts.linear {
                for index in range.clone() {
                    let row = examples.places[index] as usize * len;
                    self.gradients[row + parts.dim] += slope * examples.value(index);
                }
            }
            if parts.pairs {
                let sums = &self.sums[example * parts.dim..][..parts.dim];
                blocks!(parts.dim, first, BLOCK, {
                    let sum: &[f32; BLOCK] =
                        sums[first..first + BLOCK].try_into().expect("a block");
                    for index in range.clone() {
                        let x = examples.value(index);
                        let row = examples.places[index] as usize * len + first;
                        let v: &[f32; BLOCK] =
                            self.rows[row..row + BLOCK].try_into().expect("a block");
                        let dv: &mut [f32; BLOCK] =
                            (&mut self.gradients[row..row + BLOCK]).try_into().expect("a block");
                        let scale = slope * x;
                        for f in 0..BLOCK {
                            dv[f] += scale * (sum[f] - v[f] * x);
                        }
                    }
                });
            }
        }
    }
}

/// Writes the embeddings of each example's features, times their values, side by side to `inputs`: `fields * dim`
/// floats an example.
pub(super) struct Gather<'a> {
    pub(super) parts: RowParts,
    pub(super) examples: Examples<'a>,
    pub(super) rows: &'a [f32],
    pub(super) inputs: &'a mut [f32],
}

impl WithSimd for Gather<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let (dim, len) = (self.parts.dim, self.parts.row_len());
        for (index, input) in self.inputs.chunks_exact_mut(dim).enumerate() {
            let x = self.examples.value(index);
            let row = &self.rows[self.examples.places[index] as usize * len..][..dim];
            for (input, &v) in input.iter_mut().zip(row) {
                *input = v * x;
            }
        }
    }
}

/// Adds the gradients by what [`Gather`] wrote to those of the rows.
pub(super) struct Scatter<'a> {
    pub(super) parts: RowParts,
    pub(super) examples: Examples<'a>,
    pub(super) d_inputs: &'a [f32],
    pub(super) gradients: &'a mut [f32],
}

impl WithSimd for Scatter<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let (dim, len) = (self.parts.dim, self.parts.row_len());
        for (index, d_input) in self.d_inputs.chunks_exact(dim).enumerate() {
            let x = self.examples.value(index);
            let row = self.examples.places[index] as usize * len;
            for (dv, &d) in self.gradients[row..row + dim].iter_mut().zip(d_input) {
                *dv += d * x;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use pulp::Arch;

    use super::{Examples, Forward, RowParts};
    use crate::dense::difference::numbers;

    /// The definition: every pair by itself.
    fn logit(parts: RowParts, rows: &[f32], features: &[(u32, f32)]) -> f64 {
        let row = |place: u32| &rows[place as usize * parts.row_len()..][..parts.row_len()];
        let mut logit = 0.0;
        for (i, &(one, x)) in features.iter().enumerate() {
            if parts.linear {
                logit += f64::from(row(one)[parts.dim] * x);
            }
            for &(other, y) in features[i + 1..].iter().filter(|_| parts.pairs) {
                let products = row(one)[..parts.dim].iter().zip(&row(other)[..parts.dim]);
                logit += products.map(|(&v, &w)| f64::from(v * x * w * y)).sum::<f64>();
            }
        }
        logit
    }

    #[test]
    fn pairs_are_those_of_the_definition_for_every_dimension() {
        let (places, values) = ([0, 2, 1, 1, 3, 0_u32], [1.0, 0.5, -2.0, 1.0, 1.5, 3.0]);
        // The second example has no feature at all, the third the same one twice.
        let ends = [2, 2, 5, 6];
        for dim in [1, 3, 8, 16, 31] {
            for linear in [false, true] {
                let parts = RowParts { dim, linear, pairs: true };
                let rows = numbers(4 * parts.row_len(), dim as u64);
                let examples = Examples { places: &places, values: &values, ends: &ends };
                let (mut sums, mut logits) = (vec![0.0; 4 * dim], vec![0.0; 4]);
                let (rows_, sums_) = (&rows, &mut sums);
                let logits_ = &mut logits;
                Arch::new().dispatch(Forward {
                    parts,
                    examples,
                    rows: rows_,
                    sums: sums_,
                    logits: logits_,
                });
                for (found, range) in logits.iter().zip(examples.ranges()) {
                    let features = places[range.clone()].iter().zip(&values[range]);
                    let features: Vec<_> = features.map(|(&place, &x)| (place, x)).collect();
                    let expected = logit(parts, &rows, &features);
                    assert!((f64::from(*found) - expected).abs() < 1e-4, "{found}, {expected}");
                }
            }
        }
    }
}
