//! Data sets of any size from a seed, written as they are made: none is ever whole in memory.
//!
//! Each generator writes a form that a task reads, from a model that the task can find. The same settings and seed give
//! the same bytes on every machine.

mod clicks;
mod zipf;

pub use clicks::ClickLog;
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
