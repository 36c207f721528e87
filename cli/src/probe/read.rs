//! One-sided READs: their times at a given depth, and whether they return the right bytes.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use sterna_rdma::{Rank, Read};

use super::party::{Idle, Party, REGION_BYTES};
use super::rows::{LINE_BYTES, holds};
use super::spread::Times;

/// The longest time without a completion.
const COMPLETION_LIMIT: Duration = Duration::from_secs(60);

/// What to read how often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadPlan {
    /// Whose region.
    pub(crate) peer: Rank,
    /// Bytes of a READ, a multiple of 8.
    pub(crate) bytes: usize,
    /// READs on their way at a time.
    pub(crate) depth: usize,
    /// How long new READs are posted.
    pub(crate) duration: Duration,
    /// Whether the bytes are compared with what the peer has (which costs time).
    pub(crate) check: bool,
}

impl Party {
    /// READs of random lines of a peer, `depth` at a time. Each is timed from its post to its completion.
    pub(crate) fn read(&mut self, plan: &ReadPlan) -> anyhow::Result<Times> {
        let ReadPlan { peer, bytes, depth, duration, check } = *plan;
        let token = self.theirs[peer.index()].context("a party has no region of its own here")?;
        let len = u32::try_from(bytes)?;
        let mut lane = self.fabric.open_lane()?;
        let depth = depth.min(lane.capacity());
        let mut begun = vec![Instant::now(); depth];
        let mut offsets = vec![0_usize; depth];
        let mut free: Vec<usize> = (0..depth).collect();
        let lines = (REGION_BYTES - bytes) / LINE_BYTES;
        let mut random = 0x2545_F491_4F6C_DD1D_u64;
        let mut times = Times::new();
        let (start, mut moved, mut wrong) = (Instant::now(), 0_u64, None);
        let (mut idle, mut last) = (Idle::new(), start);
        let mut is_first = true;
        loop {
            // Some at least, however late this thread gets to run.
            let posting = std::mem::take(&mut is_first) || start.elapsed() < duration;
            if posting && !free.is_empty() {
                for place in free.drain(..) {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    let line = usize::try_from(random % lines as u64).expect("a line");
                    offsets[place] = line * LINE_BYTES;
                    begun[place] = Instant::now();
                    lane.post(Read {
                        peer,
                        region: token.id,
                        offset: offsets[place] as u64,
                        len,
                        token: place as u64,
                    })?;
                }
                lane.submit()?;
            }
            if !posting && lane.outstanding() == 0 {
                break;
            }
            let done = lane.poll(&mut |done| {
                let place = usize::try_from(done.token).expect("a place");
                times.record(begun[place], 1);
                free.push(place);
                match done.result {
                    Ok(data) => {
                        moved += data.bytes.len() as u64;
                        if check && !holds(data.bytes, peer, offsets[place]) {
                            wrong = Some(format!("other bytes than {peer} has there"));
                        }
                    }
                    Err(error) => wrong = Some(error.to_string()),
                }
            })?;
            if let Some(wrong) = wrong {
                anyhow::bail!("a READ of {bytes} bytes from {peer}: {wrong}");
            }
            if done > 0 {
                (idle, last) = (Idle::new(), Instant::now());
                continue;
            }
            ensure!(
                last.elapsed() < COMPLETION_LIMIT,
                "no READ of {peer} was answered for {COMPLETION_LIMIT:?}"
            );
            if idle.is_over(self.waiting) {
                lane.wait(Duration::from_millis(10))?;
            }
        }
        times.moved(moved, start.elapsed());
        Ok(times)
    }
}
