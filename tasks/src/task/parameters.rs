//! A worker's access to the tables of its task.

use rustc_hash::FxHashSet;
use sterna::{Result, Table, Worker};

use super::samples::Choices;

/// The keys that a worker used: for tests that compare them with those it had named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// By table.
    pub used: Vec<FxHashSet<u64>>,
    /// By number of the sample that they came from.
    pub sampled: Vec<FxHashSet<u64>>,
}

/// A worker and the tables of its task, which are named by their number in
/// [`Task::tables`](super::Task::tables).
///
/// The calls are those of [`Worker`], which is behind [`Parameters::worker`] for all the others.
#[derive(Debug)]
pub struct Parameters<'a> {
    worker: &'a mut Worker,
    tables: &'a [Table],
    touched: Option<&'a mut Touched>,
    choices: Option<Choices<'a>>,
}

impl<'a> Parameters<'a> {
    /// Of this worker.
    #[must_use]
    pub fn new(worker: &'a mut Worker, tables: &'a [Table]) -> Self {
        Self { worker, tables, touched: None, choices: None }
    }

    /// The same, which writes down what keys are used.
    #[must_use]
    pub fn recorded(worker: &'a mut Worker, tables: &'a [Table], touched: &'a mut Touched) -> Self {
        touched.used.resize_with(tables.len(), FxHashSet::default);
        Self { worker, tables, touched: Some(touched), choices: None }
    }

    /// The same with the samples of a step.
    pub(super) fn choosing(mut self, choices: Choices<'a>) -> Self {
        self.choices = Some(choices);
        self
    }

    /// The worker itself.
    pub fn worker(&mut self) -> &mut Worker {
        self.worker
    }

    /// The table of this number.
    ///
    /// # Panics
    /// If the task has no such table.
    #[must_use]
    pub fn table(&self, number: usize) -> &'a Table {
        &self.tables[number]
    }

    /// All tables.
    #[must_use]
    pub fn tables(&self) -> &'a [Table] {
        self.tables
    }

    /// As [`Worker::pull`].
    ///
    /// # Errors
    /// As [`Worker::pull`].
    pub fn pull(&mut self, table: usize, keys: &[u64], values: &mut [f32]) -> Result<()> {
        self.touch(table, keys);
        self.worker.pull(&self.tables[table], keys, values)
    }

    /// As [`Worker::push`].
    ///
    /// # Errors
    /// As [`Worker::push`].
    pub fn push(&mut self, table: usize, keys: &[u64], gradients: &[f32]) -> Result<()> {
        self.touch(table, keys);
        self.worker.push(&self.tables[table], keys, gradients)
    }

    /// As [`Worker::add`].
    ///
    /// # Errors
    /// As [`Worker::add`].
    pub fn add(&mut self, table: usize, keys: &[u64], deltas: &[f32]) -> Result<()> {
        self.touch(table, keys);
        self.worker.add(&self.tables[table], keys, deltas)
    }

    /// As [`Worker::set`].
    ///
    /// # Errors
    /// As [`Worker::set`].
    pub fn set(&mut self, table: usize, keys: &[u64], values: &[f32]) -> Result<()> {
        self.touch(table, keys);
        self.worker.set(&self.tables[table], keys, values)
    }

    /// As [`Worker::pull_rows`]: values and optimizer state.
    ///
    /// # Errors
    /// As [`Worker::pull_rows`].
    pub fn pull_rows(&mut self, table: usize, keys: &[u64], rows: &mut [f32]) -> Result<()> {
        self.touch(table, keys);
        self.worker.pull_rows(&self.tables[table], keys, rows)
    }

    /// As [`Worker::set_rows`]: values and optimizer state.
    ///
    /// # Errors
    /// As [`Worker::set_rows`].
    pub fn set_rows(&mut self, table: usize, keys: &[u64], rows: &[f32]) -> Result<()> {
        self.touch(table, keys);
        self.worker.set_rows(&self.tables[table], keys, rows)
    }

    /// The next keys of the batch's sample with this number in [`Task::samples`](super::Task::samples); their rows are to be pulled
    /// with the others.
    ///
    /// # Errors
    /// As [`Worker::choose_sample`].
    ///
    /// # Panics
    /// Outside of a step, and if the task has no such sample.
    pub fn sample(&mut self, number: usize, keys: &mut [u64]) -> Result<()> {
        let choices = self.choices.as_mut().expect("samples belong to steps");
        choices.choose(self.worker, number, keys)?;
        if let Some(touched) = &mut self.touched {
            let count = touched.sampled.len().max(number + 1);
            touched.sampled.resize_with(count, FxHashSet::default);
            touched.sampled[number].extend(&*keys);
        }
        Ok(())
    }

    /// As [`Worker::set_learning_rate`].
    pub fn set_learning_rate(&mut self, table: usize, rate: f32) {
        self.worker.set_learning_rate(&self.tables[table], rate);
    }

    /// As [`Worker::all_reduce_sum`].
    ///
    /// # Errors
    /// As [`Worker::all_reduce_sum`].
    pub fn all_reduce_sum(&mut self, values: &mut [f64]) -> Result<()> {
        self.worker.all_reduce_sum(values)
    }

    fn touch(&mut self, table: usize, keys: &[u64]) {
        if let Some(touched) = &mut self.touched {
            touched.used[table].extend(keys);
        }
    }
}
