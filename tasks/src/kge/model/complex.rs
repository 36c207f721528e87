//! Products of complex rows, `[re | im]`, and rotations given by their angles.

use num_traits::Float;

/// `q = x * r` for `sign` 1 and `q = x * conj(r)` for `sign` -1.
#[inline(always)]
pub(super) fn query<T: Float>(x: &[T], r: &[T], q: &mut [T], sign: T) {
    let half = q.len() / 2;
    let ((x_re, x_im), (r_re, r_im)) = (x.split_at(half), r.split_at(half));
    let (q_re, q_im) = q.split_at_mut(half);
    let rows = x_re.iter().zip(x_im).zip(r_re).zip(r_im).zip(q_re).zip(q_im);
    for (((((&x_re, &x_im), &r_re), &r_im), q_re), q_im) in rows {
        let r_im = sign * r_im;
        *q_re = x_re * r_re - x_im * r_im;
        *q_im = x_re * r_im + x_im * r_re;
    }
}

/// The gradients of [`query`]: `dx += g * conj(r)`, `dr += g * conj(x)` for `sign` 1;
/// `dx += g * r`, `dr += conj(g) * x` for `sign` -1.
#[inline(always)]
pub(super) fn gradient<T: Float>(x: &[T], r: &[T], g: &[T], dx: &mut [T], dr: &mut [T], sign: T) {
    let half = g.len() / 2;
    let ((x_re, x_im), (r_re, r_im)) = (x.split_at(half), r.split_at(half));
    let (g_re, g_im) = g.split_at(half);
    let ((dx_re, dx_im), (dr_re, dr_im)) = (dx.split_at_mut(half), dr.split_at_mut(half));
    // Equal lengths, said once: the compiler drops the bounds checks of the loop.
    let (x_re, x_im, r_re, r_im) = (&x_re[..half], &x_im[..half], &r_re[..half], &r_im[..half]);
    let (dx_re, dx_im) = (&mut dx_re[..half], &mut dx_im[..half]);
    let (dr_re, dr_im) = (&mut dr_re[..half], &mut dr_im[..half]);
    for k in 0..half {
        let (g_re, g_im, r_im) = (g_re[k], g_im[k], sign * r_im[k]);
        dx_re[k] = dx_re[k] + g_re * r_re[k] + g_im * r_im;
        dx_im[k] = dx_im[k] + g_im * r_re[k] - g_re * r_im;
        dr_re[k] = dr_re[k] + g_re * x_re[k] + g_im * x_im[k];
        dr_im[k] = dr_im[k] + sign * (g_im * x_re[k] - g_re * x_im[k]);
    }
}

/// `exp(i angle)` for each angle, as a complex row.
pub(super) fn rotation<T: Float>(angles: &[T], out: &mut [T]) {
    let (re, im) = out.split_at_mut(angles.len());
    for ((&angle, re), im) in angles.iter().zip(re).zip(im) {
        (*im, *re) = angle.sin_cos();
    }
}

/// Adds to `angles` what the gradient `g` at their [`rotation`] means for them.
pub(super) fn rotation_gradient<T: Float>(rotation: &[T], g: &[T], angles: &mut [T]) {
    let half = angles.len();
    let ((re, im), (g_re, g_im)) = (rotation.split_at(half), g.split_at(half));
    for (k, angle) in angles.iter_mut().enumerate() {
        *angle = *angle + g_im[k] * re[k] - g_re[k] * im[k];
    }
}
