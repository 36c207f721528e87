//! What a run is made of, drawn from a seed or written down.

use std::fmt;
use std::str::FromStr;

use sterna::{Act, Knobs, Policy};

use super::dice::Dice;
use super::tap::Sabotage;

/// What a run is made of; everything else comes from the seed.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub nodes: usize,
    pub workers: usize,
    pub keys: u64,
    pub calls: usize,
    pub stalls_per_million: u64,
    /// Rings of the smallest size and slow links.
    pub narrow: bool,
    /// READs as devices do them.
    pub device: bool,
    /// Workers wait for their updates of keys whose history is told, so that operations have one order.
    pub waits: bool,
    pub policy: Policy,
    pub knobs: Knobs,
    /// Kinds of calls that are made: a bit for each of [`KINDS`].
    pub kinds: u32,
    /// What is broken on purpose.
    pub sabotage: Sabotage,
}

/// What workers call, and how often of all calls.
pub const KINDS: [(&str, usize); 11] = [
    ("add", 5),
    ("pull", 5),
    ("add_async", 1),
    ("pull_async", 1),
    ("end", 1),
    ("flush", 1),
    ("clock", 2),
    ("snapshot", 1),
    ("localize", 1),
    ("intent", 4),
    ("told", 6),
];

impl Plan {
    /// A plan drawn from a seed.
    pub fn of_seed(seed: u64) -> Self {
        let mut dice = Dice::new(seed ^ 0x5EED);
        Self {
            seed,
            nodes: 2 + dice.below(3),
            workers: [1, 1, 1, 2, 2, 2, 2, 4][dice.below(8)],
            keys: 1 + dice.next() % 12,
            calls: 12 + dice.below(24),
            stalls_per_million: [0, 500, 5_000][dice.below(3)],
            narrow: dice.below(4) == 0,
            policy: match Policy::ALL[dice.below(Policy::ALL.len())] {
                Policy::Ssp { .. } => Policy::Ssp { staleness: [0, 1, 3][dice.below(3)] },
                policy => policy,
            },
            knobs: with_trials(knobs(&mut dice), seed),
            device: dice.below(4) == 0,
            waits: dice.below(2) == 0,
            kinds: (1 << KINDS.len()) - 1,
            sabotage: Sabotage::Nothing,
        }
    }
}

/// Knobs that leave nothing out.
pub fn plain_knobs() -> Knobs {
    let mut knobs = Knobs::default();
    knobs.act = Act::Immediate;
    knobs.residency_us = 0;
    knobs.trial_keys = 0;
    knobs
}

/// A plan as one word: `nodes=2,workers=1,...`; what is not named is as in [`Plan::of_seed`].
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, nodes, workers, keys, calls, stalls_per_million, .. } = self;
        let Self { narrow, device, waits, policy, knobs, sabotage, .. } = self;
        let kinds = KINDS.iter().enumerate().filter(|(kind, _)| self.kinds >> kind & 1 == 1);
        let kinds: Vec<&str> = kinds.map(|(_, (name, _))| *name).collect();
        let kinds = kinds.join("+");
        let Knobs { act, pool_kib, residency_us, quiet_rounds, trial_keys, .. } = knobs;
        write!(
            f,
            "seed={seed},nodes={nodes},workers={workers},keys={keys},calls={calls},\
             stalls={stalls_per_million},narrow={narrow},device={device},waits={waits},\
             policy={policy},act={act:?},pool={pool_kib},residency={residency_us},\
             quiet={quiet_rounds},trial={trial_keys},kinds={kinds},sabotage={sabotage:?}"
        )
    }
}

impl FromStr for Plan {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split(',').map(|part| part.split_once('=').ok_or(part));
        let parts: Vec<(&str, &str)> = parts.collect::<Result<_, _>>()?;
        let seed = parts.iter().find(|(name, _)| *name == "seed").ok_or("a plan has a seed")?.1;
        let mut plan = Self::of_seed(seed.parse().map_err(|error| format!("{seed}: {error}"))?);
        for (name, value) in parts {
            plan.take(name, value).ok_or_else(|| format!("`{name}={value}` says nothing"))?;
        }
        Ok(plan)
    }
}

impl Plan {
    fn take(&mut self, name: &str, value: &str) -> Option<()> {
        let number = || value.parse::<u64>().ok();
        let count = || value.parse::<usize>().ok();
        let bool = || value.parse::<bool>().ok();
        match name {
            "seed" => self.seed = number()?,
            "nodes" => self.nodes = count()?,
            "workers" => self.workers = count()?,
            "keys" => self.keys = number()?,
            "calls" => self.calls = count()?,
            "stalls" => self.stalls_per_million = number()?,
            "narrow" => self.narrow = bool()?,
            "device" => self.device = bool()?,
            "waits" => self.waits = bool()?,
            "policy" => self.policy = value.parse().ok()?,
            "act" => {
                let named = |it: &Act| format!("{it:?}") == value;
                self.knobs.act = [Act::Immediate, Act::Learned].into_iter().find(named)?;
            }
            "pool" => self.knobs.pool_kib = value.parse().ok()?,
            "residency" => self.knobs.residency_us = value.parse().ok()?,
            "quiet" => self.knobs.quiet_rounds = value.parse().ok()?,
            "trial" => self.knobs.trial_keys = value.parse().ok()?,
            "kinds" => {
                let mut kinds = 0;
                for name in value.split('+') {
                    kinds |= 1 << KINDS.iter().position(|(known, _)| *known == name)?;
                }
                self.kinds = kinds;
            }
            "sabotage" => {
                let named = |it: &Sabotage| format!("{it:?}") == value;
                self.sabotage = Sabotage::ALL.into_iter().find(named)?;
            }
            _ => return None,
        }
        Some(())
    }
}

/// In half of the runs intents are acted on and not by turns, as fast as that goes. Drawn apart, so that a seed stays what it was.
fn with_trials(mut knobs: Knobs, seed: u64) -> Knobs {
    knobs.trial_keys = [0, 1][Dice::new(seed ^ 0x7121A1).below(2)];
    knobs.trial_us = 0;
    knobs
}

/// The manager's settings; a tenth of the nodes have no or hardly any room for rows of others.
fn knobs(dice: &mut Dice) -> Knobs {
    let mut knobs = Knobs::default();
    knobs.act = [Act::Immediate, Act::Learned][dice.below(2)];
    knobs.pool_kib = [0, 1, 64][(dice.below(20) + 1).min(3) - 1];
    knobs.residency_us = [0, 20, 100][dice.below(3)];
    knobs.quiet_rounds = [0, 2][dice.below(2)];
    knobs
}
