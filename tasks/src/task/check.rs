//! Checks that any task must pass; for the tests of tasks.

use std::fmt;

use rustc_hash::FxHashSet;
use sterna::Node;

use super::samples::Sources;
use super::{Dealt, Epoch, Moment, Parameters, Part, Share, Task, TaskError, Touched, order};

/// A batch whose step used other keys than it had named.
#[derive(Debug)]
pub struct Unnamed {
    /// The batch, from 0.
    pub batch: usize,
    /// The table's number.
    pub table: usize,
    /// Used, but not named.
    pub surprising: Vec<u64>,
    /// Named, but not used.
    pub superfluous: Vec<u64>,
}

impl fmt::Display for Unnamed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "batch {}, table {}: used but not named {:?}, named but not used {:?}",
            self.batch, self.table, self.surprising, self.superfluous
        )
    }
}

/// Trains the first `batches` batches of a job with one worker, and compares the keys that each
/// names with those that its step uses. Returns the first difference.
///
/// All batches are drawn and have named their keys before the first step, as they are when keys
/// are announced ahead.
///
/// # Errors
/// Those of the task.
///
/// # Panics
/// If the node has no worker left.
pub fn keys_named_are_keys_used<T: Task>(
    node: &Node,
    task: &T,
    batches: usize,
) -> Result<Option<Unnamed>, TaskError> {
    let tables = task.tables().into_iter().map(|spec| node.create_table(spec));
    let tables = tables.collect::<Result<Vec<_>, _>>()?;
    let mut worker = node.worker(0)?;
    let share = Share { index: 0, count: 1 };
    task.start(&mut Parameters::new(&mut worker, &tables), share)?;
    let mut sources = Sources::new(task, &mut worker, &tables)?;
    let mut state = task.state(share);
    let mut drawn = Vec::new();
    let mut list = Vec::new();
    'all: for phase in 0..task.phases() {
        let epoch = Epoch { number: 0, phase, seed: task.run().seed, share };
        let dealt = task.order(&epoch, &mut list);
        let mut first = 0;
        while first < list.len() {
            let batch_len = task.batch_len(1);
            let (end, mine) = match dealt {
                Dealt::Shared => order::round(first, list.len(), batch_len, share),
                Dealt::Own => {
                    (list.len().min(first + batch_len), first..list.len().min(first + batch_len))
                }
            };
            let mut batch = T::Batch::default();
            let part = Part { examples: &list[mine], epoch, first };
            task.draw(&mut state, &part, &mut batch);
            let prepared = sources.prepare(task, (&batch, &part), &mut worker, 0..1)?;
            let mut keys = vec![Vec::new(); tables.len()];
            task.keys(&batch, &mut keys);
            drawn.push((batch, prepared, keys));
            if drawn.len() == batches {
                break 'all;
            }
            first = end;
        }
    }
    let sampled = task.samples();
    for (index, (mut batch, mut prepared, mut keys)) in drawn.into_iter().enumerate() {
        let mut touched = Touched::default();
        let parameters = Parameters::recorded(&mut worker, &tables, &mut touched);
        let mut parameters = parameters.choosing(sources.choices(&mut prepared));
        let moment = Moment { epoch: 0, progress: 0.0 };
        task.step(&mut state, &mut batch, moment, &mut parameters)?;
        // What a sample gave is as good as named.
        for ((table, _), chosen) in sampled.iter().zip(touched.sampled) {
            keys[*table].extend(chosen);
        }
        for (table, (named, used)) in keys.into_iter().zip(touched.used).enumerate() {
            let named: FxHashSet<u64> = named.into_iter().collect();
            if named != used {
                let surprising = used.difference(&named).copied().collect();
                let superfluous = named.difference(&used).copied().collect();
                return Ok(Some(Unnamed { batch: index, table, surprising, superfluous }));
            }
        }
    }
    Ok(None)
}
