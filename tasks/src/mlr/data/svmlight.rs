//! LIBSVM and svmlight text: `class feature:value feature:value ..`.

use std::path::Path;

use super::{Read, class_of};
use crate::data::{DataError, Field, Line, Lines, Vocabulary};

const EXPECTED: &str = "an example a line as `class feature:value feature:value ..`";

/// Lines are as long as an example has features.
const LINE_BYTES_MAX: usize = 1 << 24;

/// Whether the first line that says something is of this form: a class alone, or pairs with `:`.
pub(super) fn is_one(path: &Path) -> Result<bool, DataError> {
    let mut lines = Lines::open(path, EXPECTED)?.line_bytes_max(LINE_BYTES_MAX);
    while let Some(line) = lines.next_filled()? {
        let mut fields = fields(line);
        if fields.next().is_some() {
            return Ok(fields
                .next()
                .map_or(!line.text.contains([',', ';']), |field| field.text.contains(':')));
        }
    }
    Ok(false)
}

/// Reads all examples of a file.
pub(super) fn read(path: &Path, divisor: f32, names: &mut Vocabulary) -> Result<Read, DataError> {
    let mut lines = Lines::open(path, EXPECTED)?.line_bytes_max(LINE_BYTES_MAX);
    let (mut read, mut row) = (Read::default(), Vec::new());
    while let Some(line) = lines.next_filled()? {
        let mut fields = fields(line);
        let Some(class) = fields.next() else { continue };
        let number = class_of(class.text, names);
        read.classes.push(number.ok_or_else(|| class.error("more than 2^32 classes"))?);
        row.clear();
        for field in fields {
            let (feature, value) = pair(field)?;
            row.push((feature, value / divisor));
        }
        read.rows.push(row.iter().copied());
    }
    if read.classes.is_empty() { Err(lines.refused("no examples")) } else { Ok(read) }
}

/// What stands before a comment.
fn fields(line: Line<'_>) -> impl Iterator<Item = Field<'_>> {
    line.split_whitespace().take_while(|field| !field.text.starts_with('#'))
}

fn pair(field: Field<'_>) -> Result<(u32, f32), DataError> {
    // A feature is a row of the table: what is larger than this is a mistake.
    const FEATURES_MAX: u32 = 1 << 31;
    let Some((feature, value)) = field.text.split_once(':') else {
        return Err(field.error("no `:` between feature and value"));
    };
    let number = feature.parse().ok().filter(|&feature: &u32| feature < FEATURES_MAX);
    let wrong = || field.error(format!("`{feature}` is no feature's number below 2^31"));
    let number = number.ok_or_else(wrong)?;
    let finite = value.parse().ok().filter(|value: &f32| value.is_finite());
    Ok((number, finite.ok_or_else(|| field.error("the value is no finite number"))?))
}
