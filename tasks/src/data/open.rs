//! Opens plain and packed files alike, by their ending.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use super::DataError;

/// Endings of packed files.
const PACKED: [&str; 3] = ["gz", "xz", "zst"];

/// Opens `path` and unpacks it on the way if its name ends in `.gz`, `.xz` or `.zst`.
///
/// # Errors
/// [`DataError::Io`].
pub fn open(path: &Path) -> Result<Box<dyn Read + Send>, DataError> {
    let file = File::open(path).map_err(DataError::io("open", path))?;
    let file = BufReader::with_capacity(1 << 16, file);
    Ok(match path.extension().and_then(|ending| ending.to_str()) {
        Some("gz") => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
        Some("xz") => Box::new(lzma_rust2::XzReader::new(file, true)),
        Some("zst") => Box::new(
            ruzstd::decoding::StreamingDecoder::new(file)
                .map_err(std::io::Error::other)
                .map_err(DataError::io("unpack", path))?,
        ),
        _ => Box::new(file),
    })
}

/// The one file of `folder` called `name` with one of `endings` (without their dots), plain or
/// packed.
///
/// # Errors
/// A folder that cannot be read, and a file that is missing (`expected` says what it should hold)
/// or there twice.
pub fn find(
    folder: &Path,
    name: &'static str,
    endings: &[&str],
    expected: &'static str,
) -> Result<PathBuf, DataError> {
    // Told apart here, because "no train file in FOLDER" would send the reader the wrong way.
    std::fs::read_dir(folder).map_err(DataError::io("read the data folder", folder))?;
    let plain = endings.iter().map(|ending| format!("{name}.{ending}"));
    let mut found = plain
        .flat_map(|name| {
            let packed = PACKED.map(|ending| format!("{name}.{ending}"));
            std::iter::once(name).chain(packed)
        })
        .map(|name| folder.join(name))
        .filter(|path| path.is_file());
    let Some(first) = found.next() else {
        let endings = endings.iter().map(ToString::to_string).collect();
        return Err(DataError::Missing { folder: folder.to_path_buf(), name, endings, expected });
    };
    match found.next() {
        None => Ok(first),
        Some(second) => Err(DataError::Ambiguous { name, first, second }),
    }
}

/// All files of a folder in the order of their names, without hidden ones.
///
/// # Errors
/// A folder that cannot be read or has no files; `expected` says what it should hold.
pub fn files_of(folder: &Path, expected: &'static str) -> Result<Vec<PathBuf>, DataError> {
    let failed = |error| DataError::io("read the data folder", folder)(error);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        let hidden = file.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if file.is_file() && !hidden {
            files.push(file);
        }
    }
    files.sort();
    if files.is_empty() {
        return Err(DataError::refused(folder, "a folder without files", expected));
    }
    Ok(files)
}

/// The name of a file without the ending of its packing: `ratings.csv` of `a/ratings.csv.gz`.
#[must_use]
pub fn plain_name(path: &Path) -> String {
    let packed = path.extension().is_some_and(|ending| PACKED.iter().any(|&known| ending == known));
    let name = if packed { path.file_stem() } else { path.file_name() };
    name.map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

/// What a data set in this folder or file is called in reports.
#[must_use]
pub fn set_name(path: &Path) -> String {
    let whole = path.canonicalize().ok().unwrap_or_else(|| path.to_path_buf());
    whole.file_name().map_or_else(|| "data".into(), |name| name.to_string_lossy().into_owned())
}
