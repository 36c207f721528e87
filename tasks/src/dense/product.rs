//! The three forms of a matrix product that training needs, on row-major slices.

use gemm::Parallelism;

/// Rows, columns and inner length of a product.
type Shape = (usize, usize, usize);

/// A factor with its stride from row to row and from column to column.
type Factor<'a> = (&'a [f32], usize, usize);

/// `c[m, n] = a[m, k] b[n, k]^T`
pub(crate) fn nt((m, n, k): Shape, a: &[f32], b: &[f32], c: &mut [f32]) {
    strided((m, n, k), (a, k, 1), (b, 1, k), c, false);
}

/// `c[m, n] = a[m, k] b[k, n]`
pub(crate) fn nn((m, n, k): Shape, a: &[f32], b: &[f32], c: &mut [f32]) {
    strided((m, n, k), (a, k, 1), (b, n, 1), c, false);
}

/// `c[m, n] = a[k, m]^T b[k, n]`
pub(crate) fn tn((m, n, k): Shape, a: &[f32], b: &[f32], c: &mut [f32]) {
    strided((m, n, k), (a, 1, m), (b, n, 1), c, false);
}

/// `c[m, n] += a[m, k] b[k, n]`
pub(crate) fn nn_add((m, n, k): Shape, a: &[f32], b: &[f32], c: &mut [f32]) {
    strided((m, n, k), (a, k, 1), (b, n, 1), c, true);
}

/// `c[m, n] += a[k, m]^T b[k, n]`
pub(crate) fn tn_add((m, n, k): Shape, a: &[f32], b: &[f32], c: &mut [f32]) {
    strided((m, n, k), (a, 1, m), (b, n, 1), c, true);
}

/// The product, written to `c` or added to it.
fn strided((m, n, k): Shape, a: Factor<'_>, b: Factor<'_>, c: &mut [f32], add: bool) {
    assert_eq!(a.0.len(), m * k);
    assert_eq!(b.0.len(), k * n);
    assert_eq!(c.len(), m * n);
    let signed = |stride: usize| isize::try_from(stride).expect("a slice's stride");
    // SAFETY: the strides of both factors and of `c` stay within the lengths asserted above, and
    // `c` is exclusive.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c.as_mut_ptr(),
            1,
            signed(n),
            add,
            a.0.as_ptr(),
            signed(a.2),
            signed(a.1),
            b.0.as_ptr(),
            signed(b.2),
            signed(b.1),
            if add { 1.0 } else { 0.0 },
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::{nn, nn_add, nt, tn, tn_add};

    #[test]
    fn the_forms_agree_with_the_definition() {
        // a is 2 x 3, b is 3 x 2; small integers, so that sums are exact.
        let (a, a_transposed) = ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        let (b, b_transposed) =
            ([7.0, 8.0, 9.0, 10.0, 11.0, 12.0], [7.0, 9.0, 11.0, 8.0, 10.0, 12.0]);
        let expected = [58.0, 64.0, 139.0, 154.0];
        let mut c = [f32::NAN; 4];
        nn((2, 2, 3), &a, &b, &mut c);
        assert_eq!(c, expected);
        c.fill(f32::NAN);
        nt((2, 2, 3), &a, &b_transposed, &mut c);
        assert_eq!(c, expected);
        c.fill(f32::NAN);
        tn((2, 2, 3), &a_transposed, &b, &mut c);
        assert_eq!(c, expected);
        nn_add((2, 2, 3), &a, &b, &mut c);
        tn_add((2, 2, 3), &a_transposed, &b, &mut c);
        assert_eq!(c, expected.map(|value| 3.0 * value));
    }
}
