//! One checker per invariant, for randomised runs: small observers that are told what happens, and say
//! what must not.
//!
//! They know nothing of the machines, so a fault there cannot hide itself here. Each gives a
//! [`Violation`] that names the invariant by its number; the run prints it beside its seed.
//!
//! | invariant | checker | is told |
//! | --- | --- | --- |
//! | I1 | [`Owners`] | grants that leave, shares, and what nodes hold at any moment |
//! | I2 | [`Conservation`] | updates, and rows at rest |
//! | I3 | [`SlotKeys`] | the keys of slots that READs under way look at |
//! | I4 | [`Passing`] | Acquires that leave |
//! | I5 | [`ExactlyOnce`] | answers that leave, and that arrive |
//! | I6 | [`BoundedWaits`] | Acquires that leave, and their answers that arrive |
//! | I7 | [`Limits`] | what lists hold |
//! | I8, I10 | [`OwnWrites`] | pushes and pulls |
//! | I9 | [`BoundedStaleness`] | clocks, pushes and pulls |
//! | I11 | [`Consuming`] | steps of engines |
//!
//! [`history`] checks the order of all operations on a key.
//!
//! Values are small whole numbers, so that sums in f32 are exact. [`OwnWrites`] wants rows with one
//! value per worker of the job, to which only that worker adds, one at a time: then each pull shows how
//! many pushes of every worker are in it.

mod bounds;
pub mod history;
mod own_writes;
mod owners;
mod places;
mod staleness;
mod sums;

use std::fmt;

pub use bounds::{BoundedWaits, Consuming, Limits};
pub use own_writes::OwnWrites;
pub use owners::{Owners, View};
pub use places::{Passing, SlotKeys};
pub use staleness::BoundedStaleness;
pub use sums::{Conservation, ExactlyOnce};

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{invariant}: {what}")]
pub struct Violation {
    /// Its number.
    pub invariant: &'static str,
    /// What was seen.
    pub what: String,
}

fn violated(invariant: &'static str, what: impl fmt::Display) -> Result<(), Violation> {
    Err(Violation { invariant, what: what.to_string() })
}
