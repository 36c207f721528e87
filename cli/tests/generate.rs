//! `sterna generate` as its users meet it: the same bytes for the same seed, whole files, data that trains.

use std::path::Path;
use std::process::{Command, Output, Stdio};

fn sterna(arguments: &[&str], folder: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sterna"));
    command.args(arguments).current_dir(folder).env_remove("STERNA_RANK");
    command.output().expect("sterna starts")
}

fn good(arguments: &[&str], folder: &Path) -> Vec<u8> {
    let output = sterna(arguments, folder);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A folder that is removed at the end.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let name = format!("sterna-generate-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn clicks_of_a_file_and_of_standard_output_are_the_same() {
    let folder = Folder::new("same");
    let clicks = ["generate", "clicks", "--examples", "5000", "--seed", "9"];
    let printed = good(&clicks, &folder.0);
    good(&[&clicks[..], &["--out", "clicks.tsv"]].concat(), &folder.0);
    assert_eq!(std::fs::read(folder.0.join("clicks.tsv")).expect("the file"), printed);
    assert_eq!(printed.split(|&byte| byte == b'\n').count(), 5001);
    let files = std::fs::read_dir(&folder.0).expect("the folder").count();
    assert_eq!(files, 1, "nothing unfinished is left");
}

/// Trains, and gives the figures of the report.
fn figures(arguments: &[&str], folder: &Path) -> serde_json::Value {
    good(&[arguments, &["--report", "report.json"]].concat(), folder);
    let report = std::fs::read(folder.join("report.json")).expect("the report");
    let mut report: serde_json::Value = serde_json::from_slice(&report).expect("JSON");
    report["quality"].take()
}

#[test]
fn word_vectors_find_the_topics_of_generated_text() {
    let folder = Folder::new("text");
    std::fs::create_dir(folder.0.join("questions")).expect("a folder");
    let text = ["generate", "text", "--words", "1000", "--topics", "10"];
    good(&[&text[..], &["--sentences", "8000", "--out", "text.txt"]].concat(), &folder.0);
    let pairs = ["--pairs", "300", "--among", "500", "--out", "questions/topics.tsv"];
    good(&[&text[..], &pairs].concat(), &folder.0);
    let train = ["train", "words", "text.txt", "--evaluate", "questions", "--dim", "16"];
    let job = ["--nodes", "2", "--workers", "1", "--learning-rate", "0.05", "--sample", "1e-3"];
    let quality = figures(&[&train[..], &job].concat(), &folder.0);
    // Scores are 0 or 10, so that a perfect order has 0.86; vectors that know nothing have 0.
    let found = quality["topics"].as_f64().expect("a correlation");
    assert!(found > 0.6, "{quality}");
}

#[test]
fn walks_find_the_communities_of_a_generated_graph() {
    let folder = Folder::new("graph");
    let graph = ["generate", "graph", "--nodes", "600", "--communities", "6"];
    good(&[&graph[..], &["--edges", "6000", "--out", "edges.tsv"]].concat(), &folder.0);
    good(&[&graph[..], &["--labels", "--among", "300", "--out", "groups.tsv"]].concat(), &folder.0);
    let train = ["train", "walks", "edges.tsv", "--labels", "groups.tsv", "--dim", "16"];
    let job =
        ["--nodes", "2", "--workers", "1", "--walks", "20", "--length", "20", "--window", "4"];
    let rate = ["--splits", "2", "--learning-rate", "0.05"];
    let quality = figures(&[&train[..], &job, &rate].concat(), &folder.0);
    // One of six is right by chance.
    let found = quality["micro_f1"].as_f64().expect("a micro-F1");
    assert!(found > 0.8, "{quality}");
}

#[test]
fn a_model_trains_on_generated_clicks_and_reports() {
    let folder = Folder::new("train");
    let generate = ["generate", "clicks", "--examples", "20000", "--categories", "30", "--out"];
    good(&[&generate[..], &["clicks.tsv"]].concat(), &folder.0);
    let train = [
        "train",
        "ctr",
        "--data",
        "clicks.tsv",
        "--model",
        "fm",
        "--dim",
        "4",
        "--l2",
        "1e-4",
        "--epochs",
        "4",
        "--workers",
        "2",
        "--report",
        "report.json",
        "--export",
        "model",
    ];
    good(&train, &folder.0);
    let report = std::fs::read(folder.0.join("report.json")).expect("the report");
    let report: serde_json::Value = serde_json::from_slice(&report).expect("JSON");
    let auc = report["quality"]["auc"].as_f64().expect("an AUC");
    // 0.5 is chance, what is planted allows about 0.8.
    assert!(auc > 0.7, "{}", report["quality"]);
    let names = std::fs::read_to_string(folder.0.join("model/feature.tsv")).expect("names");
    assert!(names.starts_with("0\tI1=(rare)\n1\tI1="), "{names:.100}");
}

#[test]
fn a_generated_matrix_is_factorised_by_one_node_and_by_two() {
    let folder = Folder::new("matrix");
    let words = |line: &'static str| line.split(' ').collect::<Vec<_>>();
    let size = words("generate matrix --rows 600 --columns 200 --cells 30000 --rank 2 --zipf 0.3");
    good(&[&size[..], &["--out", "m.mtx"]].concat(), &folder.0);
    let train = words(
        "train mf --train m.mtx --hold-out 0.05 --rank 4 --biases false --reg 0.01 --epochs 20 \
         --learning-rate 0.05 --parts 4 --report report.json",
    );
    for job in ["--workers 2", "--nodes 2 --workers 1"] {
        good(&[&train[..], &words(job)].concat(), &folder.0);
        let report = std::fs::read(folder.0.join("report.json")).expect("the report");
        let report: serde_json::Value = serde_json::from_slice(&report).expect("JSON");
        // Cells vary by 1 and their noise by 0.1.
        let rmse = report["quality"]["rmse"].as_f64().expect("a figure");
        assert!(rmse < 0.2, "{job}: {rmse}");
    }
    let output = sterna(&words("generate matrix --rows 10 --columns 10 --cells 101"), &folder.0);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("at most rows times columns"));
}

#[test]
fn nobody_reading_is_no_error_and_wrong_settings_are_named() {
    let folder = Folder::new("wrong");
    let mut command = Command::new(env!("CARGO_BIN_EXE_sterna"));
    command.args(["generate", "clicks", "--examples", "1000000"]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("sterna starts");
    drop(child.stdout.take());
    assert!(child.wait().expect("a child of ours").success());
    let output = sterna(&["generate", "clicks", "--click-rate", "1.5"], &folder.0);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("--click-rate"));
    let output = sterna(&["train", "ctr", "--model", "fm"], &folder.0);
    assert!(String::from_utf8_lossy(&output.stderr).contains("--data"));
}
