//! `sterna bench access`: how fast rows of this node are read and updated (of other nodes: [`super::remote`]).
//!
//! For each row size, batch and working set, slices of bare access and of Sterna alternate in one run; the table shows the
//! median of the slices, and the ratio. Latencies are of whole calls.

use std::ffi::OsString;
use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use anyhow::Context;
use hdrhistogram::Histogram;
use serde::Serialize;
use sterna::{FabricConfig, Node, NodeConfig, Table, TableSpec, Worker};

use super::floor::BareRows;
use crate::reach::ReachArgs;

/// Bytes of a slot's header; bare rows are as far apart as slots are.
pub(super) const HEADER_BYTES: usize = 16;

/// Calls prepared in advance and used round and round.
const CALLS: usize = 1024;

/// Slices of each side per cell.
const SLICES: usize = 7;

/// Local pull and push by row size, batch and working set.
#[derive(Debug, clap::Args)]
pub(crate) struct AccessArgs {
    /// Bytes of a row's values.
    #[arg(long, value_delimiter = ',', default_values_t = [4, 64, 512, 2048, 8192], value_name = "BYTES")]
    pub(super) row_bytes: Vec<usize>,

    /// Keys in a call.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64, 256], value_name = "KEYS")]
    pub(super) batch: Vec<usize>,

    /// Size of the table in MiB (at most one million rows are used for short rows).
    #[arg(long, default_value_t = 1024, value_name = "MIB")]
    pub(super) table_mib: usize,

    /// Most rows of the table.
    #[arg(long, default_value_t = 4_000_000, value_name = "ROWS")]
    pub(super) rows_max: usize,

    /// Distinct keys of the wide working set; 0 for all of the table.
    #[arg(long, default_value_t = 0, value_name = "KEYS")]
    wide: usize,

    /// Distinct keys of the hot working set; 0 leaves it out.
    #[arg(long, default_value_t = 64, value_name = "KEYS")]
    hot: usize,

    /// Threads that access rows at the same time.
    #[arg(long, default_value_t = 1, value_name = "THREADS")]
    pub(super) threads: usize,

    /// Measure rows of another process instead: start so many nodes on this host.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    nodes: u16,

    #[command(flatten)]
    reach: ReachArgs,

    /// Length of a slice in milliseconds.
    #[arg(long, default_value_t = 30, value_name = "MS")]
    pub(super) slice_ms: u64,

    /// Write the figures with their histograms as JSON to this file.
    #[arg(long, value_name = "FILE")]
    pub(super) json: Option<PathBuf>,
}

impl AccessArgs {
    /// The working sets that are asked for, and how many of `rows` rows they have.
    pub(super) fn sets(&self, rows: usize) -> impl Iterator<Item = (&'static str, usize)> + use<> {
        let wide = if self.wide == 0 { rows } else { self.wide };
        let sets = [("hot", self.hot.min(rows)), ("wide", wide.min(rows))];
        sets.into_iter().filter(|&(_, keys)| keys > 0)
    }
}

/// One line of the table.
#[derive(Debug, Serialize)]
struct Cell {
    operation: &'static str,
    set: &'static str,
    row_bytes: usize,
    batch: usize,
    threads: usize,
    rows_per_second: f64,
    bare_rows_per_second: f64,
    ratio: f64,
    gigabytes_per_second: f64,
    p50_ns: u64,
    p99_ns: u64,
    max_ns: u64,
    /// Upper ends of its steps in nanoseconds, and calls of each.
    histogram: Vec<(u64, u64)>,
}

/// Measures and prints.
pub(crate) fn run(args: &AccessArgs) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(!args.batch.contains(&0), "--batch: a call has at least one key");
    for &row_bytes in &args.row_bytes {
        anyhow::ensure!(row_bytes >= 4 && row_bytes.is_multiple_of(4), "rows are of 4-byte floats");
    }
    let mut fabric = FabricConfig::from_env()?;
    if args.nodes > 1 && fabric.size == 1 {
        let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
        return crate::launch::run_self(args.nodes, &arguments);
    }
    args.reach.apply(&mut fabric)?;
    let node = Node::join(NodeConfig::with_workers(args.threads).with_env()?, fabric)?;
    if node.size() > 1 {
        super::remote::run(args, &node)?;
        node.shutdown()?;
        return Ok(ExitCode::SUCCESS);
    }
    println!("{}", node.describe());
    println!(
        "{:<5} {:<4} {:>6} {:>5} {:>8} {:>9} {:>8} {:>6} {:>9} {:>9} {:>10}",
        "",
        "set",
        "bytes",
        "keys",
        "M rows/s",
        "bare",
        "GB/s",
        "ratio",
        "p50 ns",
        "p99 ns",
        "max ns"
    );
    let mut workers = Vec::new();
    for index in 0..args.threads {
        workers.push(node.worker(index)?);
    }
    let mut cells = Vec::new();
    for &row_bytes in &args.row_bytes {
        let dim = row_bytes / size_of::<f32>();
        let stride = (HEADER_BYTES + row_bytes).next_multiple_of(HEADER_BYTES);
        let rows = ((args.table_mib << 20) / stride).clamp(1024, args.rows_max.max(1024));
        let name = format!("rows-of-{row_bytes}");
        let table = node.create_table(TableSpec::new(name, rows as u64, dim))?;
        let bare = BareRows::new(rows, dim, stride)?;
        for (set, keys) in args.sets(rows) {
            let keys = keys as u64;
            for &batch in &args.batch {
                for push in [false, true] {
                    let cell = Measure { table: &table, bare: &bare, keys, batch, push, dim };
                    let cell = cell.run(args, set, &mut workers)?;
                    println!("{}", line(&cell));
                    cells.push(cell);
                }
            }
        }
    }
    if let Some(path) = &args.json {
        let file = File::create(path).with_context(|| format!("creating {}", path.display()))?;
        serde_json::to_writer_pretty(file, &cells)?;
    }
    Ok(ExitCode::SUCCESS)
}

struct Measure<'a> {
    table: &'a Table,
    bare: &'a BareRows,
    keys: u64,
    batch: usize,
    push: bool,
    dim: usize,
}

impl Measure<'_> {
    fn run(
        &self,
        args: &AccessArgs,
        set: &'static str,
        workers: &mut [Worker],
    ) -> anyhow::Result<Cell> {
        let threads = workers.len();
        let barrier = Barrier::new(threads);
        let slice = Duration::from_millis(args.slice_ms);
        let outcomes = std::thread::scope(|scope| {
            let handles: Vec<_> = workers
                .iter_mut()
                .map(|worker| scope.spawn(|| self.thread(worker, &barrier, slice)))
                .collect();
            let joined = handles.into_iter().map(|handle| handle.join().expect("no panic"));
            joined.collect::<anyhow::Result<Vec<_>>>()
        })?;
        let mut times = histogram();
        let (mut bare, mut own) = (vec![0.0; SLICES], vec![0.0; SLICES]);
        for outcome in outcomes {
            times.add(&outcome.times)?;
            for slice in 0..SLICES {
                bare[slice] += outcome.bare[slice];
                own[slice] += outcome.own[slice];
            }
        }
        let (bare, own) = (median(bare), median(own));
        let row_bytes = self.dim * size_of::<f32>();
        #[allow(clippy::cast_precision_loss, reason = "a rate")]
        let gigabytes_per_second = own * row_bytes as f64 / 1e9;
        Ok(Cell {
            operation: if self.push { "push" } else { "pull" },
            set,
            row_bytes,
            batch: self.batch,
            threads,
            rows_per_second: own,
            bare_rows_per_second: bare,
            ratio: own / bare,
            gigabytes_per_second,
            p50_ns: times.value_at_quantile(0.5),
            p99_ns: times.value_at_quantile(0.99),
            max_ns: times.max(),
            histogram: steps(&times),
        })
    }

    fn thread(
        &self,
        worker: &mut Worker,
        barrier: &Barrier,
        slice: Duration,
    ) -> anyhow::Result<Outcome> {
        worker.pin_thread();
        let mut random = Random(0x5DEE_CE66 + worker.index() as u64);
        let keys: Vec<u64> = (0..CALLS * self.batch).map(|_| random.below(self.keys)).collect();
        let mut buffer = vec![1.0; self.batch * self.dim];
        let mut outcome = Outcome { bare: Vec::new(), own: Vec::new(), times: histogram() };
        for _ in 0..SLICES {
            barrier.wait();
            let rate = rate(&keys, self.batch, slice, None, |keys| {
                if self.push {
                    self.bare.add(keys, &buffer);
                } else {
                    self.bare.copy(keys, &mut buffer);
                }
                Ok(())
            })?;
            outcome.bare.push(rate);
            barrier.wait();
            let times = Some(&mut outcome.times);
            let rate = self::rate(&keys, self.batch, slice, times, |keys| {
                if self.push {
                    worker.push(self.table, keys, &buffer)
                } else {
                    worker.pull(self.table, keys, &mut buffer)
                }
            })?;
            outcome.own.push(rate);
        }
        Ok(outcome)
    }
}

struct Outcome {
    bare: Vec<f64>,
    own: Vec<f64>,
    times: Histogram<u64>,
}

/// Keys per second of calls made for a slice of time; one call in 16 is timed by itself.
fn rate(
    keys: &[u64],
    batch: usize,
    slice: Duration,
    mut times: Option<&mut Histogram<u64>>,
    mut call: impl FnMut(&[u64]) -> sterna::Result<()>,
) -> anyhow::Result<f64> {
    let begun = Instant::now();
    let mut done = 0_u64;
    loop {
        for (index, keys) in keys.chunks_exact(batch).enumerate() {
            let timed = if index % 16 == 0 { times.as_deref_mut() } else { None };
            match timed {
                None => call(keys)?,
                Some(times) => {
                    let begun = Instant::now();
                    call(keys)?;
                    let ns = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
                    times.saturating_record(ns.max(1));
                }
            }
            done += batch as u64;
            if index % 64 == 63 && begun.elapsed() >= slice {
                #[allow(clippy::cast_precision_loss, reason = "a rate")]
                return Ok(done as f64 / begun.elapsed().as_secs_f64());
            }
        }
    }
}

pub(super) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 2).expect("the bounds are valid")
}

/// The steps of a histogram that have calls: upper end, calls.
pub(super) fn steps(times: &Histogram<u64>) -> Vec<(u64, u64)> {
    let recorded = times.iter_recorded();
    recorded.map(|step| (step.value_iterated_to(), step.count_since_last_iteration())).collect()
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

fn line(cell: &Cell) -> String {
    format!(
        "{:<5} {:<4} {:>6} {:>5} {:>8.2} {:>9.2} {:>8.2} {:>6.2} {:>9} {:>9} {:>10}",
        cell.operation,
        cell.set,
        cell.row_bytes,
        cell.batch,
        cell.rows_per_second / 1e6,
        cell.bare_rows_per_second / 1e6,
        cell.gigabytes_per_second,
        cell.ratio,
        cell.p50_ns,
        cell.p99_ns,
        cell.max_ns
    )
}

/// Xorshift: keys need no better randomness.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}
