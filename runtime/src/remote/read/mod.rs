//! Pulls of rows whose main copies are elsewhere: one one-sided read each, batched per peer.
//!
//! A row is read at its owner; its header says whether it was there all the time. What this node has pushed and the owner may not
//! have applied decides whether a read may be posted, whether its result counts, and what is added to it (rule K2); the key's
//! entry judges that. A key without an entry has nothing on its way.

mod call;
mod header;
mod owners;

use std::sync::Arc;
use std::time::Duration;

use sterna_protocol::Key;
use sterna_rdma::{Completion, ReadLane};

use super::{Remote, Waiting};
use crate::error::Result;
use crate::table::Table;

pub(crate) use call::Call;
pub(super) use header::{judge, metas};
pub(super) use owners::Questions;

/// How long to sleep on the lane before looking at peers and the engine again.
const LANE_WAIT: Duration = Duration::from_millis(1);

/// Rounds of posting and taking between two looks at the engine and the time: a row that is on its way to another node is looked for
/// again and again.
const ROUNDS_ALONE: u32 = 64;

/// Finished calls whose memory is kept.
const CALLS_KEPT: usize = 8;

/// Calls have numbers below this: the upper bit of tokens is left to lanes that count READs.
const SERIALS: u32 = 1 << 31;

/// The number of the call after this one.
fn after(serial: u32) -> u32 {
    (serial + 1) % SERIALS
}

/// What names a READ: its call and the item.
fn token(serial: u32, number: u32) -> u64 {
    u64::from(serial) << 32 | u64::from(number)
}

/// Call and item of a READ.
#[allow(clippy::cast_possible_truncation, reason = "the token's halves")]
fn named(token: u64) -> (u32, u32) {
    ((token >> 32) as u32, token as u32)
}

/// A worker's reads: its lane, the calls under way, and memory for the next ones.
pub(crate) struct Reader {
    lane: Box<dyn ReadLane>,
    calls: Vec<Call>,
    idle: Vec<Call>,
    serial: u32,
    row: Vec<f32>,
}

/// What a call wants.
pub(crate) struct Request<'a> {
    pub(crate) table: &'a Table,
    pub(crate) floats: usize,
    pub(crate) snapshot: bool,
    pub(crate) handle: Option<Arc<()>>,
}

impl Reader {
    pub(crate) fn new(lane: Box<dyn ReadLane>) -> Self {
        Self { lane, calls: Vec::new(), idle: Vec::new(), serial: 0, row: Vec::new() }
    }

    /// Reads the keys at these places of the user's call into their places of `out`.
    pub(crate) fn pull(
        &mut self,
        remote: &Remote,
        keys: &[Key],
        places: &[usize],
        request: Request<'_>,
        out: &mut [f32],
    ) -> Result<()> {
        let serial = self.begin(remote, keys, places, request)?;
        let call = self.finish(remote, serial)?;
        call.copy_to(out);
        self.recycle(call);
        Ok(())
    }

    /// Begins to read the keys at these places of the user's call; gives the call's number.
    pub(crate) fn begin(
        &mut self,
        remote: &Remote,
        keys: &[Key],
        places: &[usize],
        request: Request<'_>,
    ) -> Result<u32> {
        self.serial = after(self.serial);
        let mut call = self.idle.pop().unwrap_or_else(|| Call::new(request.table));
        call.table.clone_from(request.table);
        let Request { floats, snapshot, handle, .. } = request;
        (call.serial, call.floats, call.snapshot, call.handle) =
            (self.serial, floats, snapshot, handle);
        call.start(keys, places);
        self.calls.push(call);
        self.progress(remote, None)?;
        Ok(self.serial)
    }

    /// Whether a call has all its rows.
    pub(crate) fn is_done(&mut self, remote: &Remote, serial: u32) -> Result<bool> {
        self.progress(remote, None)?;
        Ok(self.calls.iter().find(|call| call.serial == serial).is_none_or(Call::is_done))
    }

    /// Waits until a call has all its rows.
    pub(crate) fn finish(&mut self, remote: &Remote, serial: u32) -> Result<Call> {
        let waited = self.wait(remote, serial);
        let at = self.place(serial);
        match waited {
            Ok(()) => Ok(self.calls.swap_remove(at)),
            Err(error) => {
                self.calls[at].forget(remote);
                Err(error)
            }
        }
    }

    fn wait(&mut self, remote: &Remote, serial: u32) -> Result<()> {
        let deadline = remote.now() + remote.wait_limit;
        for round in 1_u32.. {
            let moved = self.progress(remote, Some(serial))?;
            let call = &self.calls[self.place(serial)];
            if call.is_done() {
                return Ok(());
            }
            if moved && !round.is_multiple_of(ROUNDS_ALONE) {
                continue;
            }
            call.items.iter().try_for_each(|item| remote.check_peer(item.peer))?;
            if remote.now() >= deadline {
                let rank = call.items.first().map(|item| item.peer);
                return Err(remote.late(&Waiting { what: "a pull", rank }));
            }
            if call.open > 0 {
                if !remote.timing.pause() {
                    self.lane.wait(LANE_WAIT)?;
                }
            } else {
                // All that is left waits for answers to records.
                remote.help(LANE_WAIT)?;
            }
        }
        unreachable!("the deadline comes first")
    }

    fn place(&self, serial: u32) -> usize {
        let place = self.calls.iter().position(|call| call.serial == serial);
        place.expect("a call is there until it is finished")
    }

    /// Keeps a finished call's memory for the next one.
    pub(crate) fn recycle(&mut self, mut call: Call) {
        call.handle = None;
        if self.idle.len() < CALLS_KEPT {
            self.idle.push(call);
        }
    }

    /// Posts what may be posted and takes what has been read, of all calls. A second try holds exchanges back, so only the
    /// call that somebody waits for makes one. Returns whether anything was done.
    fn progress(&mut self, remote: &Remote, waited_for: Option<u32>) -> Result<bool> {
        let mut done = 0;
        for call in &mut self.calls {
            let may_hold = waited_for == Some(call.serial);
            if !call.is_forgotten() {
                done += call.post(&mut *self.lane, remote, may_hold)?;
                done += call.settle_answers(remote, &mut self.row);
            }
        }
        self.lane.submit()?;
        done += self.collect(remote)?;
        self.calls.retain(|call| !(call.is_forgotten() && call.open == 0));
        Ok(done > 0)
    }

    /// Takes what has been read. Returns how many reads ended.
    fn collect(&mut self, remote: &Remote) -> Result<usize> {
        let (calls, row) = (&mut self.calls, &mut self.row);
        let mut fault = None;
        let done = self.lane.poll(&mut |completion: Completion<'_>| {
            let (serial, number) = named(completion.token);
            let call = calls.iter_mut().find(|call| call.serial == serial);
            let call = call.expect("a call stays until its READs have ended");
            let data = completion.result.as_ref();
            if let Err(error) = data {
                fault.get_or_insert_with(|| error.clone());
            }
            call.settle(remote, number, data.ok(), row);
        })?;
        fault.map_or(Ok(done), |error| Err(remote.fault(error)))
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader")
            .field("outstanding", &self.lane.outstanding())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_upper_bit_of_tokens_is_left_to_lanes_however_many_calls_there_were() {
        let last = SERIALS - 1;
        assert_eq!((after(0), after(last)), (1, 0));
        assert_eq!(token(last, u32::MAX) >> 63, 0);
        assert_eq!(named(token(last, 7)), (last, 7));
    }
}
