//! What doctor found, check by check, as text for people and as JSON for programs.

use std::fmt::Write as _;

use serde::Serialize;

/// How it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Level {
    /// In order.
    Pass,
    /// It works, but not as well as it could.
    Warn,
    /// It does not work.
    Fail,
}

impl Level {
    const fn name(self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::Warn => "WARN",
            Self::Fail => "FAIL",
        }
    }

    /// The exit code of a run whose worst check this is. 1 and 2 are taken: errors of the program, wrong arguments.
    pub(crate) const fn exit_code(self) -> u8 {
        match self {
            Self::Pass => 0,
            Self::Warn => 3,
            Self::Fail => 4,
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Check {
    /// What was looked at.
    pub(crate) name: String,
    pub(crate) level: Level,
    /// What was found, in one line.
    pub(crate) reason: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fix: Option<String>,
    /// Tables and lists that belong to it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) details: Vec<String>,
}

impl Check {
    pub(crate) fn pass(name: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            level: Level::Pass,
            reason: reason.into(),
            fix: None,
            details: Vec::new(),
        }
    }

    pub(crate) fn warn(
        name: impl Into<String>,
        reason: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { level: Level::Warn, fix: Some(fix.into()), ..Self::pass(name, reason) }
    }

    pub(crate) fn fail(
        name: impl Into<String>,
        reason: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { level: Level::Fail, fix: Some(fix.into()), ..Self::pass(name, reason) }
    }

    pub(crate) fn with_details(mut self, details: Vec<String>) -> Self {
        self.details = details;
        self
    }
}

/// The checks of one subject.
#[derive(Debug, Serialize)]
pub(crate) struct Group {
    pub(crate) name: &'static str,
    pub(crate) checks: Vec<Check>,
}

/// All that was found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Of the program.
    pub(crate) version: &'static str,
    pub(crate) host: String,
    pub(crate) kernel: String,
    /// The worst level.
    pub(crate) level: Level,
    pub(crate) groups: Vec<Group>,
}

impl Report {
    pub(crate) fn new(host: String, kernel: String) -> Self {
        let version = env!("CARGO_PKG_VERSION");
        Self { version, host, kernel, level: Level::Pass, groups: Vec::new() }
    }

    /// The line at the beginning.
    pub(crate) fn title(&self) -> String {
        format!("sterna {} on {}, Linux {}", self.version, self.host, self.kernel)
    }

    pub(crate) fn add(&mut self, name: &'static str, checks: Vec<Check>) {
        let worst = checks.iter().map(|check| check.level).max();
        self.level = self.level.max(worst.unwrap_or(Level::Pass));
        if !checks.is_empty() {
            self.groups.push(Group { name, checks });
        }
    }

    fn count(&self, level: Level) -> usize {
        let checks = self.groups.iter().flat_map(|group| &group.checks);
        checks.filter(|check| check.level == level).count()
    }

    /// The line at the end.
    pub(crate) fn verdict(&self) -> String {
        let plural = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
        let (warnings, failures) = (self.count(Level::Warn), self.count(Level::Fail));
        match self.level {
            Level::Pass => format!("{}, all in order", plural(self.count(Level::Pass), "check")),
            Level::Warn => format!("{}, no failure", plural(warnings, "warning")),
            Level::Fail => {
                format!("{}, {}", plural(failures, "failure"), plural(warnings, "warning"))
            }
        }
    }
}

/// A group as lines of text.
pub(crate) fn text(group: &Group) -> String {
    let mut out = format!("{}\n", group.name);
    for check in &group.checks {
        let _ = writeln!(out, "  {}  {}: {}", check.level.name(), check.name, check.reason);
        for line in &check.details {
            let _ = writeln!(out, "          {line}");
        }
        for (at, line) in check.fix.iter().flat_map(|fix| fix.lines()).enumerate() {
            let _ = writeln!(out, "        {} {line}", if at == 0 { "fix:" } else { "    " });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_and_the_verdict_follow_the_worst_check() {
        let mut report = Report::new(String::new(), String::new());
        report.add("one", vec![Check::pass("a", "fine")]);
        assert_eq!(
            (report.level.exit_code(), report.verdict().as_str()),
            (0, "1 check, all in order")
        );
        report.add("two", vec![Check::warn("b", "slow", "x"), Check::pass("c", "fine")]);
        assert_eq!(
            (report.level.exit_code(), report.verdict().as_str()),
            (3, "1 warning, no failure")
        );
        report.add("three", vec![Check::fail("d", "broken", "y")]);
        report.add("four", vec![Check::pass("e", "fine")]);
        assert_eq!(
            (report.level.exit_code(), report.verdict().as_str()),
            (4, "1 failure, 1 warning")
        );
    }

    #[test]
    fn each_line_has_level_name_reason_and_the_fix_below() {
        let check = Check::warn("memlock", "64 KiB", "ulimit -l unlimited\nor this")
            .with_details(vec!["detail".to_owned()]);
        let text = text(&Group { name: "limits", checks: vec![check] });
        let expected = "limits\n  WARN  memlock: 64 KiB\n          detail\n        fix: \
                        ulimit -l unlimited\n             or this\n";
        assert_eq!(text, expected);
    }
}
