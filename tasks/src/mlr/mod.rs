//! Multinomial logistic regression: which of several classes an example belongs to.
//!
//! Scores are linear, `s = W^T x + b`, and the loss is the cross-entropy of their softmax (Bishop
//! 2006, "Pattern Recognition and Machine Learning", section 4.3.4):
//!
//! ```text
//! L = -ln softmax(s)[class]        dL/ds = softmax(s) - onehot(class)
//! dL/dW[f] = x[f] dL/ds            dL/db = dL/ds
//! ```
//!
//! A row of the one table belongs to a feature and has a weight for each class; the last row
//! is the bias. A step pulls the rows of the features that its batch has, and pushes the mean gradient
//! of the batch. Where most features of most examples are there, both products are dense ones.
//!
//! | module | is for |
//! | --- | --- |
//! | [`data`] | examples from LIBSVM, IDX and CSV files |
//! | [`config`] | settings |
//! | [`Mlr`] | the task, for [`train`](crate::task::train) |

pub mod config;
pub mod data;
mod step;
mod task;

pub use config::{MlrConfig, OptimizerKind};
pub use data::{Dataset, Examples, Features};
pub use task::{Mlr, WEIGHT};
