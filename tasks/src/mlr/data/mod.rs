//! Examples with a class each.
//!
//! | form | a file is |
//! | --- | --- |
//! | LIBSVM, svmlight | lines of `class feature:value feature:value ..` |
//! | IDX | images as bytes (`..-images-idx3-ubyte`), with their classes in a file of their own (`..-labels-idx1-ubyte`); 255 becomes 1 |
//! | CSV | lines of numbers and the class, separated by commas, semicolons or tabs, perhaps below a line of names |
//!
//! The form is told from the first bytes. Classes are whatever the files call them, in the order of
//! their numbers or names.

mod csv;
mod idx;
mod svmlight;

use std::path::{Path, PathBuf};

use rand::Rng;

use crate::data::{DataError, Vocabulary, find, set_name};
use crate::sparse::SparseRows;
use crate::task::stream;

pub use csv::ClassColumn;

/// Endings of the files of a data folder.
const ENDINGS: [&str; 8] = ["svm", "libsvm", "svmlight", "csv", "tsv", "txt", "scale", "data"];

/// The stream that chooses what is held out.
const HELD_OUT: u64 = 2;

/// What examples look like.
#[derive(Clone, Debug, PartialEq)]
pub enum Features {
    /// Few features are there.
    Sparse(SparseRows),
    /// Most are: a matrix with this many columns, example after example.
    Dense(Vec<f32>, usize),
}

/// Examples of one split.
#[derive(Clone, Debug, PartialEq)]
pub struct Examples {
    /// What they look like.
    pub features: Features,
    /// The class of each.
    pub classes: Vec<u32>,
}

/// A data set.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// What it is called: the name of its folder or of its training file.
    pub name: String,
    /// Features of an example.
    pub features: usize,
    /// Names of the classes, by number.
    pub classes: Vec<String>,
    /// Examples to train on.
    pub train: Examples,
    /// Examples to steer by; there may be none.
    pub valid: Examples,
    /// Examples to report on; there may be none.
    pub test: Examples,
}

/// The files of a data set, and how to read them.
#[derive(Clone, Debug, PartialEq)]
pub struct Files {
    /// Examples to train on; of IDX files the images.
    pub train: PathBuf,
    /// Examples to steer by.
    pub valid: Option<PathBuf>,
    /// Examples to report on.
    pub test: Option<PathBuf>,
    /// Which column of a CSV file is the class.
    pub class_column: ClassColumn,
    /// What values of LIBSVM and CSV files are divided by.
    pub divisor: f32,
}

impl Files {
    /// The training examples in this file, values as they are.
    #[must_use]
    pub fn new(train: PathBuf) -> Self {
        let class_column = ClassColumn::First;
        Self { train, valid: None, test: None, class_column, divisor: 1.0 }
    }

    /// The files of a folder: `train`, and if they are there `valid` and `test`, as `.svm`, `.libsvm`,
    /// `.svmlight`, `.csv`, `.tsv`, `.txt`, `.scale` or `.data`; or the four IDX files of MNIST. Plain or packed.
    ///
    /// # Errors
    /// A folder that cannot be read, no training file, or the same file twice.
    pub fn of_folder(folder: &Path) -> Result<Self, DataError> {
        let optional = |found| match found {
            Err(DataError::Missing { .. }) => Ok(None),
            found => found.map(Some),
        };
        if let Some(train) = idx::find(folder, "train")? {
            let test = match idx::find(folder, "t10k")? {
                None => idx::find(folder, "test")?,
                found => found,
            };
            return Ok(Self { test, ..Self::new(train) });
        }
        let file = |name| find(folder, name, &ENDINGS, EXPECTED);
        let (valid, test) = (optional(file("valid"))?, optional(file("test"))?);
        Ok(Self { valid, test, ..Self::new(file("train")?) })
    }
}

const EXPECTED: &str = "examples as LIBSVM lines (class feature:value ..) or as CSV";

/// Rows and classes as they are read, before all is known.
#[derive(Debug, Default)]
struct Read {
    rows: SparseRows,
    classes: Vec<u32>,
}

/// Reads the files of one set; names of classes grow from file to file.
#[derive(Debug)]
struct Reader {
    names: Vocabulary,
    class_column: ClassColumn,
    divisor: f32,
}

impl Dataset {
    /// Reads these files.
    ///
    /// # Errors
    /// A file that cannot be read or holds no examples, or a place in it that is wrong.
    pub fn read(name: String, files: &Files) -> Result<Self, DataError> {
        let (class_column, divisor) = (files.class_column, files.divisor);
        let mut reader = Reader { names: Vocabulary::default(), class_column, divisor };
        let train = reader.file(&files.train)?;
        let mut optional = |path: &Option<PathBuf>| {
            path.as_deref().map_or_else(|| Ok(Read::default()), |path| reader.file(path))
        };
        let parts = [train, optional(&files.valid)?, optional(&files.test)?];
        Ok(finish(name, parts, &reader.names))
    }

    /// Reads the data set in `folder`; see [`Files::of_folder`].
    ///
    /// # Errors
    /// As [`Files::of_folder`] and [`Dataset::read`].
    pub fn of_folder(folder: &Path) -> Result<Self, DataError> {
        Self::read(set_name(folder), &Files::of_folder(folder)?)
    }

    /// Moves about this share of the training examples to the test, chosen by seed and number alone.
    pub fn hold_out(&mut self, share: f64, seed: u64) {
        let held: Vec<bool> = (0..self.train.classes.len() as u64)
            .map(|number| stream(seed, HELD_OUT, [number, 0, 0]).random::<f64>() < share)
            .collect();
        let all = self.train.clone();
        self.train = Examples::empty_like(&all);
        for (number, held) in held.into_iter().enumerate() {
            let part = if held { &mut self.test } else { &mut self.train };
            part.push(&all, number);
        }
    }
}

impl Examples {
    /// No examples, of the same form and width.
    #[must_use]
    pub fn empty_like(other: &Self) -> Self {
        let features = match &other.features {
            Features::Sparse(rows) => Features::Sparse(SparseRows::new(rows.columns())),
            Features::Dense(_, columns) => Features::Dense(Vec::new(), *columns),
        };
        Self { features, classes: Vec::new() }
    }

    /// Number of examples.
    #[must_use]
    pub fn len(&self) -> usize {
        self.classes.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    /// Bytes that they take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let features = match &self.features {
            Features::Sparse(rows) => 8 * (rows.pairs() + rows.len()),
            Features::Dense(values, _) => size_of_val(&values[..]),
        };
        features + size_of_val(&self.classes[..])
    }

    /// Appends an example of others of the same form.
    fn push(&mut self, from: &Self, number: usize) {
        match (&mut self.features, &from.features) {
            (Features::Sparse(rows), Features::Sparse(others)) => {
                let (columns, values) = others.row(number);
                rows.push(columns.iter().copied().zip(values.iter().copied()));
            }
            (Features::Dense(values, columns), Features::Dense(others, _)) => {
                values.extend_from_slice(&others[number * *columns..][..*columns]);
            }
            _ => unreachable!("splits of a set have one form"),
        }
        self.classes.push(from.classes[number]);
    }
}

impl Reader {
    fn file(&mut self, path: &Path) -> Result<Read, DataError> {
        if idx::is_one(path)? {
            return idx::read(path, &mut self.names);
        }
        if svmlight::is_one(path)? {
            return svmlight::read(path, self.divisor, &mut self.names);
        }
        csv::read(path, self.class_column, self.divisor, &mut self.names)
    }
}

/// A class's name as it is counted: `+1`, `1` and `1.0` are one.
fn class_of(text: &str, names: &mut Vocabulary) -> Option<u32> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => names.number_or_add(&(number + 0.0).to_string()),
        _ => names.number_or_add(text),
    }
}

/// Puts the splits together, of one form and width, classes in order.
fn finish(name: String, parts: [Read; 3], names: &Vocabulary) -> Dataset {
    let features = parts.iter().map(|part| part.rows.columns()).max().unwrap_or(0);
    let mut order: Vec<(u32, &str)> = (0..).zip(names.names()).collect();
    let number = |name: &str| name.parse::<f64>().unwrap_or(f64::INFINITY);
    order.sort_by(|a, b| number(a.1).total_cmp(&number(b.1)).then(a.1.cmp(b.1)));
    let mut places = vec![0; order.len()];
    for (place, &(number, _)) in (0..).zip(&order) {
        places[number as usize] = place;
    }
    let train = &parts[0].rows;
    let dense = 2 * train.pairs() > train.len() * features;
    let [train, valid, test] = parts.map(|part| {
        let classes = part.classes.iter().map(|&class| places[class as usize]).collect();
        let features =
            if dense { in_full(&part.rows, features) } else { widened(part.rows, features) };
        Examples { features, classes }
    });
    let classes = order.into_iter().map(|(_, name)| name.to_owned()).collect();
    Dataset { name, features, classes, train, valid, test }
}

fn widened(mut rows: SparseRows, columns: usize) -> Features {
    rows.widen(columns);
    Features::Sparse(rows)
}

fn in_full(rows: &SparseRows, columns: usize) -> Features {
    let mut values = vec![0.0; rows.len() * columns];
    for (number, full) in values.chunks_exact_mut(columns.max(1)).enumerate() {
        let (columns, values) = rows.row(number);
        for (&column, &value) in columns.iter().zip(values) {
            full[column as usize] += value;
        }
    }
    Features::Dense(values, columns)
}

#[cfg(test)]
mod tests;
