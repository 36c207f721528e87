//! `sterna bench relocate`: how long a row takes from the request for it until it is live at the node that asked.
//!
//! Two processes with a worker each. Rank 0 takes rows that are at home at rank 1, a call at a time, then rank 1 takes them back; the
//! other's worker waits in a barrier meanwhile, so that its engine alone gives rows away. Beside it stands a bare ping-pong of the two
//! processes: over a line of shared memory, or over a blocking TCP connection.

mod ping;

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use sterna::{FabricConfig, Node, NodeConfig, ProviderChoice, Rank, Table, TableSpec, Worker};

use crate::plot::{self, Axis, Curve};
use crate::probe::{Spread, Times};
use ping::Ping;

/// Keys of a turn over batches, at least.
const KEYS_PER_TURN: usize = 1 << 16;

/// Measure how long rows take to move to the process that asks for them.
///
/// A time is that of `localize` and the wait for its ticket: the row is then live and writable where it was asked for. Rows go forth
/// and back in turns; every request of a turn is for rows that have rested at their owner.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  sterna bench relocate                                  one row, batches, and from idle, over shared memory
  sterna bench relocate --fabric tcp --svg relocate.svg
  sterna bench relocate --floats 128 --batch 1,4096 --turns 20

Lines of the table:
  closed loop   one request after the other
  from idle     a pause before each request, in which both engines fall asleep")]
pub(crate) struct RelocateArgs {
    /// How the two processes reach each other: shm or tcp.
    #[arg(long, default_value = "shm", value_parser = ["shm", "tcp"])]
    fabric: String,

    /// Rows of a request; several, separated by commas, are measured one after the other.
    #[arg(long, value_delimiter = ',', default_value = "1,16,256,4096", value_name = "ROWS", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch: Vec<u32>,

    /// Floats of a row.
    #[arg(long, default_value_t = 16, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=16_384))]
    floats: u32,

    /// Turns, forth and back.
    #[arg(long, default_value_t = 6, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    turns: u32,

    /// Requests of a turn.
    #[arg(long, default_value_t = 2_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=65_536))]
    requests: u32,

    /// Pause before each request from idle; 0 leaves those out.
    #[arg(long, default_value_t = 2_000, value_name = "MICROSECONDS", value_parser = clap::value_parser!(u64).range(..=1_000_000))]
    idle_us: u64,

    /// Write figures and histograms as JSON to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Draw the distributions as SVG to this file.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// A line of the table.
#[derive(Debug, Serialize)]
struct Line {
    name: String,
    /// Rows of a request; 0 for the ping-pong.
    batch: u32,
    /// Pause before each request.
    idle_us: u64,
    #[serde(flatten)]
    spread: Spread,
    rows_per_second: f64,
    /// The median as a multiple of the ping-pong's.
    ratio: f64,
    /// Upper ends of its steps in microseconds, and requests of each.
    histogram: Vec<(f64, u64)>,
}

#[derive(Debug, Serialize)]
struct Measured {
    version: &'static str,
    machine: String,
    fabric: String,
    floats: u32,
    lines: Vec<Line>,
}

/// Measures and prints.
pub(crate) fn run(args: &RelocateArgs) -> anyhow::Result<ExitCode> {
    let mut fabric = FabricConfig::from_env()?;
    if fabric.size == 1 {
        let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
        return crate::launch::run_self(2, &arguments);
    }
    ensure!(fabric.size == 2, "rows move between two nodes, not {}", fabric.size);
    fabric.choice = ProviderChoice::parse(&args.fabric)?;
    if fabric.rank == Rank(0) {
        // Files that cannot be written are better found before than after.
        for path in [&args.json, &args.svg].into_iter().flatten() {
            File::create(path).with_context(|| format!("creating {}", path.display()))?;
        }
    }
    let node = Node::join(NodeConfig::with_workers(1).with_env()?, fabric)?;
    let first = node.rank() == Rank(0);
    if first {
        println!("{}", node.describe());
    }
    let mut worker = node.worker(0)?;
    worker.pin_thread();
    let most = args.batch.iter().copied().max().unwrap_or(1) as usize;
    let wanted = KEYS_PER_TURN.max(args.requests as usize).max(most);
    let spec = TableSpec::new("rows", 3 * wanted as u64, args.floats as usize);
    let table = node.create_table(spec)?;
    let keys = keys_of_second(&node, &mut worker, &table, wanted)?;
    let mut ping = Ping::open(&node, &mut worker, &args.fabric)?;
    let lines = cells(args).len() as u64 + 1;
    let bar = if first { ProgressBar::new(lines) } else { ProgressBar::hidden() };
    let style = ProgressStyle::with_template("[{bar:30}] {pos}/{len} {msg}");
    bar.set_style(style.expect("the template is right").progress_chars("=> "));
    let mut pair = Pair { node: &node, worker: &mut worker, table: &table };
    let bare = ping.measure(&mut pair, args)?;
    bar.inc(1);
    let mut measured = Measured {
        version: env!("CARGO_PKG_VERSION"),
        machine: super::machine(),
        fabric: args.fabric.clone(),
        floats: args.floats,
        lines: vec![Line::of(ping.name(), 0, 0, &bare, &bare)],
    };
    for (batch, idle_us) in cells(args) {
        let name = if idle_us == 0 { "closed loop" } else { "from idle" };
        bar.set_message(format!("{name}, {batch} rows"));
        let times = pair.measure(args, &keys, batch, idle_us)?;
        measured.lines.push(Line::of(name, batch, idle_us, &times, &bare));
        bar.inc(1);
    }
    // Once more, since the machine may have changed meanwhile.
    let again = ping.measure(&mut pair, args)?;
    measured.lines.push(Line::of(ping.name(), 0, 0, &again, &bare));
    bar.finish_and_clear();
    drop(worker);
    node.shutdown()?;
    if first {
        tell(args, &measured)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What is measured: rows of a request, and the pause before each.
fn cells(args: &RelocateArgs) -> Vec<(u32, u64)> {
    let closed = args.batch.iter().map(|&batch| (batch, 0));
    closed.chain((args.idle_us > 0).then_some((1, args.idle_us))).collect()
}

/// Keys that are at home at rank 1, the same at both ranks.
fn keys_of_second(
    node: &Node,
    worker: &mut Worker,
    table: &Table,
    wanted: usize,
) -> anyhow::Result<Vec<u64>> {
    let (mut keys, mut row) = (Vec::new(), vec![0.0; table.dim()]);
    for key in 0..table.keys() {
        let here = worker.pull_if_local(table, key, &mut row)?;
        if here == (node.rank() == Rank(1)) && keys.len() < wanted {
            keys.push(key);
        }
    }
    ensure!(keys.len() == wanted, "rank 1 is home to {} rows only", keys.len());
    // All have looked before the first row moves.
    worker.barrier()?;
    Ok(keys)
}

/// One of the two.
struct Pair<'a> {
    node: &'a Node,
    worker: &'a mut Worker,
    table: &'a Table,
}

impl Pair<'_> {
    fn rank(&self) -> usize {
        self.node.rank().index()
    }

    /// Requests forth and back, in turns; both ranks learn the times of both.
    fn measure(
        &mut self,
        args: &RelocateArgs,
        keys: &[u64],
        batch: u32,
        idle_us: u64,
    ) -> anyhow::Result<Times> {
        let rows = batch as usize;
        let fewest = if idle_us > 0 { 100 } else { args.requests as usize };
        let count = fewest.min(keys.len() / rows).max(1);
        let mut times = Times::new();
        for _ in 0..args.turns {
            for asker in 0..2 {
                self.worker.barrier()?;
                let taken = if self.rank() == asker {
                    self.take(keys.chunks_exact(rows).take(count), idle_us)?
                } else {
                    Vec::new()
                };
                let all = self.tell(&taken, count)?;
                let total: u64 = all.iter().sum();
                all.iter().for_each(|&ns| times.record_ns(ns));
                let bytes = (count * rows * args.floats as usize * size_of::<f32>()) as u64;
                times.moved(bytes, Duration::from_nanos(total));
            }
        }
        Ok(times)
    }

    /// Asks for rows and waits until they are here; the nanoseconds of each request.
    fn take<'k>(
        &mut self,
        requests: impl Iterator<Item = &'k [u64]>,
        idle_us: u64,
    ) -> anyhow::Result<Vec<u64>> {
        let mut row = vec![0.0; self.table.dim()];
        let mut times = Vec::new();
        for keys in requests {
            if idle_us > 0 {
                std::thread::sleep(Duration::from_micros(idle_us));
            }
            let begun = Instant::now();
            let ticket = self.worker.localize(self.table, keys)?;
            ticket.wait(self.worker)?;
            times.push(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
            let last = keys[keys.len() - 1];
            let here = self.worker.pull_if_local(self.table, last, &mut row)?;
            ensure!(here, "row {last} was asked for and has not come");
        }
        Ok(times)
    }

    /// What one of both has measured, `count` numbers, or nothing, becomes known to both.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "nanoseconds below 2^52"
    )]
    fn tell(&mut self, mine: &[u64], count: usize) -> anyhow::Result<Vec<u64>> {
        let mut all: Vec<f64> = mine.iter().map(|&ns| ns as f64).collect();
        all.resize(count, 0.0);
        self.worker.all_reduce_sum(&mut all)?;
        Ok(all.into_iter().map(|ns| ns as u64).collect())
    }
}

impl Line {
    fn of(name: &str, batch: u32, idle_us: u64, times: &Times, bare: &Times) -> Self {
        let spread = times.spread();
        Self {
            name: name.to_owned(),
            batch,
            idle_us,
            rows_per_second: spread.per_second * f64::from(batch),
            ratio: spread.p50_us / bare.spread().p50_us,
            histogram: times.steps(),
            spread,
        }
    }

    fn label(&self) -> String {
        match self.batch {
            0 => self.name.clone(),
            1 => format!("{}, one row", self.name),
            batch => format!("{}, {batch} rows", self.name),
        }
    }
}

fn tell(args: &RelocateArgs, measured: &Measured) -> anyhow::Result<()> {
    println!(
        "{}, rows of {} floats, us from the request until the rows are live:",
        args.fabric, args.floats
    );
    println!(
        "{:<28} {:>9} {:>9} {:>9} {:>9} {:>9} {:>12} {:>14}",
        "", "requests", "p50", "p99", "p99.9", "max", "rows/s", "of ping-pong"
    );
    for line in &measured.lines {
        let Spread { count, p50_us, p99_us, p999_us, max_us, .. } = line.spread;
        let rate = if line.batch > 0 && line.idle_us == 0 {
            format!("{:.3} M", line.rows_per_second / 1e6)
        } else {
            String::new()
        };
        println!(
            "{:<28} {count:>9} {p50_us:>9.1} {p99_us:>9.1} {p999_us:>9.1} {max_us:>9.1} {rate:>12} {:>14.2}",
            line.label(),
            line.ratio
        );
    }
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(measured)?;
        fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    if let Some(path) = &args.svg {
        fs::write(path, svg(measured)).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

/// The distribution of each line.
fn svg(measured: &Measured) -> String {
    let curve = |line: &Line| plot::cumulated(line.label(), &line.histogram, line.spread.count);
    let curves: Vec<Curve> = measured.lines.iter().map(curve).collect();
    let title =
        format!("sterna bench relocate --fabric {} --floats {}", measured.fabric, measured.floats);
    let mut out = plot::begin(1, 1, &title, &measured.machine);
    let times = curves.iter().flat_map(|curve| curve.points.iter().map(|point| point.0));
    let axes = (&Axis::log(times, 10.0), &Axis::linear(0.0, 1.0));
    let title = "share of requests that took at most so many us";
    plot::panel(&mut out, (0.0, plot::TITLE), title, &curves, axes);
    out.push_str("</svg>\n");
    out
}
