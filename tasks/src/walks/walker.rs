//! Random walks: of the first order (`DeepWalk`) and of the second (node2vec).
//!
//! A walk goes to a neighbour by the weights of the edges. With node2vec's `p` and `q` a neighbour's
//! weight is multiplied by `1/p` if the walk just came from it, by 1 if it is a neighbour of where
//! the walk came from, and by `1/q` if not. Instead of tables for every edge, which take the memory
//! of all pairs of neighbouring edges, neighbours are drawn by the edges' weights and accepted with
//! the factor over its maximum (Yang et al. 2019, `KnightKing`), which is exact.

use rand::Rng;

use super::Graph;

/// Draws that may be refused before the factors of all neighbours are computed instead.
const TRIES: usize = 32;

/// Walks a graph.
#[derive(Clone, Copy, Debug)]
pub struct Walker<'g> {
    graph: &'g Graph,
    /// The factors `1/p` and `1/q`, and the largest of all; none if all are 1.
    second_order: Option<[f64; 3]>,
}

impl<'g> Walker<'g> {
    /// With node2vec's return parameter `p` and in-out parameter `q`; 1 and 1 is `DeepWalk`.
    #[must_use]
    #[expect(clippy::float_cmp, reason = "exactly 1 is the setting that means no factor")]
    pub fn new(graph: &'g Graph, p: f64, q: f64) -> Self {
        let largest = 1.0_f64.max(1.0 / p).max(1.0 / q);
        let second_order = (p != 1.0 || q != 1.0).then_some([1.0 / p, 1.0 / q, largest]);
        Self { graph, second_order }
    }

    /// Appends a walk of `length` nodes from `start` on to `walk`; fewer where a node leads nowhere.
    pub fn walk(&self, start: u32, length: usize, random: &mut impl Rng, walk: &mut Vec<u32>) {
        let mut came_from = None;
        let mut node = start;
        walk.push(start);
        for _ in 1..length {
            if self.graph.neighbours(node).is_empty() {
                return;
            }
            let next = match (came_from, self.second_order) {
                (Some(before), Some(factors)) => self.second(before, node, factors, random),
                _ => self.first(node, random),
            };
            walk.push(next);
            came_from = Some(node);
            node = next;
        }
    }

    /// A neighbour by the weights of the edges.
    fn first(&self, node: u32, random: &mut impl Rng) -> u32 {
        let neighbours = self.graph.neighbours(node);
        match self.graph.sums(node) {
            None => neighbours[random.random_range(0..neighbours.len())],
            Some(sums) => {
                let drawn = random.random::<f32>() * sums[sums.len() - 1];
                let index = sums.partition_point(|&sum| sum <= drawn);
                neighbours[index.min(sums.len() - 1)]
            }
        }
    }

    fn second(&self, before: u32, node: u32, factors: [f64; 3], random: &mut impl Rng) -> u32 {
        for _ in 0..TRIES {
            let next = self.first(node, random);
            if random.random::<f64>() * factors[2] <= self.factor(before, next, factors) {
                return next;
            }
        }
        let neighbours = self.graph.neighbours(node);
        let mut sum = 0.0;
        let sums: Vec<f64> = neighbours
            .iter()
            .enumerate()
            .map(|(index, &next)| {
                sum += self.weight(node, index) * self.factor(before, next, factors);
                sum
            })
            .collect();
        let drawn = random.random::<f64>() * sum;
        neighbours[sums.partition_point(|&sum| sum <= drawn).min(sums.len() - 1)]
    }

    fn factor(&self, before: u32, next: u32, [back, out, _]: [f64; 3]) -> f64 {
        if next == before {
            back
        } else if self.graph.neighbours(before).binary_search(&next).is_ok() {
            1.0
        } else {
            out
        }
    }

    fn weight(&self, node: u32, index: usize) -> f64 {
        match self.graph.sums(node) {
            None => 1.0,
            Some(sums) if index == 0 => f64::from(sums[0]),
            Some(sums) => f64::from(sums[index] - sums[index - 1]),
        }
    }
}

/// How often a walk of the first order of `length` nodes from every node visits each node, expected.
///
/// These are the counts that negatives are drawn by, known before the first walk; for walks of the
/// second order they are an approximation.
#[must_use]
pub fn visits(graph: &Graph, length: usize) -> Vec<f64> {
    let mut now = vec![1.0; graph.nodes.len()];
    let mut sum = now.clone();
    for _ in 1..length {
        let mut next = vec![0.0; now.len()];
        for (node, &mass) in (0..).zip(&now) {
            let neighbours = graph.neighbours(node);
            match graph.sums(node) {
                None => {
                    #[expect(clippy::cast_precision_loss, reason = "neighbours are u32")]
                    let part = mass / neighbours.len() as f64;
                    neighbours.iter().for_each(|&to| next[to as usize] += part);
                }
                Some(sums) => {
                    let all = sums.last().copied().map_or(1.0, f64::from);
                    let mut before = 0.0;
                    for (&to, &sum) in neighbours.iter().zip(sums) {
                        next[to as usize] += mass * (f64::from(sum) - before) / all;
                        before = f64::from(sum);
                    }
                }
            }
        }
        now = next;
        sum.iter_mut().zip(&now).for_each(|(sum, now)| *sum += now);
    }
    sum
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::super::{EdgeOptions, Graph};
    use super::{Walker, visits};

    fn graph(text: &str, weighted: bool) -> Graph {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("edges.txt");
        std::fs::write(&path, text).unwrap();
        Graph::read(&path, EdgeOptions { weighted, ..EdgeOptions::default() }).unwrap()
    }

    /// A triangle 0 1 2 with a tail 2 3.
    const TAIL: &str = "0 1 1\n1 2 2\n2 0 4\n2 3 8\n";

    fn counted(graph: &Graph, p: f64, q: f64, path: [u32; 2]) -> [f64; 4] {
        let walker = Walker::new(graph, p, q);
        let mut random = Xoshiro256PlusPlus::seed_from_u64(7);
        let (mut next, mut all) = ([0.0; 4], 0.0);
        let mut walk = Vec::new();
        for _ in 0..60_000 {
            walk.clear();
            walker.walk(path[0], 3, &mut random, &mut walk);
            if walk[1] == path[1] {
                next[walk[2] as usize] += 1.0;
                all += 1.0;
            }
        }
        next.map(|count| count / all)
    }

    fn assert_near(found: [f64; 4], weights: [f64; 4]) {
        let sum: f64 = weights.iter().sum();
        for (found, weight) in found.into_iter().zip(weights) {
            // Of some 20,000 draws five standard deviations are below 0.018.
            assert!((found - weight / sum).abs() < 0.018, "{found}, expected {}", weight / sum);
        }
    }

    #[test]
    fn steps_follow_the_weights_and_the_factors_of_node2vec() {
        let (plain, heavy) = (graph(TAIL, false), graph(TAIL, true));
        assert_near(counted(&plain, 1.0, 1.0, [0, 2]), [1.0, 1.0, 0.0, 1.0]);
        assert_near(counted(&heavy, 1.0, 1.0, [0, 2]), [4.0, 2.0, 0.0, 8.0]);
        // Back to 0 by 1/p, on to 1 that is next to 0 by 1, out to 3 by 1/q.
        assert_near(counted(&plain, 4.0, 0.5, [0, 2]), [0.25, 1.0, 0.0, 2.0]);
        assert_near(counted(&heavy, 0.25, 2.0, [0, 2]), [16.0, 2.0, 0.0, 4.0]);
        // So much against going back that the draws run out.
        assert_near(counted(&plain, 1e6, 1e6, [1, 2]), [1.0, 0.0, 0.0, 0.0]);
    }

    #[test]
    fn a_walk_ends_where_no_edge_leads_on_and_may_have_to_go_back() {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
        let pair = graph("0 1", false);
        let mut walk = Vec::new();
        Walker::new(&pair, 1e12, 1.0).walk(1, 5, &mut random, &mut walk);
        assert_eq!(walk, [1, 0, 1, 0, 1]);
    }

    #[test]
    fn visits_are_what_walks_count() {
        for weighted in [false, true] {
            let graph = graph(TAIL, weighted);
            let expected = visits(&graph, 6);
            assert!((expected.iter().sum::<f64>() - 24.0).abs() < 1e-4);
            let walker = Walker::new(&graph, 1.0, 1.0);
            let mut random = Xoshiro256PlusPlus::seed_from_u64(3);
            let mut counts = [0.0; 4];
            let mut walk = Vec::new();
            for start in 0..4 {
                for _ in 0..20_000 {
                    walk.clear();
                    walker.walk(start, 6, &mut random, &mut walk);
                    walk.iter().for_each(|&node| counts[node as usize] += 1.0 / 20_000.0);
                }
            }
            for (count, expected) in counts.into_iter().zip(expected) {
                assert!((count - expected).abs() < 0.1, "{counts:?}");
            }
        }
    }
}
