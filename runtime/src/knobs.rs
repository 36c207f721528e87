//! Settings of the manager that nobody has to touch, for those who study it.
//!
//! Every knob has a name, a default that is right, and a sentence ([`Knobs::list`]); `--knob NAME=VALUE` of the command line sets one.

use crate::error::{Error, Result};
use crate::trial::Least;

/// How far ahead of its start an intent is acted on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Act {
    /// At once.
    Immediate,
    /// As late as a round trip, its spread and the pace of the worker's clock allow.
    #[default]
    Learned,
}

/// See the module. Times are in the unit of their name.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Knobs {
    /// When intents are acted on.
    pub act: Act,
    /// Of the Poisson distribution of clocks during two round trips: how sure an intent is in time.
    pub quantile: f64,
    /// Weight of the newest measurement in the smoothed rate of clocks per round trip.
    pub smoothing: f64,
    /// That rate before anything was measured.
    pub rate_start: f64,
    /// Least pause between two rounds of what replicas owe and are owed.
    pub pause_us: u32,
    /// A pause is at least so many times as long as the round before it took.
    pub pause_factor: u32,
    /// Rounds that find nothing, after which the owner is asked to tell of the next change.
    pub quiet_rounds: u32,
    /// How long a row stays where it came to before it is given away again.
    pub residency_us: u32,
    /// Memory of a node for rows of other nodes.
    pub pool_kib: u32,
    /// How many keys rank 0 uses in a phase of a trial whether acting on intents pays, at least; 0: no trials, all are acted on.
    pub trial_keys: u32,
    /// How long a phase of a trial lasts, at least.
    pub trial_us: u32,
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            act: Act::Learned,
            quantile: 0.9999,
            smoothing: 0.1,
            rate_start: 10.0,
            pause_us: 100,
            pause_factor: 20,
            quiet_rounds: 2,
            residency_us: 100,
            pool_kib: 4 << 20,
            trial_keys: 0,
            trial_us: 150_000,
        }
    }
}

/// A knob, for messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Knob {
    /// Its name.
    pub name: &'static str,
    /// What it is without being set.
    pub default: String,
    /// What it does.
    pub about: &'static str,
}

impl Knobs {
    /// All knobs.
    #[must_use]
    pub fn list() -> Vec<Knob> {
        let defaults = Self::default();
        let knob = |name, default: &dyn ToString, about| Knob {
            name,
            default: default.to_string(),
            about,
        };
        vec![
            knob("act", &"learned", "when intents are acted on: learned, or immediate"),
            knob(
                "quantile",
                &defaults.quantile,
                "how sure a learned time is early enough (AdaPM: Poisson quantile)",
            ),
            knob(
                "smoothing",
                &defaults.smoothing,
                "weight of the newest measured rate of clocks per round trip",
            ),
            knob(
                "rate_start",
                &defaults.rate_start,
                "clocks per round trip before anything was measured",
            ),
            knob(
                "pause_us",
                &defaults.pause_us,
                "least pause between two rounds of replicas, in microseconds",
            ),
            knob(
                "pause_factor",
                &defaults.pause_factor,
                "pause after a round, in durations of that round: 20 is 5 % of a core",
            ),
            knob(
                "quiet_rounds",
                &defaults.quiet_rounds,
                "rounds without a change before a holder asks to be told",
            ),
            knob(
                "residency_us",
                &defaults.residency_us,
                "how long a row stays where it came to, in microseconds",
            ),
            knob(
                "pool_kib",
                &defaults.pool_kib,
                "memory of a node for rows of other nodes, in KiB; 0: none come",
            ),
            knob(
                "trial_keys",
                &defaults.trial_keys,
                "keys of a phase of trials whether intents pay, such as 25000; 0: always act on them",
            ),
            knob(
                "trial_us",
                &defaults.trial_us,
                "least length of either phase of such a trial, in microseconds",
            ),
        ]
    }

    /// Sets a knob by its name.
    ///
    /// # Errors
    /// For a name that there is not, or a value that makes no sense.
    pub fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let fault = |what: &str| Err(Error::Config(format!("knob {name}={value}: {what}")));
        match name {
            "act" => match value {
                "learned" => self.act = Act::Learned,
                "immediate" => self.act = Act::Immediate,
                _ => return fault("it is learned or immediate"),
            },
            "quantile" | "smoothing" | "rate_start" => {
                let most = if name == "rate_start" { 1e6 } else { 1.0 };
                match value.parse::<f64>() {
                    Ok(number) if number > 0.0 && number < most => match name {
                        "quantile" => self.quantile = number,
                        "smoothing" => self.smoothing = number,
                        _ => self.rate_start = number,
                    },
                    _ => return fault(&format!("it is a number above 0 and below {most}")),
                }
            }
            "pause_us" | "pause_factor" | "quiet_rounds" | "residency_us" | "pool_kib"
            | "trial_keys" | "trial_us" => {
                let Ok(number) = value.parse::<u32>() else {
                    return fault("it is a whole number below 2^32");
                };
                match name {
                    "pause_us" => self.pause_us = number,
                    "pause_factor" => self.pause_factor = number,
                    "quiet_rounds" => self.quiet_rounds = number,
                    "residency_us" => self.residency_us = number,
                    "trial_keys" => self.trial_keys = number,
                    "trial_us" => self.trial_us = number,
                    _ => self.pool_kib = number,
                }
            }
            _ => {
                let names: Vec<&str> = Self::list().iter().map(|knob| knob.name).collect();
                return fault(&format!("there are {}", names.join(", ")));
            }
        }
        Ok(())
    }

    /// The least phase of a trial, if there are trials.
    pub(crate) fn trial(&self) -> Option<Least> {
        let least = Least { keys: self.trial_keys.into(), ns: u64::from(self.trial_us) * 1000 };
        (self.trial_keys > 0).then_some(least)
    }

    pub(crate) fn pool_bytes(&self) -> usize {
        (self.pool_kib as usize).saturating_mul(1 << 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_knob_can_be_set_to_its_default_and_nonsense_is_told() {
        let mut knobs = Knobs::default();
        for knob in Knobs::list() {
            knobs.set(knob.name, &knob.default).unwrap();
        }
        assert_eq!(knobs, Knobs::default());
        knobs.set("act", "immediate").unwrap();
        knobs.set("pool_kib", "0").unwrap();
        assert_eq!((knobs.act, knobs.pool_bytes()), (Act::Immediate, 0));
        for (name, value) in
            [("act", "soon"), ("quantile", "1.5"), ("pause_us", "-1"), ("colour", "red")]
        {
            let error = knobs.set(name, value).unwrap_err().to_string();
            assert!(error.contains(&format!("{name}={value}")), "{error}");
        }
    }
}
