//! `sterna bench access` and `sterna bench sampling` as their users meet them: rows of this node and of others, several threads, the file of
//! figures.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

/// Few and short slices: these tests look at what is reported, not at how much.
const SHORT: [&str; 8] =
    ["--row-bytes", "64", "--batch", "1,16", "--slice-ms", "2", "--rows-max", "20000"];

/// A file below the temporary folder, removed at the end.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn measure(name: &str, arguments: &[&str]) -> Vec<Value> {
    let file = format!("sterna-access-{}-{name}.json", std::process::id());
    let json = Scratch(std::env::temp_dir().join(file));
    let mut command = Command::new(env!("CARGO_BIN_EXE_sterna"));
    command.args(["bench", "access"]).args(SHORT).args(arguments).env_remove("STERNA_RANK");
    let output = command.arg("--json").arg(&json.0).output().expect("the command runs");
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out} {err}");
    let written = std::fs::read_to_string(&json.0).expect("the file was written");
    serde_json::from_str(&written).expect("a list of cells")
}

fn check(cells: &[Value], threads: u64) {
    // Pull and push, hot and wide, calls of 1 and of 16 keys.
    assert_eq!(cells.len(), 8, "{cells:?}");
    for cell in cells {
        assert_eq!(cell["threads"].as_u64(), Some(threads), "{cell}");
        let counts = cell["histogram"].as_array().expect("steps").iter();
        let counts: u64 = counts.map(|step| step[1].as_u64().expect("a count")).sum();
        assert!(counts > 0 && cell["rows_per_second"].as_f64().expect("a rate") > 0.0, "{cell}");
        let (p50, max) = (cell["p50_ns"].as_u64(), cell["max_ns"].as_u64());
        assert!(p50 > Some(0) && p50 <= max, "{cell}");
    }
}

#[test]
fn rows_of_this_node_are_measured_beside_bare_rows() {
    let cells = measure("local", &["--threads", "2"]);
    check(&cells, 2);
    assert!(cells.iter().all(|cell| cell["bare_rows_per_second"].as_f64() > Some(0.0)));
}

#[test]
fn rows_of_other_nodes_are_measured_by_several_threads_beside_a_ping_pong() {
    for fabric in ["shm", "tcp"] {
        let cells = measure(fabric, &["--nodes", "3", "--threads", "2", "--fabric", fabric]);
        check(&cells, 2);
        assert!(cells.iter().all(|cell| cell["tcp_p50_ns"].as_u64() > Some(0)), "{cells:?}");
    }
}

#[test]
fn every_scheme_is_measured_with_every_distribution() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sterna"));
    command.args(["bench", "sampling", "--nodes", "2", "--keys", "2000", "--slice-ms", "2"]);
    let output = command.env_remove("STERNA_RANK").output().expect("the command runs");
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out} {err}");
    for scheme in ["naive", "preloc", "pool:16", "postpone:16", "local"] {
        let lines = out.lines().filter(|line| line.split_whitespace().any(|word| word == scheme));
        assert_eq!(lines.count(), 3, "{out}");
    }
}
