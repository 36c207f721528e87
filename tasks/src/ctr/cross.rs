//! The cross network of DCN-V2 (Wang et al. 2021, equation 1): `x_{l+1} = x_0 * (W_l x_l + b_l) + x_l`, with `*`
//! element by element and a full matrix `W_l` per layer.

use crate::dense::{Layout, Linear, PartId, Start, product};

/// A cross network, with what its last forward pass left for the backward pass.
#[derive(Clone, Debug)]
pub(super) struct Cross {
    linear: Linear,
    layers: Vec<Layer>,
    /// Gradients by `W x + b`, and by the layer's input.
    inner: Vec<f32>,
}

#[derive(Clone, Debug)]
struct Layer {
    weight: PartId,
    bias: PartId,
    /// `W_l x_l + b_l`.
    inner: Vec<f32>,
    /// `x_{l+1}`.
    output: Vec<f32>,
}

impl Cross {
    /// So many layers over rows of `inputs` floats; their parameters are added to `layout`.
    pub(super) fn new(inputs: usize, layers: usize, layout: &mut Layout) -> Self {
        let start = Start::linear(inputs);
        let layers = (0..layers).map(|index| Layer {
            weight: layout.add(format!("cross.{index}.weight"), &[inputs, inputs], start),
            bias: layout.add(format!("cross.{index}.bias"), &[inputs], start),
            inner: Vec::new(),
            output: Vec::new(),
        });
        let linear = Linear { inputs, outputs: inputs };
        Self { linear, layers: layers.collect(), inner: Vec::new() }
    }

    /// Outputs of the rows `x0`, as many floats as these.
    pub(super) fn forward(&mut self, (layout, values): (&Layout, &[f32]), x0: &[f32]) -> &[f32] {
        for index in 0..self.layers.len() {
            let (before, rest) = self.layers.split_at_mut(index);
            let layer = &mut rest[0];
            let x = before.last().map_or(x0, |layer| &layer.output);
            layer.inner.resize(x.len(), 0.0);
            layer.output.resize(x.len(), 0.0);
            let (weight, bias) =
                (layout.part(layer.weight, values), layout.part(layer.bias, values));
            self.linear.forward(weight, Some(bias), x, &mut layer.inner);
            let inputs = x0.iter().zip(x);
            for ((y, &u), (&x0, &x)) in layer.output.iter_mut().zip(&layer.inner).zip(inputs) {
                *y = x0 * u + x;
            }
        }
        self.output()
    }

    /// Outputs of the last [`Cross::forward`].
    pub(super) fn output(&self) -> &[f32] {
        self.layers.last().map_or(&[], |layer| &layer.output)
    }

    /// Adds the gradients of the parameters to `gradients` and those of the input `x0` to `dx0`, after a forward pass
    /// over the same `x0`. `dy` comes as the gradient by the output and is used up.
    ///
    /// With `u = W x + b` and `d` the gradient by a layer's output: `dx0 += d * u`, `du = d * x0`,
    /// `dW += du^T x`, `db += sum du`, and the gradient by the layer's input is `d + du W`.
    pub(super) fn backward(
        &mut self,
        (layout, values): (&Layout, &[f32]),
        x0: &[f32],
        dy: &mut [f32],
        gradients: &mut [f32],
        dx0: &mut [f32],
    ) {
        let inputs = self.linear.inputs;
        let rows = x0.len() / inputs;
        self.inner.resize(x0.len(), 0.0);
        for index in (0..self.layers.len()).rev() {
            let (before, rest) = self.layers.split_at(index);
            let layer = &rest[0];
            let x = before.last().map_or(x0, |layer| &layer.output);
            for (i, du) in self.inner.iter_mut().enumerate() {
                dx0[i] += dy[i] * layer.inner[i];
                *du = dy[i] * x0[i];
            }
            let weight = layout.part(layer.weight, values);
            let (d_weight, d_bias) = layout.two_mut([layer.weight, layer.bias], gradients);
            self.linear.backward(weight, x, &self.inner, (d_weight, Some(d_bias)), None);
            product::nn_add((rows, inputs, inputs), &self.inner, weight, dy);
        }
        for (dx0, &dy) in dx0.iter_mut().zip(&*dy) {
            *dx0 += dy;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Cross;
    use crate::dense::Layout;
    use crate::dense::difference::{assert_gradient, numbers, weighted};

    #[test]
    fn gradients_are_those_of_finite_differences() {
        for layers in [1, 3] {
            let mut layout = Layout::new();
            let mut cross = Cross::new(4, layers, &mut layout);
            let (x, dy, values) = (numbers(20, 1), numbers(20, 2), layout.start_values(3));
            cross.forward((&layout, &values), &x);
            let (mut gradients, mut dx) = (vec![0.0; layout.floats()], vec![0.0; x.len()]);
            let used = &mut dy.clone();
            cross.backward((&layout, &values), &x, used, &mut gradients, &mut dx);
            let mut loss =
                |values: &[f32], x: &[f32]| weighted(&dy, cross.forward((&layout, values), x));
            assert_gradient("parameters", &values, &gradients, |values| loss(values, &x));
            assert_gradient("input", &x, &dx, |x| loss(&values, x));
        }
    }

    #[test]
    fn a_layer_of_zeros_passes_its_input_on() {
        let mut layout = Layout::new();
        let mut cross = Cross::new(3, 2, &mut layout);
        let x = numbers(6, 1);
        assert_eq!(cross.forward((&layout, &vec![0.0; layout.floats()]), &x), x);
    }
}
