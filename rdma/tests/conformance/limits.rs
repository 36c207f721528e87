//! What is refused, with which error, and that everything goes on afterwards.

use sterna_rdma::{
    FabricError, READ_BYTES_MAX, RECORD_BYTES_MAX, Rank, Read, RegionId, RegionToken, SendError,
};

use super::Cluster;
use super::job::Job;
use super::memory::{fill, pattern, words};

const OWNER: Rank = Rank(0);
const READER: Rank = Rank(1);

pub fn a_full_lane_refuses_and_works_after_a_poll<C: Cluster>(seed: u64) {
    let mut job = Job::<C>::start(2, seed);
    let shared = job.share(OWNER, 4096);
    fill(&shared.region, seed);
    let mut lane = job.lane(READER);
    let capacity = lane.capacity();
    for round in 0..2 {
        for token in 0..capacity {
            lane.post(shared.read(token % 512 * 8, 8, token as u64)).expect("below capacity");
        }
        assert_eq!(lane.outstanding(), capacity);
        match lane.post(shared.read(0, 8, 0)) {
            Err(FabricError::LaneFull { capacity: told }) => assert_eq!(told, capacity),
            other => panic!("round {round}: {other:?}"),
        }
        lane.submit().expect("no fault of this node");
        let mut tokens: Vec<_> =
            job.finish(lane.as_mut(), capacity).into_iter().map(|done| done.token).collect();
        tokens.sort_unstable();
        assert!(tokens.iter().copied().eq(0..capacity as u64), "each READ finishes once");
        assert_eq!(lane.outstanding(), 0);
    }
}

pub fn reads_that_cannot_be_are_refused_and_the_lane_goes_on<C: Cluster>(seed: u64) {
    let mut job = Job::<C>::start(2, seed);
    let shared = job.share(OWNER, 4096);
    let large = job.share(OWNER, 2 * READ_BYTES_MAX);
    fill(&shared.region, seed);
    let mut lane = job.lane(READER);
    let bytes = shared.region.bytes();
    for (offset, len) in
        [(bytes as u64, 8), (bytes as u64 - 8, 16), (u64::MAX - 7, 16), (0, bytes + 8)]
    {
        let read = Read { offset, ..shared.read(0, len, 1) };
        match lane.post(read) {
            Err(FabricError::OutOfRange { peer, region, region_bytes, .. }) => {
                assert_eq!((peer, region), (OWNER, shared.token.id));
                assert_eq!(region_bytes, bytes as u64);
            }
            other => panic!("{read:?}: {other:?}"),
        }
    }
    for (offset, len) in [(0, 0), (0, 12), (4, 8), (0, READ_BYTES_MAX + 8)] {
        let read = large.read(offset, len, 1);
        assert!(lane.post(read).is_err(), "{read:?} is not legal");
    }
    let unknown = Read { region: RegionId(60_000), ..shared.read(0, 8, 1) };
    assert!(matches!(lane.post(unknown), Err(FabricError::UnknownRegion { .. })));
    let own = job.export(READER, 4096);
    let mine = Read { peer: OWNER, region: RegionId(own.token.id.0 + 1_000), ..own.read(0, 8, 1) };
    assert!(matches!(lane.post(mine), Err(FabricError::UnknownRegion { .. })));
    assert!(lane.post(Read { peer: Rank(7), ..shared.read(0, 8, 1) }).is_err(), "no such node");

    let not_imported = job.export(OWNER, 4096);
    match lane.post(not_imported.read(0, 8, 1)) {
        Err(FabricError::UnknownRegion { peer, region }) => {
            assert_eq!((peer, region), (OWNER, not_imported.token.id));
        }
        other => panic!("a region that was not imported: {other:?}"),
    }
    let forged = RegionToken { id: RegionId(50_000), ..shared.token };
    assert!(job.fabric(READER).import(OWNER, &forged).is_err(), "nobody exported this");

    assert_eq!(lane.outstanding(), 0, "what was refused is not outstanding");
    let read = job.read(lane.as_mut(), shared.read(64, 64, 9)).expect("a legal READ");
    assert!(words(&read).eq((64..128).step_by(8).map(|offset| pattern(offset, seed))));
    job.assert_connected(OWNER, READER);
}

pub fn a_record_that_is_too_long_is_refused_and_the_link_goes_on<C: Cluster>(seed: u64) {
    let mut job = Job::<C>::start(2, seed);
    let half = vec![1; RECORD_BYTES_MAX / 2 + 1];
    match job.fabric(OWNER).try_send(READER, &[&half, &half]) {
        Err(SendError::TooLong { bytes, max }) => {
            assert_eq!((bytes, max), (RECORD_BYTES_MAX + 2, RECORD_BYTES_MAX));
        }
        other => panic!("{other:?}"),
    }
    assert!(job.fabric(OWNER).try_send(Rank(9), &[b"x"]).is_err(), "no such node");
    job.assert_connected(OWNER, READER);
}

pub fn two_nodes_export_many_regions_at_the_same_time<C: Cluster>(seed: u64) {
    const REGIONS: usize = 12;
    let mut job = Job::<C>::start(2, seed);
    let mut shared = Vec::new();
    for number in 0..REGIONS {
        for owner in [OWNER, READER] {
            let region = job.export(owner, 4096 * (1 + number % 3));
            fill(&region.region, region_seed(seed, owner, number));
            shared.push((number, region));
        }
    }
    for (_, region) in &shared {
        let to = if region.owner == OWNER { READER } else { OWNER };
        job.hand_over(region, to);
    }
    let mut lanes = [job.lane(OWNER), job.lane(READER)];
    let mut posted = [0, 0];
    for (number, region) in &shared {
        let reader = 1 - region.owner.index();
        let read = region.read(region.region.bytes() - 256, 256, *number as u64);
        lanes[reader].post(read).expect("a legal READ");
        posted[reader] += 1;
    }
    for (reader, lane) in lanes.iter_mut().enumerate() {
        lane.submit().expect("no fault of this node");
        let owner = Rank::from_index(1 - reader);
        for done in job.finish(lane.as_mut(), posted[reader]) {
            let number = usize::try_from(done.token).expect("a token");
            let (bytes, _) = done.result.expect("the owner lives");
            let first = (4096 * (1 + number % 3) - 256) as u64;
            let seed = region_seed(seed, owner, number);
            let expected = (first..first + 256).step_by(8).map(|offset| pattern(offset, seed));
            assert!(words(&bytes).eq(expected), "region {number} of {owner}");
        }
    }
}

fn region_seed(seed: u64, owner: Rank, number: usize) -> u64 {
    seed ^ ((u64::from(owner.0) << 8) + number as u64)
}

pub fn lanes_with_reads_outstanding_can_be_dropped<C: Cluster>(seed: u64) {
    let mut job = Job::<C>::start(2, seed);
    let shared = job.share(OWNER, 64 * 1024);
    fill(&shared.region, seed);
    for round in 0..40 {
        let mut lane = job.lane(READER);
        for token in 0..lane.capacity().min(32) {
            lane.post(shared.read(token * 64, 4096, token as u64)).expect("below capacity");
        }
        if round % 4 > 0 {
            lane.submit().expect("no fault of this node");
        }
        for _ in 0..job.random.below(6) {
            job.step();
        }
    }
    let mut lane = job.lane(READER);
    let read = job.read(lane.as_mut(), shared.read(0, 64, 3)).expect("a legal READ");
    assert!(words(&read).eq((0..64).step_by(8).map(|offset| pattern(offset, seed))));
}
