//! What all tasks have in common on the command line: options, start, bar, report.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use sterna::{FabricConfig, Knobs, Node, NodeConfig, Policy};
use sterna_tasks::plot;
use sterna_tasks::report::Report;
use sterna_tasks::task::{ExportFormat, RunConfig, Silent, Task, estimate, train};

use super::progress::Bar;
use crate::reach::ReachArgs;

/// Exit code of a run that was stopped by Ctrl-C, as the shell has it.
const STOPPED: u8 = 130;

/// Options of every task; `#[command(flatten)]` them.
#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    /// Threads of each node that train; this host's cores, shared among its nodes, if not given.
    #[arg(long, value_name = "N", help_heading = "Job")]
    workers: Option<usize>,

    /// Start so many processes on this host as the nodes of a job. On several hosts start this command by `sterna launch`, mpirun,
    /// torchrun or srun instead.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=4096), help_heading = "Job")]
    nodes: u16,

    #[command(flatten)]
    reach: ReachArgs,

    /// How rows are placed: classic, full-replication, relocation, replication, ssp:S, mixed, or adaptive, which needs no choice.
    #[arg(long, value_name = "POLICY", default_value_t = Policy::default(), env = "STERNA_POLICY", help_heading = "Job")]
    policy: Policy,

    /// Set something that nobody has to set; --help-knobs lists what there is.
    #[arg(long = "knob", value_name = "NAME=VALUE", help_heading = "Job")]
    knobs: Vec<String>,

    /// List the manager's knobs and end.
    #[arg(long, help_heading = "Job")]
    help_knobs: bool,

    /// Batches whose keys each worker announces before their step.
    #[arg(long, value_name = "BATCHES", help_heading = "Job")]
    ahead: Option<usize>,

    /// Start even if the training will probably not fit into this host's memory.
    #[arg(long, help_heading = "Job")]
    no_memory_check: bool,

    /// Passes over the training examples.
    #[arg(long, help_heading = "Course")]
    epochs: Option<u32>,

    /// Seed of everything random: first rows, order, samples.
    #[arg(long, help_heading = "Course")]
    seed: Option<u64>,

    /// Epochs from one validation to the next; 0 validates only at the end.
    #[arg(long, value_name = "EPOCHS", help_heading = "Course")]
    valid_every: Option<u32>,

    /// Validations without a better figure after which training stops early and returns to the best; 0 never.
    #[arg(long, value_name = "N", help_heading = "Course")]
    patience: Option<u32>,

    /// Return to the best validation's model also after a training that went its whole way.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", help_heading = "Course")]
    keep_best: Option<bool>,

    /// Folder for checkpoints: written when the run is stopped, and every --checkpoint-every epochs.
    #[arg(long, value_name = "DIR", help_heading = "Files")]
    checkpoint: Option<PathBuf>,

    /// Epochs from one checkpoint to the next.
    #[arg(long, value_name = "EPOCHS", requires = "checkpoint", help_heading = "Files")]
    checkpoint_every: Option<u32>,

    /// Continue from the latest checkpoint in --checkpoint; with any number of nodes and workers.
    #[arg(long, requires = "checkpoint", help_heading = "Files")]
    resume: bool,

    /// Write the trained model to this folder: matrices, and the names of their rows.
    #[arg(long, value_name = "DIR", help_heading = "Files")]
    export: Option<PathBuf>,

    /// The form of exported matrices: npy (a file each), safetensors (one model.safetensors) or both.
    #[arg(long, value_name = "FORMAT", requires = "export", value_parser = format, help_heading = "Files")]
    export_format: Option<ExportFormat>,

    /// Write the report as JSON to this file.
    #[arg(long, value_name = "FILE", help_heading = "Files")]
    report: Option<PathBuf>,

    /// Draw the learning curve as SVG to this file.
    #[arg(long, value_name = "FILE", help_heading = "Files")]
    plot: Option<PathBuf>,
}

impl RunArgs {
    /// The seed, if one was given.
    pub(crate) fn seed(&self) -> Option<u64> {
        self.seed
    }

    fn knobs(&self) -> anyhow::Result<Knobs> {
        let mut knobs = Knobs::default();
        for given in &self.knobs {
            let (name, value) = given.split_once('=').with_context(|| {
                format!("--knob {given}: it is NAME=VALUE; --help-knobs lists them")
            })?;
            knobs.set(name, value)?;
        }
        Ok(knobs)
    }

    /// Puts what was given on the command line over a recipe.
    pub(crate) fn apply(&self, run: &mut RunConfig) {
        take(&mut run.epochs, self.epochs.as_ref());
        take(&mut run.seed, self.seed.as_ref());
        take(&mut run.valid_every, self.valid_every.as_ref());
        take(&mut run.patience, self.patience.as_ref());
        take(&mut run.keep_best, self.keep_best.as_ref());
        take(&mut run.ahead, self.ahead.as_ref());
        take(&mut run.checkpoint_every, self.checkpoint_every.as_ref());
        take(&mut run.export_format, self.export_format.as_ref());
        run.checkpoint.clone_from(&self.checkpoint);
        run.export.clone_from(&self.export);
        run.resume = self.resume;
    }
}

/// Replaces a setting by what was given for it.
pub(crate) fn take<T: Clone>(setting: &mut T, given: Option<&T>) {
    if let Some(given) = given {
        setting.clone_from(given);
    }
}

/// Trains what `build` makes, and shows and writes what comes of it.
///
/// `build` runs on every node; it is told whether it is the first one, which may speak.
pub(crate) fn run<T: Task>(
    args: &RunArgs,
    build: impl FnOnce(bool) -> anyhow::Result<T>,
) -> anyhow::Result<ExitCode> {
    if args.help_knobs {
        Knobs::list()
            .iter()
            .for_each(|knob| println!("{:<14} {:<9} {}", knob.name, knob.default, knob.about));
        return Ok(ExitCode::SUCCESS);
    }
    let knobs = args.knobs()?;
    let mut fabric = FabricConfig::from_env()?;
    if args.nodes > 1 && fabric.size == 1 {
        let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
        return crate::launch::run_self(args.nodes, &arguments);
    }
    args.reach.apply(&mut fabric)?;
    let first = fabric.rank.index() == 0;
    // Files that cannot be written are better found before an hour of training than after it.
    let report_file = create(args.report.as_deref().filter(|_| first))?;
    let plot_file = create(args.plot.as_deref().filter(|_| first))?;
    let task = build(first)?;
    let (nodes, nodes_here) = (fabric.size, fabric.local_size.unwrap_or(1).max(1));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = args.workers.unwrap_or((cores / nodes_here).max(1));
    let memory = estimate(&task, nodes, workers)?;
    if !args.no_memory_check {
        memory.check(nodes_here)?;
    }
    let (policy, seed) = (args.policy, task.run().seed);
    let config = NodeConfig { workers, seed, policy, knobs, ..NodeConfig::default() };
    let node = Node::join(config.with_env()?, fabric)?;
    if first {
        eprintln!("{}", node.describe());
        eprintln!("{nodes} x {workers} workers; memory of a node about {memory}");
    }
    let stopper = node.stopper();
    crate::interrupt::on_interrupt(move || {
        if first {
            eprintln!("stopping after this batch (Ctrl-C again ends at once) ..");
        }
        stopper.request_stop();
    })?;
    let report = if first {
        train(&node, &task, &mut Bar::new())?
    } else {
        train(&node, &task, &mut Silent)?
    };
    let measured = node.job_report()?;
    node.shutdown()?;
    if first {
        let state = if report.stopped { "stopped" } else { "trained" };
        println!(
            "{state}: {} on {}, {} epochs in {:.1} s, evaluation {:.1} s",
            report.model,
            report.dataset,
            report.epochs,
            report.train_seconds,
            report.evaluate_seconds
        );
        println!("{}\n\n{measured}", figures(&report));
    }
    if let Some((file, path)) = report_file {
        serde_json::to_writer_pretty(file, &report)
            .with_context(|| format!("writing {}", path.display()))?;
        eprintln!("report: {}", path.display());
    }
    if let Some((mut file, path)) = plot_file {
        file.write_all(plot::svg(&report).as_bytes())
            .with_context(|| format!("writing {}", path.display()))?;
        eprintln!("learning curve: {}", path.display());
    }
    Ok(if report.stopped { ExitCode::from(STOPPED) } else { ExitCode::SUCCESS })
}

/// The test's figures, then the last validation's, the goal before the others.
fn figures(report: &Report) -> String {
    let mut lines = Vec::new();
    for (title, prefix) in [("test", ""), ("validation", "valid_")] {
        let mut found: Vec<(&str, f64)> = report
            .quality
            .iter()
            .filter(|(name, _)| name.starts_with("valid_") != prefix.is_empty())
            .map(|(name, &figure)| (&name[prefix.len()..], figure))
            .collect();
        found.sort_by_key(|&(name, _)| name != report.goal);
        let list: Vec<_> = found.iter().map(|(name, at)| format!("{name} {at:.4}")).collect();
        if !list.is_empty() {
            lines.push(format!("{title}: {}", list.join(", ")));
        }
    }
    lines.join("\n")
}

fn create(path: Option<&Path>) -> anyhow::Result<Option<(File, &Path)>> {
    let Some(path) = path else { return Ok(None) };
    let file = File::create(path).with_context(|| format!("creating {}", path.display()))?;
    Ok(Some((file, path)))
}

fn format(text: &str) -> Result<ExportFormat, String> {
    match text {
        "npy" => Ok(ExportFormat::Npy),
        "safetensors" => Ok(ExportFormat::Safetensors),
        "both" => Ok(ExportFormat::Both),
        _ => Err(format!("`{text}` is no format: npy, safetensors or both")),
    }
}

/// Reads a share of the examples, for the `value_parser` of a task's own options.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..1.0).contains(share));
    share.ok_or_else(|| format!("`{text}` is no share between 0 and 1"))
}
