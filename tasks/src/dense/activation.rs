//! The rectifier, in place.

/// `x = max(x, 0)`.
pub fn relu(x: &mut [f32]) {
    for x in x {
        *x = x.max(0.0);
    }
}

/// The gradient by the rectifier's input, from the one by its output and the output itself.
///
/// # Panics
/// If the slices differ in length.
pub fn relu_backward(output: &[f32], gradient: &mut [f32]) {
    assert_eq!(output.len(), gradient.len());
    for (gradient, &output) in gradient.iter_mut().zip(output) {
        // Not a branch: activations' signs are as good as random.
        *gradient = if output > 0.0 { *gradient } else { 0.0 };
    }
}

#[cfg(test)]
mod tests {
    use super::{relu, relu_backward};
    use crate::dense::difference::{assert_gradient, numbers, weighted};

    #[test]
    fn the_gradient_is_that_of_finite_differences() {
        let (x, dy) = (numbers(20, 1), numbers(20, 2));
        let (mut output, mut dx) = (x.clone(), dy.clone());
        relu(&mut output);
        relu_backward(&output, &mut dx);
        assert!(output.iter().zip(&x).all(|(&y, &x)| y == if x > 0.0 { x } else { 0.0 }));
        assert_gradient("input", &x, &dx, |x| {
            let mut output = x.to_vec();
            relu(&mut output);
            weighted(&dy, &output)
        });
    }
}
