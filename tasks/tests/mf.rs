//! Whole factorisations of a small matrix: they learn, alone and together, stop and go on, and leave
//! their factors behind.

use rand::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use sterna::{Node, NodeConfig};
use sterna_tasks::mf::data::Labels;
use sterna_tasks::mf::{Cell, Mf, MfConfig, OptimizerKind, Ratings, Schedule};
use sterna_tasks::report::Report;
use sterna_tasks::task::check::keys_named_are_keys_used;
use sterna_tasks::task::{ExportFormat, Position, Progress, RunConfig, Silent, train};

const ROWS: u32 = 200;
const COLUMNS: u32 = 120;

/// Ratings of rank 3 around 3.5 with biases; one in nine is for the test. They spread by 1.1 around
/// their mean, and the noise in them by 0.1.
fn ratings() -> Ratings {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(5);
    let mut line = |count: u32| -> Vec<[f32; 4]> {
        (0..count).map(|_| std::array::from_fn(|_| random.random_range(-1.0..1.0))).collect()
    };
    let (rows, columns) = (line(ROWS), line(COLUMNS));
    let (mut train, mut test) = (Vec::new(), Vec::new());
    for row in 0..ROWS {
        for column in 0..COLUMNS {
            if random.random_range(0..3) != 0 {
                continue;
            }
            let (p, q) = (rows[row as usize], columns[column as usize]);
            let product: f32 = p[..3].iter().zip(&q[..3]).map(|(p, q)| p * q).sum();
            let noise = random.random_range(-0.17..0.17);
            let value = 3.5 + p[3] + q[3] + product + noise;
            let split = if random.random_range(0..9) == 0 { &mut test } else { &mut train };
            split.push(Cell { row, column, value });
        }
    }
    let (rows, columns) = (Labels::Count(ROWS), Labels::Count(COLUMNS));
    Ratings { name: "rank 3".into(), rows, columns, train, valid: Vec::new(), test }
}

fn config() -> MfConfig {
    MfConfig {
        run: RunConfig { epochs: 30, valid_every: 0, ..RunConfig::default() },
        rank: 8,
        learning_rate: 0.05,
        decay: 0.95,
        reg: 0.01,
        reg_bias: 0.01,
        parts: 4,
        ..MfConfig::default()
    }
}

fn node(workers: usize) -> Node {
    let config = NodeConfig { seed: 1, pin: false, ..NodeConfig::with_workers(workers) };
    Node::start(config).unwrap()
}

fn run(workers: usize, config: MfConfig) -> Report {
    train(&node(workers), &Mf::new(ratings(), config).unwrap(), &mut Silent).unwrap()
}

#[test]
fn every_model_optimizer_and_schedule_finds_what_the_ratings_are_made_of() {
    for (biases, optimizer, schedule, workers) in [
        (true, OptimizerKind::Sgd, Schedule::Block, 1),
        (true, OptimizerKind::Sgd, Schedule::Random, 2),
        (false, OptimizerKind::Sgd, Schedule::Columnwise, 3),
        (true, OptimizerKind::Adagrad, Schedule::Block, 3),
        (false, OptimizerKind::Adagrad, Schedule::Random, 1),
        (true, OptimizerKind::RowAdagrad, Schedule::Columnwise, 2),
        (false, OptimizerKind::RowAdagrad, Schedule::Block, 1),
    ] {
        let (learning_rate, decay) = match optimizer {
            OptimizerKind::Sgd => (0.05, 0.95),
            _ => (0.15, 1.0),
        };
        let config = MfConfig { biases, optimizer, schedule, learning_rate, decay, ..config() };
        let report = run(workers, config);
        let rmse = report.quality["rmse"];
        // The mean alone has 1.1; without the product of factors 0.6 remains.
        assert!(rmse < 0.25, "{biases} {optimizer:?} {schedule:?} {workers}: {rmse}");
        assert!(report.quality["mae"] < rmse);
    }
}

#[test]
fn blocks_give_the_same_model_with_any_number_of_workers() {
    let rmse = |workers| run(workers, config()).quality["rmse"];
    let one = rmse(1);
    for workers in [2, 4] {
        // Only the rounding of what is added depends on where batches end.
        assert!((rmse(workers) - one).abs() < 1e-5, "{one}, {workers} workers: {}", rmse(workers));
    }
}

#[test]
fn a_nonnegative_model_learns_and_has_no_negative_factor() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = MfConfig { biases: false, nonnegative: true, ..config() };
    config.run.export = Some(folder.path().into());
    let report = run(1, config);
    assert!(report.quality["rmse"] < 0.4, "{:?}", report.quality);
    for name in ["row_factors.npy", "column_factors.npy"] {
        let bytes = std::fs::read(folder.path().join(name)).unwrap();
        let values =
            bytes[128..].chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
        // Rows are sums of rounded changes.
        let least = values.fold(f32::INFINITY, f32::min);
        assert!(least > -1e-6, "{name}: {least}");
    }
}

#[test]
fn the_model_is_exported_without_its_optimizer() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = MfConfig { optimizer: OptimizerKind::Adagrad, ..config() };
    config.run = RunConfig {
        epochs: 1,
        export: Some(folder.path().into()),
        export_format: ExportFormat::Both,
        ..config.run
    };
    run(1, config);
    let tensors = std::fs::read(folder.path().join("model.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&tensors).unwrap();
    let shape = |name: &str| tensors.tensor(name).unwrap().shape().to_vec();
    assert_eq!(shape("row_factors"), [ROWS as usize, 8]);
    assert_eq!(shape("column_bias"), [COLUMNS as usize, 1]);
    let text = std::fs::read_to_string(folder.path().join("prediction.json")).unwrap();
    let about: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!((3.0..4.0).contains(&about["mean"].as_f64().unwrap()), "{text}");
}

/// Asks the job to stop after so many steps.
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
fn a_run_that_was_stopped_between_phases_goes_on_with_another_number_of_workers() {
    let folder = tempfile::tempdir().unwrap();
    let whole = run(1, config()).quality["rmse"];
    let mut saving = config();
    saving.run.checkpoint = Some(folder.path().into());
    let stopping = node(3);
    let task = Mf::new(ratings(), saving.clone()).unwrap();
    let stopped = train(&stopping, &task, &mut StopAfter(&stopping, 42)).unwrap();
    assert!(stopped.stopped && stopped.epochs < 30);
    saving.run.resume = true;
    let resumed = run(2, saving);
    assert!((resumed.quality["rmse"] - whole).abs() < 1e-5, "{whole}, {:?}", resumed.quality);
}

#[test]
fn announced_keys_are_the_keys_of_the_step() {
    for schedule in [Schedule::Block, Schedule::Columnwise, Schedule::Random] {
        let task = Mf::new(ratings(), MfConfig { schedule, batch: 50, ..config() }).unwrap();
        let difference = keys_named_are_keys_used(&node(1), &task, 12).unwrap();
        assert!(difference.is_none(), "{}", difference.unwrap());
    }
}
