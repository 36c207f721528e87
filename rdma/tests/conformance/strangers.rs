//! Who may not join: wrong tokens, noise, and jobs that are not complete.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use sterna_rdma::{Fabric, FabricConfig, FabricError, Rank, job};

use super::job::{Inbox, WAIT_MAX};
use super::jobs::{Choice, configs, open_all};

/// Waits until a node has counted so many strangers.
fn wait_counted(fabric: &dyn Fabric, count: u64) {
    let start = Instant::now();
    while fabric.counters().strangers_refused < count {
        assert!(start.elapsed() < WAIT_MAX, "{:?}", fabric.counters());
        let mut inbox = Inbox::new(2);
        fabric.poll(64, &mut inbox).expect("no fault of this node");
        std::thread::sleep(Duration::from_millis(1));
    }
}

pub fn a_stranger_with_a_wrong_token_cannot_join_and_is_counted<P: Choice>(_seed: u64) {
    let (mut members, address) = configs::<P>(2);
    let late = members.pop().expect("rank 1");
    let first = members.pop().expect("rank 0");
    let rank_0 = std::thread::spawn(|| job::open(first));
    let mut wrong = FabricConfig::new(Rank(1), 2, Some(&address), "another job's secret token");
    wrong.choice = P::CHOICE;
    wrong.join_timeout = WAIT_MAX;
    let refused = job::open(wrong).err().expect("it is a stranger").to_string();
    assert!(!refused.contains(super::jobs::TOKEN), "an error does not tell the secret");
    let rank_1 = job::open(late).expect("the stranger took no place");
    let rank_0 = rank_0.join().expect("no panic").expect("the job meets");
    assert!(rank_0.counters().strangers_refused >= 1);
    assert_eq!(rank_1.rank(), Rank(1));
}

pub fn noise_at_the_door_is_refused_and_harms_nobody<P: Choice>(_seed: u64) {
    let (members, address) = configs::<P>(2);
    let fabrics = open_all(members);
    let noises: [&[u8]; 4] =
        [b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", &[0xff; 4096], &[0; 4096], &[]];
    let mut callers = Vec::new();
    for noise in noises {
        // The door may be closed after the job has met; that is a refusal, too.
        let Ok(mut caller) = TcpStream::connect(&address) else { return };
        let _ = caller.write_all(noise);
        caller.shutdown(std::net::Shutdown::Write).ok();
        callers.push(caller);
    }
    wait_counted(fabrics[0].as_ref(), noises.len() as u64 - 1);
    for mut caller in callers {
        caller.set_read_timeout(Some(WAIT_MAX)).expect("a timeout");
        let mut answer = Vec::new();
        let ended = (&mut caller).take(64 * 1024).read_to_end(&mut answer);
        assert!(
            !ended.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock),
            "the connection was closed"
        );
    }
    let start = Instant::now();
    let mut inbox = Inbox::new(2);
    while fabrics[1].try_send(Rank(0), &[b"unharmed"]).is_err() {
        assert!(start.elapsed() < WAIT_MAX);
        std::thread::yield_now();
    }
    while inbox.records[1].is_empty() {
        assert!(start.elapsed() < WAIT_MAX, "the members still reach each other");
        fabrics[0].poll(64, &mut inbox).expect("no fault of this node");
        fabrics[1].poll(64, &mut Inbox::new(2)).expect("no fault of this node");
    }
}

pub fn a_missing_rank_is_named_within_the_limit<P: Choice>(_seed: u64) {
    let (mut members, _) = configs::<P>(3);
    members.pop();
    for member in &mut members {
        member.join_timeout = Duration::from_millis(700);
    }
    let joining: Vec<_> =
        members.into_iter().map(|config| std::thread::spawn(|| job::open(config))).collect();
    let start = Instant::now();
    for (rank, thread) in joining.into_iter().enumerate() {
        let error = thread.join().expect("no panic").err().expect("rank 2 is missing");
        if rank == 0 {
            // The others are told by rank 0 or reach their own limit.
            assert!(matches!(error, FabricError::JoinTimeout { .. }), "{error}");
            assert!(error.to_string().contains("rank 2"), "rank 0 knows who is missing: {error}");
        }
    }
    assert!(start.elapsed() < WAIT_MAX);
}

/// The first message of a node of another version, which is how both sides begin.
fn opening_of_another_version() -> [u8; 48] {
    let mut opening = [0; 48];
    opening[..8].copy_from_slice(b"STERNA\r\n");
    opening[8..12].copy_from_slice(&9_999_u32.to_le_bytes());
    opening
}

pub fn a_node_of_another_version_is_refused_by_both_sides_with_the_remedy<P: Choice>(_seed: u64) {
    let (mut members, address) = configs::<P>(2);
    let late = members.pop().expect("rank 1");
    let first = members.pop().expect("rank 0");
    let rank_0 = std::thread::spawn(|| job::open(first));
    let mut caller = TcpStream::connect(&address).expect("rank 0 listens");
    caller.set_read_timeout(Some(WAIT_MAX)).expect("a timeout");
    caller.write_all(&opening_of_another_version()).expect("it is taken");
    let mut answer = Vec::new();
    // The end may come as a reset, as the rest of what was said is not read.
    let _ = (&mut caller).take(1024).read_to_end(&mut answer);
    assert!(answer.starts_with(b"STERNA\r\n") && answer.get(12) == Some(&1), "{answer:?}");
    let rank_1 = job::open(late).expect("the stranger took no place");
    let rank_0 = rank_0.join().expect("no panic").expect("the job meets");
    assert!(rank_0.counters().strangers_refused >= 1);
    drop((rank_0, rank_1));

    // The other way round: this node calls one of another version.
    let (mut members, address) = configs::<P>(2);
    let mut caller = members.pop().expect("rank 1");
    caller.join_timeout = WAIT_MAX;
    let listener = members.pop().expect("rank 0").listener.expect("rank 0 listens");
    let other = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a caller");
        let mut hello = [0; 48];
        stream.read_exact(&mut hello).expect("its opening");
        stream.write_all(&opening_of_another_version()).expect("it listens");
    });
    let error = job::open(caller).err().expect("another version").to_string();
    other.join().expect("no panic");
    for part in ["9999", "one build", &address] {
        assert!(error.contains(part), "{part} is not in: {error}");
    }
}
