//! Analogies against their definition, word by word.

use std::path::Path;

use sterna::{Node, NodeConfig, TableSpec};

use super::{Analogies, CANDIDATES, Question, Tally};
use crate::data::{DataError, Vocabulary};
use crate::task::{Parameters, Share};
use crate::words::evaluate::Spellings;

const DIM: usize = 3;

fn vocabulary(words: usize) -> Vocabulary {
    let mut vocabulary = Vocabulary::default();
    for word in 0..words {
        vocabulary.number_or_add(&format!("w{word}"));
    }
    vocabulary
}

fn read(text: &str, vocabulary: &Vocabulary) -> Result<Analogies, DataError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("questions-words.txt");
    std::fs::write(&path, text).unwrap();
    Analogies::read(&path, &Spellings::new(vocabulary))
}

/// A row of pseudo-random numbers.
fn row(word: usize) -> Vec<f32> {
    let number = |at: usize| {
        let mixed = (word * DIM + at + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        f32::from(u16::try_from(mixed % 2001).unwrap()) / 1000.0 - 1.0
    };
    (0..DIM).map(number).collect()
}

/// The answer by the definition, in `f64`.
fn answer(words: usize, [a, b, c, _]: [usize; 4]) -> usize {
    let unit = |word: usize| {
        let row: Vec<f64> = row(word).into_iter().map(f64::from).collect();
        let length = row.iter().map(|value| value * value).sum::<f64>().sqrt();
        row.into_iter().map(|value| value / length).collect::<Vec<_>>()
    };
    let target: Vec<f64> = (0..DIM).map(|at| unit(b)[at] - unit(a)[at] + unit(c)[at]).collect();
    let score = |word: usize| -> f64 { unit(word).iter().zip(&target).map(|(x, y)| x * y).sum() };
    let others = (0..words).filter(|word| ![a, b, c].contains(word));
    others.max_by(|&one, &other| score(one).total_cmp(&score(other))).unwrap()
}

#[test]
fn questions_are_answered_as_the_definition_says_by_any_number_of_workers() {
    let words = 3 * CANDIDATES / 2;
    let mut text = String::from(": gram1\n");
    let mut right = 0;
    // Every other question expects the right answer, the others a word beside it.
    for number in 0..40 {
        let question = [number, number + 50, number + 100, 0];
        let wrong = number % 2;
        let d = (answer(words, question) + wrong) % words;
        right += 1 - wrong;
        text += &format!("w{} W{} w{} w{d}\n", question[0], question[1], question[2]);
    }
    text += ": family\nw1 w2 w3 w1\n";
    let analogies = read(&text, &vocabulary(words)).unwrap();
    for workers in [1, 3] {
        let config = NodeConfig { pin: false, ..NodeConfig::with_workers(workers) };
        let node = Node::start(config).unwrap();
        let tables = [node.create_table(TableSpec::new("input", words as u64, DIM)).unwrap()];
        let threads: Vec<_> = (0..workers).map(|index| node.worker(index).unwrap()).collect();
        let found: Vec<[Tally; 2]> = std::thread::scope(|scope| {
            let ask = |mut worker: sterna::Worker| {
                let share = Share { index: worker.index(), count: workers };
                let mut parameters = Parameters::new(&mut worker, &tables);
                for word in share.range(words) {
                    parameters.set(0, &[word as u64], &row(word)).unwrap();
                }
                parameters.worker().barrier().unwrap();
                analogies.ask(&mut parameters, share).unwrap()
            };
            let threads: Vec<_> =
                threads.into_iter().map(|worker| scope.spawn(move || ask(worker))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for tallies in found {
            let right = f64::from(u32::try_from(right).unwrap());
            // The last question's answer is one of its words, which is never given.
            let expected = Tally { asked: [1.0, 40.0], answered: [0.0, right] };
            assert_eq!(tallies, [expected; 2]);
            assert_eq!(tallies[0].all(), right / 41.0);
        }
    }
}

#[test]
fn the_most_frequent_spelling_stands_for_all_and_unknown_words_skip_the_question() {
    let mut words = Vocabulary::default();
    for word in ["athens", "Athens", "greece", "oslo", "norway"] {
        words.number_or_add(word);
    }
    let text = ": capital\nAthens Greece Oslo Norway\nAthens Greece Bern Switzerland\n: gram2\n\
                oslo norway athens greece\n";
    let analogies = read(text, &words).unwrap();
    assert_eq!(analogies.counts(), (2, 3));
    assert_eq!(analogies.questions[0], Question { words: [0, 2, 3, 4], semantic: true });
    assert_eq!(analogies.questions[1], Question { words: [3, 4, 0, 2], semantic: false });
    assert_eq!(analogies.answers, [true, false, true, true, true]);
}

#[test]
fn files_of_another_form_are_refused_with_their_place() {
    let words = vocabulary(5);
    for (text, expected) in [
        ("w1 w2 w3 w4\n", "questions-words.txt:1:1: a question before the first section"),
        (": one\nw1 w2 w3\n", "questions-words.txt:2:9: 3 words"),
        (": one\nw1 w2 w3 w4 w0\n", "questions-words.txt:2:13: a fifth word"),
        (": one\n", "no question"),
    ] {
        let error = read(text, &words).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert!(Analogies::read(Path::new("no/file"), &Spellings::new(&words)).is_err());
}
