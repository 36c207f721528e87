//! The simulator's own promises: one seed, one history; and the weak behaviours that the fabric
//! allows do occur, so that nothing that passes here relies on more than the rules.

#[path = "conformance/memory.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the conformance suite")]
mod memory;

use std::sync::Arc;
use std::time::Duration;

use memory::{load, store, words};
use sterna_rdma::sim::{SimConfig, SimWorld};
use sterna_rdma::{
    Fabric, LostReason, Rank, Read, ReadLane, Region, RegionSpec, Rights, SendError, Sink,
};

const OWNER: Rank = Rank(0);
const READER: Rank = Rank(1);

/// Keeps what arrives.
#[derive(Default)]
struct Log {
    records: Vec<(Rank, Vec<u8>)>,
    lost: Vec<(Rank, LostReason)>,
}

impl Sink for Log {
    fn record(&mut self, from: Rank, record: &[u8]) {
        self.records.push((from, record.to_vec()));
    }

    fn peer_lost(&mut self, peer: Rank, reason: LostReason) {
        self.lost.push((peer, reason));
    }
}

fn send(fabric: &dyn Fabric, to: Rank, record: &[u8]) {
    for _ in 0..1_000 {
        match fabric.try_send(to, &[record]) {
            Err(SendError::Busy(_)) => {}
            other => return other.expect("credit"),
        }
    }
    panic!("busy a thousand times in a row");
}

/// A region of the owner that the reader has imported, and a lane of the reader.
fn share(world: &SimWorld, bytes: usize) -> (Arc<Region>, Box<dyn ReadLane>) {
    let owner = world.fabric(OWNER);
    let reader = world.fabric(READER);
    let spec = RegionSpec { name: "test", bytes, rights: Rights::Read };
    let region = owner.allocate(spec).expect("memory");
    let token = owner.export(&region).expect("an export");
    reader.import(OWNER, &token).expect("an import");
    (region, reader.open_lane().expect("a lane"))
}

fn post(lane: &mut dyn ReadLane, region: &Region, len: u32, token: u64) {
    lane.post(Read { peer: OWNER, region: region.id(), offset: 0, len, token }).expect("legal");
    lane.submit().expect("no fault");
}

fn take(lane: &mut dyn ReadLane) -> Vec<(u64, [u64; 2], Vec<u64>)> {
    let mut done = Vec::new();
    lane.poll(&mut |completion| {
        let data = completion.result.expect("the owner lives");
        done.push((completion.token, data.head_before, words(data.bytes).collect()));
    })
    .expect("no fault");
    done
}

/// A small job with all kinds of events; returns the digest of its history.
fn history(seed: u64) -> (u64, u64) {
    let world = SimWorld::new(SimConfig::new(4, seed));
    let fabrics: Vec<_> = (0..4).map(|node| world.fabric(Rank(node))).collect();
    let (region, mut lane) = share(&world, 4096);
    let mut log = Log::default();
    for round in 0..2_000_u64 {
        let from = &fabrics[(round % 3) as usize];
        let to = Rank(((round + 1) % 4) as u16);
        let _ = from.try_send(to, &[&round.to_le_bytes()]);
        store(&region, (round % 512) as usize * 8, round);
        if round % 5 == 0 && lane.outstanding() < 100 {
            post(lane.as_mut(), &region, 640, round);
        }
        match round {
            500 => world.stall(Rank(2), Duration::from_micros(300)),
            700 => world.slow(Rank(0), Rank(1), 20),
            1_500 => world.kill(Rank(3)),
            _ => {}
        }
        let _ = world.advance();
        for fabric in &fabrics[..3] {
            fabric.poll(8, &mut log).expect("no fault");
        }
        take(lane.as_mut());
    }
    while world.advance() {}
    (world.trace_digest(), world.now_ns())
}

#[test]
fn one_seed_has_one_history_and_others_have_others() {
    let histories: Vec<_> = (0..20).map(history).collect();
    let again: Vec<_> = (0..20).map(history).collect();
    assert_eq!(histories, again);
    for (seed, one) in histories.iter().enumerate() {
        assert!(!histories[..seed].contains(one), "seed {seed} repeats another's history");
    }
}

#[test]
fn lines_of_a_read_are_fetched_in_any_order_and_at_different_times() {
    // All lines get a new number at once while READs run: a READ may hold the older number in an
    // earlier line or in a later one.
    let world = SimWorld::new(SimConfig::new(2, 11));
    let (region, mut lane) = share(&world, 4096);
    let (mut ascending, mut descending, mut mixed) = (0, 0, 0);
    for round in 1..3_000_u64 {
        for line in 0..8 {
            store(&region, line * 64, round);
        }
        if lane.outstanding() < 4 {
            post(lane.as_mut(), &region, 512, round);
        }
        assert!(world.advance(), "a READ is outstanding");
        for (_, _, row) in take(lane.as_mut()) {
            let (first, last) = (row[8], row[56]);
            ascending += u32::from(first < last);
            descending += u32::from(first > last);
            mixed += u32::from(row[0] != row[8]);
        }
    }
    assert!(ascending > 20 && descending > 20 && mixed > 20, "{ascending} {descending} {mixed}");
}

#[test]
fn a_read_sees_stores_that_come_after_it_was_posted_or_misses_them() {
    let (mut seen, mut missed) = (0, 0);
    for seed in 0..200 {
        let world = SimWorld::new(SimConfig::new(2, seed));
        let (region, mut lane) = share(&world, 4096);
        post(lane.as_mut(), &region, 8, 0);
        world.advance_until(5_000);
        store(&region, 0, 1);
        while world.advance() {}
        match take(lane.as_mut())[0].2[0] {
            0 => missed += 1,
            _ => seen += 1,
        }
    }
    assert!(seen > 20 && missed > 20, "{seen} seen, {missed} missed");
}

#[test]
fn reads_of_a_lane_overtake_each_other_and_records() {
    let world = SimWorld::new(SimConfig::new(2, 5));
    let (region, mut lane) = share(&world, 4096);
    let mut log = Log::default();
    let (mut overtaken, mut before_record, mut after_record) = (0, 0, 0);
    for round in 0..200_u64 {
        post(lane.as_mut(), &region, 64, 2 * round);
        post(lane.as_mut(), &region, 64, 2 * round + 1);
        for _ in 0..round % 4 {
            assert!(world.advance(), "READs are outstanding");
        }
        send(world.fabric(OWNER).as_ref(), READER, &round.to_le_bytes());
        let mut order = Vec::new();
        while world.advance() {
            let reads = take(lane.as_mut()).into_iter().map(|(token, _, _)| token);
            order.extend(reads.map(Some));
            let records = world.fabric(READER).poll(8, &mut log).expect("no fault");
            order.extend((0..records).map(|_| None));
        }
        let place = |item| order.iter().position(|&at| at == item).expect("it arrived");
        overtaken += u32::from(place(Some(2 * round)) > place(Some(2 * round + 1)));
        before_record += u32::from(place(Some(2 * round)) < place(None));
        after_record += u32::from(place(Some(2 * round)) > place(None));
    }
    assert!(overtaken > 20, "{overtaken}");
    assert!(before_record > 20 && after_record > 20, "{before_record} {after_record}");
}

#[test]
fn records_of_different_peers_have_no_order() {
    let (mut earlier_first, mut later_first) = (0, 0);
    for seed in 0..100 {
        let world = SimWorld::new(SimConfig::new(3, seed));
        send(world.fabric(Rank(0)).as_ref(), Rank(2), b"earlier");
        send(world.fabric(Rank(1)).as_ref(), Rank(2), b"later");
        while world.advance() {}
        let mut log = Log::default();
        assert_eq!(world.fabric(Rank(2)).poll(8, &mut log).expect("no fault"), 2);
        match &log.records[0].1[..] {
            b"earlier" => earlier_first += 1,
            _ => later_first += 1,
        }
    }
    assert!(earlier_first > 20 && later_first > 20, "{earlier_first} {later_first}");
}

#[test]
fn device_reads_give_no_order_between_the_head_and_the_rest() {
    // A writer marks the header, changes the row, and names the new content in the header. Where the
    // head is loaded first and last, two equal valid heads vouch for the bytes; a device's do not.
    let torn = |device_reads: bool| {
        let config = SimConfig { device_reads, ..SimConfig::new(2, 3) };
        let world = SimWorld::new(config);
        let (region, mut lane) = share(&world, 4096);
        let mut torn = 0;
        for round in 1..2_000_u64 {
            store(&region, 8, 2 * round - 1);
            for line in 1..6 {
                store(&region, line * 64, round);
                if lane.outstanding() < 4 {
                    post(lane.as_mut(), &region, 384, round);
                }
                assert!(world.advance(), "a READ is outstanding");
            }
            store(&region, 8, 2 * round);
            for pause in 0..30 {
                if pause < 20 && lane.outstanding() < 4 {
                    post(lane.as_mut(), &region, 384, round);
                }
                let _ = world.advance();
            }
            for (_, head, row) in take(lane.as_mut()) {
                let heads_agree = head == [row[0], row[1]] && row[1] % 2 == 0;
                let of_header = (1..6).all(|line| row[line * 8] == row[1] / 2);
                torn += u32::from(heads_agree && !of_header);
                assert!(!device_reads || head == [row[0], row[1]], "a device loads the head once");
            }
        }
        torn
    };
    assert_eq!(torn(false), 0);
    assert!(torn(true) > 20, "{}", torn(true));
}

#[test]
fn a_record_is_invisible_until_it_is_delivered_and_credit_returns_later() {
    let config = SimConfig { ring_records: 1, ..SimConfig::new(2, 9) };
    let world = SimWorld::new(config);
    let (owner, reader) = (world.fabric(OWNER), world.fabric(READER));
    let mut log = Log::default();
    send(owner.as_ref(), READER, b"one");
    assert_eq!(reader.poll(8, &mut log).expect("no fault"), 0, "it is on its way");
    assert!(world.advance());
    assert!(matches!(full(owner.as_ref()), SendError::Full(_)), "delivered is not consumed");
    assert!(world.has_arrivals(READER));
    assert_eq!(reader.poll(8, &mut log).expect("no fault"), 1);
    assert!(matches!(full(owner.as_ref()), SendError::Full(_)), "the credit is on its way");
    assert!(world.advance());
    send(owner.as_ref(), READER, b"two");
}

/// The refusal of a send, other than by chance.
fn full(fabric: &dyn Fabric) -> SendError {
    for _ in 0..1_000 {
        match fabric.try_send(READER, &[b"x"]) {
            Err(SendError::Busy(_)) => {}
            Err(error) => return error,
            Ok(()) => panic!("taken without credit"),
        }
    }
    panic!("busy a thousand times in a row");
}

#[test]
fn a_stalled_node_receives_nothing_but_can_be_read() {
    let world = SimWorld::new(SimConfig::new(2, 4));
    let (region, mut lane) = share(&world, 4096);
    let owner = world.fabric(OWNER);
    store(&region, 0, 77);
    send(world.fabric(READER).as_ref(), OWNER, b"for later");
    world.stall(OWNER, Duration::from_millis(1));
    let mut log = Log::default();
    post(lane.as_mut(), &region, 8, 0);
    world.advance_until(999_999);
    assert!(world.is_stalled(OWNER) && !world.has_arrivals(OWNER));
    assert_eq!(owner.poll(8, &mut log).expect("no fault"), 0);
    assert_eq!(take(lane.as_mut())[0].2[0], 77);
    assert!(world.advance(), "the end of the stall is an event");
    assert!(!world.is_stalled(OWNER));
    assert_eq!(world.now_ns(), 1_000_000);
    assert_eq!(owner.poll(8, &mut log).expect("no fault"), 1);
}

#[test]
fn a_death_keeps_what_was_delivered_and_loses_a_random_rest() {
    let mut received = Vec::new();
    for seed in 0..100 {
        let world = SimWorld::new(SimConfig::new(2, seed));
        for number in 0..20_u8 {
            send(world.fabric(OWNER).as_ref(), READER, &[number]);
        }
        for _ in 0..5 {
            assert!(world.advance());
        }
        world.kill(OWNER);
        assert!(!world.is_alive(OWNER));
        while world.advance() {}
        let mut log = Log::default();
        let reader = world.fabric(READER);
        while reader.poll(64, &mut log).expect("no fault of this node") > 0 {}
        assert!(log.records.iter().zip(0..).all(|((_, record), number)| record[..] == [number]));
        assert!(matches!(log.lost[..], [(OWNER, LostReason::Died(_))]));
        assert!(world.fabric(OWNER).poll(8, &mut log).is_err(), "a dead node runs no more");
        received.push(log.records.len());
    }
    assert!(received.iter().all(|&count| (5..=20).contains(&count)), "{received:?}");
    assert!(received.contains(&20) && received.iter().any(|&count| count < 8), "{received:?}");
}

#[test]
fn a_slow_link_takes_longer_in_its_direction_only() {
    let arrival_ns = |factor: u64, from: Rank, to: Rank| {
        let world = SimWorld::new(SimConfig { spike_per_mille: 0, ..SimConfig::new(2, 1) });
        world.slow(OWNER, READER, factor);
        send(world.fabric(from).as_ref(), to, &[0; 1000]);
        while world.advance() {}
        world.now_ns()
    };
    assert_eq!(arrival_ns(1, READER, OWNER), arrival_ns(50, READER, OWNER));
    assert!(arrival_ns(50, OWNER, READER) >= 40 * arrival_ns(1, OWNER, READER));
}

#[test]
fn memory_of_a_region_is_zeroed_aligned_and_whole_pages() {
    let world = SimWorld::new(SimConfig::new(1, 0));
    let spec = RegionSpec { name: "test", bytes: 5_000, rights: Rights::Read };
    let region = world.fabric(OWNER).allocate(spec).expect("memory");
    assert_eq!(region.bytes(), 8_192);
    assert!((0..8_192).step_by(8).all(|offset| load(&region, offset) == 0));
    let huge = RegionSpec { bytes: usize::MAX, ..spec };
    assert!(world.fabric(OWNER).allocate(huge).is_err());
}
