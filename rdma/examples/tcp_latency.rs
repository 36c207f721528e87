//! How long a one-sided READ over sockets takes, beside a bare blocking TCP ping-pong of the same
//! size in the same run. Two processes of this program; rounds of both alternate.
//!
//! `cargo run --release -p sterna-rdma --example tcp_latency`

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sterna_rdma::{
    Fabric, FabricConfig, LostReason, ProviderChoice, Rank, Read, ReadLane, RegionId, RegionSpec,
    RegionToken, Rights, Sink, job,
};

const ROW_BYTES: usize = 512;
const ROW_LEN: u32 = 512;
const REGION_BYTES: usize = 64 << 20;
const ROUNDS: usize = 20;
const OPERATIONS: usize = 2000;
const BATCH: usize = 256;
/// How long the owner's engine polls after work before it sleeps, as a node's engine does.
const SPIN: Duration = Duration::from_micros(50);

type Failure = Box<dyn std::error::Error>;

#[derive(Default)]
struct Inbox {
    record: Vec<u8>,
    is_over: bool,
}

impl Sink for Inbox {
    fn record(&mut self, _: Rank, record: &[u8]) {
        self.record = record.to_vec();
    }

    fn peer_lost(&mut self, _: Rank, _: LostReason) {
        self.is_over = true;
    }
}

/// Rank 1: owns the region, serves READs, and echoes on a bare socket.
fn owner(fabric: &dyn Fabric, echo: &str) -> Result<(), Failure> {
    let spec = RegionSpec { name: "rows", bytes: REGION_BYTES, rights: Rights::Read };
    let region = fabric.allocate(spec)?;
    let token = fabric.export(&region)?;
    let mut bare = TcpStream::connect(echo)?;
    bare.set_nodelay(true)?;
    std::thread::spawn(move || {
        let mut buffer = [0; ROW_BYTES];
        while bare.read_exact(&mut buffer[..24]).is_ok() && bare.write_all(&buffer).is_ok() {}
    });
    while fabric.try_send(Rank(0), &[&token.to_bytes()]).is_err() {}
    let mut inbox = Inbox::default();
    let mut last = Instant::now();
    while !inbox.is_over {
        if fabric.poll(64, &mut inbox)? > 0 {
            last = Instant::now();
        } else if last.elapsed() > SPIN {
            fabric.park(Duration::from_secs(1))?;
            last = Instant::now();
        }
    }
    Ok(())
}

fn batch(
    lane: &mut dyn ReadLane,
    region: RegionId,
    count: usize,
    seed: &mut u64,
) -> Result<(), Failure> {
    for token in 0..count as u64 {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let offset = (*seed >> 33) % (REGION_BYTES / ROW_BYTES) as u64 * ROW_BYTES as u64;
        lane.post(Read { peer: Rank(1), region, offset, len: ROW_LEN, token })?;
    }
    lane.submit()?;
    while lane.outstanding() > 0 {
        lane.wait(Duration::from_secs(5))?;
        lane.poll(&mut |completion| {
            assert!(completion.result.is_ok(), "{:?}", completion.result);
        })?;
    }
    Ok(())
}

fn show(name: &str, samples: &mut [Duration]) -> f64 {
    samples.sort_unstable();
    let at = |per_mille: usize| samples[samples.len() * per_mille / 1000].as_secs_f64() * 1e6;
    println!(
        "{name:<28} p50 {:7.2}  p90 {:7.2}  p99 {:7.2}  p99.9 {:7.2} us",
        at(500),
        at(900),
        at(990),
        at(999)
    );
    at(500)
}

fn reader(fabric: &Arc<dyn Fabric>, echo: &TcpListener) -> Result<(), Failure> {
    let mut inbox = Inbox::default();
    while inbox.record.is_empty() {
        if fabric.poll(1, &mut inbox)? == 0 {
            fabric.park(Duration::from_secs(1))?;
        }
    }
    let token = RegionToken::from_bytes(inbox.record.as_slice().try_into()?);
    fabric.import(Rank(1), &token)?;
    let mut lane = fabric.open_lane()?;
    let (mut bare, _) = echo.accept()?;
    bare.set_nodelay(true)?;
    let mut seed = 1;
    let [mut ping, mut single, mut many] = [const { Vec::new() }; 3];
    let mut buffer = [0; ROW_BYTES];
    for round in 0..=ROUNDS {
        for _ in 0..OPERATIONS {
            let start = Instant::now();
            bare.write_all(&buffer[..24])?;
            bare.read_exact(&mut buffer)?;
            ping.push(start.elapsed());
        }
        for _ in 0..OPERATIONS {
            let start = Instant::now();
            batch(lane.as_mut(), token.id, 1, &mut seed)?;
            single.push(start.elapsed());
        }
        for _ in 0..OPERATIONS / 20 {
            let start = Instant::now();
            batch(lane.as_mut(), token.id, BATCH, &mut seed)?;
            many.push(start.elapsed());
        }
        if round == 0 {
            // The first round warms up.
            ping.clear();
            single.clear();
            many.clear();
        }
    }
    let bare = show("bare ping-pong, 512 B", &mut ping);
    let read = show("READ of 512 B", &mut single);
    let many = show("batch of 256 READs", &mut many);
    println!("READ / ping-pong: {:.2}; batch: {:.1} round trips", read / bare, many / bare);
    Ok(())
}

fn main() -> Result<(), Failure> {
    if let Ok(echo) = std::env::var("LATENCY_ECHO") {
        let fabric = job::open(FabricConfig::from_env()?)?;
        return owner(fabric.as_ref(), &echo);
    }
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    let echo = TcpListener::bind("127.0.0.1:0")?;
    let token = "a token for one measurement";
    let mut child = Command::new(std::env::current_exe()?)
        .env("LATENCY_ECHO", echo.local_addr()?.to_string())
        .env("STERNA_RANK", "1")
        .env("STERNA_SIZE", "2")
        .env("STERNA_ADDR", &address)
        .env("STERNA_TOKEN", token)
        .env("STERNA_FABRIC", "tcp")
        .spawn()?;
    let mut config = FabricConfig::new(Rank(0), 2, Some(&address), token);
    config.choice = ProviderChoice::Tcp;
    config.listener = Some(listener);
    let fabric = job::open(config)?;
    println!("{}", fabric.describe());
    let result = reader(&fabric, &echo);
    fabric.goodbye();
    child.wait()?;
    result
}
