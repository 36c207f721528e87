//! Delimited text by a schema: every cell becomes a category, every category a feature.

use std::borrow::Cow;
use std::fmt::Write;
use std::path::Path;

use super::numbering::Numbering;
use super::schema::{Kind, Schema, hour_and_weekday};
use super::{Examples, label};
use crate::data::{DataError, Line, Lines};

/// What a line should be.
const EXPECTED: &str = "the columns of the schema, a label among them";

/// A cell of a line: its text, and where it starts, counted from 1.
#[derive(Clone, Debug, Default, PartialEq)]
struct Cell<'a> {
    text: Cow<'a, str>,
    column: usize,
}

/// Reads a file; its features are numbered by `numbering`.
pub(super) fn read(
    path: &Path,
    schema: &Schema,
    numbering: &mut Numbering,
) -> Result<Examples, DataError> {
    from_lines(Lines::open(path, EXPECTED)?, schema, numbering)
}

fn from_lines(
    mut lines: Lines<'_>,
    schema: &Schema,
    numbering: &mut Numbering,
) -> Result<Examples, DataError> {
    let mut columns = schema.columns.len();
    let mut positions: Vec<usize> = (0..columns).collect();
    if schema.header {
        let Some(line) = lines.next_filled()? else { return Err(empty(&lines)) };
        let names = cells(line, schema.separator)?;
        columns = names.len();
        for (position, column) in positions.iter_mut().zip(&schema.columns) {
            let found = names.iter().position(|cell| cell.text == column.name);
            *position = found.ok_or_else(|| {
                line.error_at(1, format!("the header names no column `{}`", column.name))
            })?;
        }
    }
    let mut examples = Examples::default();
    let mut category = String::new();
    while let Some(line) = lines.next_filled()? {
        let cells = cells(line, schema.separator)?;
        if cells.len() != columns {
            let reason = format!("{} columns, {columns} are needed", cells.len());
            return Err(line.error_at(1, reason));
        }
        let (mut clicked, mut field) = (false, 0);
        let mut add = |category: &str| {
            let feature = numbering.number(field, category).ok_or_else(|| {
                line.error_at(1, "more than 2^32 features; hash them (--hash-buckets)")
            })?;
            field += 1;
            examples.feature(feature, 1.0);
            Ok::<(), DataError>(())
        };
        for (column, &position) in schema.columns.iter().zip(&positions) {
            let cell = &cells[position];
            let text = cell.text.trim_ascii();
            let wrong = |what: &str| line.error_at(cell.column, format!("`{text}` is no {what}"));
            match &column.kind {
                Kind::Ignore => {}
                Kind::Label => clicked = label(text).ok_or_else(|| wrong("label (1, 0 or -1)"))?,
                Kind::Categorical => add(text)?,
                Kind::Numeric { buckets } => {
                    category.clear();
                    if !text.is_empty() {
                        let value = text.parse().ok().filter(|value: &f64| value.is_finite());
                        buckets.write(value.ok_or_else(|| wrong("number"))?, &mut category);
                    }
                    add(&category)?;
                }
                Kind::Hour => {
                    let found = hour_and_weekday(text).ok_or_else(|| wrong("time as YYMMDDHH"))?;
                    for part in [found.0, found.1] {
                        category.clear();
                        let _ = write!(category, "{part}");
                        add(&category)?;
                    }
                }
            }
        }
        examples.end(clicked);
    }
    if examples.is_empty() { Err(empty(&lines)) } else { Ok(examples) }
}

fn empty(lines: &Lines<'_>) -> DataError {
    lines.refused("it holds no example")
}

/// The cells of a line. One that starts with a quote ends with a quote, may hold separators, and has quotes doubled
/// (RFC 4180).
fn cells<'a>(line: Line<'a>, separator: char) -> Result<Vec<Cell<'a>>, DataError> {
    let text = line.text;
    let mut cells = Vec::with_capacity(64);
    let mut start = 0;
    loop {
        let column = start + 1;
        let rest = &text[start..];
        let (cell, length) = match rest.strip_prefix('"') {
            None => {
                let length = rest.find(separator).unwrap_or(rest.len());
                (Cow::Borrowed(&rest[..length]), length)
            }
            Some(quoted) => {
                let length = quoted_length(quoted)
                    .ok_or_else(|| line.error_at(column, "a quote without its end in the line"))?;
                let cell = &quoted[..length];
                let cell = if cell.contains('"') {
                    Cow::Owned(cell.replace("\"\"", "\""))
                } else {
                    Cow::Borrowed(cell)
                };
                (cell, length + 2)
            }
        };
        cells.push(Cell { text: cell, column });
        let after = &rest[length..];
        if after.is_empty() {
            return Ok(cells);
        }
        if !after.starts_with(separator) {
            return Err(line.error_at(start + length + 1, "text after a closing quote"));
        }
        start += length + separator.len_utf8();
    }
}

/// Bytes up to the closing quote.
fn quoted_length(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = 0;
    loop {
        at += bytes[at..].iter().position(|&byte| byte == b'"')?;
        if bytes.get(at + 1) != Some(&b'"') {
            return Some(at);
        }
        at += 2;
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::numbering::{FeatureIds, Numbering};
    use super::{EXPECTED, Lines, Schema, cells, from_lines};
    use crate::ctr::data::schema::{Buckets, Column, Kind};

    fn schema(header: bool) -> Schema {
        let column = |name: &str, kind| Column { name: name.into(), kind };
        let columns = vec![
            column("y", Kind::Label),
            column("site", Kind::Categorical),
            column("n", Kind::Numeric { buckets: Buckets::Width(10.0) }),
            column("t", Kind::Hour),
        ];
        Schema { separator: ',', header, columns }
    }

    fn read(text: &str, header: bool) -> Result<(super::Examples, Numbering), String> {
        let schema = schema(header);
        let mut numbering =
            Numbering::new(FeatureIds::Enumerated { min_count: 1 }, &schema.fields());
        let lines = Lines::of(Path::new("f"), text.as_bytes(), EXPECTED);
        let examples =
            from_lines(lines, &schema, &mut numbering).map_err(|error| error.to_string())?;
        Ok((examples, numbering))
    }

    #[test]
    fn cells_may_be_quoted() {
        let found = |text: &'static str| {
            let mut lines = Lines::of(Path::new("f"), text.as_bytes(), EXPECTED);
            let line = lines.next_line().unwrap().unwrap();
            let cells = cells(line, ',').map_err(|error| error.to_string())?;
            Ok::<_, String>(
                cells.iter().map(|cell| (cell.text.to_string(), cell.column)).collect::<Vec<_>>(),
            )
        };
        let cell = |text: &str, column| (text.to_owned(), column);
        assert_eq!(found("a,,b").unwrap(), [cell("a", 1), cell("", 3), cell("b", 4)]);
        assert_eq!(found("\"a,\"\"b\",").unwrap(), [cell("a,\"b", 1), cell("", 9)]);
        assert_eq!(found("\"\",\"x\"").unwrap(), [cell("", 1), cell("x", 4)]);
        assert!(found("a,\"b").unwrap_err().starts_with("f:1:3: a quote without"));
        assert!(found("\"a\"b,c").unwrap_err().starts_with("f:1:4: text after"));
    }

    #[test]
    fn every_column_becomes_its_fields_and_empty_cells_are_categories() {
        let (examples, _) =
            read("1,a,12,14102105\n-1,b,,14102105\n0,a,19,14102206\n", false).unwrap();
        assert_eq!(examples.labels(), [true, false, false]);
        let features: Vec<&[u32]> = (0..3).map(|number| examples.get(number).0).collect();
        assert_eq!(examples.fields(), Some(4));
        assert_eq!(features[0][0], features[2][0]);
        assert_ne!(features[0][0], features[1][0]);
        // 12 and 19 share a bucket, the empty cell has its own.
        assert_eq!(features[0][1], features[2][1]);
        assert_ne!(features[0][1], features[1][1]);
        assert_eq!(features[0][2..], features[1][2..]);
    }

    #[test]
    fn a_header_places_columns_and_others_are_ignored() {
        let by_name = read("t,extra,site,y,n\n14102105,?,a,1,12\n", true).unwrap().0;
        let by_place = read("1,a,12,14102105\n", false).unwrap().0;
        assert_eq!(by_name, by_place);
        let error = read("t,site,y\n", true).unwrap_err();
        assert!(error.starts_with("f:1:1: the header names no column `n`"), "{error}");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (text, expected) in [
            ("1,a,12\n", "f:1:1: 3 columns, 4 are needed"),
            ("1,a,12,14102105\n2,a,1,14102105\n", "f:2:1: `2` is no label"),
            ("1,a,x,14102105\n", "f:1:5: `x` is no number"),
            ("1,a,1,141021\n", "f:1:7: `141021` is no time as YYMMDDHH"),
            ("\n\n", "f: it holds no example"),
        ] {
            let error = read(text, false).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
