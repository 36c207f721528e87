//! Batches of rows of a peer: READ through one lane, striped over several, or gathered by the peer into a record.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use sterna_kernels::RowPtr;
use sterna_rdma::{RECORD_BYTES_MAX, Rank, Read, ReadLane};

use super::party::{Idle, Party, REGION_BYTES};
use super::rows::{LINE_BYTES, holds};
use super::spread::Times;
use super::wire::{HEADER_BYTES, Kind};

/// The longest time without a completion.
const COMPLETION_LIMIT: Duration = Duration::from_secs(60);

/// How the rows of a batch come here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// A READ for each, spread over so many lanes.
    Lanes(usize),
    /// The peer's processor puts them into one record.
    Gathered,
}

/// What to bring here how often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchPlan {
    pub(crate) peer: Rank,
    /// Bytes of a row, a multiple of 8.
    pub(crate) bytes: usize,
    /// Rows of a batch.
    pub(crate) rows: usize,
    pub(crate) way: Way,
    pub(crate) duration: Duration,
}

impl BatchPlan {
    /// Whether the rows of a batch fit into one record, and their places into another.
    pub(crate) fn fits_a_record(bytes: usize, rows: usize) -> bool {
        HEADER_BYTES + rows * bytes.max(8) <= RECORD_BYTES_MAX
    }
}

impl Party {
    /// Batches of random rows of a peer, one after the other; each is timed until its last row is in this node's memory.
    pub(crate) fn batches(&mut self, plan: &BatchPlan) -> anyhow::Result<Times> {
        let BatchPlan { peer, bytes, rows, way, duration } = *plan;
        let lanes = if let Way::Lanes(lanes) = way { lanes } else { 0 };
        let mut lanes: Vec<Box<dyn ReadLane>> =
            (0..lanes).map(|_| self.fabric.open_lane()).collect::<Result<_, _>>()?;
        let lines = (REGION_BYTES - bytes) / LINE_BYTES;
        let mut random = 0x2545_F491_4F6C_DD1D_u64;
        let mut out = vec![0; rows * bytes];
        let mut times = Times::new();
        let (start, mut batches) = (Instant::now(), 0);
        // One at least, however late this thread gets to run.
        while batches == 0 || start.elapsed() < duration {
            let offsets: Vec<usize> = (0..rows)
                .map(|_| {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    usize::try_from(random % lines as u64).expect("a line") * LINE_BYTES
                })
                .collect();
            let begun = Instant::now();
            match way {
                Way::Lanes(_) => self.read_batch(plan, &mut lanes, &offsets, &mut out)?,
                Way::Gathered => {
                    let places: Vec<u8> =
                        offsets.iter().flat_map(|&at| (at as u64).to_le_bytes()).collect();
                    self.send(peer, Kind::Gather, bytes as u64, &places)?;
                    out = self.receive(peer, Kind::Gathered)?.content;
                }
            }
            times.record(begun, 1);
            batches += 1;
            let rows = out.chunks_exact(bytes).zip(&offsets);
            let right = rows.filter(|(row, offset)| holds(row, peer, **offset)).count();
            ensure!(right == offsets.len(), "{peer} has other rows than came");
        }
        times.moved((batches * rows * bytes) as u64, start.elapsed());
        Ok(times)
    }

    fn read_batch(
        &self,
        plan: &BatchPlan,
        lanes: &mut [Box<dyn ReadLane>],
        offsets: &[usize],
        out: &mut [u8],
    ) -> anyhow::Result<()> {
        let BatchPlan { peer, bytes, .. } = *plan;
        let token = self.theirs[peer.index()].context("a party has no region of its own here")?;
        // A batch is at most what a lane takes.
        let share = offsets.len().div_ceil(lanes.len());
        for (number, (lane, offsets)) in lanes.iter_mut().zip(offsets.chunks(share)).enumerate() {
            for (place, &offset) in offsets.iter().enumerate() {
                lane.post(Read {
                    peer,
                    region: token.id,
                    offset: offset as u64,
                    len: u32::try_from(bytes)?,
                    token: (number * share + place) as u64,
                })?;
            }
            lane.submit()?;
        }
        let (mut ended, mut wrong) = (0, None);
        let (mut idle, mut last) = (Idle::new(), Instant::now());
        while ended < offsets.len() {
            let mut done = 0;
            for lane in lanes.iter_mut() {
                done += lane.poll(&mut |completion| {
                    let place = usize::try_from(completion.token).expect("a place");
                    match completion.result {
                        Ok(data) => {
                            out[place * bytes..(place + 1) * bytes].copy_from_slice(data.bytes);
                        }
                        Err(error) => wrong = Some(error),
                    }
                })?;
            }
            if let Some(error) = wrong {
                return Err(error.into());
            }
            ended += done;
            if done > 0 {
                (idle, last) = (Idle::new(), Instant::now());
                continue;
            }
            ensure!(last.elapsed() < COMPLETION_LIMIT, "no READ of {peer} was answered");
            if idle.is_over(self.waiting) {
                lanes[0].wait(Duration::from_millis(1))?;
            }
        }
        Ok(())
    }

    /// The rows of this node at these places, one after the other.
    pub(super) fn gather(&self, bytes: usize, places: &[u8]) -> Option<Vec<u8>> {
        let rows = places.len() / 8;
        if bytes == 0 || !bytes.is_multiple_of(8) || !BatchPlan::fits_a_record(bytes, rows) {
            return None;
        }
        let mut floats = vec![0.0_f32; bytes / size_of::<f32>()];
        let mut out = vec![0; rows * bytes];
        for (place, out) in places.chunks_exact(8).zip(out.chunks_exact_mut(bytes)) {
            let at = u64::from_le_bytes(place.try_into().expect("eight bytes"));
            let at = usize::try_from(at).ok().filter(|at| at.is_multiple_of(LINE_BYTES))?;
            if at.checked_add(bytes)? > self.ours.bytes() {
                return None;
            }
            // SAFETY: the row is inside the region, which this party keeps; nobody makes references to its content.
            let row: RowPtr = unsafe { RowPtr::new(self.ours.base().add(at).cast(), floats.len()) };
            row.copy_out(&mut floats);
            for (to, value) in out.chunks_exact_mut(size_of::<f32>()).zip(&floats) {
                to.copy_from_slice(&value.to_le_bytes());
            }
        }
        Some(out)
    }
}
