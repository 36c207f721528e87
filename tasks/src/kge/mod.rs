//! Knowledge graph embeddings: ComplEx and DistMult, trained with shared sampled negatives.
//!
//! A knowledge graph is a set of triples (head, relation, tail). A model gives every entity and
//! relation a row such that true triples score higher than others. Each training step takes a
//! batch of triples and one pool of entities drawn uniformly, pulls the rows they touch, computes
//! the loss and its gradients by three matrix products, and pushes one gradient per row.
//!
//! | module | is for |
//! | --- | --- |
//! | [`data`] | reading and numbering triples; the WN18RR that ships inside |
//! | [`config`] | settings, and the recipes per data set |
//! | [`model`] | scores and their gradients |
//! | [`loss`] | sampled softmax with correction and masks |
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
pub mod step;
mod task;

use crate::dense::product;

pub use config::{KgeConfig, ModelKind};
pub use data::{Graph, Triple};
pub use task::{ENTITY, Kge, RELATION};
