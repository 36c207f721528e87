//! Faults of devices, ports, permissions, limits and peers over RDMA: each ends in an error that says what to
//! do, or in the loss of the peer; nothing hangs. They change the machine, so they only run in `ci/guest`.

mod conformance;

use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use conformance::job::{Inbox, Random, WAIT_MAX};
use conformance::jobs::{Choice, TOKEN, configs, open_all};
use sterna_rdma::verbs::{Gid, GidWish, PortState, VerbsError, Wish, devices};
use sterna_rdma::{
    Completion, Fabric, FabricConfig, FabricError, LostReason, Provider, ProviderChoice, Rank,
    Read, ReadLane, Region, RegionId, RegionSpec, Rights, SendError, job,
};

struct Verbs;

impl Choice for Verbs {
    const CHOICE: ProviderChoice = ProviderChoice::Verbs;
    const PROVIDER: Provider = Provider::Verbs;
}

/// How a child learns what to do.
const CHILD: &str = "STERNA_TEST_FAULT";

/// A user without rights.
const NOBODY: u32 = 65_534;

/// Whether this is a guest, whose device may be broken.
fn is_guest() -> bool {
    let is_guest = std::env::var_os("STERNA_GUEST").is_some();
    assert!(!is_guest || devices().is_ok(), "the guest has no device");
    is_guest
}

fn run(command: &str) {
    let status = Command::new("sh").args(["-c", command]).status().expect("a shell");
    assert!(status.success(), "{command}");
}

/// What rank 0 of a job reads that wants a device in this way.
fn refused(wish: Wish) -> String {
    let (mut configs, _) = configs::<Verbs>(2);
    let mut config = configs.swap_remove(0);
    config.rdma = wish;
    config.join_timeout = Duration::from_secs(5);
    let start = Instant::now();
    let error = job::open(config).err().expect("it cannot be had").to_string();
    assert!(start.elapsed() < Duration::from_secs(4), "it is said at once, not when nobody came");
    error
}

fn names(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
}

#[test]
fn a_device_port_or_address_that_is_not_there_is_named() {
    if !is_guest() {
        return;
    }
    let device = |name: &str| Wish { device: Some(name.to_owned()), ..Wish::default() };
    names(&refused(device("mlx5_0")), &["mlx5_0", "rxe0"]);
    names(&refused(Wish { port: Some(2), ..Wish::default() }), &["rxe0 has no port 2"]);
    let gid = |gid| refused(Wish { gid: Some(gid), ..Wish::default() });
    names(&gid(GidWish::Index(99)), &["place 99"]);
    let foreign = Gid::of_ip("10.77.0.1".parse().expect("an address"));
    names(&gid(GidWish::Address(foreign)), &["10.77.0.1"]);
}

#[test]
fn a_port_that_is_down_or_has_no_address_says_so() {
    if !is_guest() {
        return;
    }
    let down = link_down();
    names(&refused(Wish::default()), &["rxe0 port 1", "Down", "ip link"]);
    drop(down);
    let address = own_address();
    let without = Changed::by(
        &format!("ip addr del {address}/24 dev eth0"),
        &format!("ip addr add {address}/24 dev eth0"),
    );
    let start = Instant::now();
    // The table of GIDs follows a moment later.
    while has_gid() && start.elapsed() < WAIT_MAX {
        std::thread::sleep(Duration::from_millis(20));
    }
    names(&refused(Wish::default()), &["routable", "IP address"]);
    drop(without);
    drop(pair());
}

/// The guest's interface as it is not meant to be; as it was when dropped, and with its GID again.
struct Changed(String);

impl Changed {
    fn by(change: &str, back: &str) -> Self {
        run(change);
        Self(back.to_owned())
    }
}

impl Drop for Changed {
    fn drop(&mut self) {
        run(&self.0);
        wait_for_gid();
    }
}

/// The address of the guest's interface.
fn own_address() -> String {
    let number: u8 = std::env::var("STERNA_GUEST").expect("a guest").parse().expect("a number");
    format!("10.0.0.{}", number + 1)
}

fn link_down() -> Changed {
    Changed::by("ip link set eth0 down", "ip link set eth0 up")
}

/// An address becomes a GID, and a link an active port, a moment after it was given.
fn wait_for_gid() {
    let start = Instant::now();
    while !has_gid() {
        assert!(start.elapsed() < WAIT_MAX, "the port does not come back");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether the device has an active port with the guest's address.
fn has_gid() -> bool {
    let gid = Gid::of_ip(own_address().parse().expect("an address"));
    let entries = devices().expect("a device");
    let devices = entries.iter().filter_map(|entry| entry.device.as_ref().ok());
    devices.flat_map(|device| &device.ports).any(|port| {
        port.state == PortState::Active && port.gids.iter().any(|entry| entry.gid == gid)
    })
}
fn pair() -> [Arc<dyn Fabric>; 2] {
    open_all(configs::<Verbs>(2).0).try_into().ok().expect("two nodes")
}

#[test]
fn an_address_that_goes_away_later_is_an_error_of_the_next_lane() {
    if !is_guest() {
        return;
    }
    let [left, right] = pair();
    drop(left.open_lane().expect("a lane"));
    let address = own_address();
    let moved = Changed::by(
        &format!("ip addr del {address}/24 dev eth0 && ip addr add 10.0.7.7/24 dev eth0"),
        &format!("ip addr del 10.0.7.7/24 dev eth0 && ip addr add {address}/24 dev eth0"),
    );
    let start = Instant::now();
    // The table of GIDs follows a moment later.
    let error = loop {
        match left.open_lane() {
            Err(error) => break error,
            Ok(_) => std::thread::sleep(Duration::from_millis(20)),
        }
        assert!(start.elapsed() < WAIT_MAX, "lanes open with an address that is gone");
    };
    names(&error.to_string(), &[&address, "gone"]);
    drop(moved);
    drop(left.open_lane().expect("a lane, from another place of the table if need be"));
    drop(right);
}

#[test]
fn a_connection_that_fails_loses_its_peer_with_cause_and_remedy() {
    if !is_guest() {
        return;
    }
    let [left, right] = pair();
    let mut inbox = Inbox::new(2);
    let down = link_down();
    left.try_send(Rank(1), &[b"into the void"]).expect("credit");
    let start = Instant::now();
    while inbox.lost[1].is_none() {
        assert!(start.elapsed() < WAIT_MAX, "the failure was not noticed");
        if left.poll(64, &mut inbox).expect("no fault of this node") == 0 {
            left.park(Duration::from_millis(100)).expect("no fault of this node");
        }
    }
    let Some(LostReason::Died(reason)) = &inbox.lost[1] else { panic!("{:?}", inbox.lost[1]) };
    // Soft-RoCE says itself that there is no way; hardware tries again for two seconds.
    assert!(reason.contains("LOC_QP_OP_ERR") || reason.contains("RETRY_EXC_ERR"), "{reason}");
    names(reason, &["check that", "this node's port has counted"]);
    match left.try_send(Rank(1), &[b"x"]) {
        Err(SendError::PeerLost { peer, reason }) => {
            assert_eq!(peer, Rank(1));
            names(&reason, &["check that"]);
        }
        other => panic!("{other:?}"),
    }
    drop(down);
    drop((left, right));
    drop(pair());
}

#[test]
fn a_rendezvous_port_in_use_is_named() {
    if !is_guest() {
        return;
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let mut config = FabricConfig::new(Rank(0), 2, Some(&address), TOKEN);
    config.choice = ProviderChoice::Verbs;
    let error = job::open(config).err().expect("it is taken").to_string();
    names(&error, &["in use", &address]);
}

/// The nodes of a job that may use so many queue pairs each.
fn with_pairs(nodes: usize, pairs: u32) -> Vec<FabricConfig> {
    let mut members = configs::<Verbs>(nodes).0;
    members.iter_mut().for_each(|config| config.rdma.queue_pairs = Some(pairs));
    members
}

#[test]
fn more_ranks_than_queue_pairs_allow_are_told_and_lanes_share_what_they_allow() {
    if !is_guest() {
        return;
    }
    // Seven peers need 21.
    let joining: Vec<_> = with_pairs(8, 20)
        .into_iter()
        .map(|config| std::thread::spawn(|| job::open(config)))
        .collect();
    for thread in joining {
        let error = thread.join().expect("no panic").err().expect("too many");
        match error {
            FabricError::Verbs(error) => {
                names(&error.to_string(), &["7 peers", "21", "20", "STERNA_QUEUE_PAIRS"]);
            }
            // Another node was the first to find out.
            FabricError::PeerLost { .. } => {}
            error => panic!("{error}"),
        }
    }
    let fabrics = open_all(with_pairs(8, 21));
    let (words, node) = (1024, &fabrics[0]);
    let spec = RegionSpec { name: "shared", bytes: 8 * words, rights: Rights::Read };
    let regions: Vec<_> = fabrics[1..]
        .iter()
        .map(|fabric| {
            let region = fabric.allocate(spec).expect("memory");
            for word in 0..words {
                let value = (fabric.rank().index() << 32 | word) as u64;
                // SAFETY: a word of the region, which nobody reads yet.
                unsafe { region.base().as_ptr().cast::<u64>().add(word).write(value) };
            }
            let token = fabric.export(&region).expect("an export");
            node.import(fabric.rank(), &token).expect("an import");
            (region, fabric.rank(), token.id)
        })
        .collect();
    let before = pairs_in_use(&fabrics);
    std::thread::scope(|scope| {
        for reader in 0..4 {
            let mut lane = node.open_lane().expect("a lane");
            let regions = &regions;
            scope.spawn(move || read_all(&mut *lane, regions, reader));
        }
    });
    assert_eq!(before, pairs_in_use(&fabrics), "all lanes are gone");
    let lanes: Vec<_> = (0..4).map(|_| node.open_lane().expect("a lane")).collect();
    assert_eq!(
        pairs_in_use(&fabrics) - before,
        2 * 7,
        "one queue pair to each peer, and its other end"
    );
    drop(lanes);
}

/// Queue pairs in use, once the nodes have heard of all lanes that have ended.
fn pairs_in_use(fabrics: &[Arc<dyn Fabric>]) -> usize {
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(300) {
        for fabric in fabrics {
            fabric.poll(64, &mut Inbox::new(8)).expect("no fault of this node");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let output = Command::new("rdma").args(["resource", "show", "qp"]).output().expect("rdma runs");
    String::from_utf8_lossy(&output.stdout).lines().filter(|line| line.contains("type RC")).count()
}

/// READs words of all regions through a lane that others use as well, and compares them.
fn read_all(lane: &mut dyn ReadLane, regions: &[(Arc<Region>, Rank, RegionId)], reader: usize) {
    let mut random = Random(reader as u64 + 1);
    let (mut posted, mut ended) = (0_u64, 0);
    let mut wanted = std::collections::HashMap::new();
    let start = Instant::now();
    while ended < 2_000 {
        assert!(start.elapsed() < WAIT_MAX, "{ended} of {posted} READs ended");
        while posted < 2_000 && lane.outstanding() < 32 {
            let (_, peer, region) = regions[random.below(regions.len())];
            let word = random.below(1024);
            let token = (reader as u64) << 32 | posted;
            let read = Read { peer, region, offset: 8 * word as u64, len: 8, token };
            match lane.post(read) {
                Ok(()) => wanted.insert(token, (peer.index() << 32 | word) as u64),
                // The others have taken all the room there is.
                Err(FabricError::LaneFull { .. }) => break,
                Err(error) => panic!("{error}"),
            };
            posted += 1;
        }
        lane.submit().expect("no fault of this node");
        let mut handed = 0;
        let count = lane.poll(&mut |completion: Completion<'_>| {
            let data = completion.result.expect("the peer lives");
            let found = u64::from_ne_bytes(data.bytes.try_into().expect("eight bytes"));
            assert_eq!(wanted.remove(&completion.token), Some(found), "its own, once");
            handed += 1;
        });
        assert_eq!(count.expect("no fault of this node"), handed);
        ended += handed;
        if handed == 0 {
            lane.wait(Duration::from_millis(5)).expect("no fault of this node");
        }
    }
    assert_eq!(lane.outstanding(), 0);
}

/// Runs a case of this binary as a user without rights, with a limit of locked memory.
fn as_nobody(case: &str, memlock: u64) {
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command.args(["--exact", "child_process", "--ignored", "--nocapture"]).env(CHILD, case);
    command.uid(NOBODY).gid(NOBODY).stdin(Stdio::null());
    let limit = libc::rlimit { rlim_cur: memlock, rlim_max: memlock };
    // SAFETY: `setrlimit` is async-signal-safe and reads a value of the closure only.
    unsafe {
        command.pre_exec(move || match libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    let output = command.output().expect("this binary runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn too_little_lockable_memory_is_computed_before_it_is_tried() {
    if is_guest() {
        as_nobody("memlock", 1 << 20);
    }
}

#[test]
fn a_device_file_that_cannot_be_opened_is_named_with_the_remedy() {
    if !is_guest() {
        return;
    }
    let closed =
        Changed::by("chmod 0600 /dev/infiniband/uverbs*", "chmod 0666 /dev/infiniband/uverbs*");
    as_nobody("permission", 1 << 30);
    drop(closed);
    as_nobody("all is well", 1 << 30);
}

#[test]
#[ignore = "run by the other tests as another process"]
fn child_process() {
    let Ok(case) = std::env::var(CHILD) else { return };
    let (configs, _) = configs::<Verbs>(2);
    let joining: Vec<_> =
        configs.into_iter().map(|config| std::thread::spawn(|| job::open(config))).collect();
    let joined: Vec<_> =
        joining.into_iter().map(|thread| thread.join().expect("no panic")).collect();
    match case.as_str() {
        "all is well" => assert!(joined.iter().all(Result::is_ok)),
        "memlock" => {
            for result in joined {
                match result.err().expect("beyond the limit") {
                    FabricError::Verbs(error @ VerbsError::Memlock { .. }) => {
                        names(&error.to_string(), &["rings", "1048576", "ulimit -l"]);
                    }
                    // The other node was the first to find out.
                    FabricError::PeerLost { .. } => {}
                    error => panic!("{error}"),
                }
            }
        }
        "permission" => {
            let error =
                joined.into_iter().next().expect("rank 0").err().expect("no right").to_string();
            names(&error, &["/dev/infiniband/uverbs0", "chmod"]);
        }
        // A node that is killed at some moment of its start.
        place => {
            let mut config = FabricConfig::new(Rank(1), 2, Some(place), TOKEN);
            config.choice = ProviderChoice::Verbs;
            let fabric = job::open(config);
            std::thread::sleep(WAIT_MAX);
            drop(fabric);
        }
    }
}

#[test]
fn a_peer_that_dies_at_any_moment_of_its_start_is_an_error_or_a_loss() {
    if !is_guest() {
        return;
    }
    let mut random = Random(5);
    for _ in 0..8 {
        let (mut members, address) = configs::<Verbs>(2);
        members.truncate(1);
        let mut config = members.pop().expect("rank 0");
        config.join_timeout = Duration::from_secs(2);
        let mut command = Command::new(std::env::current_exe().expect("this binary"));
        command.args(["--exact", "child_process", "--ignored"]).env(CHILD, address);
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("this binary runs");
        let delay = Duration::from_millis(random.below(250) as u64);
        let killing = std::thread::spawn(move || {
            std::thread::sleep(delay);
            child.kill().expect("a child");
            child.wait().expect("a child");
        });
        let start = Instant::now();
        match job::open(config) {
            Err(FabricError::JoinTimeout { .. } | FabricError::PeerLost { peer: Rank(1), .. }) => {}
            Err(error) => panic!("killed after {delay:?}: {error}"),
            Ok(fabric) => {
                let mut inbox = Inbox::new(2);
                while inbox.lost[1].is_none() {
                    assert!(start.elapsed() < WAIT_MAX, "killed after {delay:?}, not noticed");
                    if fabric.poll(64, &mut inbox).expect("no fault of this node") == 0 {
                        fabric.park(Duration::from_millis(100)).expect("no fault of this node");
                    }
                }
                assert!(matches!(inbox.lost[1], Some(LostReason::Died(_))), "{:?}", inbox.lost[1]);
            }
        }
        assert!(start.elapsed() < WAIT_MAX, "killed after {delay:?}: it took too long");
        killing.join().expect("no panic");
    }
}
