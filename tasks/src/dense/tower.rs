//! A tower: hidden layers, each linear, then batch normalisation if wanted, the rectifier, dropout.

use rand::RngCore;

use super::activation::{relu, relu_backward};
use super::{BatchNorm, Dropout, Layout, Linear, PartId, Start};

/// What a tower is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct TowerShape {
    /// Floats of an input row.
    pub inputs: usize,
    /// Outputs of each layer.
    pub hidden: Vec<usize>,
    /// Whether layers normalise over the batch.
    pub batch_norm: bool,
    /// Probability of dropping an output while training.
    pub dropout: f32,
}

/// A tower, with what its last forward pass left for the backward pass.
#[derive(Clone, Debug)]
pub struct Tower {
    layers: Vec<Layer>,
    /// Gradients by a layer's input and output, used in turns.
    gradients: [Vec<f32>; 2],
}

#[derive(Clone, Debug)]
struct Layer {
    linear: Linear,
    weight: PartId,
    bias: PartId,
    norm: Option<Norm>,
    dropout: Dropout,
    output: Vec<f32>,
}

#[derive(Clone, Debug)]
struct Norm {
    layer: BatchNorm,
    scale: PartId,
    shift: PartId,
    mean: PartId,
    variance: PartId,
}

impl Tower {
    /// A tower whose parameters are added to `layout` under `name`, as PyTorch would start them.
    ///
    /// # Panics
    /// If it has no hidden layer.
    #[must_use]
    pub fn new(name: &str, shape: &TowerShape, layout: &mut Layout) -> Self {
        assert!(!shape.hidden.is_empty(), "a tower has a hidden layer");
        let mut inputs = shape.inputs;
        let mut layers = Vec::new();
        for (index, &outputs) in shape.hidden.iter().enumerate() {
            let name = |part| format!("{name}.{index}.{part}");
            let start = Start::linear(inputs);
            layers.push(Layer {
                linear: Linear { inputs, outputs },
                weight: layout.add(name("weight"), &[outputs, inputs], start),
                bias: layout.add(name("bias"), &[outputs], start),
                norm: shape.batch_norm.then(|| Norm {
                    layer: BatchNorm::new(outputs),
                    scale: layout.add(name("norm.weight"), &[outputs], Start::Ones),
                    shift: layout.add(name("norm.bias"), &[outputs], Start::Zeros),
                    mean: layout.add_statistic(name("norm.running_mean"), &[outputs], Start::Zeros),
                    variance: layout.add_statistic(
                        name("norm.running_var"),
                        &[outputs],
                        Start::Ones,
                    ),
                }),
                dropout: Dropout::new(shape.dropout),
                output: Vec::new(),
            });
            inputs = outputs;
        }
        Self { layers, gradients: [Vec::new(), Vec::new()] }
    }

    /// Floats of an output row.
    #[must_use]
    pub fn outputs(&self) -> usize {
        self.layers.last().map_or(0, |layer| layer.linear.outputs)
    }

    /// Outputs of the rows `x`: as in training if there is a source of randomness for dropout, else by running
    /// statistics and without dropout. `values` is the flat buffer of `layout`.
    pub fn forward(
        &mut self,
        (layout, values): (&Layout, &[f32]),
        x: &[f32],
        mut training: Option<&mut impl RngCore>,
    ) -> &[f32] {
        for index in 0..self.layers.len() {
            let (before, rest) = self.layers.split_at_mut(index);
            let layer = &mut rest[0];
            let x = before.last().map_or(x, |layer| &layer.output);
            layer.output.resize(x.len() / layer.linear.inputs * layer.linear.outputs, 0.0);
            let (weight, bias) =
                (layout.part(layer.weight, values), layout.part(layer.bias, values));
            layer.linear.forward(weight, Some(bias), x, &mut layer.output);
            if let Some(norm) = &mut layer.norm {
                let part = |id| layout.part(id, values);
                let (scale, shift) = (part(norm.scale), part(norm.shift));
                if training.is_some() {
                    norm.layer.forward(scale, shift, &mut layer.output);
                } else {
                    let running = (part(norm.mean), part(norm.variance));
                    norm.layer.forward_fixed((scale, shift), running, &mut layer.output);
                }
            }
            relu(&mut layer.output);
            if let Some(random) = training.as_deref_mut() {
                layer.dropout.forward(random, &mut layer.output);
            }
        }
        self.output()
    }

    /// Outputs of the last [`Tower::forward`].
    #[must_use]
    pub fn output(&self) -> &[f32] {
        self.layers.last().map_or(&[], |layer| &layer.output)
    }

    /// Adds the gradients of the parameters to `gradients` (laid out as `values`) after a forward pass of training over
    /// the same `x`, and overwrites `dx` with those of its input. `dy` is the gradient by the output.
    pub fn backward(
        &mut self,
        (layout, values): (&Layout, &[f32]),
        x: &[f32],
        dy: &[f32],
        gradients: &mut [f32],
        dx: &mut [f32],
    ) {
        let [gradient, below] = &mut self.gradients;
        gradient.clear();
        gradient.extend_from_slice(dy);
        for index in (0..self.layers.len()).rev() {
            let (before, rest) = self.layers.split_at(index);
            let layer = &rest[0];
            layer.dropout.backward(gradient);
            // Where dropout left a 0, its own gradient is 0 as well.
            relu_backward(&layer.output, gradient);
            if let Some(norm) = &layer.norm {
                let parts = layout.two_mut([norm.scale, norm.shift], gradients);
                norm.layer.backward(layout.part(norm.scale, values), gradient, parts);
            }
            let weight = layout.part(layer.weight, values);
            let (d_weight, d_bias) = layout.two_mut([layer.weight, layer.bias], gradients);
            let parts = (d_weight, Some(d_bias));
            let Some(previous) = before.last() else {
                layer.linear.backward(weight, x, gradient, parts, Some(dx));
                break;
            };
            below.resize(previous.output.len(), 0.0);
            layer.linear.backward(weight, &previous.output, gradient, parts, Some(&mut below[..]));
            std::mem::swap(gradient, below);
        }
    }

    /// Writes the moves of running statistics after a forward pass of training: `share` of the way to the batch's
    /// (see [`BatchNorm::moves`]).
    pub fn moves(&self, (layout, values): (&Layout, &[f32]), share: f32, gradients: &mut [f32]) {
        for norm in self.layers.iter().filter_map(|layer| layer.norm.as_ref()) {
            let running = (layout.part(norm.mean, values), layout.part(norm.variance, values));
            norm.layer.moves(share, running, layout.two_mut([norm.mean, norm.variance], gradients));
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::{Tower, TowerShape};
    use crate::dense::Layout;
    use crate::dense::difference::{assert_gradient, numbers, weighted};

    const ROWS: usize = 6;

    fn shape(batch_norm: bool, dropout: f32) -> TowerShape {
        TowerShape { inputs: 4, hidden: vec![5, 3], batch_norm, dropout }
    }

    fn random() -> Xoshiro256PlusPlus {
        Xoshiro256PlusPlus::seed_from_u64(5)
    }

    #[test]
    fn gradients_are_those_of_finite_differences() {
        for (batch_norm, dropout) in [(false, 0.0), (false, 0.3), (true, 0.0), (true, 0.3)] {
            let mut layout = Layout::new();
            let mut tower = Tower::new("tower", &shape(batch_norm, dropout), &mut layout);
            let (x, dy) = (numbers(ROWS * 4, 1), numbers(ROWS * 3, 2));
            let values = layout.start_values(3);
            tower.forward((&layout, &values), &x, Some(&mut random()));
            let (mut gradients, mut dx) = (vec![0.0; layout.floats()], vec![f32::NAN; x.len()]);
            tower.backward((&layout, &values), &x, &dy, &mut gradients, &mut dx);
            let mut loss = |values: &[f32], x: &[f32]| {
                weighted(&dy, tower.forward((&layout, values), x, Some(&mut random())))
            };
            assert_gradient("parameters", &values, &gradients, |values| loss(values, &x));
            assert_gradient("input", &x, &dx, |x| loss(&values, x));
        }
    }

    #[test]
    fn evaluation_uses_running_statistics_and_drops_nothing() {
        let mut layout = Layout::new();
        let mut tower = Tower::new("tower", &shape(true, 0.5), &mut layout);
        let mut values = layout.start_values(3);
        let x = numbers(ROWS * 4, 1);
        let mut evaluate = |values: &[f32], x: &[f32]| {
            tower.forward((&layout, values), x, None::<&mut Xoshiro256PlusPlus>).to_vec()
        };
        let whole = evaluate(&values, &x);
        // A row's outputs do not depend on the rows beside it.
        assert_eq!(evaluate(&values, &x[..4]), whole[..3]);
        let mut training = Tower::new("tower", &shape(true, 0.5), &mut Layout::new());
        let mut moves = vec![0.0; layout.floats()];
        training.forward((&layout, &values), &x, Some(&mut random()));
        training.moves((&layout, &values), 0.1, &mut moves);
        for (value, moved) in values.iter_mut().zip(&moves) {
            *value += moved;
        }
        assert_ne!(evaluate(&values, &x), whole);
    }
}
