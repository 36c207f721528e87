//! Lines to numbered triples.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use rustc_hash::FxHashMap;

use super::{Graph, KgeError, Triple};

/// Longer lines are refused, so that a file that is no text cannot fill the memory.
const LINE_BYTES_MAX: usize = 1 << 16;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Names and their numbers, counted from 0 in the order of their first appearance.
#[derive(Clone, Debug, Default)]
pub struct Vocabulary {
    names: Vec<String>,
    numbers: FxHashMap<String, u32>,
}

impl Vocabulary {
    /// How many names there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The name with this number.
    #[must_use]
    pub fn name(&self, number: u32) -> Option<&str> {
        self.names.get(number as usize).map(String::as_str)
    }

    /// The number of this name.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<u32> {
        self.numbers.get(name).copied()
    }

    /// All names, by number.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// The name's number, given now if it is new; none if there are too many names.
    fn number_or_add(&mut self, name: &str) -> Option<u32> {
        if let Some(number) = self.number(name) {
            return Some(number);
        }
        let number = u32::try_from(self.names.len()).ok()?;
        self.names.push(name.to_owned());
        self.numbers.insert(name.to_owned(), number);
        Some(number)
    }
}

/// Reads the files of one graph; the vocabularies grow from file to file.
#[derive(Default)]
pub(super) struct Reader {
    entities: Vocabulary,
    relations: Vocabulary,
}

impl Reader {
    /// Reads all triples of `source`; `path` is for messages only.
    pub(super) fn triples(
        &mut self,
        path: &Path,
        source: impl Read,
    ) -> Result<Vec<Triple>, KgeError> {
        let mut source = BufReader::with_capacity(1 << 16, source);
        let mut triples = Vec::new();
        let mut line = Vec::new();
        for number in 1.. {
            line.clear();
            let limit = LINE_BYTES_MAX as u64 + 2;
            let length = (&mut source)
                .take(limit)
                .read_until(b'\n', &mut line)
                .map_err(KgeError::io("read", path))?;
            if length == 0 {
                break;
            }
            let text = content(&line, number);
            // A blank line says nothing, and many files end in one.
            if !text.is_empty() {
                let triple = self.triple(text).map_err(|reason| KgeError::MalformedLine {
                    path: path.to_path_buf(),
                    line: number,
                    reason,
                })?;
                triples.push(triple);
            }
        }
        if triples.is_empty() {
            return Err(KgeError::EmptySplit { path: path.to_path_buf() });
        }
        Ok(triples)
    }

    /// Puts the splits together with the vocabularies that they filled.
    pub(super) fn finish(self, name: String, [train, valid, test]: [Vec<Triple>; 3]) -> Graph {
        Graph { name, entities: self.entities, relations: self.relations, train, valid, test }
    }

    fn triple(&mut self, text: &[u8]) -> Result<Triple, String> {
        if text.len() > LINE_BYTES_MAX {
            return Err(format!("longer than {LINE_BYTES_MAX} bytes"));
        }
        let text = std::str::from_utf8(text)
            .map_err(|error| format!("not UTF-8 from byte {}", error.valid_up_to() + 1))?;
        let mut fields = text.split('\t');
        let (Some(head), Some(relation), Some(tail), None) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return Err(format!("{} field(s) between tabs", text.split('\t').count()));
        };
        for (name, field) in [("head", head), ("relation", relation), ("tail", tail)] {
            if field.trim().is_empty() {
                return Err(format!("the {name} is empty"));
            }
        }
        let numbers = (
            self.entities.number_or_add(head),
            self.relations.number_or_add(relation),
            self.entities.number_or_add(tail),
        );
        let (Some(head), Some(relation), Some(tail)) = numbers else {
            return Err("more than 2^32 distinct names".into());
        };
        Ok(Triple { head, relation, tail })
    }
}

/// The line without its end (LF or CR LF), and without a byte order mark at the file's start.
fn content(line: &[u8], number: usize) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if number == 1 { line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line) } else { line }
}
