//! Records by which the nodes of a job act together: tables, barriers, reductions, stop, clocks, boards, trials.
//!
//! ```text
//!  Table    number = round, count = bytes of the name   | name | pad | definition |
//!  Barrier  number = round, flags: 0 arrive, 1 release  (no body)
//!  Reduce   number = round, flags: 0 part, 1 result     | f64 ... |   count of them
//!  Stop     flags: 0 finished, 1 failed                 | reason, UTF-8 |
//!  Clock    number = meetings of the workers so far     | flushed clock: 8 |
//!  Arm      number = 0                                  | sequence of the board: 8 |
//!  Notice   number = 0                                  | sequence of the board: 8 |
//!  Trial    number = phase, flags: 0 intents are acted on from here, 1 they are not (no body, from rank 0),
//!           2 what the phase was like (to rank 0)       | keys used: 8 | time they took, in nanoseconds: 8 |
//! ```
//! What a table's definition says is the runtime's; all nodes must give the same bytes.

use crate::ids::{Clock, TableId};
use crate::record::fields::{padded, u64_at};
use crate::record::{DecodeError, Header, Writer};

/// The longest name of a table, in bytes.
const NAME_BYTES_MAX: usize = 256;
/// The most numbers in one Reduce.
pub const REDUCE_MAX: usize = 4096;
/// The longest reason for a stop, in bytes.
const REASON_BYTES_MAX: usize = 4096;

/// A table that all nodes create.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableDefinition<'a> {
    /// Its number.
    pub table: TableId,
    /// Which of the collective calls of the sender this is.
    pub round: u32,
    /// Its name.
    pub name: &'a str,
    /// What the runtime wrote.
    pub definition: &'a [u8],
}

/// A step of a barrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarrierStep {
    /// Which barrier.
    pub round: u32,
    /// All have arrived (from rank 0), or the sender has (to rank 0).
    pub release: bool,
}

/// Whether numbers are one node's or all nodes'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReduceStep {
    /// One node's part.
    Part,
    /// The result for all.
    Result,
}

/// Numbers that are summed over all nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reduce<'a> {
    /// Which reduction.
    pub round: u32,
    /// Whose numbers.
    pub step: ReduceStep,
    body: &'a [u8],
}

/// The job shall stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop<'a> {
    /// Because of an error.
    pub failed: bool,
    /// In words.
    pub reason: &'a str,
}

/// A node's flushed clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockReport {
    /// How often the workers of all nodes had met.
    pub meetings: u32,
    /// All pushes made before this clock, counted since, are in their main copies.
    pub flushed: Clock,
}

/// How often a board had changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BoardSequence(pub u64);

/// What is said of a phase of a trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrialStep {
    /// It begins; whether intents are acted on in it.
    Begins {
        /// Whether they are.
        act: bool,
    },
    /// It is over at the sender.
    Over {
        /// Keys that were used in it.
        keys: u64,
        /// The time that passed meanwhile, of all workers together.
        ns: u64,
    },
}

/// A phase in which it is tried whether acting on intents pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trial {
    /// Its number.
    pub phase: u32,
    /// What is said of it.
    pub step: TrialStep,
}

impl<'a> TableDefinition<'a> {
    pub(super) fn decode(header: &Header, body: &'a [u8]) -> Result<Self, DecodeError> {
        header.plain()?;
        let length = header.count as usize;
        if length == 0 || length > NAME_BYTES_MAX {
            return Err(header.wrong("a table's name has 1 to 256 bytes"));
        }
        let Some((name, definition)) = body.split_at_checked(padded(length)) else {
            return Err(header.wrong("the body ends inside the name"));
        };
        let name = std::str::from_utf8(&name[..length])
            .map_err(|_| header.wrong("a table's name is UTF-8"))?;
        Ok(Self { table: header.table, round: header.number, name, definition })
    }
}

fn flag(header: &Header) -> Result<bool, DecodeError> {
    match header.flags {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(header.wrong("unknown flags")),
    }
}

impl BarrierStep {
    pub(super) fn decode(header: &Header, body: &[u8]) -> Result<Self, DecodeError> {
        if !body.is_empty() {
            return Err(header.wrong("a barrier has no body"));
        }
        Ok(Self { round: header.number, release: flag(header)? })
    }
}

impl<'a> Reduce<'a> {
    pub(super) fn decode(header: &Header, body: &'a [u8]) -> Result<Self, DecodeError> {
        let step = if flag(header)? { ReduceStep::Result } else { ReduceStep::Part };
        let count = header.count as usize;
        if count > REDUCE_MAX || body.len() != count * 8 {
            return Err(header.wrong("the body does not hold that many numbers"));
        }
        Ok(Self { round: header.number, step, body })
    }

    /// The numbers in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = f64> + use<'a> {
        self.body.chunks_exact(8).map(|item| f64::from_bits(u64_at(item, 0)))
    }
}

impl<'a> Stop<'a> {
    pub(super) fn decode(header: &Header, body: &'a [u8]) -> Result<Self, DecodeError> {
        if body.len() > REASON_BYTES_MAX {
            return Err(header.wrong("a reason has at most 4,096 bytes"));
        }
        let reason = std::str::from_utf8(body).map_err(|_| header.wrong("a reason is UTF-8"))?;
        Ok(Self { failed: flag(header)?, reason })
    }
}

impl ClockReport {
    pub(super) fn decode(header: &Header, body: &[u8]) -> Result<Self, DecodeError> {
        header.plain()?;
        let Ok(clock) = <[u8; 8]>::try_from(body) else {
            return Err(header.wrong("a clock has 8 bytes"));
        };
        Ok(Self { meetings: header.number, flushed: Clock(u64::from_le_bytes(clock)) })
    }
}

impl BoardSequence {
    pub(super) fn decode(header: &Header, body: &[u8]) -> Result<Self, DecodeError> {
        header.plain()?;
        let Ok(sequence) = <[u8; 8]>::try_from(body) else {
            return Err(header.wrong("a board's sequence has 8 bytes"));
        };
        Ok(Self(u64::from_le_bytes(sequence)))
    }
}

impl Trial {
    pub(super) fn decode(header: &Header, body: &[u8]) -> Result<Self, DecodeError> {
        let step = match (header.flags, body.len()) {
            (0, 0) => TrialStep::Begins { act: true },
            (1, 0) => TrialStep::Begins { act: false },
            (2, 16) => TrialStep::Over { keys: u64_at(body, 0), ns: u64_at(body, 8) },
            (0..=2, _) => return Err(header.wrong("the body is not that of the flags")),
            _ => return Err(header.wrong("unknown flags")),
        };
        Ok(Self { phase: header.number, step })
    }
}

impl Writer<'_> {
    /// Writes flags and body of a Trial.
    pub fn trial(&mut self, step: TrialStep) -> bool {
        let (keys, ns) = match step {
            TrialStep::Begins { act } => {
                self.flags(u8::from(!act));
                return true;
            }
            TrialStep::Over { keys, ns } => (keys, ns),
        };
        self.flags(2);
        self.body(0, |body| {
            let body = body.get_mut(..16)?;
            body[..8].copy_from_slice(&keys.to_le_bytes());
            body[8..].copy_from_slice(&ns.to_le_bytes());
            Some(16)
        })
    }

    /// Writes the body of a Table. `false` if name or definition are too long.
    pub fn table(&mut self, name: &str, definition: &[u8]) -> bool {
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            return false;
        }
        let count = u32::try_from(name.len()).expect("a short name");
        let start = padded(name.len());
        self.body(count, |body| {
            let body = body.get_mut(..start + definition.len())?;
            body[..start].fill(0);
            body[..name.len()].copy_from_slice(name.as_bytes());
            body[start..].copy_from_slice(definition);
            Some(body.len())
        })
    }

    /// Makes a Barrier the release of all.
    pub fn barrier(&mut self, release: bool) {
        self.flags(u8::from(release));
    }

    /// Writes the body of a Reduce. `false` if there are too many numbers.
    pub fn reduce(&mut self, step: ReduceStep, numbers: &[f64]) -> bool {
        if numbers.len() > REDUCE_MAX {
            return false;
        }
        self.flags(u8::from(step == ReduceStep::Result));
        let count = u32::try_from(numbers.len()).expect("a short list");
        self.body(count, |body| {
            let body = body.get_mut(..numbers.len() * 8)?;
            for (item, number) in body.chunks_exact_mut(8).zip(numbers) {
                item.copy_from_slice(&number.to_bits().to_le_bytes());
            }
            Some(body.len())
        })
    }

    /// Writes the body of a Stop; a reason that is too long is cut.
    pub fn stop(&mut self, failed: bool, reason: &str) -> bool {
        self.flags(u8::from(failed));
        let end = (0..=reason.len().min(REASON_BYTES_MAX))
            .rev()
            .find(|&end| reason.is_char_boundary(end))
            .expect("0 is a boundary");
        self.body(0, |body| {
            body.get_mut(..end)?.copy_from_slice(&reason.as_bytes()[..end]);
            Some(end)
        })
    }

    /// Writes the body of an Arm or Notice.
    pub fn board_sequence(&mut self, sequence: u64) -> bool {
        self.clock(Clock(sequence))
    }

    /// Writes the body of a Clock.
    pub fn clock(&mut self, flushed: Clock) -> bool {
        self.body(0, |body| {
            body.get_mut(..8)?.copy_from_slice(&flushed.0.to_le_bytes());
            Some(8)
        })
    }
}
