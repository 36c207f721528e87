//! Blocks: which rows of a layer flow into which rows of the next, for a batch of nodes.
//!
//! The rows that the last layer gives are those of the batch. Going back layer by layer, a block lists
//! for each row out the rows in that it sums, with their weights: all neighbours, or at most `fanout` of
//! them drawn without replacement (GraphSAGE, Hamilton et al. 2017, section 3.1). The nodes of the rows
//! out are the first of the rows in, so that a layer finds a node's own row at the place of its output.
//!
//! | sum | takes | weight of a neighbour `u` of `v` when `k` of `d_v` are drawn |
//! | --- | --- | --- |
//! | symmetric: GCN (Kipf and Welling 2017, eq. 2) | own row / (d_v + 1), neighbours | (d_v / k) / sqrt((d_u + 1) (d_v + 1)) |
//! | mean: GraphSAGE | neighbours | 1 / k |
//!
//! `d` is the degree in the whole graph, so that a sampled sum has the full one as its mean. With
//! all neighbours of all layers the batch's rows are exactly those of a pass over the whole graph.

use std::sync::Arc;

use rand::Rng;

use super::graph::Neighbours;
use crate::sparse::SparseRows;

const NOWHERE: u32 = u32::MAX;

/// How a layer sums neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sum {
    /// `D^-1/2 (A + I) D^-1/2`, the node itself included.
    Symmetric,
    /// The mean over neighbours, without the node itself.
    Mean,
}

/// Blocks of all layers for one batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Blocks {
    /// Nodes of the rows in of the first layer; the first ones are the batch itself.
    pub nodes: Vec<u32>,
    /// One per layer, the first layer first: a row per row out, a column per row in. The rows out of one
    /// are the rows in of the next.
    pub layers: Vec<SparseRows>,
}

/// Builds blocks of a graph; keeps its memory from batch to batch.
#[derive(Debug)]
pub struct BlockBuilder {
    graph: Arc<Neighbours>,
    sum: Sum,
    /// Place of each node among the batch's, or [`NOWHERE`].
    places: Vec<u32>,
    drawn: Vec<usize>,
}

impl BlockBuilder {
    /// For batches of this graph.
    #[must_use]
    pub fn new(graph: Arc<Neighbours>, sum: Sum) -> Self {
        let places = vec![NOWHERE; graph.nodes()];
        Self { graph, sum, places, drawn: Vec::new() }
    }

    /// Makes `blocks` those that give rows for the nodes of `batch`. `fanouts` has one entry per layer, the first layer
    /// first: how many neighbours to draw, 0 for all.
    ///
    /// # Panics
    /// If a node occurs twice or is none of the graph's.
    pub fn build(
        &mut self,
        batch: &[u32],
        fanouts: &[usize],
        random: &mut impl Rng,
        blocks: &mut Blocks,
    ) {
        let Blocks { nodes, layers } = blocks;
        nodes.clear();
        for &node in batch {
            let place = self.place(nodes, node) as usize;
            assert_eq!(place + 1, nodes.len(), "node {node} is twice in the batch");
        }
        layers.resize_with(fanouts.len(), SparseRows::default);
        for (block, &fanout) in layers.iter_mut().zip(fanouts).rev() {
            self.layer(nodes, fanout, random, block);
        }
        for &node in nodes.iter() {
            self.places[node as usize] = NOWHERE;
        }
    }

    /// The block whose rows out are those of `nodes`, which grow to its rows in.
    fn layer(
        &mut self,
        nodes: &mut Vec<u32>,
        fanout: usize,
        random: &mut impl Rng,
        block: &mut SparseRows,
    ) {
        let graph = Arc::clone(&self.graph);
        block.clear(nodes.len());
        let mut row = Vec::new();
        for output in 0..nodes.len() {
            let node = nodes[output];
            let all = graph.of(node);
            let whole = fanout == 0 || fanout >= all.len();
            let taken = if whole { all.len() } else { fanout };
            let shares = Shares::new(self.sum, all.len(), taken);
            row.clear();
            if self.sum == Sum::Symmetric {
                row.push((u32::try_from(output).expect("nodes are u32"), shares.own));
            }
            if whole {
                for &neighbour in all {
                    row.push((self.place(nodes, neighbour), self.weight(shares, neighbour)));
                }
            } else {
                self.draw(all.len(), fanout, random);
                for at in 0..fanout {
                    let neighbour = all[self.drawn[at]];
                    row.push((self.place(nodes, neighbour), self.weight(shares, neighbour)));
                }
            }
            block.push(row.iter().copied());
        }
        block.widen(nodes.len());
    }

    /// Draws `count` distinct places below `of` (Floyd's algorithm; fan-outs are small).
    fn draw(&mut self, of: usize, count: usize, random: &mut impl Rng) {
        self.drawn.clear();
        for last in of - count..of {
            let place = random.random_range(0..=last);
            let new = if self.drawn.contains(&place) { last } else { place };
            self.drawn.push(new);
        }
    }

    fn weight(&self, shares: Shares, neighbour: u32) -> f32 {
        match self.sum {
            Sum::Symmetric => shares.neighbour / as_f32(self.graph.of(neighbour).len() + 1).sqrt(),
            Sum::Mean => shares.neighbour,
        }
    }

    fn place(&mut self, nodes: &mut Vec<u32>, node: u32) -> u32 {
        let place = &mut self.places[node as usize];
        if *place == NOWHERE {
            *place = u32::try_from(nodes.len()).expect("nodes are u32");
            nodes.push(node);
        }
        *place
    }
}

/// What the weights of one row out have in common.
#[derive(Clone, Copy)]
struct Shares {
    own: f32,
    neighbour: f32,
}

impl Shares {
    fn new(sum: Sum, degree: usize, taken: usize) -> Self {
        let taken = as_f32(taken.max(1));
        match sum {
            Sum::Symmetric => {
                let own = 1.0 / as_f32(degree + 1);
                Self { own, neighbour: as_f32(degree) / taken * own.sqrt() }
            }
            Sum::Mean => Self { own: 0.0, neighbour: 1.0 / taken },
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "weights are f32")]
fn as_f32(count: usize) -> f32 {
    count as f32
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rand::SeedableRng;
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::{BlockBuilder, Blocks, Sum};
    use crate::gnn::graph::Neighbours;

    fn random() -> Xoshiro256PlusPlus {
        Xoshiro256PlusPlus::seed_from_u64(5)
    }

    fn built(
        builder: &mut BlockBuilder,
        batch: &[u32],
        fanouts: &[usize],
        random: &mut Xoshiro256PlusPlus,
    ) -> Blocks {
        let mut blocks = Blocks::default();
        builder.build(batch, fanouts, random, &mut blocks);
        blocks
    }

    /// A star of 0 in the middle of 1..=6, with a tail 6-7-8; 9 is alone.
    fn graph() -> Arc<Neighbours> {
        let edges: Vec<(u32, u32)> =
            (1..=6).map(|leaf| (0, leaf)).chain([(6, 7), (7, 8)]).collect();
        Arc::new(Neighbours::new(10, &edges))
    }

    #[test]
    fn all_neighbours_of_two_layers_are_the_batch_s_surroundings() {
        let mut builder = BlockBuilder::new(graph(), Sum::Symmetric);
        for _ in 0..2 {
            let blocks = built(&mut builder, &[8, 9], &[0, 0], &mut random());
            assert_eq!(blocks.nodes, [8, 9, 7, 6]);
            let [first, second] = &blocks.layers[..] else { panic!("two layers") };
            assert_eq!((second.len(), second.columns()), (2, 3));
            assert_eq!((first.len(), first.columns()), (3, 4));
            assert_eq!(second.row(0).0, [0, 2]);
            assert_eq!(second.row(1).0, [1]);
            assert_eq!(first.row(2).0, [2, 3, 0]);
            // Degrees with the node itself: 8 has 2, 7 has 3, 6 has 3.
            let expected = [1.0 / 3.0, 1.0 / 3.0, 1.0 / 6.0_f32.sqrt()];
            for (found, expected) in first.row(2).1.iter().zip(expected) {
                assert!((found - expected).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn means_leave_the_node_out_and_a_node_alone_has_nothing_to_sum() {
        let blocks =
            built(&mut BlockBuilder::new(graph(), Sum::Mean), &[7, 9], &[0], &mut random());
        assert_eq!(blocks.nodes, [7, 9, 6, 8]);
        assert_eq!(blocks.layers[0].row(0), (&[2, 3][..], &[0.5, 0.5][..]));
        assert_eq!(blocks.layers[0].row(1), (&[][..], &[][..]));
    }

    #[test]
    fn sampled_sums_have_the_full_sum_as_their_mean() {
        for sum in [Sum::Symmetric, Sum::Mean] {
            let mut builder = BlockBuilder::new(graph(), sum);
            let mut random = random();
            let mut means = [0.0_f32; 10];
            const DRAWS: usize = 20_000;
            for _ in 0..DRAWS {
                let blocks = built(&mut builder, &[0], &[2], &mut random);
                let (places, weights) = blocks.layers[0].row(0);
                assert_eq!(places.len(), if sum == Sum::Mean { 2 } else { 3 });
                for (&place, weight) in places.iter().zip(weights) {
                    means[blocks.nodes[place as usize] as usize] += weight / DRAWS as f32;
                }
            }
            let blocks = built(&mut builder, &[0], &[0], &mut random);
            let (places, weights) = blocks.layers[0].row(0);
            for (&place, &expected) in places.iter().zip(weights) {
                let found = means[blocks.nodes[place as usize] as usize];
                assert!(
                    (found - expected).abs() < 0.03 * expected.max(0.1),
                    "{sum:?}: {found}, {expected}"
                );
            }
        }
    }
}
