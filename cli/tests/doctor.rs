//! `sterna doctor` as its users meet it: this machine as it is, jobs, other hosts by a remote shell that stays here.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};

const PROGRAM: &str = env!("CARGO_BIN_EXE_sterna");

fn doctor(arguments: &[&str]) -> Output {
    let mut command = Command::new(PROGRAM);
    command.arg("doctor").args(arguments).env_remove("STERNA_RANK").env_remove("STERNA_SIZE");
    command.output().expect("the command runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

/// All checks of a group.
fn checks(report: &serde_json::Value, group: &str) -> Vec<serde_json::Value> {
    let groups = report["groups"].as_array().expect("groups");
    let found = groups.iter().find(|found| found["name"] == group);
    let found = found.unwrap_or_else(|| panic!("no {group}: {report}"));
    found["checks"].as_array().expect("checks").clone()
}

/// The exit code that belongs to the worst level of a report.
fn code_of(report: &serde_json::Value) -> Option<i32> {
    match report["level"].as_str().expect("a level") {
        "PASS" => Some(0),
        "WARN" => Some(3),
        "FAIL" => Some(4),
        _ => None,
    }
}

/// A remote shell that runs the command on this host instead, whatever host is named; removed at the end.
struct FakeShell(PathBuf);

impl FakeShell {
    fn new(name: &str, before: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sterna-rsh-{}-{name}", std::process::id()));
        let script = format!("#!/bin/sh\nhost=$1\n{before}\nexec sh -c \"$2\"\n");
        std::fs::write(&path, script).expect("write a script");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("ours");
        Self(path)
    }

    /// Through `sh`: a script that was written a moment ago may still be open in a child that another test is starting.
    fn command(&self) -> String {
        format!("sh {}", self.0.display())
    }
}

impl Drop for FakeShell {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn this_machine_is_checked_and_the_exit_code_is_that_of_the_worst_check() {
    let output = doctor(&["--json", "--workers", "1"]);
    let report = json(&output);
    assert_eq!(output.status.code(), code_of(&report), "{report}");
    let tried = checks(&report, "self-test");
    for name in ["shm", "tcp"] {
        let check = tried.iter().find(|check| check["name"] == name).expect(name);
        assert_eq!(check["level"], "PASS", "{check}");
    }
    for group in ["library", "limits", "memory", "placement", "container"] {
        assert!(!checks(&report, group).is_empty(), "{group}");
    }
    for check in report["groups"]
        .as_array()
        .expect("groups")
        .iter()
        .flat_map(|group| group["checks"].as_array().expect("checks"))
    {
        assert!(check["level"] == "PASS" || check["fix"].is_string(), "no fix: {check}");
    }
}

#[test]
fn a_job_that_must_have_rdma_fails_on_a_host_without_and_says_what_to_do() {
    if sterna_rdma::verbs::devices().is_ok() {
        return;
    }
    let output = doctor(&["--fabric", "verbs", "--no-self-test"]);
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let said = text(&output.stdout);
    assert!(said.contains("FAIL") && said.contains("fix:"), "{said}");
}

#[test]
fn more_memory_than_may_be_locked_or_used_is_no_reason_to_panic() {
    assert_eq!(doctor(&["--memory=-1"]).status.code(), Some(1));
    assert_eq!(doctor(&["--memory", "NaN"]).status.code(), Some(1));
    assert_eq!(doctor(&["--nodes", "0"]).status.code(), Some(2));
    let output = doctor(&["--memory", "1000000", "--nodes", "4096", "--no-self-test", "--json"]);
    assert_eq!(output.status.code(), code_of(&json(&output)));
}

#[test]
fn the_ranks_of_a_job_test_every_pair() {
    let mut command = Command::new(PROGRAM);
    command.args(["launch", "-n", "3", "--no-prefix", "--", PROGRAM, "doctor", "--no-self-test"]);
    command.args(["--json", "--workers", "1"]);
    let output = command.output().expect("the command runs");
    let report = json(&output);
    let pairs = checks(&report, "pairs");
    let matrix = pairs.iter().find(|check| check["name"] == "pairs").expect("a matrix");
    assert!(
        matrix["reason"].as_str().is_some_and(|text| text.starts_with("6 measured")),
        "{matrix}"
    );
    let settings = pairs.iter().find(|check| check["name"] == "settings").expect("settings");
    assert_eq!(settings["level"], "PASS", "{settings}");
}

#[test]
fn peers_are_started_by_the_remote_shell_and_get_the_token_by_their_input() {
    let shell = FakeShell::new("good", "case \"$2\" in *TOKEN*) exit 9;; esac");
    let output = doctor(&[
        "--peers",
        "alpha,user@beta",
        "--rsh",
        &shell.command(),
        "--address",
        "127.0.0.1",
        "--no-self-test",
        "--json",
    ]);
    let pairs = checks(&json(&output), "pairs");
    assert!(pairs.iter().any(|check| check["name"] == "pairs"), "{pairs:?}");
    assert!(pairs.iter().all(|check| check["level"] != "FAIL"), "{pairs:?}");
}

#[test]
fn a_host_that_does_not_start_is_named_with_what_it_said() {
    let shell = FakeShell::new(
        "bad",
        "if [ $host = beta ]; then echo 'no route to beta' >&2; exit 255; fi",
    );
    let output = doctor(&[
        "--peers",
        "alpha,beta",
        "--rsh",
        &shell.command(),
        "--address",
        "127.0.0.1",
        "--no-self-test",
        "--json",
    ]);
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let pairs = checks(&json(&output), "pairs");
    assert_eq!(pairs.len(), 1, "{pairs:?}");
    assert_eq!(pairs[0]["name"], "beta");
    assert!(pairs[0]["reason"].as_str().is_some_and(|text| text.contains("no route to beta")));
    assert!(pairs[0]["fix"].as_str().is_some_and(|text| text.contains("ssh-copy-id")));
    let refused = doctor(&["--peers=-oProxyCommand=x", "--no-self-test", "--json"]);
    assert!(text(&refused.stdout).contains("is not the name of a host"), "{refused:?}");
}

#[test]
fn a_program_that_is_not_there_or_dies_at_once_is_named_with_its_remedy() {
    let shell = FakeShell::new("absent", "");
    let output = doctor(&[
        "--peers",
        "alpha",
        "--rsh",
        &shell.command(),
        "--remote-program",
        "/nonexistent/sterna",
        "--address",
        "127.0.0.1",
        "--no-self-test",
        "--json",
    ]);
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    let pairs = checks(&json(&output), "pairs");
    assert!(pairs[0]["fix"].as_str().is_some_and(|text| text.contains("--remote-program")));
}
