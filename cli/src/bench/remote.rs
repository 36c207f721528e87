//! `sterna bench access --nodes N`: how fast rows of another process are read and updated.
//!
//! One worker of rank 0 accesses rows of rank 1, which does nothing but hold them. Beside each pull stands a bare ping-pong over a blocking
//! TCP connection between the same two processes, with as many bytes there and back, in alternating slices of one run.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use anyhow::Context;
use hdrhistogram::Histogram;
use sterna::{Node, Table, TableSpec, Worker};

use super::access::{AccessArgs, histogram};

/// Keys of rank 1 that are used.
const KEYS: usize = 1 << 16;

/// Alternating slices of each side.
const SLICES: usize = 5;

/// The longest wait for the other side of the ping-pong.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// Measures from rank 0; the other ranks hold rows and answer.
pub(super) fn run(args: &AccessArgs, node: &Node) -> anyhow::Result<()> {
    let mut worker = node.worker(0)?;
    worker.pin_thread();
    let first = node.rank().index() == 0;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut port = [0.0];
    if node.rank().index() == 1 {
        port[0] = f64::from(listener.local_addr()?.port());
        std::thread::spawn(move || answer(&listener));
    }
    worker.all_reduce_sum(&mut port)?;
    let mut echo = None;
    if first {
        println!("{}", node.describe());
        println!(
            "{:<5} {:>6} {:>5} {:>10} {:>10} {:>10} {:>10} {:>9} {:>7}",
            "", "bytes", "keys", "p50 ns", "p99 ns", "max ns", "M rows/s", "TCP p50", "ratio"
        );
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a port")]
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port[0] as u16))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        echo = Some(stream);
    }
    for &row_bytes in &args.row_bytes {
        let dim = row_bytes / size_of::<f32>();
        let rows = ((args.table_mib << 20) / (row_bytes + 16)).clamp(4096, args.rows_max.max(4096));
        let table =
            node.create_table(TableSpec::new(format!("rows-of-{row_bytes}"), rows as u64, dim))?;
        if let Some(echo) = &mut echo {
            let keys = keys_elsewhere(&mut worker, &table)?;
            for &batch in &args.batch {
                Cell { table: &table, keys: &keys, batch, row_bytes }.run(
                    args,
                    &mut worker,
                    echo,
                )?;
            }
        }
        worker.barrier()?;
    }
    Ok(())
}

/// Keys that are not at home at this node, in an order without order.
fn keys_elsewhere(worker: &mut Worker, table: &Table) -> anyhow::Result<Vec<u64>> {
    let mut row = vec![0.0; table.dim()];
    let mut keys = Vec::new();
    let stride = (0x9E37_79B9_7F4A_7C15_u64 % table.keys()) | 1;
    let mut key = 0;
    for _ in 0..table.keys() {
        key = (key + stride) % table.keys();
        if !worker.pull_if_local(table, key, &mut row)? {
            keys.push(key);
        }
        if keys.len() == KEYS {
            break;
        }
    }
    anyhow::ensure!(!keys.is_empty(), "no row is at home elsewhere");
    Ok(keys)
}

struct Cell<'a> {
    table: &'a Table,
    keys: &'a [u64],
    batch: usize,
    row_bytes: usize,
}

impl Cell<'_> {
    fn run(
        &self,
        args: &AccessArgs,
        worker: &mut Worker,
        echo: &mut TcpStream,
    ) -> anyhow::Result<()> {
        let slice = Duration::from_millis(args.slice_ms);
        let mut rows = vec![1.0; self.batch * self.table.dim()];
        let mut times = [histogram(), histogram(), histogram()];
        for _ in 0..SLICES {
            let [pull, push, bare] = &mut times;
            self.slice(slice, pull, |keys| worker.pull(self.table, keys, &mut rows))?;
            self.slice(slice, push, |keys| worker.add(self.table, keys, &rows))?;
            worker.flush()?;
            let (there, back) = (8 * (1 + self.batch), self.batch * self.row_bytes);
            let mut buffer = vec![0; there.max(back)];
            let begun = Instant::now();
            while begun.elapsed() < slice {
                let started = Instant::now();
                buffer[..4].copy_from_slice(&u32::try_from(there)?.to_le_bytes());
                buffer[4..8].copy_from_slice(&u32::try_from(back)?.to_le_bytes());
                echo.write_all(&buffer[..there]).context("the ping of the bare connection")?;
                echo.read_exact(&mut buffer[..back]).context("the pong of the bare connection")?;
                record(bare, started);
            }
        }
        let [pull, push, bare] = &times;
        #[allow(clippy::cast_precision_loss, reason = "a rate, a ratio")]
        for (name, times) in [("pull", pull), ("push", push)] {
            let (p50, limit) = (times.value_at_quantile(0.5), bare.value_at_quantile(0.5));
            println!(
                "{name:<5} {:>6} {:>5} {p50:>10} {:>10} {:>10} {:>10.3} {limit:>9} {:>7.2}",
                self.row_bytes,
                self.batch,
                times.value_at_quantile(0.99),
                times.max(),
                self.batch as f64 * 1e3 / p50 as f64,
                p50 as f64 / limit as f64
            );
        }
        Ok(())
    }

    /// Calls for a slice of time, each timed.
    fn slice(
        &self,
        slice: Duration,
        times: &mut Histogram<u64>,
        mut call: impl FnMut(&[u64]) -> sterna::Result<()>,
    ) -> anyhow::Result<()> {
        let begun = Instant::now();
        let mut calls = self.keys.chunks_exact(self.batch.min(self.keys.len())).cycle();
        while begun.elapsed() < slice {
            let keys = calls.next().expect("a cycle has no end");
            let started = Instant::now();
            call(keys)?;
            record(times, started);
        }
        Ok(())
    }
}

fn record(times: &mut Histogram<u64>, started: Instant) {
    times.saturating_record(u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1));
}

/// The other side of the ping-pong, until the connection ends.
fn answer(listener: &TcpListener) {
    let Ok((mut stream, _)) = listener.accept() else { return };
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
