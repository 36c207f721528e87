//! The two sides of a measurement: rank 0 measures, rank 1 serves.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use sterna_rdma::{FabricConfig, Rank};

use super::bare::{Copies, PingPong, answer};
use super::cell::{Bare, Cell, Operation, heading};
use super::perftest::{self, Address, Server, Tool};
use super::{Batch, FabricArgs, Measured};
use crate::probe::{BatchPlan, EchoPlan, Party, ReadPlan, Times, Way};

/// What rank 0 asks of rank 1 besides what every party does.
#[derive(Debug, Serialize, Deserialize)]
enum Request {
    /// Connect to this port of rank 0's host and be the other side of a ping-pong. The nonce shows who you are.
    PingPong { port: u16, nonce: u64 },
    /// Start the server of a run of perftest and say where it listens.
    Perftest(perftest::Plan),
}

/// Bytes of a link's ring, and records that may lie in it over verbs: how deep records in one direction can be.
const RING_BYTES: usize = 1 << 20;
const RING_RECORDS: usize = 256;

/// Serves until rank 0 has finished.
pub(super) fn serve(mut party: Party, host: &str) -> anyhow::Result<()> {
    // The last run's server, which has ended before the next one is asked for.
    let mut _server = None;
    while let Some((from, message)) = party.serve()? {
        match serde_json::from_slice(&message).context("a request of rank 0")? {
            Request::PingPong { port, nonce } => {
                let host = host.to_owned();
                std::thread::spawn(move || answer(&host, port, nonce));
            }
            Request::Perftest(plan) => {
                let started = Server::start(&plan, host).map_err(|error| format!("{error:#}"));
                let address = started.map(|(server, address)| {
                    _server = Some(server);
                    address
                });
                party.message(from, &serde_json::to_vec(&address)?)?;
            }
        }
    }
    Ok(())
}

/// What runs beside a measurement.
enum Beside {
    Copies(Box<Copies>),
    PingPong(PingPong),
    Perftest,
    Nothing,
}

/// Measures everything between this party and rank 1, prints it and adds it to `measured`.
pub(super) fn measure(
    args: &FabricArgs,
    party: &mut Party,
    host: &str,
    measured: &mut Measured,
) -> anyhow::Result<()> {
    let peer = Rank(1);
    let provider = party.fabric().provider(peer).name();
    println!("\n{provider}: {}", party.fabric().describe());
    if provider == "verbs" && is_software()? {
        let note = "verbs goes over a device in software (soft-RoCE): these figures show that it works, not what RDMA does";
        println!("{note}");
        measured.notes.push(note.to_owned());
    }
    let mut beside = match provider {
        "shm" => Beside::Copies(Box::new(Copies::new()?)),
        "tcp" => Beside::PingPong(PingPong::open(host, |port, nonce| {
            party.message(peer, &serde_json::to_vec(&Request::PingPong { port, nonce })?)
        })?),
        "verbs" if args.perftest => Beside::Perftest,
        _ => Beside::Nothing,
    };
    println!("{}", heading());
    for operation in [Operation::Read, Operation::Record, Operation::Stream] {
        let depths = if operation == Operation::Stream { &[0][..] } else { &args.depth };
        for &bytes in &args.bytes {
            for &depth in depths {
                let slices = Slices { args, peer, operation, bytes, depth };
                let (times, bare) = slices.run(party, &mut beside)?;
                let cell = Cell::new(provider, operation, bytes, depth, &times, bare);
                println!("{}", cell.line());
                measured.cells.push(cell);
            }
        }
    }
    if let Some(rows) = args.batch {
        batches(args, party, provider, rows as usize, measured)?;
    }
    party.stop_all();
    Ok(())
}

/// Batches of rows in each way, alternating.
fn batches(
    args: &FabricArgs,
    party: &mut Party,
    provider: &'static str,
    rows: usize,
    measured: &mut Measured,
) -> anyhow::Result<()> {
    let ways = [
        ("1 lane", Way::Lanes(1)),
        ("2 lanes", Way::Lanes(2)),
        ("4 lanes", Way::Lanes(4)),
        ("a record", Way::Gathered),
    ];
    println!("batches of {rows} rows: us of the median batch (million rows/s)");
    for &bytes in args.bytes.iter().filter(|bytes| BatchPlan::fits_a_record(**bytes, rows)) {
        let mut times = ways.map(|_| Times::new());
        for slice in 0..=args.slices {
            for ((_, way), times) in ways.iter().zip(&mut times) {
                let duration = Duration::from_millis(args.slice_ms);
                let plan = BatchPlan { peer: Rank(1), bytes, rows, way: *way, duration };
                let own = party.batches(&plan)?;
                // The first slice warms up.
                if slice > 0 {
                    times.add(&own);
                }
            }
        }
        let mut line = format!("batch  {bytes:>6}");
        for ((way, _), times) in ways.iter().zip(&times) {
            let spread = times.spread();
            #[allow(clippy::cast_precision_loss, reason = "a rate")]
            let rate = rows as f64 / spread.p50_us;
            let _ = write!(line, "   {way} {:.1} ({rate:.3})", spread.p50_us);
            measured.batches.push(Batch { provider, bytes, rows, way, spread });
        }
        println!("{line}");
    }
    Ok(())
}

/// One cell of the table.
struct Slices<'a> {
    args: &'a FabricArgs,
    peer: Rank,
    operation: Operation,
    bytes: usize,
    depth: usize,
}

impl Slices<'_> {
    /// Alternating slices of both sides.
    fn run(&self, party: &mut Party, beside: &mut Beside) -> anyhow::Result<(Times, Option<Bare>)> {
        let (mut times, mut bare_times, mut figures) = (Times::new(), Times::new(), Vec::new());
        // The first slice warms caches, connections and buffers and does not count.
        for slice in 0..=self.args.slices {
            let own = self.own(party)?;
            let bare = self.bare(party, beside, &own)?;
            if slice == 0 {
                continue;
            }
            times.add(&own);
            match bare {
                Some(BareSlice::Times(bare)) => bare_times.add(&bare),
                Some(BareSlice::Figure(bare)) => figures.push(bare),
                None => {}
            }
        }
        let spread = bare_times.spread();
        let bare =
            if spread.count > 0 { Some(Bare::P50Us(spread.p50_us)) } else { median(figures) };
        Ok((times, bare))
    }

    fn duration(&self) -> Duration {
        Duration::from_millis(self.args.slice_ms)
    }

    fn own(&self, party: &mut Party) -> anyhow::Result<Times> {
        let Self { peer, bytes, depth, .. } = *self;
        let duration = self.duration();
        match self.operation {
            Operation::Read => party.read(&ReadPlan { peer, bytes, depth, duration, check: false }),
            Operation::Record => party.echo(&EchoPlan { peer, bytes, depth, duration }),
            Operation::Stream => party.stream(peer, bytes, duration),
        }
    }

    /// The bare equivalent, where there is one.
    fn bare(
        &self,
        party: &mut Party,
        beside: &mut Beside,
        own: &Times,
    ) -> anyhow::Result<Option<BareSlice>> {
        let (bytes, duration) = (self.bytes, self.duration());
        let times = match (self.operation, beside) {
            (_, Beside::Perftest) => {
                let figure = self.perftest(party, own)?;
                return Ok(figure.map(BareSlice::Figure));
            }
            (Operation::Read, Beside::Copies(copies)) if self.depth == 1 => {
                copies.run(bytes, duration)
            }
            // A READ asks with few bytes; an echo sends as many as it gets.
            (Operation::Read, Beside::PingPong(echo)) if self.depth == 1 => {
                echo.run(16, bytes, 1, duration)?
            }
            (Operation::Record, Beside::PingPong(echo)) if self.depth == 1 => {
                echo.run(bytes, bytes, 2, duration)?
            }
            _ => return Ok(None),
        };
        Ok(Some(BareSlice::Times(times)))
    }

    /// A run of the program that measures the same.
    fn perftest(&self, party: &mut Party, own: &Times) -> anyhow::Result<Option<Bare>> {
        let bytes = self.bytes;
        let (tool, depth) = match (self.operation, self.depth) {
            (Operation::Read, 1) => (Tool::ReadLatency, 1),
            (Operation::Read, depth) => (Tool::ReadRate, depth),
            (Operation::Record, 1) => (Tool::SendLatency, 1),
            (Operation::Stream, _) => {
                (Tool::WriteRate, (RING_BYTES / bytes).clamp(1, RING_RECORDS))
            }
            // It has no echoes of several messages at a time.
            (Operation::Record, _) => return Ok(None),
        };
        let plan = perftest::Plan::new(tool, bytes, depth, own.operations(bytes));
        party.message(self.peer, &serde_json::to_vec(&Request::Perftest(plan))?)?;
        let answer: Result<Address, String> = serde_json::from_slice(&party.answer(self.peer)?)?;
        let server = answer.map_err(|error| anyhow::anyhow!("{}: {error}", self.peer))?;
        perftest::run(&plan, server)
    }
}

/// A slice of what runs beside.
enum BareSlice {
    Times(Times),
    Figure(Bare),
}

/// The middle one of figures of one kind.
fn median(mut figures: Vec<Bare>) -> Option<Bare> {
    let value = |bare: &Bare| match *bare {
        Bare::P50Us(value) | Bare::MegabytesPerSecond(value) => value,
    };
    figures.sort_by(|a, b| value(a).total_cmp(&value(b)));
    figures.get(figures.len() / 2).copied()
}

/// Whether the RDMA device that this host uses is done in software.
fn is_software() -> anyhow::Result<bool> {
    Ok(sterna_rdma::verbs::chosen(&FabricConfig::rdma_from_env()?, None)?.is_software)
}
