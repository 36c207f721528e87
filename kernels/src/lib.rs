//! Row arithmetic of Sterna: copies of rows that others may write at the same time, vector kernels
//! chosen at run time, and optimizers as composed updates.

pub mod element;
pub mod initialise;
pub mod optimizer;
pub mod rowcopy;
pub mod simd;
pub mod update;

pub use element::{Element, ElementType};
pub use initialise::Init;
pub use optimizer::{Optimizer, RowShape};
pub use rowcopy::RowPtr;
pub use simd::{InstructionSet, instruction_set};
pub use update::{GradientsFull, Update, UpdateError};
