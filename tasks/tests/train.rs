//! Whole runs on a small graph: they learn, they go on where they stopped, they leave their
//! embeddings behind.

use std::path::Path;

use sterna::{Node, NodeConfig};
use sterna_tasks::kge::{Graph, Kge, KgeConfig, ModelKind, Regularizer};
use sterna_tasks::report::Report;
use sterna_tasks::task::check::keys_named_are_keys_used;
use sterna_tasks::task::{
    EpochEnd, ExportFormat, Position, Progress, RunConfig, Silent, TaskError, train,
};

/// People in married couples, each with a town. Of some couples only one direction is known; the
/// other one is asked for: who learns that marriage is symmetric knows it.
fn graph() -> Graph {
    let folder = tempfile::tempdir().unwrap();
    let [mut train, mut valid, mut test] = [const { String::new() }; 3];
    for couple in 0..150 {
        let (one, other) = (format!("p{couple}a"), format!("p{couple}b"));
        train += &format!("{one}\tmarried\t{other}\n");
        let back = match couple % 10 {
            0 => &mut valid,
            1 | 2 => &mut test,
            _ => &mut train,
        };
        *back += &format!("{other}\tmarried\t{one}\n");
        train += &format!("{one}\tlives in\tt{}\n", couple % 12);
        train += &format!("{other}\tlives in\tt{}\n", couple % 12);
    }
    for (name, content) in [("train", train), ("valid", valid), ("test", test)] {
        std::fs::write(folder.path().join(format!("{name}.txt")), content).unwrap();
    }
    Graph::read(folder.path()).unwrap()
}

fn node(workers: usize) -> Node {
    // Tests run side by side: pinned, they would all sit on the first CPUs.
    let config = NodeConfig { seed: 1, pin: false, ..NodeConfig::with_workers(workers) };
    Node::start(config).unwrap()
}

fn config() -> KgeConfig {
    with_run(RunConfig { epochs: 60, valid_every: 20, ..RunConfig::default() })
}

fn with_run(run: RunConfig) -> KgeConfig {
    KgeConfig {
        run,
        dim: 16,
        reciprocal: false,
        regularizer: Regularizer::N3,
        batch: 64,
        negatives: 64,
        lambda_entity: 0.02,
        lambda_relation: 0.01,
        init_std: 0.1,
        ..KgeConfig::default()
    }
}

/// Asks the job to stop after so many steps, as Ctrl-C would.
struct StopAfter<'a> {
    node: &'a Node,
    steps_left: u32,
}

impl Progress for StopAfter<'_> {
    fn step(&mut self, _: &Position) {
        self.steps_left = self.steps_left.saturating_sub(1);
        if self.steps_left == 0 {
            self.node.request_stop();
        }
    }
}

/// Writes down what it was told.
#[derive(Default)]
struct Diary {
    ends: Vec<EpochEnd>,
    notes: Vec<String>,
}

impl Progress for Diary {
    fn epoch(&mut self, end: &EpochEnd) {
        self.ends.push(end.clone());
    }

    fn note(&mut self, text: &str) {
        self.notes.push(text.into());
    }
}

fn kge(config: &KgeConfig) -> Kge {
    Kge::new(graph(), config.clone()).unwrap()
}

fn run(workers: usize, config: &KgeConfig, progress: &mut dyn Progress) -> Report {
    train(&node(workers), &kge(config), progress).unwrap()
}

fn run_and_stop(workers: usize, config: &KgeConfig, steps: u32) -> Report {
    let node = node(workers);
    let mut progress = StopAfter { node: &node, steps_left: steps };
    train(&node, &kge(config), &mut progress).unwrap()
}

#[test]
fn a_model_learns_a_symmetric_relation_and_tells_how_it_goes() {
    let mut diary = Diary::default();
    let report = run(2, &KgeConfig { reciprocal: true, ..config() }, &mut diary);
    // Untrained rows reach 0.02 among 312 entities.
    assert!(report.quality["mrr"] > 0.5, "{:?}", report.quality);
    assert!(report.loss[59] < 0.5 * report.loss[0], "{:?}", report.loss);
    assert_eq!(report.epoch_seconds.len(), 60);
    assert_eq!(diary.ends.len(), 60);
    let validated = diary.ends.iter().filter(|end| end.valid.is_some());
    assert!(validated.map(|end| end.epoch).eq([20, 40, 60]));
}

#[test]
fn a_stopped_run_goes_on_to_the_same_result_as_one_that_was_not() {
    let folder = tempfile::tempdir().unwrap();
    let whole = run(1, &config(), &mut Silent);
    let saving = saving(folder.path());
    // In the middle of an epoch, and again, in another one.
    let stopped = run_and_stop(1, &saving, 101);
    assert!(stopped.stopped);
    let resuming = resuming(saving);
    let stopped = run_and_stop(1, &resuming, 77);
    assert!(stopped.stopped && stopped.epochs > 10);
    let mut diary = Diary::default();
    let resumed = run(1, &resuming, &mut diary);
    assert!(diary.notes[0].starts_with("continuing from"), "{:?}", diary.notes);
    assert!(!resumed.stopped);
    assert_eq!(resumed.quality, whole.quality);
    assert_eq!(resumed.epochs, 60);
}

#[test]
fn another_number_of_workers_goes_on_from_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let saving = saving(folder.path());
    run_and_stop(3, &saving, 40);
    let resumed = run(2, &resuming(saving), &mut Silent);
    assert!(!resumed.stopped);
    assert!(resumed.quality["mrr"] > 0.5, "{:?}", resumed.quality);
}

#[test]
fn only_the_newest_checkpoint_stays_and_nothing_unfinished() {
    let folder = tempfile::tempdir().unwrap();
    let mut saving = saving(folder.path());
    (saving.run.checkpoint_every, saving.run.epochs) = (2, 6);
    run(2, &saving, &mut Silent);
    let mut names: Vec<_> = names_in(folder.path());
    names.sort();
    assert_eq!(names, ["epoch-0006-example-0", "latest"]);
    let shards = names_in(&folder.path().join("epoch-0006-example-0"));
    assert_eq!(shards.len(), 3, "{shards:?}");
}

#[test]
fn a_checkpoint_of_other_settings_or_a_damaged_one_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let saving = saving(folder.path());
    run_and_stop(1, &saving, 20);
    let resuming = resuming(saving);
    let refuse =
        |config: &KgeConfig| train(&node(2), &kge(config), &mut Silent).unwrap_err().to_string();
    let error = refuse(&KgeConfig { negatives: 65, ..resuming.clone() });
    assert!(error.contains("negatives = 64, and this run has 65"), "{error}");

    let error = refuse(&KgeConfig { lambda_entity: 0.3, ..resuming.clone() });
    assert!(error.contains("lambda_entity = 0.02, and this run has 0.3"), "{error}");

    let name = std::fs::read_to_string(folder.path().join("latest")).unwrap();
    let shard = folder.path().join(name).join("entity-00000.npy");
    let bytes = std::fs::read(&shard).unwrap();
    std::fs::write(&shard, &bytes[..bytes.len() / 2]).unwrap();
    let error = refuse(&resuming);
    assert!(error.contains("entity-00000.npy"), "{error}");
}

#[test]
fn a_model_that_gets_no_better_stops_early_and_returns_to_its_best() {
    let mut diary = Diary::default();
    // Once all couples are known, more epochs only move the figure up and down.
    let config =
        with_run(RunConfig { epochs: 2000, valid_every: 20, patience: 2, ..RunConfig::default() });
    let report = run(2, &config, &mut diary);
    assert!(report.epochs < 2000 && !report.stopped);
    assert!(diary.notes[0].contains("stopping early"), "{:?}", diary.notes);
    assert!(diary.notes[1].contains("best model"), "{:?}", diary.notes);
}

#[test]
fn embeddings_are_exported_with_their_names() {
    let folder = tempfile::tempdir().unwrap();
    run(2, &exporting(folder.path(), ExportFormat::Npy), &mut Silent);
    let mut names = names_in(folder.path());
    names.sort();
    assert_eq!(names, ["entity.npy", "entity.tsv", "relation.npy", "relation.tsv"]);
    let list = std::fs::read_to_string(folder.path().join("entity.tsv")).unwrap();
    assert_eq!(list.lines().count(), 312);
    assert_eq!(list.lines().next(), Some("0\tp0a"));
    let matrix = std::fs::read(folder.path().join("entity.npy")).unwrap();
    assert_eq!(matrix.len(), 128 + 312 * 32 * 4);
}

#[test]
fn safetensors_hold_the_same_bits_as_the_matrices() {
    let folder = tempfile::tempdir().unwrap();
    run(1, &exporting(folder.path(), ExportFormat::Both), &mut Silent);
    let tensors = std::fs::read(folder.path().join("model.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&tensors).unwrap();
    for (name, rows) in [("entity", 312), ("relation", 2)] {
        let matrix = std::fs::read(folder.path().join(format!("{name}.npy"))).unwrap();
        let tensor = tensors.tensor(name).unwrap();
        assert_eq!(tensor.shape(), [rows, 32]);
        assert!(tensor.data() == &matrix[128..], "{name}");
    }
}

#[test]
fn matrices_under_several_keys_are_exported_row_by_row() {
    let folder = tempfile::tempdir().unwrap();
    let config = exporting(folder.path(), ExportFormat::Both);
    run(1, &KgeConfig { model: ModelKind::Rescal, dim: 65, ..config }, &mut Silent);
    let tensors = std::fs::read(folder.path().join("model.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&tensors).unwrap();
    assert_eq!(tensors.tensor("entity").unwrap().shape(), [312, 65]);
    assert_eq!(tensors.tensor("relation").unwrap().shape(), [2 * 65, 65]);
    let matrix = std::fs::read(folder.path().join("relation.npy")).unwrap();
    assert!(tensors.tensor("relation").unwrap().data() == &matrix[128..]);
}

#[test]
fn announced_keys_are_the_keys_of_the_step_with_and_without_reciprocals() {
    for reciprocal in [false, true] {
        // 65 x 65 values of a matrix lie under 5 keys.
        for (model, dim) in [(ModelKind::ComplEx, 16), (ModelKind::Rescal, 65)] {
            let config = KgeConfig { model, dim, reciprocal, ..config() };
            let difference = keys_named_are_keys_used(&node(1), &kge(&config), 12).unwrap();
            assert!(difference.is_none(), "{}", difference.unwrap());
        }
    }
}

#[test]
fn drawing_batches_ahead_changes_nothing() {
    let quality = |ahead| {
        let run = RunConfig { epochs: 5, ahead, ..RunConfig::default() };
        self::run(1, &with_run(run), &mut Silent).quality
    };
    let one_by_one = quality(0);
    assert!([1, 7, 1000].into_iter().all(|ahead| quality(ahead) == one_by_one));
}

#[test]
fn a_rate_that_tears_the_model_apart_is_an_error_and_not_a_result() {
    let config = KgeConfig { learning_rate: 1e30, ..config() };
    let error = train(&node(2), &kge(&config), &mut Silent).unwrap_err();
    assert!(matches!(error, TaskError::Diverged { .. }), "{error}");
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn saving(folder: &Path) -> KgeConfig {
    let mut config = config();
    config.run.checkpoint = Some(folder.into());
    config
}

fn resuming(mut saving: KgeConfig) -> KgeConfig {
    saving.run.resume = true;
    saving
}

fn exporting(folder: &Path, export_format: ExportFormat) -> KgeConfig {
    let export = Some(folder.into());
    with_run(RunConfig { epochs: 1, export, export_format, ..RunConfig::default() })
}
