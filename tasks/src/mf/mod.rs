//! Matrix factorisation: a vector for each row and column whose inner product is the cell.
//!
//! Of a large matrix few cells are known: ratings of items by users. The model
//!
//! ```text
//! r(u, i) = mu + b_u + b_i + p_u . q_i          with biases
//! r(u, i) = p_u . q_i                           without
//! ```
//!
//! is fitted by stochastic gradient descent, a rating at a time (Koren, Bell and Volinsky 2009,
//! "Matrix factorization techniques for recommender systems", eq. 5):
//!
//! ```text
//! L(u, i) = 1/2 (r - r(u, i))^2 + reg/2 (|p_u|^2 + |q_i|^2) + reg_b/2 (b_u^2 + b_i^2)
//! ```
//!
//! so that a row is regularised as often as it occurs.
//!
//! # How a batch is trained
//!
//! A step pulls the rows of its ratings once, goes through the ratings *one by one* on these copies,
//! and adds to the tables by how much each row has changed. So the size of a batch does not change
//! what is learnt, only how often rows travel. The optimizer's state lies behind the values
//! in the same rows ([`kernel`]), for the same reason: what it changes by adds up, like the values.
//!
//! | module | is for |
//! | --- | --- |
//! | [`data`] | ratings from text and Matrix Market files |
//! | [`config`] | settings, and the recipes per data set |
//! | [`kernel`] | the steps of one rating |
//! | [`plan`] | who trains which ratings when: random, columnwise, in blocks |
//! | [`Mf`] | the task, for [`train`](crate::task::train) |

pub mod config;
pub mod data;
pub mod kernel;
mod plain;
pub mod plan;
mod task;

pub use config::{MfConfig, OptimizerKind, Schedule};
pub use data::{Cell, Ratings};
pub use plain::Plain;
pub use task::{COLUMN, Mf, ROW};
