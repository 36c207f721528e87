//! What the columns of a delimited text mean.
//!
//! Criteo's and Avazu's forms are known; for any other a schema is a JSON file:
//!
//! ```json
//! { "separator": ",", "header": true, "columns": [
//!     { "name": "click",  "kind": "label" },
//!     { "name": "site",   "kind": "categorical" },
//!     { "name": "age",    "kind": "numeric", "buckets": { "width": 5 } },
//!     { "name": "visits", "kind": "numeric", "buckets": "log-square" },
//!     { "name": "price",  "kind": "numeric", "buckets": { "edges": [1, 5, 20] } },
//!     { "name": "when",   "kind": "hour" },
//!     { "name": "id",     "kind": "ignore" } ] }
//! ```
//!
//! With a header, columns are found by name, and those that the schema does not name are ignored; without one, they are
//! the columns from the left. Each numeric column is one categorical field of its buckets; an `hour` (`YYMMDDHH`, as
//! Avazu has it) is two, the hour of the day and the day of the week. An empty cell is a category of its own.

use std::fmt::Write;
use std::path::Path;

use serde::Deserialize;

use crate::data::DataError;

/// The form of a delimited text.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schema {
    /// What separates columns.
    #[serde(default = "comma")]
    pub separator: char,
    /// Whether the first line names the columns.
    #[serde(default = "yes")]
    pub header: bool,
    /// The columns.
    pub columns: Vec<Column>,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// What it means.
    #[serde(flatten)]
    pub kind: Kind,
}

/// What a column means.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Kind {
    /// Whether the example was clicked: 1, or 0 or -1.
    Label,
    /// Nothing.
    Ignore,
    /// A category by its text.
    Categorical,
    /// A number.
    Numeric {
        /// Which numbers are one category.
        #[serde(default)]
        buckets: Buckets,
    },
    /// A time as `YYMMDDHH`.
    Hour,
}

/// Which numbers are one category.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Buckets {
    /// `floor(ln(v)^2)` above 2, the integer itself below: the usual form for Criteo's counts.
    #[default]
    LogSquare,
    /// Equal ones of this width.
    Width(f64),
    /// Between these numbers, which rise.
    Edges(Vec<f64>),
}

const fn comma() -> char {
    ','
}

const fn yes() -> bool {
    true
}

impl Schema {
    /// Criteo's display advertising challenge: a label, 13 integers, 26 categories, separated by tabs.
    #[must_use]
    pub fn criteo() -> Self {
        let column = |name: String, kind| Column { name, kind };
        let mut columns = vec![column("label".into(), Kind::Label)];
        let integer = || Kind::Numeric { buckets: Buckets::LogSquare };
        columns.extend((1..=13).map(|number| column(format!("I{number}"), integer())));
        columns.extend((1..=26).map(|number| column(format!("C{number}"), Kind::Categorical)));
        Self { separator: '\t', header: false, columns }
    }

    /// Avazu's click-through rate challenge: a header, then id, click, hour and 21 categories, separated by commas.
    #[must_use]
    pub fn avazu() -> Self {
        let names = "C1 banner_pos site_id site_domain site_category app_id app_domain app_category \
                     device_id device_ip device_model device_type device_conn_type C14 C15 C16 C17 \
                     C18 C19 C20 C21";
        let column = |name: &str, kind| Column { name: name.into(), kind };
        let mut columns = vec![column("click", Kind::Label), column("hour", Kind::Hour)];
        columns.extend(names.split_whitespace().map(|name| column(name, Kind::Categorical)));
        Self { separator: ',', header: true, columns }
    }

    /// Reads a schema from a JSON file.
    ///
    /// # Errors
    /// A file that cannot be read or is no schema.
    pub fn read(path: &Path) -> Result<Self, DataError> {
        let text = std::fs::read_to_string(path).map_err(DataError::io("read", path))?;
        let refused =
            |reason: String| DataError::refused(path, reason, "a schema of columns as JSON");
        let schema: Self =
            serde_json::from_str(&text).map_err(|error| refused(error.to_string()))?;
        schema.check().map_err(refused)?;
        Ok(schema)
    }

    fn check(&self) -> Result<(), String> {
        let labels = self.columns.iter().filter(|column| column.kind == Kind::Label).count();
        if labels != 1 {
            return Err(format!("{labels} columns are labels, one is needed"));
        }
        if self.fields().is_empty() {
            return Err("no column gives a feature".into());
        }
        for column in &self.columns {
            let Kind::Numeric { buckets } = &column.kind else { continue };
            let right = match buckets {
                Buckets::LogSquare => true,
                Buckets::Width(width) => width.is_finite() && *width > 0.0,
                Buckets::Edges(edges) => {
                    edges.iter().all(|edge| edge.is_finite()) && edges.is_sorted_by(|a, b| a < b)
                }
            };
            if !right {
                return Err(format!("the buckets of {} do not rise", column.name));
            }
        }
        Ok(())
    }

    /// The names of the fields that it makes.
    #[must_use]
    pub fn fields(&self) -> Vec<String> {
        let mut names = Vec::new();
        for column in &self.columns {
            match column.kind {
                Kind::Label | Kind::Ignore => {}
                Kind::Categorical | Kind::Numeric { .. } => names.push(column.name.clone()),
                Kind::Hour => {
                    names.push(format!("{}:of_day", column.name));
                    names.push(format!("{}:weekday", column.name));
                }
            }
        }
        names
    }
}

impl Buckets {
    /// Writes the category of a number to `category`.
    pub(super) fn write(&self, value: f64, category: &mut String) {
        let bucket = match self {
            Self::LogSquare if value > 2.0 => (value.ln() * value.ln()).floor(),
            // "S" keeps small values apart from the buckets of the large ones.
            Self::LogSquare => {
                category.push('S');
                value.floor()
            }
            Self::Width(width) => (value / width).floor(),
            Self::Edges(edges) => {
                let below = edges.partition_point(|edge| *edge <= value);
                let _ = write!(category, "{below}");
                return;
            }
        };
        // Writing to a string does not fail.
        let _ = write!(category, "{bucket}");
    }
}

/// Hour of the day and day of the week (0 is Sunday) of `YYMMDDHH` in this century.
pub(super) fn hour_and_weekday(text: &str) -> Option<(u32, u32)> {
    if text.len() != 8 || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let part = |at: usize| text[at..at + 2].parse::<u32>().ok();
    let (year, month, day, hour) = (part(0)?, part(2)?, part(4)?, part(6)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 {
        return None;
    }
    // Sakamoto's method: a year begins in March, so that the leap day is its last.
    const SHIFT: [u32; 12] = [0, 3, 2, 5, 0, 3, 5, 1, 4, 6, 2, 4];
    let year = 2000 + year - u32::from(month < 3);
    let days = year + year / 4 - year / 100 + year / 400 + SHIFT[month as usize - 1] + day;
    Some((hour, days % 7))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::{Buckets, Schema, hour_and_weekday};

    fn category(buckets: &Buckets, value: f64) -> String {
        let mut category = String::new();
        buckets.write(value, &mut category);
        category
    }

    #[test]
    fn numbers_fall_into_their_buckets() {
        for (value, expected) in [(-1.0, "S-1"), (2.0, "S2"), (3.0, "1"), (1000.0, "47")] {
            assert_eq!(category(&Buckets::LogSquare, value), expected);
        }
        for (value, expected) in [(-0.1, "-1"), (0.0, "0"), (4.9, "0"), (5.0, "1")] {
            assert_eq!(category(&Buckets::Width(5.0), value), expected);
        }
        for (value, expected) in [(0.0, "0"), (1.0, "1"), (4.0, "1"), (99.0, "2")] {
            assert_eq!(category(&Buckets::Edges(vec![1.0, 5.0]), value), expected);
        }
    }

    #[test]
    fn a_time_gives_its_hour_and_weekday() {
        // 21 October 2014 was a Tuesday, 29 February 2016 a Monday, 1 January 2000 a Saturday.
        assert_eq!(hour_and_weekday("14102105"), Some((5, 2)));
        assert_eq!(hour_and_weekday("16022923"), Some((23, 1)));
        assert_eq!(hour_and_weekday("00010100"), Some((0, 6)));
        for wrong in ["1410210", "14102124", "14130100", "1410210x", ""] {
            assert_eq!(hour_and_weekday(wrong), None, "{wrong}");
        }
    }

    fn read(text: &str) -> Result<Schema, String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        Schema::read(file.path()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_schema_is_read_and_a_wrong_one_is_told_what_is_wrong() {
        let schema = read(
            r#"{ "columns": [ { "name": "y", "kind": "label" }, { "name": "c", "kind": "categorical" },
                 { "name": "n", "kind": "numeric", "buckets": { "edges": [1, 2] } },
                 { "name": "t", "kind": "hour" }, { "name": "i", "kind": "ignore" } ] }"#,
        )
        .unwrap();
        assert_eq!(schema.fields(), ["c", "n", "t:of_day", "t:weekday"]);
        assert!(schema.header && schema.separator == ',');
        let label = r#"{ "name": "y", "kind": "label" }"#;
        for (columns, expected) in [
            (String::new(), "0 columns are labels"),
            (label.into(), "no column gives a feature"),
            (format!(r#"{label}, {{ "name": "n", "kind": "numbers" }}"#), "unknown variant"),
            (
                format!(
                    r#"{label}, {{"name": "n", "kind": "numeric", "buckets": {{"width": 0}}}}"#
                ),
                "the buckets of n do not rise",
            ),
        ] {
            let error = read(&format!(r#"{{ "columns": [ {columns} ] }}"#)).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn the_known_forms_have_their_fields() {
        assert_eq!(Schema::criteo().fields().len(), 39);
        assert_eq!(Schema::avazu().fields().len(), 23);
        assert!(Schema::criteo().check().is_ok() && Schema::avazu().check().is_ok());
    }
}
