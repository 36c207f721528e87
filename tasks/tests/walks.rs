//! Whole runs on a small graph of communities: they learn, and go on where they stopped.

use std::fmt::Write as _;
use std::path::Path;

use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use sterna::{Node, NodeConfig};
use sterna_tasks::report::Report;
use sterna_tasks::task::check::keys_named_are_keys_used;
use sterna_tasks::task::{Position, Progress, RunConfig, Silent, train};
use sterna_tasks::walks::{EdgeOptions, Evaluation, Graph, Labels, Walks, WalksConfig};

const COMMUNITIES: u32 = 6;
const MEMBERS: u32 = 30;

/// Communities whose members have most of their edges among themselves; a node is labelled with its
/// community, and the even communities with a label that they share.
fn walks(config: &WalksConfig) -> Walks {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
    let (mut edges, mut groups) = (String::new(), String::new());
    for node in 0..COMMUNITIES * MEMBERS {
        let own = node / MEMBERS;
        for _ in 0..5 {
            let community = if random.random_range(0..10) < 8 {
                own
            } else {
                random.random_range(0..COMMUNITIES)
            };
            let other = community * MEMBERS + random.random_range(0..MEMBERS);
            writeln!(edges, "n{node}\tn{other}").unwrap();
        }
        writeln!(groups, "n{node}\tcommunity{own}").unwrap();
        if own.is_multiple_of(2) {
            writeln!(groups, "n{node}\teven").unwrap();
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let (edge_file, group_file) =
        (folder.path().join("edges.tsv"), folder.path().join("groups.tsv"));
    std::fs::write(&edge_file, edges).unwrap();
    std::fs::write(&group_file, groups).unwrap();
    let graph = Graph::read(&edge_file, EdgeOptions::default()).unwrap();
    let labels = Labels::read(&group_file, &graph).unwrap();
    let evaluation = Evaluation::new(labels, 0.5, 4).unwrap();
    Walks::new(graph, config.clone()).unwrap().evaluated_by(evaluation)
}

fn config(p: f64, q: f64) -> WalksConfig {
    let run = RunConfig { epochs: 1, valid_every: 0, ..RunConfig::default() };
    WalksConfig {
        run,
        p,
        q,
        walks: 40,
        length: 20,
        dim: 16,
        window: 4,
        learning_rate: 0.05,
        ..WalksConfig::default()
    }
}

fn node(workers: usize) -> Node {
    // Tests run side by side: pinned, they would all sit on the first CPUs.
    let config = NodeConfig { seed: 1, pin: false, ..NodeConfig::with_workers(workers) };
    Node::start(config).unwrap()
}

fn run(workers: usize, config: &WalksConfig) -> Report {
    train(&node(workers), &walks(config), &mut Silent).unwrap()
}

#[test]
fn walks_of_both_orders_find_communities() {
    for (p, q, workers) in [(1.0, 1.0, 1), (0.5, 2.0, 2)] {
        let report = run(workers, &config(p, q));
        assert_eq!(report.model, if p == 1.0 { "deepwalk" } else { "node2vec" });
        // Whoever knows nothing but how frequent labels are has about 0.45 and 0.15.
        let (micro, macro_) = (report.quality["micro_f1"], report.quality["macro_f1"]);
        assert!(micro > 0.85 && macro_ > 0.85, "{:?}", report.quality);
    }
}

#[test]
fn announced_keys_are_the_keys_of_the_step() {
    let difference = keys_named_are_keys_used(&node(1), &walks(&config(1.0, 0.5)), 10).unwrap();
    assert!(difference.is_none(), "{}", difference.unwrap());
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
    let (whole, resumed) = (folder.path().join("whole"), folder.path().join("resumed"));
    let mut config = config(1.0, 1.0);
    config.walks = 5;
    config.run.export = Some(whole.clone());
    run(1, &config);
    config.run.export = Some(resumed.clone());
    config.run.checkpoint = Some(folder.path().join("checkpoint"));
    let first = node(1);
    let report = train(&first, &walks(&config), &mut StopAfter(&first, 7)).unwrap();
    assert!(report.stopped && report.epochs == 0);
    config.run.resume = true;
    assert!(!run(1, &config).stopped);
    let bytes = |folder: &Path| std::fs::read(folder.join("vectors.bin")).unwrap();
    assert!(bytes(&whole) == bytes(&resumed));
    let names = std::fs::read_to_string(whole.join("nodes.tsv")).unwrap();
    assert_eq!(names.lines().next(), Some("0\tn0"));
}
