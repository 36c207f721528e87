//! `sterna bench fabric` as its users meet it: a pair of processes, files of figures, wrong arguments.

use std::path::PathBuf;
use std::process::{Command, Output};

/// Few and short slices: these tests look at what is reported, not at how much.
const SHORT: [&str; 8] =
    ["--bytes", "64,4096", "--depth", "1,8", "--slice-ms", "3", "--slices", "1"];

fn bench(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sterna"));
    command.args(["bench", "fabric"]).args(arguments).env_remove("STERNA_RANK");
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn succeed(command: &mut Command) -> Output {
    let output = command.output().expect("the command runs");
    assert!(output.status.success(), "{} {}", text(&output.stdout), text(&output.stderr));
    output
}

/// A file below the temporary folder, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("sterna-fabric-{}-{name}", std::process::id())))
    }

    fn read(&self) -> String {
        std::fs::read_to_string(&self.0).expect("the file was written")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn every_operation_size_and_depth_is_measured_over_shm_and_tcp_and_written_to_the_files() {
    let (json, svg) = (Scratch::new("a.json"), Scratch::new("a.svg"));
    let mut command = bench(&SHORT);
    command.args(["--fabric", "shm,tcp", "--json"]).arg(&json.0).arg("--svg").arg(&svg.0);
    let output = succeed(&mut command);
    let report: serde_json::Value = serde_json::from_str(&json.read()).expect("JSON");
    let cells = report["cells"].as_array().expect("cells");
    assert_eq!(cells.len(), 2 * (2 * 4 + 2), "{report}");
    for cell in cells {
        assert!(cell["megabytes_per_second"].as_f64().expect("a rate") > 0.0, "{cell}");
        if cell["operation"] == "stream" {
            continue;
        }
        let counts = cell["histogram"].as_array().expect("steps").iter();
        let counts: u64 = counts.map(|step| step[1].as_u64().expect("a count")).sum();
        assert_eq!(Some(counts), cell["count"].as_u64(), "{cell}");
        assert!(counts > 0, "{cell}");
        let (p50, max) = (cell["p50_us"].as_f64(), cell["max_us"].as_f64());
        assert!(p50.expect("a median") <= max.expect("a maximum") * 1.01, "{cell}");
        // Single READs and, over tcp, single records stand beside their bare equivalent.
        let single = cell["depth"] == 1;
        let has_bare = single && (cell["operation"] == "READ" || cell["provider"] == "tcp");
        assert_eq!(cell["ratio"].is_number(), has_bare, "{cell}");
    }
    assert!(svg.read().contains("tcp: MB/s"), "{}", svg.read());
    let printed = text(&output.stdout);
    assert!(printed.contains("shm to 1") && printed.contains("tcp to 1"), "{printed}");
}

#[test]
fn the_ranks_of_a_job_measure_each_other() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sterna"));
    command.args(["launch", "-n", "2", "--", env!("CARGO_BIN_EXE_sterna"), "bench", "fabric"]);
    command.args(SHORT).args(["--fabric", "tcp"]);
    let printed = text(&succeed(&mut command).stdout);
    assert!(printed.contains("[0] READ       64     1"), "{printed}");
    assert!(!printed.contains("[1]"), "only rank 0 has something to say: {printed}");
}

#[test]
fn what_cannot_be_measured_is_refused_with_the_reason() {
    let refused = |arguments: &[&str], reason: &str| {
        let output = bench(arguments).output().expect("the command runs");
        let said = text(&output.stderr);
        assert!(!output.status.success() && said.contains(reason), "{arguments:?}: {said}");
    };
    refused(&["--bytes", "63"], "multiples of 8");
    refused(&["--bytes", "8"], "from 16 to");
    refused(&["--depth", "0"], "from 1 to");
    refused(&["--fabric", "rdma"], "possible values");
    if sterna_rdma::verbs::devices().is_err() {
        refused(&["--fabric", "verbs"], "verbs was not measured");
    }
}
