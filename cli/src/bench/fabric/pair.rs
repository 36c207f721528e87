//! The two sides of a measurement: rank 0 measures, rank 1 serves.

use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use sterna_rdma::Rank;

use super::bare::{Copies, PingPong, answer};
use super::cell::{Cell, Operation, heading};
use super::{FabricArgs, Measured};
use crate::probe::{EchoPlan, Party, ReadPlan, Times};

/// What rank 0 asks of rank 1 besides what every party does.
#[derive(Debug, Serialize, Deserialize)]
enum Request {
    /// Connect to this port of rank 0's host and be the other side of a ping-pong. The nonce shows who you are.
    PingPong { port: u16, nonce: u64 },
}

/// Serves until rank 0 has finished.
pub(super) fn serve(mut party: Party, host: &str) -> anyhow::Result<()> {
    while let Some((_, message)) = party.serve()? {
        match serde_json::from_slice(&message).context("a request of rank 0")? {
            Request::PingPong { port, nonce } => {
                let host = host.to_owned();
                std::thread::spawn(move || answer(&host, port, nonce));
            }
        }
    }
    Ok(())
}

/// What stands beside a measurement.
enum Bare {
    Copies(Box<Copies>),
    PingPong(PingPong),
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
    if provider == "verbs" && is_software() {
        let note = "verbs goes over a device in software (soft-RoCE): these figures show that it works, not what RDMA does";
        println!("{note}");
        measured.notes.push(note.to_owned());
    }
    let mut bare = match provider {
        "shm" => Bare::Copies(Box::new(Copies::new()?)),
        "tcp" => Bare::PingPong(PingPong::open(host, |port, nonce| {
            party.message(peer, &serde_json::to_vec(&Request::PingPong { port, nonce })?)
        })?),
        _ => Bare::Nothing,
    };
    println!("{}", heading());
    for operation in [Operation::Read, Operation::Record, Operation::Stream] {
        let depths = if operation == Operation::Stream { &[0][..] } else { &args.depth };
        for &bytes in &args.bytes {
            for &depth in depths {
                let (times, beside) =
                    Slices { args, peer, operation, bytes, depth }.run(party, &mut bare)?;
                let cell = Cell::new(provider, operation, bytes, depth, &times, beside.as_ref());
                println!("{}", cell.line());
                measured.cells.push(cell);
            }
        }
    }
    party.stop_all();
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
    fn run(&self, party: &mut Party, bare: &mut Bare) -> anyhow::Result<(Times, Option<Times>)> {
        let (mut times, mut beside) = (Times::new(), Times::new());
        // The first slice warms caches, connections and buffers and does not count.
        for slice in 0..=self.args.slices {
            let own = self.own(party)?;
            let other = self.bare(bare)?;
            if slice > 0 {
                times.add(&own);
                if let Some(other) = other {
                    beside.add(&other);
                }
            }
        }
        let beside = (beside.spread().count > 0).then_some(beside);
        Ok((times, beside))
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
    fn bare(&self, bare: &mut Bare) -> anyhow::Result<Option<Times>> {
        let (bytes, duration) = (self.bytes, self.duration());
        Ok(match (self.operation, bare) {
            (Operation::Read, Bare::Copies(copies)) if self.depth == 1 => {
                Some(copies.run(bytes, duration))
            }
            // A READ asks with few bytes; an echo sends as many as it gets.
            (Operation::Read, Bare::PingPong(echo)) if self.depth == 1 => {
                Some(echo.run(16, bytes, 1, duration)?)
            }
            (Operation::Record, Bare::PingPong(echo)) if self.depth == 1 => {
                Some(echo.run(bytes, bytes, 2, duration)?)
            }
            _ => None,
        })
    }
}

/// Whether every RDMA device of this host is done in software.
fn is_software() -> bool {
    let devices = sterna_rdma::verbs::devices().unwrap_or_default();
    devices.iter().flat_map(|entry| &entry.device).all(|device| device.is_software)
}
