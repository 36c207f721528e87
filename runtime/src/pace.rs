//! How a node tells the time and waits: by the machine's clock and sleep, or as a simulation says.
//!
//! All waiting of this crate goes through here, so that the same calls run under a seeded scheduler that lets
//! one thread run at a time and keeps a virtual clock.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A simulation's clock and scheduler.
pub trait Pace: Send + Sync {
    /// The virtual time since the start.
    fn now(&self) -> Duration;

    /// The caller waits for something: lets the simulation do a little, and maybe others run.
    fn pause(&self);
}

/// What a node goes by.
#[derive(Clone)]
pub(crate) enum Timing {
    /// The machine's clock; waits sleep.
    Real(Instant),
    /// Virtual time; waits let the simulation go on.
    Simulated(Arc<dyn Pace>),
}

impl Timing {
    pub(crate) fn real() -> Self {
        Self::Real(Instant::now())
    }

    /// Time since the start.
    pub(crate) fn now(&self) -> Duration {
        match self {
            Self::Real(started) => started.elapsed(),
            Self::Simulated(pace) => pace.now(),
        }
    }

    /// The same in nanoseconds.
    pub(crate) fn now_ns(&self) -> u64 {
        u64::try_from(self.now().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Lets a simulation go on in place of a sleep; `false` if the caller has to sleep itself.
    pub(crate) fn pause(&self) -> bool {
        match self {
            Self::Real(_) => false,
            Self::Simulated(pace) => {
                pace.pause();
                true
            }
        }
    }
}

impl fmt::Debug for Timing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Real(_) => "Real",
            Self::Simulated(_) => "Simulated",
        })
    }
}
