//! Known cells of a matrix: ratings of items by users.
//!
//! A line is `user`, `item`, `rating`, separated by tabs, commas, `::` or spaces, as all MovieLens
//! sets have it; what follows (a time) is ignored, and so is a line of column names at the top.
//! Users and items are numbered in the order of their first appearance, training first. Or a file is
//! a Matrix Market coordinate matrix, whose own numbers count from 1.

mod read;

use std::path::{Path, PathBuf};

use rand::Rng;

use crate::data::{DataError, Vocabulary, find, set_name};
use crate::task::stream;

/// Endings of the files of a data folder.
const ENDINGS: [&str; 6] = ["tsv", "csv", "txt", "dat", "mtx", "mmc"];

/// The stream that chooses what is held out.
const HELD_OUT: u64 = 2;

/// A known cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cell {
    /// The row: a user's number.
    pub row: u32,
    /// The column: an item's number.
    pub column: u32,
    /// What is there: the rating.
    pub value: f32,
}

/// What rows, or columns, are called.
#[derive(Clone, Debug)]
pub enum Labels {
    /// Names out of a text.
    Names(Vocabulary),
    /// So many, without names: a Matrix Market file's, from 1.
    Count(u32),
}

impl Labels {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Names(names) => names.len(),
            Self::Count(count) => *count as usize,
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A matrix's known cells, split for training, validation and test.
#[derive(Clone, Debug)]
pub struct Ratings {
    /// What the data set is called: the name of its folder or of its training file.
    pub name: String,
    /// The rows: users.
    pub rows: Labels,
    /// The columns: items.
    pub columns: Labels,
    /// Cells to train on.
    pub train: Vec<Cell>,
    /// Cells to steer by; there may be none.
    pub valid: Vec<Cell>,
    /// Cells to report on; there may be none.
    pub test: Vec<Cell>,
}

/// The files of a data set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// Cells to train on.
    pub train: PathBuf,
    /// Cells to steer by.
    pub valid: Option<PathBuf>,
    /// Cells to report on.
    pub test: Option<PathBuf>,
}

impl Files {
    /// The files of a folder: `train`, and if they are there `valid`, and `test` or `probe`; each as
    /// `.tsv`, `.csv`, `.txt`, `.dat`, `.mtx` or `.mmc`, plain or packed.
    ///
    /// # Errors
    /// A folder that cannot be read, no `train`, or the same file twice.
    pub fn of_folder(folder: &Path) -> Result<Self, DataError> {
        let file = |name| find(folder, name, &ENDINGS, read::EXPECTED);
        let optional = |name| match file(name) {
            Err(DataError::Missing { .. }) => Ok(None),
            found => found.map(Some),
        };
        let test = match optional("test")? {
            None => optional("probe")?,
            found => found,
        };
        Ok(Self { train: file("train")?, valid: optional("valid")?, test })
    }
}

impl Ratings {
    /// Reads the data set in `folder`; see [`Files::of_folder`].
    ///
    /// # Errors
    /// As [`Files::of_folder`] and [`Ratings::read`].
    pub fn of_folder(folder: &Path) -> Result<Self, DataError> {
        Self::read(set_name(folder), &Files::of_folder(folder)?)
    }

    /// Reads these files.
    ///
    /// # Errors
    /// A file that cannot be read or holds no cells, files of different forms or shapes,
    /// or a line that is no cell, with its place.
    pub fn read(name: String, files: &Files) -> Result<Self, DataError> {
        let mut reader = read::Reader::default();
        let train = reader.file(&files.train)?;
        let mut optional = |path: &Option<PathBuf>| {
            path.as_deref().map_or_else(|| Ok(Vec::new()), |path| reader.file(path))
        };
        let (valid, test) = (optional(&files.valid)?, optional(&files.test)?);
        let (rows, columns) = reader.finish();
        Ok(Self { name, rows, columns, train, valid, test })
    }

    /// Moves about this share of the training cells to the test, chosen by seed, row and column alone.
    pub fn hold_out(&mut self, share: f64, seed: u64) {
        let held = |cell: &Cell| {
            let place = [u64::from(cell.row), u64::from(cell.column), 0];
            stream(seed, HELD_OUT, place).random::<f64>() < share
        };
        self.test.extend(self.train.iter().copied().filter(&held));
        self.train.retain(|cell| !held(cell));
    }

    /// The mean of the training cells.
    #[must_use]
    pub fn mean(&self) -> f32 {
        let sum: f64 = self.train.iter().map(|cell| f64::from(cell.value)).sum();
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 cells")]
        let mean = sum / self.train.len().max(1) as f64;
        #[expect(clippy::cast_possible_truncation, reason = "a mean of f32")]
        let mean = mean as f32;
        mean
    }

    /// The least and the greatest training cell.
    #[must_use]
    pub fn range(&self) -> (f32, f32) {
        let start = (f32::INFINITY, f32::NEG_INFINITY);
        let values = self.train.iter().map(|cell| cell.value);
        values.fold(start, |(least, most), value| (least.min(value), most.max(value)))
    }
}

#[cfg(test)]
mod tests;
