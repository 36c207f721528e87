//! Row arithmetic of Sterna: copies of rows that others may write at the same time, vector kernels
//! chosen at run time, and optimizers as composed updates.
