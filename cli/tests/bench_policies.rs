//! `sterna bench policies` as its users meet it: jobs in turn, tables and files, networks that go away again.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use serde_json::Value;

/// A folder with a small graph, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sterna-p-{name}-{}", std::process::id()));
        let status = Command::new(env!("CARGO_BIN_EXE_sterna"))
            .args(["generate", "triples", "--entities", "300", "--relations", "4"])
            .args(["--triples", "3000", "--out"])
            .arg(&path)
            .stderr(Stdio::null())
            .stdout(Stdio::null())
            .status();
        assert!(status.expect("generate runs").success());
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The command with these options, on this graph.
    fn bench(&self, options: &[&str], epochs: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sterna"));
        command.args(["bench", "policies"]).args(options).arg("--json").arg(self.file("out.json"));
        command
            .args(["--svg"])
            .arg(self.file("out.svg"))
            .args(["--", "kge", "--data"])
            .arg(&self.0);
        command.args(["--dim", "8", "--negatives", "20", "--valid-every", "1", "--epochs", epochs]);
        command.env_remove("STERNA_RANK").stdin(Stdio::null());
        command
    }

    fn measured(&self) -> Value {
        let text = std::fs::read_to_string(self.file("out.json")).expect("JSON was written");
        serde_json::from_str(&text).expect("JSON")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs it; what it printed.
fn succeed(command: &mut Command) -> String {
    let output = command.output().expect("the command runs");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{printed} {said}");
    printed
}

#[test]
fn every_policy_stands_beside_one_node_with_as_many_workers_in_table_json_and_drawing() {
    let folder = Folder::new("host");
    let options = ["--nodes", "1,2", "--policies", "classic,adaptive", "--rounds", "2"];
    let printed = succeed(&mut folder.bench(&options, "2"));
    let measured = folder.measured();
    let cells = measured["cells"].as_array().expect("cells");
    // One node with one worker and with two, and two policies.
    assert_eq!(cells.len(), 4, "{measured}");
    for cell in cells {
        let runs = cell["runs"].as_array().expect("runs");
        let seeds: Vec<_> = runs.iter().map(|run| run["seed"].as_u64()).collect();
        assert_eq!(seeds.len(), 2, "{cell}");
        assert!(seeds.contains(&Some(1)) && seeds.contains(&Some(2)), "{cell}");
        for run in runs {
            assert_eq!(run["nodes"], cell["nodes"]);
            assert_eq!(run["validations"].as_array().expect("a list").len(), 2, "{run}");
            if let Some(policy) = cell["policy"].as_str() {
                assert_eq!(run["policy"].as_str(), Some(policy));
            }
        }
    }
    for words in ["2 nodes with 1 worker each", "one node, 2 workers", "adaptive", "Fastest: "] {
        assert!(printed.contains(words), "{words}: {printed}");
    }
    assert!(printed.contains("single node wins") || printed.contains("times as fast"), "{printed}");
    let drawn = std::fs::read_to_string(folder.file("out.svg")).expect("a drawing");
    // The ground, and a bar for each line of the table.
    assert_eq!(drawn.matches("<rect").count(), 1 + 3, "{drawn}");
    assert!(drawn.contains("mrr over seconds") && !drawn.contains("NaN"), "{drawn}");
}

#[test]
fn a_job_that_fails_ends_the_command_with_what_the_job_said() {
    let folder = Folder::new("fails");
    let output = folder.bench(&["--nodes", "2"], "none").output().expect("the command runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("invalid value 'none'"), "{said}");
}

/// Namespaces that the process of this number has made.
fn namespaces(pid: u32) -> usize {
    let Ok(entries) = std::fs::read_dir("/run/netns") else { return 0 };
    let of = format!("sterna-{pid}-");
    entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(&of)).count()
}

/// Whether this machine lets this process make networks; looked up once for all tests, which run at the same time.
fn may_make_networks() -> bool {
    static MAY: OnceLock<bool> = OnceLock::new();
    *MAY.get_or_init(try_network)
}

fn try_network() -> bool {
    // SAFETY: a system call without arguments.
    let root = unsafe { libc::geteuid() } == 0;
    let name = format!("sterna-{}-try", std::process::id());
    let netns = |what: &str| Command::new("ip").args(["netns", what, &name]).output();
    let made = root && netns("add").is_ok_and(|output| output.status.success());
    let bucket = ["qdisc", "add", "dev", "lo", "root", "tbf", "rate", "1gbit", "burst", "64kb"];
    let limited = made
        && Command::new("tc")
            .args(["-n", &name])
            .args(bucket)
            .args(["latency", "1ms"])
            .output()
            .is_ok_and(|output| output.status.success());
    if made {
        let _ = netns("del");
    }
    if !limited {
        eprintln!("not tried: this machine does not let this process make limited networks");
    }
    limited
}

#[test]
fn nodes_train_over_a_limited_network_that_is_gone_afterwards() {
    let folder = Folder::new("network");
    let options = ["--nodes", "2", "--rate", "200mbit", "--policies", "adaptive", "--rounds", "1"];
    let mut command = folder.bench(&options, "1");
    if !may_make_networks() {
        let output = command.output().expect("the command runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains("--rate"), "{said}");
        return;
    }
    let child = command.stdout(Stdio::piped()).spawn().expect("the command runs");
    let pid = child.id();
    let output = child.wait_with_output().expect("it ends");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{printed}");
    assert!(printed.contains("200mbit: 2 nodes"), "{printed}");
    let run = &folder.measured()["cells"][1]["runs"][0];
    assert_eq!(run["fabric"], "tcp", "{run}");
    assert_eq!(namespaces(pid), 0);
}

fn end_of(mut child: Child) -> std::process::ExitStatus {
    let deadline = Instant::now() + Duration::from_secs(180);
    loop {
        if let Some(status) = child.try_wait().expect("a child of ours") {
            return status;
        }
        if Instant::now() > deadline {
            child.kill().expect("kill");
            panic!("the command does not end");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn ctrl_c_ends_the_job_and_removes_its_network() {
    let folder = Folder::new("stopped");
    let network = may_make_networks();
    let mut options = vec!["--nodes", "2", "--policies", "adaptive", "--rounds", "1"];
    if network {
        options.extend(["--rate", "1gbit"]);
    }
    // So many epochs that only the interrupt ends them.
    let child = folder.bench(&options, "1000000").stdout(Stdio::null()).spawn();
    let child = child.expect("the command runs");
    let pid = child.id();
    let output = std::env::temp_dir().join(format!("sterna-policies-{pid}"));
    let deadline = Instant::now() + Duration::from_secs(180);
    let trains = || std::fs::read_to_string(output.join("output.txt")).unwrap_or_default();
    while !trains().contains("epoch ") {
        assert!(Instant::now() < deadline, "nothing is trained: {}", trains());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(namespaces(pid) > 0, network);
    // SAFETY: plain system call on a child that has not been waited for.
    unsafe { libc::kill(pid.cast_signed(), libc::SIGINT) };
    assert_eq!(end_of(child).code(), Some(130));
    assert_eq!(namespaces(pid), 0);
    assert!(!output.exists(), "the folder of reports was left behind");
}
