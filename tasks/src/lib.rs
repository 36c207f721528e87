//! Training tasks on Sterna.
//!
//! A task brings what the parameter manager does not know: it reads a data set, turns batches of
//! it into rows to pull and gradients to push, and measures the quality of what was learnt. Tasks
//! see the manager through the public API of crate `sterna` alone. What all of them need is
//! written once: reading files in [`data`], the training loop in [`task`].

pub mod ctr;
pub mod data;
pub mod dense;
pub mod generate;
pub mod gnn;
pub mod kge;
pub mod known;
pub mod mf;
pub mod mlr;
pub mod plot;
pub mod report;
pub mod sparse;
pub mod task;
pub mod walks;
pub mod words;
