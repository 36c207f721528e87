//! `sterna bench replicas`: what replicas cost that nobody touches, what a change of some costs, and how old they are.
//!
//! Two processes with a worker each. Each holds replicas of rows of the other, by intents that do not end. Three measurements follow each
//! other; times of both processes are of one clock, that of the host.

mod stale;

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use sterna::{
    FabricConfig, Node, NodeConfig, Policy, ProviderChoice, Rank, Table, TableSpec, Worker,
};

use stale::Stale;

/// Keys of a call.
const CALL_KEYS: usize = 1000;

/// The longest wait for replicas.
const COME_LIMIT: Duration = Duration::from_secs(60);

/// Between two changes of rows.
const CHANGE_EVERY: Duration = Duration::from_millis(10);

/// Shares of the rows that are changed at a time, in thousandths.
const CHANGED: [usize; 3] = [1, 10, 100];

/// Measure what replicas cost and how fresh they are.
///
/// Idle: each process holds replicas of the other's rows, and both sleep. Changes: the owner changes a share of its rows every 10 ms;
/// bytes that the holder reads should follow the changes, not the replicas. Staleness: one side adds to a row every 550 us and
/// ends its step; the other side polls its own copy, and notes how old each addition is when it first shows, while it holds few
/// replicas or many.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sterna bench replicas
  sterna bench replicas --fabric tcp --json replicas.json --svg stale.svg
  sterna bench replicas --replicas 100000 --seconds 10

Columns:
  engines    CPU time of the engine threads, in percent of a core
  kB/s       all that both processes read from each other and send to each other")]
pub(crate) struct ReplicasArgs {
    /// How the two processes reach each other: shm or tcp.
    #[arg(long, default_value = "shm", value_parser = ["shm", "tcp"])]
    fabric: String,

    /// Replicas that each process holds.
    #[arg(long, default_value_t = 10_000, value_name = "ROWS", value_parser = clap::value_parser!(u32).range(10..=10_000_000))]
    replicas: u32,

    /// Floats of a row.
    #[arg(long, default_value_t = 16, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=16_384))]
    floats: u32,

    /// Time for each line that is measured by time.
    #[arg(long, default_value_t = 3.0, value_name = "SECONDS", value_parser = seconds)]
    seconds: f64,

    /// Additions of each line that measures their age.
    #[arg(long, default_value_t = 1_000, value_name = "N", value_parser = clap::value_parser!(u32).range(10..=1_000_000))]
    additions: u32,

    /// Write figures and histograms as JSON to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Draw how old additions are as SVG to this file.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.01..=3600.0).contains(seconds));
    seconds.ok_or_else(|| format!("`{text}` is no time between 0.01 and 3600 seconds"))
}

/// What a time with or without changes cost.
#[derive(Debug, Serialize)]
struct Cost {
    /// Rows that the owner changed.
    changed: u64,
    seconds: f64,
    /// CPU time of the engine threads, in percent of a core: of rank 0, which changes rows, and of rank 1, which holds replicas.
    engine_percent: [f64; 2],
    /// Bytes read by one-sided READs, by both.
    read_bytes: f64,
    /// Bytes of records sent, by both.
    sent_bytes: f64,
    /// Rows read anew by both.
    refreshed: f64,
}

#[derive(Debug, Serialize)]
struct Measured {
    version: &'static str,
    machine: String,
    fabric: String,
    replicas: u32,
    floats: u32,
    idle: Option<Cost>,
    changes: Vec<Cost>,
    stale: Vec<Stale>,
}

/// Measures and prints.
pub(crate) fn run(args: &ReplicasArgs) -> anyhow::Result<ExitCode> {
    let mut fabric = FabricConfig::from_env()?;
    if fabric.size == 1 {
        let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
        return crate::launch::run_self(2, &arguments);
    }
    ensure!(fabric.size == 2, "this measures two nodes, not {}", fabric.size);
    fabric.choice = ProviderChoice::parse(&args.fabric)?;
    let first = fabric.rank == Rank(0);
    if first {
        // Files that cannot be written are better found before than after.
        for path in [&args.json, &args.svg].into_iter().flatten() {
            File::create(path).with_context(|| format!("creating {}", path.display()))?;
        }
    }
    let config = NodeConfig { policy: Policy::Replication, ..NodeConfig::with_workers(1) };
    let node = Node::join(config.with_env()?, fabric)?;
    if first {
        println!("{}", node.describe());
    }
    let mut worker = node.worker(0)?;
    worker.pin_thread();
    let spec = TableSpec::new("rows", 3 * u64::from(args.replicas), args.floats as usize);
    let table = node.create_table(spec)?;
    let mut measured = Measured {
        version: env!("CARGO_PKG_VERSION"),
        machine: super::machine(),
        fabric: args.fabric.clone(),
        replicas: args.replicas,
        floats: args.floats,
        idle: None,
        changes: Vec::new(),
        stale: Vec::new(),
    };
    let mut pair = Pair::new(args, &node, &mut worker, &table)?;
    let held = stale::held(args.replicas);
    let lines = 1 + CHANGED.len() + 2 * held.len();
    let bar = if first { ProgressBar::new(lines as u64) } else { ProgressBar::hidden() };
    let style = ProgressStyle::with_template("[{bar:30}] {pos}/{len} {msg}");
    bar.set_style(style.expect("the template is right").progress_chars("=> "));
    for &replicas in &held {
        pair.hold(replicas)?;
        for from_owner in [true, false] {
            bar.set_message(format!("the age of additions, {replicas} replicas"));
            measured.stale.push(pair.stale(args, replicas, from_owner)?);
            bar.inc(1);
        }
    }
    pair.hold(args.replicas as usize)?;
    bar.set_message("idle");
    measured.idle = Some(pair.cost(args, 0)?);
    bar.inc(1);
    for thousandths in CHANGED {
        let rows = (args.replicas as usize * thousandths / 1000).max(1);
        bar.set_message(format!("{rows} rows changed every {CHANGE_EVERY:?}"));
        measured.changes.push(pair.cost(args, rows)?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    drop(worker);
    node.shutdown()?;
    if first {
        tell(args, &measured)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Where [`Pair::counters`] has the rows read anew.
const REFRESHED: usize = 3;

/// One of the two.
struct Pair<'a> {
    node: &'a Node,
    worker: &'a mut Worker,
    table: &'a Table,
    /// Keys at home at rank 0 and at rank 1, the same lists at both.
    keys: [Vec<u64>; 2],
    /// So many of the other's rows this rank has announced to use for ever.
    announced: usize,
}

impl<'a> Pair<'a> {
    fn new(
        args: &ReplicasArgs,
        node: &'a Node,
        worker: &'a mut Worker,
        table: &'a Table,
    ) -> anyhow::Result<Self> {
        let (mut keys, mut row) = ([Vec::new(), Vec::new()], vec![0.0; table.dim()]);
        for key in 0..table.keys() {
            let here = worker.pull_if_local(table, key, &mut row)?;
            let home = if here { node.rank().index() } else { 1 - node.rank().index() };
            keys[home].push(key);
        }
        for keys in &mut keys {
            ensure!(keys.len() >= args.replicas as usize, "a node is home to {} rows", keys.len());
            keys.truncate(args.replicas as usize);
        }
        worker.barrier()?;
        Ok(Self { node, worker, table, keys, announced: 0 })
    }

    fn rank(&self) -> usize {
        self.node.rank().index()
    }

    /// Both hold replicas of so many of the other's rows from here on.
    fn hold(&mut self, replicas: usize) -> anyhow::Result<()> {
        let theirs = &self.keys[1 - self.rank()][..replicas];
        let new = &theirs[self.announced.min(replicas)..];
        for keys in new.chunks(CALL_KEYS) {
            let now = self.worker.clock().0;
            self.worker.intent(self.table, keys, now..u64::MAX)?;
        }
        self.announced = self.announced.max(replicas);
        let (begun, mut row) = (Instant::now(), vec![0.0; self.table.dim()]);
        for &key in new {
            while !self.worker.pull_if_local(self.table, key, &mut row)? {
                ensure!(begun.elapsed() < COME_LIMIT, "no replica of row {key} in {COME_LIMIT:?}");
                self.worker.advance_clock()?;
                std::thread::sleep(Duration::from_micros(100));
            }
        }
        self.worker.barrier()?;
        Ok(())
    }

    /// What it costs both while rank 0 changes so many of its rows at a time, or nothing happens.
    #[allow(clippy::cast_precision_loss, reason = "counts below 2^52")]
    fn cost(&mut self, args: &ReplicasArgs, rows: usize) -> anyhow::Result<Cost> {
        self.worker.barrier()?;
        self.rest();
        let before = self.counters();
        // Nothing changes before both have looked.
        self.worker.barrier()?;
        let (begun, mut changed) = (Instant::now(), 0_usize);
        let deltas = vec![1.0; rows * self.table.dim()];
        let mut next = self.keys[0].iter().copied().cycle();
        // One change at least, however late this thread gets to run.
        let changes = rows > 0 && self.rank() == 0;
        while (changes && changed == 0) || begun.elapsed().as_secs_f64() < args.seconds {
            if changes {
                let keys: Vec<u64> = next.by_ref().take(rows).collect();
                self.worker.add(self.table, &keys, &deltas)?;
                self.worker.advance_clock()?;
                changed += rows;
                std::thread::sleep(CHANGE_EVERY);
            } else {
                let left = args.seconds - begun.elapsed().as_secs_f64();
                std::thread::sleep(Duration::try_from_secs_f64(left).unwrap_or_default());
            }
        }
        let seconds = begun.elapsed().as_secs_f64();
        if rows > 0 {
            // So that the last changes, too, have been read.
            self.worker.barrier()?;
            let (last, refreshed) = (Instant::now(), before[REFRESHED]);
            while self.rank() == 1 && self.counters()[REFRESHED] <= refreshed {
                ensure!(last.elapsed() < COME_LIMIT, "no change was read in {COME_LIMIT:?}");
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        let after = self.counters();
        let grown = |index: usize| after[index] - before[index];
        let mut told = [0.0; 6];
        told[self.rank()] = 100.0 * grown(0) / seconds;
        told[2] = grown(1);
        told[3] = grown(2);
        told[4] = grown(3);
        told[5] = changed as f64;
        self.worker.all_reduce_sum(&mut told)?;
        let [engine0, engine1, read_bytes, sent_bytes, refreshed, changed] = told;
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count below 2^52"
        )]
        let changed = changed as u64;
        let engine_percent = [engine0, engine1];
        Ok(Cost { changed, seconds, engine_percent, read_bytes, sent_bytes, refreshed })
    }

    /// Waits until what came before is over, and engines sleep.
    fn rest(&self) {
        let begun = Instant::now();
        while begun.elapsed() < COME_LIMIT {
            let before = self.counters()[REFRESHED];
            std::thread::sleep(Duration::from_millis(100));
            if self.counters()[REFRESHED] <= before {
                return;
            }
        }
    }

    /// The engine's CPU seconds, bytes read, bytes sent, rows read anew.
    #[allow(clippy::cast_precision_loss, reason = "counts below 2^52")]
    fn counters(&self) -> [f64; 4] {
        let report = self.node.report();
        let bytes = |name: &str| report.bytes.get(name).copied().unwrap_or_default() as f64;
        let refreshed = report.management.get("refreshed").copied().unwrap_or_default() as f64;
        let engine = report.cpu_seconds.get("engine").copied().unwrap_or_default();
        [engine, bytes("remote_reads"), bytes("records_sent"), refreshed]
    }
}

fn tell(args: &ReplicasArgs, measured: &Measured) -> anyhow::Result<()> {
    println!(
        "{}, {} replicas at each of two nodes, rows of {} floats",
        args.fabric, args.replicas, args.floats
    );
    println!(
        "{:<26} {:>15} {:>16} {:>10} {:>10} {:>12}",
        "", "owner's engine", "holder's engine", "kB/s", "refreshed", "bytes/change"
    );
    for (index, cost) in measured.idle.iter().chain(&measured.changes).enumerate() {
        #[allow(clippy::cast_precision_loss, reason = "a rate")]
        let changed = cost.changed as f64;
        let name = if index == 0 {
            "idle".to_owned()
        } else {
            format!("{:.0} rows/s changed", changed / cost.seconds)
        };
        let bytes = cost.read_bytes + cost.sent_bytes;
        let each = if cost.changed > 0 { format!("{:.0}", bytes / changed) } else { String::new() };
        println!(
            "{name:<26} {:>13.3} % {:>14.3} % {:>10.1} {:>10.0} {each:>12}",
            cost.engine_percent[0],
            cost.engine_percent[1],
            bytes / cost.seconds / 1e3,
            cost.refreshed,
        );
    }
    println!(
        "\n{:<32} {:>9} {:>9} {:>9} {:>9}",
        "us until it is seen", "seen", "p50", "p99", "max"
    );
    for stale in &measured.stale {
        println!("{stale}");
    }
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(measured)?;
        fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    if let Some(path) = &args.svg {
        let title = format!("sterna bench replicas --fabric {}", measured.fabric);
        fs::write(path, stale::svg(&title, &measured.machine, &measured.stale))
            .with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}
