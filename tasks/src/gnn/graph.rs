//! An undirected graph as lists of neighbours.

/// Neighbours of each node, sorted: symmetric, without self loops and without duplicates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Neighbours {
    /// Where each node's list ends in `targets`, after a leading 0.
    ends: Vec<usize>,
    targets: Vec<u32>,
}

impl Neighbours {
    /// From edges in any order and direction. Self loops and repeated edges are dropped.
    ///
    /// # Panics
    /// If an edge names a node that is not below `nodes`.
    #[must_use]
    pub fn new(nodes: usize, edges: &[(u32, u32)]) -> Self {
        let mut ends = vec![0; nodes + 1];
        let distinct = || edges.iter().filter(|(one, other)| one != other);
        for &(one, other) in distinct() {
            ends[one as usize + 1] += 1;
            ends[other as usize + 1] += 1;
        }
        for node in 0..nodes {
            ends[node + 1] += ends[node];
        }
        let mut next = ends.clone();
        let mut targets = vec![0; ends[nodes]];
        for &(one, other) in distinct() {
            for (from, to) in [(one, other), (other, one)] {
                targets[next[from as usize]] = to;
                next[from as usize] += 1;
            }
        }
        Self::without_duplicates(&ends, &mut targets)
    }

    fn without_duplicates(ends: &[usize], targets: &mut [u32]) -> Self {
        let mut found = Self { ends: vec![0], targets: Vec::with_capacity(targets.len()) };
        for bounds in ends.windows(2) {
            let list = &mut targets[bounds[0]..bounds[1]];
            list.sort_unstable();
            for (place, &target) in list.iter().enumerate() {
                if place == 0 || list[place - 1] != target {
                    found.targets.push(target);
                }
            }
            found.ends.push(found.targets.len());
        }
        found
    }

    /// Number of nodes.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.ends.len() - 1
    }

    /// Number of undirected edges.
    #[must_use]
    pub fn edges(&self) -> usize {
        self.targets.len() / 2
    }

    /// The node's neighbours, by rising number.
    #[must_use]
    #[inline]
    pub fn of(&self, node: u32) -> &[u32] {
        &self.targets[self.ends[node as usize]..self.ends[node as usize + 1]]
    }
}

#[cfg(test)]
mod tests {
    use super::Neighbours;

    #[test]
    fn edges_become_symmetric_and_loops_and_repetitions_go() {
        let graph = Neighbours::new(5, &[(0, 3), (3, 0), (2, 2), (3, 1), (0, 3), (1, 0)]);
        let lists: Vec<&[u32]> = (0..5).map(|node| graph.of(node)).collect();
        assert_eq!(lists, [&[1, 3][..], &[0, 3], &[], &[0, 1], &[]]);
        assert_eq!((graph.nodes(), graph.edges()), (5, 3));
    }
}
