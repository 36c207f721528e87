//! A scale-free graph with communities, as a list of edges, and its communities as labels of nodes.
//!
//! Edge by edge: the first node is drawn by Zipf's law, the second by the same law, with probability `focus` from the
//! community of the first (Chung and Lu 2002, "Connected components in random graphs with given expected degree
//! sequences", with communities). Node `n` belongs to community `n mod communities`. A node's expected degree so falls as
//! a power of its rank. Edge number N depends on seed and N alone, and no edge has to be remembered; an edge
//! can come twice, which readers sum up or drop.

use std::io::Write;

use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::{Generator, Zipf};

/// What a graph is like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GraphShape {
    /// Nodes.
    pub nodes: u32,
    /// Communities; at most half as many as nodes.
    pub communities: u32,
    /// The part of the edges that stay in a community.
    pub focus: f64,
    /// The exponent of Zipf's law for degrees.
    pub exponent: f64,
}

/// A generator of edges: `node<TAB>node`.
#[derive(Clone, Debug)]
pub struct Edges {
    shape: GraphShape,
    seed: u64,
    next: u64,
    end: u64,
    all: Zipf,
    of_community: Zipf,
}

impl Edges {
    /// So many edges of this seed.
    ///
    /// # Panics
    /// If there are no communities, or one would have less than two nodes, or the exponent is negative or not finite.
    #[must_use]
    pub fn new(shape: GraphShape, seed: u64, count: u64) -> Self {
        let GraphShape { nodes, communities, exponent, .. } = shape;
        assert!(communities > 0 && nodes / communities >= 2, "a community has two nodes");
        let of_community = Zipf::new(nodes / communities, exponent);
        Self { shape, seed, next: 0, end: count, all: Zipf::new(nodes, exponent), of_community }
    }

    fn edge(&self, number: u64) -> (u32, u32) {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(self.seed ^ number.rotate_left(32));
        let communities = self.shape.communities;
        loop {
            let one = self.all.sample(&mut random) - 1;
            let other = if random.random::<f64>() < self.shape.focus {
                (self.of_community.sample(&mut random) - 1) * communities + one % communities
            } else {
                self.all.sample(&mut random) - 1
            };
            if one != other {
                return (one, other);
            }
        }
    }
}

impl Generator for Edges {
    fn total(&self) -> u64 {
        self.end - self.next
    }

    fn next_part(&mut self, count: u64, out: &mut Vec<u8>) -> u64 {
        let first = self.next;
        self.next = self.end.min(first.saturating_add(count));
        for number in first..self.next {
            let (one, other) = self.edge(number);
            writeln!(out, "{one}\t{other}").expect("memory takes every byte");
        }
        self.next - first
    }
}

/// The community of each node: `node<TAB>community`. Nodes without an edge are among them.
#[derive(Clone, Copy, Debug)]
pub struct Communities {
    shape: GraphShape,
    next: u32,
}

impl Communities {
    /// Of the `among` nodes with the most edges.
    #[must_use]
    pub fn new(shape: GraphShape, among: u32) -> Self {
        Self { shape: GraphShape { nodes: among.min(shape.nodes), ..shape }, next: 0 }
    }
}

impl Generator for Communities {
    fn total(&self) -> u64 {
        u64::from(self.shape.nodes - self.next)
    }

    fn next_part(&mut self, count: u64, out: &mut Vec<u8>) -> u64 {
        let first = self.next;
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.next = self.shape.nodes.min(first.saturating_add(count));
        for node in first..self.next {
            writeln!(out, "{node}\t{}", node % self.shape.communities)
                .expect("memory takes every byte");
        }
        u64::from(self.next - first)
    }
}

#[cfg(test)]
mod tests {
    use super::{Communities, Edges, Generator, GraphShape};

    const SHAPE: GraphShape =
        GraphShape { nodes: 1000, communities: 10, focus: 0.8, exponent: 0.7 };

    fn whole(mut generator: impl Generator) -> String {
        let mut out = Vec::new();
        while generator.next_part(7, &mut out) > 0 {}
        String::from_utf8(out).unwrap()
    }

    fn edges(seed: u64, count: u64) -> Vec<(usize, usize)> {
        let node = |text: &str| text.parse::<usize>().unwrap();
        let text = whole(Edges::new(SHAPE, seed, count));
        text.lines()
            .map(|line| line.split_once('\t').unwrap())
            .map(|(a, b)| (node(a), node(b)))
            .collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_edges_and_fewer_are_the_first_of_more() {
        assert_eq!(edges(1, 100), edges(1, 200)[..100]);
        assert_ne!(edges(1, 100), edges(2, 100));
    }

    #[test]
    fn edges_stay_in_communities_and_degrees_fall_by_the_law() {
        let edges = edges(3, 50_000);
        assert!(edges.iter().all(|&(one, other)| one != other && one < 1000 && other < 1000));
        let inside = edges.iter().filter(|(one, other)| one % 10 == other % 10).count();
        assert!((39_000..44_000).contains(&inside), "{inside}");
        let firsts = |node| edges.iter().filter(|&&(one, _)| one == node).map(|_| 1.0).sum::<f64>();
        let ratio = firsts(0) / firsts(31);
        // 32^0.7 is 11.3.
        assert!((8.0..16.0).contains(&ratio), "{ratio}");
    }

    #[test]
    fn communities_are_told_of_the_nodes_with_most_edges() {
        assert_eq!(whole(Communities::new(SHAPE, 12)).lines().last(), Some("11\t1"));
        assert_eq!(whole(Communities::new(SHAPE, 5000)).lines().count(), 1000);
    }
}
