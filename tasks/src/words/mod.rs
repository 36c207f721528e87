//! Word vectors: skip-gram and CBOW with negative sampling (word2vec).
//!
//! A [`Corpus`] is a text as numbers; [`Words`] trains on it. A batch is planned first: frequent
//! words dropped, windows laid, negatives drawn ([`step::Planner`]), which says what rows the step
//! will touch; then the step itself is plain vector code over a copy of these rows ([`step::Step`]).
//! Two tables hold the model: the input vectors, which are the result, and the output vectors. What
//! is not about text is in [`Trainer`], which other sources of sentences use as well.
//!
//! Mikolov et al. 2013a, "Efficient Estimation of Word Representations in Vector Space"; 2013b,
//! "Distributed Representations of Words and Phrases and their Compositionality".

mod config;
pub mod corpus;
pub mod evaluate;
mod export;
mod sample;
pub mod step;
mod task;
mod trainer;

pub use config::{Architecture, Shape, VectorFormat, WordsConfig};
pub use corpus::{Corpus, ReadOptions};
pub use evaluate::Evaluation;
pub(crate) use export::vectors as export_vectors;
pub use export::write_vectors;
pub use sample::Subsample;
pub use task::Words;
pub use trainer::{INPUT, OUTPUT, Rate, Trainer};
