//! The bare ping-pong beside requests: how fast the two processes can say anything to each other.
//!
//! Over shared memory a line that each side writes in turn and polls; over TCP 64 bytes on a blocking connection.

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use sterna::{Node, Rank, Worker};

use super::{Pair, RelocateArgs};
use crate::probe::Times;

/// Bytes of a message over TCP.
const MESSAGE_BYTES: usize = 64;

/// Bytes of the shared memory: a page, of which the sides use a line each.
const MEMORY_BYTES: usize = 4096;

/// The longest wait for the other side.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// Who waits longer than this has the processor on which the other side could run.
const SPIN_MAX: Duration = Duration::from_micros(100);

/// One side of the ping-pong; rank 0 serves.
pub(super) enum Ping {
    Shm(Lines),
    Tcp(TcpStream),
}

impl Ping {
    /// Both ranks call it.
    pub(super) fn open(node: &Node, worker: &mut Worker, fabric: &str) -> anyhow::Result<Self> {
        let first = node.rank() == Rank(0);
        if fabric == "shm" {
            // The name is a number that rank 0 draws and both learn; the file has it only as long as both open it.
            let mut told = [if first { f64::from(random()?) } else { 0.0 }];
            let path = |told: f64| PathBuf::from(format!("/dev/shm/sterna-relocate-{told}"));
            let lines = if first { Some(Lines::open(&path(told[0]), true)?) } else { None };
            worker.all_reduce_sum(&mut told)?;
            let lines = lines.map_or_else(|| Lines::open(&path(told[0]), false), Ok);
            worker.barrier()?;
            if first {
                let _ = fs::remove_file(path(told[0]));
            }
            return Ok(Self::Shm(lines?));
        }
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let mut told = [if first { f64::from(port) } else { 0.0 }];
        worker.all_reduce_sum(&mut told)?;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a port")]
        let port = told[0] as u16;
        let stream = if first {
            listener.accept().context("waiting for the ping-pong's other side")?.0
        } else {
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).context("the ping-pong")?
        };
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        stream.set_write_timeout(Some(ANSWER_LIMIT))?;
        Ok(Self::Tcp(stream))
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Shm(_) => "ping-pong (shm line)",
            Self::Tcp(_) => "ping-pong (TCP, 64 bytes)",
        }
    }

    /// Round trips, timed at rank 0; both ranks learn the times.
    pub(super) fn measure(
        &mut self,
        pair: &mut Pair<'_>,
        args: &RelocateArgs,
    ) -> anyhow::Result<Times> {
        let (first, count) = (pair.rank() == 0, args.requests as usize);
        pair.worker.barrier()?;
        let mut taken = Vec::new();
        for _ in 0..count {
            let begun = Instant::now();
            self.turn(first)?;
            if first {
                taken.push(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
            }
        }
        let mut times = Times::new();
        for ns in pair.tell(&taken, count)? {
            times.record_ns(ns);
        }
        Ok(times)
    }

    fn turn(&mut self, first: bool) -> anyhow::Result<()> {
        match self {
            Self::Shm(lines) => lines.turn(first),
            Self::Tcp(stream) => {
                let mut message = [0; MESSAGE_BYTES];
                if first {
                    stream.write_all(&message)?;
                }
                stream.read_exact(&mut message).context("the ping-pong")?;
                if !first {
                    stream.write_all(&message)?;
                }
                Ok(())
            }
        }
    }
}

fn random() -> anyhow::Result<u32> {
    let mut number = [0; 4];
    getrandom::fill(&mut number).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
    Ok(u32::from_le_bytes(number))
}

/// Two lines of memory that both processes have, one for each to write.
pub(super) struct Lines {
    memory: NonNull<u8>,
    turns: u64,
}

impl Lines {
    fn open(path: &Path, make: bool) -> anyhow::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(make).open(path);
        let file = file.with_context(|| format!("opening {}", path.display()))?;
        if make {
            file.set_len(MEMORY_BYTES as u64)?;
        }
        let (rights, fd) = (libc::PROT_READ | libc::PROT_WRITE, file.as_raw_fd());
        let nowhere = std::ptr::null_mut();
        // SAFETY: a new mapping at a place of the kernel's choice; the file is as long as the mapping and open during the call.
        let mapped = unsafe { libc::mmap(nowhere, MEMORY_BYTES, rights, libc::MAP_SHARED, fd, 0) };
        ensure!(mapped != libc::MAP_FAILED, "mapping {}", path.display());
        let memory = NonNull::new(mapped.cast()).context("a mapping has an address")?;
        Ok(Self { memory, turns: 0 })
    }

    /// The word in a side's line.
    fn word(&self, side: usize) -> &AtomicU64 {
        // SAFETY: both lines lie in the mapping, which lives as long as `self`, are aligned, and are touched as atomics only.
        unsafe { self.memory.add(side * 128).cast::<AtomicU64>().as_ref() }
    }

    fn turn(&mut self, first: bool) -> anyhow::Result<()> {
        self.turns += 1;
        let (mine, other) = if first { (0, 1) } else { (1, 0) };
        if first {
            self.word(mine).store(self.turns, Ordering::Release);
        }
        let begun = Instant::now();
        while self.word(other).load(Ordering::Acquire) < self.turns {
            let waited = begun.elapsed();
            ensure!(waited < ANSWER_LIMIT, "the ping-pong's other side does not answer");
            if waited < SPIN_MAX {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
        if !first {
            self.word(mine).store(self.turns, Ordering::Release);
        }
        Ok(())
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        // SAFETY: the mapping that `open` made, which nobody uses any more.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), MEMORY_BYTES) };
    }
}
