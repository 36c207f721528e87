//! The provider with threads as nodes, and with a process that is killed.

mod death;
mod joining;
mod nodes;
mod reads;
mod records;
