//! A process is killed in the middle of its work.

use std::process::{Child, Command, Stdio};
use std::time::Instant;

use super::nodes::{LIMIT, Node, new_key};
use crate::error::{FabricError, SendError};
use crate::fabric::{LostReason, Read};
use crate::provider::PeerProvider;
use crate::rank::Rank;
use crate::region::RegionToken;

/// Where the child finds its job's token.
const TOKEN: &str = "STERNA_TEST_DEATH_TOKEN";

/// Records that the child has published before it waits for its end.
const RECORDS: u32 = 1000;

/// What the first word of the child's region says.
const BEGUN: u64 = 77;
const ALL_PUBLISHED: u64 = 78;

/// Ends the child with the test, however that ends.
struct Ends(Child);

impl Drop for Ends {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Not a test of its own: the process that the test below starts and kills.
#[test]
fn the_process_that_is_killed() {
    let Ok(key) = std::env::var(TOKEN) else { return };
    // SAFETY: asks the kernel to end this process with its parent.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    let node = Node::join(&key, 1, 2, LIMIT).expect("the parent is there");
    let (rows, token) = node.export(0, 1 << 16);
    // SAFETY: inside the mapping; a single word.
    unsafe { rows.base().cast::<u64>().write_volatile(BEGUN) };
    node.send(0, &token.to_bytes());
    for number in 0..RECORDS {
        node.send(0, &number.to_le_bytes());
    }
    // Says that all is published, where the parent reads it without taking a record.
    // SAFETY: as above.
    unsafe { rows.base().cast::<u64>().write_volatile(ALL_PUBLISHED) };
    std::thread::sleep(LIMIT);
}

#[test]
fn what_a_killed_process_has_published_arrives_then_its_loss_once() {
    let key = new_key();
    let child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "shm::tests::death::the_process_that_is_killed"])
        .env(TOKEN, &key)
        .stdout(Stdio::null())
        .spawn()
        .expect("a process");
    let mut child = Ends(child);
    let mut node = Node::join(&key, 0, 2, LIMIT).expect("the child comes");
    let (_, record) = node.receive();
    let token = RegionToken::from_bytes(&record.try_into().expect("a token"));
    node.provider.import(Rank(1), &token).expect("exported before");
    let mut lane = node.provider.open_lane().expect("little memory");
    let read = Read { peer: Rank(1), region: token.id, offset: 0, len: 512, token: 1 };
    let mut first_word = BEGUN;
    let deadline = Instant::now() + LIMIT;
    while first_word != ALL_PUBLISHED {
        assert!(first_word == BEGUN && Instant::now() < deadline, "the child is stuck");
        lane.post(read).expect("imported");
        lane.poll(&mut |done| first_word = done.result.expect("alive").head_before[0])
            .expect("no fault");
    }
    // All but the first few records are still in the ring when the process ends.
    child.0.kill().expect("it lives");
    child.0.wait().expect("it ends");
    // Its memory is still mapped: a read that was on its way harms nobody.
    lane.post(read).expect("the loss is not known yet");
    let why = node.loss_of(1);
    assert!(matches!(&why, LostReason::Died(_)), "{why:?}");
    let numbers: Vec<u32> = node
        .inbox
        .records
        .iter()
        .map(|(_, record)| u32::from_le_bytes(record.as_slice().try_into().expect("4 bytes")))
        .collect();
    assert_eq!(numbers, (0..RECORDS).collect::<Vec<_>>(), "in order, none twice, none left out");

    let lost = |error: FabricError| matches!(error, FabricError::PeerLost { peer: Rank(1), .. });
    lane.poll(&mut |done| assert!(done.result.is_err_and(lost))).expect("not a fault of this node");
    assert!(lane.post(read).is_err_and(lost));
    assert!(node.provider.import(Rank(1), &RegionToken { bytes: 8, ..token }).is_err_and(lost));
    let refused = node.provider.try_send(Rank(1), &[b"hello?"]);
    assert!(matches!(refused, Err(SendError::PeerLost { peer: Rank(1), .. })));
    let (rows, _) = super::nodes::region(9, 4096);
    node.provider.export(&rows).expect("lost peers are skipped");
    node.step();
}
