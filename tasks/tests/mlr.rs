//! Whole regressions on small data: they learn, alone and together, sparse and dense, and leave their
//! weights behind.

use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use sterna::{Node, NodeConfig};
use sterna_tasks::mlr::{Dataset, Examples, Features, Mlr, MlrConfig, OptimizerKind};
use sterna_tasks::report::Report;
use sterna_tasks::sparse::SparseRows;
use sterna_tasks::task::check::keys_named_are_keys_used;
use sterna_tasks::task::{RunConfig, Silent, train};

const FEATURES: usize = 60;

/// Four classes: most features of an example are those of its class, some are of another, and
/// every example has feature 0.
fn examples(count: usize, seed: u64, dense: bool) -> Examples {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let (mut rows, mut classes) = (SparseRows::new(FEATURES), Vec::new());
    for _ in 0..count {
        let class = random.random_range(0..4_u32);
        let feature = |random: &mut Xoshiro256PlusPlus| {
            let other = random.random_range(0..5) < 2;
            let of = if other { random.random_range(0..4) } else { class };
            4 * random.random_range(1..15) + of
        };
        let mut row = vec![(0, 1.0)];
        row.extend((0..12).map(|_| (feature(&mut random), random.random_range(0.5..1.5))));
        rows.push(row);
        classes.push(class);
    }
    if !dense {
        return Examples { features: Features::Sparse(rows), classes };
    }
    let mut full = vec![0.0; count * FEATURES];
    for (number, full) in full.chunks_mut(FEATURES).enumerate() {
        let (columns, values) = rows.row(number);
        columns.iter().zip(values).for_each(|(&column, value)| full[column as usize] += value);
    }
    Examples { features: Features::Dense(full, FEATURES), classes }
}

fn data(dense: bool) -> Dataset {
    let train = examples(2000, 1, dense);
    Dataset {
        name: "four classes".into(),
        features: FEATURES,
        classes: ["a", "b", "c", "d"].map(String::from).into(),
        valid: Examples::empty_like(&train),
        test: examples(1000, 2, dense),
        train,
    }
}

fn config() -> MlrConfig {
    let run = RunConfig { epochs: 6, ..RunConfig::default() };
    MlrConfig { run, batch: 32, ..MlrConfig::default() }
}

fn node(workers: usize) -> Node {
    let config = NodeConfig { seed: 1, pin: false, ..NodeConfig::with_workers(workers) };
    Node::start(config).unwrap()
}

fn run(workers: usize, dense: bool, config: MlrConfig) -> Report {
    train(&node(workers), &Mlr::new(data(dense), config).unwrap(), &mut Silent).unwrap()
}

#[test]
fn classes_are_learnt_sparse_and_dense_by_every_optimizer() {
    for (optimizer, learning_rate, dense, workers) in [
        (OptimizerKind::Adagrad, 0.1, false, 1),
        (OptimizerKind::Adagrad, 0.1, true, 2),
        (OptimizerKind::RowAdagrad, 0.1, false, 3),
        (OptimizerKind::Sgd, 0.3, true, 1),
        (OptimizerKind::Sgd, 0.3, false, 2),
    ] {
        let report = run(workers, dense, MlrConfig { optimizer, learning_rate, ..config() });
        // Counting the features of each class finds 0.93 of them; guessing finds 0.25.
        let found = (report.quality["accuracy"], report.quality["log_loss"]);
        assert!(found.0 > 0.88 && found.1 < 0.4, "{optimizer:?}, dense {dense}: {found:?}");
    }
}

#[test]
fn both_forms_of_the_same_data_give_the_same_model() {
    let [sparse, dense] = [false, true].map(|dense| run(1, dense, config()).quality["log_loss"]);
    assert!((sparse - dense).abs() < 1e-4, "{sparse}, {dense}");
}

#[test]
fn announced_keys_are_the_keys_of_the_step() {
    for dense in [false, true] {
        let task = Mlr::new(data(dense), config()).unwrap();
        let difference = keys_named_are_keys_used(&node(1), &task, 12).unwrap();
        assert!(difference.is_none(), "{}", difference.unwrap());
    }
}

#[test]
fn weights_and_bias_are_exported_with_the_names_of_classes() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config();
    config.run.export = Some(folder.path().into());
    run(1, false, config);
    let bytes = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    assert_eq!(bytes("weight.npy").len(), 128 + FEATURES * 4 * 4);
    assert_eq!(bytes("bias.npy").len(), 128 + 4 * 4);
    assert_eq!(bytes("class.tsv"), b"0\ta\n1\tb\n2\tc\n3\td\n");
}

#[test]
fn data_of_one_class_is_refused() {
    let mut data = data(false);
    data.classes.truncate(1);
    let error = Mlr::new(data, config()).unwrap_err().to_string();
    assert!(error.contains("2000 examples to train on, of 1 classes"), "{error}");
}
