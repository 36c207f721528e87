//! `sterna train kge` as its users meet it: real processes, a graph of their own, faults.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A folder with a graph of a ring of entities, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("sterna-train-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a folder");
        let mut train = String::new();
        for entity in 0..400 {
            for (relation, step) in [("next", 1), ("third", 3)] {
                let tail = (entity + step) % 400;
                writeln!(train, "e{entity}\t{relation}\te{tail}").expect("a string grows");
            }
        }
        std::fs::write(path.join("train.txt"), &train).expect("train");
        for split in ["valid.txt", "test.txt"] {
            let few: String = train.lines().take(40).flat_map(|line| [line, "\n"]).collect();
            std::fs::write(path.join(split), few).expect("a split");
        }
        Self(path)
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn train(folder: &Folder, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sterna"));
    command.args(["train", "kge", "--dim", "8", "--batch", "64", "--negatives", "20", "--data"]);
    command.arg(folder.path()).args(arguments).env_remove("STERNA_RANK");
    command
}

/// Waits for the end, but not for ever.
fn end_of(child: &mut Child) -> std::process::ExitStatus {
    let deadline = Instant::now() + Duration::from_secs(180);
    loop {
        if let Some(status) = child.try_wait().expect("a child of ours") {
            return status;
        }
        if Instant::now() > deadline {
            child.kill().expect("kill");
            panic!("the job does not end");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn one_node_and_three_report_the_whole_job_as_json() {
    let folder = Folder::new("report");
    let report = folder.path().join("report.json");
    for (nodes, fabric) in [("1", "none"), ("3", "shm"), ("3", "tcp")] {
        let choice = if fabric == "none" { "auto" } else { fabric };
        let status = train(&folder, &["--epochs", "3", "--workers", "1", "--nodes", nodes])
            .args(["--fabric", choice, "--report"])
            .arg(&report)
            .output()
            .expect("train runs");
        assert!(status.status.success(), "{status:?}");
        let text = std::fs::read_to_string(&report).expect("a report");
        let report: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(report["nodes"].to_string(), nodes);
        assert_eq!(report["fabric"], fabric);
        assert!(report["quality"]["mrr"].as_f64().expect("a figure") > 0.0);
        let local = report["paths"]["local"]["count"].as_u64().expect("a count");
        assert!(local > 0);
        // Whether all rows come in time is chance; that they come from somewhere is not.
        let management = report["management"].as_object().expect("counts");
        let managed = management.values().any(|count| count.as_u64() > Some(0));
        assert_eq!(managed, nodes != "1", "{text}");
    }
}

#[test]
fn a_killed_node_ends_the_job_with_an_error_that_names_it() {
    let folder = Folder::new("killed");
    for fabric in ["shm", "tcp"] {
        let mut child = train(&folder, &["--epochs", "5000000", "--valid-every", "0"])
            .args(["--workers", "1", "--nodes", "3", "--fabric", fabric])
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("train runs");
        let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
        let mut said = String::new();
        while !said.contains("epoch ") {
            let line = lines.next().expect("an epoch ends").expect("text");
            writeln!(said, "{line}").expect("a string grows");
        }
        let victim = rank_of(child.id(), 2);
        // SAFETY: plain system call on a process of this test's job.
        unsafe { libc::kill(victim, libc::SIGKILL) };
        let rest: Vec<String> = lines.map_while(Result::ok).collect();
        let status = end_of(&mut child);
        assert!(!status.success());
        let named = rest.iter().any(|line| line.contains("rank 2 is lost"));
        assert!(named, "{fabric}: {rest:#?}");
    }
}

#[test]
fn an_interrupt_saves_and_the_run_can_be_resumed_by_another_number_of_nodes() {
    let folder = Folder::new("resume");
    let checkpoint = folder.path().join("run");
    let checkpoint = checkpoint.to_str().expect("a plain path");
    let settings = ["--epochs", "5000000", "--valid-every", "0", "--workers", "1"];
    let mut child = train(&folder, &settings)
        .args(["--nodes", "2", "--checkpoint", checkpoint])
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("train runs");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    while !lines.next().expect("an epoch ends").expect("text").contains("epoch ") {}
    // SAFETY: plain system call on a child that has not been waited for.
    unsafe { libc::kill(child.id().cast_signed(), libc::SIGINT) };
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    assert_eq!(end_of(&mut child).code(), Some(130), "{rest:#?}");
    let mut child = train(&folder, &settings)
        .args(["--nodes", "1", "--checkpoint", checkpoint, "--resume"])
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("train runs");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let mut said = String::new();
    while !said.contains("epoch ") {
        let line = lines.next().unwrap_or_else(|| panic!("an epoch ends: {said}")).expect("text");
        writeln!(said, "{line}").expect("a string grows");
    }
    assert!(said.contains("continuing from"), "{said}");
    // SAFETY: plain system call on a child that has not been waited for.
    unsafe { libc::kill(child.id().cast_signed(), libc::SIGINT) };
    lines.for_each(drop);
    assert_eq!(end_of(&mut child).code(), Some(130));
}

#[test]
fn what_a_job_cannot_do_is_refused_with_what_to_do_instead() {
    let folder = Folder::new("refused");
    let ratings = folder.path().join("ratings.tsv");
    std::fs::write(&ratings, "1\t1\t3\n1\t2\t4\n2\t1\t5\n").expect("ratings");
    let mut factors = Command::new(env!("CARGO_BIN_EXE_sterna"));
    factors.args(["train", "mf", "--workers", "3", "--parts", "2", "--train"]).arg(&ratings);
    let every = train(&folder, &["--nodes", "2", "--workers", "1", "--one-vs-all"]);
    let scheme = train(&folder, &["--sampling", "nearby"]);
    for (mut command, words) in [
        (every, ["one_vs_all", "--negatives"]),
        (factors, ["parts", "--parts"]),
        (scheme, ["nearby", "pool:U"]),
    ] {
        let output = command.env_remove("STERNA_RANK").output().expect("train runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{said}");
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    }
}

#[test]
fn nodes_train_with_every_scheme_of_sampling() {
    let folder = Folder::new("sampling");
    let report = folder.path().join("report.json");
    let mut remote = Vec::new();
    for scheme in ["naive", "preloc", "pool:4", "postpone:4", "local"] {
        let output = train(&folder, &["--epochs", "20", "--workers", "1", "--nodes", "2"])
            .args(["--valid-every", "0", "--learning-rate", "0.3", "--policy", "classic"])
            .args(["--sampling", scheme, "--report"])
            .arg(&report)
            .output()
            .expect("train runs");
        assert!(output.status.success(), "{output:?}");
        let text = std::fs::read_to_string(&report).expect("a report");
        let report: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let mrr = report["quality"]["mrr"].as_f64().expect("a figure");
        assert!(mrr > 0.1, "{scheme}: {mrr}");
        assert_eq!(report["settings"]["sampling"], scheme);
        remote.push(report["paths"]["remote"]["count"].as_u64().expect("a count"));
    }
    let local = remote.pop().expect("five schemes");
    assert!(remote.iter().all(|&others| local < others), "{local}, {remote:?}");
}

#[test]
fn bad_input_is_told_with_file_and_line() {
    let folder = Folder::new("bad");
    std::fs::write(folder.path().join("valid.txt"), "a\tb\tc\na b c\n").expect("a split");
    let output = train(&folder, &[]).output().expect("train runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(said.contains("valid.txt") && said.contains('2'), "{said}");
}

/// The process of a rank among the launcher's children.
fn rank_of(launcher: u32, rank: usize) -> i32 {
    let children = std::fs::read_dir(format!("/proc/{launcher}/task")).expect("threads");
    let wanted = format!("STERNA_RANK={rank}");
    for task in children.filter_map(Result::ok) {
        let Ok(pids) = std::fs::read_to_string(task.path().join("children")) else { continue };
        for pid in pids.split_whitespace() {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            if environment.split(|&byte| byte == 0).any(|part| part == wanted.as_bytes()) {
                return pid.parse().expect("a pid");
            }
        }
    }
    panic!("rank {rank} is not running");
}
