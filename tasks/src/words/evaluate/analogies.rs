//! Analogies: `a` is to `b` as `c` is to what?
//!
//! The file has sections, `: name`, of lines `a b c d`; sections whose names start with `gram` are
//! about grammar, the others about meaning. The answer is the word nearest to `b - a + c` (3CosAdd,
//! on vectors of unit length) that is none of the three. Only the most frequent words exist, for
//! questions and for answers, and there are two cuts: 30,000 words and 300,000.
//!
//! The words are shared out among the workers. A worker scores its words for all questions and notes
//! which questions have a word among them that beats the expected one; a question that nobody noted
//! is answered. So no worker holds more than its part of the vectors.

use std::ops::Range;
use std::path::Path;

use rustc_hash::FxHashMap;

use super::{Spellings, WORDS_FEW, pull_units, unit};
use crate::data::{DataError, Lines};
use crate::dense::product;
use crate::task::{Parameters, Share, TaskError};

const EXPECTED: &str = "`: section` or four words";

/// Candidates scored at a time, and questions that they are scored for.
const CANDIDATES: usize = 512;
const QUESTIONS: usize = 256;

/// Questions whose words are all in the vocabulary.
#[derive(Clone, Debug, Default)]
pub struct Analogies {
    questions: Vec<Question>,
    /// Which words stand for all their spellings: only they can be answers.
    answers: Vec<bool>,
    read: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Question {
    /// `a`, `b`, `c` and `d`.
    words: [u32; 4],
    semantic: bool,
}

/// Questions asked and answered.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    /// Asked about meaning, and about grammar.
    asked: [f64; 2],
    answered: [f64; 2],
}

impl Analogies {
    /// Reads a file.
    ///
    /// # Errors
    /// A file that cannot be read or has another form.
    pub fn read(path: &Path, spellings: &Spellings) -> Result<Self, DataError> {
        let mut analogies = Self { answers: spellings.first.clone(), ..Self::default() };
        let mut lines = Lines::open(path, EXPECTED)?;
        let mut section = None;
        while let Some(line) = lines.next_filled()? {
            if let Some(name) = line.text.strip_prefix(':') {
                section = Some(!name.trim().starts_with("gram"));
                continue;
            }
            let Some(semantic) = section else {
                return Err(line.error_at(1, "a question before the first section"));
            };
            let mut fields = line.split_whitespace();
            let mut words = [None; 4];
            for (index, word) in words.iter_mut().enumerate() {
                let Some(field) = fields.next() else {
                    return Err(line.error_at(line.text.len() + 1, format!("{index} words")));
                };
                *word = spellings.number(field.text);
            }
            if let Some(field) = fields.next() {
                return Err(field.error("a fifth word"));
            }
            analogies.read += 1;
            if let [Some(a), Some(b), Some(c), Some(d)] = words {
                analogies.questions.push(Question { words: [a, b, c, d], semantic });
            }
        }
        if analogies.read == 0 {
            return Err(lines.refused("no question"));
        }
        Ok(analogies)
    }

    /// The words of all questions.
    pub(super) fn words(&self) -> impl Iterator<Item = u64> + '_ {
        self.questions.iter().flat_map(|question| question.words.map(u64::from))
    }

    /// Questions that can be asked, and questions in the file.
    #[must_use]
    pub fn counts(&self) -> (usize, usize) {
        (self.questions.len(), self.read)
    }

    /// Asks all questions; all workers call it together. The first tally is of the smaller cut.
    pub(super) fn ask(
        &self,
        parameters: &mut Parameters<'_>,
        share: Share,
    ) -> Result<[Tally; 2], TaskError> {
        let targets = self.targets(parameters)?;
        let mut beaten = [vec![0.0; self.questions.len()], vec![0.0; self.questions.len()]];
        let mine = share.range(self.answers.len());
        for first in mine.clone().step_by(CANDIDATES) {
            let range = first..mine.end.min(first + CANDIDATES);
            self.meet(parameters, range, &targets, &mut beaten)?;
        }
        for notes in &mut beaten {
            parameters.all_reduce_sum(notes)?;
        }
        Ok([0, 1].map(|cut| {
            let mut tally = Tally::default();
            for (question, &beaten) in self.questions.iter().zip(&beaten[cut]) {
                if cut == 1 || question.words.iter().all(|&word| is_frequent(word)) {
                    let kind = usize::from(!question.semantic);
                    tally.asked[kind] += 1.0;
                    let [a, b, c, d] = question.words;
                    let answerable = ![a, b, c].contains(&d);
                    tally.answered[kind] += f64::from(u8::from(answerable && beaten == 0.0));
                }
            }
            tally
        }))
    }

    /// For each question the vector that is asked for, and how near the expected word is to it.
    fn targets(&self, parameters: &mut Parameters<'_>) -> Result<Targets, TaskError> {
        let mut places = FxHashMap::default();
        let mut words = Vec::new();
        for word in self.words() {
            places.entry(word).or_insert_with(|| {
                words.push(word);
                words.len() - 1
            });
        }
        let mut rows = Vec::new();
        pull_units(parameters, &words, &mut rows)?;
        let dim = rows.len() / words.len().max(1);
        let mut targets = Targets { dim, rows: Vec::new(), bars: Vec::new() };
        for question in &self.questions {
            let [a, b, c, d] =
                question.words.map(|word| &rows[places[&u64::from(word)] * dim..][..dim]);
            let start = targets.rows.len();
            targets.rows.extend((0..dim).map(|at| b[at] - a[at] + c[at]));
            unit::scale(&mut targets.rows[start..]);
            targets.bars.push(unit::dot(&targets.rows[start..], d));
        }
        Ok(targets)
    }

    /// Notes which questions are beaten by these candidates.
    fn meet(
        &self,
        parameters: &mut Parameters<'_>,
        candidates: Range<usize>,
        targets: &Targets,
        beaten: &mut [Vec<f64>; 2],
    ) -> Result<(), TaskError> {
        let keys: Vec<u64> = candidates.clone().map(|word| word as u64).collect();
        let mut rows = Vec::new();
        pull_units(parameters, &keys, &mut rows)?;
        let mut scores = Vec::new();
        for first in (0..self.questions.len()).step_by(QUESTIONS) {
            let block = first..self.questions.len().min(first + QUESTIONS);
            let shape = (block.len(), keys.len(), targets.dim);
            scores.resize(block.len() * keys.len(), 0.0);
            let rows_of = &targets.rows[block.start * targets.dim..block.end * targets.dim];
            product::nt(shape, rows_of, &rows, &mut scores);
            for (number, scores) in block.zip(scores.chunks_exact(keys.len())) {
                let bar = targets.bars[number];
                for (word, _) in candidates.clone().zip(scores).filter(|&(_, &score)| score > bar) {
                    let number_of_word = u32::try_from(word).expect("words are u32");
                    let named = self.questions[number].words.contains(&number_of_word);
                    if self.answers[word] && !named {
                        beaten[1][number] = 1.0;
                        beaten[0][number] += f64::from(u8::from(is_frequent(number_of_word)));
                    }
                }
            }
        }
        Ok(())
    }
}

struct Targets {
    dim: usize,
    rows: Vec<f32>,
    bars: Vec<f32>,
}

fn is_frequent(word: u32) -> bool {
    (word as usize) < WORDS_FEW
}

impl Tally {
    /// Questions asked.
    #[must_use]
    pub fn asked(&self) -> f64 {
        self.asked[0] + self.asked[1]
    }

    /// The part of all questions that is answered.
    #[must_use]
    pub fn all(&self) -> f64 {
        part(self.answered[0] + self.answered[1], self.asked())
    }

    /// The part of the questions about meaning that is answered.
    #[must_use]
    pub fn semantic(&self) -> f64 {
        part(self.answered[0], self.asked[0])
    }

    /// The part of the questions about grammar that is answered.
    #[must_use]
    pub fn syntactic(&self) -> f64 {
        part(self.answered[1], self.asked[1])
    }
}

fn part(some: f64, all: f64) -> f64 {
    if all > 0.0 { some / all } else { 0.0 }
}

#[cfg(test)]
mod tests;
