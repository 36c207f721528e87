//! Text by Zipf's law, with topics: sentences of made-up words, one a line.
//!
//! Each sentence has a topic. A part of its words are drawn from the topic's own words, the others from all, both by
//! Zipf's law; word `r` by frequency belongs to topic `r mod topics`. So words of a topic stand together, which word
//! vectors find, and all words together occur about by Zipf's law. Sentence number N depends on seed and N alone.

use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::{Generator, Zipf};

const CONSONANTS: &[u8] = b"bcdfghjklmnprstvz";
const VOWELS: &[u8] = b"aeiou";

/// What a text is like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TextShape {
    /// Different words.
    pub words: u32,
    /// Topics; no more than words.
    pub topics: u32,
    /// The part of a sentence's words that are of its topic.
    pub focus: f64,
    /// Words of a sentence.
    pub sentence: u32,
    /// The exponent of Zipf's law.
    pub exponent: f64,
}

/// A generator of text.
#[derive(Clone, Debug)]
pub struct Text {
    shape: TextShape,
    seed: u64,
    next: u64,
    end: u64,
    all: Zipf,
    of_topic: Zipf,
}

impl Text {
    /// So many sentences of this seed, from number `first` on.
    ///
    /// # Panics
    /// If there are no topics, fewer words than topics, or the exponent is negative or not finite.
    #[must_use]
    pub fn new(shape: TextShape, seed: u64, (first, count): (u64, u64)) -> Self {
        assert!(shape.topics > 0 && shape.words >= shape.topics, "a topic has a word");
        let all = Zipf::new(shape.words, shape.exponent);
        // Every topic has this many words; the rarest ones may belong to none.
        let of_topic = Zipf::new(shape.words / shape.topics, shape.exponent);
        Self { shape, seed, next: first, end: first.saturating_add(count), all, of_topic }
    }

    fn write(&self, number: u64, out: &mut Vec<u8>) {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(self.seed ^ number.rotate_left(32));
        let topic = random.random_range(0..self.shape.topics);
        for at in 0..self.shape.sentence {
            let word = if random.random::<f64>() < self.shape.focus {
                (self.of_topic.sample(&mut random) - 1) * self.shape.topics + topic
            } else {
                self.all.sample(&mut random) - 1
            };
            if at > 0 {
                out.push(b' ');
            }
            spell(word, out);
        }
        out.push(b'\n');
    }
}

impl Generator for Text {
    fn total(&self) -> u64 {
        self.end - self.next
    }

    fn next_part(&mut self, count: u64, out: &mut Vec<u8>) -> u64 {
        let first = self.next;
        self.next = self.end.min(first.saturating_add(count));
        (first..self.next).for_each(|number| self.write(number, out));
        self.next - first
    }
}

/// Judgements about the words of a text: pairs of words, scored 10 if they are of one topic and 0 if not, in the form
/// that word vectors are evaluated by.
#[derive(Clone, Debug)]
pub struct TextPairs {
    shape: TextShape,
    random: Xoshiro256PlusPlus,
    total: u64,
    left: u64,
}

impl TextPairs {
    /// So many pairs, among the `among` most frequent words.
    ///
    /// # Panics
    /// If there are no topics, or fewer words than topics.
    #[must_use]
    pub fn new(shape: TextShape, seed: u64, count: u64, among: u32) -> Self {
        assert!(shape.topics > 0 && shape.words >= shape.topics, "a topic has a word");
        let shape = TextShape { words: among.clamp(shape.topics, shape.words), ..shape };
        let random = Xoshiro256PlusPlus::seed_from_u64(!seed);
        Self { shape, random, total: count, left: count }
    }
}

impl Generator for TextPairs {
    fn total(&self) -> u64 {
        self.total
    }

    fn next_part(&mut self, count: u64, out: &mut Vec<u8>) -> u64 {
        let count = count.min(self.left);
        self.left -= count;
        let TextShape { words, topics, .. } = self.shape;
        for _ in 0..count {
            let one = self.random.random_range(0..words);
            // Half of the pairs are of one topic.
            let other = if self.random.random() {
                one % topics + topics * self.random.random_range(0..words / topics)
            } else {
                self.random.random_range(0..words)
            };
            spell(one, out);
            out.push(b'\t');
            spell(other, out);
            out.extend(if one % topics == other % topics { &b"\t10\n"[..] } else { b"\t0\n" });
        }
        count
    }
}

/// A word of its own for each number: syllables of a consonant and a vowel, two at least.
fn spell(number: u32, out: &mut Vec<u8>) {
    let (mut rest, mut syllables) = (number as usize, 0);
    while rest > 0 || syllables < 2 {
        let syllable = rest % (CONSONANTS.len() * VOWELS.len());
        out.push(CONSONANTS[syllable / VOWELS.len()]);
        out.push(VOWELS[syllable % VOWELS.len()]);
        rest /= CONSONANTS.len() * VOWELS.len();
        syllables += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::{Generator, Text, TextPairs, TextShape, spell};

    const SHAPE: TextShape =
        TextShape { words: 500, topics: 10, focus: 0.5, sentence: 12, exponent: 1.0 };

    fn whole(mut generator: impl Generator) -> String {
        let mut out = Vec::new();
        while generator.next_part(7, &mut out) > 0 {}
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_same_seed_gives_the_same_sentences_and_ranges_are_parts_of_the_whole() {
        let all = whole(Text::new(SHAPE, 1, (0, 50)));
        assert_eq!(whole(Text::new(SHAPE, 1, (0, 50))), all);
        assert_ne!(whole(Text::new(SHAPE, 2, (0, 50))), all);
        let parts = [whole(Text::new(SHAPE, 1, (0, 20))), whole(Text::new(SHAPE, 1, (20, 30)))];
        assert_eq!(parts.concat(), all);
        assert!(all.lines().all(|line| line.split(' ').count() == 12));
    }

    #[test]
    fn numbers_have_words_of_their_own() {
        let word = |number| {
            let mut out = Vec::new();
            spell(number, &mut out);
            out
        };
        let words: HashSet<_> = (0..100_000).chain([u32::MAX]).map(word).collect();
        assert_eq!(words.len(), 100_001);
        assert_eq!(word(0), b"baba");
    }

    #[test]
    fn frequent_words_are_as_frequent_as_the_law_says_and_topics_stand_together() {
        let text = whole(Text::new(TextShape { focus: 0.0, ..SHAPE }, 3, (0, 5000)));
        let mut counts: HashMap<&str, f64> = HashMap::new();
        text.split_ascii_whitespace().for_each(|word| *counts.entry(word).or_default() += 1.0);
        let mut counts: Vec<f64> = counts.into_values().collect();
        counts.sort_by(|one, other| other.total_cmp(one));
        for rank in [2.0, 4.0, 8.0] {
            let ratio = counts[0]
                / counts.iter().zip(1..).find(|&(_, at)| f64::from(at) == rank).unwrap().0;
            assert!((ratio / rank - 1.0).abs() < 0.15, "rank {rank}: {ratio}");
        }
        let text = whole(Text::new(TextShape { focus: 1.0, ..SHAPE }, 3, (0, 1000)));
        let of_first: HashSet<&str> = text
            .lines()
            .filter(|line| line.split(' ').any(|word| word == "baba"))
            .flat_map(|line| line.split(' '))
            .collect();
        assert!((30..=50).contains(&of_first.len()), "50 words are of its topic");
    }

    #[test]
    fn half_of_the_pairs_and_some_are_of_one_topic() {
        let pairs = whole(TextPairs::new(SHAPE, 1, 1000, 200));
        let same = pairs.lines().filter(|line| line.ends_with("\t10")).count();
        assert_eq!(pairs.lines().count(), 1000);
        assert!((500..600).contains(&same), "{same}");
    }
}
