//! A graph of named nodes, from a list of edges.

use std::path::Path;

use crate::data::{DataError, Field, Line, Lines, Vocabulary, set_name};
use crate::task::Digest;

const EXPECTED: &str = "node node, or node node weight, between spaces, tabs or commas";

/// How to read a list of edges.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EdgeOptions {
    /// Whether an edge leads only from its first node to its second.
    pub directed: bool,
    /// Whether the third field is a weight; otherwise it is passed over.
    pub weighted: bool,
    /// Whether the first line says what the fields are.
    pub header: bool,
}

/// A graph: the neighbours of each node, in order.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// What it is called in reports.
    pub name: String,
    /// The nodes.
    pub nodes: Vocabulary,
    /// Where the neighbours of each node end.
    ends: Vec<usize>,
    neighbours: Vec<u32>,
    /// The sums of a node's weights up to each neighbour; none if all weigh the same.
    sums: Vec<f32>,
}

impl Graph {
    /// Reads a list of edges, plain or packed. Lines that start with `#` or `%` say nothing. An edge
    /// from a node to itself is dropped; of an edge that is there twice the weights are summed.
    ///
    /// # Errors
    /// A file that cannot be read or has another form; a graph without edges.
    pub fn read(path: &Path, options: EdgeOptions) -> Result<Self, DataError> {
        let mut lines = Lines::open(path, EXPECTED)?;
        let mut nodes = Vocabulary::default();
        let mut edges = Vec::new();
        let mut header = options.header;
        while let Some(line) = lines.next_filled()? {
            if line.text.starts_with(['#', '%']) || std::mem::take(&mut header) {
                continue;
            }
            let (one, other, weight) = edge(line, options.weighted)?;
            let number = |nodes: &mut Vocabulary, field: &Field<'_>| {
                nodes.number_or_add(field.text).ok_or_else(|| field.error("too many nodes"))
            };
            let (from, to) = (number(&mut nodes, &one)?, number(&mut nodes, &other)?);
            if from != to {
                edges.push((from, to, weight));
                if !options.directed {
                    edges.push((to, from, weight));
                }
            }
        }
        if edges.is_empty() {
            return Err(lines.refused("no edge between two nodes"));
        }
        let mut graph = Self::of(nodes, edges, options.weighted);
        graph.name = set_name(path);
        Ok(graph)
    }

    fn of(nodes: Vocabulary, mut edges: Vec<(u32, u32, f32)>, weighted: bool) -> Self {
        edges.sort_unstable_by_key(|&(from, to, _)| (from, to));
        edges.dedup_by(|next, kept| {
            let same = (next.0, next.1) == (kept.0, kept.1);
            if same {
                kept.2 += next.2;
            }
            same
        });
        let mut graph = Self { nodes, ..Self::default() };
        graph.ends = vec![0; graph.nodes.len()];
        for &(from, ..) in &edges {
            graph.ends[from as usize] += 1;
        }
        let mut end = 0;
        for count in &mut graph.ends {
            end += *count;
            *count = end;
        }
        graph.neighbours = edges.iter().map(|&(_, to, _)| to).collect();
        if weighted {
            let (mut sum, mut of) = (0.0, u32::MAX);
            graph.sums.reserve_exact(edges.len());
            for (from, _, weight) in edges {
                sum = if from == of { sum + weight } else { weight };
                of = from;
                graph.sums.push(sum);
            }
        }
        graph
    }

    /// The neighbours that a node leads to, in rising order.
    ///
    /// # Panics
    /// If there is no such node.
    #[must_use]
    pub fn neighbours(&self, node: u32) -> &[u32] {
        &self.neighbours[self.range(node)]
    }

    /// For each neighbour of a node the sum of the weights up to it; none if all weigh the same.
    pub(super) fn sums(&self, node: u32) -> Option<&[f32]> {
        if self.sums.is_empty() { None } else { Some(&self.sums[self.range(node)]) }
    }

    /// Edges, each direction counted.
    #[must_use]
    pub fn edges(&self) -> usize {
        self.neighbours.len()
    }

    /// Bytes of the edges.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let edges = size_of_val(&*self.neighbours) + size_of_val(&*self.sums);
        (edges + size_of_val(&*self.ends)) as u64
    }

    /// Feeds all that training reads to a digest.
    pub(super) fn digest(&self, digest: &mut Digest) {
        self.nodes.names().for_each(|name| digest.name(name));
        self.ends.iter().for_each(|&end| digest.number(end as u64));
        digest.numbers(&self.neighbours);
        digest.floats(&self.sums);
    }

    fn range(&self, node: u32) -> std::ops::Range<usize> {
        let node = node as usize;
        let start = if node == 0 { 0 } else { self.ends[node - 1] };
        start..self.ends[node]
    }
}

/// Two nodes and a weight.
fn edge(line: Line<'_>, weighted: bool) -> Result<(Field<'_>, Field<'_>, f32), DataError> {
    let separator = if line.text.contains('\t') {
        Some('\t')
    } else if line.text.contains(',') {
        Some(',')
    } else {
        None
    };
    let mut fields: [Option<Field<'_>>; 3] = [None; 3];
    match separator {
        Some(separator) => fields.iter_mut().zip(line.split(separator)).for_each(fill),
        None => fields.iter_mut().zip(line.split_whitespace()).for_each(fill),
    }
    let end = line.text.len() + 1;
    let [Some(one), Some(other), weight] = fields else {
        return Err(line.error_at(end, "two nodes are needed"));
    };
    for field in [one, other] {
        if field.text.is_empty() {
            return Err(field.error("a node without a name"));
        }
    }
    let weight = match weight {
        _ if !weighted => 1.0,
        None => return Err(line.error_at(end, "no weight")),
        Some(field) => {
            let weight = field.finite()?;
            if weight <= 0.0 {
                return Err(field.error("a weight must be positive"));
            }
            weight
        }
    };
    Ok((one, other, weight))
}

fn fill<'a>((place, field): (&mut Option<Field<'a>>, Field<'a>)) {
    *place = Some(field);
}

#[cfg(test)]
mod tests {
    use super::{EdgeOptions, Graph};
    use crate::data::DataError;

    fn read(text: &str, options: EdgeOptions) -> Result<Graph, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("edges.txt");
        std::fs::write(&path, text).unwrap();
        Graph::read(&path, options)
    }

    const PLAIN: EdgeOptions = EdgeOptions { directed: false, weighted: false, header: false };

    #[test]
    fn edges_lead_both_ways_once_and_never_to_their_own_node() {
        for text in
            ["# a graph\na b\nb c\n% x\nb a\nc c\n", "a\tb\t9\nb\tc\nb\ta\nc\tc", "a,b\nb,c\nb,a"]
        {
            let graph = read(text, PLAIN).unwrap();
            assert_eq!(graph.nodes.names().collect::<Vec<_>>(), ["a", "b", "c"]);
            let neighbours: Vec<_> = (0..3).map(|node| graph.neighbours(node)).collect();
            assert_eq!(neighbours, [&[1][..], &[0, 2], &[1]]);
            assert!(graph.sums(1).is_none());
        }
    }

    #[test]
    fn weights_of_the_same_edge_add_up_and_directed_edges_have_one_direction() {
        let options = EdgeOptions { directed: true, weighted: true, header: true };
        let graph = read("from,to,weight\na,b,1.5\na,c,2\nb,a,1\na,b,0.5\n", options).unwrap();
        assert_eq!((graph.neighbours(0), graph.neighbours(1)), (&[1, 2][..], &[0][..]));
        assert_eq!(graph.sums(0), Some(&[2.0, 4.0][..]));
        assert!(graph.neighbours(2).is_empty());
    }

    #[test]
    fn lines_of_another_form_are_refused_with_their_place() {
        let weighted = EdgeOptions { weighted: true, ..PLAIN };
        for (text, options, expected) in [
            ("a b\nc\n", PLAIN, "edges.txt:2:2: two nodes are needed"),
            ("a\t\n", PLAIN, "edges.txt:1:3: a node without a name"),
            ("a b\n", weighted, "edges.txt:1:4: no weight"),
            ("a b -1\n", weighted, "edges.txt:1:5: a weight must be positive"),
            ("a b x\n", weighted, "edges.txt:1:5: `x` is no number"),
            ("a a\n", PLAIN, "no edge between two nodes"),
        ] {
            let error = read(text, options).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
