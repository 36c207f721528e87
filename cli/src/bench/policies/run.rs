//! One job: started by the launcher, waited for within a limit, its report read.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use sterna_tasks::report::Report;

use super::network::Network;
use super::{Plan, PoliciesArgs};
use crate::launch;

/// Between two looks at a child.
const LOOK: Duration = Duration::from_millis(20);

/// How long a job may take to end after each request, the last of which kills it.
const GRACE: Duration = Duration::from_secs(60);

/// Lines of a failed job's output that are shown.
const LINES_SHOWN: usize = 20;

/// Starts jobs, and holds the folder of their reports.
pub(super) struct Runner {
    program: PathBuf,
    folder: PathBuf,
    interrupts: Arc<AtomicUsize>,
}

impl Runner {
    pub(super) fn new(args: &PoliciesArgs) -> anyhow::Result<Self> {
        // Files that cannot be written are better found before all jobs than after them.
        for path in [&args.json, &args.svg].into_iter().flatten() {
            File::create(path).with_context(|| format!("creating {}", path.display()))?;
        }
        let program = std::env::current_exe().context("finding this program's own file")?;
        let folder = std::env::temp_dir().join(format!("sterna-policies-{}", std::process::id()));
        fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        let interrupts = Arc::new(AtomicUsize::new(0));
        let signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP]);
        let mut signals = signals.context("taking over Ctrl-C")?;
        let counted = Arc::clone(&interrupts);
        std::thread::spawn(move || {
            for _ in signals.forever() {
                counted.fetch_add(1, Ordering::SeqCst);
            }
        });
        Ok(Self { program, folder, interrupts })
    }

    /// Whether Ctrl-C was pressed.
    pub(super) fn interrupted(&self) -> bool {
        self.interrupts.load(Ordering::SeqCst) > 0
    }

    /// Runs a job to its end; none if Ctrl-C came first.
    pub(super) fn run(
        &self,
        args: &PoliciesArgs,
        plan: &Plan,
        network: Option<&Network>,
        round: u32,
    ) -> anyhow::Result<Option<Report>> {
        if self.interrupted() {
            return Ok(None);
        }
        let report = self.folder.join("report.json");
        let log = self.folder.join("output.txt");
        let output = File::create(&log).with_context(|| format!("creating {}", log.display()))?;
        let mut command = self.command(args, plan, network, round, &report);
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        // A job of its own to the terminal: Ctrl-C comes to this process, which tells the job once.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        launch::tie(&mut command, None);
        let child = command.spawn().context("starting a job")?;
        let status = self.wait(child, Duration::from_secs(args.limit))?;
        if self.interrupted() {
            return Ok(None);
        }
        if !status.success() {
            let said = fs::read_to_string(&log).unwrap_or_default();
            let lines: Vec<&str> = said.lines().collect();
            let shown = lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n");
            bail!("the job `{plan}` ended with {status}; it said last:\n{shown}");
        }
        let text = fs::read_to_string(&report)
            .with_context(|| format!("the job `{plan}` left no report"))?;
        let found: Report = serde_json::from_str(&text).context("the report of a job")?;
        ensure!(!found.epoch_seconds.is_empty(), "the job `{plan}` trained no epoch");
        Ok(Some(found))
    }

    fn command(
        &self,
        args: &PoliciesArgs,
        plan: &Plan,
        network: Option<&Network>,
        round: u32,
        report: &std::path::Path,
    ) -> Command {
        let mut command = Command::new(&self.program);
        if plan.nodes > 1 {
            command.args(["launch", "--no-prefix", "--nodes", &plan.nodes.to_string()]);
            if let Some(network) = network {
                command.args(network.launch_options(plan.nodes));
            }
            command.arg("--").arg(&self.program);
            let fabric = if network.is_some() { "tcp" } else { &args.fabric };
            command.env("STERNA_FABRIC", fabric);
        }
        let own = |name: &str, value: &dyn ToString| -> [OsString; 2] {
            [OsStr::new(name).to_owned(), value.to_string().into()]
        };
        command.arg("train").args(&args.task);
        command.args(own("--workers", &plan.workers));
        command.args(own("--policy", &plan.policy));
        command.args(own("--seed", &round));
        command.arg("--report").arg(report);
        command
    }

    /// Waits for a child; Ctrl-C is passed on to it, and one that is late or does not heed is killed.
    fn wait(&self, mut child: Child, limit: Duration) -> anyhow::Result<ExitStatus> {
        let mut deadline = Instant::now() + limit;
        let (mut told, mut late) = (0, false);
        loop {
            if let Some(status) = child.try_wait().context("waiting for a job")? {
                ensure!(
                    !late,
                    "a job took longer than {} s (--limit): it was ended",
                    limit.as_secs()
                );
                return Ok(status);
            }
            let interrupts = self.interrupts.load(Ordering::SeqCst);
            if interrupts > told {
                told = interrupts;
                signal(&child, if told == 1 { SIGINT } else { SIGTERM });
                deadline = Instant::now() + GRACE;
            }
            if Instant::now() >= deadline {
                late |= told == 0;
                // The kernel ends the ranks with their launcher.
                signal(&child, if told < 2 { SIGTERM } else { libc::SIGKILL });
                (told, deadline) = (2, Instant::now() + GRACE);
            }
            std::thread::sleep(LOOK);
        }
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        // What is left behind lies in a folder for such things.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn signal(child: &Child, signal: i32) {
    // SAFETY: plain system call; the child has not been waited for, so its number is still its own.
    unsafe { libc::kill(child.id().cast_signed(), signal) };
}
