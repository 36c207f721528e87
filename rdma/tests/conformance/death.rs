//! Peers that end, say goodbye, or are expelled, in the middle of everything.

use sterna_rdma::{FabricError, LostReason, Rank, SendError};

use super::Cluster;
use super::job::Job;

const LEFT: Rank = Rank(0);
const GONE: Rank = Rank(1);
const THIRD: Rank = Rank(2);

/// Sends `count` numbered records; returns how many went out (a link may be full).
fn send_numbered<C: Cluster>(job: &mut Job<C>, from: Rank, to: Rank, count: usize) -> usize {
    let mut sent = 0;
    while sent < count {
        match job.fabric(from).try_send(to, &[&(sent as u64).to_le_bytes()]) {
            Ok(()) => sent += 1,
            Err(SendError::Busy(_)) => {}
            Err(_) => return sent,
        }
    }
    sent
}

/// What `at` received of `from` must be a first part of what was sent; returns its length.
fn assert_first_part<C: Cluster>(job: &Job<C>, at: Rank, from: Rank) -> usize {
    let records = &job.inboxes[at.index()].records[from.index()];
    for (number, record) in records.iter().enumerate() {
        assert_eq!(record[..], (number as u64).to_le_bytes(), "in order and without a gap");
    }
    records.len()
}

fn assert_died(reason: &LostReason) {
    assert!(matches!(reason, LostReason::Died(_)), "{reason:?}");
}

/// Nothing reaches a lost peer: neither a record nor a READ, and both errors name it.
fn assert_unreachable<C: Cluster>(job: &Job<C>, from: Rank, gone: Rank) {
    match job.fabric(from).try_send(gone, &[b"x"]) {
        Err(SendError::PeerLost { peer, .. }) => assert_eq!(peer, gone),
        other => panic!("{other:?}"),
    }
}

pub fn a_dead_peer_is_reported_once_and_after_a_first_part_of_what_it_sent<C: Cluster>(seed: u64) {
    let mut job = Job::<C>::start(3, seed);
    let shared = job.share(GONE, 4096);
    let mut lane = job.lane(LEFT);
    job.read(lane.as_mut(), shared.read(0, 64, 1)).expect("the owner lives");
    let sent = send_numbered(&mut job, GONE, LEFT, 50);
    for _ in 0..job.random.below(5) {
        job.step();
    }
    job.end(GONE);
    for node in [LEFT, THIRD] {
        assert_died(&job.wait_lost(node, GONE));
        assert_unreachable(&job, node, GONE);
    }
    assert!(assert_first_part(&job, LEFT, GONE) <= sent);
    match lane.post(shared.read(0, 64, 2)) {
        Err(FabricError::PeerLost { peer, .. }) => assert_eq!(peer, GONE),
        other => panic!("a READ at a lost peer: {other:?}"),
    }
    // Inbox asserts that nothing of the dead peer follows and that it is not lost twice.
    job.assert_connected(LEFT, THIRD);
    let third = job.share(THIRD, 4096);
    // The dead peer's place is not imported anywhere; the living read each other.
    job.read(lane.as_mut(), third.read(0, 64, 3)).expect("the owner lives");
}

pub fn a_goodbye_comes_after_all_records_and_is_no_failure<C: Cluster>(seed: u64) {
    let mut job = Job::<C>::start(3, seed);
    let sent = send_numbered(&mut job, GONE, LEFT, 50);
    job.fabric(GONE).goodbye();
    for node in [LEFT, THIRD] {
        assert_eq!(job.wait_lost(node, GONE), LostReason::Goodbye);
        assert_unreachable(&job, node, GONE);
    }
    assert_eq!(assert_first_part(&job, LEFT, GONE), sent, "an orderly end loses nothing");
    job.end(GONE);
    job.assert_connected(LEFT, THIRD);
}

pub fn an_expelled_peer_delivers_nothing_more_and_learns_of_it<C: Cluster>(seed: u64) {
    let mut job = Job::<C>::start(3, seed);
    let shared = job.share(GONE, 4096);
    let mut lane = job.lane(LEFT);
    send_numbered(&mut job, GONE, LEFT, 50);
    // Some records are delivered, some have arrived, some may be on their way.
    for round in 0..job.random.below(40) {
        job.cluster.idle(u32::try_from(round).expect("small"));
    }
    if seed.is_multiple_of(2) {
        job.poll(LEFT, 10);
    }
    let received = assert_first_part(&job, LEFT, GONE);
    for token in 0..8 {
        lane.post(shared.read(0, 4096, token)).expect("a legal READ");
    }
    lane.submit().expect("no fault of this node");
    job.fabric(LEFT).expel(GONE, "too late");
    job.finish(lane.as_mut(), 8);
    assert_unreachable(&job, LEFT, GONE);
    assert!(matches!(lane.post(shared.read(0, 8, 1)), Err(FabricError::PeerLost { .. })));
    match job.wait_lost(LEFT, GONE) {
        LostReason::Expelled(reason) => assert!(reason.contains("too late"), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(assert_first_part(&job, LEFT, GONE), received, "nothing came after it was expelled");
    job.wait_lost(GONE, LEFT);
    job.assert_connected(GONE, THIRD);
    job.assert_connected(LEFT, THIRD);
}

pub fn a_sender_without_credit_learns_of_the_death<C: Cluster>(seed: u64) {
    let mut job = Job::<C>::start(2, seed);
    job.send_until_full(LEFT, GONE, |_| vec![7; 10_000]);
    job.end(GONE);
    assert_died(&job.wait_lost(LEFT, GONE));
    assert_unreachable(&job, LEFT, GONE);
}

pub fn reads_outstanding_at_a_dead_peer_end<C: Cluster>(seed: u64) {
    let mut job = Job::<C>::start(2, seed);
    let shared = job.share(GONE, 1 << 20);
    let mut lane = job.lane(LEFT);
    let count = lane.capacity().min(64);
    for token in 0..count {
        lane.post(shared.read(token * 64, 64 * 1024, token as u64)).expect("below capacity");
    }
    lane.submit().expect("no fault of this node");
    for _ in 0..job.random.below(4) {
        job.step();
    }
    job.end(GONE);
    let done = job.finish(lane.as_mut(), count);
    let mut tokens: Vec<_> = done.iter().map(|done| done.token).collect();
    tokens.sort_unstable();
    assert!(tokens.into_iter().eq(0..count as u64), "each READ ends once");
    for failed in done.iter().filter_map(|done| done.result.as_ref().err()) {
        assert!(failed.contains("rank 1"), "the error names the peer: {failed}");
    }
    assert_died(&job.wait_lost(LEFT, GONE));
    assert_eq!(lane.outstanding(), 0);
}

pub fn a_death_between_export_and_import_is_an_error_value<C: Cluster>(seed: u64) {
    let mut job = Job::<C>::start(3, seed);
    let shared = job.export(GONE, 4096);
    job.send(GONE, LEFT, &[&shared.token.to_bytes()]);
    job.receive(LEFT, GONE);
    job.end(GONE);
    let mut lane = job.lane(LEFT);
    // The death may be known already or not; both are fine, a panic or an endless wait is not.
    if job.fabric(LEFT).import(GONE, &shared.token).is_ok()
        && lane.post(shared.read(0, 8, 1)).is_ok()
    {
        lane.submit().expect("no fault of this node");
        job.finish(lane.as_mut(), 1);
    }
    assert_died(&job.wait_lost(LEFT, GONE));
    // To import what nobody can read is refused now or when it is read.
    if job.fabric(LEFT).import(GONE, &shared.token).is_ok() {
        assert!(matches!(lane.post(shared.read(0, 8, 2)), Err(FabricError::PeerLost { .. })));
    }
    // Exports skip a lost peer.
    let third = job.export(LEFT, 4096);
    job.hand_over(&third, THIRD);
    let mut lane = job.lane(THIRD);
    job.read(lane.as_mut(), third.read(0, 8, 1)).expect("the owner lives");
}
