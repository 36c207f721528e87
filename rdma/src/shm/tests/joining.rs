//! Joining: any order, nobody missing, nobody else.

use std::time::{Duration, Instant};

use super::nodes::{LIMIT, Node, incarnation, new_key, nodes};
use crate::error::FabricError;
use crate::join::proof::JobKey;
use crate::rank::Rank;
use crate::shm::join::name;
use crate::shm::packet::{Hello, Packet, Refusal};
use crate::shm::socket::Socket;
use crate::wake::{poll, pollfd};

#[test]
fn every_pair_of_nodes_is_linked_in_both_directions() {
    let mut nodes = nodes(4);
    for (from, node) in nodes.iter().enumerate() {
        for to in (0..4).filter(|&to| to != from) {
            node.send(to, format!("{from} to {to}").as_bytes());
        }
    }
    for (to, node) in nodes.iter_mut().enumerate() {
        let mut got: Vec<_> = (0..3).map(|_| node.receive()).collect();
        got.sort_unstable();
        let expected: Vec<_> = (0..4)
            .filter(|&from| from != to)
            .map(|from| (Rank::from_index(from), format!("{from} to {to}").into_bytes()))
            .collect();
        assert_eq!(got, expected);
    }
}

#[test]
fn nodes_may_start_in_any_order() {
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let key = new_key();
        std::thread::scope(|scope| {
            for rank in order {
                let key = &key;
                scope.spawn(move || Node::join(key, rank, 3, LIMIT).expect("all come"));
                std::thread::sleep(Duration::from_millis(10));
            }
        });
    }
}

#[test]
fn a_deadline_names_the_ranks_that_are_missing() {
    // The two that are there must have met before the deadline; on a busy machine that may take a while.
    let mut limit = Duration::from_millis(400);
    loop {
        let key = new_key();
        let missed = std::thread::scope(|scope| {
            let both = [0, 2].map(|rank| {
                let key = &key;
                scope.spawn(move || Node::join(key, rank, 4, limit).err().expect("two are missing"))
            });
            both.map(|node| match node.join().expect("no panic") {
                FabricError::JoinTimeout { waited_for, .. } => waited_for,
                error => panic!("{error}"),
            })
        });
        if missed.iter().all(|names| names == "rank 1, rank 3") {
            return;
        }
        assert!(limit < LIMIT, "with a limit of {limit:?}: {missed:?}");
        limit *= 8;
    }
}

#[test]
fn a_node_with_another_token_does_not_join() {
    let (key, other) = (new_key(), new_key());
    std::thread::scope(|scope| {
        let wrong = scope.spawn(|| Node::join(&other, 1, 2, Duration::from_millis(300)).err());
        let error = Node::join(&key, 0, 2, Duration::from_millis(300)).err();
        assert!(matches!(error, Some(FabricError::JoinTimeout { .. })));
        assert!(matches!(wrong.join().expect("no panic"), Some(FabricError::JoinTimeout { .. })));
    });
}

#[test]
fn strangers_are_refused_and_counted_and_do_not_keep_peers_out() {
    let key = new_key();
    let at = name(&JobKey::new(&key), Rank(0), incarnation(0));
    std::thread::scope(|scope| {
        let node = scope.spawn(|| Node::join(&key, 0, 2, LIMIT).expect("rank 1 comes"));
        let call = || loop {
            if let Ok(socket) = Socket::connect(&at) {
                return socket;
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        let answer = |bytes: &[u8]| {
            let socket = call();
            socket.send(bytes, &[]).expect("the socket is open");
            let mut fds = [pollfd(
                std::os::fd::AsRawFd::as_raw_fd(&std::os::fd::AsFd::as_fd(&socket)),
                libc::POLLIN,
            )];
            assert!(poll(&mut fds, LIMIT).expect("poll works") > 0, "no answer");
            let mut bytes = [0; Packet::BYTES];
            let received = socket.receive(&mut bytes).map_or(0, |received| received.len);
            (received > 0).then(|| Packet::from_bytes(&bytes).expect("a packet"))
        };
        let silent = call();
        assert_eq!(answer(b"GET / HTTP/1.1"), None);
        assert_eq!(answer(&[0; 4000]), None);
        let hello =
            Packet::Hello(Hello { proof: 1, from: Rank(1), to: Rank(0), ring_bytes: 1 << 20 });
        assert_eq!(answer(&hello.to_bytes()), Some(Packet::Refused(Refusal::Proof)));
        let mut version = hello.to_bytes();
        version[8] ^= 1;
        assert_eq!(answer(&version), Some(Packet::Refused(Refusal::Version)));
        let mut peer = Node::join(&key, 1, 2, LIMIT).expect("rank 0 is there");
        let node = node.join().expect("no panic");
        assert_eq!(node.counters().strangers_refused, 4);
        node.send(1, b"still works");
        assert_eq!(peer.receive(), (Rank(0), b"still works".to_vec()));
        drop(silent);
        // A process that another test is starting holds a copy of the listening socket until its program begins.
        let deadline = Instant::now() + LIMIT;
        while Socket::connect(&at).is_ok() {
            assert!(Instant::now() < deadline, "nobody listens after all have joined");
            std::thread::sleep(Duration::from_millis(1));
        }
    });
}
