//! The three forms of a matrix product that a step needs, on row-major slices.

use gemm::Parallelism;

/// Rows, columns and inner length of a product.
type Shape = (usize, usize, usize);

/// `c[m, n] = a[m, k] b[n, k]^T`
pub(crate) fn nt((m, n, k): Shape, a: &[f32], b: &[f32], c: &mut [f32]) {
    strided((m, n, k), (a, k, 1), (b, 1, k), c);
}

/// `c[m, n] = a[m, k] b[k, n]`
pub(crate) fn nn((m, n, k): Shape, a: &[f32], b: &[f32], c: &mut [f32]) {
    strided((m, n, k), (a, k, 1), (b, n, 1), c);
}

/// `c[m, n] = a[k, m]^T b[k, n]`
pub(crate) fn tn((m, n, k): Shape, a: &[f32], b: &[f32], c: &mut [f32]) {
    strided((m, n, k), (a, 1, m), (b, n, 1), c);
}

/// The product with each factor's stride from row to row and from column to column.
fn strided((m, n, k): Shape, a: (&[f32], usize, usize), b: (&[f32], usize, usize), c: &mut [f32]) {
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
            false,
            a.0.as_ptr(),
            signed(a.2),
            signed(a.1),
            b.0.as_ptr(),
            signed(b.2),
            signed(b.1),
            0.0,
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}
