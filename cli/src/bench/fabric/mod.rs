//! `sterna bench fabric`: what the fabric itself costs, below tables and workers.
//!
//! For each way of reaching a peer: READs and link records by size and depth, each operation timed, and the rate of records in one
//! direction. Slices of a bare equivalent (a copy in memory for shm, a TCP ping-pong for tcp, perftest for verbs) alternate with them in the same run.
//! Without a job in the environment the peer is a second process of this host; with one, rank 0 measures rank 1.

mod bare;
mod cell;
mod pair;
mod perftest;
mod plot;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde::Serialize;
use sterna_rdma::topology::{PinPlan, Topology, pin_current_thread};
use sterna_rdma::{FabricConfig, ProviderChoice, READ_BYTES_MAX, RECORD_BYTES_MAX};

use crate::launch::Job;
use crate::probe::{Party, RECORD_BYTES_MIN, Second, Spread, Waiting};
use cell::Cell;

/// How long either side polls beside perftest.
const PERFTEST_POLL_US: u64 = 20_000;

/// READs, link records and their rate, by size and depth, over every way of reaching a peer.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sterna bench fabric                                              every way that this host has, against a second process\n  \
    sterna bench fabric --fabric tcp --bytes 512 --depth 1,64 --svg tcp.svg\n  \
    STERNA_RANK=0 STERNA_SIZE=2 STERNA_ADDR=hostA:7077 STERNA_TOKEN=... sterna bench fabric    on host A, and with STERNA_RANK=1 on host B\n\n\
    READ: one-sided; timed from its post to its completion. record: there and back through the links, half the round trip; over verbs\n\
    RDMA WRITE with immediate data. stream: records in one direction, as many as the link takes; over verbs RDMA WRITE."
)]
pub(crate) struct FabricArgs {
    /// Which ways to measure (the RDMA port is chosen by itself, or by STERNA_DEVICE, STERNA_DEVICE_PORT, STERNA_GID): shm, tcp, verbs, or all that this host has. In a job: one, or auto as the job would choose.
    #[arg(long, value_delimiter = ',', value_name = "NAMES", value_parser = ["all", "auto", "shm", "tcp", "verbs"])]
    fabric: Vec<String>,

    /// Sizes of READs and records in bytes, multiples of 8.
    #[arg(long, value_delimiter = ',', default_values_t = [64, 512, 4096, 65536], value_name = "BYTES")]
    pub(super) bytes: Vec<usize>,

    /// Operations on their way at a time.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64], value_name = "N")]
    pub(super) depth: Vec<usize>,

    /// Length of a slice in milliseconds.
    #[arg(long, default_value_t = 60, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=60_000))]
    pub(super) slice_ms: u64,

    /// Slices of each side, alternating.
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(super) slices: u32,

    /// Microseconds that either side polls before it sleeps; an engine polls for 50, which is the default. perftest polls without end, so
    /// that beside it the default is 20,000.
    #[arg(long, value_name = "US", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    poll_us: Option<u64>,

    /// Also time batches of so many rows: a READ each through one lane, the same spread over two and four lanes, and rows that the peer
    /// gathers into one record. For sizes of which a batch fits into a record.
    #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(super) batch: Option<u32>,

    /// Beside verbs, run perftest (ib_read_lat, ib_send_lat, ib_read_bw, ib_write_bw) in alternating slices with as many operations.
    #[arg(long)]
    pub(super) perftest: bool,

    /// Write all figures with their histograms as JSON to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Draw latencies and rates to this file.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

impl FabricArgs {
    /// How long to poll, if not as long as an engine.
    fn poll_limit(&self) -> Option<Duration> {
        self.poll_us.or(self.perftest.then_some(PERFTEST_POLL_US)).map(Duration::from_micros)
    }
}

/// All that was measured.
#[derive(Debug, Serialize)]
struct Measured {
    version: &'static str,
    machine: String,
    /// What a reader must know before comparing the figures with others.
    notes: Vec<String>,
    cells: Vec<Cell>,
    batches: Vec<Batch>,
}

/// Batches of rows that came in one way.
#[derive(Debug, Serialize)]
struct Batch {
    provider: &'static str,
    bytes: usize,
    rows: usize,
    way: &'static str,
    #[serde(flatten)]
    spread: Spread,
}

/// Measures and prints.
pub(crate) fn run(args: &FabricArgs) -> anyhow::Result<ExitCode> {
    check(args)?;
    let mut config = FabricConfig::from_env()?;
    let machine = super::machine();
    let mut measured = Measured {
        version: env!("CARGO_PKG_VERSION"),
        machine,
        notes: Vec::new(),
        cells: Vec::new(),
        batches: Vec::new(),
    };
    if config.size > 1 {
        match args.fabric.as_slice() {
            [] => {}
            [one] if one != "all" => config.choice = ProviderChoice::parse(one)?,
            _ => anyhow::bail!("a job is measured over one --fabric at a time"),
        }
        let host = rendezvous_host(&config)?;
        let (waiting, pinned) = place(args, &config);
        let mut party = Party::join(config, waiting)?;
        if party.rank().index() > 0 {
            pair::serve(party, &host)?;
            return Ok(ExitCode::SUCCESS);
        }
        println!("{}\n{pinned}", measured.machine);
        pair::measure(args, &mut party, &host, &mut measured)?;
    } else {
        println!("{}", measured.machine);
        for name in names(args) {
            if let Err(reason) = is_there(name) {
                let note = format!("{name} was not measured: {reason:#}");
                ensure!(!args.fabric.iter().any(|asked| asked == name), "{note}");
                println!("\n{note}");
                measured.notes.push(note);
                continue;
            }
            second_process(args, name, &mut measured)?;
        }
    }
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&measured)?;
        fs::write(path, text).with_context(|| format!("writing {}", path.display()))?;
    }
    if let Some(path) = &args.svg {
        fs::write(path, plot::svg(&measured))
            .with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn check(args: &FabricArgs) -> anyhow::Result<()> {
    let max = READ_BYTES_MAX.min(RECORD_BYTES_MAX);
    for &bytes in &args.bytes {
        ensure!(
            (RECORD_BYTES_MIN..=max).contains(&bytes) && bytes.is_multiple_of(8),
            "--bytes {bytes}: sizes are multiples of 8 from {RECORD_BYTES_MIN} to {max}"
        );
    }
    for &depth in &args.depth {
        ensure!((1..=4096).contains(&depth), "--depth {depth}: depths are from 1 to 4096");
    }
    Ok(())
}

/// The ways to measure with a second process.
fn names(args: &FabricArgs) -> Vec<&str> {
    let all =
        args.fabric.is_empty() || args.fabric.iter().any(|name| name == "all" || name == "auto");
    if all { vec!["shm", "tcp", "verbs"] } else { args.fabric.iter().map(String::as_str).collect() }
}

/// Whether this host and this program have it.
fn is_there(name: &str) -> anyhow::Result<()> {
    if name == "verbs" {
        sterna_rdma::verbs::devices()?;
    }
    ProviderChoice::parse(name)?;
    Ok(())
}

/// Measures one way against a second process of this host.
fn second_process(args: &FabricArgs, name: &str, measured: &mut Measured) -> anyhow::Result<()> {
    let job = Job::on_this_host(2)?;
    let poll_us = args.poll_limit().map(|limit| limit.as_micros().to_string());
    let mut arguments = vec!["bench", "fabric"];
    arguments.extend(poll_us.iter().flat_map(|us| ["--poll-us", us.as_str()]));
    let second = Second::start(&job, name, &arguments)?;
    let mut config = job.config(0)?;
    config.choice = ProviderChoice::parse(name)?;
    let host = rendezvous_host(&config)?;
    let (waiting, _) = place(args, &config);
    let mut party = Party::join(config, waiting)?;
    pair::measure(args, &mut party, &host, measured)?;
    second.finish()
}

/// Puts this thread on a CPU of its own, if the parties of this host have one each, and says where.
fn place(args: &FabricArgs, config: &FabricConfig) -> (Waiting, String) {
    let parties = config.local_size.unwrap_or(1);
    let topology = Topology::read();
    let mut waiting = Waiting::for_parties(&topology, parties);
    if let Some(limit) = args.poll_limit() {
        waiting = waiting.polling_for(limit);
    }
    let plan = PinPlan::new(&topology, 1, config.local_rank.unwrap_or(0), parties);
    let cpu = plan.workers.first().filter(|&&cpu| pin_current_thread(cpu));
    let text = cpu.map_or_else(|| "not pinned".to_owned(), |cpu| format!("pinned to CPU {cpu}"));
    (waiting, text)
}

/// Where rank 0 can be reached.
fn rendezvous_host(config: &FabricConfig) -> anyhow::Result<String> {
    let address = config.rendezvous.as_deref().context("a job needs a place to meet")?;
    let (host, _) = address.rsplit_once(':').context("STERNA_ADDR is host:port")?;
    Ok(host.trim_matches(['[', ']']).to_owned())
}
