//! Jobs over sockets: nodes in threads of this process, each with a fabric of its own, and one
//! job of real processes of which one is killed.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use sterna_rdma::{
    Fabric, FabricConfig, FabricError, LostReason, Provider, ProviderChoice, RECORD_BYTES_MAX,
    Rank, Read, ReadLane, RegionId, RegionSpec, RegionToken, Rights, SendError, Sink, job,
};

const TOKEN: &str = "the token of these tests";

/// Limit for every wait; reached only if something is broken.
const LIMIT: Duration = Duration::from_secs(120);

fn configs(size: usize) -> (Vec<FabricConfig>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound").to_string();
    let mut configs: Vec<FabricConfig> = (0..size)
        .map(|rank| {
            let mut config = FabricConfig::new(Rank::from_index(rank), size, Some(&address), TOKEN);
            config.choice = ProviderChoice::Tcp;
            config.join_timeout = LIMIT;
            config
        })
        .collect();
    configs[0].listener = Some(listener);
    (configs, address)
}

fn open_all(configs: Vec<FabricConfig>) -> Vec<Result<Arc<dyn Fabric>, FabricError>> {
    let threads: Vec<_> =
        configs.into_iter().map(|config| std::thread::spawn(move || job::open(config))).collect();
    threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
}

fn job(size: usize) -> Vec<Arc<dyn Fabric>> {
    open_all(configs(size).0).into_iter().map(|fabric| fabric.expect("the job meets")).collect()
}

#[derive(Default)]
struct Inbox {
    records: Vec<(Rank, Vec<u8>)>,
    lost: Vec<(Rank, LostReason)>,
}

impl Sink for Inbox {
    fn record(&mut self, from: Rank, record: &[u8]) {
        self.records.push((from, record.to_vec()));
    }

    fn peer_lost(&mut self, peer: Rank, reason: LostReason) {
        self.lost.push((peer, reason));
    }
}

/// Polls until `enough`, sleeping in between as an engine does.
fn poll_until(fabric: &dyn Fabric, inbox: &mut Inbox, enough: impl Fn(&Inbox) -> bool) {
    let start = Instant::now();
    while !enough(inbox) {
        assert!(start.elapsed() < LIMIT, "{} waited in vain", fabric.rank());
        if fabric.poll(64, inbox).expect("no fault") == 0 {
            fabric.park(Duration::from_millis(100)).expect("no fault");
        }
    }
}

/// Sends, polling while there is no credit.
fn send(fabric: &dyn Fabric, to: Rank, record: &[u8], inbox: &mut Inbox) {
    let start = Instant::now();
    loop {
        match fabric.try_send(to, &[record]) {
            Ok(()) => return,
            Err(SendError::Full(_) | SendError::Busy(_)) => {
                fabric.poll(64, inbox).expect("no fault");
            }
            Err(error) => panic!("{error}"),
        }
        assert!(start.elapsed() < LIMIT, "no credit came back");
    }
}

/// Runs a fabric's engine in a thread until told to stop.
struct Engine {
    fabric: Arc<dyn Fabric>,
    stop: Arc<std::sync::atomic::AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Engine {
    fn start(fabric: &Arc<dyn Fabric>) -> Self {
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (theirs, engine) = (Arc::clone(&stop), Arc::clone(fabric));
        let thread = std::thread::spawn(move || {
            let mut inbox = Inbox::default();
            while !theirs.load(std::sync::atomic::Ordering::Acquire) {
                if engine.poll(64, &mut inbox).expect("no fault") == 0 {
                    engine.park(Duration::from_secs(5)).expect("no fault");
                }
            }
        });
        Self { fabric: Arc::clone(fabric), stop, thread: Some(thread) }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop.store(true, std::sync::atomic::Ordering::Release);
        self.fabric.wake();
        self.thread.take().expect("joined once").join().expect("no panic");
    }
}

fn region(fabric: &dyn Fabric, bytes: usize) -> (Arc<sterna_rdma::Region>, RegionToken) {
    let spec = RegionSpec { name: "test rows", bytes, rights: Rights::Read };
    let region = fabric.allocate(spec).expect("memory");
    for at in (0..bytes).step_by(8) {
        // SAFETY: inside the region, which nobody reads yet; aligned.
        unsafe { region.base().as_ptr().add(at).cast::<u64>().write(word(at)) };
    }
    let token = fabric.export(&region).expect("exportable");
    (region, token)
}

/// The word that [`region`] puts at an offset.
fn word(at: usize) -> u64 {
    (at as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Reads all and returns the words or the error by token.
fn read_all(
    lane: &mut dyn ReadLane,
    reads: &[Read],
) -> HashMap<u64, Result<(u64, Vec<u64>), FabricError>> {
    let mut results = HashMap::new();
    let (mut posted, start) = (0, Instant::now());
    while results.len() < reads.len() {
        while posted < reads.len() {
            match lane.post(reads[posted]) {
                Ok(()) => posted += 1,
                Err(FabricError::LaneFull { .. }) => break,
                Err(error) => panic!("{error}"),
            }
        }
        lane.submit().expect("no fault");
        lane.wait(Duration::from_secs(1)).expect("no fault");
        lane.poll(&mut |completion| {
            let result = completion.result.map(|data| {
                let words = data.bytes.chunks_exact(8);
                let words = words.map(|word| u64::from_ne_bytes(word.try_into().expect("8")));
                (data.head_before[0], words.collect())
            });
            assert!(results.insert(completion.token, result).is_none(), "a READ came twice");
        })
        .expect("no fault");
        assert!(start.elapsed() < LIMIT, "READs hang");
    }
    results
}

fn byte(number: usize) -> u8 {
    number.to_le_bytes()[0]
}

#[test]
fn records_of_all_lengths_arrive_in_order_and_once_between_all_pairs() {
    let fabrics = job(3);
    let lengths = [0, 1, 7, 8, 24, 500, 4096, 65_536, 200_001, RECORD_BYTES_MAX];
    std::thread::scope(|scope| {
        for fabric in &fabrics {
            scope.spawn(move || {
                assert_eq!(fabric.provider(Rank((fabric.rank().0 + 1) % 3)), Provider::Tcp);
                let mut inbox = Inbox::default();
                for round in 0..200_usize {
                    for to in (0..3).filter(|to| *to != fabric.rank().index()) {
                        let mut record = vec![byte(round); lengths[round % lengths.len()]];
                        record.iter_mut().step_by(97).for_each(|byte| *byte ^= 0x55);
                        send(fabric.as_ref(), Rank::from_index(to), &record, &mut inbox);
                    }
                }
                poll_until(fabric.as_ref(), &mut inbox, |inbox| inbox.records.len() >= 400);
                for from in (0..3).filter(|from| *from != fabric.rank().index()) {
                    let from = Rank::from_index(from);
                    let records = inbox.records.iter().filter(|(rank, _)| *rank == from);
                    let records: Vec<&Vec<u8>> = records.map(|(_, record)| record).collect();
                    assert_eq!(records.len(), 200);
                    for (round, record) in records.iter().enumerate() {
                        assert_eq!(record.len(), lengths[round % lengths.len()], "order is kept");
                        let expected =
                            |at: usize| byte(round) ^ if at.is_multiple_of(97) { 0x55 } else { 0 };
                        assert!((0..record.len()).all(|at| record[at] == expected(at)));
                    }
                }
                assert!(inbox.lost.is_empty(), "{:?}", inbox.lost);
            });
        }
    });
    let too_long = vec![0; RECORD_BYTES_MAX + 1];
    assert!(matches!(fabrics[0].try_send(Rank(1), &[&too_long]), Err(SendError::TooLong { .. })));
}

#[test]
fn a_link_without_credit_refuses_without_waiting_and_reads_still_work() {
    let fabrics = job(2);
    let (_rows, token) = region(fabrics[1].as_ref(), 4096);
    fabrics[0].import(Rank(1), &token).expect("known");
    let mut sent = 0_u64;
    let record = vec![1; 10_000];
    let refused = loop {
        match fabrics[0].try_send(Rank(1), &[&record[..5000], &record[5000..]]) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
        assert!(sent < 100_000, "credit has no bound");
    };
    assert!(matches!(refused, SendError::Full(Rank(1))), "{refused}");
    assert_eq!(fabrics[0].counters().sends_full, 1);
    // Rank 1 consumes nothing, but its engine serves READs.
    let mut lane = fabrics[0].open_lane().expect("a lane");
    let read = Read { peer: Rank(1), region: token.id, offset: 64, len: 64, token: 9 };
    lane.post(read).expect("posted");
    lane.submit().expect("no fault");
    let (start, mut done) = (Instant::now(), false);
    while !done {
        fabrics[1].poll(0, &mut Inbox::default()).expect("no fault");
        lane.poll(&mut |completion| done = completion.result.is_ok()).expect("no fault");
        assert!(start.elapsed() < LIMIT, "the READ is held up by the link");
    }
    let mut inbox = Inbox::default();
    poll_until(fabrics[1].as_ref(), &mut inbox, |inbox| inbox.records.len() as u64 == sent);
    send(fabrics[0].as_ref(), Rank(1), &record, &mut Inbox::default());
}

#[test]
fn reads_return_the_bytes_of_their_rows_in_batches_of_any_size() {
    let fabrics = job(3);
    let _engines: Vec<Engine> = fabrics.iter().map(Engine::start).collect();
    let bytes = 3 << 20;
    let regions: Vec<_> = fabrics.iter().map(|fabric| region(fabric.as_ref(), bytes)).collect();
    for (_, token) in &regions[1..] {
        let owner = if token == &regions[1].1 { Rank(1) } else { Rank(2) };
        fabrics[0].import(owner, token).expect("known");
    }
    let mut lane = fabrics[0].open_lane().expect("a lane");
    let mut reads = Vec::new();
    for i in 0..3000_usize {
        let owner = 1 + i % 2;
        let len = match i % 500 {
            0 => sterna_rdma::READ_BYTES_MAX,
            1 => 8,
            _ => 8 * (1 + i % 300),
        };
        reads.push(Read {
            peer: Rank::from_index(owner),
            region: regions[owner].1.id,
            offset: (i * 7919 % ((bytes - len) / 8) * 8) as u64,
            len: u32::try_from(len).expect("short"),
            token: i as u64,
        });
    }
    let results = read_all(lane.as_mut(), &reads);
    for read in &reads {
        let (head, words) = results[&read.token].as_ref().expect("served");
        let first = usize::try_from(read.offset).expect("small");
        assert_eq!(words.len() * 8, read.len as usize);
        assert_eq!(*head, word(first), "the head as loaded first");
        for (at, value) in words.iter().enumerate() {
            assert_eq!(*value, word(first + at * 8));
        }
    }
    assert_eq!(lane.outstanding(), 0);
    assert_eq!(fabrics[0].counters().reads, 3000);
    let served: u64 = fabrics[1..].iter().map(|fabric| fabric.counters().reads_served).sum();
    assert_eq!(served, 3000);
}

#[test]
fn reads_that_cannot_be_are_refused_with_a_reason() {
    let fabrics = job(2);
    let engine = Engine::start(&fabrics[1]);
    let (rows, token) = region(fabrics[1].as_ref(), 8192);
    let mut lane = fabrics[0].open_lane().expect("a lane");
    let good = Read { peer: Rank(1), region: token.id, offset: 0, len: 64, token: 1 };
    assert!(matches!(lane.post(good), Err(FabricError::UnknownRegion { .. })), "not imported");
    let mut forged = token;
    forged.bytes += 4096;
    assert!(matches!(fabrics[0].import(Rank(1), &forged), Err(FabricError::UnknownRegion { .. })));
    fabrics[0].import(Rank(1), &token).expect("known");
    for bad in [
        Read { offset: 8192, ..good },
        Read { offset: 8136, ..good },
        Read { offset: 4, ..good },
        Read { offset: u64::MAX - 7, ..good },
        Read { len: 0, ..good },
        Read { len: 12, ..good },
    ] {
        assert!(matches!(lane.post(bad), Err(FabricError::OutOfRange { .. })), "{bad:?}");
    }
    assert!(lane.post(Read { region: RegionId(77), ..good }).is_err());
    assert!(lane.post(Read { peer: Rank(0), ..good }).is_err(), "a node does not read itself");
    assert_eq!(lane.outstanding(), 0);
    // A region that its owner has given up.
    drop(rows);
    let results = read_all(lane.as_mut(), &[good]);
    assert!(matches!(results[&1], Err(FabricError::UnknownRegion { .. })));
    // A peer that ends: READs on their way fail.
    drop(engine);
    lane.post(good).expect("posted");
    lane.submit().expect("no fault");
    fabrics[0].expel(Rank(1), "a test");
    let (start, mut failed) = (Instant::now(), 0);
    while failed == 0 {
        lane.poll(&mut |completion| {
            failed += 1;
            let error = completion.result.expect_err("the peer is gone").to_string();
            assert!(error.contains("rank 1") && error.contains("a test"), "{error}");
        })
        .expect("no fault");
        assert!(start.elapsed() < LIMIT);
    }
    assert!(matches!(lane.post(good), Err(FabricError::PeerLost { .. })));
}

#[test]
fn a_goodbye_and_an_expulsion_are_told_once_and_end_the_link() {
    let fabrics = job(3);
    let mut inboxes: Vec<Inbox> = (0..3).map(|_| Inbox::default()).collect();
    send(fabrics[2].as_ref(), Rank(0), b"last words", &mut inboxes[2]);
    fabrics[2].goodbye();
    poll_until(fabrics[0].as_ref(), &mut inboxes[0], |inbox| !inbox.lost.is_empty());
    assert_eq!(inboxes[0].records, [(Rank(2), b"last words".to_vec())]);
    assert_eq!(inboxes[0].lost, [(Rank(2), LostReason::Goodbye)]);
    assert!(matches!(
        fabrics[0].try_send(Rank(2), &[b"x"]),
        Err(SendError::PeerLost { peer: Rank(2), .. })
    ));
    send(fabrics[1].as_ref(), Rank(0), b"never delivered", &mut inboxes[1]);
    fabrics[0].expel(Rank(1), "too slow");
    for _ in 0..100 {
        fabrics[0].poll(64, &mut inboxes[0]).expect("no fault");
    }
    assert_eq!(inboxes[0].records.len(), 1);
    assert_eq!(inboxes[0].lost[1..], [(Rank(1), LostReason::Expelled("too slow".into()))]);
    poll_until(fabrics[1].as_ref(), &mut inboxes[1], |inbox| inbox.lost.len() == 2);
    let lost_zero = inboxes[1].lost.iter().find(|(rank, _)| *rank == Rank(0)).expect("told");
    assert!(matches!(lost_zero.1, LostReason::Died(_)));
}

#[test]
fn a_sleeping_engine_is_woken_by_a_record_a_read_and_a_wake() {
    let fabrics = job(2);
    let start = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut inbox = Inbox::default();
            for round in 0..300 {
                while inbox.records.len() <= round {
                    // A lost wake-up sleeps to the limit, and fails the bound below.
                    if fabrics[1].poll(64, &mut inbox).expect("no fault") == 0 {
                        fabrics[1].park(LIMIT).expect("no fault");
                    }
                }
                send(fabrics[1].as_ref(), Rank(0), b"pong", &mut inbox);
            }
        });
        let mut inbox = Inbox::default();
        for round in 0..300 {
            send(fabrics[0].as_ref(), Rank(1), b"ping", &mut inbox);
            while inbox.records.len() <= round {
                if fabrics[0].poll(64, &mut inbox).expect("no fault") == 0 {
                    fabrics[0].park(LIMIT).expect("no fault");
                }
            }
        }
    });
    assert!(start.elapsed() < LIMIT, "a wake-up was lost");
    let start = Instant::now();
    for _ in 0..100 {
        fabrics[0].wake();
        fabrics[0].poll(64, &mut Inbox::default()).expect("no fault");
        fabrics[0].park(LIMIT).expect("no fault");
    }
    assert!(start.elapsed() < LIMIT, "a wake before the sleep was lost");
}

#[test]
fn strangers_are_refused_and_counted_and_hold_nobody_up() {
    let (mut all, address) = configs(3);
    let late: Vec<FabricConfig> = all.drain(1..).collect();
    let leader = all.pop().expect("rank 0");
    let rank0 = std::thread::spawn(move || job::open(leader));
    // More silent ones than may wait, a text protocol, noise, and one that leaves.
    let silent: Vec<TcpStream> =
        (0..80).map(|_| TcpStream::connect(&address).expect("accepted")).collect();
    let mut http = TcpStream::connect(&address).expect("accepted");
    http.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n").expect("sent");
    let mut noise = TcpStream::connect(&address).expect("accepted");
    let _ = noise.write_all(&[0xff; 100_000]);
    drop(TcpStream::connect(&address).expect("accepted"));
    let mut wrong = FabricConfig::new(Rank(1), 3, Some(&address), "the token of another job");
    wrong.join_timeout = LIMIT;
    let error = job::open(wrong).err().expect("another token").to_string();
    assert!(error.contains("token"), "{error}");
    let others = open_all(late);
    let rank0 = rank0.join().expect("no panic").expect("the job meets");
    assert!(others.iter().all(Result::is_ok));
    let refused = rank0.counters().strangers_refused;
    assert!(refused >= 18, "80 silent of which 64 may wait, and 4 others: {refused}");
    // The text protocol was hung up on without an answer.
    http.set_read_timeout(Some(LIMIT)).expect("set");
    assert!(!matches!(http.read(&mut [0; 64]), Ok(count) if count > 0));
    // The door is kept while the job runs, and who comes late hears it.
    let mut late = FabricConfig::new(Rank(1), 3, Some(&address), TOKEN);
    late.choice = ProviderChoice::Tcp;
    late.join_timeout = LIMIT;
    let error = job::open(late).err().expect("the job is complete").to_string();
    assert!(error.contains("complete"), "{error}");
    drop(silent);
}

#[test]
fn a_job_that_is_set_up_wrongly_says_so_at_both_ends() {
    // Two processes with one rank.
    let (mut all, _) = configs(3);
    all[2].rank = Rank(1);
    for result in open_all(all) {
        let error = result.err().expect("a rank is there twice").to_string();
        assert!(error.contains("rank"), "{error}");
    }
    // Nodes that disagree about the size.
    let (mut all, _) = configs(2);
    all[1].size = 3;
    for result in open_all(all) {
        let error = result.err().expect("the sizes differ").to_string();
        assert!(error.contains("number of nodes"), "{error}");
    }
    // A port that somebody else has.
    let holder = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = holder.local_addr().expect("bound").to_string();
    let config = FabricConfig::new(Rank(0), 2, Some(&address), TOKEN);
    let error = job::open(config).err().expect("the port is taken").to_string();
    assert!(error.contains("in use"), "{error}");
}

#[test]
fn a_job_may_begin_where_one_is_just_ending() {
    let (all, address) = configs(2);
    let listener = all[0].listener.as_ref().expect("rank 0 listens");
    let listener = listener.try_clone().expect("a descriptor");
    let next = |rank: usize, listener| {
        let mut config = FabricConfig::new(Rank::from_index(rank), 2, Some(&address), TOKEN);
        (config.choice, config.join_timeout) = (ProviderChoice::Tcp, LIMIT);
        config.listener = listener;
        job::open(config).expect("the next job meets")
    };
    let mut ending = open_all(all);
    std::thread::scope(|scope| {
        // Rank 1 goes on while the door of rank 0 is still that of the job before.
        drop(ending.pop());
        let rank1 = scope.spawn(|| next(1, None));
        std::thread::sleep(Duration::from_millis(300));
        assert!(!rank1.is_finished(), "it is refused and comes again");
        drop(ending);
        assert_eq!(next(0, Some(listener)).size(), 2);
        assert_eq!(rank1.join().expect("no panic").rank(), Rank(1));
    });
}

#[test]
fn who_is_missing_is_named_at_the_deadline() {
    // Those who are there must have met before the deadline; on a busy machine that may take a while.
    let mut limit = Duration::from_secs(1);
    loop {
        let (mut all, _) = configs(4);
        for config in &mut all {
            config.join_timeout = limit;
        }
        all.remove(2);
        let results = open_all(all);
        for other in &results[1..] {
            assert!(other.as_ref().err().expect("no job").to_string().contains("rank 0"));
        }
        let error = results[0].as_ref().err().expect("rank 2 is missing");
        if matches!(error, FabricError::JoinTimeout { waited_for, .. } if waited_for == "rank 2") {
            break;
        }
        assert!(limit < LIMIT, "with a limit of {limit:?}: {error}");
        limit *= 5;
    }
    // Nobody listens at a port that is taken and stays so.
    let taken = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    taken.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a port");
    let address = taken.local_addr().expect("bound").as_socket().expect("of IP").to_string();
    let mut alone = FabricConfig::new(Rank(1), 2, Some(&address), TOKEN);
    alone.join_timeout = Duration::from_millis(300);
    let error = job::open(alone).err().expect("nobody listens").to_string();
    assert!(error.contains("rank 0") && error.contains(&address), "{error}");
}

#[test]
fn a_job_of_one_node_needs_nothing() {
    let fabric = job::open(FabricConfig::single()).expect("no peers needed");
    assert_eq!((fabric.rank(), fabric.size()), (Rank(0), 1));
    let (_rows, _) = region(fabric.as_ref(), 4096);
    assert_eq!(fabric.poll(8, &mut Inbox::default()).expect("no fault"), 0);
    fabric.wake();
    fabric.park(LIMIT).expect("no fault");
    assert!(fabric.try_send(Rank(0), &[b"x"]).is_err());
    fabric.goodbye();
}

/// Not a test by itself: a node of the job below, which runs until it is killed or told to end.
#[test]
#[ignore = "started by another test as a process of its own"]
fn node_process() {
    let Ok(mut config) = FabricConfig::from_env() else { return };
    if config.size == 1 {
        return;
    }
    config.join_timeout = LIMIT;
    let fabric = job::open(config).expect("the job meets");
    let (_rows, token) = region(fabric.as_ref(), 1 << 16);
    let mut inbox = Inbox::default();
    send(fabric.as_ref(), Rank(0), &token.to_bytes(), &mut inbox);
    poll_until(fabric.as_ref(), &mut inbox, |inbox| {
        inbox.lost.iter().any(|(rank, _)| *rank == Rank(0))
            || inbox.records.iter().any(|(_, record)| record == b"end")
    });
    fabric.goodbye();
}

#[test]
fn a_killed_process_is_reported_by_name_and_the_others_go_on() {
    let (mut all, address) = configs(3);
    let mut children: Vec<_> = (1..3)
        .map(|rank| {
            Command::new(std::env::current_exe().expect("this test"))
                .args(["node_process", "--exact", "--ignored", "--nocapture"])
                .env("STERNA_RANK", rank.to_string())
                .env("STERNA_SIZE", "3")
                .env("STERNA_ADDR", &address)
                .env("STERNA_TOKEN", TOKEN)
                .env("STERNA_FABRIC", "tcp")
                .stdout(Stdio::null())
                .spawn()
                .expect("started")
        })
        .collect();
    let fabric = job::open(all.swap_remove(0)).expect("the job meets");
    let mut inbox = Inbox::default();
    poll_until(fabric.as_ref(), &mut inbox, |inbox| inbox.records.len() == 2);
    let mut lane = fabric.open_lane().expect("a lane");
    let mut tokens = HashMap::new();
    for (from, record) in &inbox.records {
        let token = RegionToken::from_bytes(record.as_slice().try_into().expect("a token"));
        fabric.import(*from, &token).expect("known");
        tokens.insert(*from, token);
    }
    let read = |rank, token| Read {
        peer: Rank(rank),
        region: tokens[&Rank(rank)].id,
        offset: 512,
        len: 512,
        token,
    };
    let results = read_all(lane.as_mut(), &[read(1, 1), read(2, 2)]);
    assert!(results.values().all(|result| result.as_ref().expect("served").1[0] == word(512)));
    children[0].kill().expect("killed");
    children[0].wait().expect("reaped");
    poll_until(fabric.as_ref(), &mut inbox, |inbox| !inbox.lost.is_empty());
    let (rank, reason) = &inbox.lost[0];
    assert!(*rank == Rank(1) && matches!(reason, LostReason::Died(_)), "{rank} {reason:?}");
    assert!(matches!(lane.post(read(1, 3)), Err(FabricError::PeerLost { peer: Rank(1), .. })));
    let results = read_all(lane.as_mut(), &[read(2, 4)]);
    assert!(results[&4].is_ok(), "the survivor still serves");
    send(fabric.as_ref(), Rank(2), b"end", &mut inbox);
    poll_until(fabric.as_ref(), &mut inbox, |inbox| inbox.lost.len() == 2);
    assert_eq!(inbox.lost[1], (Rank(2), LostReason::Goodbye));
    assert!(children[1].wait().expect("reaped").success());
}
