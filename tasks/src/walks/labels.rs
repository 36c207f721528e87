//! The labels of nodes, of which a node can have several.

use std::path::Path;

use super::Graph;
use crate::data::{DataError, Lines, Vocabulary};

const EXPECTED: &str =
    "node label, between a tab, a comma or spaces; a line for each label of a node";

/// Labels by node.
#[derive(Clone, Debug, Default)]
pub struct Labels {
    /// The labels' names.
    pub names: Vocabulary,
    /// Nodes that have a label, and their labels, both in rising order.
    pub nodes: Vec<(u32, Vec<u32>)>,
}

impl Labels {
    /// Reads a file, plain or packed, for the nodes of a graph. Lines that start with `#` or `%` say
    /// nothing.
    ///
    /// # Errors
    /// A file that cannot be read or has another form; a node that the graph does not have; fewer
    /// than four nodes with a label.
    pub fn read(path: &Path, graph: &Graph) -> Result<Self, DataError> {
        let mut lines = Lines::open(path, EXPECTED)?;
        let mut labels = Self::default();
        let mut given = Vec::new();
        while let Some(line) = lines.next_filled()? {
            if line.text.starts_with(['#', '%']) {
                continue;
            }
            let separator = |letter: char| letter == ',' || letter.is_ascii_whitespace();
            let mut fields = line.text.split(separator).filter(|text| !text.is_empty());
            let (Some(node), Some(label), None) = (fields.next(), fields.next(), fields.next())
            else {
                return Err(line.error_at(1, "a node and a label are needed"));
            };
            let Some(node) = graph.nodes.number(node) else {
                return Err(line.error_at(1, format!("`{node}` is no node of the graph")));
            };
            let Some(label) = labels.names.number_or_add(label) else {
                return Err(line.error_at(1, "too many labels"));
            };
            given.push((node, label));
        }
        given.sort_unstable();
        given.dedup();
        for of_node in given.chunk_by(|one, other| one.0 == other.0) {
            let list = of_node.iter().map(|&(_, label)| label).collect();
            labels.nodes.push((of_node[0].0, list));
        }
        if labels.nodes.len() < 4 {
            return Err(lines.refused(format!("{} nodes with labels", labels.nodes.len())));
        }
        Ok(labels)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{EdgeOptions, Graph};
    use super::Labels;

    #[test]
    fn a_node_has_the_labels_of_all_its_lines_and_mistakes_have_places() {
        let folder = tempfile::tempdir().unwrap();
        let (edges, groups) = (folder.path().join("edges"), folder.path().join("groups"));
        std::fs::write(&edges, "a b\nc d\ne a\n").unwrap();
        let graph = Graph::read(&edges, EdgeOptions::default()).unwrap();
        std::fs::write(&groups, "# of nodes\nd\tx\na\ty\nb y\na,x\nc\tx\na\ty\n").unwrap();
        let labels = Labels::read(&groups, &graph).unwrap();
        assert_eq!(labels.names.names().collect::<Vec<_>>(), ["x", "y"]);
        let expected = [(0, vec![0, 1]), (1, vec![1]), (2, vec![0]), (3, vec![0])];
        assert_eq!(labels.nodes, expected);
        for (text, expected) in [
            ("a x\nz x\n", "groups:2:1: `z` is no node of the graph"),
            ("a\n", "groups:1:1: a node and a label are needed"),
            ("a x\n", "1 nodes with labels"),
        ] {
            std::fs::write(&groups, text).unwrap();
            let error = Labels::read(&groups, &graph).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
