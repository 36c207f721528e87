//! Cells of a large matrix: which are known follows Zipf's law, what they hold has low rank.
//!
//! Cell (i, j) holds `w_i . h_j` of factors drawn from `N(0, rank^-1/4)`, so that cells vary by 1, plus
//! noise. A row has a number of cells in proportion to its popularity, at most all columns, and its
//! columns are drawn without replacement by theirs. So no cell occurs twice, and only one row at a time is in
//! memory. (Gemulla et al. 2011 and the papers on parameter managers after it measure on such matrices.)

use std::io::Write;

use rand::Rng;
use rand::seq::SliceRandom;
use rand_xoshiro::Xoshiro256PlusPlus;
use sterna::{Init, Optimizer};
use sterna_kernels::RowShape;

use super::{Generator, Spread, Zipf};
use crate::mf::data::Labels;
use crate::mf::{Cell, Ratings};
use crate::task::{TaskError, stream};

/// Streams of what is drawn.
const CELLS: u64 = 2;
const ROWS: u64 = 3;
const COLUMNS: u64 = 4;

/// Factors of all columns are kept if they are no more floats than this.
const KEPT: u64 = 1 << 27;

/// A matrix to make.
#[derive(Clone, Debug, PartialEq)]
pub struct MatrixSpec {
    /// Rows.
    pub rows: u32,
    /// Columns.
    pub columns: u32,
    /// Known cells.
    pub cells: u64,
    /// Length of the factors behind the cells.
    pub rank: usize,
    /// Exponent of the popularity of rows and columns; 0 is uniform.
    pub zipf: f64,
    /// Standard deviation of the noise.
    pub noise: f32,
    /// Of everything random.
    pub seed: u64,
}

impl Default for MatrixSpec {
    /// A small one: a second of training.
    fn default() -> Self {
        Self {
            rows: 5_000,
            columns: 2_000,
            cells: 400_000,
            rank: 8,
            zipf: 0.5,
            noise: 0.1,
            seed: 1,
        }
    }
}

/// How many cells each row has, by its rank from 1.
#[derive(Clone, Copy, Debug)]
struct Lengths {
    exponent: f64,
    /// Cells of the first rank, if columns were enough.
    scale: f64,
    columns: f64,
}

/// Draws the columns of a row.
struct Columns {
    law: Zipf,
    exponent: f64,
    count: u32,
    /// By column: the row that it was last drawn for.
    drawn_for: Vec<u32>,
    keyed: Vec<(f64, u32)>,
}

impl MatrixSpec {
    /// Refuses what cannot be made, by name.
    ///
    /// # Errors
    /// [`TaskError::Setting`] for the first setting that cannot work.
    pub fn check(&self) -> Result<(), TaskError> {
        let all = u64::from(self.rows) * u64::from(self.columns);
        let positive = "must be at least 1";
        let finite = "must be a finite number, not negative";
        let wrong =
            |name, value: &dyn ToString, reason| Err(TaskError::setting(name, value, reason));
        match self {
            Self { rows: 0, .. } => wrong("rows", &self.rows, positive),
            Self { columns: 0, .. } => wrong("columns", &self.columns, positive),
            Self { cells: 0, .. } => wrong("cells", &self.cells, positive),
            Self { rank: 0, .. } => wrong("rank", &self.rank, positive),
            _ if self.cells > all => {
                wrong("cells", &self.cells, "must be at most rows times columns")
            }
            _ if !(self.zipf.is_finite() && self.zipf >= 0.0) => wrong("zipf", &self.zipf, finite),
            _ if !(self.noise.is_finite() && self.noise >= 0.0) => {
                wrong("noise", &self.noise, finite)
            }
            _ => Ok(()),
        }
    }

    /// All cells, row by row.
    ///
    /// # Errors
    /// A matrix that cannot be made.
    pub fn cells(&self) -> Result<Cells, TaskError> {
        self.check()?;
        Ok(Cells::new(self))
    }

    /// The cells as a Matrix Market file.
    ///
    /// # Errors
    /// A matrix that cannot be made.
    pub fn file(&self) -> Result<MatrixFile, TaskError> {
        Ok(MatrixFile { cells: self.cells()?, begun: false })
    }

    /// All cells in memory, about a hundredth of them held out for the test.
    ///
    /// # Errors
    /// A matrix that cannot be made.
    pub fn ratings(&self) -> Result<Ratings, TaskError> {
        let mut ratings = Ratings {
            name: format!("generated-{}x{}", self.rows, self.columns),
            rows: Labels::Count(self.rows),
            columns: Labels::Count(self.columns),
            train: self.cells()?.collect(),
            valid: Vec::new(),
            test: Vec::new(),
        };
        ratings.hold_out(0.01, self.seed);
        Ok(ratings)
    }
}

/// The cells of a matrix, as they are drawn.
pub struct Cells {
    spec: MatrixSpec,
    random: Xoshiro256PlusPlus,
    lengths: Lengths,
    columns: Columns,
    factors: Factors,
    row_spread: Spread,
    column_spread: Spread,
    /// Rows that were begun, and the cells that they should have together.
    rows_begun: u32,
    owed: f64,
    made: u64,
    /// The row under way: its number, its factors, and columns that are still to come.
    row: u32,
    w: Vec<f32>,
    chosen: Vec<u32>,
    /// A column's factors, where they are not kept.
    h: Vec<f32>,
}

impl Cells {
    fn new(spec: &MatrixSpec) -> Self {
        let spread = |count: u32, purpose| {
            Spread::new(u64::from(count), stream(spec.seed, purpose, [0; 3]).random())
        };
        Self {
            random: stream(spec.seed, CELLS, [0; 3]),
            lengths: Lengths::new(spec),
            columns: Columns::new(spec),
            factors: Factors::new(spec),
            row_spread: spread(spec.rows, ROWS),
            column_spread: spread(spec.columns, COLUMNS),
            rows_begun: 0,
            owed: 0.0,
            made: 0,
            row: 0,
            w: vec![0.0; spec.rank],
            chosen: Vec::new(),
            h: vec![0.0; spec.rank],
            spec: spec.clone(),
        }
    }

    /// Draws the columns of the next row; says whether there is one.
    fn next_row(&mut self) -> bool {
        if self.rows_begun == self.spec.rows {
            return false;
        }
        // Rounded so that the lengths of all rows add up.
        self.owed += self.lengths.of(self.rows_begun + 1);
        let all = self.spec.cells;
        let last = self.rows_begun + 1 == self.spec.rows;
        let until = if last { all } else { rounded(self.owed).min(all) };
        self.row = place(self.row_spread, self.rows_begun);
        self.rows_begun += 1;
        let length = until - self.made;
        self.columns.draw(self.rows_begun, length, &mut self.random, &mut self.chosen);
        self.factors.fill(0, self.row, &mut self.w);
        true
    }
}

impl Iterator for Cells {
    type Item = Cell;

    fn next(&mut self) -> Option<Cell> {
        let column = loop {
            match self.chosen.pop() {
                Some(column) => break place(self.column_spread, column),
                None if self.next_row() => {}
                None => return None,
            }
        };
        let h = self.factors.of_column(column, &mut self.h);
        let product: f32 = self.w.iter().zip(h).map(|(w, h)| w * h).sum();
        let value = product + self.spec.noise * normal(&mut self.random);
        self.made += 1;
        Some(Cell { row: self.row, column, value })
    }
}

/// The lines of a Matrix Market coordinate file.
pub struct MatrixFile {
    cells: Cells,
    begun: bool,
}

impl Generator for MatrixFile {
    fn total(&self) -> u64 {
        self.cells.spec.cells
    }

    fn next_part(&mut self, count: u64, out: &mut Vec<u8>) -> u64 {
        const WRITTEN: &str = "a vector takes everything";
        if !self.begun {
            self.begun = true;
            let MatrixSpec { rows, columns, cells, rank, zipf, noise, seed } = self.cells.spec;
            writeln!(out, "%%MatrixMarket matrix coordinate real general").expect(WRITTEN);
            writeln!(out, "% rank {rank}, zipf {zipf}, noise {noise}, seed {seed}").expect(WRITTEN);
            writeln!(out, "{rows} {columns} {cells}").expect(WRITTEN);
        }
        let mut made = 0;
        while made < count
            && let Some(Cell { row, column, value }) = self.cells.next()
        {
            let (row, column) = (u64::from(row) + 1, u64::from(column) + 1);
            writeln!(out, "{row} {column} {value:.6}").expect(WRITTEN);
            made += 1;
        }
        made
    }
}

impl Lengths {
    /// In proportion to popularity, except for the first rows, which are full.
    fn new(spec: &MatrixSpec) -> Self {
        let (exponent, columns) = (spec.zipf, f64::from(spec.columns));
        let mut left: f64 = (1..=spec.rows).map(|rank| weight(rank, exponent)).sum();
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 cells")]
        let mut cells = spec.cells as f64;
        let mut scale = 0.0;
        for rank in 1..=spec.rows {
            let weight = weight(rank, exponent);
            scale = cells / left;
            if scale * weight <= columns {
                break;
            }
            cells -= columns;
            left -= weight;
        }
        Self { exponent, scale, columns }
    }

    fn of(&self, rank: u32) -> f64 {
        (self.scale * weight(rank, self.exponent)).min(self.columns)
    }
}

impl Columns {
    fn new(spec: &MatrixSpec) -> Self {
        let law = Zipf::new(spec.columns, spec.zipf);
        let drawn_for = vec![0; spec.columns as usize];
        Self { law, exponent: spec.zipf, count: spec.columns, drawn_for, keyed: Vec::new() }
    }

    /// Draws `length` distinct columns (most popular first: 0, 1, ..) for a row, in a random order.
    fn draw(&mut self, row: u32, length: u64, random: &mut impl Rng, chosen: &mut Vec<u32>) {
        // From here on most draws would be of columns that the row has already.
        const CROWDED: u64 = 16;
        chosen.clear();
        let length = usize::try_from(length).expect("at most the columns");
        if (length as u64) < u64::from(self.count) / CROWDED {
            while chosen.len() < length {
                let column = self.law.sample(random) - 1;
                let drawn_for = &mut self.drawn_for[column as usize];
                if *drawn_for != row {
                    *drawn_for = row;
                    chosen.push(column);
                }
            }
        } else {
            // The least of exponential variates with these rates are a draw without replacement
            // (Efraimidis and Spirakis 2006).
            self.keyed.clear();
            self.keyed.extend((0..self.count).map(|column| {
                let variate = -(1.0 - random.random::<f64>()).ln();
                (variate / weight(column + 1, self.exponent), column)
            }));
            if (1..self.keyed.len()).contains(&length) {
                self.keyed.select_nth_unstable_by(length - 1, |a, b| a.0.total_cmp(&b.0));
            }
            chosen.extend(self.keyed[..length].iter().map(|&(_, column)| column));
        }
        chosen.shuffle(random);
    }
}

/// The factors behind the cells, a function of seed and place.
struct Factors {
    seed: u64,
    init: Init,
    shape: RowShape,
    /// Those of all columns, if they are not too many.
    columns: Vec<f32>,
}

impl Factors {
    fn new(spec: &MatrixSpec) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a rank is far below 2^24")]
        let std = (spec.rank as f32).powf(-0.25);
        let shape = RowShape { optimizer: Optimizer::sgd(0.0), dim: spec.rank };
        let mut factors =
            Self { seed: spec.seed, init: Init::Normal { std }, shape, columns: Vec::new() };
        if u64::from(spec.columns) * spec.rank as u64 <= KEPT {
            let mut columns = vec![0.0; spec.columns as usize * spec.rank];
            for (column, h) in (0..).zip(columns.chunks_exact_mut(spec.rank)) {
                factors.fill(1, column, h);
            }
            factors.columns = columns;
        }
        factors
    }

    fn of_column<'a>(&'a self, column: u32, buffer: &'a mut [f32]) -> &'a [f32] {
        let first = column as usize * self.shape.dim;
        if let Some(kept) = self.columns.get(first..first + self.shape.dim) {
            return kept;
        }
        self.fill(1, column, buffer);
        buffer
    }

    fn fill(&self, side: u16, line: u32, factors: &mut [f32]) {
        self.init.fill_row(&self.shape, self.seed, side, u64::from(line), factors);
    }
}

/// How popular a rank is, in proportion to the first.
fn weight(rank: u32, exponent: f64) -> f64 {
    f64::from(rank).powf(-exponent)
}

fn place(spread: Spread, number: u32) -> u32 {
    u32::try_from(spread.place(u64::from(number))).expect("rows and columns are u32")
}

fn rounded(cells: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count, not negative"
    )]
    let cells = cells.round() as u64;
    cells
}

/// A normal variate (Box and Muller 1958).
fn normal(random: &mut impl Rng) -> f32 {
    let (radius, angle): (f64, f64) = (1.0 - random.random::<f64>(), random.random());
    #[expect(clippy::cast_possible_truncation, reason = "noise needs no f64")]
    let variate = ((-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()) as f32;
    variate
}

#[cfg(test)]
mod tests {
    use rustc_hash::FxHashSet;

    use super::{Cell, Generator, MatrixSpec};
    use crate::mf::Ratings;
    use crate::mf::data::Files;

    fn spec() -> MatrixSpec {
        MatrixSpec { rows: 500, columns: 80, cells: 9_000, zipf: 1.1, ..MatrixSpec::default() }
    }

    fn cells(spec: &MatrixSpec) -> Vec<Cell> {
        spec.cells().unwrap().collect()
    }

    #[test]
    fn cells_are_distinct_and_as_many_as_asked_for() {
        let full = MatrixSpec { rows: 30, columns: 20, cells: 600, ..spec() };
        let even = MatrixSpec { zipf: 0.0, rank: 1, ..spec() };
        let row = MatrixSpec { rows: 1, columns: 9, cells: 4, ..spec() };
        for spec in [spec(), full, even, row] {
            let cells = cells(&spec);
            assert_eq!(cells.len() as u64, spec.cells);
            let places: FxHashSet<_> = cells.iter().map(|cell| (cell.row, cell.column)).collect();
            assert_eq!(places.len() as u64, spec.cells);
            assert!(cells.iter().all(|c| c.row < spec.rows && c.column < spec.columns));
        }
    }

    #[test]
    fn cells_vary_by_one_around_zero_and_few_lines_hold_many_of_them() {
        let cells = cells(&MatrixSpec { rows: 2000, columns: 2000, cells: 50_000, ..spec() });
        let mean = |of: fn(f64) -> f64| -> f64 {
            cells.iter().map(|cell| of(f64::from(cell.value))).sum::<f64>() / 50_000.0
        };
        assert!(mean(|value| value).abs() < 0.1);
        assert!((0.8..1.25).contains(&mean(|value| value * value)));
        for line in [|cell: &Cell| cell.row, |cell: &Cell| cell.column] {
            let mut lengths = vec![0_u32; 2000];
            cells.iter().for_each(|cell| lengths[line(cell) as usize] += 1);
            lengths.sort_unstable_by(|a, b| b.cmp(a));
            let first: u32 = lengths[..100].iter().sum();
            assert!(first > 12_500, "{first} of 50000");
        }
    }

    #[test]
    fn the_same_seed_makes_the_same_matrix_and_another_one_another() {
        let of = |seed| cells(&MatrixSpec { seed, ..spec() });
        assert_eq!(of(1), of(1));
        assert_ne!(of(1)[..100], of(2)[..100]);
    }

    #[test]
    fn what_is_written_is_read_back_whatever_the_parts() {
        let (spec, folder) = (spec(), tempfile::tempdir().unwrap());
        let [one, other] = [1000, 4096].map(|part| {
            let (mut file, mut text) = (spec.file().unwrap(), Vec::new());
            while file.next_part(part, &mut text) > 0 {}
            text
        });
        assert!(one == other);
        let train = folder.path().join("train.mtx");
        std::fs::write(&train, one).unwrap();
        let read = Ratings::read("read".into(), &Files { train, ..Files::default() }).unwrap();
        assert_eq!((read.rows.len(), read.columns.len()), (500, 80));
        let made = cells(&spec);
        assert_eq!(read.train.len(), made.len());
        for (read, made) in read.train.iter().zip(&made) {
            assert_eq!((read.row, read.column), (made.row, made.column));
            assert!((read.value - made.value).abs() < 1e-6);
        }
    }

    #[test]
    fn what_cannot_be_made_is_refused_by_name() {
        for (name, spec) in [
            ("rows", MatrixSpec { rows: 0, ..spec() }),
            ("columns", MatrixSpec { columns: 0, ..spec() }),
            ("cells", MatrixSpec { cells: 40_001, ..spec() }),
            ("cells", MatrixSpec { cells: 0, ..spec() }),
            ("rank", MatrixSpec { rank: 0, ..spec() }),
            ("zipf", MatrixSpec { zipf: -1.0, ..spec() }),
            ("noise", MatrixSpec { noise: f32::NAN, ..spec() }),
        ] {
            let error = spec.check().unwrap_err().to_string();
            assert!(error.starts_with(&format!("setting {name} = ")), "{error}");
        }
    }
}
