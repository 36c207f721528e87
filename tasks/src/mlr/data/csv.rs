//! Delimited text: numbers, and a class in the first or last column.

use std::path::Path;

use super::{Read, class_of};
use crate::data::{DataError, Field, Line, Lines, Vocabulary};

const EXPECTED: &str =
    "an example a line: numbers and a class, separated by commas, semicolons or tabs";

/// Lines are as long as an example has features.
const LINE_BYTES_MAX: usize = 1 << 24;

/// Where the class stands in a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClassColumn {
    /// Before the features.
    #[default]
    First,
    /// Behind them.
    Last,
}

/// Reads all examples of a file. A first line whose features are no numbers is one of names.
pub(super) fn read(
    path: &Path,
    class: ClassColumn,
    divisor: f32,
    names: &mut Vocabulary,
) -> Result<Read, DataError> {
    let mut lines = Lines::open(path, EXPECTED)?.line_bytes_max(LINE_BYTES_MAX);
    let (mut read, mut row) = (Read::default(), Vec::new());
    let mut form = None;
    while let Some(line) = lines.next_filled()? {
        let &mut (separator, count) = form.get_or_insert_with(|| {
            let found = [',', ';', '\t'].into_iter().find(|&c| line.text.contains(c));
            let separator = found.unwrap_or(',');
            (separator, line.split(separator).count())
        });
        let place = match class {
            ClassColumn::First => 0,
            ClassColumn::Last => count - 1,
        };
        if read.classes.is_empty() && is_header(line, separator, place) {
            continue;
        }
        row.clear();
        let mut found = 0;
        for (at, field) in line.split(separator).enumerate() {
            found += 1;
            if at == place {
                read.classes.push(class_in(field, names)?);
                continue;
            }
            let value = field.finite()? / divisor;
            let feature = u32::try_from(at - usize::from(at > place)).expect("a line is short");
            if value != 0.0 {
                row.push((feature, value));
            }
        }
        if found != count {
            let reason = format!("{found} fields, and lines before have {count}");
            return Err(line.error_at(line.text.len() + 1, reason));
        }
        read.rows.push(row.iter().copied());
        read.rows.widen(count - 1);
    }
    if read.classes.is_empty() { Err(lines.refused("no examples")) } else { Ok(read) }
}

fn class_in(field: Field<'_>, names: &mut Vocabulary) -> Result<u32, DataError> {
    match field.text.trim() {
        "" => Err(field.error("the class is empty")),
        text => class_of(text, names).ok_or_else(|| field.error("more than 2^32 classes")),
    }
}

fn is_header(line: Line<'_>, separator: char, class: usize) -> bool {
    let features = line.split(separator).enumerate().filter(|&(at, _)| at != class);
    let mut texts = features.map(|(_, field)| field.text.trim().parse::<f32>().is_err()).peekable();
    texts.peek().is_some() && texts.all(|text| text)
}
