//! Sparse matrices of features and of graphs, and their products with dense rows.
//!
//! A bag of words times a layer's weights, a node's neighbours summed up, the gradient of either: all of
//! them are a sparse matrix, or its transpose, times a dense one, and run through two kernels.
//!
//! | module | is for |
//! | --- | --- |
//! | [`rows`] | compressed rows of (column, value) pairs |
//! | `distinct` | the distinct columns of a batch's rows |
//! | [`product`] | `Y = S X` and `X += S^T Y` |

mod distinct;
pub mod product;
pub mod rows;

pub(crate) use distinct::Distinct;
pub use rows::SparseRows;
