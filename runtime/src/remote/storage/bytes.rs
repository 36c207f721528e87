//! Floats in records: little-endian, and in place where the machine's are so and the bytes lie right.

/// The bytes as floats, if that is what they are in memory.
pub(super) fn as_floats(bytes: &[u8]) -> Option<&[f32]> {
    if cfg!(target_endian = "big") {
        return None;
    }
    bytemuck::try_cast_slice(bytes).ok()
}

/// The same for writing.
pub(super) fn as_floats_mut(bytes: &mut [u8]) -> Option<&mut [f32]> {
    if cfg!(target_endian = "big") {
        return None;
    }
    bytemuck::try_cast_slice_mut(bytes).ok()
}

pub(crate) fn read_floats(bytes: &[u8], out: &mut [f32]) {
    for (value, bytes) in out.iter_mut().zip(bytes.chunks_exact(size_of::<f32>())) {
        *value = f32::from_le_bytes(bytes.try_into().expect("four bytes"));
    }
}

pub(super) fn write_floats(values: &[f32], out: &mut [u8]) {
    for (bytes, value) in out.chunks_exact_mut(size_of::<f32>()).zip(values) {
        bytes.copy_from_slice(&value.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_the_same_in_place_and_copied() {
        let values = [1.0_f32, -2.5, f32::MIN_POSITIVE];
        // One of these lies at a multiple of four.
        let mut buffer = [0; 15];
        for start in 0..4 {
            let bytes = &mut buffer[start..start + 12];
            write_floats(&values, bytes);
            let mut copied = [0.0; 3];
            read_floats(bytes, &mut copied);
            assert_eq!(copied, values);
            if let Some(found) = as_floats_mut(bytes) {
                assert_eq!(found, values);
                found[0] = 7.0;
                read_floats(bytes, &mut copied);
                assert_eq!((copied[0], as_floats(bytes).unwrap()[0]), (7.0, 7.0));
            }
        }
        let start = (0..4).find(|&start| as_floats(&buffer[start..start + 12]).is_some());
        assert_eq!(start.is_some(), cfg!(target_endian = "little"));
    }
}
