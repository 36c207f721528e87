//! Nodes as lines of svmlight: `class feature:value ..`.

use std::path::Path;

use rustc_hash::FxHashMap;

use super::{FEATURES_MAX, File, NO_CLASS, Read, Splits, edges};
use crate::data::{DataError, Field, Lines};
use crate::sparse::SparseRows;

const NODE: &str =
    "one node a line as `class feature:value ..`, features from 0, class -1 if it is unknown";
const SPLIT: &str = "`train`, `valid`, `test` or `none` for each node, one a line";

/// Lines are as long as a node has features.
const LINE_BYTES_MAX: usize = 1 << 24;

/// Reads `nodes.svmlight`, the edges and the split of a folder.
pub(super) fn read(folder: &Path) -> Result<Read, DataError> {
    let path = File::needed(folder, "nodes", &["svmlight", "svm", "libsvm"])?.0;
    let mut lines = Lines::open(&path, NODE)?.line_bytes_max(LINE_BYTES_MAX);
    let (mut features, mut labels) = (SparseRows::default(), Vec::new());
    let mut row = Vec::new();
    while let Some(line) = lines.next_line()? {
        let mut fields = line.split_whitespace();
        let Some(class) = fields.next() else {
            return Err(line.error_at(1, "an empty line"));
        };
        labels.push(class.parse::<i64>()?);
        row.clear();
        for field in fields {
            row.push(pair(field)?);
        }
        features.push(row.iter().copied());
    }
    let nodes = labels.len();
    if u32::try_from(nodes).is_err() {
        return Err(lines.refused("more than 2^32 nodes"));
    }
    let (classes, class_names) = number(&labels);
    let edges = File::needed(folder, "edges", &["tsv", "txt", "csv", "edgelist"])?.0;
    let edges = edges::read(&edges, |field| {
        let node: u32 = field.parse()?;
        let known = (node as usize) < nodes;
        known.then_some(node).ok_or_else(|| {
            field.error(format!("node {node} has no line among the {nodes} of {}", path.display()))
        })
    })?;
    let given = match File::find(folder, "split", &["txt"])? {
        Some(file) => Some(read_split(&file.0, &classes)?),
        None => None,
    };
    let features = (features.pairs() > 0).then_some(features);
    let numbers = (0..nodes as u64).collect();
    Ok(Read { edges, features, classes, class_names, numbers, given })
}

/// `feature:value`.
fn pair(field: Field<'_>) -> Result<(u32, f32), DataError> {
    let Some((feature, value)) = field.text.split_once(':') else {
        return Err(field.error("no `:` between feature and value"));
    };
    let feature = feature.parse().ok().filter(|&feature| feature < FEATURES_MAX);
    let value = value.parse().ok().filter(|value: &f32| value.is_finite());
    match (feature, value) {
        (Some(feature), Some(value)) => Ok((feature, value)),
        (None, _) => Err(field.error(format!("the feature is no number below {FEATURES_MAX}"))),
        _ => Err(field.error("the value is no finite number")),
    }
}

/// Classes in the order of their labels.
fn number(labels: &[i64]) -> (Vec<u32>, Vec<String>) {
    let mut known: Vec<i64> = labels.iter().copied().filter(|&label| label >= 0).collect();
    known.sort_unstable();
    known.dedup();
    let numbers: FxHashMap<i64, u32> = known.iter().copied().zip(0..).collect();
    let class = |label| numbers.get(label).copied().unwrap_or(NO_CLASS);
    (labels.iter().map(class).collect(), known.iter().map(i64::to_string).collect())
}

fn read_split(path: &Path, classes: &[u32]) -> Result<Splits, DataError> {
    let mut lines = Lines::open(path, SPLIT)?;
    let mut splits = Splits::default();
    let mut node = 0;
    while let Some(line) = lines.next_line()? {
        let list = match line.text.trim() {
            "train" => Some(&mut splits.train),
            "valid" => Some(&mut splits.valid),
            "test" => Some(&mut splits.test),
            "none" => None,
            other => return Err(line.error_at(1, format!("`{other}` is no split"))),
        };
        if let Some(list) = list {
            if classes.get(node as usize).is_none_or(|&class| class == NO_CLASS) {
                return Err(line.error_at(1, format!("node {node} has no class")));
            }
            list.push(node);
        }
        node += 1;
    }
    if node as usize != classes.len() {
        return Err(lines.refused(format!("{node} lines for {} nodes", classes.len())));
    }
    Ok(splits)
}
