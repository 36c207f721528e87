//! Every model and every loss on a small graph, to a quality that a wrong gradient does not reach.

use sterna::{Node, NodeConfig};
use sterna_tasks::kge::{Graph, Kge, KgeConfig, LossKind, ModelKind, OptimizerKind, Regularizer};
use sterna_tasks::task::{RunConfig, Silent, train};

/// Streets of houses: each has a next one, a last one a street away, and a town. What is asked for
/// follows from what is known: the house before from the next one, the town from the neighbour's.
fn graph() -> Graph {
    const STREETS: usize = 24;
    const HOUSES: usize = 10;
    let folder = tempfile::tempdir().unwrap();
    let [mut train, mut valid, mut test] = [const { String::new() }; 3];
    let mut number = 0;
    let mut tell = |line: String, asked: bool| {
        number += 1;
        let split = match number % 20 {
            0 if asked => &mut valid,
            1 | 2 if asked => &mut test,
            _ => &mut train,
        };
        *split += &line;
    };
    for street in 0..STREETS {
        for house in 0..HOUSES {
            let here = format!("h{street}-{house}");
            tell(format!("{here}\tin\ttown{}\n", street % 6), true);
            tell(format!("{here}\ton\tstreet{street}\n"), false);
            if house + 1 < HOUSES {
                let next = format!("h{street}-{}", house + 1);
                tell(format!("{here}\tnext\t{next}\n"), false);
                tell(format!("{next}\tbefore\t{here}\n"), true);
            }
        }
    }
    for (name, content) in [("train", train), ("valid", valid), ("test", test)] {
        std::fs::write(folder.path().join(format!("{name}.txt")), content).unwrap();
    }
    Graph::read(folder.path()).unwrap()
}

fn config(model: ModelKind, loss: LossKind) -> KgeConfig {
    let distance = matches!(model, ModelKind::TransE | ModelKind::RotatE);
    KgeConfig {
        run: RunConfig { epochs: 40, valid_every: 0, patience: 0, ..RunConfig::default() },
        model,
        dim: 16,
        reciprocal: false,
        batch: 64,
        negatives: 64,
        loss,
        margin: if distance && loss != LossKind::Softmax { 4.0 } else { 0.0 },
        correction: !distance,
        learning_rate: 0.2,
        regularizer: Regularizer::None,
        init_std: 0.1,
        ..KgeConfig::default()
    }
}

fn mrr(config: &KgeConfig) -> f64 {
    let node = NodeConfig { seed: 1, pin: false, ..NodeConfig::with_workers(1) };
    let task = Kge::new(graph(), config.clone()).unwrap();
    let report = train(&Node::start(node).unwrap(), &task, &mut Silent).unwrap();
    report.quality["mrr"]
}

/// Untrained rows reach 0.03. A figure is that of the seed, down by a tenth.
#[test]
fn every_model_learns_with_every_loss() {
    let floors = [
        (ModelKind::ComplEx, [0.71, 0.57, 0.71]),
        (ModelKind::DistMult, [0.54, 0.39, 0.51]),
        (ModelKind::Rescal, [0.77, 0.79, 0.84]),
        (ModelKind::TransE, [0.60, 0.48, 0.52]),
        (ModelKind::RotatE, [0.64, 0.86, 0.79]),
    ];
    for (model, floors) in floors {
        for (loss, floor) in LossKind::ALL.into_iter().zip(floors) {
            let mrr = mrr(&config(model, loss));
            assert!(mrr > floor, "{model:?} with {loss:?}: {mrr} is not above {floor}");
        }
    }
}

#[test]
fn every_option_of_a_recipe_trains() {
    type Change = fn(&mut KgeConfig);
    let changes: [(&str, f64, Change); 6] = [
        ("reciprocal", 0.7, |c| c.reciprocal = true),
        ("one_vs_all", 0.7, |c| c.one_vs_all = true),
        ("adam", 0.7, |c| (c.optimizer, c.learning_rate) = (OptimizerKind::Adam, 0.02)),
        ("dropout", 0.6, |c| (c.dropout_entity, c.dropout_relation) = (0.1, 0.1)),
        ("l2", 0.7, |c| {
            (c.regularizer, c.lambda_entity, c.lambda_relation) = (Regularizer::L2, 0.02, 0.02);
        }),
        ("dura", 0.7, |c| {
            (c.regularizer, c.lambda_entity, c.lambda_relation) = (Regularizer::Dura, 0.02, 0.02);
        }),
    ];
    for (name, floor, change) in changes {
        let mut config = config(ModelKind::ComplEx, LossKind::Softmax);
        change(&mut config);
        let mrr = mrr(&config);
        println!("{name}: {mrr}");
        assert!(mrr > floor, "{name}: {mrr} is not above {floor}");
    }
}

#[test]
fn every_scheme_of_sampling_trains_and_on_one_node_those_without_pools_are_the_same() {
    let mrr = |scheme: &str| {
        let sampling = scheme.parse().unwrap();
        mrr(&KgeConfig { sampling, ..config(ModelKind::ComplEx, LossKind::Softmax) })
    };
    let naive = mrr("naive");
    assert_eq!([mrr("preloc"), mrr("local")], [naive; 2]);
    for (scheme, floor) in [("naive", 0.7), ("pool:2", 0.65), ("postpone:2", 0.65)] {
        let mrr = mrr(scheme);
        assert!(mrr > floor, "{scheme}: {mrr} is not above {floor}");
    }
}
