//! The trained model as files that other programs read.
//!
//! Matrices of `f32` as `NAME.npy` each, or all in one `model.safetensors`; lists of names as
//! `NAME.tsv` with lines of `number<TAB>name`; whatever else a task writes. A file under its final
//! name is a whole one.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::path::Path;

use super::checkpoint::write_file;
use super::{ExportFormat, Parameters, TaskError, npy, safetensors};

const ROWS_PER_PULL: u64 = 4096;

/// Where a task writes its model.
#[derive(Debug)]
pub struct Export<'a, 'w> {
    folder: &'a Path,
    matrices: Vec<Matrix>,
    parameters: &'a mut Parameters<'w>,
}

/// A matrix under a name.
#[derive(Debug)]
struct Matrix {
    name: String,
    rows: u64,
    columns: usize,
    source: Source,
}

/// Where the values of a matrix come from.
#[derive(Debug)]
enum Source {
    /// Rows and columns of a table, pulled when they are written.
    Table(usize, Range<u64>, Range<usize>),
    /// Values, row by row.
    Values(Vec<f32>),
}

impl<'a, 'w> Export<'a, 'w> {
    /// Makes `folder` and lets `task` write into it.
    pub(super) fn write(
        folder: &'a Path,
        format: ExportFormat,
        parameters: &'a mut Parameters<'w>,
        task: impl FnOnce(&mut Self) -> Result<(), TaskError>,
    ) -> Result<(), TaskError> {
        fs::create_dir_all(folder).map_err(TaskError::io("create", folder))?;
        let mut export = Self { folder, matrices: Vec::new(), parameters };
        task(&mut export)?;
        let matrices = std::mem::take(&mut export.matrices);
        if matches!(format, ExportFormat::Npy | ExportFormat::Both) {
            for matrix in &matrices {
                export.file(&format!("{}.npy", matrix.name), |file, parameters| {
                    npy::write_header(file, matrix.rows, matrix.columns)?;
                    matrix.write_rows(file, parameters)
                })?;
            }
        }
        if matches!(format, ExportFormat::Safetensors | ExportFormat::Both) {
            export.file("model.safetensors", |file, parameters| {
                let shape = |m: &Matrix| (m.name.clone(), [m.rows, m.columns as u64]);
                safetensors::write_header(file, matrices.iter().map(shape))?;
                matrices.iter().try_for_each(|matrix| matrix.write_rows(file, parameters))
            })?;
        }
        Ok(())
    }

    /// All tables whole, each under its own name.
    pub fn all_tables(&mut self) {
        for (number, table) in self.parameters.tables().iter().enumerate() {
            self.matrix(table.name(), number, 0..table.keys(), 0..table.dim());
        }
    }

    /// These keys and columns of a table as a matrix; `name` becomes a file's or tensor's name.
    pub fn matrix(
        &mut self,
        name: impl Into<String>,
        table: usize,
        rows: Range<u64>,
        columns: Range<usize>,
    ) {
        let (name, count, width) = (name.into(), rows.end - rows.start, columns.len());
        let source = Source::Table(table, rows, columns);
        self.matrices.push(Matrix { name, rows: count, columns: width, source });
    }

    /// All values of these keys, written as rows of `columns` values: for rows of a model that lie
    /// under several keys, or several under one.
    ///
    /// # Panics
    /// If that many columns do not divide the values.
    pub fn reshaped(
        &mut self,
        name: impl Into<String>,
        table: usize,
        keys: Range<u64>,
        columns: usize,
    ) {
        let dim = self.parameters.table(table).dim();
        let (values, width) = ((keys.end - keys.start) * dim as u64, columns as u64);
        assert!(values.is_multiple_of(width), "{values} values are no rows of {columns}");
        let source = Source::Table(table, keys, 0..dim);
        self.matrices.push(Matrix { name: name.into(), rows: values / width, columns, source });
    }

    /// These values, row by row, as a matrix of so many columns.
    ///
    /// # Panics
    /// If they are not whole rows.
    pub fn values(&mut self, name: impl Into<String>, columns: usize, values: Vec<f32>) {
        assert_eq!(values.len() % columns, 0, "whole rows of {columns} values");
        let (name, rows) = (name.into(), (values.len() / columns) as u64);
        self.matrices.push(Matrix { name, rows, columns, source: Source::Values(values) });
    }

    /// The tables of the task.
    pub fn parameters(&mut self) -> &mut Parameters<'w> {
        self.parameters
    }

    /// The names of a matrix's rows, as `NAME.tsv`.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn names<'n>(
        &mut self,
        name: &str,
        names: impl Iterator<Item = &'n str>,
    ) -> Result<(), TaskError> {
        self.file(&format!("{name}.tsv"), |file, _| {
            for (number, name) in names.enumerate() {
                writeln!(file, "{number}\t{name}")?;
            }
            Ok(())
        })
    }

    /// A file of the task's own form.
    ///
    /// # Errors
    /// Those of `write`; an error of the parameter manager comes through [`io::Error::other`].
    pub fn file(
        &mut self,
        name: &str,
        write: impl FnOnce(&mut BufWriter<File>, &mut Parameters<'w>) -> io::Result<()>,
    ) -> Result<(), TaskError> {
        let path = self.folder.join(name);
        let unfinished = self.folder.join(format!("{name}.tmp"));
        write_file(&unfinished, |file| write(file, self.parameters))?;
        fs::rename(&unfinished, &path).map_err(TaskError::io("rename", &unfinished))
    }
}

impl Matrix {
    fn write_rows(&self, file: &mut impl Write, parameters: &mut Parameters<'_>) -> io::Result<()> {
        let (table, rows, columns) = match &self.source {
            Source::Values(values) => return npy::write_rows(file, values),
            Source::Table(table, rows, columns) => (*table, rows, columns),
        };
        let dim = parameters.table(table).dim();
        let mut values = Vec::new();
        let mut part = Vec::new();
        let step = usize::try_from(ROWS_PER_PULL).expect("a small number");
        for first in rows.clone().step_by(step) {
            let keys: Vec<u64> = (first..rows.end.min(first + ROWS_PER_PULL)).collect();
            values.resize(keys.len() * dim, 0.0);
            parameters.pull(table, &keys, &mut values).map_err(io::Error::other)?;
            if columns.len() == dim {
                npy::write_rows(file, &values)?;
                continue;
            }
            part.clear();
            part.extend(values.chunks_exact(dim).flat_map(|row| &row[columns.clone()]));
            npy::write_rows(file, &part)?;
        }
        Ok(())
    }
}
