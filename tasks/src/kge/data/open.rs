//! Opens plain and packed files alike, by their ending.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use super::KgeError;

/// Opens `path` and unpacks it on the way if its name ends in `.gz`, `.xz` or `.zst`.
pub(super) fn open(path: &Path) -> Result<Box<dyn Read>, KgeError> {
    let file = File::open(path).map_err(KgeError::io("open", path))?;
    let file = BufReader::with_capacity(1 << 16, file);
    Ok(match path.extension().and_then(|ending| ending.to_str()) {
        Some("gz") => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
        Some("xz") => Box::new(lzma_rust2::XzReader::new(file, true)),
        Some("zst") => Box::new(
            ruzstd::decoding::StreamingDecoder::new(file)
                .map_err(std::io::Error::other)
                .map_err(KgeError::io("unpack", path))?,
        ),
        _ => Box::new(file),
    })
}
