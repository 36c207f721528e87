//! Vectors in the two forms of the word2vec program, which gensim, fastText and others read.
//!
//! ```text
//! text     COUNT DIM\n   then for each word   WORD V1 V2 .. VDIM\n
//! binary   COUNT DIM\n   then for each word   WORD, a space, DIM little-endian f32, \n
//! ```

use std::io::{self, Write};

use super::VectorFormat;
use crate::task::{Export, TaskError};

const ROWS_PER_PULL: usize = 4096;

/// Writes named rows of `dim` floats; `rows` fills a buffer with the rows of a range.
///
/// # Errors
/// Those of `out` and of `rows`.
///
/// # Panics
/// If there are fewer names than the iterator says.
pub fn write_vectors<'n>(
    out: &mut impl Write,
    binary: bool,
    dim: usize,
    mut names: impl ExactSizeIterator<Item = &'n str>,
    mut rows: impl FnMut(std::ops::Range<usize>, &mut [f32]) -> io::Result<()>,
) -> io::Result<()> {
    let count = names.len();
    writeln!(out, "{count} {dim}")?;
    let mut values = Vec::new();
    for first in (0..count).step_by(ROWS_PER_PULL) {
        let range = first..count.min(first + ROWS_PER_PULL);
        values.resize(range.len() * dim, 0.0);
        rows(range, &mut values)?;
        for row in values.chunks_exact(dim) {
            write!(out, "{}", names.next().expect("a name for each row"))?;
            if binary {
                out.write_all(b" ")?;
                for value in row {
                    out.write_all(&value.to_le_bytes())?;
                }
            } else {
                for value in row {
                    write!(out, " {value}")?;
                }
            }
            out.write_all(b"\n")?;
        }
    }
    Ok(())
}

/// Writes a table as `vectors.bin`, `vectors.txt` or both.
pub(crate) fn vectors<'n, I: ExactSizeIterator<Item = &'n str>>(
    export: &mut Export<'_, '_>,
    format: VectorFormat,
    table: usize,
    names: impl Fn() -> I,
) -> Result<(), TaskError> {
    let wanted = |one| format == one || format == VectorFormat::Both;
    let files = [("vectors.bin", VectorFormat::Binary), ("vectors.txt", VectorFormat::Text)];
    for (file, form) in files.into_iter().filter(|&(_, form)| wanted(form)) {
        export.file(file, |out, parameters| {
            let dim = parameters.table(table).dim();
            write_vectors(out, form == VectorFormat::Binary, dim, names(), |range, values| {
                let keys: Vec<u64> = range.map(|row| row as u64).collect();
                parameters.pull(table, &keys, values).map_err(io::Error::other)
            })
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::write_vectors;

    fn written(binary: bool) -> Vec<u8> {
        let mut out = Vec::new();
        let rows = |range: std::ops::Range<usize>, values: &mut [f32]| {
            for (row, at) in values.chunks_exact_mut(2).zip(range) {
                row.copy_from_slice(&[0.1, -1.5e-7 * at as f32]);
            }
            Ok(())
        };
        write_vectors(&mut out, binary, 2, ["the", "\u{e4}pfel"].into_iter(), rows).unwrap();
        out
    }

    #[test]
    fn text_has_a_line_for_each_word_whose_numbers_read_back_the_same() {
        let text = String::from_utf8(written(false)).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[..2], ["2 2", "the 0.1 -0"]);
        let fields: Vec<_> = lines[2].split(' ').collect();
        assert_eq!(fields[0], "\u{e4}pfel");
        let value: f32 = fields[2].parse().unwrap();
        assert_eq!(value.to_bits(), (-1.5e-7_f32).to_bits());
    }

    #[test]
    fn binary_has_the_bytes_of_the_floats_after_word_and_space() {
        let mut expected = b"2 2\nthe ".to_vec();
        for value in [0.1, -0.0_f32] {
            expected.extend(value.to_le_bytes());
        }
        expected.extend("\n\u{e4}pfel ".bytes());
        for value in [0.1, -1.5e-7_f32] {
            expected.extend(value.to_le_bytes());
        }
        expected.push(b'\n');
        assert_eq!(written(true), expected);
    }
}
