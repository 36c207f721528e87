//! The heads of a READ guard it: a row that was replaced during the READ shows in one of the two.

use std::sync::atomic::{Ordering, fence};

use sterna_rdma::{Rank, Region};

use super::Cluster;
use super::job::{Done, Job, poll_lane};
use super::memory::{publish, store, words};

/// Bytes of a row with its header: not a multiple of a line.
pub const ROW_BYTES: usize = 16 + 344;

/// Replaces a row as the store does: first the header says that the row is not valid, then the bytes
/// change, then the header names the new content. An even `number` is valid. In `steps`, so that
/// a driver can do other things between them.
pub fn replace(region: &Region, offset: usize, number: u64, steps: std::ops::Range<usize>) {
    let words_count = ROW_BYTES / 8;
    for step in steps {
        match step {
            0 => {
                publish(region, offset + 8, number - 1);
                fence(Ordering::SeqCst);
            }
            _ if step < words_count - 1 => store(region, offset + 8 + step * 8, number),
            _ => publish(region, offset + 8, number),
        }
    }
}

/// Steps of [`replace`].
pub const REPLACE_STEPS: usize = ROW_BYTES / 8;

/// Whether both heads name the same valid content; if so, all bytes must be of it.
pub fn accepted(done: &Done) -> bool {
    let (bytes, head_before) = done.result.as_ref().expect("the owner lives");
    let row: Vec<u64> = words(bytes).collect();
    let valid = head_before[..] == row[..2] && row[1].is_multiple_of(2);
    if valid {
        let wrong = row[2..].iter().find(|&&word| word != row[1]);
        assert_eq!(wrong, None, "both heads name {}, but a word is of other content", row[1]);
    }
    valid
}

pub fn a_row_replaced_during_a_read_shows_in_a_head<C: Cluster>(seed: u64) {
    const READS: u32 = 2_000;
    let (owner, reader) = (Rank(0), Rank(1));
    let mut job = Job::<C>::start(2, seed);
    let shared = job.share(owner, 4096);
    let offset = 48;
    replace(&shared.region, offset, 2, 0..REPLACE_STEPS);
    let mut lane = job.lane(reader);
    let (mut number, mut step) = (4, 0);
    let (mut finished, mut valid) = (0, 0);
    job.until("all READs", |job| {
        // Replacements come in pieces, with pauses in which a READ has a chance to be valid.
        if step > 0 || job.random.below(40) == 0 {
            let end = (step + 1 + job.random.below(30)).min(REPLACE_STEPS);
            replace(&shared.region, offset, number, step..end);
            step = end % REPLACE_STEPS;
            if step == 0 {
                number += 2;
            }
        }
        while lane.outstanding() < 4 {
            lane.post(shared.read(offset, ROW_BYTES, 0)).expect("a legal READ");
        }
        lane.submit().expect("no fault of this node");
        for done in poll_lane(lane.as_mut()) {
            finished += 1;
            valid += u32::from(accepted(&done));
        }
        (finished >= READS).then_some(())
    });
    assert!(valid > 0, "some READ of {finished} meets a pause");
}
