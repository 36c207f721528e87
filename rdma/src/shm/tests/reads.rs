//! Regions and lanes.

use std::time::Duration;

use super::nodes::{Node, pair, region};
use crate::error::FabricError;
use crate::fabric::{READ_BYTES_MAX, Read, ReadLane};
use crate::provider::PeerProvider;
use crate::rank::Rank;
use crate::region::{Region, RegionId, RegionToken};
use crate::shm::control;
use crate::shm::packet::Packet;
use crate::tuning::SHM_LANE_READS_MAX;

fn read(region: u32, offset: u64, len: u32) -> Read {
    Read { peer: Rank(0), region: RegionId(region), offset, len, token: offset }
}

/// Stores a word of the region's owner.
fn store(region: &Region, offset: usize, value: u64) {
    assert!(offset.is_multiple_of(8) && offset + 8 <= region.bytes());
    // SAFETY: an aligned word inside the mapping, only ever touched by atomics.
    unsafe {
        let word = region.base().add(offset).cast::<std::sync::atomic::AtomicU64>();
        word.as_ref().store(value, std::sync::atomic::Ordering::Relaxed);
    }
}

/// One READ, to its end.
fn fetch(lane: &mut dyn ReadLane, read: Read) -> Result<([u64; 2], Vec<u8>), FabricError> {
    lane.post(read)?;
    lane.submit()?;
    let mut result = None;
    while result.is_none() {
        lane.wait(Duration::from_secs(10))?;
        lane.poll(&mut |done| {
            assert_eq!(done.token, read.token);
            result = Some(done.result.map(|data| (data.head_before, data.bytes.to_vec())));
        })?;
    }
    assert_eq!(lane.outstanding(), 0);
    result.expect("the loop ended")
}

/// Imports as soon as the token has come in a record.
fn import(node: &mut Node) -> RegionToken {
    let (from, record) = node.receive();
    let token = RegionToken::from_bytes(&record.try_into().expect("a token"));
    node.provider.import(from, &token).expect("the record came after the memory");
    token
}

#[test]
fn reads_of_any_length_and_offset_return_what_the_owner_has_stored() {
    let (first, mut second) = pair();
    let bytes = READ_BYTES_MAX.next_multiple_of(4096) + 4096;
    let (rows, token) = first.export(3, bytes);
    for offset in (0..rows.bytes()).step_by(8) {
        store(&rows, offset, offset as u64 ^ 0x5555);
    }
    first.send(1, &token.to_bytes());
    import(&mut second);
    let mut lane = second.provider.open_lane().expect("little memory");
    for (offset, len) in
        [(0, 8), (8, 16), (16, 24), (4096 - 8, 512), (bytes - 4096, 4096), (56, READ_BYTES_MAX)]
    {
        let wish = read(3, offset as u64, u32::try_from(len).expect("small"));
        let (head, got) = fetch(lane.as_mut(), wish).expect("inside");
        assert_eq!(head[0], offset as u64 ^ 0x5555);
        assert_eq!(head[1], if len > 8 { (offset as u64 + 8) ^ 0x5555 } else { 0 });
        for (i, word) in got.chunks_exact(8).enumerate() {
            assert_eq!(word, ((offset + 8 * i) as u64 ^ 0x5555).to_le_bytes());
        }
    }
    let counters = second.counters();
    assert_eq!(counters.reads, 6);
    drop(lane);
    drop(second.provider.open_lane().expect("its counters are taken over"));
    assert_eq!(second.counters(), counters);
}

#[test]
fn a_read_after_a_record_sees_what_was_stored_before_it_was_sent() {
    const ROUNDS: u64 = 20_000;
    let (first, mut second) = pair();
    let (rows, token) = first.export(0, 4096);
    first.send(1, &token.to_bytes());
    import(&mut second);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 1..=ROUNDS {
                store(&rows, 1024, round);
                while first.provider.try_send(Rank(1), &[&round.to_le_bytes()]).is_err() {
                    std::thread::yield_now();
                }
            }
        });
        let mut lane = second.provider.open_lane().expect("little memory");
        for round in 1..=ROUNDS {
            assert_eq!(second.receive().1, round.to_le_bytes());
            let (head, _) = fetch(lane.as_mut(), read(0, 1024, 8)).expect("inside");
            assert!(head[0] >= round, "read {} after record {round}", head[0]);
        }
    });
}

#[test]
fn wrong_reads_are_refused_with_the_reason() {
    let (first, mut second) = pair();
    let (_rows, token) = first.export(2, 4096);
    first.send(1, &token.to_bytes());
    second.until("the record", |node| !node.inbox.records.is_empty());
    let mut lane = second.provider.open_lane().expect("little memory");
    let unknown = |result| matches!(result, Err(FabricError::UnknownRegion { .. }));
    assert!(unknown(lane.post(read(2, 0, 8))), "not imported yet");
    import(&mut second);
    lane.post(read(2, 0, 8)).expect("imported now");
    assert!(unknown(lane.post(read(1, 0, 8))));
    assert!(unknown(lane.post(read(u32::MAX, 0, 8))));
    assert!(unknown(lane.post(Read { peer: Rank(9), ..read(2, 0, 8) })));
    for (offset, len) in [(4096, 8), (4088, 16), (u64::MAX - 7, 8), (0, 8192)] {
        let error = lane.post(read(2, offset, len));
        assert!(matches!(error, Err(FabricError::OutOfRange { .. })), "{offset} {len}");
    }
    for (offset, len) in [(4, 8), (0, 12), (0, 0)] {
        assert!(matches!(lane.post(read(2, offset, len)), Err(FabricError::Config(_))));
    }
    let wrong = RegionToken { bytes: 8192, ..token };
    assert!(unknown(second.provider.import(Rank(0), &wrong)));
    assert!(unknown(second.provider.import(Rank(0), &RegionToken { id: RegionId(5), ..token })));
    assert!(unknown(second.provider.import(Rank(9), &token)));
}

#[test]
fn a_full_lane_says_so_and_polls_empty() {
    let (first, mut second) = pair();
    let (_rows, token) = first.export(0, 4096);
    first.send(1, &token.to_bytes());
    import(&mut second);
    let mut lane = second.provider.open_lane().expect("little memory");
    assert_eq!(lane.capacity(), SHM_LANE_READS_MAX);
    for _ in 0..lane.capacity() {
        lane.post(read(0, 0, 64)).expect("room");
    }
    assert!(matches!(lane.post(read(0, 0, 64)), Err(FabricError::LaneFull { .. })));
    assert_eq!(lane.outstanding(), lane.capacity());
    let mut count = 0;
    assert_eq!(lane.poll(&mut |_| count += 1).expect("no fault"), lane.capacity());
    assert_eq!((count, lane.outstanding()), (lane.capacity(), 0));
    lane.post(read(0, 0, 64)).expect("room again");
    // A lane outlives its provider, and ends with READs outstanding.
    drop((first, second));
    drop(lane);
}

#[test]
fn two_nodes_export_more_than_their_sockets_hold_to_each_other_at_once() {
    const COUNT: u32 = 350;
    let (first, second) = pair();
    let export = |mut node: Node, peer: usize| {
        let regions: Vec<_> = (0..COUNT).map(|id| node.export(id, 4096)).collect();
        node.send(peer, b"done");
        node.receive();
        for (_, token) in &regions {
            node.provider.import(Rank::from_index(peer), token).expect("exported before");
        }
        node
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| export(second, 0));
        let first = export(first, 1);
        let second = other.join().expect("no panic");
        drop((first, second));
    });
}

#[test]
fn a_peer_that_takes_nothing_ends_an_export_with_its_name() {
    let (first, second) = pair();
    let peers = first.provider.peers();
    let (rows, _) = region(0, 4096);
    let backing = rows.backing().downcast_ref::<crate::memory::Backing>().expect("made by memory");
    let packet = Packet::Region { id: rows.id(), bytes: 4096 };
    let fds = [backing.fd().expect("shared")];
    let limit = Duration::from_millis(50);
    let error = (0..100_000)
        .find_map(|_| control::send(peers, &peers[0], packet, &fds, limit).err())
        .expect("the socket is full at some time");
    assert!(error.to_string().contains("rank 1"), "{error}");
    drop(second);
}
