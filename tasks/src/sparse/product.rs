//! Products of sparse rows and dense ones.
//!
//! Dense matrices are row-major slices of `width` floats a row. Columns of a block of up to 64 floats stay
//! in registers while a row's pairs are summed; widths below 16, such as numbers of classes, have loops of
//! their own length.

use pulp::{Arch, Simd, WithSimd};

use super::SparseRows;

/// `y[rows, width] = s[rows, columns] x[columns, width]`, for as many of the first rows as `y` has.
///
/// # Panics
/// If a slice has another length.
pub fn gather(arch: Arch, s: &SparseRows, x: &[f32], width: usize, y: &mut [f32]) {
    check(s, x, width, y);
    arch.dispatch(Gather { s, x, width, y });
}

/// `x[columns, width] += s[rows, columns]^T y[rows, width]`, for as many of the first rows as `y` has.
///
/// # Panics
/// If a slice has another length.
pub fn scatter_add(arch: Arch, s: &SparseRows, y: &[f32], width: usize, x: &mut [f32]) {
    check(s, x, width, y);
    arch.dispatch(Scatter { s, y, width, x });
}

fn check(s: &SparseRows, x: &[f32], width: usize, y: &[f32]) {
    assert_eq!(x.len(), s.columns() * width, "rows of {width} floats, one per column");
    assert!(y.len() <= s.len() * width, "at most one row of {width} floats per row");
    assert_eq!(y.len() % width, 0, "whole rows of {width} floats");
}

struct Gather<'a> {
    s: &'a SparseRows,
    x: &'a [f32],
    width: usize,
    y: &'a mut [f32],
}

struct Scatter<'a> {
    s: &'a SparseRows,
    y: &'a [f32],
    width: usize,
    x: &'a mut [f32],
}

/// Runs `$work` for blocks of columns that cover `$width`, with `$n` their constant number.
macro_rules! blocked {
    ($width:expr, |$from:ident, $n:ident| $work:expr) => {{
        let mut $from = 0;
        while $width - $from >= 64 {
            const $n: usize = 64;
            $work;
            $from += 64;
        }
        while $width - $from >= 16 {
            const $n: usize = 16;
            $work;
            $from += 16;
        }
        blocked!(@rest $width - $from, $from, $n, $work, 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
    }};
    (@rest $left:expr, $from:ident, $n:ident, $work:expr, $($size:literal)*) => {
        match $left {
            $($size => {
                const $n: usize = $size;
                $work
            })*
            _ => {}
        }
    };
}

impl WithSimd for Gather<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { s, x, width, y } = self;
        for (row, y) in y.chunks_exact_mut(width).enumerate() {
            let (columns, values) = s.row(row);
            blocked!(width, |from, N| {
                let mut sum = [0.0_f32; N];
                for (&column, &value) in columns.iter().zip(values) {
                    let part: &[f32; N] = block(&x[column as usize * width + from..]);
                    // By index: iterators over so few numbers cost as much as their sums.
                    for j in 0..N {
                        sum[j] = value.mul_add(part[j], sum[j]);
                    }
                }
                y[from..][..N].copy_from_slice(&sum);
            });
        }
    }
}

impl WithSimd for Scatter<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { s, y, width, x } = self;
        for (row, y) in y.chunks_exact(width).enumerate() {
            let (columns, values) = s.row(row);
            blocked!(width, |from, N| {
                let part: &[f32; N] = block(&y[from..]);
                for (&column, &value) in columns.iter().zip(values) {
                    let sums: &mut [f32; N] = block_mut(&mut x[column as usize * width + from..]);
                    for j in 0..N {
                        sums[j] = value.mul_add(part[j], sums[j]);
                    }
                }
            });
        }
    }
}

#[inline(always)]
fn block<const N: usize>(values: &[f32]) -> &[f32; N] {
    values[..N].try_into().expect("a slice of that length")
}

#[inline(always)]
fn block_mut<const N: usize>(values: &mut [f32]) -> &mut [f32; N] {
    (&mut values[..N]).try_into().expect("a slice of that length")
}

#[cfg(test)]
mod tests {
    use pulp::Arch;
    use rand::{Rng, SeedableRng};
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::{gather, scatter_add};
    use crate::sparse::SparseRows;

    const COLUMNS: usize = 23;

    /// A matrix with an empty row, a full one, and a column that occurs twice in a row.
    fn matrix(random: &mut impl Rng) -> SparseRows {
        let mut rows = SparseRows::new(COLUMNS);
        let full: Vec<_> =
            (0..).take(COLUMNS).map(|c| (c, random.random_range(-1.0..1.0))).collect();
        rows.push(full);
        rows.push([]);
        rows.push([(5, 0.5), (1, -1.0), (5, 0.25)]);
        rows
    }

    #[test]
    fn both_products_are_those_of_the_dense_matrix_for_all_widths() {
        let random = &mut Xoshiro256PlusPlus::seed_from_u64(3);
        let rows = matrix(random);
        for width in (1..40).chain([63, 64, 65, 81, 127, 128, 145]) {
            let numbers = |random: &mut Xoshiro256PlusPlus, rows: usize| -> Vec<f32> {
                (0..rows * width).map(|_| random.random_range(-1.0..1.0)).collect()
            };
            let (x, dy) = (numbers(random, COLUMNS), numbers(random, 3));
            let mut expected_y = vec![0.0; 3 * width];
            let start = numbers(random, COLUMNS);
            let mut expected_x = start.clone();
            for row in 0..3 {
                let (columns, values) = rows.row(row);
                for (&column, &value) in columns.iter().zip(values) {
                    for j in 0..width {
                        let at = column as usize * width + j;
                        expected_y[row * width + j] += value * x[at];
                        expected_x[at] += value * dy[row * width + j];
                    }
                }
            }
            let (mut y, mut sums) = (vec![f32::NAN; 3 * width], start);
            gather(Arch::new(), &rows, &x, width, &mut y);
            scatter_add(Arch::new(), &rows, &dy, width, &mut sums);
            for (found, expected) in y.iter().chain(&sums).zip(expected_y.iter().chain(&expected_x))
            {
                assert!((found - expected).abs() < 1e-5, "width {width}: {found}, {expected}");
            }
            let mut first = vec![f32::NAN; width];
            gather(Arch::new(), &rows, &x, width, &mut first);
            assert_eq!(first, y[..width]);
        }
    }
}
