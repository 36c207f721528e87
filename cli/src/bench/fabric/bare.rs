//! What the measured operations are held against: the same movement of bytes without a fabric.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use sterna_kernels::RowPtr;
use sterna_rdma::{Region, RegionId, RegionSpec, Rights};

use crate::probe::Times;

/// Bytes of the memory that is copied from: as much as a party lets others read.
const MEMORY_BYTES: usize = 16 << 20;

/// The longest wait for the other side.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// The longest message of a ping-pong.
const MESSAGE_BYTES_MAX: usize = 2 << 20;

/// Copies of random lines of this process's own memory: what a READ over shared memory costs at least.
pub(super) struct Copies {
    region: Arc<Region>,
    out: Vec<f32>,
}

impl Copies {
    pub(super) fn new() -> anyhow::Result<Self> {
        let spec = RegionSpec { name: "bare copies", bytes: MEMORY_BYTES, rights: Rights::Read };
        let region = Arc::new(sterna_rdma::memory::allocate(spec, RegionId(0), false)?);
        let copies = Self { region, out: vec![0.0; MEMORY_BYTES / size_of::<f32>()] };
        copies.row(0, MEMORY_BYTES).fill(1.0);
        Ok(copies)
    }

    fn row(&self, offset: usize, bytes: usize) -> RowPtr {
        assert!(offset.is_multiple_of(64) && offset + bytes <= self.region.bytes());
        // SAFETY: inside the region by the assertion and aligned; the region lives as long as `self` and is touched through row
        // pointers only.
        unsafe { RowPtr::new(self.region.base().add(offset).cast(), bytes / size_of::<f32>()) }
    }

    /// Copies of `bytes` bytes, one at a time.
    pub(super) fn run(&mut self, bytes: usize, duration: Duration) -> Times {
        let mut times = Times::new();
        let (start, mut random, mut copied) = (Instant::now(), 0x9E37_79B9_7F4A_7C15_u64, 0);
        let lines = (MEMORY_BYTES - bytes) / 64;
        // One at least, however late this thread gets to run.
        while copied == 0 || start.elapsed() < duration {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            let line = usize::try_from(random % lines as u64).expect("a line");
            let begun = Instant::now();
            let row = self.row(line * 64, bytes);
            row.copy_out(&mut self.out[..bytes / size_of::<f32>()]);
            times.record(begun, 1);
            copied += bytes as u64;
        }
        times.moved(copied, start.elapsed());
        times
    }
}

/// A blocking TCP connection to a process that answers with as many bytes as it is told to.
pub(super) struct PingPong {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl PingPong {
    /// Waits at `host`, this side's own address, for the other side, which `invite` tells the port and a nonce.
    pub(super) fn open(
        host: &str,
        invite: impl FnOnce(u16, u64) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((host, 0))
            .with_context(|| format!("opening a socket on {host} for the ping-pong"))?;
        listener.set_nonblocking(true)?;
        let mut secret = [0; 8];
        getrandom::fill(&mut secret).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
        let nonce = u64::from_le_bytes(secret);
        invite(listener.local_addr()?.port(), nonce)?;
        let deadline = Instant::now() + ANSWER_LIMIT;
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false)?;
                    stream.set_nodelay(true)?;
                    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
                    stream.set_write_timeout(Some(ANSWER_LIMIT))?;
                    let mut pong = Self { stream, buffer: vec![0; 16] };
                    pong.stream.read_exact(&mut pong.buffer[..8])?;
                    if pong.buffer[..8] == nonce.to_le_bytes() {
                        return Ok(pong);
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error).context("waiting for the ping-pong's other side"),
            }
            if Instant::now() > deadline {
                bail!("rank 1 cannot connect to {host} for the ping-pong");
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Rounds of `there` bytes there and `back` bytes back, at least 16 each. A round counts 1 / `share` of its time.
    pub(super) fn run(
        &mut self,
        there: usize,
        back: usize,
        share: u64,
        duration: Duration,
    ) -> anyhow::Result<Times> {
        let (mut times, start, mut moved) = (Times::new(), Instant::now(), 0);
        self.buffer.resize(there.max(back).max(16), 0);
        while moved == 0 || start.elapsed() < duration {
            let begun = Instant::now();
            self.buffer[..8].copy_from_slice(&(there as u64).to_le_bytes());
            self.buffer[8..16].copy_from_slice(&(back as u64).to_le_bytes());
            self.stream.write_all(&self.buffer[..there]).context("the ping-pong's ping")?;
            self.stream.read_exact(&mut self.buffer[..back]).context("the ping-pong's pong")?;
            times.record(begun, share);
            moved += if share == 2 { there + back } else { back } as u64;
        }
        times.moved(moved, start.elapsed());
        Ok(times)
    }
}

/// The other side of the ping-pong, until the connection ends.
pub(super) fn answer(host: &str, port: u16, nonce: u64) {
    let Ok(mut stream) = TcpStream::connect((host, port)) else { return };
    let _ = stream.set_nodelay(true);
    if stream.write_all(&nonce.to_le_bytes()).is_err() {
        return;
    }
    let mut buffer = vec![0; 16];
    loop {
        if stream.read_exact(&mut buffer[..16]).is_err() {
            return;
        }
        let number = |at: usize| {
            let word = u64::from_le_bytes(buffer[at..at + 8].try_into().expect("8 bytes"));
            usize::try_from(word).ok().filter(|bytes| (16..=MESSAGE_BYTES_MAX).contains(bytes))
        };
        let (Some(there), Some(back)) = (number(0), number(8)) else { return };
        buffer.resize(there.max(back), 0);
        let done = stream
            .read_exact(&mut buffer[16..there])
            .and_then(|()| stream.write_all(&buffer[..back]));
        if done.is_err() {
            return;
        }
    }
}
