//! Networks against their definition, written out with dense matrices in `f64`, and finite differences of it.

use std::sync::Arc;

use rand::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;

use super::{ModelKind, Network};
use crate::dense::cross_entropy::cross_entropy;
use crate::dense::difference::{assert_gradient_by, numbers};
use crate::gnn::block::{BlockBuilder, Blocks};
use crate::gnn::graph::Neighbours;
use crate::gnn::layer::{Rows, Weights};
use crate::sparse::SparseRows;

/// Differences for losses in f64, few of which lie across a kink, and for those in f32.
const EXACT: f32 = 1e-4;
const ROUNDED: f32 = 1e-2;

const NODES: usize = 9;
const CLASSES: usize = 3;
const BATCH: [u32; 4] = [5, 0, 8, 2];
const LABELS: [u32; 4] = [2, 0, 1, 2];

fn random() -> Xoshiro256PlusPlus {
    Xoshiro256PlusPlus::seed_from_u64(11)
}

/// A ring with a chord; node 8 is alone.
fn graph() -> Neighbours {
    let ring = (0..8).map(|node| (node, (node + 1) % 8));
    Neighbours::new(NODES, &ring.chain([(1, 5)]).collect::<Vec<_>>())
}

/// `S` of the whole graph, `NODES x NODES`.
fn sum_matrix(kind: ModelKind, graph: &Neighbours) -> Vec<f64> {
    let mut matrix = vec![0.0; NODES * NODES];
    let degree = |node: u32| graph.of(node).len() as f64;
    for (v, row) in (0..).zip(matrix.chunks_mut(NODES)) {
        for &u in graph.of(v) {
            row[u as usize] = match kind {
                ModelKind::Gcn => 1.0 / ((degree(u) + 1.0) * (degree(v) + 1.0)).sqrt(),
                ModelKind::Sage => 1.0 / degree(v),
            };
        }
        if kind == ModelKind::Gcn {
            row[v as usize] = 1.0 / (degree(v) + 1.0);
        }
    }
    matrix
}

fn multiply(a: &[f64], b: &[f64], inner: usize) -> Vec<f64> {
    let (rows, columns) = (a.len() / inner, b.len() / inner);
    let cell = |at: usize| -> f64 {
        let (row, column) = (at / columns, at % columns);
        (0..inner).map(|k| a[row * inner + k] * b[k * columns + column]).sum()
    };
    (0..rows * columns).map(cell).collect()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| f64::from(value)).collect()
}

/// The mean loss of the batch, by the definition.
fn definition(kind: ModelKind, widths: &[usize], weights: &[Weights], x: &[f32]) -> f64 {
    let sum = sum_matrix(kind, &graph());
    let mut rows = wide(x);
    for (index, (layer, width)) in weights.iter().zip(widths.windows(2)).enumerate() {
        let summed = multiply(&sum, &rows, NODES);
        let mut next = multiply(&summed, &wide(&layer.sum), width[0]);
        if kind == ModelKind::Sage {
            let own = multiply(&rows, &wide(&layer.own), width[0]);
            next.iter_mut().zip(own).for_each(|(next, own)| *next += own);
        }
        for row in next.chunks_mut(width[1]) {
            row.iter_mut().zip(&layer.bias).for_each(|(value, &b)| *value += f64::from(b));
        }
        if index + 2 < widths.len() {
            next.iter_mut().for_each(|value| *value = value.max(0.0));
        }
        rows = next;
    }
    let losses = BATCH.iter().zip(LABELS).map(|(&node, label)| {
        let row = &rows[node as usize * CLASSES..][..CLASSES];
        row.iter().map(|score| score.exp()).sum::<f64>().ln() - row[label as usize]
    });
    losses.sum::<f64>() / BATCH.len() as f64
}

fn weights(kind: ModelKind, widths: &[usize]) -> Vec<Weights> {
    let layer = |(index, width): (usize, &[usize])| {
        let size = width[0] * width[1];
        let own = if kind.has_own_weight() { size } else { 0 };
        let seed = 10 * index as u64;
        Weights {
            sum: numbers(size, seed),
            own: numbers(own, seed + 1),
            bias: numbers(width[1], seed + 2),
        }
    };
    widths.windows(2).enumerate().map(layer).collect()
}

fn zeros(weights: &[Weights]) -> Vec<Weights> {
    let zero = |values: &[f32]| vec![0.0; values.len()];
    let layer = |w: &Weights| Weights { sum: zero(&w.sum), own: zero(&w.own), bias: zero(&w.bias) };
    weights.iter().map(layer).collect()
}

/// The rows of `x` for the blocks' nodes.
fn rows_of(blocks: &Blocks, x: &[f32], width: usize) -> Vec<f32> {
    let row = |&node: &u32| &x[node as usize * width..][..width];
    blocks.nodes.iter().flat_map(row).copied().collect()
}

fn sparse(rows: &[f32], width: usize) -> SparseRows {
    let mut sparse = SparseRows::new(width);
    for row in rows.chunks(width) {
        sparse.push((0..).zip(row.iter().copied()).filter(|&(_, value)| value != 0.0));
    }
    sparse
}

fn blocks(kind: ModelKind, layers: usize) -> Blocks {
    let mut blocks = Blocks::default();
    let mut builder = BlockBuilder::new(Arc::new(graph()), kind.sum());
    builder.build(&BATCH, &vec![0; layers], &mut random(), &mut blocks);
    blocks
}

/// Loss, gradients by weights and by the rows of `x`, laid out as `x` is.
fn run(
    kind: ModelKind,
    widths: &[usize],
    weights: &[Weights],
    x: &[f32],
    given: bool,
    dropout: f32,
) -> (f64, Vec<Weights>, Vec<f32>) {
    let blocks = blocks(kind, widths.len() - 1);
    let rows = rows_of(&blocks, x, widths[0]);
    let features = sparse(&rows, widths[0]);
    let input = if given { Rows::Sparse(&features) } else { Rows::Dense(&rows) };
    let mut network = Network::new(widths, dropout);
    let scores = network.forward(weights, &blocks, input, Some(&mut random()));
    let loss = cross_entropy(scores, CLASSES, &LABELS, 1.0 / LABELS.len() as f32);
    let mut gradients = zeros(weights);
    let d_input = network.backward(weights, &mut gradients, &blocks, input).to_vec();
    let mut dx = vec![0.0; x.len()];
    for (row, &node) in d_input.chunks(widths[0]).zip(&blocks.nodes) {
        dx[node as usize * widths[0]..][..widths[0]].copy_from_slice(row);
    }
    (loss / LABELS.len() as f64, gradients, dx)
}

/// Networks that sum before and after the product, of one to three layers.
const WIDTHS: [&[usize]; 4] =
    [&[7, CLASSES], &[7, 4, CLASSES], &[2, 5, CLASSES], &[4, 4, 6, CLASSES]];

#[test]
fn losses_and_gradients_are_those_of_the_definition() {
    for kind in ModelKind::ALL {
        for widths in WIDTHS {
            let (weights, x) = (weights(kind, widths), numbers(NODES * widths[0], 99));
            for given in [true, false] {
                let (loss, gradients, dx) = run(kind, widths, &weights, &x, given, 0.0);
                let expected = definition(kind, widths, &weights, &x);
                assert!((loss - expected).abs() < 1e-5, "{kind:?} {widths:?}: {loss}, {expected}");
                check(
                    EXACT,
                    &format!("{kind:?} {widths:?} given {given}"),
                    &weights,
                    &gradients,
                    |weights| definition(kind, widths, weights, &x),
                );
                if !given {
                    assert_gradient_by(EXACT, "x", &x, &dx, |x| {
                        definition(kind, widths, &weights, x)
                    });
                }
            }
        }
    }
}

#[test]
fn gradients_go_through_dropout() {
    for kind in ModelKind::ALL {
        let widths = WIDTHS[1];
        let (weights, x) = (weights(kind, widths), numbers(NODES * widths[0], 98));
        for given in [true, false] {
            // The same random numbers drop the same values every time.
            let loss = |weights: &[Weights], x: &[f32]| run(kind, widths, weights, x, given, 0.4).0;
            let (_, gradients, dx) = run(kind, widths, &weights, &x, given, 0.4);
            check(ROUNDED, "dropout", &weights, &gradients, |weights| loss(weights, &x));
            if !given {
                assert_gradient_by(ROUNDED, "x", &x, &dx, |x| loss(&weights, x));
            }
        }
    }
}

fn check(
    delta: f32,
    name: &str,
    weights: &[Weights],
    gradients: &[Weights],
    loss: impl Fn(&[Weights]) -> f64,
) {
    type Part = fn(&mut Weights) -> &mut Vec<f32>;
    let parts: [(&str, Part); 3] =
        [("sum", |w| &mut w.sum), ("own", |w| &mut w.own), ("bias", |w| &mut w.bias)];
    for index in 0..weights.len() {
        for (part_name, part) in parts {
            let (at, found) = (
                part(&mut weights[index].clone()).clone(),
                part(&mut gradients[index].clone()).clone(),
            );
            if at.is_empty() {
                continue;
            }
            let mut moved = weights.to_vec();
            assert_gradient_by(
                delta,
                &format!("{name}, {part_name} of layer {index}"),
                &at,
                &found,
                |at| {
                    part(&mut moved[index]).copy_from_slice(at);
                    loss(&moved)
                },
            );
        }
    }
}

#[test]
fn evaluation_drops_nothing_and_a_batch_leaves_nothing_behind() {
    let (kind, widths) = (ModelKind::Sage, WIDTHS[1]);
    let (weights, x) = (weights(kind, widths), numbers(NODES * widths[0], 97));
    let blocks = blocks(kind, 2);
    let rows = rows_of(&blocks, &x, widths[0]);
    let features = sparse(&rows, widths[0]);
    let mut network = Network::new(widths, 0.5);
    let none = None::<&mut Xoshiro256PlusPlus>;
    let plain = network.forward(&weights, &blocks, Rows::Sparse(&features), none).to_vec();
    let dropped = network.forward(&weights, &blocks, Rows::Sparse(&features), Some(&mut random()));
    assert_ne!(plain, dropped);
    let none = None::<&mut Xoshiro256PlusPlus>;
    assert_eq!(plain, network.forward(&weights, &blocks, Rows::Dense(&rows), none));
    assert_eq!(network.classes(), CLASSES);
}
