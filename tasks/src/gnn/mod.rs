//! Graph neural networks that give nodes their classes: GCN and GraphSAGE.
//!
//! A layer sums the rows of each node's neighbours and multiplies by a weight; two layers see what is two
//! edges away. The first rows are given features, or embeddings that are learned. Weights, biases
//! and embeddings are tables of the manager: a row of the first weight belongs to a feature, so that a batch of
//! bags of words pulls and pushes only the words that occur in it.
//!
//! | module | is for |
//! | --- | --- |
//! | [`data`] | graphs from files, and who is trained on |
//! | [`graph`] | neighbours of nodes |
//! | [`block`] | which rows flow into which, for a batch; sampling of neighbours |
//! | [`layer`], [`network`] | forward and backward |
//!
//! [`Gnn`] is the task.

mod batch;
pub mod block;
mod config;
pub mod data;
mod evaluate;
mod export;
pub mod graph;
pub mod layer;
pub mod network;
mod step;
mod tables;
mod task;

pub use batch::Batch;
pub use config::{Decay, GnnConfig};
pub use data::{Dataset, SplitRule};
pub use network::ModelKind;
pub use step::Step;
pub use tables::{DENSE, INPUT};
pub use task::Gnn;
