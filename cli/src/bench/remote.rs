//! `sterna bench access --nodes N`: how fast rows of other processes are read and updated.
//!
//! The workers of rank 0 access rows of the other ranks, which do nothing but hold them. Beside each pull stands a bare ping-pong over a
//! blocking TCP connection to rank 1, one for each thread, with as many bytes there and back, in alternating slices of one run.

use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use hdrhistogram::Histogram;
use serde::Serialize;
use sterna::{Node, Table, TableSpec, Worker};

use super::access::{AccessArgs, HEADER_BYTES, histogram, steps};

/// Most keys of other ranks that the wide set has.
const KEYS: usize = 1 << 16;

/// Alternating slices of each side.
const SLICES: u32 = 5;

/// The longest wait for the other side of the ping-pong.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// Measures from rank 0; the other ranks hold rows and answer.
pub(super) fn run(args: &AccessArgs, node: &Node) -> anyhow::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    if node.rank().index() == 1 {
        std::thread::spawn(move || answer_all(&listener));
    }
    if node.rank().index() == 0 {
        println!("{}", node.describe());
        println!(
            "{:<5} {:<4} {:>6} {:>5} {:>10} {:>10} {:>10} {:>9} {:>7} {:>9} {:>7}",
            "",
            "set",
            "bytes",
            "keys",
            "p50 ns",
            "p99 ns",
            "max ns",
            "M rows/s",
            "GB/s",
            "TCP p50",
            "ratio"
        );
    }
    let shared = Shared {
        args,
        node,
        tables: Mutex::default(),
        outcomes: Mutex::default(),
        lines: Mutex::default(),
    };
    let workers: Vec<Worker> =
        (0..args.threads).map(|index| node.worker(index)).collect::<sterna::Result<_>>()?;
    std::thread::scope(|scope| {
        let run = |worker| Thread { shared: &shared, worker, echo: None }.run(port);
        let threads: Vec<_> =
            workers.into_iter().map(|worker| scope.spawn(move || run(worker))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("no panic"))
    })?;
    if let (Some(path), 0) = (&args.json, node.rank().index()) {
        let file = File::create(path).with_context(|| format!("creating {}", path.display()))?;
        serde_json::to_writer_pretty(file, &*lock(&shared.lines))?;
    }
    Ok(())
}

/// One line of the table.
#[derive(Debug, Serialize)]
struct Line {
    operation: &'static str,
    set: &'static str,
    row_bytes: usize,
    batch: usize,
    threads: usize,
    p50_ns: u64,
    p99_ns: u64,
    max_ns: u64,
    rows_per_second: f64,
    gigabytes_per_second: f64,
    tcp_p50_ns: u64,
    /// Of the call's median to that of the ping-pong.
    ratio: f64,
    /// Upper ends of its steps in nanoseconds, and calls of each.
    histogram: Vec<(u64, u64)>,
}

/// What the threads of a node have in common.
struct Shared<'a> {
    args: &'a AccessArgs,
    node: &'a Node,
    tables: Mutex<Vec<Table>>,
    outcomes: Mutex<Vec<Outcome>>,
    lines: Mutex<Vec<Line>>,
}

/// One worker, at rank 0 with a bare connection of its own. All threads of all ranks go through the same meetings, so that a failure of one
/// ends all.
struct Thread<'a> {
    shared: &'a Shared<'a>,
    worker: Worker,
    echo: Option<TcpStream>,
}

impl Thread<'_> {
    fn run(mut self, port: u16) -> anyhow::Result<()> {
        let Shared { args, node, tables, .. } = self.shared;
        self.worker.pin_thread();
        let tells = node.rank().index() == 1 && self.worker.index() == 0;
        let mut ports = [if tells { f64::from(port) } else { 0.0 }];
        self.worker.all_reduce_sum(&mut ports)?;
        if node.rank().index() == 0 {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a port")]
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, ports[0] as u16))?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(ANSWER_LIMIT))?;
            self.echo = Some(stream);
        }
        for (index, &row_bytes) in args.row_bytes.iter().enumerate() {
            if self.worker.index() == 0 {
                let rows = (args.table_mib << 20) / (row_bytes + HEADER_BYTES);
                let rows = rows.clamp(4096, args.rows_max.max(4096)) as u64;
                let dim = row_bytes / size_of::<f32>();
                let spec = TableSpec::new(format!("rows-of-{row_bytes}"), rows, dim);
                lock(tables).push(node.create_table(spec)?);
            }
            self.worker.barrier()?;
            let table = lock(tables)[index].clone();
            let keys = if self.echo.is_some() { self.keys_elsewhere(&table)? } else { Vec::new() };
            for (set, count) in args.sets(KEYS) {
                for &batch in &args.batch {
                    let keys = self.keys_of_thread(&keys, count, batch);
                    self.cell(&Cell { set, table: &table, keys, batch, row_bytes })?;
                }
            }
        }
        Ok(())
    }

    /// Keys that are not at home at this node, in an order without order.
    fn keys_elsewhere(&mut self, table: &Table) -> anyhow::Result<Vec<u64>> {
        let mut row = vec![0.0; table.dim()];
        let mut keys = Vec::new();
        let stride = (0x9E37_79B9_7F4A_7C15_u64 % table.keys()) | 1;
        let mut key = 0;
        for _ in 0..table.keys() {
            key = (key + stride) % table.keys();
            if !self.worker.pull_if_local(table, key, &mut row)? {
                keys.push(key);
            }
            if keys.len() == KEYS {
                break;
            }
        }
        anyhow::ensure!(!keys.is_empty(), "no row is at home elsewhere");
        Ok(keys)
    }

    /// The first `count` of `keys`, from a place of this thread's own on, as whole calls.
    fn keys_of_thread(&self, keys: &[u64], count: usize, batch: usize) -> Vec<u64> {
        let count = count.min(keys.len());
        let turn = self.worker.index() * count / self.shared.args.threads;
        let turned = keys[turn..count].iter().chain(&keys[..turn]);
        turned.copied().cycle().take(count.next_multiple_of(batch)).collect()
    }

    /// Measures at rank 0, and prints what its threads found together.
    fn cell(&mut self, cell: &Cell<'_>) -> anyhow::Result<()> {
        let mut outcome = Outcome::default();
        for _ in 0..SLICES {
            self.worker.barrier()?;
            if let Some(echo) = &mut self.echo {
                let length = Duration::from_millis(self.shared.args.slice_ms);
                cell.slices(length, &mut self.worker, echo, &mut outcome)?;
            }
        }
        lock(&self.shared.outcomes).push(outcome);
        self.worker.barrier()?;
        if self.worker.index() == 0 {
            let outcomes = std::mem::take(&mut *lock(&self.shared.outcomes));
            if self.echo.is_some() {
                let lines = cell.lines(outcomes)?;
                lines.iter().for_each(|line| println!("{line}"));
                lock(&self.shared.lines).extend(lines);
            }
        }
        Ok(())
    }
}

/// What one thread measured.
#[derive(Default)]
struct Outcome {
    pull: Timed,
    push: Timed,
    bare: Timed,
}

/// Calls of one kind: the time of each, and of all together.
struct Timed {
    calls: Histogram<u64>,
    total: Duration,
}

impl Default for Timed {
    fn default() -> Self {
        Self { calls: histogram(), total: Duration::ZERO }
    }
}

struct Cell<'a> {
    set: &'static str,
    table: &'a Table,
    keys: Vec<u64>,
    batch: usize,
    row_bytes: usize,
}

impl Cell<'_> {
    /// One slice of each kind.
    fn slices(
        &self,
        length: Duration,
        worker: &mut Worker,
        echo: &mut TcpStream,
        outcome: &mut Outcome,
    ) -> anyhow::Result<()> {
        let mut rows = vec![1.0; self.batch * self.table.dim()];
        let mut calls = self.keys.chunks_exact(self.batch).cycle();
        let mut next = || calls.next().expect("a cycle has no end");
        outcome.pull.slice(length, || Ok(worker.pull(self.table, next(), &mut rows)?))?;
        outcome.push.slice(length, || Ok(worker.add(self.table, next(), &rows)?))?;
        // What is on its way counts with the pushes.
        let started = Instant::now();
        worker.flush()?;
        outcome.push.total += started.elapsed();
        let (there, back) = (8 * (1 + self.batch), self.batch * self.row_bytes);
        let mut buffer = vec![0; there.max(back)];
        let (ping, pong) =
            (u32::try_from(there)?.to_le_bytes(), u32::try_from(back)?.to_le_bytes());
        outcome.bare.slice(length, || {
            buffer[..4].copy_from_slice(&ping);
            buffer[4..8].copy_from_slice(&pong);
            echo.write_all(&buffer[..there]).context("the ping of the bare connection")?;
            echo.read_exact(&mut buffer[..back]).context("the pong of the bare connection")
        })
    }

    /// What the threads found together, of pulls and of pushes.
    fn lines(&self, outcomes: Vec<Outcome>) -> anyhow::Result<[Line; 2]> {
        let threads = outcomes.len();
        let (mut pull, mut push, mut bare) = (histogram(), histogram(), histogram());
        let mut rates = [0.0; 2];
        for outcome in outcomes {
            for (rate, timed) in rates.iter_mut().zip([&outcome.pull, &outcome.push]) {
                *rate += timed.rows_per_second(self.batch);
            }
            pull.add(outcome.pull.calls)?;
            push.add(outcome.push.calls)?;
            bare.add(outcome.bare.calls)?;
        }
        let tcp_p50_ns = bare.value_at_quantile(0.5);
        #[allow(clippy::cast_precision_loss, reason = "a rate, a ratio of times")]
        let line = |operation, times: &Histogram<u64>, rate: f64| {
            let p50_ns = times.value_at_quantile(0.5);
            Line {
                operation,
                set: self.set,
                row_bytes: self.row_bytes,
                batch: self.batch,
                threads,
                p50_ns,
                p99_ns: times.value_at_quantile(0.99),
                max_ns: times.max(),
                rows_per_second: rate,
                gigabytes_per_second: rate * self.row_bytes as f64 / 1e9,
                tcp_p50_ns,
                ratio: p50_ns as f64 / tcp_p50_ns as f64,
                histogram: steps(times),
            }
        };
        Ok([line("pull", &pull, rates[0]), line("push", &push, rates[1])])
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<5} {:<4} {:>6} {:>5} {:>10} {:>10} {:>10} {:>9.3} {:>7.2} {:>9} {:>7.2}",
            self.operation,
            self.set,
            self.row_bytes,
            self.batch,
            self.p50_ns,
            self.p99_ns,
            self.max_ns,
            self.rows_per_second / 1e6,
            self.gigabytes_per_second,
            self.tcp_p50_ns,
            self.ratio
        )
    }
}

impl Timed {
    /// Calls for a slice of time.
    fn slice(
        &mut self,
        length: Duration,
        mut call: impl FnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let begun = Instant::now();
        // One at least, however late this thread gets to run.
        loop {
            let started = Instant::now();
            call()?;
            let ns = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
            self.calls.saturating_record(ns.max(1));
            if begun.elapsed() >= length {
                break;
            }
        }
        self.total += begun.elapsed();
        Ok(())
    }

    #[allow(clippy::cast_precision_loss, reason = "a rate")]
    fn rows_per_second(&self, batch: usize) -> f64 {
        (self.calls.len() * batch as u64) as f64 / self.total.as_secs_f64()
    }
}

/// The other side of the ping-pongs, until the process ends.
fn answer_all(listener: &TcpListener) {
    for stream in listener.incoming().flatten() {
        std::thread::spawn(move || answer(stream));
    }
}

/// One ping-pong, until its connection ends.
fn answer(mut stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let mut buffer = vec![0; 8];
    loop {
        if stream.read_exact(&mut buffer[..8]).is_err() {
            return;
        }
        let word = |at: usize| {
            u32::from_le_bytes(buffer[at..at + 4].try_into().expect("four bytes")) as usize
        };
        let (there, back) = (word(0), word(4));
        buffer.resize(there.max(back).max(8), 0);
        let answered = stream
            .read_exact(&mut buffer[8..there.max(8)])
            .and_then(|()| stream.write_all(&buffer[..back]));
        if answered.is_err() {
            return;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // A thread that panicked is reported when it is joined.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
