//! The replay oracle: gradients and the owner's order are recorded and replayed by one thread. What must be equal and what
//! is bounded follows the table in the module's documentation.

use proptest::prelude::*;

use super::*;
use crate::optimizer::Optimizer;

fn optimizers() -> Vec<Optimizer> {
    vec![
        Optimizer::sgd(0.1),
        Optimizer::momentum(0.05, 0.9),
        Optimizer::Adagrad { lr: 0.1, eps: 1e-8, initial: 0.1 },
        Optimizer::RowAdagrad { lr: 0.1, eps: 1e-8, initial: 0.1 },
        Optimizer::Ftrl { lr: 0.1, beta: 0.5, l1: 0.3, l2: 0.2 },
        Optimizer::adam(0.01),
    ]
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).expect("below a usize")
    }

    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1_u32 << 23) as f32 - 1.0
    }

    fn vector(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.unit()).collect()
    }
}

fn start(shape: &RowShape, random: &mut Random) -> Vec<f32> {
    let mut row = random.vector(shape.row_len());
    shape.reset_state(&mut row);
    row
}

fn near(found: f32, wanted: f32, relative: f32) -> bool {
    (found - wanted).abs() <= relative * (1.0 + wanted.abs())
}

/// A node that holds a copy and an accumulator, as a replica does.
struct Holder {
    copy: Vec<f32>,
    block: Vec<f32>,
    gradients: Vec<Vec<f32>>,
    /// Per step and value: lr |g| / sqrt(S) on the local state, for Adagrad's bound.
    roots: Vec<Vec<f32>>,
}

/// FTRL's oracle: the gradients of one update are one step of their sum and the sum of their squares.
fn replay_sums(shape: &RowShape, row: &mut [f32], gradients: &[Vec<f32>]) {
    let Optimizer::Ftrl { lr, beta, l1, l2 } = shape.optimizer else { return };
    let [lr, beta, l1, l2] = [lr, beta, l1, l2].map(f64::from);
    let dim = shape.dim;
    for i in 0..dim {
        let sum: f64 = gradients.iter().map(|grad| f64::from(grad[i])).sum();
        let squares: f64 = gradients.iter().map(|grad| f64::from(grad[i]).powi(2)).sum();
        let [w, z, n] = [row[i], row[dim + i], row[2 * dim + i]].map(f64::from);
        let z = z + sum - ((n + squares).sqrt() - n.sqrt()) / lr * w;
        let n = n + squares;
        let w =
            if z.abs() <= l1 { 0.0 } else { -(z - l1.copysign(z)) / ((beta + n.sqrt()) / lr + l2) };
        #[allow(clippy::cast_possible_truncation, reason = "rounding is meant")]
        let rounded = [w, z, n].map(|x| x as f32);
        [row[i], row[dim + i], row[2 * dim + i]] = rounded;
    }
}

/// Nodes step copies, flush in random order, and refresh from the owner. Returns the owner's row, the replayed row, and
/// the bound of the values' difference.
fn run(shape: &RowShape, seed: u64, nodes: usize, rounds: usize) -> (Vec<f32>, Vec<f32>, Vec<f32>) {
    let mut random = Random(seed | 1);
    let lr = shape.optimizer.learning_rate();
    let mut owner = start(shape, &mut random);
    let mut replay = owner.clone();
    let mut bound = vec![1e-4_f32; shape.dim];
    let mut holders: Vec<Holder> = (0..nodes)
        .map(|_| {
            let mut block = vec![f32::NAN; shape.block_len()];
            Update::empty(shape, &mut block).clear();
            Holder { copy: owner.clone(), block, gradients: Vec::new(), roots: Vec::new() }
        })
        .collect();
    for _ in 0..rounds {
        let holder = &mut holders[random.below(nodes)];
        for _ in 0..=random.below(4) {
            let grad = random.vector(shape.dim);
            Update::in_block(shape, &mut holder.block).step_copy(&mut holder.copy, &grad, lr);
            let local = |i: usize| match shape.optimizer {
                Optimizer::Adagrad { .. } => holder.copy[shape.dim + i].sqrt(),
                Optimizer::RowAdagrad { .. } => holder.copy[shape.dim].sqrt(),
                _ => 0.0,
            };
            holder.roots.push((0..shape.dim).map(local).collect());
            holder.gradients.push(grad);
        }
        if random.below(3) > 0 {
            let mut wire = Vec::new();
            let mut update = Update::in_block(shape, &mut holder.block);
            update.encode(&mut wire);
            assert_eq!(wire.len(), update.encoded_len());
            update.clear();
            let mut scratch = vec![f32::NAN; shape.block_len()];
            Update::decode(shape, &wire, &mut scratch)
                .expect("own bytes")
                .apply_private(&mut owner);
            if let Optimizer::Ftrl { .. } = shape.optimizer {
                replay_sums(shape, &mut replay, &holder.gradients);
                holder.gradients.clear();
                holder.roots.clear();
            }
            for (grad, local) in holder.gradients.drain(..).zip(holder.roots.drain(..)) {
                shape.step_private(&mut replay, &grad, lr);
                for i in 0..shape.dim {
                    bound[i] += match shape.optimizer {
                        Optimizer::Adagrad { .. } | Optimizer::RowAdagrad { .. } => {
                            let at = if shape.state_len() == 1 { 0 } else { i };
                            let serial = replay[shape.dim + at].sqrt();
                            lr * grad[i].abs() * (1.0 / local[i] - 1.0 / serial).abs()
                        }
                        Optimizer::Adam { beta1, beta2, .. } => {
                            let ratio = beta1 * beta1 / beta2;
                            let c = (1.0 - beta1) / ((1.0 - beta2) * (1.0 - ratio)).sqrt();
                            2.0 * c * lr
                        }
                        _ => 0.0,
                    };
                }
            }
            if random.below(2) > 0 {
                holder.copy.copy_from_slice(&owner);
            }
        }
    }
    for holder in &mut holders {
        Update::in_block(shape, &mut holder.block).apply_private(&mut owner);
        if let Optimizer::Ftrl { .. } = shape.optimizer {
            replay_sums(shape, &mut replay, &holder.gradients);
            holder.gradients.clear();
        }
        for (grad, _) in holder.gradients.drain(..).zip(holder.roots.drain(..)) {
            shape.step_private(&mut replay, &grad, lr);
            bound.iter_mut().for_each(|b| *b += 20.0 * lr);
        }
    }
    (owner, replay, bound)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn several_writers_leave_the_state_exact_and_the_values_exact_or_bounded(
        seed in any::<u64>(), dim in 1_usize..20, nodes in 1_usize..5,
    ) {
        for optimizer in optimizers() {
            let shape = RowShape { optimizer, dim };
            let (owner, replay, bound) = run(&shape, seed, nodes, 30);
            let steps_at = if let Optimizer::Adam { .. } = optimizer { 3 * dim } else { usize::MAX };
            for i in dim..shape.row_len() {
                if i == steps_at {
                    prop_assert_eq!(owner[i].to_bits(), replay[i].to_bits());
                } else {
                    prop_assert!(near(owner[i], replay[i], 2e-5), "{} state {i}", optimizer.name());
                }
            }
            for i in 0..dim {
                if optimizer.is_linear() {
                    prop_assert!(near(owner[i], replay[i], 5e-5), "{} value {i}", optimizer.name());
                } else {
                    prop_assert!(
                        (owner[i] - replay[i]).abs() <= bound[i],
                        "{} value {i}: {} and {} differ by more than {}",
                        optimizer.name(), owner[i], replay[i], bound[i]
                    );
                }
            }
        }
    }

    #[test]
    fn with_one_writer_at_a_time_everything_is_exact(seed in any::<u64>(), dim in 1_usize..20) {
        for optimizer in optimizers() {
            let shape = RowShape { optimizer, dim };
            // FTRL's updates are one step each; a writer that has the row itself steps it as it is.
            let one_step = matches!(optimizer, Optimizer::Ftrl { .. });
            let mut random = Random(seed | 1);
            let lr = optimizer.learning_rate();
            let mut owner = start(&shape, &mut random);
            let mut replay = owner.clone();
            let mut block = vec![0.0; shape.block_len()];
            for _ in 0..6 {
                // A writer gets the row, steps its copy a few times, and hands its update over.
                let mut copy = owner.clone();
                let mut update = Update::empty(&shape, &mut block);
                for _ in 0..=if one_step { 0 } else { random.below(5) } {
                    let grad = random.vector(dim);
                    update.step_copy(&mut copy, &grad, lr);
                    shape.step_private(&mut replay, &grad, lr);
                }
                update.apply_private(&mut owner);
            }
            for i in 0..shape.row_len() {
                prop_assert!(near(owner[i], replay[i], 2e-5), "{} at {i}", optimizer.name());
            }
        }
    }

    #[test]
    fn waiting_gradients_are_steps_at_the_owner_and_come_back_before_later_ones(
        seed in any::<u64>(), dim in 1_usize..20, before in 0_usize..=4, after in 0_usize..=4,
    ) {
        for optimizer in optimizers() {
            let shape = RowShape { optimizer, dim };
            let mut random = Random(seed | 1);
            let mut owner = start(&shape, &mut random);
            let mut replay = owner.clone();
            let mut gradients = Vec::new();
            let (mut flushed, mut grown) = (vec![0.0; shape.block_len()], vec![0.0; shape.block_len()]);
            let mut first = Update::empty(&shape, &mut flushed);
            for _ in 0..before {
                let grad = random.vector(dim);
                first.push_gradient(&grad, 0.2).expect("room");
                shape.step_private(&mut replay, &grad, 0.2);
                gradients.push(grad);
            }
            let mut second = Update::empty(&shape, &mut grown);
            for _ in 0..after {
                let grad = random.vector(dim);
                second.push_gradient(&grad, 0.1).expect("room");
                shape.step_private(&mut replay, &grad, 0.1);
                gradients.push(grad);
            }
            if let Optimizer::Ftrl { .. } = optimizer {
                replay.copy_from_slice(&owner);
                replay_sums(&shape, &mut replay, &gradients);
            }
            second.put_before(&first);
            prop_assert_eq!(second.is_empty(), before + after == 0);
            // Settling on a copy gives the same row as applying, and then only maps travel.
            let mut copy = owner.clone();
            let mut settled_block = vec![0.0; shape.block_len()];
            let mut wire = Vec::new();
            second.encode(&mut wire);
            let mut settled = Update::decode(&shape, &wire, &mut settled_block).expect("own bytes");
            settled.settle(&mut copy);
            prop_assert_eq!(settled.gradients(), 0);
            let mut by_map = owner.clone();
            settled.apply_private(&mut by_map);
            second.apply_private(&mut owner);
            for i in 0..shape.row_len() {
                prop_assert!(near(owner[i], replay[i], 2e-5), "{} at {i}", optimizer.name());
                prop_assert!(near(copy[i], owner[i], 2e-5), "{} copy at {i}", optimizer.name());
                prop_assert!(near(by_map[i], owner[i], 2e-5), "{} map at {i}", optimizer.name());
            }
        }
    }

    #[test]
    fn foreign_bytes_are_refused_or_read_but_never_harm(
        bytes in proptest::collection::vec(any::<u8>(), 0..400), counts in 0_u32..600,
    ) {
        for optimizer in optimizers() {
            let shape = RowShape { optimizer, dim: 5 };
            let mut block = vec![0.0; shape.block_len()];
            let mut bytes = bytes.clone();
            if bytes.len() >= 4 {
                bytes[..4].copy_from_slice(&counts.to_le_bytes());
            }
            if let Ok(update) = Update::decode(&shape, &bytes, &mut block) {
                prop_assert_eq!(update.encoded_len(), bytes.len());
                update.apply_private(&mut vec![0.0; shape.row_len()]);
            }
        }
    }
}

#[test]
fn small_integers_add_up_to_the_last_bit() {
    let shape = RowShape { optimizer: Optimizer::sgd(1.0), dim: 3 };
    let (mut a, mut b) = (vec![0.0; shape.block_len()], vec![0.0; shape.block_len()]);
    let mut first = Update::empty(&shape, &mut a);
    first.add_values(&[1.0, 2.0, 3.0]);
    first.push_gradient(&[-1.0, -1.0, -1.0], 1.0).expect("linear");
    let mut second = Update::empty(&shape, &mut b);
    second.add_values(&[10.0, 0.0, 0.0]);
    second.put_before(&first);
    let mut row = [100.0, 100.0, 100.0];
    second.apply_private(&mut row);
    assert_eq!(row, [112.0, 103.0, 104.0]);
}

#[test]
fn an_addition_to_a_copy_is_the_same_to_the_last_bit_at_the_owner() {
    let shape = RowShape { optimizer: Optimizer::momentum(0.1, 0.5), dim: 19 };
    let mut random = Random(7);
    let mut owner = start(&shape, &mut random);
    let mut copy = owner.clone();
    let delta: Vec<f32> = (0_u16..19).map(f32::from).collect();
    owner[..19].fill(3.0);
    copy[..19].fill(3.0);
    let mut block = vec![0.0; shape.block_len()];
    let mut update = Update::empty(&shape, &mut block);
    update.add_copy(&mut copy, &delta);
    update.add_copy(&mut copy, &delta);
    update.apply_private(&mut owner);
    assert_eq!(owner, copy);
    assert_eq!(copy[18], 39.0);
}

#[test]
fn the_fifth_gradient_is_refused_and_nothing_is_taken() {
    let shape = RowShape { optimizer: Optimizer::adagrad(0.1), dim: 2 };
    let mut block = vec![0.0; shape.block_len()];
    let mut update = Update::empty(&shape, &mut block);
    for _ in 0..GRADIENTS_MAX {
        update.push_gradient(&[1.0, 1.0], 0.1).expect("room");
    }
    assert_eq!(update.push_gradient(&[1.0, 1.0], 0.1), Err(GradientsFull));
    assert_eq!(update.gradients(), GRADIENTS_MAX);
}

#[test]
fn an_emptied_block_holds_no_trace_of_what_was_in_it() {
    let shape = RowShape { optimizer: Optimizer::momentum(0.1, 0.5), dim: 2 };
    let mut block = vec![0.0; shape.block_len()];
    Update::empty(&shape, &mut block).push_gradient(&[1.0, 1.0], 0.1).expect("linear");
    let mut update = Update::empty(&shape, &mut block);
    assert!(update.is_empty());
    update.add_values(&[1.0, 1.0]);
    let mut row = [0.0, 0.0, 8.0, 8.0];
    update.apply_private(&mut row);
    assert_eq!(row, [1.0, 1.0, 8.0, 8.0]);
}

#[test]
fn a_stepped_copy_of_ftrl_is_always_what_the_owner_will_have() {
    let optimizer = Optimizer::Ftrl { lr: 0.1, beta: 0.5, l1: 0.1, l2: 0.2 };
    let shape = RowShape { optimizer, dim: 19 };
    let mut random = Random(7);
    let mut owner = start(&shape, &mut random);
    let mut copy = owner.clone();
    let mut block = vec![f32::NAN; shape.block_len()];
    let mut update = Update::empty(&shape, &mut block);
    for _ in 0..5 {
        // Steps, one of them through a private copy of the copy, and an update that comes back.
        let mut private = vec![f32::NAN; shape.block_len()];
        let mut folded = Update::empty(&shape, &mut private);
        let mut twice = copy.clone();
        folded.step_copy(&mut twice, &random.vector(19), 0.0);
        // SAFETY: used while `copy` is borrowed.
        update.fold_row(unsafe { RowPtr::from_private(&mut copy) }, &folded);
        update.step_copy(&mut copy, &random.vector(19), 0.0);
        let mut expected = owner.clone();
        update.apply_private(&mut expected);
        for (found, wanted) in copy.iter().zip(&expected) {
            assert!(near(*found, *wanted, 2e-5), "{found} and {wanted}");
        }
    }
    update.apply_private(&mut owner);
    update.clear();
    // The next update begins where this one has led.
    copy.copy_from_slice(&owner);
    update.step_copy(&mut copy, &random.vector(19), 0.0);
    update.apply_private(&mut owner);
    assert!(copy.iter().zip(&owner).all(|(found, wanted)| near(*found, *wanted, 2e-5)));
}

#[test]
fn two_nodes_that_each_hold_a_value_at_nothing_move_it_together() {
    let optimizer = Optimizer::Ftrl { lr: 0.1, beta: 1.0, l1: 1.0, l2: 0.0 };
    let shape = RowShape { optimizer, dim: 1 };
    let mut owner = [0.0; 3];
    let mut blocks = [vec![0.0; shape.block_len()], vec![0.0; shape.block_len()]];
    let updates: Vec<Update<'_>> = blocks
        .iter_mut()
        .map(|block| {
            let (mut copy, mut update) = (owner, Update::empty(&shape, block));
            update.step_copy(&mut copy, &[0.8], 0.0);
            assert_eq!(copy[0], 0.0, "neither outweighs the penalty");
            update
        })
        .collect();
    updates.iter().for_each(|update| update.apply_private(&mut owner));
    let rate = 0.1 / (1.0 + (2.0_f32 * 0.64).sqrt());
    assert!((owner[0] + 0.6 * rate).abs() < 1e-6, "{owner:?}");
}
