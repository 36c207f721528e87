//! Cases in which several threads use one fabric, and nodes run in threads of their own and sleep.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sterna_rdma::{
    Fabric, LostReason, Rank, Read, ReadLane, Region, RegionSpec, RegionToken, Rights, SendError,
    Sink,
};

use super::guard::{REPLACE_STEPS, ROW_BYTES, accepted, replace};
use super::job::{Inbox, Random, WAIT_MAX, poll_lane};
use super::jobs::{Choice, configs, open_all};
use super::memory::{store, words};

const LEFT: Rank = Rank(0);
const RIGHT: Rank = Rank(1);

/// A sleep that reaches this limit has lost a wake-up.
const PARK_MAX: Duration = Duration::from_secs(120);

fn pair<P: Choice>() -> [Arc<dyn Fabric>; 2] {
    open_all(configs::<P>(2).0).try_into().ok().expect("two nodes")
}

/// Sleeps, and fails if nothing ended the sleep.
fn park(fabric: &dyn Fabric) {
    let start = Instant::now();
    fabric.park(PARK_MAX).expect("no fault of this node");
    assert!(start.elapsed() < PARK_MAX, "{} slept through a wake-up", fabric.rank());
}

/// Sends, polling while there is no credit.
fn send(fabric: &dyn Fabric, to: Rank, parts: &[&[u8]], sink: &mut dyn Sink) {
    let start = Instant::now();
    loop {
        match fabric.try_send(to, parts) {
            Ok(()) => return,
            Err(SendError::Full(_) | SendError::Busy(_)) => {
                if fabric.poll(64, sink).expect("no fault of this node") == 0 {
                    std::thread::yield_now();
                }
            }
            Err(error) => panic!("{error}"),
        }
        assert!(start.elapsed() < WAIT_MAX, "{to} gave no credit");
    }
}

/// Receives the next record of `from`, sleeping while there is none.
fn receive(fabric: &dyn Fabric, from: Rank, inbox: &mut Inbox) -> Vec<u8> {
    loop {
        if let Some(record) = inbox.records[from.index()].pop_front() {
            return record;
        }
        assert_eq!(inbox.lost[from.index()], None);
        if fabric.poll(64, inbox).expect("no fault of this node") == 0 {
            park(fabric);
        }
    }
}

/// A region of `owner`, imported at `reader`.
fn share(owner: &dyn Fabric, reader: &dyn Fabric, bytes: usize) -> (Arc<Region>, RegionToken) {
    let spec = RegionSpec { name: "conformance", bytes, rights: Rights::Read };
    let region = owner.allocate(spec).expect("memory");
    let token = owner.export(&region).expect("an export");
    let (mut ours, mut theirs) = (Inbox::new(2), Inbox::new(2));
    send(owner, reader.rank(), &[&token.to_bytes()], &mut ours);
    receive(reader, owner.rank(), &mut theirs);
    reader.import(owner.rank(), &token).expect("an import");
    (region, token)
}

/// An engine in a thread: polls and sleeps until told to stop.
struct Engine {
    stop: Arc<AtomicBool>,
    fabric: Arc<dyn Fabric>,
    thread: Option<std::thread::JoinHandle<Inbox>>,
}

impl Engine {
    fn start(fabric: &Arc<dyn Fabric>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (fabric, told) = (Arc::clone(fabric), Arc::clone(&stop));
        let engine = Arc::clone(&fabric);
        let thread = std::thread::spawn(move || {
            let mut inbox = Inbox::new(engine.size());
            while !told.load(Ordering::Acquire) {
                if engine.poll(64, &mut inbox).expect("no fault of this node") == 0 {
                    engine.park(Duration::from_secs(1)).expect("no fault of this node");
                }
            }
            inbox
        });
        Self { stop, fabric, thread: Some(thread) }
    }

    /// Ends it and returns what it received.
    fn stop(mut self) -> Inbox {
        self.stop.store(true, Ordering::Release);
        self.fabric.wake();
        self.thread.take().expect("once").join().expect("the engine's thread")
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        self.fabric.wake();
    }
}

pub fn threads_that_send_on_one_link_keep_their_order<P: Choice>(_seed: u64) {
    const THREADS: u64 = 4;
    const RECORDS: u64 = 10_000;
    let [left, right] = pair::<P>();
    // Credit comes back by polls; somebody's engine does them.
    let engine = Engine::start(&left);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let left = &left;
            scope.spawn(move || {
                let mut random = Random(thread);
                for number in 0..RECORDS {
                    let start = Instant::now();
                    let header = [thread.to_le_bytes(), number.to_le_bytes()].concat();
                    let rest = vec![header[0]; random.below(100)];
                    loop {
                        match left.try_send(RIGHT, &[&header, &rest]) {
                            Ok(()) => break,
                            Err(SendError::Full(_)) => {
                                std::thread::sleep(Duration::from_micros(50));
                            }
                            Err(SendError::Busy(_)) => std::thread::yield_now(),
                            Err(error) => panic!("{error}"),
                        }
                        assert!(start.elapsed() < WAIT_MAX, "thread {thread} cannot send");
                    }
                }
            });
        }
        let mut inbox = Inbox::new(2);
        let mut next = [0; 4];
        while next.iter().sum::<u64>() < THREADS * RECORDS {
            let record = receive(right.as_ref(), LEFT, &mut inbox);
            let number = u64::from_le_bytes(record[8..16].try_into().expect("8 bytes"));
            let thread = usize::from(record[0]);
            assert_eq!(number, next[thread], "of thread {thread}");
            assert!(record[16..].iter().all(|&byte| byte == record[0]), "torn record");
            next[thread] += 1;
        }
    });
    engine.stop();
}

pub fn ten_thousand_hand_offs_lose_no_wake_up<P: Choice>(_seed: u64) {
    const HAND_OFFS: u64 = 10_000;
    let fabrics = pair::<P>();
    std::thread::scope(|scope| {
        for fabric in &fabrics {
            scope.spawn(move || {
                let peer = Rank(1 - fabric.rank().0);
                let mut inbox = Inbox::new(2);
                for number in 0..HAND_OFFS {
                    if fabric.rank() == LEFT {
                        send(fabric.as_ref(), peer, &[&number.to_le_bytes()], &mut inbox);
                    }
                    let record = receive(fabric.as_ref(), peer, &mut inbox);
                    assert_eq!(record, number.to_le_bytes());
                    if fabric.rank() == RIGHT {
                        send(fabric.as_ref(), peer, &[&record], &mut inbox);
                    }
                }
            });
        }
    });
}

pub fn a_wake_of_another_thread_always_ends_a_park<P: Choice>(_seed: u64) {
    const WAKES: u64 = 10_000;
    let [left, _right] = pair::<P>();
    let (asked, answered) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut inbox = Inbox::new(2);
            while answered.load(Ordering::Relaxed) < WAKES {
                let now = asked.load(Ordering::Acquire);
                if now > answered.load(Ordering::Relaxed) {
                    answered.store(now, Ordering::Release);
                } else {
                    left.poll(64, &mut inbox).expect("no fault of this node");
                    park(left.as_ref());
                }
            }
        });
        for number in 1..=WAKES {
            let start = Instant::now();
            asked.store(number, Ordering::Release);
            left.wake();
            while answered.load(Ordering::Acquire) < number {
                assert!(start.elapsed() < WAIT_MAX, "no answer to wake-up {number}");
                std::thread::yield_now();
            }
        }
    });
}

/// CPU time of this thread.
fn thread_cpu() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for the call.
    let status = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(status, 0);
    let seconds = u64::try_from(time.tv_sec).expect("not negative");
    Duration::new(seconds, u32::try_from(time.tv_nsec).expect("below a second"))
}

pub fn idle_nodes_sleep_without_using_a_core<P: Choice>(_seed: u64) {
    let [left, right] = pair::<P>();
    let (_region, token) = share(left.as_ref(), right.as_ref(), 4096);
    let mut lane = right.open_lane().expect("a lane");
    // A link and a lane that were used must come to rest, too.
    let engine = Engine::start(&left);
    read(lane.as_mut(), Read { peer: LEFT, region: token.id, offset: 0, len: 64, token: 1 });
    for fabric in [left.as_ref(), right.as_ref()] {
        // A machine that emulates this one may count its own delays as time of this thread, but not always.
        let mut used = [(); 10].iter().map(|()| cpu_of_sleep(fabric));
        assert!(used.any(|used| used < Duration::from_millis(60)), "of CPU in 300 ms of sleep");
    }
    engine.stop();
}

/// CPU time of this thread while a node that has nothing to do sleeps for 300 ms.
fn cpu_of_sleep(fabric: &dyn Fabric) -> Duration {
    let mut inbox = Inbox::new(2);
    let before = thread_cpu();
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(300) {
        fabric.poll(64, &mut inbox).expect("no fault of this node");
        fabric.park(Duration::from_millis(100)).expect("no fault of this node");
    }
    thread_cpu() - before
}

/// One READ, sleeping until it is there.
fn read(lane: &mut dyn ReadLane, read: Read) -> Vec<u8> {
    lane.post(read).expect("a legal READ");
    lane.submit().expect("no fault of this node");
    let start = Instant::now();
    loop {
        if let Some(done) = poll_lane(lane).pop() {
            return done.result.expect("the owner lives").0;
        }
        let asleep = Instant::now();
        lane.wait(PARK_MAX).expect("no fault of this node");
        assert!(asleep.elapsed() < PARK_MAX, "a lane slept through a completion");
        assert!(start.elapsed() < WAIT_MAX, "the READ never came");
    }
}

pub fn lanes_of_many_threads_sleep_and_wake<P: Choice>(_seed: u64) {
    const THREADS: u64 = 3;
    const READS: u64 = 1_500;
    let [left, right] = pair::<P>();
    let (region, token) = share(left.as_ref(), right.as_ref(), 64 * 1024);
    for offset in (0..64 * 1024).step_by(8) {
        store(&region, offset, offset as u64);
    }
    let engine = Engine::start(&left);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let right = &right;
            scope.spawn(move || {
                let mut lane = right.open_lane().expect("a lane");
                let mut random = Random(thread);
                for number in 0..READS {
                    let offset = random.below(64 * 1024 / 8 - 64) * 8;
                    let (region, offset) = (token.id, offset as u64);
                    let bytes = read(
                        lane.as_mut(),
                        Read { peer: LEFT, region, offset, len: 512, token: number },
                    );
                    assert!(words(&bytes).eq((offset..offset + 512).step_by(8)));
                }
            });
        }
    });
    engine.stop();
}

pub fn a_read_after_a_record_sees_the_stores_of_another_thread<P: Choice>(_seed: u64) {
    const ROUNDS: u64 = 5_000;
    const ROWS: usize = 64;
    const ROW_BYTES: usize = 256;
    let [left, right] = pair::<P>();
    let (region, token) = share(left.as_ref(), right.as_ref(), ROWS * ROW_BYTES);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut inbox = Inbox::new(2);
            let mut random = Random(7);
            for number in 1..=ROUNDS {
                let row = random.below(ROWS) * ROW_BYTES;
                for word in (row..row + ROW_BYTES).step_by(8) {
                    store(&region, word, number);
                }
                let record = [number.to_le_bytes(), (row as u64).to_le_bytes()].concat();
                send(left.as_ref(), RIGHT, &[&record], &mut inbox);
            }
            // Serves READs until the reader is done.
            assert_eq!(receive(left.as_ref(), RIGHT, &mut inbox), b"done");
        });
        let mut inbox = Inbox::new(2);
        let mut lane = right.open_lane().expect("a lane");
        for _ in 0..ROUNDS {
            let record = receive(right.as_ref(), LEFT, &mut inbox);
            let number = u64::from_le_bytes(record[..8].try_into().expect("8 bytes"));
            let offset = u64::from_le_bytes(record[8..].try_into().expect("8 bytes"));
            let (region, len) = (token.id, u32::try_from(ROW_BYTES).expect("small"));
            let bytes =
                read(lane.as_mut(), Read { peer: LEFT, region, offset, len, token: number });
            let oldest = words(&bytes).min().expect("a row has words");
            assert!(oldest >= number, "READ {oldest} after the record of {number}");
        }
        send(right.as_ref(), LEFT, &[b"done"], &mut inbox);
    });
}

pub fn a_row_replaced_by_another_thread_shows_in_a_head<P: Choice>(_seed: u64) {
    const READS: u32 = 10_000;
    let [left, right] = pair::<P>();
    let (region, token) = share(left.as_ref(), right.as_ref(), 4096);
    let offset = 48;
    replace(&region, offset, 2, 0..REPLACE_STEPS);
    let engine = Engine::start(&left);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 4;
            while !stop.load(Ordering::Relaxed) {
                replace(&region, offset, number, 0..REPLACE_STEPS);
                number += 2;
                // Pauses of all lengths, so that some READs meet none of it and some all.
                for _ in 0..number % 512 {
                    std::hint::spin_loop();
                }
                if number % 64 == 0 {
                    std::thread::sleep(Duration::from_micros(100));
                }
            }
        });
        let _stop = StopOnDrop(&stop);
        let mut lane = right.open_lane().expect("a lane");
        let (mut finished, mut valid) = (0, 0);
        let start = Instant::now();
        // The other thread may be kept from running in the middle of a replacement for a long time.
        while finished < READS || valid == 0 {
            while lane.outstanding() < 8 {
                let len = u32::try_from(ROW_BYTES).expect("small");
                let offset = offset as u64;
                lane.post(Read { peer: LEFT, region: token.id, offset, len, token: 0 })
                    .expect("a legal READ");
            }
            lane.submit().expect("no fault of this node");
            lane.wait(PARK_MAX).expect("no fault of this node");
            for done in poll_lane(lane.as_mut()) {
                finished += 1;
                valid += u32::from(accepted(&done));
            }
            assert!(start.elapsed() < WAIT_MAX, "{finished} READs, {valid} of them in a pause");
        }
    });
    engine.stop();
}

/// Lets the other threads of a scope end if this one panics.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub fn an_expelled_peers_thread_wakes_from_its_park<P: Choice>(_seed: u64) {
    let [left, right] = pair::<P>();
    let right = std::thread::spawn(move || {
        let mut inbox = Inbox::new(2);
        let start = Instant::now();
        while inbox.lost[LEFT.index()].is_none() {
            assert!(start.elapsed() < WAIT_MAX, "{RIGHT} does not learn that it was expelled");
            if right.poll(64, &mut inbox).expect("no fault of this node") == 0 {
                park(right.as_ref());
            }
        }
        right.try_send(LEFT, &[b"x"])
    });
    // Long enough for the other to be asleep, usually; right in either case.
    std::thread::sleep(Duration::from_millis(20));
    left.expel(RIGHT, "on purpose");
    let mut inbox = Inbox::new(2);
    left.poll(64, &mut inbox).expect("no fault of this node");
    assert!(matches!(inbox.lost[RIGHT.index()], Some(LostReason::Expelled(_))));
    let sent = right.join().expect("the other's thread");
    assert!(matches!(sent, Err(SendError::PeerLost { peer: LEFT, .. })), "{sent:?}");
}
