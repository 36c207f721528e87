//! Knowledge graph embeddings: ComplEx, DistMult, RESCAL, TransE and RotatE, trained with shared
//! sampled negatives.
//!
//! A knowledge graph is a set of triples (head, relation, tail). A model gives every entity and
//! relation a row such that true triples score higher than others. Each training step takes a
//! batch of triples and one pool of entities drawn uniformly, pulls the rows they touch, computes
//! the loss and its gradients for the whole block of queries and pool at once, and pushes one
//! gradient per row.
//!
//! | module | is for |
//! | --- | --- |
//! | [`data`] | reading and numbering triples; the WN18RR that ships inside |
//! | [`config`] | settings, and the recipes per data set and model |
//! | [`model`] | what a relation does to an entity; regularisers |
//! | [`score`] | blocks of scores, and their gradients |
//! | [`loss`] | softmax, logistic and self-adversarial losses |
//! | [`step`] | a batch's gradients, summed per row |
//! | [`filter`], [`evaluate`] | filtered ranks over the whole test set |
//! | [`Kge`] | the task, for [`train`](crate::task::train) |

pub mod config;
pub mod data;
pub mod evaluate;
pub mod filter;
pub mod loss;
pub mod model;
mod rank;
pub mod score;
pub mod step;
mod tables;
mod task;

use crate::dense::product;

pub use config::{KgeConfig, ModelKind, OptimizerKind, Regularizer};
pub use data::{Graph, Triple};
pub use loss::LossKind;
pub use task::{ENTITY, Kge, RELATION};
