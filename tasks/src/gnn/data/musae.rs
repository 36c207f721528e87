//! The form of the MUSAE sets (Rozemberczki et al. 2021): csv tables and a JSON object of features.

use std::collections::BTreeMap;
use std::path::Path;

use rustc_hash::FxHashMap;

use super::{FEATURES_MAX, File, NO_CLASS, Read, csv, edges};
use crate::data::{DataError, Lines, open};
use crate::sparse::SparseRows;

const TARGET: &str =
    "a header, then a line per node: its number first, its class last, commas between";
const FEATURES: &str = "a JSON object of lists: {\"node\": [feature, ..], ..}";

/// Reads the set of a folder whose table of nodes is `target`.
pub(super) fn read(folder: &Path, target: &Path) -> Result<Read, DataError> {
    let (numbers, labels) = nodes(target)?;
    let places: FxHashMap<u64, u32> = numbers.iter().copied().zip(0..).collect();
    let (classes, class_names) = number(&labels);
    let edges = File::needed(folder, "edges", &["csv"])?.0;
    let edges = edges::read(&edges, |field| {
        let number: u64 = field.parse()?;
        let place = places.get(&number).copied();
        place.ok_or_else(|| {
            field.error(format!("node {number} has no line in {}", target.display()))
        })
    })?;
    let features = match File::find(folder, "features", &["json"])? {
        Some(file) => Some(features(&file.0, &places)?),
        None => None,
    };
    Ok(Read { edges, features, classes, class_names, numbers, given: None })
}

/// Numbers of the nodes, and what their classes are called.
fn nodes(path: &Path) -> Result<(Vec<u64>, Vec<String>), DataError> {
    let mut lines = Lines::open(path, TARGET)?;
    let (mut numbers, mut labels) = (Vec::new(), Vec::new());
    let mut seen = rustc_hash::FxHashSet::default();
    let mut columns = None;
    while let Some(line) = lines.next_filled()? {
        let fields = csv::fields(&line)?;
        let Some(columns) = columns else {
            columns = Some(fields.len());
            continue;
        };
        if fields.len() != columns || columns < 2 {
            let reason = format!("{} field(s), {columns} in the header", fields.len());
            return Err(line.error_at(1, reason));
        }
        let Ok(number) = fields[0].trim().parse() else {
            return Err(line.error_at(1, format!("`{}` is no number of a node", fields[0])));
        };
        if !seen.insert(number) {
            return Err(line.error_at(1, format!("node {number} was there before")));
        }
        numbers.push(number);
        labels.push(fields[columns - 1].trim().to_owned());
    }
    if u32::try_from(numbers.len()).is_err() {
        return Err(lines.refused("more than 2^32 nodes"));
    }
    Ok((numbers, labels))
}

/// Classes in the order of their names, or of their numbers if all are numbers. No name is no class.
fn number(labels: &[String]) -> (Vec<u32>, Vec<String>) {
    let mut known: Vec<&String> = labels.iter().filter(|label| !label.is_empty()).collect();
    known.sort_unstable_by_key(|&label| (label.parse::<u64>().ok(), label));
    known.dedup();
    let numbers: FxHashMap<&String, u32> = known.iter().copied().zip(0..).collect();
    let class = |label| numbers.get(label).copied().unwrap_or(NO_CLASS);
    (labels.iter().map(class).collect(), known.into_iter().cloned().collect())
}

/// A row of ones for each node's list.
fn features(path: &Path, places: &FxHashMap<u64, u32>) -> Result<SparseRows, DataError> {
    let source = std::io::BufReader::new(open(path)?);
    let lists: BTreeMap<u64, Vec<u32>> =
        serde_json::from_reader(source).map_err(|error| DataError::Malformed {
            path: path.to_path_buf(),
            line: error.line() as u64,
            column: error.column(),
            reason: error.to_string(),
            expected: FEATURES,
        })?;
    let mut by_place: Vec<&[u32]> = vec![&[]; places.len()];
    for (number, list) in &lists {
        let Some(&place) = places.get(number) else {
            let reason = format!("node {number} has no line in the table of nodes");
            return Err(DataError::refused(path, reason, FEATURES));
        };
        if let Some(feature) = list.iter().find(|&&feature| feature >= FEATURES_MAX) {
            let reason = format!("feature {feature} of node {number} is not below {FEATURES_MAX}");
            return Err(DataError::refused(path, reason, FEATURES));
        }
        by_place[place as usize] = list;
    }
    let mut rows = SparseRows::default();
    let mut distinct = Vec::new();
    for list in by_place {
        distinct.clear();
        distinct.extend_from_slice(list);
        distinct.sort_unstable();
        distinct.dedup();
        rows.push(distinct.iter().map(|&feature| (feature, 1.0)));
    }
    Ok(rows)
}
