//! Whole jobs over the simulated network: real nodes, workers and engines, one seed, one checker per invariant.

pub mod dice;
pub mod job;
pub mod past;
pub mod plan;
pub mod reduce;
pub mod stage;
pub mod tap;
pub mod wire;
