//! A text as numbers: which words it has, how often, and its sentences.
//!
//! A text is read once, in blocks: one thread reads and unpacks, the others number the words of
//! their blocks by vocabularies of their own. When all is read these are merged; words
//! that are too rare go, the others are numbered by falling frequency, and the blocks' numbers are
//! translated. The result takes four bytes per word, and does not depend on how many threads there
//! were.

mod blocks;
mod count;

use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::Path;

use crate::data::{DataError, Vocabulary, files_of, set_name};
use crate::task::Digest;

/// Longer sentences are cut, as the original program does.
pub const SENTENCE_WORDS_MAX: usize = 1000;

/// Sentences are handed out in chunks of as many as have so many words together at most.
pub const CHUNK_WORDS_MAX: usize = SENTENCE_WORDS_MAX;

/// What a text should be, in errors.
pub(crate) const EXPECTED: &str =
    "text in UTF-8, words between white space, one sentence a line or all in one line";

/// How to read a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadOptions {
    /// Words that occur fewer times are left out.
    pub count_min: u64,
    /// Whether to turn capital letters into small ones.
    pub lower_case: bool,
    /// Threads that count words.
    pub threads: usize,
}

impl Default for ReadOptions {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self { count_min: 5, lower_case: false, threads }
    }
}

/// A text: its vocabulary, most frequent word first, and its sentences as numbers of words.
#[derive(Clone, Debug, Default)]
pub struct Corpus {
    /// What it is called in reports.
    pub name: String,
    /// The words, by falling count, equals by alphabet.
    pub words: Vocabulary,
    /// How often each occurs.
    pub counts: Vec<u64>,
    /// How many words were read, with those that are too rare.
    pub words_read: u64,
    /// How many different ones.
    pub types_read: usize,
    tokens: Vec<u32>,
    /// Where each sentence ends in `tokens`.
    ends: Vec<usize>,
    /// The sentence behind each chunk.
    chunks: Vec<usize>,
}

impl Corpus {
    /// Reads a text file, or all files of a folder in the order of their names; each plain or packed
    /// (`.gz`, `.xz`, `.zst`).
    ///
    /// # Errors
    /// Files that cannot be read, are no text, or hold no word often enough.
    pub fn read(path: &Path, options: &ReadOptions) -> Result<Self, DataError> {
        let files =
            if path.is_dir() { files_of(path, EXPECTED)? } else { vec![path.to_path_buf()] };
        let counted = count::count(&files, options)?;
        let mut corpus = counted.merge(options.count_min);
        corpus.name = set_name(path);
        if corpus.words.len() < 2 || corpus.tokens.is_empty() {
            let reason = format!(
                "{} words, {} of them different, and fewer than two that occur {} times and stand in one \
                 sentence",
                corpus.words_read, corpus.types_read, options.count_min
            );
            return Err(DataError::refused(path, reason, EXPECTED));
        }
        corpus.cut_into_chunks();
        Ok(corpus)
    }

    /// Number of sentences that have two words of the vocabulary at least.
    #[must_use]
    pub fn sentences(&self) -> usize {
        self.ends.len()
    }

    /// The words of a sentence.
    ///
    /// # Panics
    /// If there is no such sentence.
    #[must_use]
    pub fn sentence(&self, number: usize) -> &[u32] {
        &self.tokens[self.range(number)]
    }

    /// Number of chunks, which are what training shares out among workers.
    #[must_use]
    pub fn chunks(&self) -> usize {
        self.chunks.len()
    }

    /// The sentences of a chunk.
    ///
    /// # Panics
    /// If there is no such chunk.
    pub fn chunk(&self, number: usize) -> impl Iterator<Item = &[u32]> {
        let start = if number == 0 { 0 } else { self.chunks[number - 1] };
        (start..self.chunks[number]).map(|sentence| self.sentence(sentence))
    }

    /// Bytes of the text as numbers.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let places = size_of::<usize>() * (self.ends.len() + self.chunks.len());
        (size_of::<u32>() * self.tokens.len() + places) as u64
    }

    /// Feeds all that training reads to a digest.
    pub(super) fn digest(&self, digest: &mut Digest) {
        for (name, &count) in self.words.names().zip(&self.counts) {
            digest.name(name);
            digest.number(count);
        }
        digest.numbers(&self.tokens);
        for &end in &self.ends {
            digest.number(end as u64);
        }
    }

    /// Groups sentences into chunks.
    fn cut_into_chunks(&mut self) {
        let mut start = 0;
        for number in 0..self.ends.len() {
            if number > 0 && self.ends[number] - start > CHUNK_WORDS_MAX {
                self.chunks.push(number);
                start = self.ends[number - 1];
            }
        }
        self.chunks.push(self.ends.len());
    }

    /// All words of all sentences.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.tokens.len()
    }

    fn range(&self, number: usize) -> Range<usize> {
        let start = if number == 0 { 0 } else { self.ends[number - 1] };
        start..self.ends[number]
    }
}

#[cfg(test)]
mod tests;
