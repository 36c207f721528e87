//! Jobs of several processes over RDMA. They need a device (`ci/guest` has one); without it they are skipped,
//! unless `STERNA_REQUIRE_VERBS` says that there has to be one.

use std::io::Write as _;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sterna::{FabricConfig, Node, NodeConfig, ProviderChoice, Rank, Table, TableSpec, Worker};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// How a child learns its place: rank, size, address, case.
const PLACE: &str = "STERNA_TEST_PLACE";

/// The limit of every wait.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Whether RDMA can be tried here; says why not.
fn is_there() -> bool {
    let Err(reason) = sterna_rdma::verbs::devices() else { return true };
    let is_required = std::env::var_os("STERNA_REQUIRE_VERBS").is_some();
    assert!(!is_required, "STERNA_REQUIRE_VERBS is set, but {reason}");
    // Not by the macro, whose text the test harness keeps to itself.
    let _ = writeln!(std::io::stderr(), "SKIPPED: {reason}");
    false
}

/// A node's process, killed when dropped.
struct Process(Child);

impl Process {
    /// Starts this binary again as one of the ranks.
    fn start(rank: usize, size: usize, address: &str, case: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this binary"));
        command
            .args(["--exact", "child_process", "--ignored", "--nocapture", "--test-threads=1"])
            .env(PLACE, format!("{rank} {size} {address} {case}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        Self(command.spawn().expect("this binary runs"))
    }

    fn signal(&self, signal: &str) {
        let pid = self.0.id().to_string();
        let status = Command::new("kill").args([signal, &pid]).status().expect("kill runs");
        assert!(status.success(), "{signal}");
    }

    /// Waits for an orderly end.
    fn wait(mut self) {
        let start = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().expect("a child") {
                assert!(status.success(), "a node failed: {status}");
                return;
            }
            assert!(start.elapsed() < WAIT_MAX, "a node does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the other nodes of a job and joins it as rank 0.
fn job(size: usize, case: &str) -> (Node, Vec<Process>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let others = (1..size).map(|rank| Process::start(rank, size, &address, case)).collect();
    let mut fabric = FabricConfig::new(Rank(0), size, Some(&address), TOKEN);
    fabric.listener = Some(listener);
    (join(fabric), others)
}

fn join(mut fabric: FabricConfig) -> Node {
    fabric.choice = ProviderChoice::Verbs;
    fabric.join_timeout = WAIT_MAX;
    let config = NodeConfig { workers: 2, seed: 7, pin: false, ..NodeConfig::default() };
    let node = Node::join(config, fabric).expect("all nodes come");
    assert_eq!(node.fabric_name(), "verbs");
    node
}

#[test]
#[ignore = "run by the other tests as another node's process"]
fn child_process() {
    let Ok(place) = std::env::var(PLACE) else { return };
    let [rank, size, address, case] =
        place.splitn(4, ' ').collect::<Vec<_>>().try_into().expect("set by a parent");
    let rank = Rank::from_index(rank.parse().expect("a number"));
    let size = size.parse().expect("a number");
    let node = join(FabricConfig::new(rank, size, Some(address), TOKEN));
    match case {
        "add" => add(&node),
        "serve" => serve(&node, |_, _| ()),
        other => panic!("a child does not know how to {other}"),
    }
    node.shutdown().expect("all end");
}

/// `ci/rdma` runs this as each of four ranks, two in each of two guests.
#[test]
#[ignore = "ci/rdma runs it as each rank of a job over two hosts"]
fn no_addition_is_lost_by_a_job_that_shares_memory_within_hosts_and_has_rdma_between_them() {
    let mut fabric = FabricConfig::from_env().expect("a sound environment");
    if fabric.size != 4 {
        return;
    }
    fabric.join_timeout = WAIT_MAX;
    let config = NodeConfig { workers: 1, seed: 7, pin: false, ..NodeConfig::default() };
    let node = Node::join(config, fabric).expect("all nodes come");
    println!("{}", node.describe());
    assert_eq!(node.fabric_name(), "shm+verbs");
    add(&node);
    node.shutdown().expect("all end");
}

/// Runs `body` on every worker of a node.
fn workers(node: &Node, body: impl Fn(Worker) + Sync) {
    std::thread::scope(|scope| {
        for index in 0..node.workers() {
            let worker = node.worker(index).expect("a worker");
            let body = &body;
            scope.spawn(move || body(worker));
        }
    });
}

fn pull(worker: &mut Worker, table: &Table, keys: &[u64]) -> Vec<f32> {
    let mut values = vec![f32::NAN; keys.len() * table.dim()];
    worker.pull(table, keys, &mut values).expect("keys exist");
    values
}

/// All workers add to the same keys; integers in f32, so the sum is exact.
fn add(node: &Node) {
    const ROUNDS: u16 = 300;
    let table = node.create_table(TableSpec::new("t", 100, 3)).expect("a table");
    let total = f64::from(ROUNDS) * 30.0 * (node.size() * node.workers()) as f64;
    workers(node, |mut worker| {
        let keys: Vec<u64> = (0..10).map(|key| key * (1 + worker.global_index() as u64)).collect();
        let mut own = 0.0;
        for _ in 0..ROUNDS {
            worker.add(&table, &keys, &[1.0; 30]).expect("add");
            own += 1.0;
            for value in pull(&mut worker, &table, &keys[1..4]) {
                assert!(value >= own, "{value} after {own} own additions");
            }
        }
        worker.barrier().expect("all come");
        let all: Vec<u64> = (0..100).collect();
        let sum: f64 = pull(&mut worker, &table, &all).iter().map(|&v| f64::from(v)).sum();
        assert!((sum - total).abs() < 0.5, "{sum} of {total}");
        worker.barrier().expect("all come");
    });
}

#[test]
fn no_addition_is_lost_over_rdma() {
    if !is_there() {
        return;
    }
    let (node, others) = job(3, "add");
    add(&node);
    node.shutdown().expect("all end");
    others.into_iter().for_each(Process::wait);
}

/// Each key's row says the key. Between two meetings, rank 0's first worker does `body`.
fn serve(node: &Node, body: impl Fn(&mut Worker, &Table) + Sync) {
    let table = node.create_table(TableSpec::new("rows", 4_000, 16)).expect("a table");
    workers(node, |mut worker| {
        if worker.global_index() == 0 {
            let keys: Vec<u64> = (0..4_000).collect();
            let rows: Vec<f32> = (0_u16..4_000).flat_map(|key| [f32::from(key); 16]).collect();
            worker.set(&table, &keys, &rows).expect("keys exist");
        }
        worker.barrier().expect("all come");
        if worker.global_index() == 0 {
            body(&mut worker, &table);
        }
        worker.barrier().expect("all come");
    });
}

#[test]
fn the_rows_of_a_stopped_owner_are_still_read() {
    if !is_there() {
        return;
    }
    let (node, others) = job(2, "serve");
    serve(&node, |worker, table| {
        others[0].signal("-STOP");
        // About half of the keys are the other node's; none of its threads runs.
        for first in (0..4_000).step_by(250) {
            let keys: Vec<u64> = (first..first + 250).collect();
            let rows = pull(worker, table, &keys);
            for (key, row) in keys.iter().zip(rows.chunks_exact(16)) {
                assert!(row.iter().all(|&value| value == *key as f32), "key {key}: {row:?}");
            }
        }
        let state = std::fs::read_to_string(format!("/proc/{}/stat", others[0].0.id()));
        assert!(state.expect("procfs").contains(") T "), "it was stopped all the time");
        others[0].signal("-CONT");
    });
    node.shutdown().expect("all end");
    others.into_iter().for_each(Process::wait);
}
