//! Records of links: their times, there and back, and their rate in one direction. Over verbs they are RDMA WRITEs into the
//! peer's ring, each announced by its immediate value.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::ensure;
use sterna_rdma::{Rank, SendError};

use super::party::{Idle, Party};
use super::spread::Times;
use super::wire::{HEADER_BYTES, Kind, header};

/// The shortest record that a party sends.
pub(crate) const RECORD_BYTES_MIN: usize = HEADER_BYTES;

/// The longest time that a peer takes nothing.
const CREDIT_LIMIT: Duration = Duration::from_secs(60);

/// What to send back and forth how often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EchoPlan {
    /// Who answers.
    pub(crate) peer: Rank,
    /// Bytes of a record, at least [`RECORD_BYTES_MIN`].
    pub(crate) bytes: usize,
    /// Records on their way at a time.
    pub(crate) depth: usize,
    /// How long new ones are sent.
    pub(crate) duration: Duration,
}

impl Party {
    /// Echoes of records, `depth` on their way at a time. Each counts half its round trip, from before its send until its answer is delivered;
    /// the answers are compared with what was sent.
    pub(crate) fn echo(&mut self, plan: &EchoPlan) -> anyhow::Result<Times> {
        let EchoPlan { peer, bytes, depth, duration } = *plan;
        let content: Vec<u8> = (0_u8..=250).cycle().take(bytes - HEADER_BYTES).collect();
        let mut begun = VecDeque::with_capacity(depth);
        let mut times = Times::new();
        let (start, mut sent, mut answered) = (Instant::now(), 0_u64, 0_u64);
        loop {
            // Some at least, however late this thread gets to run.
            let sending = sent == 0 || start.elapsed() < duration;
            while sending && begun.len() < depth {
                begun.push_back(Instant::now());
                self.send(peer, Kind::Echo, sent, &content)?;
                sent += 1;
            }
            // A link keeps the order, so the next answer is that of the oldest question.
            let Some(oldest) = begun.pop_front() else { break };
            let answer = self.receive(peer, Kind::Echoed)?;
            times.record_until(oldest, answer.at, 2);
            ensure!(
                answer.value == answered && answer.content == content,
                "{peer} sent back another record of {bytes} bytes than it was sent"
            );
            answered += 1;
        }
        times.moved(2 * answered * bytes as u64, start.elapsed());
        Ok(times)
    }

    /// Records of `bytes` bytes, as many as the link takes, in one direction. The time ends when the peer has them all.
    pub(crate) fn stream(
        &mut self,
        peer: Rank,
        bytes: usize,
        duration: Duration,
    ) -> anyhow::Result<Times> {
        let content = vec![7_u8; bytes - HEADER_BYTES];
        let mut times = Times::new();
        let (start, mut sent) = (Instant::now(), 0_u64);
        let (mut idle, mut last) = (Idle::new(), start);
        while sent == 0 || start.elapsed() < duration {
            match self.fabric.try_send(peer, &[&header(Kind::Stream, sent), &content]) {
                Ok(()) => {
                    sent += 1;
                    (idle, last) = (Idle::new(), Instant::now());
                    continue;
                }
                Err(SendError::Full(_) | SendError::Busy(_)) => {}
                Err(error) => return Err(error.into()),
            }
            ensure!(last.elapsed() < CREDIT_LIMIT, "{peer} took no record for {CREDIT_LIMIT:?}");
            self.step_until_credit(&mut idle)?;
        }
        self.send(peer, Kind::Count, 0, &[])?;
        let counted = self.receive(peer, Kind::Counted)?.value;
        ensure!(
            counted == sent * bytes as u64,
            "{peer} counted {counted} bytes, {} were sent",
            sent * bytes as u64
        );
        times.moved(counted, start.elapsed());
        Ok(times)
    }
}
