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
