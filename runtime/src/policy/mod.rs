//! Policies: who gets a row, or a replica of it, when somebody asks.
//!
//! A policy is a rule at the owner ([`Rule`], asked once for each Acquire), and whether intents are acted on at all. Everything else is
//! the same code under every policy, so that comparisons are fair.
//!
//! | policy | a wish for a row gets | rows are asked for |
//! | --- | --- | --- |
//! | `classic` | nothing: static partition, every access goes home | never |
//! | `full-replication` | a replica | all of them, at the start |
//! | `relocation` | the main copy (Lapse, VLDB'20) | by intents |
//! | `replication` | a replica | by intents |
//! | `ssp:S` | a replica; clocks are at most `S` apart, and reads that much behind (Petuum, `NIPS'13`) | by intents |
//! | `mixed` | a replica of hot keys, the main copy of others (`NuPS`, SIGMOD'22) | hot keys at the start, others by intents |
//! | `adaptive` | the main copy if nobody else wants the row, else a replica (`AdaPM`, 2022) | by intents, unless trials are made and say that it does not pay |

mod adaptive;
mod classic;
mod mixed;
mod relocation;
mod replication;

use std::fmt;
use std::str::FromStr;

use sterna_protocol::ids::RowId;
use sterna_protocol::owned::{Decision, Policy as Rule, Wish};

use crate::error::Error;

/// How rows are placed. See the module's table in the documentation of the crate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Policy {
    /// Rows stay at their homes.
    Classic,
    /// Every node keeps a replica of every row.
    FullReplication,
    /// Rows move to who wants them.
    Relocation,
    /// Who wants a row gets a replica.
    Replication,
    /// Replicas, and workers whose clocks stay together: a read at clock `c` shows all that anybody pushed before clock
    /// `c - staleness` (SSP).
    Ssp {
        /// How many clocks behind a read may be; 0: all work in step.
        staleness: u32,
    },
    /// Replicas of hot keys everywhere ([`TableSpec::hot`](crate::TableSpec::hot)), relocation of the others.
    Mixed,
    /// Per key and at run time: relocation if one node wants the row, replicas if several do.
    #[default]
    Adaptive,
}

impl Policy {
    /// All policies; of SSP the one that lets workers be a clock apart.
    pub const ALL: [Self; 7] = [
        Self::Classic,
        Self::FullReplication,
        Self::Relocation,
        Self::Replication,
        Self::Ssp { staleness: 1 },
        Self::Mixed,
        Self::Adaptive,
    ];

    /// Its name in options and reports, without the staleness.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::FullReplication => "full-replication",
            Self::Relocation => "relocation",
            Self::Replication => "replication",
            Self::Ssp { .. } => "ssp",
            Self::Mixed => "mixed",
            Self::Adaptive => "adaptive",
        }
    }

    /// Whether intents make a node ask for rows.
    pub(crate) const fn asks(self) -> bool {
        !matches!(self, Self::Classic | Self::FullReplication)
    }

    /// Whether it is tried if acting on intents pays.
    pub(crate) const fn tries(self) -> bool {
        matches!(self, Self::Adaptive)
    }

    /// The rule at the owner. `hot` says of a table and key whether the user has called it hot.
    pub(crate) fn rule(self, hot: impl Fn(RowId) -> bool + Send + 'static) -> Box<dyn Rule + Send> {
        match self {
            Self::Classic => Box::new(classic::Classic),
            Self::FullReplication | Self::Replication | Self::Ssp { .. } => {
                Box::new(replication::Replication)
            }
            Self::Relocation => Box::new(relocation::Relocation),
            Self::Mixed => Box::new(mixed::Mixed { hot }),
            Self::Adaptive => Box::new(adaptive::Adaptive),
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ssp { staleness } => f.pad(&format!("ssp:{staleness}")),
            other => f.pad(other.name()),
        }
    }
}

impl FromStr for Policy {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let bound =
            name.strip_prefix("ssp:").or_else(|| name.strip_prefix("ssp(")?.strip_suffix(')'));
        if let Some(bound) = bound {
            let fault =
                |_| Error::Config(format!("policy `{name}`: `ssp:S`, S a number of clocks"));
            return bound.parse().map(|staleness| Self::Ssp { staleness }).map_err(fault);
        }
        Self::ALL.into_iter().find(|policy| policy.name() == name).ok_or_else(|| {
            let names: Vec<String> = Self::ALL.iter().map(Self::to_string).collect();
            Error::Config(format!("policy `{name}`: there are {}", names.join(", ")))
        })
    }
}

/// What a forced wish (`localize`) gets wherever rows may move.
fn forced(wish: &Wish<'_>) -> Decision {
    if !wish.alone() {
        // A row with replicas elsewhere stays: its owner would have to hand over the board, too.
        Decision::Share
    } else if wish.fresh {
        Decision::Later
    } else {
        Decision::Move
    }
}

#[cfg(test)]
mod tests {
    use sterna_protocol::ids::{Key, TableId};
    use sterna_protocol::record::Acquire;
    use sterna_protocol::{Epoch, Rank, SlotId};

    use super::*;

    const ROW: RowId = RowId { table: TableId(0), key: Key(3) };

    fn decide(policy: Policy, holders: &[Rank], wanted_here: bool, fresh: bool) -> Decision {
        let acquire = Acquire {
            key: ROW.key,
            epoch: Epoch::FIRST,
            slot: SlotId(0),
            requester: Rank(1),
            uses: 1,
            span: 1,
            writes: true,
            force: false,
            held: None,
        };
        let wish = Wish { row: ROW, acquire: &acquire, holders, wanted_here, fresh };
        policy.rule(|row| row.key == Key(3)).decide(&wish)
    }

    #[test]
    fn a_sole_wish_moves_and_a_shared_one_replicates() {
        use Decision::{Later, Move, Share};
        let others = [Rank(2)];
        assert_eq!(decide(Policy::Adaptive, &[], false, false), Move);
        assert_eq!(decide(Policy::Adaptive, &[Rank(1)], false, false), Move);
        assert_eq!(decide(Policy::Adaptive, &[], true, false), Share);
        assert_eq!(decide(Policy::Adaptive, &others, false, false), Share);
        assert_eq!(decide(Policy::Adaptive, &[], false, true), Share);
        assert_eq!(decide(Policy::Relocation, &[], true, false), Move);
        assert_eq!(decide(Policy::Relocation, &[], false, true), Later);
        assert_eq!(decide(Policy::Replication, &[], false, false), Share);
        assert_eq!(decide(Policy::FullReplication, &others, false, false), Share);
        assert_eq!(decide(Policy::Mixed, &[], false, false), Share);
        assert_eq!(decide(Policy::Classic, &[], false, false), Decision::Refuse { uses: u16::MAX });
    }

    #[test]
    fn policies_are_known_by_their_names() {
        for policy in Policy::ALL {
            assert_eq!(policy.name().parse::<Policy>().unwrap(), policy);
            assert_eq!(policy.to_string().parse::<Policy>().unwrap(), policy);
        }
        for name in ["ssp:3", "ssp(3)"] {
            assert_eq!(name.parse::<Policy>().unwrap(), Policy::Ssp { staleness: 3 });
        }
        assert!("ssp:many".parse::<Policy>().unwrap_err().to_string().contains("ssp:S"));
        let error = "magic".parse::<Policy>().unwrap_err().to_string();
        assert!(error.contains("full-replication"), "{error}");
    }
}
