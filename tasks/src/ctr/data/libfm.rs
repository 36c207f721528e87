//! libFM and LIBSVM text: `label feature:value feature:value ..`, features numbered by the file.

use std::path::Path;

use super::{Examples, label};
use crate::data::{DataError, Lines};

/// What a line should be.
const EXPECTED: &str = "label feature:value feature:value ..";

/// Reads a file; returns also how many features there are at least, the largest number plus one.
pub(super) fn read(path: &Path) -> Result<(Examples, usize), DataError> {
    from_lines(Lines::open(path, EXPECTED)?)
}

fn from_lines(lines: Lines<'_>) -> Result<(Examples, usize), DataError> {
    /// A row per feature: more would not fit a machine of a job anyway.
    const FEATURE_MAX: u32 = u32::MAX - 1;
    // Wide examples make long lines.
    let mut lines = lines.line_bytes_max(1 << 24);
    let (mut examples, mut features) = (Examples::default(), 0);
    while let Some(line) = lines.next_filled()? {
        // What follows a `#` is a comment.
        let mut fields = line.split_whitespace().take_while(|field| !field.text.starts_with('#'));
        let Some(first) = fields.next() else { continue };
        let wrong = || first.error(format!("`{}` is no label (1, 0 or -1)", first.text));
        let clicked = label(first.text).ok_or_else(wrong)?;
        for field in fields {
            let Some((number, value)) = field.text.split_once(':') else {
                return Err(field.error(format!("`{}` has no `:`", field.text)));
            };
            let wrong = |what: &str, text: &str| field.error(format!("`{text}` is no {what}"));
            let number: u32 = number.parse().map_err(|_| wrong("feature's number", number))?;
            let parsed = value.parse().ok().filter(|value: &f32| value.is_finite());
            let value = parsed.ok_or_else(|| wrong("finite value", value))?;
            if number > FEATURE_MAX {
                return Err(field.error(format!("feature {number} is above {FEATURE_MAX}")));
            }
            features = features.max(number as usize + 1);
            examples.feature(number, value);
        }
        examples.end(clicked);
    }
    if examples.is_empty() {
        return Err(lines.refused("it holds no example"));
    }
    Ok((examples, features))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{EXPECTED, Examples, Lines, from_lines};

    fn read(text: &str) -> Result<(Examples, usize), String> {
        let lines = Lines::of(Path::new("f"), text.as_bytes(), EXPECTED);
        from_lines(lines).map_err(|error| error.to_string())
    }

    #[test]
    fn lines_are_read_with_values_and_comments() {
        let (examples, features) = read("1 3:1 7:0.5\n-1 0:1 # none\n\n+1\n").unwrap();
        assert_eq!((examples.len(), features), (3, 8));
        assert_eq!(examples.get(0), (&[3, 7][..], &[1.0, 0.5][..]));
        assert_eq!(examples.get(1), (&[0][..], &[1.0][..]));
        assert_eq!(examples.labels(), [true, false, true]);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (text, expected) in [
            ("3 1:1\n", "f:1:1: `3` is no label"),
            ("1 1:1\n0 x:1\n", "f:2:3: `x` is no feature's number"),
            ("1 5\n", "f:1:3: `5` has no `:`"),
            ("1 5:inf\n", "f:1:3: `inf` is no finite value"),
            ("1 -5:1\n", "f:1:3: `-5` is no feature's number"),
            ("", "f: it holds no example"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
