//! A provider against peers that break the rules: raw sockets that have passed the door.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::frame::{Consumed, FrameKind, header};
use super::request::{ANSWER_HEAD_BYTES, REQUEST_BYTES, Request};
use super::serve::{Lane, ServedLane};
use super::*;
use crate::config::ProviderChoice;
use crate::join::door::Admitted;
use crate::join::identity::HostIdentity;
use crate::join::proof::Transcript;
use crate::memory;
use crate::region::{RegionSpec, Rights};

/// Limit for every wait; reached only if something is broken.
const LIMIT: Duration = Duration::from_secs(120);

/// Two connected sockets.
fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let near = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
    let (far, _) = listener.accept().expect("accepted");
    (near, far)
}

/// Rank 0 of a job of two, whose rank 1 is a raw socket in the hands of a test.
struct Bench {
    provider: TcpProvider,
    poll: mio::Poll,
    link: TcpStream,
    records: Vec<Vec<u8>>,
    lost: Vec<LostReason>,
}

impl Sink for (&mut Vec<Vec<u8>>, &mut Vec<LostReason>) {
    fn record(&mut self, _: Rank, record: &[u8]) {
        self.0.push(record.to_vec());
    }

    fn peer_lost(&mut self, _: Rank, reason: LostReason) {
        self.1.push(reason);
    }
}

impl Bench {
    fn new() -> Self {
        let host = HostIdentity { boot_id: [0; 16], network_namespace: 0, uid: 0 };
        let nodes: Vec<NodeIdentity> = (0..2)
            .map(|rank| NodeIdentity {
                rank: Rank(rank),
                size: 2,
                choice: ProviderChoice::Tcp,
                rdma: None,
                pid: 0,
                incarnation: 0,
                host,
                address: (Ipv4Addr::LOCALHOST, 1).into(),
            })
            .collect();
        let poll = mio::Poll::new().expect("an event queue");
        let (near, link) = pair();
        let provider = TcpProvider::new(TcpParts {
            me: nodes[0].clone(),
            nodes,
            key: JobKey::new("a token"),
            links: vec![(Rank(1), near)],
            arrivals: Arc::default(),
            strangers: Arc::default(),
            registry: poll.registry().try_clone().expect("shared"),
            first_token: 1000,
        })
        .expect("a provider");
        link.set_read_timeout(Some(LIMIT)).expect("set");
        Self { provider, poll, link, records: Vec::new(), lost: Vec::new() }
    }

    /// A lane of rank 1, as its door would have handed it over.
    fn lane(&self) -> TcpStream {
        let (stream, far) = pair();
        let node = self.provider.nodes[1].clone();
        let transcript = Transcript { purpose: Purpose::Lane, caller: [0; 32], door: [0; 32] };
        self.provider.adopt(&mut self.provider.engine(), Admitted { stream, node, transcript });
        far.set_read_timeout(Some(LIMIT)).expect("set");
        far
    }

    fn step(&mut self) {
        let mut events = mio::Events::with_capacity(64);
        self.poll.poll(&mut events, Some(Duration::from_millis(1))).expect("no fault");
        let mut ready = Vec::new();
        for event in &events {
            if event.is_read_closed() || event.is_error() {
                self.provider.closed(event.token());
            }
            ready.push(event.token());
        }
        let mut sink = (&mut self.records, &mut self.lost);
        self.provider.poll(64, &ready, &mut sink).expect("no fault");
    }

    fn step_until(&mut self, enough: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !enough(self) {
            assert!(start.elapsed() < LIMIT, "waited in vain");
            self.step();
        }
    }
}

/// SplitMix64.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z ^ (z >> 27)
}

fn below(state: &mut u64, limit: u64) -> u32 {
    u32::try_from(random(state) % limit).expect("a small limit")
}

#[test]
fn a_malformed_frame_ends_the_link_after_the_records_before_it() {
    let good = header(FrameKind::Record, 3, Consumed::default());
    let mut unknown = good;
    unknown[4] = 9;
    let mut reserved = good;
    reserved[6] = 1;
    let mut too_long = good;
    too_long[3] = 0xff;
    let credit_from_nothing = header(FrameKind::Credit, 0, Consumed { bytes: 1, records: 1 });
    for bad in [unknown, reserved, too_long, credit_from_nothing] {
        let mut bench = Bench::new();
        bench.link.write_all(&good).expect("sent");
        bench.link.write_all(b"abc").expect("sent");
        bench.link.write_all(&bad).expect("sent");
        bench.step_until(|bench| !bench.lost.is_empty());
        assert_eq!(bench.records, [b"abc"]);
        assert!(matches!(bench.lost[..], [LostReason::Malformed(_)]), "{:?}", bench.lost);
        assert!(bench.provider.try_send(Rank(1), &[b"x"]).is_err());
        let mut rest = Vec::new();
        let _ = bench.link.read_to_end(&mut rest);
        assert!(rest.is_empty(), "the connection is closed");
    }
}

#[test]
fn a_malformed_request_costs_the_peer_its_connections() {
    let good = Request { slot: 1, region: 0, len: 64, offset: 0 }.to_bytes();
    for damage in [8, 12, 16] {
        let mut bench = Bench::new();
        let mut lane = bench.lane();
        let mut bad = good;
        bad[damage] ^= 1;
        lane.write_all(&good).expect("sent");
        lane.write_all(&bad).expect("sent");
        bench.step_until(|bench| !bench.lost.is_empty());
        assert!(matches!(bench.lost[..], [LostReason::Malformed(_)]), "{:?}", bench.lost);
    }
}

#[test]
fn noise_on_a_lane_is_refused_without_a_crash_and_valid_parts_are_answered() {
    let spec = RegionSpec { name: "rows", bytes: 1 << 16, rights: Rights::Read };
    let region = Arc::new(memory::allocate(spec, RegionId(0), false).expect("memory"));
    let ring = RegionSpec { name: "ring", bytes: 4096, rights: Rights::Write };
    let ring = Arc::new(memory::allocate(ring, RegionId(1), false).expect("memory"));
    let exports = Exports::default();
    exports.add(&region);
    exports.add(&ring);
    let mut state = 7;
    let (mut malformed, answered) = (0, AtomicU64::new(0));
    let (mut near, mut far) = connect_lane();
    for _ in 0..30_000 {
        let mut bytes: Vec<u8> = (0..1 + random(&mut state) % 4)
            .flat_map(|_| {
                let request = Request {
                    slot: below(&mut state, 1 << 20),
                    region: below(&mut state, 4),
                    len: below(&mut state, 64) * 8,
                    offset: u64::from(below(&mut state, 1 << 14)) * 8,
                };
                request.to_bytes()
            })
            .collect();
        for _ in 0..random(&mut state) % 2 {
            let at = usize::try_from(random(&mut state)).expect("64 bits") % bytes.len();
            bytes[at] ^= 1 << (random(&mut state) % 8);
        }
        far.write_all(&bytes).expect("sent");
        near.ready();
        let lane = near.work(&exports, &answered);
        let mut scrap = [0; 8192];
        far.set_nonblocking(true).expect("set");
        while matches!(far.read(&mut scrap), Ok(count) if count > 0) {}
        far.set_nonblocking(false).expect("set");
        if matches!(lane, Lane::Malformed(_)) {
            malformed += 1;
            (near, far) = connect_lane();
        }
    }
    let answered = answered.into_inner();
    assert!(malformed > 1000 && answered > 1000, "{malformed} malformed, {answered} answered");
}

fn connect_lane() -> (ServedLane, TcpStream) {
    let (near, far) = pair();
    socket::prepare(&near).expect("a socket");
    (ServedLane::new(Rank(1), mio::net::TcpStream::from_std(near)), far)
}

#[test]
fn a_reader_that_fetches_no_answers_stops_only_its_own_lane_and_keeps_memory_bounded() {
    let bytes = 1 << 20;
    let spec = RegionSpec { name: "rows", bytes, rights: Rights::Read };
    let region = Arc::new(memory::allocate(spec, RegionId(0), false).expect("memory"));
    let mut bench = Bench::new();
    bench.provider.export(&region).expect("exported");
    let (greedy, mut modest) = (bench.lane(), bench.lane());
    greedy.set_nonblocking(true).expect("set");
    let long = Request { slot: 0, region: 0, len: 1 << 20, offset: 0 }.to_bytes();
    let mut sent = 0;
    for _ in 0..3000 {
        while matches!((&greedy).write(&long[sent % REQUEST_BYTES..]), Ok(count) if { sent += count; true })
        {
        }
        bench.step();
        let engine = bench.provider.engine();
        let kept = engine.lanes[0].as_ref().expect("open").kept_bytes();
        assert!(kept <= limits::ANSWER_BYTES + (2 << 20), "{kept} bytes are kept");
    }
    modest.write_all(&Request { slot: 5, region: 0, len: 64, offset: 8 }.to_bytes()).expect("sent");
    bench.step();
    let start = Instant::now();
    modest.set_nonblocking(true).expect("set");
    let mut answer = [0; 96];
    while modest.peek(&mut answer).unwrap_or(0) < 96 {
        assert!(start.elapsed() < LIMIT, "the other lane is stopped too");
        bench.step();
    }
    assert_eq!(answer[0], 5);
}

#[test]
fn a_reader_that_computes_for_long_before_it_fetches_its_answers_gets_them_all() {
    const READS: usize = 8;
    let bytes = 1 << 20;
    let spec = RegionSpec { name: "rows", bytes, rights: Rights::Read };
    let region = Arc::new(memory::allocate(spec, RegionId(0), false).expect("memory"));
    let mut bench = Bench::new();
    bench.provider.export(&region).expect("exported");
    let mut lane = bench.lane();
    let long = Request { slot: 0, region: 0, len: 1 << 20, offset: 0 }.to_bytes();
    lane.write_all(&long.repeat(READS)).expect("sent");
    // Longer than the system would wait for a host that has vanished.
    let start = Instant::now();
    while start.elapsed() < limits::UNACKNOWLEDGED_MAX + Duration::from_secs(1) {
        bench.step();
        std::thread::sleep(Duration::from_millis(20));
    }
    lane.set_nonblocking(true).expect("set");
    let (mut left, mut scrap) = (READS * (bytes + ANSWER_HEAD_BYTES), vec![0; 1 << 16]);
    let start = Instant::now();
    while left > 0 {
        assert!(start.elapsed() < LIMIT, "{left} bytes do not come");
        bench.step();
        match lane.read(&mut scrap) {
            Ok(count) if count > 0 => left -= count,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            end => panic!("the lane is lost, {left} bytes before its end: {end:?}"),
        }
    }
}

#[test]
fn a_peer_that_vanishes_in_the_middle_of_a_record_is_lost_once() {
    let mut bench = Bench::new();
    bench.link.write_all(&header(FrameKind::Record, 2, Consumed::default())).expect("sent");
    bench.link.write_all(b"hi").expect("sent");
    bench.link.write_all(&header(FrameKind::Record, 900, Consumed::default())).expect("sent");
    bench.link.write_all(&[1; 100]).expect("sent");
    drop(std::mem::replace(&mut bench.link, pair().0));
    bench.step_until(|bench| !bench.lost.is_empty());
    for _ in 0..20 {
        bench.step();
    }
    assert_eq!(bench.records, [b"hi"]);
    assert!(matches!(bench.lost[..], [LostReason::Died(_)]), "{:?}", bench.lost);
}
