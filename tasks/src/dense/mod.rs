//! Dense layers with hand-written gradients, on flat row-major `f32` slices.
//!
//! A batch of `n` inputs of a layer is a slice of `n * inputs` floats, one row after the other. A layer's
//! `forward` computes its outputs; its `backward` takes the loss's gradient by the outputs and gives those
//! by the inputs and by the layer's parameters. Gradients of parameters are *added* to what is in their
//! buffer, so that several uses of a parameter sum up; gradients of inputs are overwritten.
//!
//! Layout do not live in layers: they are parts of one flat buffer that [`Layout`] lays out over
//! the rows of a table, so that the manager places and replicates them like any other rows.
//!
//! | module | is for |
//! | --- | --- |
//! | [`layout`] | dense weights and running statistics as rows of a table |
//! | [`linear`] | `y = x W^T + b` |
//! | [`activation`] | rectifier |
//! | [`dropout`] | inverted dropout |
//! | [`batch_norm`] | batch normalisation with running statistics |
//! | [`cross_entropy`](mod@cross_entropy) | softmax over classes |
//! | [`tower`] | a stack of hidden layers of these |

pub mod activation;
pub mod batch_norm;
pub mod cross_entropy;
#[cfg(test)]
pub(crate) mod difference;
pub mod dropout;
pub mod layout;
pub mod linear;
pub(crate) mod product;
pub mod tower;

pub use batch_norm::BatchNorm;
pub use dropout::Dropout;
pub use layout::{DenseRows, Layout, PartId, Start};
pub use linear::Linear;
pub use tower::{Tower, TowerShape};
