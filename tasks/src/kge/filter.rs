//! The known answers of a query, which a filtered rank leaves out.

use super::{Graph, Triple, model::Side};

/// All facts of a graph, sorted once for each side.
#[derive(Debug)]
pub struct Filter {
    /// (head, relation, tail), sorted.
    tails: Vec<[u32; 3]>,
    /// (tail, relation, head), sorted.
    heads: Vec<[u32; 3]>,
}

impl Filter {
    /// Takes the facts of all three splits, as the published figures do.
    #[must_use]
    pub fn new(graph: &Graph) -> Self {
        let all = || [&graph.train, &graph.valid, &graph.test].into_iter().flatten();
        Self {
            tails: sorted(all().map(|t| [t.head, t.relation, t.tail])),
            heads: sorted(all().map(|t| [t.tail, t.relation, t.head])),
        }
    }

    /// The known answers to the query of `side`: facts with the answer last, in rising order.
    pub(super) fn known(&self, side: Side, triple: Triple) -> &[[u32; 3]] {
        let (facts, asked) = match side {
            Side::Tail => (&self.tails, triple.head),
            Side::Head => (&self.heads, triple.tail),
        };
        let query = [asked, triple.relation];
        let start = facts.partition_point(|fact| fact[..2] < query[..]);
        let length = facts[start..].partition_point(|fact| fact[..2] == query[..]);
        &facts[start..start + length]
    }
}

fn sorted(facts: impl Iterator<Item = [u32; 3]>) -> Vec<[u32; 3]> {
    let mut facts: Vec<_> = facts.collect();
    facts.sort_unstable();
    facts.dedup();
    facts
}
