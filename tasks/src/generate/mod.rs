//! Data sets of any size from a seed, written as they are made: none is ever whole in memory.
//!
//! Each generator writes a form that a task reads, from a model that the task can find. The same settings and seed give
//! the same bytes on every machine.

mod clicks;
mod graph;
mod matrix;
mod spread;
mod text;
mod triples;
mod zipf;

pub use clicks::ClickLog;
pub use graph::{Communities, Edges, GraphShape};
pub use matrix::{Cells, MatrixFile, MatrixSpec};
pub use spread::Spread;
pub use text::{Text, TextPairs, TextShape};
pub use triples::{TripleLog, Triples};
pub use zipf::Zipf;

/// What makes a data set, item by item: examples, edges, lines.
///
/// Generators are pulled part by part, so that who writes can show progress and stop between two parts.
pub trait Generator {
    /// Items to come in all, for progress.
    fn total(&self) -> u64;

    /// Appends the next at most `count` items to `out`; returns how many there were, 0 at the end.
    fn next_part(&mut self, count: u64, out: &mut Vec<u8>) -> u64;
}

/// Mixes all bits of a number into all others (the end of `splitmix64`).
const fn mixed(number: u64) -> u64 {
    let x = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}
