//! Lines to cells.

use std::io::Read;
use std::path::Path;

use super::{Cell, Labels};
use crate::data::{DataError, Field, Line, Lines, Vocabulary, open};

/// What a file should be.
pub(super) const EXPECTED: &str = "ratings, one a line, as user, item, rating separated by a tab, a comma, :: or spaces, \
                                   or a Matrix Market coordinate matrix of real or integer numbers";

const BANNER: &str = "%%MatrixMarket";

/// Reads the files of one data set; its names grow from file to file.
#[derive(Debug, Default)]
pub(super) struct Reader {
    labels: Option<(Labels, Labels)>,
}

/// What stands between the fields of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Separator {
    Text(&'static str),
    Space,
}

impl Reader {
    /// Reads all cells of a file, plain or packed.
    pub(super) fn file(&mut self, path: &Path) -> Result<Vec<Cell>, DataError> {
        self.cells(path, open(path)?)
    }

    /// What the rows and columns of all files are called.
    pub(super) fn finish(self) -> (Labels, Labels) {
        self.labels.unwrap_or((Labels::Count(0), Labels::Count(0)))
    }

    /// Reads all cells of `source`; `path` is for messages only.
    pub(super) fn cells(
        &mut self,
        path: &Path,
        source: impl Read + Send,
    ) -> Result<Vec<Cell>, DataError> {
        let mut lines = Lines::of(path, source, EXPECTED);
        let mut cells = Vec::new();
        let market = match lines.next_filled()? {
            None => return Err(lines.refused("no ratings")),
            Some(line) if line.text.starts_with(BANNER) => {
                check_banner(line)?;
                true
            }
            Some(line) => {
                let separator = Separator::of(line.text);
                let (rows, columns) = self.names(line)?;
                if !is_header(separator, line) {
                    cells.push(rating(separator, line, rows, columns)?);
                }
                while let Some(line) = lines.next_filled()? {
                    cells.push(rating(separator, line, rows, columns)?);
                }
                false
            }
        };
        if market {
            self.market(&mut lines, &mut cells)?;
        }
        if cells.is_empty() {
            return Err(lines.refused("no ratings"));
        }
        Ok(cells)
    }

    /// The names of a text's rows and columns.
    fn names(&mut self, line: Line<'_>) -> Result<(&mut Vocabulary, &mut Vocabulary), DataError> {
        let new = || (Labels::Names(Vocabulary::default()), Labels::Names(Vocabulary::default()));
        match self.labels.get_or_insert_with(new) {
            (Labels::Names(rows), Labels::Names(columns)) => Ok((rows, columns)),
            _ => {
                Err(line
                    .error_at(1, "names, and an earlier file of the set is a Matrix Market one"))
            }
        }
    }

    /// Sizes, then cells, counted from 1.
    fn market(&mut self, lines: &mut Lines<'_>, cells: &mut Vec<Cell>) -> Result<(), DataError> {
        let sizes = loop {
            match lines.next_filled()? {
                None => return Err(lines.refused("no line with rows, columns and entries")),
                Some(line) if line.text.starts_with('%') => {}
                Some(line) => break self.sizes(line)?,
            }
        };
        let (rows, columns, entries) = sizes;
        cells.reserve(entries.min(1 << 28));
        while let Some(line) = lines.next_filled()? {
            if cells.len() == entries {
                return Err(line.error_at(1, format!("more than the {entries} entries announced")));
            }
            let [row, column, value] = three(line, line.split_whitespace())?;
            let index = |field: Field<'_>, count: u32| match field.parse::<u32>()? {
                index if (1..=count).contains(&index) => Ok(index - 1),
                index => Err(field.error(format!("{index} is not in 1..{count}"))),
            };
            let (row, column) = (index(row, rows)?, index(column, columns)?);
            cells.push(Cell { row, column, value: value.finite()? });
        }
        if cells.len() < entries {
            let reason = format!("{} entries of the {entries} announced", cells.len());
            return Err(lines.refused(reason));
        }
        Ok(())
    }

    fn sizes(&mut self, line: Line<'_>) -> Result<(u32, u32, usize), DataError> {
        let [rows, columns, entries] = three(line, line.split_whitespace())?;
        let (rows, columns, entries) = (rows.parse()?, columns.parse()?, entries.parse()?);
        match self.labels.get_or_insert((Labels::Count(rows), Labels::Count(columns))) {
            (Labels::Count(r), Labels::Count(c)) if (*r, *c) == (rows, columns) => {
                Ok((rows, columns, entries))
            }
            _ => Err(line.error_at(1, "another shape than an earlier file of the set")),
        }
    }
}

/// Accepts the kinds of matrices that hold ratings.
fn check_banner(line: Line<'_>) -> Result<(), DataError> {
    let accepted: [&[&str]; 4] =
        [&["matrix"], &["coordinate"], &["real", "integer", "double"], &["general"]];
    let mut words = line.split_whitespace().skip(1);
    for accepted in accepted {
        let Some(word) = words.next() else {
            return Err(line.error_at(line.text.len() + 1, format!("`{}` is missing", accepted[0])));
        };
        if !accepted.iter().any(|known| word.text.eq_ignore_ascii_case(known)) {
            let reason = format!("`{}` matrices are not read, only {}", word.text, accepted[0]);
            return Err(word.error(reason));
        }
    }
    Ok(())
}

impl Separator {
    fn of(line: &str) -> Self {
        let found = ["::", "\t", ","].into_iter().find(|&text| line.contains(text));
        found.map_or(Self::Space, Self::Text)
    }
}

fn fields(separator: Separator, line: Line<'_>) -> Result<[Field<'_>; 3], DataError> {
    match separator {
        Separator::Text(text) => three(line, line.split_by(text)),
        Separator::Space => three(line, line.split_whitespace()),
    }
}

/// The first three fields.
fn three<'a>(
    line: Line<'a>,
    mut fields: impl Iterator<Item = Field<'a>>,
) -> Result<[Field<'a>; 3], DataError> {
    match (fields.next(), fields.next(), fields.next()) {
        (Some(one), Some(two), Some(three)) => Ok([one, two, three]),
        _ => Err(line.error_at(line.text.len() + 1, "fewer than three fields")),
    }
}

/// Names of columns, as CSV files have them: none of the fields is a number.
fn is_header(separator: Separator, line: Line<'_>) -> bool {
    let number = |field: &Field<'_>| field.text.trim().parse::<f64>().is_ok();
    fields(separator, line).is_ok_and(|fields| !fields.iter().any(number))
}

fn rating(
    separator: Separator,
    line: Line<'_>,
    rows: &mut Vocabulary,
    columns: &mut Vocabulary,
) -> Result<Cell, DataError> {
    let [row, column, value] = fields(separator, line)?;
    let number = |field: Field<'_>, names: &mut Vocabulary| match field.text.trim() {
        "" => Err(field.error("empty")),
        name => names.number_or_add(name).ok_or_else(|| field.error("more than 2^32 names")),
    };
    Ok(Cell { row: number(row, rows)?, column: number(column, columns)?, value: value.finite()? })
}
