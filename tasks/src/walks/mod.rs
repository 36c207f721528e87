//! Node embeddings by random walks: `DeepWalk` and node2vec.
//!
//! Walks over a graph are sentences, and nodes are words: a [`Graph`] is walked ([`Walker`]) while
//! it is trained on, by the trainer of [`crate::words`], so that no walk is ever stored. An epoch is
//! so many walks from every node. Each batch draws its walks from its own random numbers, which
//! makes them the same whoever takes the batch up after a stop.
//!
//! The vectors are judged as the authors did: one logistic regression for each label on some of the
//! nodes, and for each other node as many labels as it has, the likeliest ones ([`Evaluation`]).
//!
//! Perozzi et al. 2014, "`DeepWalk`: Online Learning of Social Representations"; Grover and Leskovec
//! 2016, "node2vec: Scalable Feature Learning for Networks".

mod config;
mod evaluate;
mod graph;
mod labels;
mod logistic;
mod task;
mod walker;

pub use config::WalksConfig;
pub use evaluate::Evaluation;
pub use graph::{EdgeOptions, Graph};
pub use labels::Labels;
pub use logistic::LogisticRegression;
pub use task::Walks;
pub use walker::{Walker, visits};
