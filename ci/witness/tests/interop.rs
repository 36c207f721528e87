//! Ours against a peer built on the `ibverbs` crate, on one RDMA device: what one side posts, the other receives.
//! `ci/rdma` runs it in a guest; without a device it is skipped.

use std::io::Write as _;
use std::time::{Duration, Instant};

use sterna_rdma::verbs::devices;
use sterna_rdma::verbs::witness::{Address, End, Kind};

const WORDS: usize = 1024;
const WAIT_MAX: Duration = Duration::from_secs(20);

fn is_there() -> bool {
    let Err(reason) = devices() else { return true };
    let is_required = std::env::var_os("STERNA_REQUIRE_VERBS").is_some();
    assert!(!is_required, "STERNA_REQUIRE_VERBS is set, but {reason}");
    let _ = writeln!(std::io::stderr(), "SKIPPED: {reason}");
    false
}

/// Waits for a completion of the other crate's queue; its number and immediate data.
fn completed(queue: &ibverbs::CompletionQueue<'_>) -> (u64, Option<u32>) {
    let start = Instant::now();
    let mut places = [ibverbs::ibv_wc::default(); 1];
    loop {
        if let Some(done) = queue.poll(&mut places).expect("a queue").first() {
            assert!(done.is_valid(), "{:?}", done.error());
            return (done.wr_id(), done.imm_data());
        }
        assert!(start.elapsed() < WAIT_MAX, "no completion");
        std::thread::yield_now();
    }
}

/// The GID at this place, as the other crate has it; the two ends are on one device, so it is that of both.
fn gid_of(context: &ibverbs::Context, index: u8) -> ibverbs::Gid {
    let entry = context.gid_table().iter().find(|entry| entry.gid_index == u32::from(index));
    entry.expect("both see one table").gid
}

/// The other crate's end, ours, and what both have to be told.
macro_rules! pair {
    ($kind:expr => $ours:ident, $theirs:ident, $completions:ident, $domain:ident) => {
        let $ours = End::new($kind).expect("our end");
        let own = $ours.address();
        let list = ibverbs::devices().expect("devices");
        let context = list.iter().next().expect("a device").open().expect("a context");
        let $completions = context.create_cq(16, 0).expect("a queue");
        let $domain = context.alloc_pd().expect("a domain");
        let prepared = $domain
            .create_qp(&$completions, &$completions, ibverbs::ibv_qp_type::IBV_QPT_RC)
            .set_gid_index(u32::from(own.gid_index))
            .set_rq_psn(own.first_packet)
            .allow_remote_rw()
            .build()
            .expect("their end");
        let endpoint = prepared.endpoint();
        let peer = Address {
            number: endpoint.num,
            first_packet: 0,
            gid: own.gid,
            gid_index: own.gid_index,
            lid: endpoint.lid,
        };
        $ours.connect(peer).expect("our half");
        let told = ibverbs::QueuePairEndpoint {
            num: own.number,
            lid: own.lid,
            gid: Some(gid_of(&context, own.gid_index)),
        };
        #[allow(unused_mut)]
        let mut $theirs = prepared.handshake(told).expect("their half");
    };
}

fn pattern(word: usize, seed: u64) -> u64 {
    (word as u64 ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[test]
fn what_we_write_and_announce_arrives_there() {
    if !is_there() {
        return;
    }
    pair!(Kind::Link => ours, theirs, completions, domain);
    let mut memory = domain.allocate::<u64>(WORDS).expect("memory");
    for (round, inline) in [(0_u64, false), (1, true)] {
        let words = if inline { 8 } else { WORDS };
        // A receive request, which an announced WRITE uses up without touching its memory.
        // SAFETY: the memory outlives the request, whose completion is waited for.
        unsafe { theirs.post_receive(&mut memory, WORDS - 1.., 40 + round) }.expect("a request");
        let bytes: Vec<u8> =
            (0..words).flat_map(|word| pattern(word, round).to_le_bytes()).collect();
        let remote = (memory.as_ptr().addr() as u64, memory.rkey().key);
        ours.write(&bytes, remote, Some(0xabcd_0000 + round as u32), inline).expect("a WRITE");
        let (id, immediate) = completed(&completions);
        // It travels in the network's byte order, in which the other crate hands it out.
        let immediate = immediate.map(u32::from_be);
        assert_eq!((id, immediate), (40 + round, Some(0xabcd_0000 + round as u32)));
        for (word, value) in memory[..words].iter().enumerate() {
            assert_eq!(*value, pattern(word, round), "word {word}");
        }
    }
}

#[test]
fn we_read_what_is_there() {
    if !is_there() {
        return;
    }
    pair!(Kind::Reader => ours, _theirs, _completions, domain);
    let mut memory = domain.allocate::<u64>(WORDS).expect("memory");
    for (word, value) in memory.iter_mut().enumerate() {
        *value = pattern(word, 7);
    }
    for (first, words) in [(0, WORDS), (3, 1), (100, 200)] {
        let remote = (memory[first..].as_ptr().addr() as u64, memory.rkey().key);
        let bytes = ours.read(words * 8, remote).expect("a READ");
        for (at, value) in bytes.chunks_exact(8).enumerate() {
            let value = u64::from_le_bytes(value.try_into().expect("8 bytes"));
            assert_eq!(value, pattern(first + at, 7), "word {}", first + at);
        }
    }
}

#[test]
fn what_is_sent_there_arrives_here() {
    if !is_there() {
        return;
    }
    pair!(Kind::Link => ours, theirs, completions, domain);
    let mut memory = domain.allocate::<u64>(WORDS).expect("memory");
    for (word, value) in memory.iter_mut().enumerate() {
        *value = pattern(word, 9);
    }
    ours.await_messages().expect("receive requests");
    for (number, words) in [(0, 1), (1, 100), (2, 512)] {
        // SAFETY: the memory outlives the request, whose completion is waited for.
        unsafe { theirs.post_send(&mut memory, ..words, number) }.expect("a SEND");
        assert_eq!(completed(&completions).0, number);
        let message = ours.message().expect("a message");
        assert_eq!(message.len(), words * 8);
        for (word, value) in message.chunks_exact(8).enumerate() {
            let value = u64::from_le_bytes(value.try_into().expect("8 bytes"));
            assert_eq!(value, pattern(word, 9), "word {word}");
        }
    }
}
