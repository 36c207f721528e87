//! How samples are taken, and what each way promises.

use std::fmt;
use std::str::FromStr;

use super::Distribution;
use crate::error::Error;

/// Keys of a pool unless told otherwise (`NuPS`' group size).
const POOL_KEYS: usize = 250;

/// The most keys of a pool.
pub(super) const POOL_KEYS_MAX: usize = 1 << 20;

/// A way of taking samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheme {
    /// Keys are drawn when they are pulled, wherever their rows are.
    Naive,
    /// Keys are drawn when the sample is prepared, and announced, so that their rows are here when they are pulled.
    #[default]
    Preloc,
    /// As `Preloc`, but each draw is used `reuse` times: a pool of `keys` draws is gone through in a new order as often, then drawn anew.
    /// With `postpone`, draws whose rows are not here yet wait for later pulls, of later samples too, at most `keys` of them.
    Pool {
        /// Draws in a pool.
        keys: usize,
        /// Times that each is used.
        reuse: u32,
        /// Whether keys that are not here are put off.
        postpone: bool,
    },
    /// Only keys whose rows are at the worker's node are drawn, in their true proportions.
    Local,
}

/// What may be relied on, as `NuPS` (Renz-Wieland et al. 2022, section 4) orders it, strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conformity {
    /// CONFORM: independent draws from the distribution.
    Conform,
    /// BOUNDED: each key has its probability at each place, and a draw is used so many times, within one pool; draws of different pools
    /// are independent.
    Bounded {
        /// Times.
        reuse: u32,
    },
    /// LONG-TERM: keys come in the right proportions in the long run, some later than they were drawn.
    LongTerm,
    /// NON-CONFORM: keys come from another distribution, here that of the keys at the node.
    NonConform,
}

impl Scheme {
    /// A pool of 250 keys, each used so many times.
    #[must_use]
    pub fn pool(reuse: u32) -> Self {
        Self::Pool { keys: POOL_KEYS, reuse, postpone: false }
    }

    /// Keys that may be put off at a time.
    pub(super) fn postponed_max(self) -> usize {
        if let Self::Pool { keys, postpone: true, .. } = self { keys } else { 0 }
    }

    /// The level that its samples have. Without replacement they are what draws of that level are when repetitions within a sample are
    /// left out.
    #[must_use]
    pub fn conformity(self) -> Conformity {
        match self {
            Self::Pool { postpone: true, .. } => Conformity::LongTerm,
            Self::Naive | Self::Preloc | Self::Pool { reuse: 1, .. } => Conformity::Conform,
            Self::Pool { reuse, .. } => Conformity::Bounded { reuse },
            Self::Local => Conformity::NonConform,
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Naive => f.write_str("naive"),
            Self::Preloc => f.write_str("preloc"),
            Self::Pool { reuse, postpone: false, .. } => write!(f, "pool:{reuse}"),
            Self::Pool { reuse, postpone: true, .. } => write!(f, "postpone:{reuse}"),
            Self::Local => f.write_str("local"),
        }
    }
}

/// `naive`, `preloc`, `pool:U`, `postpone:U` (a pool that puts off keys that are not here) or `local`.
impl FromStr for Scheme {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (name, reuse) = text.split_once(':').map_or((text, None), |(a, b)| (a, Some(b)));
        let reuse = match reuse {
            None => Some(None),
            Some(number) => number.parse().ok().filter(|&number: &u32| number > 0).map(Some),
        };
        match (name, reuse) {
            ("naive", Some(None)) => Ok(Self::Naive),
            ("preloc", Some(None)) => Ok(Self::Preloc),
            ("local", Some(None)) => Ok(Self::Local),
            ("pool" | "postpone", Some(Some(reuse))) => {
                Ok(Self::Pool { keys: POOL_KEYS, reuse, postpone: name == "postpone" })
            }
            _ => Err(Error::Config(format!(
                "sampling scheme {text}: naive, preloc, pool:U, postpone:U (each draw used U times) or local"
            ))),
        }
    }
}

/// What samples are to be: a distribution, a scheme, and whether a key may come twice in one sample.
#[derive(Clone, Debug)]
pub struct Sampling {
    pub(super) distribution: Distribution,
    pub(super) scheme: Scheme,
    pub(super) replacement: bool,
}

impl Sampling {
    /// Samples with replacement, announced ahead ([`Scheme::Preloc`]).
    #[must_use]
    pub fn new(distribution: Distribution) -> Self {
        Self { distribution, scheme: Scheme::default(), replacement: true }
    }

    /// How samples are taken.
    #[must_use]
    pub fn scheme(mut self, scheme: Scheme) -> Self {
        self.scheme = scheme;
        self
    }

    /// No key twice in one sample: draws of keys that a sample has already are repeated.
    #[must_use]
    pub fn without_replacement(mut self) -> Self {
        self.replacement = false;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes_are_read_as_they_are_written() {
        for text in ["naive", "preloc", "pool:16", "postpone:64", "local"] {
            assert_eq!(text.parse::<Scheme>().expect("a scheme").to_string(), text);
        }
        for text in ["", "pool", "pool:0", "pool:-1", "local:2", "nearby"] {
            let error = text.parse::<Scheme>().expect_err("no scheme").to_string();
            assert!(error.contains("pool:U"), "{error}");
        }
    }
}
