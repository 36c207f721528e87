//! Lists of edges.

use std::path::Path;

use crate::data::{DataError, Field, Line, Lines};

const EXPECTED: &str = "two node numbers a line, separated by a tab, a comma or spaces";

/// Reads a list of edges. The first line may be a header; lines that start with `#` or `%` say nothing.
/// `number` gives the node that a field names.
pub(super) fn read(
    path: &Path,
    node: impl Fn(Field<'_>) -> Result<u32, DataError>,
) -> Result<Vec<(u32, u32)>, DataError> {
    let mut lines = Lines::open(path, EXPECTED)?;
    let mut edges = Vec::new();
    let mut first = true;
    while let Some(line) = lines.next_filled()? {
        if line.text.starts_with(['#', '%']) {
            continue;
        }
        let ends = ends(line)?;
        if !std::mem::take(&mut first) || ends[0].parse::<u64>().is_ok() {
            edges.push((node(ends[0])?, node(ends[1])?));
        }
    }
    Ok(edges)
}

/// The two fields of a line.
fn ends(line: Line<'_>) -> Result<[Field<'_>; 2], DataError> {
    if let Some(separator) = ['\t', ','].into_iter().find(|&mark| line.text.contains(mark)) {
        return line.split_exactly(separator);
    }
    let mut fields = line.split_whitespace();
    match (fields.next(), fields.next(), fields.next()) {
        (Some(one), Some(other), None) => Ok([one, other]),
        (_, _, Some(third)) => Err(third.error("a third field")),
        _ => Err(line.error_at(line.text.len() + 1, "one field")),
    }
}
