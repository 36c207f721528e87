//! Matrix factorisation as a task: what a batch is, and what its step does.

use std::io::Write;

use pulp::Arch;
use serde_json::{Value, json};
use sterna::{Init, Optimizer, TableSpec};
use sterna_kernels::RowShape;

use super::data::Labels;
use super::kernel::{self, Placed, Rates, Shape};
use super::plan::Plan;
use super::{Cell, MfConfig, Ratings, Schedule};
use crate::task::{
    Dealt, Description, Digest, Epoch, Export, Goal, Loss, Moment, Parameters, Part, Quality,
    RunConfig, Share, Split, Task, TaskError, settings_of, shuffled,
};

/// The table of rows: users.
pub const ROW: usize = 0;
/// The table of columns: items.
pub const COLUMN: usize = 1;

/// Cells of an evaluation whose rows are pulled at a time.
const EVALUATED: usize = 512;
/// Rows that are set at a time at the start.
const STARTED: u64 = 1024;

/// A factorisation of a matrix.
#[derive(Debug)]
pub struct Mf {
    ratings: Ratings,
    config: MfConfig,
    plan: Plan,
    shape: Shape,
    mean: f32,
    range: (f32, f32),
}

/// Ratings, and the rows and columns that they touch.
#[derive(Debug, Default)]
pub struct Batch {
    rows: Vec<u64>,
    columns: Vec<u64>,
    ratings: Vec<Placed>,
}

/// A worker's buffers.
#[derive(Debug)]
pub struct State {
    arch: Arch,
    row_places: Places,
    column_places: Places,
    rows: Copies,
    columns: Copies,
}

/// Rows as they are, and as they were pulled.
#[derive(Debug, Default)]
struct Copies {
    now: Vec<f32>,
    before: Vec<f32>,
}

/// Where each key of a batch got its place.
#[derive(Debug)]
struct Places {
    /// By key: the batch that it was last in, and its place there.
    found: Vec<(u32, u32)>,
    batch: u32,
}

impl Mf {
    /// Factorises `ratings` by `config`.
    ///
    /// # Errors
    /// Settings that cannot work.
    pub fn new(mut ratings: Ratings, config: MfConfig) -> Result<Self, TaskError> {
        config.check()?;
        let (rows, columns) = (ratings.rows.len(), ratings.columns.len());
        let plan = Plan::new(config.schedule, config.parts, &mut ratings.train, rows, columns);
        let MfConfig { rank, biases, optimizer, .. } = config;
        let shape = Shape { rank, biases, optimizer };
        let (mean, range) = (ratings.mean(), ratings.range());
        Ok(Self { ratings, config, plan, shape, mean, range })
    }

    /// The matrix; training cells lie as the schedule wants them.
    #[must_use]
    pub fn ratings(&self) -> &Ratings {
        &self.ratings
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &MfConfig {
        &self.config
    }

    /// What rows hold.
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// How the steps of this epoch go.
    #[must_use]
    pub fn rates(&self, epoch: u32) -> Rates {
        let config = &self.config;
        let decay = f64::from(config.decay).powf(f64::from(epoch));
        #[expect(clippy::cast_possible_truncation, reason = "a learning rate needs no f64")]
        let learning_rate = (f64::from(config.learning_rate) * decay) as f32;
        let (reg, reg_bias, mean) = (config.reg, config.reg_bias, self.mean);
        Rates { learning_rate, reg, reg_bias, mean, nonnegative: config.nonnegative }
    }

    /// Writes the first values of a row. Without biases the first predictions are to be the mean of
    /// the ratings, so factors begin around `sqrt(mean / rank)`.
    pub fn first_row(&self, table: usize, key: u64, row: &mut [f32]) {
        let config = &self.config;
        let shape = RowShape { optimizer: Optimizer::sgd(0.0), dim: config.rank };
        let (factors, rest) = row.split_at_mut(config.rank);
        let init = Init::Normal { std: config.init_std };
        let table = u16::try_from(table).expect("two tables");
        init.fill_row(&shape, config.run.seed, table, key, factors);
        rest.fill(0.0);
        #[expect(clippy::cast_precision_loss, reason = "a rank is far below 2^24")]
        let offset = (self.mean.max(0.0) / config.rank as f32).sqrt();
        for factor in factors {
            *factor += if config.biases { 0.0 } else { offset };
            if config.nonnegative {
                *factor = factor.abs();
            }
        }
    }

    fn cells(&self, split: Split) -> &[Cell] {
        match split {
            Split::Valid => &self.ratings.valid,
            Split::Test => &self.ratings.test,
        }
    }
}

impl Task for Mf {
    type Batch = Batch;
    type State = State;

    fn describe(&self) -> Description {
        let (biases, optimizer) = (self.config.biases, self.config.optimizer.name());
        let model = format!("mf{}_{optimizer}", if biases { "_biases" } else { "" });
        let dataset = self.ratings.name.clone();
        Description::new("mf", model, dataset, Goal::Minimise("rmse")).unit("ratings", 1.0)
    }

    fn run(&self) -> &RunConfig {
        &self.config.run
    }

    fn settings(&self) -> Value {
        settings_of(&self.config)
    }

    fn free_settings(&self) -> &'static [&'static str] {
        &["batch"]
    }

    fn digest(&self, digest: &mut Digest) {
        for labels in [&self.ratings.rows, &self.ratings.columns] {
            match labels {
                Labels::Names(names) => names.names().for_each(|name| digest.name(name)),
                Labels::Count(count) => digest.number(u64::from(*count)),
            }
        }
        for cells in [&self.ratings.train, &self.ratings.valid, &self.ratings.test] {
            digest.number(cells.len() as u64);
            for cell in cells {
                digest.numbers(&[cell.row, cell.column]);
                digest.floats(&[cell.value]);
            }
        }
    }

    /// Rows whose optimizer is in the row: the tables only add.
    fn tables(&self) -> Vec<TableSpec> {
        let table = |name, keys: usize| TableSpec::new(name, keys as u64, self.shape.row_len());
        vec![table("row", self.ratings.rows.len()), table("column", self.ratings.columns.len())]
    }

    fn data_bytes(&self) -> u64 {
        let ratings = &self.ratings;
        let cells = ratings.train.len() + ratings.valid.len() + ratings.test.len();
        (size_of::<Cell>() * cells) as u64
    }

    fn examples(&self) -> usize {
        self.ratings.train.len()
    }

    fn batch_len(&self, workers: usize) -> usize {
        match (self.config.batch, self.config.schedule) {
            (0, Schedule::Block) => {
                let blocks = (self.config.parts as usize).pow(2);
                (self.ratings.train.len() / blocks).clamp(1024, 16_384)
            }
            (0, Schedule::Columnwise) => 2048,
            // Workers do not see each other's steps on a popular column before a batch is done.
            (0, Schedule::Random) => (4096 / (workers * workers)).clamp(64, 4096),
            (batch, _) => batch,
        }
    }

    fn phases(&self) -> u32 {
        self.plan.phases()
    }

    fn order(&self, epoch: &Epoch, order: &mut Vec<u32>) -> Dealt {
        self.plan.order(epoch, &self.ratings.train, order).unwrap_or_else(|| {
            shuffled(order, epoch, self.examples());
            Dealt::Shared
        })
    }

    fn state(&self, _: Share) -> State {
        State {
            arch: Arch::new(),
            row_places: Places::new(self.ratings.rows.len()),
            column_places: Places::new(self.ratings.columns.len()),
            rows: Copies::default(),
            columns: Copies::default(),
        }
    }

    fn start(&self, parameters: &mut Parameters<'_>, share: Share) -> Result<(), TaskError> {
        for table in [ROW, COLUMN] {
            let (count, dim) = (parameters.table(table).keys(), parameters.table(table).dim());
            let mine = share.range(usize::try_from(count).expect("keys are u32"));
            let (first, end) = (mine.start as u64, mine.end as u64);
            for first in (first..end).step_by(usize::try_from(STARTED).expect("small")) {
                let keys: Vec<u64> = (first..end.min(first + STARTED)).collect();
                let mut rows = vec![0.0; keys.len() * dim];
                for (&key, row) in keys.iter().zip(rows.chunks_exact_mut(dim)) {
                    self.first_row(table, key, row);
                }
                parameters.set(table, &keys, &rows)?;
            }
        }
        Ok(())
    }

    fn draw(&self, state: &mut State, part: &Part<'_>, batch: &mut Batch) {
        let Batch { rows, columns, ratings } = batch;
        rows.clear();
        columns.clear();
        ratings.clear();
        state.row_places.begin();
        state.column_places.begin();
        for &number in part.examples {
            let Cell { row, column, value } = self.ratings.train[number as usize];
            let row = state.row_places.of(row, rows);
            let column = state.column_places.of(column, columns);
            ratings.push(Placed { row, column, value });
        }
    }

    fn keys(&self, batch: &Batch, keys: &mut [Vec<u64>]) {
        keys[ROW].extend(&batch.rows);
        keys[COLUMN].extend(&batch.columns);
    }

    fn check_job(&self, _: usize, workers: usize) -> Result<(), TaskError> {
        let parts = self.config.parts as usize;
        if self.config.schedule != Schedule::Random && workers > parts {
            let reason = "is fewer than the job has workers, of which some would never get ratings: set --parts to their number or more";
            return Err(TaskError::setting("parts", &parts, reason));
        }
        Ok(())
    }

    fn step(
        &self,
        state: &mut State,
        batch: &mut Batch,
        moment: Moment,
        parameters: &mut Parameters<'_>,
    ) -> Result<Loss, TaskError> {
        let State { arch, rows, columns, .. } = state;
        rows.pull(ROW, &batch.rows, parameters)?;
        columns.pull(COLUMN, &batch.columns, parameters)?;
        let (rates, ratings) = (self.rates(moment.epoch), &batch.ratings);
        let sum =
            kernel::train(*arch, &self.shape, &rates, &mut rows.now, &mut columns.now, ratings);
        rows.add(ROW, &batch.rows, *arch, parameters)?;
        columns.add(COLUMN, &batch.columns, *arch, parameters)?;
        Ok(Loss::of(sum, ratings.len()))
    }

    fn has(&self, split: Split) -> bool {
        !self.cells(split).is_empty()
    }

    fn evaluated(&self, split: Split, share: Share, keys: &mut [Vec<u64>]) {
        let cells = self.cells(split);
        let mine = &cells[share.range(cells.len())];
        keys[ROW].extend(mine.iter().map(|cell| u64::from(cell.row)));
        keys[COLUMN].extend(mine.iter().map(|cell| u64::from(cell.column)));
    }

    /// Root mean squared and mean absolute error of predictions, cut to the range of the training
    /// ratings.
    fn evaluate(
        &self,
        parameters: &mut Parameters<'_>,
        split: Split,
        share: Share,
    ) -> Result<Quality, TaskError> {
        let cells = self.cells(split);
        let mut sums = [0.0; 3];
        let [mut rows, mut columns] = [const { Vec::new() }; 2];
        let dim = self.shape.row_len();
        for cells in cells[share.range(cells.len())].chunks(EVALUATED) {
            let keys = |line: fn(&Cell) -> u32| -> Vec<u64> {
                cells.iter().map(|cell| u64::from(line(cell))).collect()
            };
            rows.resize(cells.len() * dim, 0.0);
            columns.resize(cells.len() * dim, 0.0);
            parameters.pull(ROW, &keys(|cell| cell.row), &mut rows)?;
            parameters.pull(COLUMN, &keys(|cell| cell.column), &mut columns)?;
            let both = rows.chunks_exact(dim).zip(columns.chunks_exact(dim));
            for (cell, (row, column)) in cells.iter().zip(both) {
                let said = self.shape.predict(row, column, self.mean);
                let error = f64::from(cell.value - said.clamp(self.range.0, self.range.1));
                sums[0] += error * error;
                sums[1] += error.abs();
                sums[2] += 1.0;
            }
        }
        parameters.all_reduce_sum(&mut sums)?;
        let [squares, absolutes, count] = sums;
        Ok(Quality::of([("rmse", (squares / count).sqrt()), ("mae", absolutes / count)]))
    }

    /// Factors of rows and columns, biases if there are any, names, and what predictions start from.
    fn export(&self, export: &mut Export<'_, '_>) -> Result<(), TaskError> {
        let rank = self.shape.rank;
        for (table, name, labels) in
            [(ROW, "row", &self.ratings.rows), (COLUMN, "column", &self.ratings.columns)]
        {
            let keys = 0..labels.len() as u64;
            export.matrix(format!("{name}_factors"), table, keys.clone(), 0..rank);
            if self.shape.biases {
                export.matrix(format!("{name}_bias"), table, keys, rank..rank + 1);
            }
            if let Labels::Names(names) = labels {
                export.names(name, names.names())?;
            }
        }
        let mean = if self.shape.biases { self.mean } else { 0.0 };
        let (least, most) = self.range;
        let about = settings_of(&json!({ "mean": mean, "least": least, "most": most }));
        export.file("prediction.json", |file, _| writeln!(file, "{about:#}"))
    }
}

impl Copies {
    fn pull(
        &mut self,
        table: usize,
        keys: &[u64],
        parameters: &mut Parameters<'_>,
    ) -> Result<(), TaskError> {
        self.now.resize(keys.len() * parameters.table(table).dim(), 0.0);
        parameters.pull(table, keys, &mut self.now)?;
        self.before.clear();
        self.before.extend_from_slice(&self.now);
        Ok(())
    }

    /// Adds to the table what has changed since the pull.
    fn add(
        &mut self,
        table: usize,
        keys: &[u64],
        arch: Arch,
        parameters: &mut Parameters<'_>,
    ) -> Result<(), TaskError> {
        kernel::changes(arch, &self.now, &mut self.before);
        parameters.add(table, keys, &self.before)?;
        Ok(())
    }
}

impl Places {
    fn new(keys: usize) -> Self {
        Self { found: vec![(0, 0); keys], batch: 0 }
    }

    /// A new batch: no key has a place yet.
    fn begin(&mut self) {
        if self.batch == u32::MAX {
            self.found.fill((0, 0));
            self.batch = 0;
        }
        self.batch += 1;
    }

    /// The place of `key`; a new one behind the last if it has none.
    #[inline]
    fn of(&mut self, key: u32, keys: &mut Vec<u64>) -> u32 {
        let (batch, place) = &mut self.found[key as usize];
        if *batch != self.batch {
            (*batch, *place) = (self.batch, u32::try_from(keys.len()).expect("keys are u32"));
            keys.push(u64::from(key));
        }
        *place
    }
}
