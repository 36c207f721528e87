//! `--help` as a newcomer reads it.

use std::process::Command;

fn help(of: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_sterna"))
        .args(of)
        .arg("--help")
        .output()
        .expect("sterna runs");
    assert!(output.status.success(), "{of:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// The commands that a help lists.
fn commands(help: &str) -> Vec<String> {
    let list = help.lines().skip_while(|&line| line != "Commands:").skip(1);
    let list = list.take_while(|line| !line.is_empty());
    let names = list.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let first = names.filter_map(|line| line.split_whitespace().next());
    first.filter(|&name| name != "help").map(str::to_owned).collect()
}

#[test]
fn every_task_explains_itself_in_paragraphs_and_shows_examples_that_are_right() {
    let tasks = commands(&help(&["train"]));
    assert!(tasks.len() >= 5, "{tasks:?}");
    for task in tasks {
        let text = help(&["train", &task]);
        let about = text.split("Usage:").next().expect("text before the usage");
        let paragraphs = about.split("\n\n").filter(|part| !part.trim().is_empty()).count();
        assert!(paragraphs >= 2, "{task}: {about}");
        let examples: Vec<&str> = text
            .lines()
            .filter_map(|line| line.trim_start().strip_prefix("sterna "))
            .filter(|line| line.starts_with(&format!("train {task}")))
            .collect();
        assert!(examples.len() >= 3, "{task} has {} examples", examples.len());
        for example in examples {
            for option in example.split_whitespace().filter(|word| word.starts_with("--")) {
                assert!(text.contains(&format!("{option} ")), "{task}: {option} of `{example}`");
            }
        }
    }
}

#[test]
fn every_command_says_more_than_its_line() {
    let all = help(&[]);
    for command in commands(&all) {
        let text = help(&[&command]);
        assert!(text.contains("Usage:"), "{command}");
        let options = text.lines().filter(|line| line.trim_start().starts_with('-')).count();
        assert!(options >= 2 || !commands(&text).is_empty(), "{command}: {text}");
    }
}
