//! Text line by line, field by field, each with its place.
//!
//! ```
//! use std::path::Path;
//! use sterna_tasks::data::Lines;
//!
//! # fn main() -> Result<(), sterna_tasks::data::DataError> {
//! let text = "a\t1.5\nb\tx\n";
//! let mut lines = Lines::of(Path::new("ratings.tsv"), text.as_bytes(), "name<TAB>number");
//! let line = lines.next_line()?.expect("there is a first line");
//! let [name, number] = line.split_exactly('\t')?;
//! assert_eq!((name.text, number.parse::<f32>()?), ("a", 1.5));
//! let line = lines.next_line()?.expect("and a second");
//! let [_, number] = line.split_exactly('\t')?;
//! let error = number.parse::<f32>().unwrap_err().to_string();
//! assert_eq!(error, "ratings.tsv:2:3: `x` is no number; expected name<TAB>number");
//! # Ok(())
//! # }
//! ```

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::{DataError, open};

/// Longer lines are refused, so that a file that is no text cannot fill the memory; see
/// [`Lines::line_bytes_max`].
pub const LINE_BYTES_MAX: usize = 1 << 16;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The lines of a text.
pub struct Lines<'a> {
    path: PathBuf,
    source: BufReader<Box<dyn Read + Send + 'a>>,
    expected: &'static str,
    bytes_max: usize,
    number: u64,
    line: Vec<u8>,
}

/// One line without its end, and where it is.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// Its text.
    pub text: &'a str,
    /// Its number, from 1.
    pub number: u64,
    path: &'a Path,
    expected: &'static str,
}

/// A part of a line.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    /// Its text.
    pub text: &'a str,
    line: Line<'a>,
}

impl Lines<'static> {
    /// Opens a file, plain or packed. `expected` tells in errors what a line should be.
    ///
    /// # Errors
    /// As [`open`].
    pub fn open(path: &Path, expected: &'static str) -> Result<Self, DataError> {
        Ok(Self::over(path, open(path)?, expected))
    }
}

impl<'a> Lines<'a> {
    /// The lines of `source`; `path` is for messages.
    #[must_use]
    pub fn of(path: &Path, source: impl Read + Send + 'a, expected: &'static str) -> Self {
        Self::over(path, Box::new(source), expected)
    }

    fn over(path: &Path, source: Box<dyn Read + Send + 'a>, expected: &'static str) -> Self {
        Self {
            path: path.to_path_buf(),
            source: BufReader::with_capacity(1 << 16, source),
            expected,
            bytes_max: LINE_BYTES_MAX,
            number: 0,
            line: Vec::new(),
        }
    }

    /// The longest line to accept, instead of [`LINE_BYTES_MAX`].
    #[must_use]
    pub fn line_bytes_max(mut self, bytes: usize) -> Self {
        self.bytes_max = bytes;
        self
    }

    /// The next line, blank ones too, without its end (LF or CR LF) and without a byte order mark
    /// at the start of the file; none at the end.
    ///
    /// # Errors
    /// A file that cannot be read, and a line that is too long or no UTF-8.
    pub fn next_line(&mut self) -> Result<Option<Line<'_>>, DataError> {
        if self.read_line()? { self.line().map(Some) } else { Ok(None) }
    }

    /// The next line that is not blank.
    ///
    /// # Errors
    /// As [`Lines::next_line`].
    pub fn next_filled(&mut self) -> Result<Option<Line<'_>>, DataError> {
        while self.read_line()? {
            if !self.line.trim_ascii().is_empty() {
                return self.line().map(Some);
            }
        }
        Ok(None)
    }

    /// The file as a whole is wrong: it is empty, or ends too early.
    #[must_use]
    pub fn refused(&self, reason: impl Into<String>) -> DataError {
        DataError::refused(&self.path, reason, self.expected)
    }

    /// Reads a line with its end; says whether there was one.
    fn read_line(&mut self) -> Result<bool, DataError> {
        self.line.clear();
        self.number += 1;
        let limit = self.bytes_max as u64 + 2;
        let length = (&mut self.source)
            .take(limit)
            .read_until(b'\n', &mut self.line)
            .map_err(DataError::io("read", &self.path))?;
        Ok(length > 0)
    }

    /// The line that was read.
    fn line(&self) -> Result<Line<'_>, DataError> {
        let bytes = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        let marked = if self.number == 1 { bytes.strip_prefix(BYTE_ORDER_MARK) } else { None };
        let bytes = marked.unwrap_or(bytes);
        let line =
            Line { text: "", number: self.number, path: &self.path, expected: self.expected };
        if bytes.len() > self.bytes_max {
            return Err(line.error_at(1, format!("longer than {} bytes", self.bytes_max)));
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Line { text, ..line }),
            Err(error) => Err(line.error_at(error.valid_up_to() + 1, "not UTF-8")),
        }
    }
}

impl<'a> Line<'a> {
    /// An error at this byte of the line, counted from 1.
    #[must_use]
    pub fn error_at(&self, column: usize, reason: impl Into<String>) -> DataError {
        DataError::Malformed {
            path: self.path.to_path_buf(),
            line: self.number,
            column,
            reason: reason.into(),
            expected: self.expected,
        }
    }

    /// The fields between single separators; there is at least one.
    pub fn split(self, separator: char) -> impl Iterator<Item = Field<'a>> {
        self.text.split(separator).map(move |text| Field { text, line: self })
    }

    /// The fields between a separator of several characters, such as `::`.
    pub fn split_by(self, separator: &'a str) -> impl Iterator<Item = Field<'a>> {
        self.text.split(separator).map(move |text| Field { text, line: self })
    }

    /// The fields between runs of white space; leading and trailing space is no field.
    pub fn split_whitespace(self) -> impl Iterator<Item = Field<'a>> {
        self.text.split_ascii_whitespace().map(move |text| Field { text, line: self })
    }

    /// Exactly `N` fields between single separators.
    ///
    /// # Errors
    /// Another number of fields.
    pub fn split_exactly<const N: usize>(
        self,
        separator: char,
    ) -> Result<[Field<'a>; N], DataError> {
        let mut fields = self.split(separator);
        let mut found = [Field { text: "", line: self }; N];
        for (index, place) in found.iter_mut().enumerate() {
            let Some(field) = fields.next() else {
                let reason = format!("{index} field(s), {N} are needed");
                return Err(self.error_at(self.text.len() + 1, reason));
            };
            *place = field;
        }
        match fields.next() {
            None => Ok(found),
            Some(field) => Err(field.error(format!("{} field(s) too many", 1 + fields.count()))),
        }
    }
}

impl Field<'_> {
    /// The byte where it starts in its line, counted from 1.
    #[must_use]
    pub fn column(&self) -> usize {
        // Both are parts of one string.
        self.text.as_ptr() as usize - self.line.text.as_ptr() as usize + 1
    }

    /// An error at this field.
    #[must_use]
    pub fn error(&self, reason: impl Into<String>) -> DataError {
        self.line.error_at(self.column(), reason)
    }

    /// The number that it spells, without the space around it.
    ///
    /// # Errors
    /// Something else, or a number that does not fit the type.
    pub fn parse<T: FromStr>(&self) -> Result<T, DataError> {
        let text = self.text.trim_ascii();
        text.parse().map_err(|_| self.error(format!("`{}` is no number", shortened(text))))
    }

    /// The finite number that it spells.
    ///
    /// # Errors
    /// Something else, an infinity or NaN.
    pub fn finite(&self) -> Result<f32, DataError> {
        let value: f32 = self.parse()?;
        if value.is_finite() {
            Ok(value)
        } else {
            Err(self.error(format!("`{}` is not finite", shortened(self.text))))
        }
    }
}

/// The start of a text that may be long.
fn shortened(text: &str) -> String {
    const SHOWN: usize = 40;
    match text.char_indices().nth(SHOWN) {
        None => text.into(),
        Some((end, _)) => format!("{}..", &text[..end]),
    }
}

impl std::fmt::Debug for Lines<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lines")
            .field("path", &self.path)
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{DataError, Lines};

    fn lines(text: &[u8]) -> Lines<'_> {
        Lines::of(Path::new("f"), text, "a line")
    }

    #[test]
    fn ends_of_lines_and_a_byte_order_mark_are_no_part_of_them() {
        let mut lines = lines(b"\xef\xbb\xbfone\r\n\ntwo");
        assert_eq!(lines.next_line().unwrap().unwrap().text, "one");
        assert_eq!(lines.next_line().unwrap().unwrap().text, "");
        let last = lines.next_line().unwrap().unwrap();
        assert_eq!((last.text, last.number), ("two", 3));
        assert!(lines.next_line().unwrap().is_none());
    }

    #[test]
    fn lines_that_say_nothing_can_be_skipped() {
        let mut lines = lines(b"\n \t\r\nx\n\n");
        let line = lines.next_filled().unwrap().unwrap();
        assert_eq!((line.text, line.number), ("x", 3));
        assert!(lines.next_filled().unwrap().is_none());
    }

    #[test]
    fn errors_name_line_and_column() {
        let found = |text: &[u8]| {
            let mut lines = lines(text);
            let read = |lines: &mut Lines<'_>| -> Result<(), DataError> {
                while let Some(line) = lines.next_line()? {
                    let [name, number] = line.split_exactly(';')?;
                    number.finite()?;
                    if name.text.is_empty() {
                        return Err(name.error("no name"));
                    }
                }
                Ok(())
            };
            read(&mut lines).unwrap_err().to_string()
        };
        for (text, expected) in [
            (&b"a;1\nb"[..], "f:2:2: 1 field(s), 2 are needed; expected a line"),
            (b"a;1;2;3", "f:1:5: 2 field(s) too many"),
            (b"a;1x", "f:1:3: `1x` is no number"),
            (b"a;nan", "f:1:3: `nan` is not finite"),
            (b";1", "f:1:1: no name"),
            (b"a;1\nb\xff;1", "f:2:2: not UTF-8"),
        ] {
            assert!(found(text).starts_with(expected), "{}", found(text));
        }
    }

    #[test]
    fn a_file_without_line_ends_is_refused_and_not_swallowed_whole() {
        let long = vec![b'x'; 10 << 20];
        let error = lines(&long).next_line().unwrap_err().to_string();
        assert!(error.starts_with("f:1:1: longer than 65536 bytes"), "{error}");
        assert!(lines(&long).line_bytes_max(11 << 20).next_line().is_ok());
    }
}
