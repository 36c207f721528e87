//! Knowledge graphs as numbered triples.
//!
//! A data set is a folder with three files, `train`, `valid` and `test`, one triple a line:
//! `head<TAB>relation<TAB>tail`, UTF-8, no header. Names are numbered in the order of their first
//! appearance, training first, so the same files give the same numbers everywhere. Entities that
//! only validation or test show get a number too: they are ranked like all others.

mod read;
pub mod wn18rr;

use std::path::Path;

use crate::data::{DataError, Vocabulary, find, set_name};

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
    pub fn read(folder: &Path) -> Result<Self, DataError> {
        let paths = ["train", "valid", "test"]
            .map(|split| find(folder, split, &["txt", "tsv"], read::EXPECTED));
        let [train, valid, test] = paths;
        let (train, valid, test) = (train?, valid?, test?);
        let mut reader = read::Reader::default();
        let train = reader.file(&train)?;
        let valid = reader.file(&valid)?;
        let test = reader.file(&test)?;
        Ok(reader.finish(set_name(folder), [train, valid, test]))
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

#[cfg(test)]
mod tests;
