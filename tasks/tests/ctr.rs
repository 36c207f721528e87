//! Whole trainings on planted clicks: every model learns what it can express, alone and with others,
//! goes on where it stopped, and leaves its model behind.

use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use sterna::{Node, NodeConfig};
use sterna_tasks::ctr::{Clicks, CtrConfig, CtrTask, Examples, ModelKind};
use sterna_tasks::report::Report;
use sterna_tasks::task::check::keys_named_are_keys_used;
use sterna_tasks::task::{ExportFormat, Position, Progress, RunConfig, Silent, TaskError, train};

const USERS: u32 = 60;
const ITEMS: u32 = 60;
const DAYS: u32 = 5;
/// Users and items fall into so many groups.
const GROUPS: u32 = 6;

/// What decides about a click besides a tenth of chance.
#[derive(Clone, Copy, PartialEq)]
enum Planted {
    /// The item and the day, each by itself.
    Sums,
    /// Whether the user's group and the item's are within half a turn of each other: no feature tells anything by itself.
    Pairs,
}

fn examples(planted: Planted, count: usize, random: &mut Xoshiro256PlusPlus) -> Examples {
    let mut examples = Examples::default();
    for _ in 0..count {
        let [user, item, day] = [USERS, ITEMS, DAYS].map(|most| random.random_range(0..most));
        let likes = match planted {
            Planted::Sums => (item * 7 + 13) % ITEMS + 10 * day > 50,
            Planted::Pairs => (user + item) % GROUPS < GROUPS / 2,
        };
        for feature in [user, USERS + item, USERS + ITEMS + day] {
            examples.feature(feature, 1.0);
        }
        examples.end(likes != random.random_bool(0.1));
    }
    examples
}

fn clicks(planted: Planted) -> Clicks {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
    Clicks {
        name: "planted".into(),
        features: (USERS + ITEMS + DAYS) as usize,
        names: (0..USERS + ITEMS + DAYS).map(|number| format!("f{number}")).collect(),
        fields: Some(3),
        train: examples(planted, 6000, &mut random),
        valid: examples(planted, 1000, &mut random),
        test: examples(planted, 2000, &mut random),
    }
}

fn config(model: ModelKind) -> CtrConfig {
    let run = RunConfig { epochs: 12, patience: 0, keep_best: true, ..RunConfig::default() };
    CtrConfig {
        run,
        dim: 8,
        hidden: vec![16, 8],
        batch: 128,
        dropout: 0.1,
        dense_learning_rate: 0.01,
        ..CtrConfig::of(model)
    }
}

fn node(workers: usize) -> Node {
    // Tests run side by side: pinned, they would all sit on the first CPUs.
    let config = NodeConfig { seed: 1, pin: false, ..NodeConfig::with_workers(workers) };
    Node::start(config).unwrap()
}

fn run(workers: usize, planted: Planted, config: &CtrConfig) -> Report {
    let task = CtrTask::new(config.clone(), clicks(planted)).unwrap();
    train(&node(workers), &task, &mut Silent).unwrap()
}

#[test]
fn every_model_learns_what_features_say_by_themselves() {
    for model in ModelKind::ALL {
        let quality = run(1, Planted::Sums, &config(model)).quality;
        // A tenth of chance leaves at most about 0.9.
        assert!(quality["auc"] > 0.86, "{model:?}: {quality:?}");
        assert!(quality["log_loss"] < 0.45, "{model:?}: {quality:?}");
    }
}

#[test]
fn all_but_the_linear_model_learn_pairs() {
    for model in ModelKind::ALL {
        for workers in [1, 3] {
            let quality = run(workers, Planted::Pairs, &config(model)).quality;
            if model == ModelKind::Lr {
                assert!(quality["auc"] < 0.7, "what is planted is no sum: {quality:?}");
            } else {
                assert!(quality["auc"] > 0.84, "{model:?}, {workers} workers: {quality:?}");
            }
        }
    }
}

#[test]
fn batches_name_the_keys_that_they_use() {
    for model in ModelKind::ALL {
        let task = CtrTask::new(config(model), clicks(Planted::Sums)).unwrap();
        let difference = keys_named_are_keys_used(&node(1), &task, 5).unwrap();
        assert!(difference.is_none(), "{model:?}: {}", difference.unwrap());
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
fn a_run_that_was_stopped_goes_on_to_the_same_model() {
    let folder = tempfile::tempdir().unwrap();
    let base = config(ModelKind::DcnV2);
    let run = RunConfig { epochs: 3, keep_best: false, ..base.run.clone() };
    let whole = CtrConfig { run, ..base };
    let task = |config: &CtrConfig| CtrTask::new(config.clone(), clicks(Planted::Pairs)).unwrap();
    let expected = train(&node(1), &task(&whole), &mut Silent).unwrap();
    let checkpoint = Some(folder.path().to_path_buf());
    let saved = RunConfig { checkpoint, ..whole.run.clone() };
    let first = CtrConfig { run: saved.clone(), ..whole.clone() };
    let stopped_node = node(1);
    let mut progress = StopAfter(&stopped_node, 60);
    assert!(train(&stopped_node, &task(&first), &mut progress).unwrap().stopped);
    let rest = CtrConfig { run: RunConfig { resume: true, ..saved }, ..whole };
    let found = train(&node(1), &task(&rest), &mut Silent).unwrap();
    assert_eq!(found.quality, expected.quality);
}

#[test]
fn a_model_is_exported_by_feature_and_part() {
    let folder = tempfile::tempdir().unwrap();
    let base = config(ModelKind::DeepFm);
    let run = RunConfig {
        epochs: 1,
        export: Some(folder.path().to_path_buf()),
        export_format: ExportFormat::Both,
        ..base.run.clone()
    };
    self::run(2, Planted::Sums, &CtrConfig { run, ..base });
    let bytes = std::fs::read(folder.path().join("model.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let shape = |name: &str| tensors.tensor(name).unwrap().shape().to_vec();
    let features = (USERS + ITEMS + DAYS) as usize;
    assert_eq!(shape("embedding"), [features, 8]);
    assert_eq!(shape("linear"), [features, 1]);
    assert_eq!(shape("tower.0.weight"), [16, 24]);
    assert_eq!(shape("tower.1.bias"), [1, 8]);
    assert_eq!(shape("head.tower.weight"), [1, 8]);
    assert_eq!(shape("bias"), [1, 1]);
    let names = std::fs::read_to_string(folder.path().join("feature.tsv")).unwrap();
    assert_eq!(names.lines().nth(3), Some("3\tf3"));
    assert!(folder.path().join("tower.0.weight.npy").is_file());
}

#[test]
fn examples_of_different_length_need_a_model_without_a_tower() {
    let mixed = || Clicks { fields: None, ..clicks(Planted::Sums) };
    assert!(CtrTask::new(config(ModelKind::Fm), mixed()).is_ok());
    let error = CtrTask::new(config(ModelKind::DeepFm), mixed()).unwrap_err();
    assert!(matches!(error, TaskError::Setting { name: "model", .. }), "{error}");
}
