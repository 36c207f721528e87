//! Whole runs on a small graph of communities, from its files to the exported network.

use std::fmt::Write as _;
use std::path::Path;

use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use sterna::{Node, NodeConfig};
use sterna_tasks::gnn::{Dataset, Gnn, GnnConfig, ModelKind, SplitRule};
use sterna_tasks::report::Report;
use sterna_tasks::task::check::keys_named_are_keys_used;
use sterna_tasks::task::{ExportFormat, RunConfig, Silent, train};

const NODES: usize = 400;
const CLASSES: usize = 4;
const WORDS: usize = 40;

/// Nodes of four classes in turn. Each knows three of its own class and one of any; half of its six words are those of
/// its class. So a node alone says little, its neighbours more.
fn files(with_words: bool) -> tempfile::TempDir {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(17);
    let (mut nodes, mut edges) = (String::new(), String::new());
    for node in 0..NODES {
        let class = node % CLASSES;
        write!(nodes, "{class}").unwrap();
        for word in 0..if with_words { 6 } else { 0 } {
            let of_class = class + CLASSES * random.random_range(0..WORDS / CLASSES);
            let any = random.random_range(0..WORDS);
            write!(nodes, " {}:1", if word < 3 { of_class } else { any }).unwrap();
        }
        nodes.push('\n');
        for link in 0..4 {
            let of_class = class + CLASSES * random.random_range(0..NODES / CLASSES);
            let any = random.random_range(0..NODES);
            writeln!(edges, "{node}\t{}", if link < 3 { of_class } else { any }).unwrap();
        }
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("nodes.svmlight"), nodes).unwrap();
    std::fs::write(folder.path().join("edges.tsv"), edges).unwrap();
    folder
}

fn data(with_words: bool, rule: SplitRule) -> Dataset {
    Dataset::read(files(with_words).path(), Some(rule), 1).unwrap()
}

fn node(workers: usize) -> Node {
    // Tests run side by side: pinned, they would all sit on the first CPUs.
    let config = NodeConfig { seed: 1, pin: false, ..NodeConfig::with_workers(workers) };
    Node::start(config).unwrap()
}

fn trained(data: Dataset, config: GnnConfig, workers: usize) -> Report {
    let task = Gnn::new(data, config).unwrap();
    train(&node(workers), &task, &mut Silent).unwrap()
}

/// A small network, as it is after its last epoch: 20 nodes to validate on choose no epoch.
fn with_epochs(config: GnnConfig, epochs: u32) -> GnnConfig {
    let run = RunConfig { epochs, keep_best: false, ..config.run };
    GnnConfig { hidden: 16, run, ..config }
}

#[test]
fn both_networks_learn_from_features_with_few_labels_and_any_number_of_workers() {
    for model in ModelKind::ALL {
        for workers in [1, 3] {
            let data = data(true, SplitRule::Few);
            let config = with_epochs(GnnConfig::for_data(&data, model), 60);
            let report = trained(data, config, workers);
            let accuracy = report.quality["accuracy"];
            assert!(accuracy > 0.96, "{model:?}, {workers} workers: {accuracy}");
            assert!(report.quality["macro_f1"] > 0.96, "{:?}", report.quality);
        }
    }
}

#[test]
fn both_networks_learn_embeddings_where_there_are_no_features() {
    for model in ModelKind::ALL {
        let data = data(false, SplitRule::Many);
        let config = with_epochs(GnnConfig::for_data(&data, model), 60);
        assert_eq!(config.embedding, 64);
        // One worker, so that the figure is the same every time.
        let accuracy = trained(data, config, 1).quality["accuracy"];
        assert!(accuracy > 0.95, "{model:?}: {accuracy}");
    }
}

#[test]
fn batches_with_sampled_neighbours_learn_as_well() {
    for model in ModelKind::ALL {
        for with_words in [true, false] {
            let data = data(with_words, SplitRule::Many);
            let config = with_epochs(GnnConfig::for_data(&data, model), 15);
            let config = GnnConfig { batch: 32, fanout: vec![3, 4], ..config };
            let accuracy = trained(data, config, 1).quality["accuracy"];
            assert!(accuracy > 0.95, "{model:?}, words {with_words}: {accuracy}");
        }
    }
}

#[test]
fn steps_use_the_keys_that_they_named() {
    for model in ModelKind::ALL {
        for (with_words, fanout) in
            [(true, vec![]), (true, vec![2, 2]), (false, vec![]), (false, vec![2, 2])]
        {
            let data = data(with_words, SplitRule::Many);
            let config = GnnConfig::for_data(&data, model);
            let task = Gnn::new(data, GnnConfig { batch: 20, fanout, ..config }).unwrap();
            let found = keys_named_are_keys_used(&node(1), &task, 5).unwrap();
            assert!(found.is_none(), "{}", found.unwrap());
        }
    }
}

/// Rows and columns of a `.npy` file, from its header.
fn shape(folder: &Path, name: &str) -> String {
    let bytes = std::fs::read(folder.join(name)).unwrap();
    let header = String::from_utf8_lossy(&bytes[10..120]).into_owned();
    let from = header.find('(').unwrap();
    header[from..=header.find(')').unwrap()].into()
}

#[test]
fn weights_embeddings_and_names_are_exported() {
    let exported = |with_words: bool, model| {
        let folder = tempfile::tempdir().unwrap();
        let data = data(with_words, SplitRule::Many);
        let mut config = with_epochs(GnnConfig::for_data(&data, model), 2);
        config.run.export = Some(folder.path().to_path_buf());
        config.run.export_format = ExportFormat::Both;
        trained(data, config, 1);
        folder
    };
    let folder = exported(true, ModelKind::Sage);
    for (name, expected) in [
        ("layers.0.weight.npy", "(40, 16)"),
        ("layers.0.own.npy", "(40, 16)"),
        ("layers.0.bias.npy", "(1, 16)"),
        ("layers.1.weight.npy", "(16, 4)"),
        ("layers.1.own.npy", "(16, 4)"),
        ("layers.1.bias.npy", "(1, 4)"),
        ("hidden.npy", "(400, 16)"),
        ("scores.npy", "(400, 4)"),
    ] {
        assert_eq!(shape(folder.path(), name), expected, "{name}");
    }
    let classes = std::fs::read_to_string(folder.path().join("class.tsv")).unwrap();
    assert_eq!(classes, "0\t0\n1\t1\n2\t2\n3\t3\n");
    let folder = exported(false, ModelKind::Gcn);
    assert_eq!(shape(folder.path(), "embedding.npy"), "(400, 64)");
    assert_eq!(shape(folder.path(), "layers.0.weight.npy"), "(64, 16)");
    let bytes = std::fs::read(folder.path().join("model.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(tensors.tensor("layers.1.weight").unwrap().shape(), [16, 4]);
    assert_eq!(tensors.len(), 7);
    let numbers = std::fs::read_to_string(folder.path().join("node.tsv")).unwrap();
    assert_eq!(numbers.lines().nth(7), Some("7\t7"));
    // Hidden rows times the last weight, summed over neighbours, are the scores: so node 0's must be.
    let floats = |name: &str| -> Vec<f32> {
        let bytes = tensors.tensor(name).unwrap().data().to_vec();
        bytes.chunks(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect()
    };
    let (hidden, weight) = (floats("hidden"), floats("layers.1.weight"));
    let graph = data(false, SplitRule::Many).graph;
    let degree = |node: u32| (graph.of(node).len() + 1) as f32;
    for class in 0..CLASSES {
        let mut score = floats("layers.1.bias")[class];
        for &node in graph.of(0).iter().chain([&0]) {
            let row = &hidden[node as usize * 16..][..16];
            let product: f32 = (0..16).map(|k| row[k] * weight[k * CLASSES + class]).sum();
            score += product / (degree(0) * degree(node)).sqrt();
        }
        assert!((score - floats("scores")[class]).abs() < 1e-4, "class {class}: {score}");
    }
}

#[test]
fn data_without_features_need_embeddings() {
    let data = data(false, SplitRule::Many);
    let config = GnnConfig { embedding: 0, ..GnnConfig::for_data(&data, ModelKind::Gcn) };
    let error = Gnn::new(data, config).unwrap_err().to_string();
    assert!(error.contains("no features"), "{error}");
}
