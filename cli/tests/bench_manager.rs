//! Measurements of the manager as their users meet them, at tiny sizes: what they report, not how much.

use std::process::Command;

use serde_json::Value;

/// Runs `sterna bench WHAT` with these options and `--json`; what it printed and wrote.
fn measure(name: &str, options: &[&str]) -> (String, Value) {
    let json =
        std::env::temp_dir().join(format!("sterna-manager-{name}-{}.json", std::process::id()));
    let mut command = Command::new(env!("CARGO_BIN_EXE_sterna"));
    command.arg("bench").args(options).arg("--json").arg(&json).env_remove("STERNA_RANK");
    let output = command.output().expect("the command runs");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{options:?}: {printed} {said}");
    let text = std::fs::read_to_string(&json).expect("JSON was written");
    std::fs::remove_file(&json).expect("a file of ours");
    (printed, serde_json::from_str(&text).expect("JSON"))
}

#[test]
fn replicas_are_measured_idle_while_they_change_and_by_their_age() {
    let sizes = ["--replicas", "50", "--seconds", "0.2", "--additions", "20"];
    let (printed, measured) = measure("replicas", &[&["replicas"], &sizes[..]].concat());
    let idle = &measured["idle"];
    assert_eq!(idle["changed"].as_u64(), Some(0), "{measured}");
    // Nothing changes, nothing is read, but the row that was changed before may come late.
    assert!(idle["refreshed"].as_f64() <= Some(1.0), "{idle}");
    for change in measured["changes"].as_array().expect("a list") {
        assert!(change["changed"].as_u64() > Some(0), "{change}");
        assert!(change["refreshed"].as_f64() > Some(0.0), "{change}");
        assert!(change["read_bytes"].as_f64() > Some(0.0), "{change}");
    }
    // Ten replicas and fifty, both ways.
    let stale = measured["stale"].as_array().expect("a list");
    assert_eq!(stale.len(), 4, "{measured}");
    for line in stale {
        assert_eq!(line["count"].as_u64(), Some(20), "{line}");
        assert!(line["p50_us"].as_f64() > Some(0.0), "{line}");
    }
    assert!(printed.contains("holder -> owner, 50 replicas"), "{printed}");
}

#[test]
fn every_request_of_rows_is_timed_forth_and_back_beside_a_ping_pong() {
    for fabric in ["shm", "tcp"] {
        let sizes = ["--requests", "30", "--turns", "2", "--batch", "1,8", "--idle-us", "200"];
        let options = [&["relocate", "--fabric", fabric], &sizes[..]].concat();
        let (printed, measured) = measure(&format!("relocate-{fabric}"), &options);
        let lines = measured["lines"].as_array().expect("lines");
        let counts: Vec<_> = lines.iter().map(|line| line["count"].as_u64()).collect();
        // The ping-pong, one row, eight rows, one row from idle, the ping-pong again.
        assert_eq!(counts, [30, 120, 120, 400, 30].map(Some), "{measured}");
        for line in lines {
            let steps = line["histogram"].as_array().expect("steps").iter();
            let sum: u64 = steps.map(|step| step[1].as_u64().expect("a count")).sum();
            assert_eq!(Some(sum), line["count"].as_u64(), "{line}");
            assert!(line["p50_us"].as_f64() <= line["max_us"].as_f64(), "{line}");
        }
        assert!(printed.contains("from idle, one row"), "{printed}");
    }
}
