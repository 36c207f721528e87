//! `sterna train gnn` as its users meet it: a folder, one node and several, a mistake in a file.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

/// A folder with a graph of two communities, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sterna-gnn-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        let (mut nodes, mut edges) = (String::new(), String::new());
        for node in 0..200 {
            writeln!(nodes, "{} {}:1 20:1", node / 100, node % 20).expect("a string grows");
            for step in [1, 3, 7] {
                let other = node / 100 * 100 + (node + step) % 100;
                writeln!(edges, "{node},{other}").expect("a string grows");
            }
        }
        std::fs::write(path.join("nodes.svmlight"), nodes).expect("nodes");
        std::fs::write(path.join("edges.csv"), edges).expect("edges");
        Self(path)
    }

    fn train(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sterna"));
        command.args(["train", "gnn", "--workers", "1", "--data"]).arg(&self.0).args(arguments);
        command.env_remove("STERNA_RANK");
        command
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn one_node_and_two_learn_and_report() {
    let folder = Folder::new("report");
    let report = folder.0.join("report.json");
    for nodes in ["1", "2"] {
        // Features say nothing about the class: embeddings of the communities do. The end of the training is looked at: among the
        // ten nodes that validate, an early state may look as good as the best.
        let rounds = ["--epochs", "60", "--valid-every", "0"];
        let output = folder
            .train(&["--embedding", "8", "--nodes", nodes])
            .args(rounds)
            .arg("--report")
            .arg(&report)
            .output()
            .expect("train runs");
        assert!(output.status.success(), "{output:?}");
        let text = std::fs::read_to_string(&report).expect("a report");
        let report: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(
            (report["task"].as_str(), report["nodes"].to_string()),
            (Some("gnn"), nodes.into())
        );
        let accuracy = report["quality"]["accuracy"].as_f64().expect("a figure");
        assert!(accuracy > 0.9, "{nodes} node(s): {accuracy}");
    }
}

#[test]
fn a_bad_line_is_told_with_its_place() {
    let folder = Folder::new("bad");
    std::fs::write(folder.0.join("edges.csv"), "0,1\n1,200\n").expect("edges");
    let output = folder.train(&[]).output().expect("train runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(said.contains("edges.csv:2:3: node 200 has no line"), "{said}");
}
