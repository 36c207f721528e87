//! What the jobs reported, as a table for each network and number of nodes, beside one node with as many workers.

use std::fmt;

use serde::Serialize;
use sterna_tasks::report::Report;

use super::network::Rate;
use super::{Plan, PoliciesArgs};

/// All that was measured.
#[derive(Debug, Serialize)]
pub(super) struct Measured {
    version: &'static str,
    machine: String,
    task: String,
    pub(super) cells: Vec<Cell>,
}

/// The runs of one job, one for each round that it was complete in.
#[derive(Debug, Serialize)]
pub(super) struct Cell {
    /// `host`, a rate such as `1gbit`, or nothing for one node.
    pub(super) network: Option<String>,
    pub(super) nodes: u16,
    /// Of each node.
    pub(super) workers: u16,
    /// Nothing for one node, where all policies are the same.
    pub(super) policy: Option<String>,
    pub(super) runs: Vec<Report>,
}

/// A group of cells to compare: several nodes on one network.
pub(super) struct Group<'a> {
    pub(super) title: String,
    pub(super) single: Option<&'a Cell>,
    pub(super) cells: Vec<&'a Cell>,
}

impl Measured {
    pub(super) fn new(args: &PoliciesArgs, plans: &[Plan]) -> Self {
        let words = args.task.iter().map(|word| word.to_string_lossy());
        let cell = |plan: &Plan| Cell {
            network: plan.rate.map(|rate| match rate {
                Rate::Host => format!("host ({})", args.fabric),
                rate => rate.to_string(),
            }),
            nodes: plan.nodes,
            workers: plan.workers,
            policy: plan.rate.map(|_| plan.policy.to_string()),
            runs: Vec::new(),
        };
        Self {
            version: env!("CARGO_PKG_VERSION"),
            machine: crate::bench::machine(),
            task: words.collect::<Vec<_>>().join(" "),
            cells: plans.iter().map(cell).collect(),
        }
    }

    pub(super) fn add(&mut self, cell: usize, report: Report) {
        self.cells[cell].runs.push(report);
    }

    /// What the latest run of a cell found, in one line.
    pub(super) fn latest(&self, cell: usize) -> String {
        let Some(run) = self.cells[cell].runs.last() else { return String::new() };
        let epochs = f64::from(run.epochs.max(1));
        format!("{:.2} s an epoch, {}", run.train_seconds / epochs, goal(run))
    }

    pub(super) fn title(&self) -> String {
        format!("sterna bench policies: {}; {}", self.task, self.machine)
    }

    /// Cells with several nodes, by network and number of nodes.
    pub(super) fn groups(&self) -> Vec<Group<'_>> {
        let mut groups: Vec<Group<'_>> = Vec::new();
        for cell in self.cells.iter().filter(|cell| cell.nodes > 1 && !cell.runs.is_empty()) {
            let title = cell.title();
            let workers = cell.nodes * cell.workers;
            let single = |one: &&Cell| one.nodes == 1 && one.workers == workers && one.complete();
            match groups.iter_mut().find(|group| group.title == title) {
                Some(group) => group.cells.push(cell),
                None => groups.push(Group {
                    title,
                    single: self.cells.iter().find(single),
                    cells: vec![cell],
                }),
            }
        }
        groups
    }
}

impl Cell {
    fn complete(&self) -> bool {
        !self.runs.is_empty()
    }

    fn title(&self) -> String {
        let network = self.network.as_deref().unwrap_or_default();
        let plural = if self.workers == 1 { "" } else { "s" };
        format!("{network}: {} nodes with {} worker{plural} each", self.nodes, self.workers)
    }

    /// Its name in its group.
    pub(super) fn name(&self) -> String {
        let single = || {
            let plural = if self.workers == 1 { "" } else { "s" };
            format!("one node, {} worker{plural}", self.workers)
        };
        self.policy.clone().unwrap_or_else(single)
    }

    /// Seconds of an epoch: least, median and greatest over all epochs of all rounds.
    pub(super) fn epoch_seconds(&self) -> [f64; 3] {
        let mut all: Vec<f64> =
            self.runs.iter().flat_map(|run| &run.epoch_seconds).copied().collect();
        all.sort_by(f64::total_cmp);
        let at = |index: usize| all.get(index).copied().unwrap_or(f64::NAN);
        [at(0), at(all.len() / 2), at(all.len().saturating_sub(1))]
    }

    /// The mean over rounds of a number in their reports, which a path of names leads to.
    fn mean(&self, part: impl Fn(&Report) -> &serde_json::Value, path: &[&str]) -> f64 {
        let number = |run| {
            let value = path.iter().fold(part(run), |value, name| &value[*name]);
            value.as_f64().unwrap_or(0.0)
        };
        mean(self.runs.iter().map(number))
    }

    fn line(&self, single: Option<f64>) -> String {
        let [least, seconds, greatest] = self.epoch_seconds();
        let ratio = single.map_or_else(String::new, |single| format!("{:.2}", seconds / single));
        let quality = mean(self.runs.iter().filter_map(|run| run.quality.get(&run.goal)).copied());
        let count = |path: &str| self.mean(|run| &run.paths, &[path, "count"]);
        let [local, replica, remote] = ["local", "replica", "remote"].map(count);
        let here = 100.0 * (local + replica) / (local + replica + remote).max(1.0);
        let replica = 100.0 * replica / (local + replica + remote).max(1.0);
        let managed = |what: &str| self.mean(|run| &run.management, &[what]);
        let mib = |what: &str| self.mean(|run| &run.bytes, &[what]) / f64::from(1 << 20);
        let cpu = |role: &str| self.mean(|run| &run.cpu_seconds, &[role]);
        let [engine, workers] = [cpu("engine"), cpu("workers") - cpu("evaluation")];
        let share = 100.0 * engine / (engine + workers).max(1e-9);
        format!(
            "{:<21} {seconds:>7.2} {:>13} {ratio:>7} {quality:>8.4} {here:>8.2} {replica:>8.2} {:>9} {:>9} {:>9} {:>9.0} {:>9.0} {share:>8.1}",
            self.name(),
            format!("{least:.2}..{greatest:.2}"),
            counted(managed("moved")),
            counted(managed("shared")),
            counted(managed("refreshed")),
            mib("remote_reads"),
            mib("records_sent"),
        )
    }
}

impl Group<'_> {
    fn verdict(&self) -> String {
        let time = |cell: &Cell| cell.epoch_seconds()[1];
        let fastest = self.cells.iter().min_by(|a, b| time(a).total_cmp(&time(b)));
        let Some(fastest) = fastest else { return String::new() };
        let mut said = format!("Fastest: {}, {:.2} s an epoch", fastest.name(), time(fastest));
        let adaptive = self.cells.iter().find(|cell| cell.policy.as_deref() == Some("adaptive"));
        if let Some(adaptive) = adaptive.filter(|cell| cell.policy != fastest.policy) {
            let ratio = time(adaptive) / time(fastest);
            said.push_str(&format!("; adaptive takes {ratio:.2} of that"));
        }
        if let Some(single) = self.single {
            let ratio = time(fastest) / time(single);
            let workers = single.workers;
            said.push_str(&if ratio > 1.0 {
                format!(
                    ". The single node wins: with {workers} workers it takes 1/{ratio:.2} of that"
                )
            } else {
                format!(". {:.2} times as fast as one node with {workers} workers", 1.0 / ratio)
            });
        }
        said.push('.');
        said
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.title())?;
        let goal = self.cells.iter().flat_map(|cell| &cell.runs).next();
        let goal = goal.map_or("quality", |run| run.goal.as_str());
        let heading = format!(
            "{:<21} {:>7} {:>13} {:>7} {goal:>8} {:>8} {:>8} {:>9} {:>9} {:>9} {:>9} {:>9} {:>8}",
            "",
            "s/epoch",
            "range",
            "of one",
            "local %",
            "replica",
            "moved",
            "shared",
            "refreshed",
            "read MiB",
            "sent MiB",
            "manager%"
        );
        for group in self.groups() {
            writeln!(f, "\n{}\n{heading}", group.title)?;
            let single = group.single.map(|cell| cell.epoch_seconds()[1]);
            for cell in group.single.into_iter().chain(group.cells.iter().copied()) {
                writeln!(f, "{}", cell.line(single))?;
            }
            writeln!(f, "{}", group.verdict())?;
        }
        let alone = self.cells.iter().filter(|cell| cell.nodes == 1 && cell.complete());
        if self.groups().is_empty() {
            writeln!(f, "\n{heading}")?;
            for cell in alone {
                writeln!(f, "{}", cell.line(None))?;
            }
        }
        Ok(())
    }
}

fn goal(run: &Report) -> String {
    let figure = run.quality.get(&run.goal).copied().unwrap_or(f64::NAN);
    format!("{} {figure:.4}", run.goal)
}

fn mean(of: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = of.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    sum / f64::max(count, 1.0)
}

/// A count with a letter for thousands and millions.
fn counted(count: f64) -> String {
    match count {
        0.0..1e4 => format!("{count:.0}"),
        1e4..1e7 => format!("{:.0} k", count / 1e3),
        _ => format!("{:.1} M", count / 1e6),
    }
}
