//! Counts and numbers the words of blocks, on several threads.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

use rustc_hash::FxHashMap;

use super::blocks::{self, Block};
use super::{Corpus, ReadOptions, SENTENCE_WORDS_MAX};
use crate::data::{DataError, Vocabulary};

/// Marks a word that is too rare.
const RARE: u32 = u32::MAX;

/// What one thread has read.
#[derive(Debug, Default)]
struct Counter {
    numbers: FxHashMap<Box<str>, u32>,
    /// By the thread's own numbers.
    counts: Vec<u64>,
    blocks: Vec<Numbered>,
    /// A word in small letters.
    lower: String,
}

/// A block as numbers.
#[derive(Debug)]
struct Numbered {
    block: usize,
    tokens: Vec<u32>,
    /// Where each sentence ends in `tokens`.
    ends: Vec<usize>,
}

/// What all threads have read.
#[derive(Debug)]
pub(super) struct Counted(Vec<Counter>);

/// Reads all files.
pub(super) fn count(files: &[PathBuf], options: &ReadOptions) -> Result<Counted, DataError> {
    let threads = options.threads.max(1);
    // Blocks wait here while all threads are busy; the reader waits when it is full.
    let (give, take) = sync_channel::<Block>(threads);
    let take = Mutex::new(take);
    std::thread::scope(|scope| {
        let counters: Vec<_> =
            (0..threads).map(|_| scope.spawn(|| run(&take, options.lower_case))).collect();
        let read = read_all(files, &give);
        drop(give);
        let counted: Result<Vec<Counter>, DataError> =
            counters.into_iter().map(|thread| thread.join().expect("a counter ends")).collect();
        read?;
        Ok(Counted(counted?))
    })
}

fn read_all(files: &[PathBuf], give: &SyncSender<Block>) -> Result<(), DataError> {
    let mut number = 0;
    for path in files {
        // Nobody takes blocks any more when a counter has found an error, which is then the result.
        number = blocks::read(path, number, |block| give.send(block).is_ok())?;
    }
    Ok(())
}

fn run(take: &Mutex<Receiver<Block>>, lower_case: bool) -> Result<Counter, DataError> {
    let mut counter = Counter::default();
    loop {
        let block = take.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(block) = block else { return Ok(counter) };
        if let Err(error) = counter.add(&block, lower_case) {
            // The others and the reader are to stop as well: what is left is taken from them.
            while take.lock().unwrap_or_else(PoisonError::into_inner).recv().is_ok() {}
            return Err(error);
        }
    }
}

impl Counter {
    fn add(&mut self, block: &Block, lower_case: bool) -> Result<(), DataError> {
        let text = block.text()?;
        let (mut tokens, mut ends) = (Vec::with_capacity(text.len() / 5), Vec::new());
        for line in text.split('\n') {
            let start = tokens.len();
            for word in line.split_ascii_whitespace() {
                tokens.push(self.number(word, lower_case));
                if (tokens.len() - start).is_multiple_of(SENTENCE_WORDS_MAX) {
                    ends.push(tokens.len());
                }
            }
            if ends.last().copied().unwrap_or(0) < tokens.len() {
                ends.push(tokens.len());
            }
        }
        self.blocks.push(Numbered { block: block.number, tokens, ends });
        Ok(())
    }

    fn number(&mut self, word: &str, lower_case: bool) -> u32 {
        if lower_case && !word.bytes().all(|byte| byte.is_ascii_lowercase()) {
            let mut lower = std::mem::take(&mut self.lower);
            lower.clear();
            lower.extend(word.chars().flat_map(char::to_lowercase));
            let number = self.number(&lower, false);
            self.lower = lower;
            return number;
        }
        let number = match self.numbers.get(word) {
            Some(&number) => number,
            None => {
                let number = u32::try_from(self.counts.len()).expect("fewer than 2^32 words");
                self.numbers.insert(word.into(), number);
                self.counts.push(0);
                number
            }
        };
        self.counts[number as usize] += 1;
        number
    }
}

impl Counted {
    /// Puts the parts together, without words that occur fewer than `count_min` times.
    pub(super) fn merge(self, count_min: u64) -> Corpus {
        let mut counters = self.0;
        let mut totals: FxHashMap<&str, u64> = FxHashMap::default();
        for counter in &counters {
            for (word, &number) in &counter.numbers {
                *totals.entry(word).or_default() += counter.counts[number as usize];
            }
        }
        let words_read = totals.values().sum();
        let types_read = totals.len();
        let mut frequent: Vec<(&str, u64)> =
            totals.into_iter().filter(|&(_, count)| count >= count_min.max(1)).collect();
        frequent.sort_unstable_by(|one, other| other.1.cmp(&one.1).then(one.0.cmp(other.0)));
        let mut words = Vocabulary::default();
        for (word, _) in &frequent {
            words.number_or_add(word);
        }
        let counts = frequent.into_iter().map(|(_, count)| count).collect();
        std::thread::scope(|scope| {
            for counter in &mut counters {
                scope.spawn(|| counter.translate(&words));
            }
        });
        let mut corpus = Corpus { words, counts, words_read, types_read, ..Corpus::default() };
        let mut blocks: Vec<Numbered> =
            counters.into_iter().flat_map(|counter| counter.blocks).collect();
        blocks.sort_unstable_by_key(|block| block.block);
        corpus.tokens.reserve_exact(blocks.iter().map(|block| block.tokens.len()).sum());
        for block in blocks {
            let before = corpus.tokens.len();
            corpus.tokens.extend_from_slice(&block.tokens);
            corpus.ends.extend(block.ends.iter().map(|end| before + end));
        }
        corpus
    }
}

impl Counter {
    /// Turns this thread's numbers into those of `words`; drops rare words, and sentences that have
    /// fewer than two words left.
    fn translate(&mut self, words: &Vocabulary) {
        let mut to = vec![RARE; self.counts.len()];
        for (word, &number) in &self.numbers {
            to[number as usize] = words.number(word).unwrap_or(RARE);
        }
        self.numbers.clear();
        for block in &mut self.blocks {
            let (mut from, mut filled) = (0, 0);
            let tokens = &mut block.tokens;
            block.ends.retain_mut(|end| {
                let start = filled;
                for at in from..*end {
                    let word = to[tokens[at] as usize];
                    tokens[filled] = word;
                    filled += usize::from(word != RARE);
                }
                from = *end;
                if filled < start + 2 {
                    filled = start;
                    return false;
                }
                *end = filled;
                true
            });
            tokens.truncate(filled);
            tokens.shrink_to_fit();
        }
    }
}
