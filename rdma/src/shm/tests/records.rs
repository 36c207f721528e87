//! Links: order, wrap-around, full rings, sleep, and peers that break the rules.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use super::nodes::{LIMIT, Node, pair};
use crate::error::SendError;
use crate::fabric::{LostReason, RECORD_BYTES_MAX};
use crate::provider::PeerProvider;
use crate::rank::Rank;
use crate::ring::Memory;
use crate::shm::inbox::RingMemory;

/// Record number `number`: its length and content follow from it.
fn content(number: u64) -> Vec<u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1234_5678;
    state ^= state >> 29;
    let limit = if number.is_multiple_of(16) { RECORD_BYTES_MAX as u64 + 1 } else { 3000 };
    let len = usize::try_from(state % limit).expect("small");
    (0..len).map(|i| (state >> (8 * (i % 7))).to_le_bytes()[0] ^ i.to_le_bytes()[0]).collect()
}

#[test]
fn both_sides_can_fill_their_rings_and_all_arrives_in_order_once() {
    const COUNT: u64 = 1500;
    let filled = Barrier::new(2);
    let exchange = |mut node: Node, peer: usize| {
        let (mut sent, mut received) = (0, 0);
        let deadline = Instant::now() + LIMIT;
        while sent < COUNT || received < COUNT {
            assert!(Instant::now() < deadline, "stuck at {sent} sent, {received} received");
            // Sends until the ring is full before it takes anything, at first even before the other does.
            let is_first = sent == 0;
            while sent < COUNT {
                match node.provider.try_send(Rank::from_index(peer), &[&content(sent), &[7]]) {
                    Ok(()) => sent += 1,
                    Err(SendError::Full(_)) => break,
                    Err(error) => panic!("{error}"),
                }
            }
            if is_first {
                filled.wait();
            }
            if node.step() == 0 {
                std::thread::yield_now();
            }
            while let Some((from, record)) = node.inbox.records.pop_front() {
                assert_eq!(from, Rank::from_index(peer));
                let (last, rest) = record.split_last().expect("never empty");
                assert!(*last == 7 && rest == content(received), "record {received} differs");
                received += 1;
            }
        }
        let counters = node.counters();
        assert_eq!((counters.records_sent, counters.records_received), (COUNT, COUNT));
        assert_eq!(counters.record_bytes_sent, counters.record_bytes_received);
        assert!(counters.sends_full > 0, "the ring was never full");
        node
    };
    let (first, second) = pair();
    std::thread::scope(|scope| {
        let other = scope.spawn(|| exchange(second, 0));
        let _first = exchange(first, 1);
        other.join().expect("no panic");
    });
}

#[test]
fn a_record_above_the_limit_is_refused_and_one_at_the_limit_arrives() {
    let (first, mut second) = pair();
    let large = vec![5; RECORD_BYTES_MAX + 1];
    let error = first.provider.try_send(Rank(1), &[&large]);
    assert!(matches!(error, Err(SendError::TooLong { .. })));
    for _ in 0..8 {
        first.send(1, &large[1..]);
        assert_eq!(second.receive().1, large[1..]);
    }
    first.send(1, &[]);
    assert_eq!(second.receive(), (Rank(0), Vec::new()));
}

#[test]
fn no_wake_up_is_lost_between_nodes_that_sleep_after_each_record() {
    const ROUNDS: u32 = 5_000;
    let (first, second) = pair();
    let play = |mut node: Node, peer: usize, serves: bool| {
        for round in 0..ROUNDS {
            if serves {
                node.send(peer, &round.to_le_bytes());
            }
            // A lost wake-up would sleep to the limit and fail there.
            let deadline = Instant::now() + LIMIT;
            while node.inbox.records.is_empty() {
                assert!(Instant::now() < deadline, "asleep in round {round} with a record waiting");
                node.park_and_step(LIMIT);
            }
            let (_, record) = node.inbox.records.pop_front().expect("there is one");
            assert_eq!(record, round.to_le_bytes());
            if !serves {
                node.send(peer, &record);
            }
        }
        node
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| play(second, 0, false));
        let first = play(first, 1, true);
        let second = other.join().expect("no panic");
        assert!(first.counters().wakes_sent + second.counters().wakes_sent > 0, "nobody slept");
    });
}

#[test]
fn a_sender_does_not_wake_a_node_that_is_awake() {
    let (first, mut second) = pair();
    for _ in 0..100 {
        first.send(1, b"x");
    }
    second.until("all of them", |node| node.inbox.records.len() == 100);
    assert!(first.counters().wakes_sent <= 1, "one at most, for the sleep before the first");
}

#[test]
fn records_come_before_a_goodbye_and_nothing_after() {
    let (first, mut second) = pair();
    for number in 0..50_u8 {
        first.send(1, &[number]);
    }
    first.provider.goodbye();
    let refused = first.provider.try_send(Rank(1), &[b"late"]);
    assert!(matches!(refused, Err(SendError::PeerLost { .. })));
    drop(first);
    assert_eq!(second.loss_of(0), LostReason::Goodbye);
    let numbers: Vec<u8> = second.inbox.records.iter().map(|(_, record)| record[0]).collect();
    assert_eq!(numbers, (0..50).collect::<Vec<u8>>());
    let refused = second.provider.try_send(Rank(0), &[b"late"]);
    assert!(matches!(refused, Err(SendError::PeerLost { peer: Rank(0), .. })));
}

#[test]
fn goodbyes_at_the_same_time_are_both_heard() {
    for _ in 0..20 {
        let (first, second) = pair();
        std::thread::scope(|scope| {
            let leave = |mut node: Node, peer: usize| {
                node.send(peer, b"last words");
                node.provider.goodbye();
                assert_eq!(node.loss_of(peer), LostReason::Goodbye);
                assert_eq!(node.inbox.records.len(), 1);
            };
            scope.spawn(move || leave(first, 1));
            scope.spawn(move || leave(second, 0));
        });
    }
}

#[test]
fn of_an_expelled_peer_nothing_more_is_delivered() {
    let (mut first, mut second) = pair();
    second.send(0, b"too late");
    first.provider.expel(Rank(1), "it is slow");
    first.provider.expel(Rank(1), "once more");
    assert_eq!(first.loss_of(1), LostReason::Expelled("it is slow".to_owned()));
    assert!(first.inbox.records.is_empty());
    assert!(matches!(second.loss_of(0), LostReason::Died(_)));
    first.step();
}

#[test]
fn a_node_that_sleeps_wakes_for_an_expulsion() {
    let (mut first, _second) = pair();
    assert!(first.provider.arm());
    first.provider.expel(Rank(1), "test");
    let begin = Instant::now();
    first.park_and_step(LIMIT);
    assert!(begin.elapsed() < LIMIT, "slept through");
    assert_eq!(first.inbox.lost.len(), 1);
}

#[test]
fn a_peer_that_breaks_its_ring_is_cut_off_and_the_other_peers_stay() {
    let mut nodes = super::nodes::nodes(3);
    let mut third = nodes.pop().expect("three");
    let (second, mut first) = (nodes.pop().expect("two"), nodes.pop().expect("one"));
    second.send(0, b"fine");
    // Overwrites its own record's header after publishing it: a length beyond the ring.
    second.provider.break_ring(Rank(0), |ring: &RingMemory| {
        ring.store(0, &(1_u64 << 20).to_le_bytes());
    });
    third.send(0, b"honest");
    assert!(matches!(first.loss_of(1), LostReason::Malformed(_)));
    assert_eq!(first.receive(), (Rank(2), b"honest".to_vec()));
    first.send(2, b"and back");
    assert_eq!(third.receive(), (Rank(0), b"and back".to_vec()));
}

#[test]
fn packets_out_of_place_cut_a_peer_off() {
    use crate::region::RegionId;
    use crate::shm::packet::Packet;
    let noise = [9; 48];
    let hugest = Packet::Region { id: RegionId(u32::MAX), bytes: 8 }.to_bytes();
    let nothing = Packet::Region { id: RegionId(1), bytes: 4096 }.to_bytes();
    for bytes in [&noise[..], &noise[..5], &hugest, &nothing] {
        let (mut first, second) = pair();
        second.provider.peer(Rank(0)).socket.send(bytes, &[]).expect("room");
        assert!(matches!(first.loss_of(1), LostReason::Malformed(_)));
    }
    // A file that could shrink under a reader.
    let (mut first, second) = pair();
    let file = std::fs::File::open("/proc/self/exe").expect("this program");
    let packet = Packet::Region { id: RegionId(1), bytes: 4096 }.to_bytes();
    let fds = [std::os::fd::AsFd::as_fd(&file)];
    second.provider.peer(Rank(0)).socket.send(&packet, &fds).expect("room");
    assert!(matches!(first.loss_of(1), LostReason::Malformed(_)));
}

#[test]
fn an_idle_node_sleeps() {
    let (mut first, _second) = pair();
    first.step();
    assert!(first.provider.arm(), "there is nothing to do");
    first.provider.disarm();
    // The bell has not rung and nothing was sent: a park ends by its limit alone.
    first.park_and_step(Duration::from_millis(1));
    assert_eq!(first.step(), 0);
}
