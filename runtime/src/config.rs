//! What a node is started with.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::knobs::Knobs;
use crate::policy::Policy;

/// Workers that one node may have.
pub const WORKERS_MAX: usize = 1024;

const WAIT_VARIABLE: &str = "STERNA_WAIT_LIMIT";
const MEETING_VARIABLE: &str = "STERNA_MEETING_LIMIT";

/// What errors call the limits.
pub(crate) const WAIT_LIMIT: &str = "NodeConfig::wait_limit (STERNA_WAIT_LIMIT, in seconds)";
pub(crate) const MEETING_LIMIT: &str =
    "NodeConfig::meeting_limit (STERNA_MEETING_LIMIT, in seconds)";

/// Settings of a node. The same program runs on every node of a job with the same settings.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeConfig {
    /// Threads that train.
    pub workers: usize,
    /// Of all random choices: rows at the start, and what tasks derive from it.
    pub seed: u64,
    /// Whether to pin workers to CPUs when there are enough of them.
    pub pin: bool,
    /// Memory for updates on their way to other nodes, in bytes; pushes wait when it is used up.
    pub update_bytes_max: usize,
    /// How long an access may wait for a peer that neither answers nor is gone. A peer that dies is noticed sooner.
    pub wait_limit: Duration,
    /// How long a barrier, a sum or the making of a table may wait for the others, who may compute meanwhile.
    pub meeting_limit: Duration,
    /// How rows are placed.
    pub policy: Policy,
    /// What nobody has to set.
    pub knobs: Knobs,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            workers: 1,
            seed: 0,
            pin: true,
            update_bytes_max: 512 << 20,
            wait_limit: Duration::from_secs(60),
            meeting_limit: Duration::from_secs(3600),
            policy: Policy::default(),
            knobs: Knobs::default(),
        }
    }
}

impl NodeConfig {
    /// A node with so many workers.
    #[must_use]
    pub fn with_workers(workers: usize) -> Self {
        Self { workers, ..Self::default() }
    }

    /// The same with the limits that the environment sets: `STERNA_WAIT_LIMIT` and `STERNA_MEETING_LIMIT` in seconds,
    /// `STERNA_UPDATE_MIB` in MiB.
    ///
    /// # Errors
    /// [`Error::Config`] naming the variable that is not a positive whole number.
    pub fn with_env(self) -> Result<Self> {
        self.with_variables(&|name| std::env::var(name).ok())
    }

    fn with_variables(mut self, variable: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let number = |name: &str| match variable(name) {
            None => Ok(None),
            Some(text) => match text.parse::<u32>() {
                Ok(number @ 1..) => Ok(Some(number)),
                _ => {
                    let reason = format!("{name}={text} is not a whole number from 1 to 2^32 - 1");
                    Err(Error::Config(reason))
                }
            },
        };
        if let Some(seconds) = number(WAIT_VARIABLE)? {
            self.wait_limit = Duration::from_secs(seconds.into());
        }
        if let Some(seconds) = number(MEETING_VARIABLE)? {
            self.meeting_limit = Duration::from_secs(seconds.into());
        }
        if let Some(mib) = number("STERNA_UPDATE_MIB")? {
            self.update_bytes_max = (mib as usize).saturating_mul(1 << 20);
        }
        Ok(self)
    }

    pub(crate) fn validate(&self) -> Result<()> {
        for (limit, setting) in [(self.wait_limit, WAIT_LIMIT), (self.meeting_limit, MEETING_LIMIT)]
        {
            if limit.is_zero() {
                return Err(Error::Config(format!(
                    "{setting} is zero: nothing could ever be waited for"
                )));
            }
        }
        if (1..=WORKERS_MAX).contains(&self.workers) {
            return Ok(());
        }
        let workers = self.workers;
        Err(Error::Config(format!("{workers} workers: a node has 1 to {WORKERS_MAX}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_come_from_the_environment_and_nonsense_names_its_variable() {
        let set = |name: &str, value: &str| {
            let (name, value) = (name.to_owned(), value.to_owned());
            move |asked: &str| (asked == name).then(|| value.clone())
        };
        let config = NodeConfig::with_workers(2);
        let short = config.clone().with_variables(&set("STERNA_MEETING_LIMIT", "7"));
        assert_eq!(short.expect("a number").meeting_limit, Duration::from_secs(7));
        let small = config.clone().with_variables(&set("STERNA_UPDATE_MIB", "3"));
        assert_eq!(small.expect("a number").update_bytes_max, 3 << 20);
        assert_eq!(config.clone().with_variables(&|_| None).expect("nothing set"), config);
        for nonsense in ["0", "-1", "soon", "4294967296"] {
            let error = config.clone().with_variables(&set("STERNA_WAIT_LIMIT", nonsense));
            let error = error.expect_err("not a number of seconds").to_string();
            assert!(error.contains(&format!("STERNA_WAIT_LIMIT={nonsense}")), "{error}");
        }
        let never = NodeConfig { wait_limit: Duration::ZERO, ..config };
        assert!(never.validate().expect_err("no time at all").to_string().contains("wait_limit"));
    }
}
