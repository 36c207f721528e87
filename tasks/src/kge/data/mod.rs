//! Knowledge graphs as numbered triples.
//!
//! A data set is a folder with three files, `train`, `valid` and `test`, one triple a line:
//! `head<TAB>relation<TAB>tail`, UTF-8, no header. Names are numbered in the order of their first
//! appearance, training first, so the same files give the same numbers everywhere. Entities that
//! only validation or test show get a number too: they are ranked like all others.

mod open;
mod read;
pub mod wn18rr;

use std::path::{Path, PathBuf};

use super::KgeError;
pub use read::Vocabulary;

/// A fact: head and tail are entities, all three are numbers of the graph's vocabularies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Triple {
    /// The subject's entity.
    pub head: u32,
    /// The relation.
    pub relation: u32,
    /// The object's entity.
    pub tail: u32,
}

/// A knowledge graph, split for training, validation and test.
#[derive(Clone, Debug)]
pub struct Graph {
    /// What the data set is called: `WN18RR`, or the name of its folder.
    pub name: String,
    /// Names of the entities, by number.
    pub entities: Vocabulary,
    /// Names of the relations, by number.
    pub relations: Vocabulary,
    /// Triples to train on.
    pub train: Vec<Triple>,
    /// Triples to steer by: early stopping, choice of settings.
    pub valid: Vec<Triple>,
    /// Triples to report on, once, at the end.
    pub test: Vec<Triple>,
}

/// How large a graph is, for the start line and the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Counts {
    /// Entities of all three splits.
    pub entities: usize,
    /// Relations of all three splits.
    pub relations: usize,
    /// Training triples.
    pub train: usize,
    /// Validation triples.
    pub valid: usize,
    /// Test triples.
    pub test: usize,
    /// Test triples with an entity that training never shows.
    pub test_unseen: usize,
}

impl Graph {
    /// Reads the data set in `folder`.
    ///
    /// Each of `train`, `valid` and `test` is looked for as `.txt` or `.tsv`, plain or packed as
    /// `.gz`, `.xz` or `.zst`.
    ///
    /// # Errors
    /// A missing, doubled, unreadable or empty file, or a line that is no triple, with its number.
    pub fn read(folder: &Path) -> Result<Self, KgeError> {
        let paths = SPLITS.map(|split| find_split(folder, split));
        let [train, valid, test] = paths;
        let (train, valid, test) = (train?, valid?, test?);
        let name = folder.canonicalize().ok().unwrap_or_else(|| folder.to_path_buf());
        let name =
            name.file_name().map_or_else(|| "data".into(), |n| n.to_string_lossy().into_owned());
        let mut reader = read::Reader::default();
        let train = reader.triples(&train, open::open(&train)?)?;
        let valid = reader.triples(&valid, open::open(&valid)?)?;
        let test = reader.triples(&test, open::open(&test)?)?;
        Ok(reader.finish(name, [train, valid, test]))
    }

    /// Counts what the graph holds.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut seen = vec![false; self.entities.len()];
        for triple in &self.train {
            seen[triple.head as usize] = true;
            seen[triple.tail as usize] = true;
        }
        let unseen = |t: &&Triple| !(seen[t.head as usize] && seen[t.tail as usize]);
        Counts {
            entities: self.entities.len(),
            relations: self.relations.len(),
            train: self.train.len(),
            valid: self.valid.len(),
            test: self.test.len(),
            test_unseen: self.test.iter().filter(unseen).count(),
        }
    }
}

const SPLITS: [&str; 3] = ["train", "valid", "test"];

/// The one file of `folder` that holds this split.
fn find_split(folder: &Path, split: &'static str) -> Result<PathBuf, KgeError> {
    // Told apart here, because "no train file in FOLDER" would send the reader the wrong way.
    std::fs::read_dir(folder).map_err(KgeError::io("read the data folder", folder))?;
    let mut found = ["txt", "tsv"]
        .iter()
        .flat_map(|ending| ["", ".gz", ".xz", ".zst"].map(|pack| format!("{split}.{ending}{pack}")))
        .map(|name| folder.join(name))
        .filter(|path| path.is_file());
    let Some(first) = found.next() else {
        return Err(KgeError::MissingSplit { folder: folder.to_path_buf(), split });
    };
    match found.next() {
        None => Ok(first),
        Some(second) => Err(KgeError::AmbiguousSplit { split, first, second }),
    }
}

#[cfg(test)]
mod tests;
