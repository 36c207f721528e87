//! `sterna doctor` and `sterna bench fabric` over an RDMA device (`ci/guest` has one). Without it the tests are skipped, unless
//! `STERNA_REQUIRE_VERBS` says that there has to be one.

use std::process::{Command, Output};

const PROGRAM: &str = env!("CARGO_BIN_EXE_sterna");

/// Whether there is no device, which is said, or is a failure where there has to be one.
fn is_skipped() -> bool {
    let Err(reason) = sterna_rdma::verbs::devices() else { return false };
    assert!(std::env::var_os("STERNA_REQUIRE_VERBS").is_none(), "no RDMA device: {reason}");
    eprintln!("SKIPPED: {reason}");
    true
}

fn sterna(arguments: &[&str]) -> Output {
    let mut command = Command::new(PROGRAM);
    for variable in ["STERNA_RANK", "STERNA_SIZE"] {
        command.env_remove(variable);
    }
    command.args(arguments).output().expect("the command runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn check(report: &serde_json::Value, group: &str, part: &str) -> serde_json::Value {
    let groups = report["groups"].as_array().expect("groups").iter();
    let mut checks = groups
        .filter(|found| found["name"] == group)
        .flat_map(|found| found["checks"].as_array().expect("checks"));
    let found = checks.find(|check| check["name"].as_str().is_some_and(|name| name.contains(part)));
    found.unwrap_or_else(|| panic!("no {part} in {group}: {report}")).clone()
}

#[test]
fn doctor_looks_at_device_port_and_address_and_moves_bytes_over_them() {
    if is_skipped() {
        return;
    }
    let output = sterna(&["doctor", "--fabric", "verbs", "--json"]);
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_ne!(report["level"], "FAIL", "{report}");
    assert_ne!(output.status.code(), Some(4));
    assert_eq!(check(&report, "self-test", "verbs")["level"], "PASS");
    assert_eq!(check(&report, "devices", "device files")["level"], "PASS");
    assert_eq!(check(&report, "ports", "choice")["level"], "PASS");
    let gids = check(&report, "ports", "GIDs");
    assert!(gids["details"].as_array().is_some_and(|table| !table.is_empty()), "{gids}");
    assert!(check(&report, "network", "during")["reason"].is_string());
}

#[test]
fn a_device_port_or_address_that_is_not_there_is_named() {
    if is_skipped() {
        return;
    }
    for (option, value) in [("--device", "mlx5_99"), ("--port", "77"), ("--gid", "203.0.113.9")] {
        let arguments = ["doctor", "--fabric", "verbs", "--no-self-test", "--json", option, value];
        let output = sterna(&arguments);
        assert_eq!(output.status.code(), Some(4), "{output:?}");
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let choice = check(&report, "ports", "choice");
        assert!(choice["reason"].as_str().is_some_and(|text| text.contains(value)), "{choice}");
    }
}

#[test]
fn too_little_locked_memory_is_a_failure_with_the_limit_in_it() {
    if is_skipped() {
        return;
    }
    // Root may lock what it likes, so the capability has to go, too.
    let script = format!(
        "ulimit -l 64 && exec setpriv --bounding-set -ipc_lock --inh-caps -ipc_lock --reuid 65534 --regid 65534 --clear-groups \
         {PROGRAM} doctor --fabric verbs --json"
    );
    let output = Command::new("sh").args(["-c", &script]).output().expect("a shell");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let memory = check(&report, "limits", "locked memory");
    assert_eq!(memory["level"], "FAIL", "{memory}");
    assert!(memory["reason"].as_str().is_some_and(|text| text.contains("64 KiB")), "{memory}");
    let tried = check(&report, "self-test", "verbs");
    assert_eq!(tried["level"], "FAIL", "{tried}");
    assert!(tried["reason"].as_str().is_some_and(|text| text.contains("locked memory")), "{tried}");
    assert_eq!(output.status.code(), Some(4));
}

/// Only in a guest of its own: it changes the machine.
#[test]
fn a_closed_device_file_and_a_port_that_is_down_are_told_with_the_commands_that_help() {
    if is_skipped() || std::env::var_os("STERNA_GUEST").is_none() {
        return;
    }
    let shell = |script: &str| {
        let output = Command::new("sh").args(["-c", script]).output().expect("a shell");
        (output.status.code(), text(&output.stdout))
    };
    let doctor = format!("{PROGRAM} doctor --fabric verbs --no-self-test");
    let (code, said) = shell(&format!(
        "chmod 600 /dev/infiniband/uverbs0; setpriv --reuid 65534 --regid 65534 --clear-groups {doctor}; code=$?; \
         chmod 666 /dev/infiniband/uverbs0; exit $code"
    ));
    assert_eq!(code, Some(4), "{said}");
    assert!(said.contains("fix: chmod 0666 /dev/infiniband/uverbs0"), "{said}");
    let (code, said) = shell(&format!(
        "ip link set eth0 down; {doctor}; code=$?; ip link set eth0 up; exit $code"
    ));
    assert_eq!(code, Some(4), "{said}");
    assert!(said.contains("DOWN") && said.contains("ip link set eth0 up"), "{said}");
}

#[test]
fn the_fabric_is_measured_over_the_device_and_the_figures_say_what_it_is() {
    if is_skipped() {
        return;
    }
    let short = ["--bytes", "64,4096", "--depth", "1,8", "--slice-ms", "20", "--slices", "1"];
    let batch = ["--batch", "32"];
    let output = sterna(&[&["bench", "fabric", "--fabric", "verbs"], &short[..], &batch].concat());
    let printed = text(&output.stdout);
    assert!(output.status.success(), "{printed} {}", text(&output.stderr));
    for part in [
        "verbs to 1",
        "READ     4096     8",
        "record     64     1",
        "stream   4096",
        "batch    4096",
    ] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    let devices = sterna_rdma::verbs::devices().expect("checked above");
    if devices.iter().flat_map(|entry| &entry.device).all(|device| device.is_software) {
        assert!(printed.contains("in software"), "{printed}");
    }
}
