//! Sizes, alignments, wrap-around and full rings.

use sterna_rdma::{READ_BYTES_MAX, RECORD_BYTES_MAX, Rank, SendError};

use super::Cluster;
use super::job::{Job, Random};
use super::memory::{fill, pattern, words};

const SIZES: [usize; 16] = [
    8,
    16,
    24,
    56,
    64,
    72,
    120,
    128,
    136,
    4_088,
    4_096,
    4_104,
    65_544,
    (1 << 20) - 8,
    1 << 20,
    READ_BYTES_MAX,
];

pub fn reads_of_all_sizes_and_alignments_return_the_bytes<C: Cluster>(seed: u64) {
    let mut job = Job::<C>::start(2, seed);
    let (owner, reader) = (Rank(0), Rank(1));
    let shared = job.share(owner, READ_BYTES_MAX + 4096);
    fill(&shared.region, seed);
    let mut lane = job.lane(reader);
    let mut posted = Vec::new();
    let mut bytes_posted = 0;
    for size in SIZES {
        let last = shared.region.bytes() - size;
        let odd = job.random.below(last / 8 + 1) * 8;
        for offset in [0, 8, 16, 56, 64, odd, last] {
            if offset > last {
                continue;
            }
            let token = posted.len() as u64;
            let mut read = shared.read(offset, size, token);
            read.token = token;
            lane.post(read).unwrap_or_else(|error| panic!("{size} bytes at {offset}: {error}"));
            posted.push((offset, size));
            bytes_posted += size as u64;
        }
    }
    lane.submit().expect("no fault of this node");
    for done in job.finish(lane.as_mut(), posted.len()) {
        let (offset, size) = posted[usize::try_from(done.token).expect("a token")];
        let (bytes, head) = done.result.expect("the owner lives");
        assert_eq!(bytes.len(), size);
        for (at, word) in words(&bytes).enumerate() {
            assert_eq!(word, pattern((offset + at * 8) as u64, seed), "{size} bytes at {offset}");
        }
        let second = if size == 8 { 0 } else { pattern(offset as u64 + 8, seed) };
        assert_eq!(head, [pattern(offset as u64, seed), second]);
    }
    let counters = job.fabric(reader).counters();
    assert_eq!((counters.reads, counters.read_bytes), (posted.len() as u64, bytes_posted));
}

pub fn records_of_all_lengths_are_gathered_from_their_parts<C: Cluster>(seed: u64) {
    let mut job = Job::<C>::start(2, seed);
    let lengths = (1..=130).chain(250..=260).chain(4_090..=4_100).chain([
        65_535,
        65_537,
        RECORD_BYTES_MAX - 7,
        RECORD_BYTES_MAX - 1,
        RECORD_BYTES_MAX,
    ]);
    for len in lengths {
        let record = job.random.bytes(len);
        let mut parts: Vec<&[u8]> = Vec::new();
        let mut rest = &record[..];
        let parts_max = 1 + job.random.below(12);
        while parts.len() < parts_max {
            let (part, after) = rest.split_at(job.random.below(rest.len() + 1));
            parts.push(part);
            rest = after;
        }
        parts.push(rest);
        job.send(Rank(1), Rank(0), &parts);
        let received = job.receive(Rank(0), Rank(1));
        assert_eq!(received.len(), len);
        assert!(received == record, "the bytes of a record of {len} bytes differ");
    }
}

/// A record of a random odd length that its number determines.
fn odd(number: usize, seed: u64) -> Vec<u8> {
    let mut random = Random(number as u64 ^ seed.rotate_left(40));
    let len = match random.below(16) {
        0 => random.below(60_000),
        1..4 => random.below(5_000),
        _ => random.below(300),
    };
    random.bytes(len | 1)
}

pub fn rings_wrap_around_and_lose_nothing<C: Cluster>(seed: u64) {
    const BYTES: usize = 6 << 20;
    let mut job = Job::<C>::start(2, seed);
    let (from, to) = (Rank(0), Rank(1));
    let (mut sent, mut sent_bytes, mut received) = (0, 0, 0);
    job.until("all records to arrive", |job| {
        while sent_bytes < BYTES && job.random.below(50) > 0 {
            let record = odd(sent, seed);
            match job.fabric(from).try_send(to, &[&record]) {
                Ok(()) => {
                    sent += 1;
                    sent_bytes += record.len();
                }
                Err(SendError::Full(_)) => break,
                Err(SendError::Busy(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
        for record in job.inboxes[to.index()].records[from.index()].drain(..) {
            assert!(record == odd(received, seed), "record {received} differs");
            received += 1;
        }
        (sent_bytes >= BYTES && received == sent).then_some(())
    });
}

pub fn links_full_on_both_sides_drain_and_work_again<C: Cluster>(seed: u64) {
    let mut job = Job::<C>::start(2, seed);
    let ends = [(Rank(0), Rank(1)), (Rank(1), Rank(0))];
    let record = |len: usize| {
        move |number: usize| {
            let mut record = vec![0; len];
            record[..8].copy_from_slice(&(number as u64).to_le_bytes());
            record
        }
    };
    // Short records meet the limit of records, long ones that of bytes.
    for len in [8, 1_000, 50_001] {
        let sent = ends.map(|(from, to)| {
            job.send(from, to, &[&record(len)(0)]);
            1 + job.send_until_full(from, to, |number| record(len)(number + 1))
        });
        for ((from, to), sent) in ends.into_iter().zip(sent) {
            for number in 0..sent {
                let received = job.receive(to, from);
                assert!(received == record(len)(number), "record {number} of {len} bytes differs");
            }
        }
        job.assert_connected(Rank(0), Rank(1));
    }
    let full: u64 = ends.iter().map(|&(node, _)| job.fabric(node).counters().sends_full).sum();
    assert!(full >= 6, "each side was refused once for each length: {full}");
}
