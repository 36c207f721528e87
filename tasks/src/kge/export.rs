//! The trained embeddings as files that other programs read.
//!
//! `entity.npy` and `relation.npy` are matrices of `f32`, a row per name; `entity.tsv` and
//! `relation.tsv` list `number<TAB>name`. A ComplEx row is its real parts, then its imaginary
//! parts. With reciprocal relations, row `R + r` belongs to the inverse of relation `r` of `R`.

use std::fs;
use std::io::Write;
use std::path::Path;

use sterna::{Table, Worker};

use super::checkpoint::write_file;
use super::data::Vocabulary;
use super::{KgeError, npy};

const ROWS_PER_PULL: u64 = 4096;

/// Writes a table's values and its names into `folder`.
pub(super) fn write(
    folder: &Path,
    worker: &mut Worker,
    (name, table): (&str, &Table),
    names: &Vocabulary,
) -> Result<(), KgeError> {
    fs::create_dir_all(folder).map_err(KgeError::io("create", folder))?;
    let (keys, dim) = (table.keys(), table.dim());
    let mut rows = Vec::new();
    // A file under its final name is a whole one.
    let path = folder.join(format!("{name}.npy"));
    let unfinished = path.with_extension("npy.tmp");
    let mut failure = None;
    write_file(&unfinished, |file| {
        npy::write_header(file, keys, dim)?;
        for first in (0..keys).step_by(usize::try_from(ROWS_PER_PULL).expect("a small number")) {
            let block: Vec<u64> = (first..keys.min(first + ROWS_PER_PULL)).collect();
            rows.resize(block.len() * dim, 0.0);
            if let Err(error) = worker.pull(table, &block, &mut rows) {
                failure = Some(error);
                break;
            }
            npy::write_rows(file, &rows)?;
        }
        Ok(())
    })?;
    if let Some(error) = failure {
        return Err(error.into());
    }
    fs::rename(&unfinished, &path).map_err(KgeError::io("rename", &unfinished))?;
    let path = folder.join(format!("{name}.tsv"));
    write_file(&path, |file| {
        for (number, name) in names.names().enumerate() {
            writeln!(file, "{number}\t{name}")?;
        }
        Ok(())
    })
}
