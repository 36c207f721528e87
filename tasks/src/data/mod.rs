//! Reading data sets: what the loaders of all tasks share.
//!
//! Files are plain or packed ([`open`]); text is read line by line ([`Lines`]), and whatever is
//! wrong with it is told as `file:line:column: reason` ([`DataError`]). Names become numbers in the
//! order of their first appearance ([`Vocabulary`]).

mod error;
mod lines;
mod open;
mod vocabulary;

pub use error::DataError;
pub use lines::{Field, LINE_BYTES_MAX, Line, Lines};
pub use open::{files_of, find, open, plain_name, set_name};
pub use vocabulary::Vocabulary;
