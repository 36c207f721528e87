//! Matrices of `f32` as one `.safetensors` file.
//!
//! Eight bytes with the length of the header, the header (JSON: type, shape and place of every
//! tensor, padded with spaces so that data starts at a multiple of 8), then the values of all
//! tensors one after the other, little endian. Specification: the README of the safetensors
//! project, "Format". Written here because its crate wants every tensor whole in memory, and tables
//! are read block by block; the tests read with that crate.

use std::io::{self, Write};

use serde_json::{Map, Value, json};

/// Writes the header; the values are to follow in the same order by [`super::npy::write_rows`].
pub(super) fn write_header(
    file: &mut impl Write,
    tensors: impl Iterator<Item = (String, [u64; 2])>,
) -> io::Result<()> {
    let mut header = Map::new();
    header.insert("__metadata__".into(), json!({"format": "pt"}));
    let mut end = 0;
    for (name, shape) in tensors {
        let begin = end;
        end += 4 * shape[0] * shape[1];
        let tensor = json!({"dtype": "F32", "shape": shape, "data_offsets": [begin, end]});
        header.insert(name, tensor);
    }
    let mut text = Value::Object(header).to_string();
    text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
    file.write_all(&(text.len() as u64).to_le_bytes())?;
    file.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use safetensors::{Dtype, SafeTensors};

    use super::write_header;
    use crate::task::npy::write_rows;

    #[test]
    fn the_format_s_own_crate_reads_what_is_written() {
        let mut file = Vec::new();
        let shapes = [("user".to_owned(), [2, 3]), ("item".to_owned(), [1, 2])];
        write_header(&mut file, shapes.into_iter()).unwrap();
        let values = [1.0, -0.0, 3.5, f32::MIN, f32::from_bits(7), 6.0, 7.0, 8.0];
        write_rows(&mut file, &values).unwrap();
        let read = SafeTensors::deserialize(&file).unwrap();
        let user = read.tensor("user").unwrap();
        assert_eq!((user.dtype(), user.shape()), (Dtype::F32, &[2, 3][..]));
        let bytes: Vec<u8> = values[..6].iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!(user.data(), bytes);
        assert_eq!(
            read.tensor("item").unwrap().data(),
            [7.0_f32, 8.0].map(f32::to_le_bytes).concat()
        );
    }
}
