//! The gradients of every model against finite differences of its objective: the mean log loss of a batch and the
//! squares of its rows.

use super::{Batch, State};
use crate::ctr::{Clicks, CtrConfig, CtrTask, Examples, ModelKind};
use crate::dense::difference::{assert_gradient, numbers};
use crate::task::Share;

const FEATURES: usize = 9;
const FIELDS: usize = 3;
const EXAMPLES: usize = 7;

/// Examples of three fields, some features in many of them, one twice in the same.
fn examples(unit: bool) -> Examples {
    let mut examples = Examples::default();
    for number in 0..EXAMPLES {
        for field in 0..FIELDS {
            let feature = [number % 3, 3 + number % 2, 5 + number % 4][field];
            let feature = if number == 4 { 7 } else { feature };
            let value = if unit || field != 1 { 1.0 } else { 0.5 + 0.25 * number as f32 };
            examples.feature(u32::try_from(feature).unwrap(), value);
        }
        examples.end(number % 3 == 0);
    }
    examples
}

fn task(config: CtrConfig, unit: bool) -> CtrTask {
    let clicks = Clicks {
        features: FEATURES,
        fields: Some(FIELDS),
        train: examples(unit),
        ..Clicks::default()
    };
    CtrTask::new(config, clicks).unwrap()
}

/// The whole training set as a batch, rows and dense parameters drawn.
fn prepared(task: &CtrTask) -> (State, Batch) {
    let mut state = State::new(task, 1);
    let mut batch = Batch { seed: 11, ..Batch::default() };
    state.take(&mut batch, &task.clicks.train, 0..EXAMPLES);
    state.rows = numbers(batch.keys.len() * task.config.row_parts().row_len(), 1);
    state.dense.values = task.layout.start_values(2);
    (state, batch)
}

fn objective(state: &mut State, task: &CtrTask, batch: &Batch) -> f64 {
    let squares: f64 = state.rows.iter().map(|&w| f64::from(w) * f64::from(w)).sum();
    let loss = state.gradients(task, batch);
    assert_eq!(loss.count, EXAMPLES as f64);
    loss.mean() + 0.5 * f64::from(task.config.l2) * squares
}

#[test]
fn gradients_of_every_model_are_those_of_finite_differences() {
    for model in ModelKind::ALL {
        for (batch_norm, dropout, unit) in
            [(false, 0.0, true), (false, 0.4, false), (true, 0.4, true)]
        {
            let hidden = vec![6, 4];
            let base = CtrConfig::of(model);
            let config = CtrConfig { dim: 5, hidden, batch_norm, dropout, l2: 0.3, ..base };
            let task = task(config, unit);
            let (mut state, batch) = prepared(&task);
            objective(&mut state, &task, &batch);
            let (by_rows, by_dense) = (state.row_gradients.clone(), state.dense.gradients.clone());
            let (rows, dense) = (state.rows.clone(), state.dense.values.clone());
            assert_gradient(model.name(), &rows, &by_rows, |at| {
                state.rows.copy_from_slice(at);
                objective(&mut state, &task, &batch)
            });
            state.rows.copy_from_slice(&rows);
            // Moves of running statistics are no gradients: they stand behind the trained parts.
            let trained = task.layout.trained_floats();
            assert_gradient(model.name(), &dense[..trained], &by_dense[..trained], |at| {
                state.dense.values[..trained].copy_from_slice(at);
                objective(&mut state, &task, &batch)
            });
        }
    }
}

#[test]
fn a_batch_lists_each_feature_once() {
    let task = task(CtrConfig::of(ModelKind::Lr), true);
    let (_, batch) = prepared(&task);
    let mut keys = batch.keys.clone();
    keys.sort_unstable();
    assert_eq!(keys, [0, 1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(batch.labels, task.clicks.train.labels());
    let share = Share { index: 0, count: 1 };
    assert_eq!(crate::task::Task::state(&task, share).dense.keys().len(), task.layout.rows());
}
