//! Rules 1 and 2: order and exactly once on a link, and what a READ after a record must see. (Rule 3
//! says what is not promised; the simulator's own tests show that it does happen there.)

use sterna_rdma::{Rank, SendError};

use super::Cluster;
use super::job::{Job, Random, poll_lane};
use super::memory::{store, words};

/// A record that says which it is, with content that its number determines.
fn numbered(number: u64, seed: u64) -> Vec<u8> {
    let mut random = Random(number ^ seed.rotate_left(17));
    let len = random.below(200);
    let mut record = number.to_le_bytes().to_vec();
    record.extend(random.bytes(len));
    record
}

pub fn records_arrive_in_order_and_once_from_all_sides<C: Cluster>(seed: u64) {
    const RECORDS: u64 = 3_000;
    let mut job = Job::<C>::start(3, seed);
    let links: Vec<_> = (0..3_u16)
        .flat_map(|from| (0..3_u16).map(move |to| (Rank(from), Rank(to))))
        .filter(|(from, to)| from != to)
        .collect();
    let mut sent = vec![0_u64; links.len()];
    let mut received = vec![0_u64; links.len()];
    job.until("all records to arrive", |job| {
        for _ in 0..job.random.below(200) {
            let at = job.random.below(links.len());
            let (from, to) = links[at];
            if sent[at] < RECORDS {
                match job.fabric(from).try_send(to, &[&numbered(sent[at], seed)]) {
                    Ok(()) => sent[at] += 1,
                    Err(SendError::Full(_) | SendError::Busy(_)) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
        for (at, (from, to)) in links.iter().enumerate() {
            for record in job.inboxes[to.index()].records[from.index()].drain(..) {
                assert_eq!(record, numbered(received[at], seed), "from {from} to {to}");
                received[at] += 1;
            }
        }
        received.iter().all(|&count| count == RECORDS).then_some(())
    });
    let mut bytes = [0; 2];
    for node in 0..3 {
        let counters = job.fabric(Rank(node)).counters();
        assert_eq!((counters.records_sent, counters.records_received), (2 * RECORDS, 2 * RECORDS));
        bytes[0] += counters.record_bytes_sent;
        bytes[1] += counters.record_bytes_received;
    }
    assert_eq!(bytes[0], bytes[1], "all that was sent was received");
}

pub fn a_read_after_a_record_sees_what_the_sender_stored_before_it<C: Cluster>(seed: u64) {
    const ROUNDS: u64 = 4_000;
    const ROW_BYTES: usize = 192;
    const ROWS: usize = 16;
    let (owner, reader) = (Rank(0), Rank(1));
    let mut job = Job::<C>::start(2, seed);
    let shared = job.share(owner, ROWS * ROW_BYTES);
    let mut lane = job.lane(reader);
    let (mut stored, mut seen) = (0, 0);
    job.until("all rounds", |job| {
        for _ in 0..job.random.below(4) {
            if stored == ROUNDS {
                break;
            }
            let row = job.random.below(ROWS);
            let number = stored + 1;
            let mut record = [0; 16];
            record[..8].copy_from_slice(&number.to_le_bytes());
            record[8..].copy_from_slice(&(row as u64).to_le_bytes());
            for offset in (0..ROW_BYTES).step_by(8) {
                store(&shared.region, row * ROW_BYTES + offset, number);
            }
            if job.fabric(owner).try_send(reader, &[&record]).is_ok() {
                stored = number;
            }
        }
        while lane.outstanding() < lane.capacity() {
            let Some(record) = job.inboxes[reader.index()].records[owner.index()].pop_front()
            else {
                break;
            };
            let number = u64::from_le_bytes(record[..8].try_into().expect("8 bytes"));
            let row = u64::from_le_bytes(record[8..].try_into().expect("8 bytes"));
            let row = usize::try_from(row).expect("a row");
            lane.post(shared.read(row * ROW_BYTES, ROW_BYTES, number)).expect("a legal READ");
        }
        lane.submit().expect("no fault of this node");
        for done in poll_lane(lane.as_mut()) {
            let (bytes, head) = done.result.expect("the owner lives");
            for word in words(&bytes).chain(head) {
                assert!(word >= done.token, "READ {word} after the record of {}", done.token);
            }
            seen += 1;
        }
        (seen == ROUNDS).then_some(())
    });
}
