//! How the nodes of a host find each other: a socket per pair, and who may not join.
//!
//! Each node listens at an abstract name that only nodes of its job can compute, and calls all nodes
//! of lower rank. Caller and callee each send one Hello with a proof that they know the job's token and
//! the descriptors of the ring and the bell that the other is to use. Nothing here blocks: all
//! conversations advance side by side until each peer has joined or the deadline is over, so
//! no order of starting, calling or answering can lock nodes up. Afterwards nobody listens any more.

use std::fmt::Write as _;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use super::bell::Bell;
use super::inbox::RingMemory;
use super::packet::{Hello, NotPacket, Packet, Refusal};
use super::socket::{Received, Socket};
use crate::error::FabricError;
use crate::join::proof::JobKey;
use crate::rank::Rank;
use crate::tuning::{JOINING_MAX, RING_BYTES};
use crate::wake::{poll, pollfd};

/// Pause between two calls to a node that does not listen yet.
const CALL_PAUSE: Duration = Duration::from_millis(5);

/// What the provider has to know.
#[derive(Debug)]
pub(crate) struct ShmConfig<'a> {
    /// This node.
    pub(crate) rank: Rank,
    /// This start of this node.
    pub(crate) incarnation: u64,
    /// The other nodes of this host that are to be reached by shared memory.
    pub(crate) peers: &'a [ShmPeer],
    /// The job's token.
    pub(crate) key: &'a JobKey,
    /// Where to register for events.
    pub(crate) registry: &'a mio::Registry,
    /// First of the `1 + peers` tokens that the provider uses.
    pub(crate) first_token: usize,
    /// When all have to have joined.
    pub(crate) deadline: Instant,
}

/// A node to be reached by shared memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ShmPeer {
    pub(crate) rank: Rank,
    /// Its start that is meant: no other one can join in its place.
    pub(crate) incarnation: u64,
}

/// A connected peer.
#[derive(Debug)]
pub(super) struct Joined {
    pub(super) socket: Socket,
    /// The ring on which it sends to this node.
    pub(super) inbox: RingMemory,
    /// The ring on which this node sends to it.
    pub(super) outbox: RingMemory,
    pub(super) bell: Bell,
}

/// All peers in the order of the configuration, and how many strangers were refused.
pub(super) fn join(config: &ShmConfig<'_>, bell: &Bell) -> Result<(Vec<Joined>, u64), FabricError> {
    let mut join = Join::new(config, bell)?;
    let begin = Instant::now();
    while join.seats.iter().any(|seat| seat.joined.is_none()) {
        join.call_lower_ranks();
        join.answer_callers();
        join.hear_answers();
        let now = Instant::now();
        if now >= config.deadline {
            return Err(join.timeout(config.deadline.saturating_duration_since(begin)));
        }
        join.wait(config.deadline - now)?;
    }
    let joined = join.seats.into_iter().filter_map(|seat| seat.joined).collect();
    Ok((joined, join.refused))
}

/// A peer's place.
struct Seat {
    peer: ShmPeer,
    /// This node's half of what the pair shares; the ring until the peer has joined.
    ring: Option<RingMemory>,
    ring_fd: OwnedFd,
    /// This node's call to the peer, until it is answered.
    call: Option<Socket>,
    joined: Option<Joined>,
}

struct Join<'a> {
    config: &'a ShmConfig<'a>,
    bell: &'a Bell,
    listener: Socket,
    seats: Vec<Seat>,
    /// Who has called and not yet spoken.
    callers: Vec<Socket>,
    next_call: Instant,
    refused: u64,
    /// The last thing that went wrong, for the message at the deadline.
    hint: String,
}

impl<'a> Join<'a> {
    fn new(config: &'a ShmConfig<'a>, bell: &'a Bell) -> Result<Self, FabricError> {
        let name = name(config.key, config.rank, config.incarnation);
        let listener = Socket::listen(&name).map_err(|error| FabricError::Os {
            what: format!("listening for the nodes of this host at @{name}"),
            reason: error.to_string(),
        })?;
        let mut seats = Vec::with_capacity(config.peers.len());
        for &peer in config.peers {
            assert!(peer.rank != config.rank, "a node is not its own peer");
            let label = format!("sterna:ring:{}-{}", peer.rank.0, config.rank.0);
            let (ring, ring_fd) = RingMemory::create(&label)?;
            seats.push(Seat { peer, ring: Some(ring), ring_fd, call: None, joined: None });
        }
        let (callers, next_call) = (Vec::new(), Instant::now());
        let hint = String::new();
        Ok(Self { config, bell, listener, seats, callers, next_call, refused: 0, hint })
    }

    /// Calls each node of lower rank that has neither joined nor been called.
    fn call_lower_ranks(&mut self) {
        if Instant::now() < self.next_call {
            return;
        }
        self.next_call = Instant::now() + CALL_PAUSE;
        for seat in 0..self.seats.len() {
            let Seat { peer, call, joined, .. } = &self.seats[seat];
            if peer.rank < self.config.rank && call.is_none() && joined.is_none() {
                let peer = *peer;
                // Nobody listening there is what waiting is for.
                let name = name(self.config.key, peer.rank, peer.incarnation);
                let Ok(socket) = Socket::connect(&name) else { continue };
                match self.speak(seat, &socket) {
                    Ok(()) => self.seats[seat].call = Some(socket),
                    Err(reason) => self.hint = format!("{}: {reason}", peer.rank),
                }
            }
        }
    }

    /// Sends this node's Hello, if the other side belongs to this user.
    fn speak(&self, seat: usize, socket: &Socket) -> Result<(), String> {
        let cred = socket.credentials().map_err(|error| error.to_string())?;
        if cred.uid != own_uid() {
            return Err(format!("its name is held by user {}", cred.uid));
        }
        let seat = &self.seats[seat];
        let hello = Packet::Hello(Hello {
            proof: self.proof((self.config.rank, self.config.incarnation), seat.peer.pair()),
            from: self.config.rank,
            to: seat.peer.rank,
            ring_bytes: RING_BYTES as u64,
        });
        let fds = [seat.ring_fd.as_fd(), self.bell.as_fd()];
        socket.send(&hello.to_bytes(), &fds).map_err(|error| error.to_string())
    }

    /// Lets in who has proven itself.
    fn answer_callers(&mut self) {
        loop {
            match self.listener.accept() {
                Ok(Some(socket)) => self.callers.push(socket),
                Ok(None) => break,
                Err(error) => {
                    self.hint = format!("accepting a caller: {error}");
                    std::thread::sleep(CALL_PAUSE);
                    break;
                }
            }
            if self.callers.len() > JOINING_MAX {
                let silent = self.callers.remove(0);
                self.refuse(&silent, None, "too many callers say nothing");
            }
        }
        for socket in std::mem::take(&mut self.callers) {
            let mut bytes = [0; Packet::BYTES];
            match socket.receive(&mut bytes) {
                Ok(received) => self.admit(socket, &bytes, received),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    self.callers.push(socket);
                }
                Err(error) => self.refuse(&socket, None, &error.to_string()),
            }
        }
    }

    fn admit(&mut self, socket: Socket, bytes: &[u8; Packet::BYTES], received: Received) {
        if socket.credentials().map_or(true, |cred| cred.uid != own_uid()) {
            return self.refuse(&socket, Some(Refusal::Proof), "it runs as another user");
        }
        let hello = match packet(bytes, &received) {
            Ok(Packet::Hello(hello)) => hello,
            Err(NotPacket::Version) => {
                return self.refuse(&socket, Some(Refusal::Version), Refusal::Version.reason());
            }
            Ok(_) | Err(NotPacket::Malformed) => {
                return self.refuse(&socket, None, "it does not speak this protocol");
            }
        };
        let expected = |seat: &Seat| {
            let me = (self.config.rank, self.config.incarnation);
            seat.peer.rank == hello.from && self.proof(seat.peer.pair(), me) == hello.proof
        };
        let Some(seat) = self.seats.iter().position(expected) else {
            return self.refuse(&socket, Some(Refusal::Proof), Refusal::Proof.reason());
        };
        let free = self.seats[seat].joined.is_none() && hello.from > self.config.rank;
        if !free || hello.to != self.config.rank {
            return self.refuse(&socket, Some(Refusal::Rank), Refusal::Rank.reason());
        }
        if let Err(reason) =
            self.speak(seat, &socket).and_then(|()| self.take(seat, socket, &hello, received))
        {
            self.hint = format!("{}: {reason}", hello.from);
        }
    }

    /// Hears what called nodes answer.
    fn hear_answers(&mut self) {
        for seat in 0..self.seats.len() {
            let Some(socket) = self.seats[seat].call.take() else { continue };
            let mut bytes = [0; Packet::BYTES];
            let answer = match socket.receive(&mut bytes) {
                Ok(received) if received.len == 0 => Err("it hung up".to_owned()),
                Ok(received) => self.hear(seat, socket, &bytes, received),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    self.seats[seat].call = Some(socket);
                    Ok(())
                }
                Err(error) => Err(error.to_string()),
            };
            // The call is repeated: a node that starts again listens at the same name.
            if let Err(reason) = answer {
                self.hint = format!("{}: {reason}", self.seats[seat].peer.rank);
                self.next_call = Instant::now() + CALL_PAUSE;
            }
        }
    }

    fn hear(
        &mut self,
        seat: usize,
        socket: Socket,
        bytes: &[u8; Packet::BYTES],
        received: Received,
    ) -> Result<(), String> {
        let peer = self.seats[seat].peer;
        match packet(bytes, &received) {
            Ok(Packet::Hello(hello)) => {
                let me = (self.config.rank, self.config.incarnation);
                if hello.from != peer.rank || hello.proof != self.proof(peer.pair(), me) {
                    return Err("it does not know the job's token".to_owned());
                }
                self.take(seat, socket, &hello, received)
            }
            Ok(Packet::Refused(refusal)) => {
                Err(format!("it refused this node: {}", refusal.reason()))
            }
            _ => Err("it does not speak this protocol".to_owned()),
        }
    }

    /// Seats a peer that has proven itself.
    fn take(
        &mut self,
        seat: usize,
        socket: Socket,
        hello: &Hello,
        received: Received,
    ) -> Result<(), String> {
        if received.truncated {
            return Err("its descriptors were lost: raise ulimit -n".to_owned());
        }
        let Ok([ring, bell]) = <[OwnedFd; 2]>::try_from(received.fds) else {
            return Err("its descriptors are missing".to_owned());
        };
        if hello.ring_bytes != RING_BYTES as u64 {
            return Err("its rings have another size".to_owned());
        }
        let outbox = RingMemory::of_peer(ring.as_fd()).map_err(|error| error.to_string())?;
        let seat = &mut self.seats[seat];
        let inbox = seat.ring.take().ok_or_else(|| Refusal::Rank.reason().to_owned())?;
        seat.joined = Some(Joined { socket, inbox, outbox, bell: Bell::of_peer(bell) });
        Ok(())
    }

    fn refuse(&mut self, socket: &Socket, refusal: Option<Refusal>, why: &str) {
        self.refused += 1;
        let (pid, uid) = socket.credentials().map_or((-1, u32::MAX), |cred| (cred.pid, cred.uid));
        // A flood of strangers is not to be a flood of messages.
        if self.refused <= 64 || self.refused.is_power_of_two() {
            tracing::warn!(pid, uid, why, count = self.refused, "refused a caller on this host");
        }
        self.hint = format!("process {pid} of user {uid} was refused: {why}");
        if let Some(refusal) = refusal {
            let _ = socket.send(&Packet::Refused(refusal).to_bytes(), &[]);
        }
    }

    fn wait(&self, limit: Duration) -> Result<(), FabricError> {
        let heard = std::iter::once(&self.listener)
            .chain(&self.callers)
            .chain(self.seats.iter().filter_map(|seat| seat.call.as_ref()));
        let mut fds: Vec<_> =
            heard.map(|socket| pollfd(socket.as_fd().as_raw_fd(), libc::POLLIN)).collect();
        let to_call = self.seats.iter().any(|seat| {
            seat.peer.rank < self.config.rank && seat.call.is_none() && seat.joined.is_none()
        });
        if self.seats.iter().all(|seat| seat.joined.is_some()) {
            return Ok(());
        }
        poll(&mut fds, if to_call { limit.min(CALL_PAUSE) } else { limit }).map(|_| ())
    }

    fn timeout(&self, limit: Duration) -> FabricError {
        let mut missing = String::new();
        for seat in self.seats.iter().filter(|seat| seat.joined.is_none()) {
            let comma = if missing.is_empty() { "" } else { ", " };
            let _ = write!(missing, "{comma}{}", seat.peer.rank);
        }
        let hint = if self.hint.is_empty() {
            "see whether it still runs on this host".to_owned()
        } else {
            self.hint.clone()
        };
        FabricError::JoinTimeout { waited_for: missing, seconds: limit.as_secs(), hint }
    }

    /// What `from` shows to `to`.
    fn proof(&self, from: (Rank, u64), to: (Rank, u64)) -> u64 {
        self.config.key.tag(&[
            b"shm hello",
            &from.0.0.to_le_bytes(),
            &from.1.to_le_bytes(),
            &to.0.0.to_le_bytes(),
            &to.1.to_le_bytes(),
        ])
    }
}

impl ShmPeer {
    fn pair(self) -> (Rank, u64) {
        (self.rank, self.incarnation)
    }
}

/// The abstract name of a node's socket.
pub(super) fn name(key: &JobKey, rank: Rank, incarnation: u64) -> String {
    let tag = key.tag(&[b"shm name", &rank.0.to_le_bytes(), &incarnation.to_le_bytes()]);
    format!("sterna-{}-{tag:016x}", rank.0)
}

fn packet(bytes: &[u8; Packet::BYTES], received: &Received) -> Result<Packet, NotPacket> {
    if received.len == Packet::BYTES {
        Packet::from_bytes(bytes)
    } else {
        Err(NotPacket::Malformed)
    }
}

fn own_uid() -> u32 {
    // SAFETY: no preconditions, cannot fail.
    unsafe { libc::geteuid() }
}
