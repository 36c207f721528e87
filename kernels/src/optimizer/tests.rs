use proptest::prelude::*;

use super::*;

/// Every optimizer with settings that are no defaults.
pub(crate) fn optimizers() -> Vec<Optimizer> {
    vec![
        Optimizer::sgd(0.1),
        Optimizer::momentum(0.05, 0.9),
        Optimizer::Adagrad { lr: 0.1, eps: 1e-8, initial: 0.1 },
        Optimizer::RowAdagrad { lr: 0.1, eps: 1e-8, initial: 0.1 },
        Optimizer::Ftrl { lr: 0.1, beta: 0.5, l1: 0.3, l2: 0.2 },
        Optimizer::adam(0.01),
    ]
}

/// The formulas of the module's table, in f64 and one value at a time.
fn reference(shape: &RowShape, row: &mut [f64], grad: &[f32], lr: f64) {
    let dim = shape.dim;
    let square = grad.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>() / dim as f64;
    if let Optimizer::RowAdagrad { .. } = shape.optimizer {
        row[dim] += square;
    }
    if let Optimizer::Adam { .. } = shape.optimizer {
        row[3 * dim] += 1.0;
    }
    for i in 0..dim {
        let g = f64::from(grad[i]);
        match shape.optimizer {
            Optimizer::Sgd { .. } => row[i] -= lr * g,
            Optimizer::Momentum { momentum, .. } => {
                row[dim + i] = f64::from(momentum) * row[dim + i] + g;
                row[i] -= lr * row[dim + i];
            }
            Optimizer::Adagrad { eps, .. } => {
                row[dim + i] += g * g;
                row[i] -= lr * g / (row[dim + i].sqrt() + f64::from(eps));
            }
            Optimizer::RowAdagrad { eps, .. } => {
                row[i] -= lr * g / (row[dim].sqrt() + f64::from(eps));
            }
            Optimizer::Ftrl { lr, beta, l1, l2 } => {
                let [lr, beta, l1, l2] = [lr, beta, l1, l2].map(f64::from);
                let (z, n) = (row[dim + i], row[2 * dim + i]);
                let z = z + g - ((n + g * g).sqrt() - n.sqrt()) / lr * row[i];
                let n = n + g * g;
                (row[dim + i], row[2 * dim + i]) = (z, n);
                row[i] = if z.abs() <= l1 {
                    0.0
                } else {
                    -(z - l1.copysign(z)) / ((beta + n.sqrt()) / lr + l2)
                };
            }
            Optimizer::Adam { beta1, beta2, eps, .. } => {
                let (b1, b2, t) = (f64::from(beta1), f64::from(beta2), row[3 * dim]);
                row[dim + i] = b1 * row[dim + i] + (1.0 - b1) * g;
                row[2 * dim + i] = b2 * row[2 * dim + i] + (1.0 - b2) * g * g;
                let first = row[dim + i] / (1.0 - b1.powf(t));
                let second = row[2 * dim + i] / (1.0 - b2.powf(t));
                row[i] -= lr * first / (second.sqrt() + f64::from(eps));
            }
        }
    }
}

proptest! {
    #[test]
    fn steps_follow_their_formulas(
        dim in 1_usize..70,
        seed in any::<u64>(),
        steps in 1_usize..12,
    ) {
        let mut state = seed | 1;
        let mut random = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 40) as f32 / (1_u32 << 23) as f32) - 1.0
        };
        for optimizer in optimizers() {
            let shape = RowShape { optimizer, dim };
            let mut row: Vec<f32> = (0..shape.row_len()).map(|_| random()).collect();
            shape.reset_state(&mut row);
            let mut exact: Vec<f64> = row.iter().map(|&x| f64::from(x)).collect();
            for step in 0..steps {
                let grad: Vec<f32> = (0..dim).map(|_| random()).collect();
                let lr = 0.1 / (1.0 + step as f32);
                shape.step_private(&mut row, &grad, lr);
                reference(&shape, &mut exact, &grad, f64::from(lr));
            }
            if let Optimizer::Adam { .. } = optimizer {
                prop_assert_eq!(row[3 * dim].to_bits() as usize, steps);
                row[3 * dim] = steps as f32;
            }
            for (i, (&found, &wanted)) in row.iter().zip(&exact).enumerate() {
                prop_assert!(
                    (f64::from(found) - wanted).abs() <= 2e-5 * (1.0 + wanted.abs()),
                    "{} dim {dim} at {i}: {found} instead of {wanted}", optimizer.name()
                );
            }
        }
    }
}

#[test]
fn the_state_starts_where_the_optimizer_says() {
    let shape =
        RowShape { optimizer: Optimizer::Adagrad { lr: 0.1, eps: 0.0, initial: 0.5 }, dim: 2 };
    let mut row = [1.0; 4];
    shape.reset_state(&mut row);
    assert_eq!(row, [1.0, 1.0, 0.5, 0.5]);
}

#[test]
#[should_panic(expected = "gradient does not fit")]
fn a_gradient_of_another_length_is_refused() {
    let shape = RowShape { optimizer: Optimizer::sgd(0.1), dim: 2 };
    shape.step_private(&mut [0.0; 2], &[1.0; 3], 0.1);
}

#[test]
fn ftrl_starts_at_the_state_that_gives_the_first_values() {
    let optimizer = Optimizer::Ftrl { lr: 0.5, beta: 1.0, l1: 0.25, l2: 0.5 };
    let shape = RowShape { optimizer, dim: 3 };
    let mut row = [0.5, 0.0, -2.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0];
    shape.reset_state(&mut row);
    assert_eq!(row, [0.5, 0.0, -2.0, -1.5, 0.0, 5.25, 0.0, 0.0, 0.0]);
    // A gradient of nothing changes nothing.
    let start = row;
    shape.step_private(&mut row, &[0.0; 3], 0.5);
    assert_eq!(row, start);
}

#[test]
fn ftrl_without_penalties_and_memory_is_descent() {
    // With gradients that are small beside beta the rate stays alpha / beta.
    let optimizer = Optimizer::Ftrl { lr: 64.0, beta: 128.0, l1: 0.0, l2: 0.0 };
    let shape = RowShape { optimizer, dim: 1 };
    let mut row = [1.0, 0.0, 0.0];
    shape.reset_state(&mut row);
    for _ in 0..4 {
        shape.step_private(&mut row, &[1e-3], 0.0);
    }
    assert!((row[0] - (1.0 - 4.0 * 0.5e-3)).abs() < 2e-5, "{row:?}");
}

#[test]
fn ftrl_holds_values_at_nothing_until_their_gradients_outweigh_the_penalty() {
    let optimizer = Optimizer::Ftrl { lr: 0.1, beta: 1.0, l1: 1.0, l2: 0.0 };
    let shape = RowShape { optimizer, dim: 1 };
    let mut row = [0.0; 3];
    for wanted_zero in [true, true, true, false] {
        shape.step_private(&mut row, &[0.3], 0.0);
        assert_eq!(row[0] == 0.0, wanted_zero, "{row:?}");
    }
}
