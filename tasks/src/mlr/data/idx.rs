//! IDX files, as MNIST has them: a magic number with the type and the number of dimensions, the sizes (big
//! endian), then the values (LeCun, Cortes and Burges, "The MNIST database of handwritten digits").
//! Images are bytes, classes lie in a second file; a byte of 255 becomes the value 1.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::{Read, class_of};
use crate::data::{DataError, Vocabulary, open};

const EXPECTED: &str =
    "an IDX file of unsigned bytes: ..-images-idx3-ubyte with ..-labels-idx1-ubyte beside it";

/// The type of unsigned bytes.
const BYTES: u8 = 8;
/// Dimensions of a file of images.
const DIMENSIONS: u8 = 3;

/// The images of a split in a folder, if they are there, plain or packed.
pub(super) fn find(folder: &Path, prefix: &str) -> Result<Option<PathBuf>, DataError> {
    std::fs::read_dir(folder).map_err(DataError::io("read the data folder", folder))?;
    let names = ["-images-idx3-ubyte", "-images.idx3-ubyte"];
    let packed = ["", ".gz", ".xz", ".zst"];
    let mut paths = names.iter().flat_map(|name| {
        packed.iter().map(move |packed| folder.join(format!("{prefix}{name}{packed}")))
    });
    Ok(paths.find(|path| path.is_file()))
}

/// Whether the file begins as IDX files of bytes do.
pub(super) fn is_one(path: &Path) -> Result<bool, DataError> {
    let mut magic = [0; 4];
    let read = open(path)?.take(4).read_exact(&mut magic);
    match read {
        Ok(()) => Ok(magic[..3] == [0, 0, BYTES]),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(DataError::io("read", path)(error)),
    }
}

/// Reads images, and their classes from the file beside them.
pub(super) fn read(images: &Path, names: &mut Vocabulary) -> Result<Read, DataError> {
    let beside = labels_of(images)?;
    let (sizes, pixels) = content(images, DIMENSIONS)?;
    let (_, labels) = content(&beside, 1)?;
    let (count, width) = (sizes[0], sizes[1..].iter().product::<usize>());
    if labels.len() != count {
        let reason = format!("{} classes for {count} images", labels.len());
        return Err(DataError::refused(&beside, reason, EXPECTED));
    }
    if count == 0 || width == 0 {
        return Err(DataError::refused(images, "no images", EXPECTED));
    }
    let mut read = Read::default();
    for (image, label) in pixels.chunks_exact(width).zip(labels) {
        let seen = (0_u32..).zip(image).filter(|&(_, &pixel)| pixel > 0);
        read.rows.push(seen.map(|(at, &pixel)| (at, f32::from(pixel) / 255.0)));
        read.classes.push(class_of(&label.to_string(), names).expect("at most 256 classes"));
    }
    read.rows.widen(width);
    Ok(read)
}

/// The file of classes that belongs to these images.
fn labels_of(images: &Path) -> Result<PathBuf, DataError> {
    let name = images.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = name.unwrap_or_default();
    if !name.contains("images") {
        let reason = "the name has no `images` in it, so the file of classes cannot be found";
        return Err(DataError::refused(images, reason, EXPECTED));
    }
    Ok(images.with_file_name(name.replace("images", "labels").replace("idx3", "idx1")))
}

/// Sizes and bytes of a file with so many dimensions.
fn content(path: &Path, dimensions: u8) -> Result<(Vec<usize>, Vec<u8>), DataError> {
    let mut bytes = Vec::new();
    open(path)?.read_to_end(&mut bytes).map_err(DataError::io("read", path))?;
    let refused = |reason: String| Err(DataError::refused(path, reason, EXPECTED));
    let head = 4 + 4 * usize::from(dimensions);
    if bytes.len() < head || bytes[..4] != [0, 0, BYTES, dimensions] {
        return refused(format!("it does not begin with 0 0 {BYTES} {dimensions}"));
    }
    let sizes: Vec<usize> = bytes[4..head]
        .chunks_exact(4)
        .map(|size| u32::from_be_bytes([size[0], size[1], size[2], size[3]]) as usize)
        .collect();
    let announced = sizes.iter().try_fold(1_usize, |all, &size| all.checked_mul(size));
    if announced != Some(bytes.len() - head) {
        let shape = sizes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" x ");
        return refused(format!("{} bytes of values, and {shape} announced", bytes.len() - head));
    }
    bytes.drain(..head);
    Ok((sizes, bytes))
}
