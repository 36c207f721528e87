//! Lines to numbered triples.

use std::io::Read;
use std::path::Path;

use super::{Graph, Triple};
use crate::data::{DataError, Line, Lines, Vocabulary, open};

/// What a line should be.
pub(super) const EXPECTED: &str = "one triple a line as head<TAB>relation<TAB>tail";

/// Reads the files of one graph; the vocabularies grow from file to file.
#[derive(Default)]
pub(super) struct Reader {
    entities: Vocabulary,
    relations: Vocabulary,
}

impl Reader {
    /// Reads all triples of a file, plain or packed.
    pub(super) fn file(&mut self, path: &Path) -> Result<Vec<Triple>, DataError> {
        self.triples(path, open(path)?)
    }

    /// Reads all triples of `source`; `path` is for messages only.
    pub(super) fn triples(
        &mut self,
        path: &Path,
        source: impl Read + Send,
    ) -> Result<Vec<Triple>, DataError> {
        let mut lines = Lines::of(path, source, EXPECTED);
        let mut triples = Vec::new();
        while let Some(line) = lines.next_line()? {
            // A blank line says nothing, and many files end in one.
            if !line.text.is_empty() {
                triples.push(self.triple(line)?);
            }
        }
        if triples.is_empty() {
            return Err(lines.refused("no triples"));
        }
        Ok(triples)
    }

    /// Puts the splits together with the vocabularies that they filled.
    pub(super) fn finish(self, name: String, [train, valid, test]: [Vec<Triple>; 3]) -> Graph {
        Graph { name, entities: self.entities, relations: self.relations, train, valid, test }
    }

    fn triple(&mut self, line: Line<'_>) -> Result<Triple, DataError> {
        let fields = line.split_exactly('\t')?;
        for (name, field) in ["head", "relation", "tail"].into_iter().zip(fields) {
            if field.text.trim().is_empty() {
                return Err(field.error(format!("the {name} is empty")));
            }
        }
        let [head, relation, tail] = fields;
        let numbers = (
            self.entities.number_or_add(head.text),
            self.relations.number_or_add(relation.text),
            self.entities.number_or_add(tail.text),
        );
        let (Some(head), Some(relation), Some(tail)) = numbers else {
            return Err(line.error_at(1, "more than 2^32 distinct names"));
        };
        Ok(Triple { head, relation, tail })
    }
}
