//! A training over RDMA, and what a user reads who cannot have it. The training needs a device (`ci/guest` has one);
//! without it that test is skipped, unless `STERNA_REQUIRE_VERBS` says that there has to be one.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

/// A folder with a graph of a ring of entities, removed at the end.
struct Graph(PathBuf);

impl Graph {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sterna-rdma-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        let mut train = String::new();
        for entity in 0..200 {
            writeln!(train, "e{entity}\tnext\te{}", (entity + 1) % 200).expect("a string grows");
        }
        let few: String = train.lines().take(20).flat_map(|line| [line, "\n"]).collect();
        for (split, text) in [("train.txt", &train), ("valid.txt", &few), ("test.txt", &few)] {
            std::fs::write(path.join(split), text).expect("a split");
        }
        Self(path)
    }

    fn train(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sterna"));
        command.args(["train", "kge", "--dim", "8", "--batch", "32", "--negatives", "10"]);
        command.args(["--epochs", "2", "--workers", "1", "--nodes", "2", "--data"]).arg(&self.0);
        command.args(arguments).env_remove("STERNA_RANK");
        command
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Why there is no RDMA here.
fn missing() -> Option<String> {
    let reason = sterna_rdma::verbs::devices().err()?.to_string();
    let is_required = std::env::var_os("STERNA_REQUIRE_VERBS").is_some();
    assert!(!is_required, "STERNA_REQUIRE_VERBS is set, but {reason}");
    Some(reason)
}

#[test]
fn two_processes_train_over_rdma_and_the_start_line_says_so() {
    if let Some(reason) = missing() {
        // Not by the macro, whose text the test harness keeps to itself.
        let _ = writeln!(std::io::stderr(), "SKIPPED: {reason}");
        return;
    }
    let graph = Graph::new("train");
    let report = graph.0.join("report.json");
    let output = graph
        .train(&["--fabric", "verbs", "--policy", "adaptive", "--report"])
        .arg(&report)
        .output()
        .expect("train runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("verbs to 1") && said.contains("RoCE v2"), "{said}");
    let text = std::fs::read_to_string(&report).expect("a report");
    let report: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(report["fabric"], "verbs");
    assert!(report["quality"]["mrr"].as_f64().expect("a figure") > 0.0);
    assert!(report["management"]["moved"].as_u64().expect("a count") > 0, "rows moved over RDMA");
}

#[test]
fn a_device_that_is_not_there_is_an_error_that_says_what_to_do() {
    let graph = Graph::new("none");
    let output =
        graph.train(&["--fabric", "verbs", "--device", "mlx5_77"]).output().expect("train runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{said}");
    let is_clear = ["mlx5_77", "modprobe", "libibverbs"].iter().any(|part| said.contains(part));
    assert!(said.contains("RDMA") && is_clear, "{said}");
}
