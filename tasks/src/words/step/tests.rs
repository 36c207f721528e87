//! The step against its definition: window by window in `f64`, and finite differences of the loss.

use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::window::{NONE, OUTPUTS};
use super::{MEASURE_EVERY, Plan, Planner, Step};
use crate::words::{Architecture, Shape, Subsample};

const WORDS: usize = 9;
/// Words that stand side by side, a word that stands there twice, and a sentence of nothing.
const SENTENCES: [&[u32]; 4] = [&[0, 1, 2, 3, 1, 4], &[5], &[6, 6, 7, 0], &[8, 3]];
/// No word twice within a window.
const DISTINCT: [&[u32]; 2] = [&[0, 1, 2, 3, 4, 5, 1], &[3, 7]];

/// Rows by table and word.
type Tables = [Vec<Vec<f64>>; 2];

fn shape(architecture: Architecture, dim: usize, negatives: usize) -> Shape {
    Shape { architecture, dim, window: 2, negatives }
}

fn planned(shape: Shape, sentences: &[&[u32]]) -> Plan {
    let subsample = Subsample::new(&[1; WORDS], 0.0);
    let mut random = Xoshiro256PlusPlus::seed_from_u64(5);
    let mut plan = Plan::default();
    let sentences = sentences.iter().copied();
    let mut planner = Planner::new(shape, WORDS);
    planner.plan(sentences, &subsample, &mut random, &mut plan);
    plan.negatives_into(shape).fill_with(|| random.random_range(0..WORDS as u64));
    planner.complete(&mut plan);
    plan
}

/// Rows that `f32` holds exactly.
fn tables(dim: usize) -> Tables {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(6);
    let mut row = || (0..dim).map(|_| f64::from(random.random_range(-1.0_f32..1.0))).collect();
    std::array::from_fn(|_| (0..WORDS).map(|_| row()).collect())
}

/// A window: its words, and its blocks of outputs with their labels.
type Around = (Vec<usize>, Vec<Vec<(usize, f64)>>);

/// The words of each window, those of its blocks of outputs, and whether these are negatives.
fn windows(plan: &Plan, negatives: usize) -> Vec<Around> {
    let name = |keys: &[u64], place: u32| index(keys[place as usize]);
    let blocks = (1 + negatives).div_ceil(OUTPUTS);
    let targets = plan.targets.chunks_exact(blocks);
    let windows = plan.centres.iter().zip(targets).map(|(centre, targets)| {
        let around = centre.around.clone().filter(|&at| at != centre.at);
        let inputs = around.map(|at| name(&plan.inputs, plan.words[at])).collect();
        let of_block = |block: usize| {
            let filled = targets[block].iter().enumerate().filter(|&(_, &place)| place != NONE);
            let label = move |at| if block == 0 && at == 0 { 1.0 } else { 0.0 };
            filled.map(|(at, &place)| (name(&plan.outputs, place), label(at))).collect()
        };
        (inputs, (0..blocks).map(of_block).collect())
    });
    windows.collect()
}

fn index(key: u64) -> usize {
    usize::try_from(key).unwrap()
}

fn dot(one: &[f64], other: &[f64]) -> f64 {
    one.iter().zip(other).map(|(a, b)| a * b).sum()
}

/// What each window predicts from: its words, or their mean.
fn predictors(shape: Shape, inputs: &[usize], rows: &[Vec<f64>]) -> Vec<Vec<f64>> {
    match shape.architecture {
        Architecture::SkipGram => inputs.iter().map(|&word| rows[word].clone()).collect(),
        Architecture::Cbow => {
            let sum = |at: usize| inputs.iter().map(|&word| rows[word][at]).sum::<f64>();
            vec![(0..shape.dim).map(|at| sum(at) / inputs.len() as f64).collect()]
        }
    }
}

/// The loss of some windows with rows as they are, and their number of predictors.
fn loss(shape: Shape, plan: &Plan, tables: &Tables, every: usize) -> (f64, f64) {
    let (mut sum, mut count) = (0.0, 0.0);
    for (inputs, blocks) in windows(plan, shape.negatives).iter().step_by(every) {
        for x in predictors(shape, inputs, &tables[0]) {
            count += 1.0;
            for &(word, label) in blocks.iter().flatten() {
                let margin = (2.0 * label - 1.0) * dot(&x, &tables[1][word]);
                sum += (-margin).exp().ln_1p();
            }
        }
    }
    (sum, count)
}

/// Descends window by window, block by block, as the module's documentation says.
fn descend(shape: Shape, plan: &Plan, tables: &mut Tables, rate: f64) {
    for (inputs, blocks) in windows(plan, shape.negatives) {
        let before = predictors(shape, &inputs, &tables[0]);
        let mut xs = before.clone();
        for block in blocks {
            let weight = |x: &[f64], &(word, label): &(usize, f64), rows: &[Vec<f64>]| {
                rate * (label - 1.0 / (1.0 + (-dot(x, &rows[word])).exp()))
            };
            let old = tables[1].clone();
            let scored = xs.clone();
            for (x, scored) in xs.iter_mut().zip(&scored) {
                for output in &block {
                    let weight = weight(scored, output, &old);
                    for at in 0..shape.dim {
                        tables[1][output.0][at] += weight * scored[at];
                        x[at] += weight * old[output.0][at];
                    }
                }
            }
        }
        for (number, &word) in inputs.iter().enumerate() {
            let (from, share) = match shape.architecture {
                Architecture::SkipGram => (number, 1.0),
                Architecture::Cbow => (0, 1.0 / inputs.len() as f64),
            };
            for at in 0..shape.dim {
                tables[0][word][at] += share * (xs[from][at] - before[from][at]);
            }
        }
    }
}

/// Runs the step; what it added comes back laid out as the tables are.
fn added(shape: Shape, plan: &Plan, tables: &Tables, rate: f32) -> (Tables, (f64, f64)) {
    let mut step = Step::new(shape);
    let parts = [(&mut step.inputs, &plan.inputs), (&mut step.outputs, &plan.outputs)];
    for ((rows, keys), table) in parts.into_iter().zip(tables) {
        let values = rows.pull_into(keys.len()).chunks_exact_mut(shape.dim);
        for (values, &key) in values.zip(keys) {
            for (value, &number) in values.iter_mut().zip(&table[index(key)]) {
                #[expect(clippy::cast_possible_truncation, reason = "it was an f32 before")]
                let number = number as f32;
                *value = number;
            }
        }
    }
    let loss = step.train(plan, rate);
    let mut added = tables
        .clone()
        .map(|table| table.into_iter().map(|row| vec![0.0; row.len()]).collect::<Vec<_>>());
    let parts = [(&step.inputs, &plan.inputs), (&step.outputs, &plan.outputs)];
    for ((rows, keys), table) in parts.into_iter().zip(&mut added) {
        for (values, &key) in rows.added().chunks_exact(shape.dim).zip(keys) {
            table[index(key)] = values.iter().copied().map(f64::from).collect();
        }
    }
    (added, (loss.sum, loss.count))
}

const SHAPES: [(Architecture, usize, usize); 5] = [
    (Architecture::SkipGram, 5, 1),
    (Architecture::SkipGram, 37, 5),
    (Architecture::SkipGram, 16, 8),
    (Architecture::Cbow, 21, 5),
    (Architecture::Cbow, 32, 12),
];

#[test]
fn a_step_descends_window_by_window_as_its_definition_says() {
    for (architecture, dim, negatives) in SHAPES {
        let shape = shape(architecture, dim, negatives);
        // A word twice in a window moves the second time from where the first left it; the
        // definition here takes both from the start, so it is given none.
        let plan = planned(shape, &DISTINCT);
        let before = tables(dim);
        let mut after = before.clone();
        descend(shape, &plan, &mut after, 0.1);
        let (added, _) = added(shape, &plan, &before, 0.1);
        for table in 0..2 {
            for word in 0..WORDS {
                for at in 0..dim {
                    let expected = after[table][word][at] - before[table][word][at];
                    let found = added[table][word][at];
                    assert!(
                        (expected - found).abs() < 1e-5,
                        "{shape:?}, table {table}, word {word}: {found}, expected {expected}"
                    );
                }
            }
        }
    }
}

#[test]
fn what_a_small_step_adds_is_the_gradient_of_the_loss() {
    const RATE: f32 = 2e-4;
    for (architecture, dim, negatives) in SHAPES {
        let shape = shape(architecture, dim, negatives);
        let plan = planned(shape, &SENTENCES);
        let before = tables(dim);
        let (added, _) = added(shape, &plan, &before, RATE);
        let mut gradients = Vec::new();
        for table in 0..2 {
            for word in 0..WORDS {
                for at in 0..dim {
                    let moved = |by: f64| {
                        let mut tables = before.clone();
                        tables[table][word][at] += by;
                        loss(shape, &plan, &tables, 1).0
                    };
                    let gradient = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                    gradients.push((gradient, -added[table][word][at] / f64::from(RATE)));
                }
            }
        }
        let largest =
            gradients.iter().fold(0.0_f64, |most, (gradient, _)| most.max(gradient.abs()));
        assert!(largest > 0.1);
        for (gradient, found) in gradients {
            assert!((gradient - found).abs() < 1e-2 * largest, "{shape:?}: {found}, {gradient}");
        }
    }
}

#[test]
fn the_loss_is_that_of_every_so_many_th_window() {
    for (architecture, dim, negatives) in SHAPES {
        let shape = shape(architecture, dim, negatives);
        let long: Vec<u32> = (0..100).map(|at| at * 7 % 9).collect();
        let plan = planned(shape, &[&long]);
        let before = tables(dim);
        let (added, (sum, count)) = added(shape, &plan, &before, 0.0);
        let expected = loss(shape, &plan, &before, MEASURE_EVERY);
        assert!((sum - expected.0).abs() < 1e-4 * expected.0, "{sum}, {expected:?}");
        assert_eq!(count, expected.1);
        assert!(added.iter().flatten().flatten().all(|&value| value == 0.0), "a rate of 0");
    }
}
