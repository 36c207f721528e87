//! A text in blocks of some megabytes, cut between words and, where there are any, between lines.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::EXPECTED;
use crate::data::{DataError, open};

/// Bytes of a block. A constant, so that where sentences of a text without lines are cut does not
/// depend on the machine.
const BLOCK_BYTES: usize = 4 << 20;

/// Longer words are refused: what has them is no text.
const WORD_BYTES_MAX: usize = 1 << 16;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// A place in a file, both counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) line: u64,
    /// In bytes.
    pub(super) column: usize,
}

impl Place {
    const START: Self = Self { line: 1, column: 1 };

    /// The place after these bytes.
    fn after(self, bytes: &[u8]) -> Self {
        match bytes.iter().rposition(|&byte| byte == b'\n') {
            None => Self { column: self.column + bytes.len(), ..self },
            Some(last) => Self {
                line: self.line + bytes.iter().filter(|&&byte| byte == b'\n').count() as u64,
                column: bytes.len() - last,
            },
        }
    }
}

/// Some of a file.
#[derive(Clone, Debug)]
pub(super) struct Block {
    /// Its number among all blocks of all files.
    pub(super) number: usize,
    pub(super) path: Arc<PathBuf>,
    /// Where it starts.
    pub(super) place: Place,
    pub(super) bytes: Vec<u8>,
}

impl Block {
    /// Its text.
    pub(super) fn text(&self) -> Result<&str, DataError> {
        if let Some(at) = self.bytes.iter().position(|&byte| byte == 0) {
            return Err(self.error_at(at, "a zero byte"));
        }
        std::str::from_utf8(&self.bytes)
            .map_err(|error| self.error_at(error.valid_up_to(), "not UTF-8"))
    }

    fn error_at(&self, at: usize, reason: &str) -> DataError {
        malformed(&self.path, self.place.after(&self.bytes[..at]), reason)
    }
}

/// Reads a file block by block and gives each to `take`, which says whether to go on. Returns the
/// number of the next block.
pub(super) fn read(
    path: &Path,
    first: usize,
    mut take: impl FnMut(Block) -> bool,
) -> Result<usize, DataError> {
    let mut source = open(path)?;
    let path = Arc::new(path.to_path_buf());
    let (mut number, mut place) = (first, Place::START);
    let mut rest = Vec::new();
    loop {
        let mut bytes = std::mem::take(&mut rest);
        let wanted = BLOCK_BYTES - bytes.len();
        let got = source
            .by_ref()
            .take(wanted as u64)
            .read_to_end(&mut bytes)
            .map_err(DataError::io("read", &path))?;
        if number == first && bytes.starts_with(BYTE_ORDER_MARK) {
            bytes.drain(..BYTE_ORDER_MARK.len());
        }
        let ended = got < wanted;
        if !ended {
            rest = bytes.split_off(cut(&bytes, &path, place)?);
        }
        let next = place.after(&bytes);
        if !bytes.is_empty() && !take(Block { number, path: Arc::clone(&path), place, bytes }) {
            return Ok(number);
        }
        (number, place) = (number + 1, next);
        if ended {
            return Ok(number);
        }
    }
}

/// Where to end a block: after the last line if that is not far back, else after the last word.
fn cut(bytes: &[u8], path: &Path, place: Place) -> Result<usize, DataError> {
    let line = bytes.iter().rposition(|&byte| byte == b'\n').map(|at| at + 1);
    if let Some(end) = line.filter(|&end| end > bytes.len() / 2) {
        return Ok(end);
    }
    let space = bytes.iter().rposition(u8::is_ascii_whitespace).map(|at| at + 1);
    match space.filter(|&end| end + WORD_BYTES_MAX > bytes.len()) {
        Some(end) => Ok(end),
        None => {
            let place = place.after(&bytes[..space.unwrap_or(0)]);
            let reason = format!("a word of more than {WORD_BYTES_MAX} bytes");
            Err(malformed(path, place, &reason))
        }
    }
}

fn malformed(path: &Path, place: Place, reason: &str) -> DataError {
    DataError::Malformed {
        path: path.to_path_buf(),
        line: place.line,
        column: place.column,
        reason: reason.into(),
        expected: EXPECTED,
    }
}
