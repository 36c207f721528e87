//! Measuring and checking the fabric itself, below tables and workers: what `sterna bench fabric` and `sterna doctor` share.
//!
//! A [`Party`] is a node that does nothing but this. One party is active and calls the methods of [`read`] and [`record`]; the
//! others [`Party::serve`]. All of it is bounded in time, and a lost peer ends it with an error that names the peer.

mod batch;
mod party;
mod process;
mod read;
mod record;
mod rows;
mod spread;
mod threads;
mod wire;

pub(crate) use batch::{BatchPlan, Way};
pub(crate) use party::{Party, Waiting};
pub(crate) use process::Second;
pub(crate) use read::ReadPlan;
pub(crate) use record::{EchoPlan, RECORD_BYTES_MIN};
pub(crate) use spread::{Spread, Times};
pub(crate) use threads::in_one_process;
