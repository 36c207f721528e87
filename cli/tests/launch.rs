//! `sterna launch` as its users meet it: real processes of this host.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

fn launch(nodes: &str, script: &str) -> Command {
    launch_with(&[], nodes, script)
}

fn launch_with(options: &[&str], nodes: &str, script: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sterna"));
    command.args(["launch", "-n", nodes]).args(options).args(["--", "sh", "-c", script]);
    command
}

fn lines(output: &Output) -> Vec<String> {
    let mut lines: Vec<String> =
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn every_rank_learns_its_place_and_all_share_address_and_token() {
    let script = "echo $STERNA_RANK/$STERNA_SIZE $STERNA_ADDR $STERNA_TOKEN";
    let output = launch("3", script).output().expect("launch runs");
    assert!(output.status.success(), "{output:?}");
    let lines = lines(&output);
    assert_eq!(lines.len(), 3, "{lines:?}");
    let place = |line: &str| line.split(' ').skip(2).map(str::to_owned).collect::<Vec<_>>();
    for (rank, line) in lines.iter().enumerate() {
        assert!(line.starts_with(&format!("[{rank}] {rank}/3 127.0.0.1:")), "{line}");
        assert_eq!(place(line), place(&lines[0]));
        assert_eq!(place(line)[1].len(), 64, "a token of 32 bytes in hex");
    }
}

#[test]
fn the_exit_code_is_the_worst_of_all_ranks() {
    // The others are left alone until they end, however late they get to run.
    let script = "exit $((STERNA_RANK * 3))";
    let output = launch_with(&["--grace", "600"], "3", script).output().expect("launch runs");
    assert_eq!(output.status.code(), Some(6));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("rank 2 ended with exit code 6"), "{said}");
}

#[test]
fn a_failed_rank_ends_the_ranks_that_would_go_on() {
    let script = "if [ $STERNA_RANK = 1 ]; then exit 7; fi; exec sleep 600";
    let output = launch_with(&["--grace", "1"], "2", script).output().expect("launch runs");
    // It has not come to its own end.
    assert_eq!(output.status.code(), Some(128 + libc::SIGTERM));
}

#[test]
fn an_interrupt_reaches_every_rank_once_and_lets_it_end_cleanly() {
    let script = "trap 'echo saved; exit 0' INT; echo ready; while :; do sleep 0.05; done";
    let mut child = launch("2", script).stdout(Stdio::piped()).spawn().expect("launch runs");
    let mut out = BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    for _ in 0..2 {
        line.clear();
        out.read_line(&mut line).expect("a rank says that it is ready");
        assert!(line.ends_with("ready\n"), "{line}");
    }
    // SAFETY: plain system call on a child that has not been waited for.
    unsafe { libc::kill(child.id().cast_signed(), libc::SIGINT) };
    let mut rest = String::new();
    out.read_to_string(&mut rest).expect("the rest of the output");
    assert_eq!(rest.matches("saved").count(), 2, "{rest}");
    assert!(child.wait().expect("launch ends").success());
}

#[test]
fn no_rank_outlives_a_killed_launcher() {
    let mut child =
        launch("2", "echo $$; exec sleep 600").stdout(Stdio::piped()).spawn().expect("launch runs");
    let mut out = BufReader::new(child.stdout.take().expect("piped"));
    let pids: Vec<i32> = (0..2)
        .map(|_| {
            let mut line = String::new();
            out.read_line(&mut line).expect("a rank prints its pid");
            line.trim().rsplit(' ').next().expect("a pid").parse().expect("a number")
        })
        .collect();
    child.kill().expect("kill the launcher");
    child.wait().expect("reap the launcher");
    let deadline = Instant::now() + Duration::from_secs(120);
    for pid in pids {
        // A process that is gone, or dead and not yet reaped by init, is not running.
        while std::fs::read_to_string(format!("/proc/{pid}/stat"))
            .is_ok_and(|stat| !stat.contains(") Z "))
        {
            assert!(Instant::now() < deadline, "process {pid} still runs");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn a_program_that_does_not_exist_is_named() {
    let output = Command::new(env!("CARGO_BIN_EXE_sterna"))
        .args(["launch", "-n", "2", "--", "./no-such-program"])
        .output()
        .expect("launch runs");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("./no-such-program"), "{said}");
}
