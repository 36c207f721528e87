//! Cases in which the other node is a process of its own that is killed or stopped.
//!
//! The test binary runs itself again (`child_process`) with its place in the job in the environment.
//! A child dies with its parent, and after [`WAIT_MAX`] in any case.

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sterna_rdma::{
    Fabric, FabricConfig, FabricError, LostReason, Provider, Rank, Read, ReadLane, Region,
    RegionSpec, RegionToken, Rights, SendError, job,
};

use super::job::{Inbox, WAIT_MAX, poll_lane};
use super::jobs::{Choice, TOKEN, configs};
use super::memory::{fill, pattern, store, words};

const PARENT: Rank = Rank(0);
const CHILD: Rank = Rank(1);

/// `address of the rendezvous|what to do`.
const CHILD_VARIABLE: &str = "STERNA_CONFORMANCE_CHILD";

/// Bytes of the region that each process exports.
const REGION_BYTES: usize = 64 * 1024;

/// A child that does not outlive the test.
struct Process(Child);

impl Process {
    fn signal(&self, signal: libc::c_int) {
        let pid = libc::pid_t::try_from(self.0.id()).expect("a process id");
        // SAFETY: no memory is involved; the child has not been waited for, so the id is its own.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }

    fn kill(&mut self) {
        self.0.kill().expect("our child");
        self.0.wait().expect("our child");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// This process's node, and the child's region.
struct Parent {
    fabric: Arc<dyn Fabric>,
    inbox: Inbox,
    child: Process,
    theirs: RegionToken,
    /// What the child reads.
    _ours: Arc<Region>,
}

/// A region of `fabric`, its token sent to `peer`, and the token of `peer`'s region imported.
fn exchange(fabric: &dyn Fabric, peer: Rank, inbox: &mut Inbox) -> (Arc<Region>, RegionToken) {
    let spec = RegionSpec { name: "conformance", bytes: REGION_BYTES, rights: Rights::Read };
    let region = fabric.allocate(spec).expect("memory");
    fill(&region, u64::from(fabric.rank().0));
    let token = fabric.export(&region).expect("an export");
    send(fabric, peer, &token.to_bytes(), inbox);
    let start = Instant::now();
    let record = loop {
        if let Some(record) = inbox.records[peer.index()].pop_front() {
            break record;
        }
        assert!(start.elapsed() < WAIT_MAX, "no token of {peer}");
        rest(fabric, inbox);
    };
    let token = RegionToken::from_bytes(record[..].try_into().expect("a token"));
    fabric.import(peer, &token).expect("an import");
    (region, token)
}

/// Polls, and sleeps if there is nothing.
fn rest(fabric: &dyn Fabric, inbox: &mut Inbox) {
    if fabric.poll(64, inbox).expect("no fault of this node") == 0 {
        fabric.park(Duration::from_millis(20)).expect("no fault of this node");
    }
}

fn send(fabric: &dyn Fabric, to: Rank, record: &[u8], inbox: &mut Inbox) {
    let start = Instant::now();
    loop {
        match fabric.try_send(to, &[record]) {
            Ok(()) => return,
            Err(SendError::Full(_) | SendError::Busy(_)) => rest(fabric, inbox),
            Err(error) => panic!("{error}"),
        }
        assert!(start.elapsed() < WAIT_MAX, "no credit");
    }
}

impl Parent {
    /// Starts a child that joins as rank 1 and then does `what`.
    fn start<P: Choice>(what: &str) -> Self {
        let (mut members, address) = configs::<P>(2);
        members.truncate(1);
        let mut command = Command::new(std::env::current_exe().expect("this binary"));
        command
            .args(["--exact", "child_process", "--ignored", "--nocapture", "--test-threads=1"])
            .env(CHILD_VARIABLE, format!("{address}|{what}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        // SAFETY: `prctl` is async-signal-safe and touches no memory of the parent.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let child = Process(command.spawn().expect("this binary runs"));
        let config = members.pop().expect("rank 0");
        let fabric = job::open(config).expect("the child joins");
        assert_eq!(fabric.provider(CHILD), P::PROVIDER, "no silent fallback");
        let mut inbox = Inbox::new(2);
        let (ours, theirs) = exchange(fabric.as_ref(), CHILD, &mut inbox);
        Self { fabric, inbox, child, theirs, _ours: ours }
    }

    fn until(&mut self, what: &str, mut ready: impl FnMut(&mut Self) -> bool) {
        let start = Instant::now();
        while !ready(self) {
            assert!(start.elapsed() < WAIT_MAX, "waited {WAIT_MAX:?} for {what}");
            rest(self.fabric.as_ref(), &mut self.inbox);
        }
    }

    fn received(&self) -> usize {
        self.inbox.records[CHILD.index()].len()
    }

    fn wait_lost(&mut self) -> LostReason {
        self.until("the child's end", |parent| parent.inbox.lost[CHILD.index()].is_some());
        match self.fabric.try_send(CHILD, &[b"x"]) {
            Err(SendError::PeerLost { peer, .. }) => assert_eq!(peer, CHILD),
            other => panic!("a record for a lost peer: {other:?}"),
        }
        self.inbox.lost[CHILD.index()].clone().expect("waited for")
    }

    fn wait_died(&mut self) {
        let reason = self.wait_lost();
        assert!(matches!(reason, LostReason::Died(_)), "{reason:?}");
    }

    fn read(&self, token: u64) -> Read {
        Read { peer: CHILD, region: self.theirs.id, offset: token * 64 % 4096, len: 4096, token }
    }

    fn assert_first_part(&self) {
        for (number, record) in (0_u64..).zip(&self.inbox.records[CHILD.index()]) {
            assert_eq!(record[..8], number.to_le_bytes(), "in order and without a gap");
        }
    }
}

fn assert_content(token: u64, bytes: &[u8]) {
    let first = token * 64 % 4096;
    let expected = (first..first + 4096).step_by(8);
    assert!(words(bytes).eq(expected.map(|offset| pattern(offset, u64::from(CHILD.0)))));
}

/// The other node. Returns at once if this is no child.
pub fn run_child<P: Choice>() {
    let Ok(place) = std::env::var(CHILD_VARIABLE) else { return };
    let (address, what) = place.split_once('|').expect("set by a parent");
    let mut config = FabricConfig::new(CHILD, 2, Some(address), TOKEN);
    config.choice = P::CHOICE;
    config.join_timeout = WAIT_MAX;
    let fabric = job::open(config).expect("the parent joins");
    let mut inbox = Inbox::new(2);
    let (region, theirs) = exchange(fabric.as_ref(), PARENT, &mut inbox);
    let start = Instant::now();
    let mut lane = fabric.open_lane().expect("a lane");
    let mut number = 0_u64;
    while start.elapsed() < WAIT_MAX && inbox.lost[PARENT.index()].is_none() {
        match what {
            "stream" => {
                let _ = fabric
                    .try_send(PARENT, &[&number.to_le_bytes(), &[1; 300]])
                    .map(|()| number += 1);
                if number.is_multiple_of(64) {
                    fabric.poll(64, &mut inbox).expect("no fault of this node");
                }
            }
            "consume nothing" => std::thread::sleep(Duration::from_millis(10)),
            "serve" => rest(fabric.as_ref(), &mut inbox),
            "read" => {
                while lane.outstanding() < lane.capacity().min(32) {
                    let (peer, region) = (PARENT, theirs.id);
                    let posted =
                        lane.post(Read { peer, region, offset: 0, len: 32 * 1024, token: 0 });
                    posted.expect("a legal READ");
                }
                lane.submit().expect("no fault of this node");
                number += poll_lane(lane.as_mut()).len() as u64;
                let _ = fabric.try_send(PARENT, &[&number.to_le_bytes()]);
                fabric.poll(64, &mut inbox).expect("no fault of this node");
            }
            "park" => fabric.park(Duration::from_secs(5)).expect("no fault of this node"),
            "export" => {
                let spec = RegionSpec { name: "more", bytes: 4096, rights: Rights::Read };
                let more = fabric.allocate(spec).expect("memory");
                let token = fabric.export(&more).expect("an export");
                if fabric.try_send(PARENT, &[&token.to_bytes()]).is_err() {
                    rest(fabric.as_ref(), &mut inbox);
                }
            }
            "goodbye" => {
                for number in 0..500_u64 {
                    send(fabric.as_ref(), PARENT, &number.to_le_bytes(), &mut inbox);
                }
                fabric.goodbye();
                return;
            }
            "count" => {
                store(&region, 0, number);
                number += 1;
                let _ = fabric.try_send(PARENT, &[&number.to_le_bytes()]);
                rest(fabric.as_ref(), &mut inbox);
            }
            other => panic!("a child does not know how to {other}"),
        }
    }
}

pub fn a_process_killed_while_it_sends_leaves_a_first_part<P: Choice>(_seed: u64) {
    let mut parent = Parent::start::<P>("stream");
    parent.until("some records", |parent| parent.received() > 1_000);
    parent.child.kill();
    parent.wait_died();
    parent.assert_first_part();
}

pub fn a_process_killed_while_its_link_is_full_is_reported<P: Choice>(_seed: u64) {
    let mut parent = Parent::start::<P>("consume nothing");
    parent.until("a full link", |parent| {
        loop {
            match parent.fabric.try_send(CHILD, &[&[3; 20_000]]) {
                Ok(()) | Err(SendError::Busy(_)) => {}
                Err(SendError::Full(_)) => return true,
                Err(error) => panic!("{error}"),
            }
        }
    });
    parent.child.kill();
    parent.wait_died();
}

pub fn a_process_killed_with_reads_outstanding_ends_them<P: Choice>(_seed: u64) {
    let mut parent = Parent::start::<P>("serve");
    let mut lane = parent.fabric.open_lane().expect("a lane");
    let (mut posted, mut finished, mut failed) = (0, 0, 0);
    let mut killed = false;
    parent.until("all READs to end", |parent| {
        while lane.outstanding() < lane.capacity().min(128) && failed == 0 {
            match lane.post(parent.read(posted)) {
                Ok(()) => posted += 1,
                Err(FabricError::PeerLost { peer, .. }) => {
                    assert_eq!((peer, killed), (CHILD, true));
                    failed += 1;
                }
                Err(error) => panic!("{error}"),
            }
        }
        lane.submit().expect("no fault of this node");
        if finished > 1_000 && !killed {
            parent.child.kill();
            killed = true;
        }
        for done in poll_lane(lane.as_mut()) {
            finished += 1;
            match done.result {
                Ok((bytes, _)) => assert_content(done.token, &bytes),
                Err(reason) => {
                    assert!(killed && reason.contains("rank 1"), "{reason}");
                    failed += 1;
                }
            }
        }
        killed && failed > 0 && lane.outstanding() == 0
    });
    assert_eq!(posted, finished);
    parent.wait_died();
}

pub fn a_process_killed_while_it_reads_is_reported<P: Choice>(_seed: u64) {
    let mut parent = Parent::start::<P>("read");
    parent.until("some READs", |parent| {
        let records = &mut parent.inbox.records[CHILD.index()];
        let number = |record: &Vec<u8>| u64::from_le_bytes(record[..].try_into().expect("8 bytes"));
        records.drain(..).any(|record| number(&record) > 200)
    });
    parent.child.kill();
    parent.wait_died();
}

pub fn a_process_killed_in_its_sleep_is_reported<P: Choice>(_seed: u64) {
    let mut parent = Parent::start::<P>("park");
    std::thread::sleep(Duration::from_millis(50));
    parent.child.kill();
    parent.wait_died();
}

pub fn a_process_killed_while_it_exports_is_reported<P: Choice>(_seed: u64) {
    let mut parent = Parent::start::<P>("export");
    let mut lane = parent.fabric.open_lane().expect("a lane");
    let mut imported = 0;
    parent.until("some regions", |parent| {
        while let Some(record) = parent.inbox.records[CHILD.index()].pop_front() {
            let token = RegionToken::from_bytes(record[..].try_into().expect("a token"));
            parent.fabric.import(CHILD, &token).expect("an import");
            imported += 1;
        }
        imported > 30
    });
    parent.child.kill();
    // What is still there may be imported or not; nothing panics and nothing hangs.
    parent.until("the child's end", |parent| {
        while let Some(record) = parent.inbox.records[CHILD.index()].pop_front() {
            let token = RegionToken::from_bytes(record[..].try_into().expect("a token"));
            let read = Read { peer: CHILD, region: token.id, offset: 0, len: 8, token: 0 };
            if parent.fabric.import(CHILD, &token).is_ok() && lane.post(read).is_ok() {
                lane.submit().expect("no fault of this node");
            }
        }
        parent.inbox.lost[CHILD.index()].is_some()
    });
    parent.until("all READs to end", |_| {
        poll_lane(lane.as_mut());
        lane.outstanding() == 0
    });
    parent.wait_died();
}

pub fn a_death_wakes_a_parked_node_and_a_waiting_lane<P: Choice>(_seed: u64) {
    let mut parent = Parent::start::<P>("serve");
    let mut lane = parent.fabric.open_lane().expect("a lane");
    let pid = libc::pid_t::try_from(parent.child.0.id()).expect("a process id");
    // Stopped, it serves nothing; then it is killed while both sleep.
    parent.child.signal(libc::SIGSTOP);
    lane.post(parent.read(0)).expect("a legal READ");
    lane.submit().expect("no fault of this node");
    let fabric = Arc::clone(&parent.fabric);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let start = Instant::now();
            while poll_lane(lane.as_mut()).is_empty() {
                let left = WAIT_MAX.saturating_sub(start.elapsed());
                assert!(!left.is_zero(), "the READ did not end");
                lane.wait(left).expect("no fault of this node");
            }
        });
        let killing = scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            // SAFETY: no memory is involved; the child has not been waited for.
            unsafe { libc::kill(pid, libc::SIGKILL) }
        });
        let start = Instant::now();
        let inbox = &mut parent.inbox;
        while inbox.lost[CHILD.index()].is_none() {
            let left = WAIT_MAX.saturating_sub(start.elapsed());
            assert!(!left.is_zero(), "the death was not noticed in the sleep");
            if fabric.poll(64, inbox).expect("no fault of this node") == 0 {
                fabric.park(left).expect("no fault of this node");
            }
        }
        assert_eq!(killing.join().expect("no panic"), 0);
        waiting.join().expect("no panic");
    });
    parent.wait_died();
}

pub fn a_process_that_says_goodbye_is_no_failure<P: Choice>(_seed: u64) {
    let mut parent = Parent::start::<P>("goodbye");
    assert_eq!(parent.wait_lost(), LostReason::Goodbye);
    assert_eq!(parent.received(), 500, "an orderly end loses nothing");
    parent.assert_first_part();
}

/// Whether READs need nothing of the owner's process.
fn is_one_sided<P: Choice>() -> bool {
    matches!(P::PROVIDER, Provider::Shm | Provider::Verbs)
}

/// Over memory and RDMA a stopped process is still readable; over sockets its READs wait for it.
pub fn a_stopped_process_loses_nothing<P: Choice>(_seed: u64) {
    let mut parent = Parent::start::<P>("count");
    let mut lane: Box<dyn ReadLane> = parent.fabric.open_lane().expect("a lane");
    parent.until("some records", |parent| parent.received() > 10);
    parent.child.signal(libc::SIGSTOP);
    let read = Read { offset: 64, ..parent.read(1) };
    lane.post(read).expect("a legal READ");
    lane.submit().expect("no fault of this node");
    if is_one_sided::<P>() {
        parent.until("the READ", |_| take_read(lane.as_mut()));
    }
    for _ in 0..10 {
        rest(parent.fabric.as_ref(), &mut parent.inbox);
    }
    assert_eq!(parent.inbox.lost[CHILD.index()], None, "stopped is not dead");
    let before = parent.received();
    send(&*parent.fabric, CHILD, b"while you were away", &mut parent.inbox);
    parent.child.signal(libc::SIGCONT);
    parent.until("more records", |parent| parent.received() > before + 10);
    if !is_one_sided::<P>() {
        parent.until("the READ", |_| take_read(lane.as_mut()));
    }
    parent.child.kill();
    parent.wait_died();
}

fn take_read(lane: &mut dyn ReadLane) -> bool {
    poll_lane(lane).pop().is_some_and(|done| {
        assert_content(done.token, &done.result.expect("it is not dead").0);
        true
    })
}
