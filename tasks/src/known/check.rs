//! Compares a copy of a data set with what is known of it.

use std::fmt::Write as _;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{KnownFile, KnownSet};
use crate::data::{DataError, open};

/// A file of a set, and how the copy's compares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// What it should be.
    pub file: KnownFile,
    /// What it is.
    pub state: State,
}

/// How a file compares with the known one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It is the same, byte for byte.
    Same,
    /// It is not there.
    Missing,
    /// It is another one.
    Differs {
        /// Its length in bytes, unpacked.
        bytes: u64,
        /// Whether it is the same but for the line ends of Windows.
        line_ends: bool,
    },
}

impl KnownSet {
    /// Compares the copy of this set in `folder`, whose files may be packed, with what is known.
    ///
    /// # Errors
    /// A folder or file that cannot be read.
    pub fn check(&self, folder: &Path) -> Result<Vec<Checked>, DataError> {
        std::fs::read_dir(folder).map_err(DataError::io("read the data folder", folder))?;
        let files = self.files().map(|file| {
            let state = match find(folder, file.path) {
                Some(path) => compare(&path, file)?,
                None => State::Missing,
            };
            Ok(Checked { file, state })
        });
        files.collect()
    }

    /// The set of which most files are in `folder`, by their names.
    #[must_use]
    pub fn in_folder(folder: &Path) -> Option<&'static Self> {
        let found = |set: &Self| set.files().filter(|f| find(folder, f.path).is_some()).count();
        // Sets of one form have the same names: the one called like the folder goes first.
        let called = |set: &Self| folder.ends_with(set.name);
        let best =
            Self::all().iter().max_by_key(|set| (found(set) > 0, called(set), found(set)))?;
        (found(best) > 0).then_some(best)
    }
}

/// The file at `path` of `folder`, plain or packed.
fn find(folder: &Path, path: &str) -> Option<PathBuf> {
    let names = ["", ".gz", ".xz", ".zst"].map(|ending| folder.join(format!("{path}{ending}")));
    names.into_iter().find(|path| path.is_file())
}

fn compare(path: &Path, file: KnownFile) -> Result<State, DataError> {
    let mut reader = open(path)?;
    let (mut whole, mut plain) = (Sha256::new(), Sha256::new());
    let (mut bytes, mut held_back) = (0, false);
    let mut block = vec![0; 1 << 16];
    loop {
        let read = match reader.read(&mut block) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            read => read.map_err(DataError::io("read", path))?,
        };
        if read == 0 {
            break;
        }
        let block = &block[..read];
        bytes += read as u64;
        whole.update(block);
        without_returns(block, &mut held_back, |part| plain.update(part));
    }
    if held_back {
        plain.update(b"\r");
    }
    Ok(if hex(&whole.finalize()) == file.sha256 {
        State::Same
    } else {
        State::Differs { bytes, line_ends: hex(&plain.finalize()) == file.sha256 }
    })
}

/// Passes on what is left when `\r\n` becomes `\n`; a `\r` at the end is held back until it is
/// known what follows.
fn without_returns(block: &[u8], held_back: &mut bool, mut pass: impl FnMut(&[u8])) {
    if *held_back && block[0] != b'\n' {
        pass(b"\r");
    }
    *held_back = block.ends_with(b"\r");
    let block = &block[..block.len() - usize::from(*held_back)];
    let mut start = 0;
    for end in 0..block.len() {
        if block[end] == b'\r' && block.get(end + 1) == Some(&b'\n') {
            pass(&block[start..end]);
            start = end + 1;
        }
    }
    pass(&block[start..]);
}

fn hex(sum: &[u8]) -> String {
    sum.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::{KnownSet, State, without_returns};

    const WN18RR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/wn18rr");

    #[test]
    fn the_shipped_copy_of_wn18rr_is_the_known_one() {
        let folder = std::path::Path::new(WN18RR);
        let set = KnownSet::by_name("wn18rr").unwrap();
        assert_eq!(KnownSet::in_folder(folder).unwrap().task, "kge");
        let checked = set.check(folder).unwrap();
        assert_eq!(checked.len(), 3);
        assert!(checked.iter().all(|file| file.state == State::Same));
    }

    #[test]
    fn missing_files_other_files_and_other_line_ends_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let set = KnownSet::by_name("WN18RR").unwrap();
        let mut text = String::new();
        let shipped = std::path::Path::new(WN18RR).join("test.txt.xz");
        let mut reader = crate::data::open(&shipped).unwrap();
        std::io::Read::read_to_string(&mut reader, &mut text).unwrap();
        std::fs::write(folder.path().join("test.txt"), text.replace('\n', "\r\n")).unwrap();
        std::fs::write(folder.path().join("valid.txt"), "a\tb\tc\n").unwrap();
        let checked = set.check(folder.path()).unwrap();
        let state = |name| &checked.iter().find(|one| one.file.path == name).unwrap().state;
        assert_eq!(*state("train.txt"), State::Missing);
        assert_eq!(*state("valid.txt"), State::Differs { bytes: 6, line_ends: false });
        assert!(matches!(state("test.txt"), State::Differs { line_ends: true, .. }));
        assert!(set.check(&folder.path().join("nowhere")).is_err());
    }

    #[test]
    fn line_ends_are_found_wherever_blocks_end() {
        let text = b"\ra\r\nb\r\r\n\r";
        for size in 1..text.len() {
            let (mut found, mut held_back) = (Vec::new(), false);
            for block in text.chunks(size) {
                without_returns(block, &mut held_back, |part| found.extend_from_slice(part));
            }
            assert!(held_back);
            assert_eq!(found, b"\ra\nb\r\n", "blocks of {size}");
        }
    }
}
