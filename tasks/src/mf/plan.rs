//! Who trains which ratings when.
//!
//! | schedule | an epoch | workers meet on |
//! | --- | --- | --- |
//! | random | all ratings in a random order, dealt out round by round | rows and columns |
//! | columnwise | a worker has rows of its own for ever, and takes their ratings column after column | columns |
//! | block | a worker has rows of its own for ever, and in each phase columns of its own | nothing |
//!
//! Rows and columns are cut into `n` *parts* of about equally many ratings. Neighbouring parts of the rows
//! belong to the same worker.
//!
//! *Block* is DSGD (Gemulla et al. 2011, "Large-scale matrix factorization with distributed
//! stochastic gradient descent", section 4.2): the `n x n` blocks of the matrix fall into `n` strata of `n`
//! blocks that share no row and no column; a phase of the epoch is a stratum, and each goes on by one part of the
//! columns, so that only those at the border of two workers' rows change hands. Any number of workers, up to
//! `n`, makes the same steps as one. *Columnwise* takes a part of the columns in each phase; workers
//! begin at different places of it, so that they seldom meet.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

use rand::seq::SliceRandom;

use super::{Cell, Schedule};
use crate::task::{Dealt, Epoch};

/// Streams of an epoch's orders.
const STRATA: u64 = 2;
const WITHIN: u64 = 3;

/// The order of training, over cells that [`Plan::new`] has sorted.
#[derive(Debug)]
pub enum Plan {
    /// As the driver shuffles them.
    Random,
    /// Cells lie block by block.
    Block {
        /// Parts of rows, and of columns.
        parts: u32,
        /// Where each block begins, row part by row part, and the end.
        starts: Vec<usize>,
    },
    /// Cells lie column by column, the columns of a part together.
    Columnwise {
        /// The part of each row.
        row_parts: Vec<u32>,
        /// Where each column begins that has cells, and the end.
        columns: Vec<usize>,
        /// Which of `columns` belong to each part.
        parts: Vec<Range<usize>>,
    },
}

impl Plan {
    /// Plans a schedule, and sorts `cells` of a matrix of `rows` x `columns` for it.
    #[must_use]
    pub fn new(
        schedule: Schedule,
        parts: u32,
        cells: &mut [Cell],
        rows: usize,
        columns: usize,
    ) -> Self {
        match schedule {
            Schedule::Random => Self::Random,
            Schedule::Block => {
                let row_parts = balanced(parts, rows, cells.iter().map(|cell| cell.row));
                let column_parts = balanced(parts, columns, cells.iter().map(|cell| cell.column));
                let block = |cell: &Cell| {
                    let row = row_parts[cell.row as usize] as usize;
                    row * parts as usize + column_parts[cell.column as usize] as usize
                };
                cells.sort_by_cached_key(|cell| u32::try_from(block(cell)).expect("4096^2 blocks"));
                let starts = starts((parts as usize).pow(2), cells.iter().map(block));
                Self::Block { parts, starts }
            }
            Schedule::Columnwise => {
                let row_parts = balanced(parts, rows, cells.iter().map(|cell| cell.row));
                let column_parts = balanced(parts, columns, cells.iter().map(|cell| cell.column));
                let part = |cell: &Cell| column_parts[cell.column as usize];
                cells.sort_by_cached_key(|cell| (part(cell), cell.column));
                let mut columns: Vec<usize> = (0..cells.len())
                    .filter(|&at| at == 0 || cells[at - 1].column != cells[at].column)
                    .collect();
                let of = columns.iter().map(|&at| part(&cells[at]) as usize);
                let ends = starts(parts as usize, of);
                let parts = ends.windows(2).map(|ends| ends[0]..ends[1]).collect();
                columns.push(cells.len());
                Self::Columnwise { row_parts, columns, parts }
            }
        }
    }

    /// Phases of an epoch.
    #[must_use]
    pub fn phases(&self) -> u32 {
        match self {
            Self::Random => 1,
            Self::Block { parts, .. } => *parts,
            Self::Columnwise { parts, .. } => u32::try_from(parts.len()).expect("few parts"),
        }
    }

    /// Writes the cells that the asking worker trains in this phase. None if all workers share one
    /// random order.
    pub fn order(&self, epoch: &Epoch, cells: &[Cell], order: &mut Vec<u32>) -> Option<Dealt> {
        order.clear();
        match self {
            Self::Random => return None,
            Self::Block { parts, starts } => {
                // One after the other from a random first: most parts of the columns then stay with their worker.
                let shift =
                    (nth_of_shuffled(&Epoch { phase: 0, ..*epoch }, *parts) + epoch.phase) % parts;
                for row in (0..*parts).filter(|row| owner(*row, *parts, epoch) == epoch.share.index)
                {
                    let block = (row * parts + (row + shift) % parts) as usize;
                    let first = order.len();
                    order.extend(numbers(starts[block]..starts[block + 1]));
                    // By the part and not by the worker: any number of them takes the same order.
                    order[first..].shuffle(&mut epoch.random(WITHIN + u64::from(row)));
                }
            }
            Self::Columnwise { row_parts, columns, parts } => {
                let count = u32::try_from(parts.len()).expect("few parts");
                let part = parts[nth_of_shuffled(epoch, count) as usize].clone();
                let mut random = epoch.random(WITHIN);
                let mut turn: Vec<usize> = part.collect();
                turn.shuffle(&mut random);
                let begin = epoch.share.range(turn.len()).start;
                turn.rotate_left(begin);
                for column in turn {
                    let first = order.len();
                    let mine = columns[column]..columns[column + 1];
                    order.extend(numbers(mine).filter(|&cell| {
                        let row = cells[cell as usize].row as usize;
                        owner(row_parts[row], count, epoch) == epoch.share.index
                    }));
                    order[first..].shuffle(&mut random);
                }
            }
        }
        Some(Dealt::Own)
    }
}

/// The worker that has this part of the rows; neighbouring parts have the same one, as far as they can.
fn owner(part: u32, parts: u32, epoch: &Epoch) -> usize {
    part as usize * epoch.share.count / parts as usize
}

fn numbers(range: Range<usize>) -> impl Iterator<Item = u32> {
    range.map(|number| u32::try_from(number).expect("fewer than 2^32 examples"))
}

/// A number below `count` for each phase of an epoch, each once, the same for all workers.
fn nth_of_shuffled(epoch: &Epoch, count: u32) -> u32 {
    let mut all: Vec<u32> = (0..count).collect();
    all.shuffle(&mut Epoch { phase: 0, ..*epoch }.random(STRATA));
    all[epoch.phase as usize]
}

/// Deals out `count` lines so that all parts get about equally many cells: the longest first, each to the
/// part that has least.
fn balanced(parts: u32, count: usize, lines: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut lengths = vec![0_u32; count];
    lines.for_each(|line| lengths[line as usize] += 1);
    let mut longest: Vec<u32> = numbers(0..count).collect();
    longest.sort_by_key(|&line| (Reverse(lengths[line as usize]), line));
    let mut loads: BinaryHeap<Reverse<(u64, u32)>> = (0..parts).map(|p| Reverse((0, p))).collect();
    let mut found = vec![0; count];
    for line in longest {
        let mut least = loads.peek_mut().expect("there are parts");
        found[line as usize] = least.0.1;
        // A line without cells counts too, so that they do not all go to one part.
        least.0.0 += u64::from(lengths[line as usize].max(1));
    }
    found
}

/// Where each of `count` groups begins in a sorted list of groups, and the end.
fn starts(count: usize, groups: impl Iterator<Item = usize>) -> Vec<usize> {
    let mut starts = vec![0; count + 1];
    groups.for_each(|group| starts[group + 1] += 1);
    for group in 0..count {
        starts[group + 1] += starts[group];
    }
    starts
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_xoshiro::Xoshiro256PlusPlus;
    use rustc_hash::FxHashSet;

    use super::{Cell, Epoch, Plan, Schedule};
    use crate::task::Share;

    const ROWS: u32 = 60;
    const COLUMNS: u32 = 40;

    /// Cells of a matrix whose first rows and columns are fuller than the others.
    fn cells() -> Vec<Cell> {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut cell = || {
            let mut index =
                |count: u32| random.random_range(0..count).min(random.random_range(0..count));
            Cell { row: index(ROWS), column: index(COLUMNS), value: 1.0 }
        };
        (0..2000).map(|_| cell()).collect()
    }

    fn plan(schedule: Schedule, parts: u32) -> (Plan, Vec<Cell>) {
        let mut cells = cells();
        let plan = Plan::new(schedule, parts, &mut cells, ROWS as usize, COLUMNS as usize);
        (plan, cells)
    }

    fn list(plan: &Plan, cells: &[Cell], phase: u32, index: usize, count: usize) -> Vec<u32> {
        let epoch = Epoch { number: 3, phase, seed: 7, share: Share { index, count } };
        let mut order = Vec::new();
        plan.order(&epoch, cells, &mut order).expect("lists of their own");
        order
    }

    #[test]
    fn an_epoch_takes_every_cell_once_with_any_number_of_workers() {
        for schedule in [Schedule::Block, Schedule::Columnwise] {
            for workers in [1, 3, 8, 11] {
                let (plan, cells) = plan(schedule, 8);
                let mut all: Vec<u32> = (0..plan.phases())
                    .flat_map(|phase| (0..workers).map(move |index| (phase, index)))
                    .flat_map(|(phase, index)| list(&plan, &cells, phase, index, workers))
                    .collect();
                all.sort_unstable();
                assert!(all.into_iter().eq(0..2000), "{schedule:?}, {workers} workers");
            }
        }
    }

    #[test]
    fn workers_of_a_stratum_share_no_row_and_no_column() {
        let (plan, cells) = plan(Schedule::Block, 8);
        for phase in 0..plan.phases() {
            let [mut rows, mut columns] = [const { Vec::new() }; 2];
            for index in 0..3 {
                let list = list(&plan, &cells, phase, index, 3);
                let of = |line: fn(&Cell) -> u32| -> FxHashSet<u32> {
                    list.iter().map(|&number| line(&cells[number as usize])).collect()
                };
                rows.extend(of(|cell| cell.row));
                columns.extend(of(|cell| cell.column));
            }
            for lines in [rows, columns] {
                assert_eq!(lines.iter().collect::<FxHashSet<_>>().len(), lines.len());
            }
        }
    }

    #[test]
    fn blocks_are_of_about_one_size() {
        let (plan, cells) = plan(Schedule::Block, 4);
        for phase in 0..4 {
            for index in 0..4 {
                let size = list(&plan, &cells, phase, index, 4).len();
                assert!((90..160).contains(&size), "{size} of 2000 cells in one of 16 blocks");
            }
        }
    }

    #[test]
    fn columnwise_lists_stay_at_a_column_until_it_is_done() {
        let (plan, cells) = plan(Schedule::Columnwise, 4);
        for (phase, index) in [(0, 0), (1, 1), (3, 0)] {
            let list = list(&plan, &cells, phase, index, 2);
            let mut columns: Vec<u32> = list.iter().map(|&n| cells[n as usize].column).collect();
            columns.dedup();
            let distinct: FxHashSet<u32> = columns.iter().copied().collect();
            assert_eq!(distinct.len(), columns.len());
        }
    }
}
