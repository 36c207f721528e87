//! Matrices of `f32` as NumPy's `.npy` files, version 1.0.
//!
//! A magic string, the version, the length of the header, the header (a Python dictionary, padded
//! so that data starts at a multiple of 64), then the rows, little endian.
//! Specification: NEP 1, "A simple file format for NumPy arrays".

use std::io::{self, Read, Write};

const MAGIC: &[u8; 8] = b"\x93NUMPY\x01\x00";
const HEADER_BYTES_MAX: usize = 4096;

/// Writes the header of a matrix; its rows are to follow by [`write_rows`].
pub(super) fn write_header(file: &mut impl Write, rows: u64, columns: usize) -> io::Result<()> {
    let mut header =
        format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {columns}), }}");
    let unpadded = MAGIC.len() + 2 + header.len() + 1;
    header.extend(std::iter::repeat_n(' ', unpadded.next_multiple_of(64) - unpadded));
    header.push('\n');
    file.write_all(MAGIC)?;
    let length = u16::try_from(header.len()).map_err(io::Error::other)?;
    file.write_all(&length.to_le_bytes())?;
    file.write_all(header.as_bytes())
}

/// Writes rows, each value as the bits it has.
pub(super) fn write_rows(file: &mut impl Write, values: &[f32]) -> io::Result<()> {
    let mut bytes = [0; 4096];
    for values in values.chunks(bytes.len() / 4) {
        for (bytes, value) in bytes.chunks_exact_mut(4).zip(values) {
            bytes.copy_from_slice(&value.to_le_bytes());
        }
        file.write_all(&bytes[..values.len() * 4])?;
    }
    Ok(())
}

/// Reads a matrix of exactly this shape.
pub(super) fn read(file: &mut impl Read, rows: u64, columns: usize) -> io::Result<Vec<f32>> {
    let mut start = [0; 10];
    file.read_exact(&mut start)?;
    let length = usize::from(u16::from_le_bytes([start[8], start[9]]));
    if start[..8] != *MAGIC || length > HEADER_BYTES_MAX {
        return Err(invalid("not a .npy file of version 1.0"));
    }
    let mut header = vec![0; length];
    file.read_exact(&mut header)?;
    let header = String::from_utf8_lossy(&header);
    let shape = format!("'shape': ({rows}, {columns})");
    for part in ["'descr': '<f4'", "'fortran_order': False", &shape] {
        if !header.contains(part) {
            return Err(invalid(&format!("expected {part}, found {}", header.trim())));
        }
    }
    let count = usize::try_from(rows).map_err(io::Error::other)? * columns;
    let mut values = vec![0.0; count];
    let mut bytes = [0; 4096];
    for values in values.chunks_mut(bytes.len() / 4) {
        let bytes = &mut bytes[..values.len() * 4];
        file.read_exact(bytes)?;
        for (value, bytes) in values.iter_mut().zip(bytes.chunks_exact(4)) {
            *value = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
    }
    if file.read(&mut [0])? > 0 {
        return Err(invalid("bytes after the last row"));
    }
    Ok(values)
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use super::{read, write_header, write_rows};

    fn file() -> Vec<u8> {
        let mut file = Vec::new();
        write_header(&mut file, 2, 3).unwrap();
        write_rows(&mut file, &[1.0, -0.0, 3.5, f32::MIN, f32::from_bits(7), 6.0]).unwrap();
        file
    }

    #[test]
    fn what_was_written_is_read_to_the_bit() {
        let values = read(&mut file().as_slice(), 2, 3).unwrap();
        let bits: Vec<u32> = values.iter().map(|v| v.to_bits()).collect();
        let expected = [1.0, -0.0, 3.5, f32::MIN, f32::from_bits(7), 6.0].map(f32::to_bits);
        assert_eq!(bits, expected);
    }

    #[test]
    fn the_layout_is_numpy_s() {
        let file = file();
        assert_eq!(&file[..10], b"\x93NUMPY\x01\x00\x76\x00");
        assert_eq!(file.len(), 128 + 24);
        let header = std::str::from_utf8(&file[10..128]).unwrap();
        assert!(header.starts_with("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }"));
        assert!(header.ends_with(" \n"));
    }

    #[test]
    fn another_shape_a_short_file_and_a_long_one_are_refused() {
        let mut file = file();
        assert!(read(&mut file.as_slice(), 3, 2).is_err());
        assert!(read(&mut &file[..file.len() - 1], 2, 3).is_err());
        assert!(read(&mut &file[..9], 2, 3).is_err());
        file.push(0);
        assert!(read(&mut file.as_slice(), 2, 3).is_err());
    }
}
