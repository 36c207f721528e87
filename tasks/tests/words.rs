//! Whole runs on a small text: they learn, they go on where they stopped, and other programs can
//! read what they leave behind.

use std::fmt::Write as _;
use std::path::Path;

use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use sterna::{Node, NodeConfig};
use sterna_tasks::report::Report;
use sterna_tasks::task::check::keys_named_are_keys_used;
use sterna_tasks::task::{Position, Progress, RunConfig, Silent, TaskError, train};
use sterna_tasks::words::{
    Architecture, Corpus, Evaluation, ReadOptions, VectorFormat, Words, WordsConfig,
};

const TOPICS: u32 = 20;
const WORDS_OF_A_TOPIC: u32 = 8;

/// Sentences about one topic each: most words are the topic's, the others common to all.
fn corpus() -> Corpus {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
    let mut text = String::new();
    for _ in 0..3000 {
        let topic = random.random_range(0..TOPICS);
        for _ in 0..10 {
            if random.random_range(0..3) == 0 {
                write!(text, "common{} ", random.random_range(0..10)).unwrap();
            } else {
                let word = random.random_range(0..WORDS_OF_A_TOPIC);
                write!(text, "t{topic}-{word} ").unwrap();
            }
        }
        text.push('\n');
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("topics.txt");
    std::fs::write(&path, text).unwrap();
    Corpus::read(&path, &ReadOptions { threads: 2, ..ReadOptions::default() }).unwrap()
}

fn config(architecture: Architecture) -> WordsConfig {
    WordsConfig {
        run: RunConfig { epochs: 20, ..WordsConfig::default().run },
        architecture,
        dim: 20,
        window: 3,
        sample: 1e-2,
        learning_rate: 0.05,
        ..WordsConfig::default()
    }
}

fn node(workers: usize) -> Node {
    // Tests run side by side: pinned, they would all sit on the first CPUs.
    let config = NodeConfig { seed: 1, pin: false, ..NodeConfig::with_workers(workers) };
    Node::start(config).unwrap()
}

fn run(workers: usize, config: &WordsConfig) -> Report {
    train(&node(workers), &words(config), &mut Silent).unwrap()
}

fn words(config: &WordsConfig) -> Words {
    Words::new(corpus(), config.clone()).unwrap()
}

/// The words and vectors of a `vectors.txt`.
fn read_text(path: &Path) -> Vec<(String, Vec<f32>)> {
    let text = std::fs::read_to_string(path).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("170 20"));
    let row = |line: &str| {
        let mut fields = line.split(' ');
        let word = fields.next().unwrap().to_owned();
        (word, fields.map(|field| field.parse().unwrap()).collect())
    };
    lines.map(row).collect()
}

/// Of the words that have a topic, the part whose nearest word is of the same one.
fn agreement(vectors: &[(String, Vec<f32>)]) -> f64 {
    let topic = |word: &str| word.split_once('-').map(|(topic, _)| topic.to_owned());
    let cosine = |one: &[f32], other: &[f32]| {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
        dot(one, other) / (dot(one, one) * dot(other, other)).sqrt()
    };
    let (mut same, mut all) = (0.0, 0.0);
    for (word, vector) in vectors {
        let Some(mine) = topic(word) else { continue };
        let others = vectors.iter().filter(|(other, _)| other != word);
        let near =
            others.max_by(|one, other| cosine(vector, &one.1).total_cmp(&cosine(vector, &other.1)));
        same += f64::from(u8::from(topic(&near.unwrap().0) == Some(mine)));
        all += 1.0;
    }
    same / all
}

#[test]
fn both_architectures_put_words_of_a_topic_side_by_side() {
    // All 170 words are hot: three workers who step on copies of their own, at one rate each, tear the model apart at 0.05.
    for (architecture, workers, learning_rate) in [
        (Architecture::SkipGram, 1, 0.05),
        (Architecture::SkipGram, 3, 0.01),
        (Architecture::Cbow, 2, 0.03),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut config = WordsConfig { learning_rate, ..config(architecture) };
        config.run.export = Some(folder.path().into());
        config.vectors = VectorFormat::Both;
        let report = run(workers, &config);
        assert!(report.loss[19] < 0.85 * report.loss[0], "{:?}", report.loss);
        // Of untrained vectors one in twenty is right.
        let vectors = read_text(&folder.path().join("vectors.txt"));
        let agreement = agreement(&vectors);
        assert!(agreement > 0.95, "{architecture:?}, {workers} workers: {agreement}");

        let mut names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
        names.sort_by_key(|name| name.as_ref().unwrap().file_name());
        let names: Vec<_> = names
            .into_iter()
            .map(|name| name.unwrap().file_name().into_string().unwrap())
            .collect();
        let expected = ["input.npy", "output.npy", "vectors.bin", "vectors.txt", "words.tsv"];
        assert_eq!(names, expected);
        // The same bits in all three forms.
        let matrix = std::fs::read(folder.path().join("input.npy")).unwrap();
        let binary = std::fs::read(folder.path().join("vectors.bin")).unwrap();
        let mut at = "170 20\n".len();
        for ((word, vector), row) in vectors.iter().zip(matrix[128..].chunks_exact(80)) {
            assert_eq!(&binary[at..=at + word.len()], format!("{word} ").as_bytes());
            at += word.len() + 1;
            assert_eq!(&binary[at..at + 80], row);
            let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
            assert_eq!(bytes, row);
            at += 81;
        }
        assert_eq!(at, binary.len());
    }
}

#[test]
fn analogies_and_similarities_are_asked_while_training_and_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let (mut questions, mut pairs) = (String::from(": gram\n"), String::from("# scored\n"));
    for topic in 0..TOPICS {
        let other = (topic + 1) % TOPICS;
        writeln!(questions, "t{topic}-0 t{topic}-1 t{topic}-2 unknown").unwrap();
        writeln!(questions, "t{topic}-0 t{topic}-1 t{topic}-2 t{topic}-3").unwrap();
        writeln!(pairs, "t{topic}-0\tt{topic}-1\t9.5").unwrap();
        writeln!(pairs, "t{topic}-0\tt{other}-1\t0.5").unwrap();
    }
    std::fs::write(folder.path().join("questions-words.txt"), questions).unwrap();
    std::fs::write(folder.path().join("Topics.tsv"), pairs).unwrap();
    let mut config = config(Architecture::SkipGram);
    config.run.valid_every = 10;
    let task = words(&config);
    let evaluation = Evaluation::read(folder.path(), &task.corpus().words).unwrap();
    let report = train(&node(2), &task.evaluated_by(evaluation), &mut Silent).unwrap();
    assert_eq!(report.quality["analogies_asked_30k"], 20.0);
    assert_eq!(report.quality["semantic_30k"], 0.0);
    // Two scores only, so that a perfect order has 0.87.
    assert!(report.quality["topics"] > 0.8, "{:?}", report.quality);
    assert_eq!(report.validations.len(), 2);
    assert_eq!(report.validations[1].quality["topics"], report.quality["topics"]);
}

#[test]
fn announced_keys_are_the_keys_of_the_step() {
    for architecture in [Architecture::SkipGram, Architecture::Cbow] {
        let task = words(&config(architecture));
        let difference = keys_named_are_keys_used(&node(1), &task, 10).unwrap();
        assert!(difference.is_none(), "{}", difference.unwrap());
    }
}

/// Asks the job to stop after so many steps, as Ctrl-C would.
struct StopAfter<'a>(&'a Node, u32);

impl Progress for StopAfter<'_> {
    fn step(&mut self, _: &Position) {
        self.1 = self.1.saturating_sub(1);
        if self.1 == 0 {
            self.0.request_stop();
        }
    }
}

#[test]
fn a_stopped_run_goes_on_to_the_same_vectors_as_one_that_was_not() {
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    let resumed = folder.path().join("resumed");
    let mut config = config(Architecture::SkipGram);
    config.run.epochs = 3;
    config.run.export = Some(whole.clone());
    run(1, &config);
    config.run.export = Some(resumed.clone());
    config.run.checkpoint = Some(folder.path().join("checkpoint"));
    let first = node(1);
    let report = train(&first, &words(&config), &mut StopAfter(&first, 45)).unwrap();
    assert!(report.stopped && report.epochs == 1, "{}", report.epochs);
    config.run.resume = true;
    assert!(!run(1, &config).stopped);
    let bytes = |folder: &Path| std::fs::read(folder.join("vectors.bin")).unwrap();
    assert!(bytes(&whole) == bytes(&resumed));
}

#[test]
fn a_rate_that_tears_the_model_apart_is_an_error_and_not_a_result() {
    let config = WordsConfig { learning_rate: 1e20, ..config(Architecture::SkipGram) };
    let error = train(&node(1), &words(&config), &mut Silent).unwrap_err();
    assert!(matches!(error, TaskError::Diverged { .. }), "{error}");
}
