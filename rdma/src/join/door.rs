//! A node's listening socket, and those who stand before it without having proven themselves.
//!
//! Nobody at the door can delay anybody else or make the node allocate: callers are served by
//! readiness, messages have fixed lengths, each caller has its own deadline, and at most
//! [`CALLERS_MAX`] are kept; one more displaces the one that has stood there longest.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token, Waker};

use super::identity::NodeIdentity;
use super::proof::{
    Challenge, Hello, JobKey, NotHello, Proof, Purpose, Refusal, Transcript, Verdict, nonce,
};
use crate::error::FabricError;
use crate::strangers::Strangers;

/// Callers that have not proven themselves yet.
const CALLERS_MAX: usize = 64;

/// How long one may take to do so. A node of the job on an overloaded host may be kept from running between
/// its call and its proof; strangers that are silent so long displace only each other.
const CALLER_LIMIT: Duration = Duration::from_secs(30);

/// Pause after the system refused to accept (out of descriptors).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const LISTENER: Token = Token(CALLERS_MAX);
const WAKER: Token = Token(CALLERS_MAX + 1);

/// A node of this job that has proven itself. It waits for its welcome.
pub(crate) struct Admitted {
    pub(crate) stream: std::net::TcpStream,
    pub(crate) node: NodeIdentity,
    pub(crate) transcript: Transcript,
}

impl Admitted {
    pub(crate) fn purpose(&self) -> Purpose {
        self.transcript.purpose
    }

    /// Sends the verdict. The stream is blocking afterwards, with `limit` for this write.
    pub(crate) fn answer(
        &mut self,
        key: &JobKey,
        refusal: Option<Refusal>,
        body: &[u8],
        limit: Duration,
    ) -> std::io::Result<()> {
        self.stream.set_nonblocking(false)?;
        self.stream.set_write_timeout(Some(limit))?;
        let verdict = Verdict::make(key, &self.transcript, refusal, body);
        self.stream.write_all(&verdict)?;
        self.stream.set_write_timeout(None)
    }
}

enum Stage {
    Hello,
    Proof(Transcript),
}

struct Caller {
    stream: TcpStream,
    from: SocketAddr,
    deadline: Instant,
    stage: Stage,
    buffer: [u8; Proof::BYTES],
    filled: usize,
}

/// What became of a caller after it was heard.
enum Heard {
    /// It has more to say.
    Waits(Box<Caller>),
    /// It has proven itself.
    Admitted(Box<Admitted>),
    /// It was refused or left.
    Gone,
}

pub(crate) struct Door {
    poll: Poll,
    events: Events,
    listener: mio::net::TcpListener,
    address: SocketAddr,
    key: JobKey,
    callers: Vec<Option<Box<Caller>>>,
    accept_after: Option<Instant>,
    strangers: Arc<Strangers>,
}

impl Door {
    pub(crate) fn new(
        listener: TcpListener,
        key: JobKey,
        strangers: Arc<Strangers>,
    ) -> Result<Self, FabricError> {
        let failed = |error: std::io::Error| FabricError::Os {
            what: "preparing the listening socket".to_owned(),
            reason: error.to_string(),
        };
        listener.set_nonblocking(true).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let mut listener = mio::net::TcpListener::from_std(listener);
        let poll = Poll::new().map_err(failed)?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE).map_err(failed)?;
        Ok(Self {
            poll,
            events: Events::with_capacity(CALLERS_MAX + 2),
            listener,
            address,
            key,
            callers: (0..CALLERS_MAX).map(|_| None).collect(),
            // Connections that were there before the registration.
            accept_after: Some(Instant::now()),
            strangers,
        })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn key(&self) -> &JobKey {
        &self.key
    }

    pub(crate) fn strangers(&self) -> &Arc<Strangers> {
        &self.strangers
    }

    /// Something that ends a running [`Door::step`] from another thread.
    pub(crate) fn waker(&self) -> std::io::Result<Waker> {
        Waker::new(self.poll.registry(), WAKER)
    }

    /// Waits up to `limit` for somebody and hears who is there; those who have proven themselves
    /// are added to `admitted`.
    pub(crate) fn step(
        &mut self,
        limit: Option<Duration>,
        admitted: &mut Vec<Admitted>,
    ) -> Result<(), FabricError> {
        let now = Instant::now();
        let next = self.callers.iter().flatten().map(|caller| caller.deadline);
        let next = next.chain(self.accept_after).min();
        let until_next = next.map(|at| at.saturating_duration_since(now));
        let limit = match (limit, until_next) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        match self.poll.poll(&mut self.events, limit) {
            Err(error) if error.kind() != ErrorKind::Interrupted => {
                return Err(FabricError::Os {
                    what: "waiting for connections".to_owned(),
                    reason: error.to_string(),
                });
            }
            _ => {}
        }
        let tokens: Vec<Token> = self.events.iter().map(Event::token).collect();
        for token in &tokens {
            if token.0 < CALLERS_MAX
                && let Some(caller) = self.callers[token.0].take()
            {
                match self.hear(caller) {
                    Heard::Waits(caller) => self.callers[token.0] = Some(caller),
                    Heard::Admitted(node) => admitted.push(*node),
                    Heard::Gone => {}
                }
            }
        }
        let now = Instant::now();
        if tokens.contains(&LISTENER) || self.accept_after.is_some_and(|at| at <= now) {
            self.accept_all();
        }
        for at in 0..CALLERS_MAX {
            if let Some(caller) = self.callers[at].take_if(|caller| caller.deadline <= now) {
                self.dismiss(&caller, "it said nothing of use in time");
            }
        }
        Ok(())
    }

    fn dismiss(&self, caller: &Caller, why: &str) {
        self.strangers.refused(caller.from, why);
    }

    fn accept_all(&mut self) {
        self.accept_after = None;
        // Bounded, so that a flood of callers does not starve those already here.
        for _ in 0..CALLERS_MAX {
            match self.listener.accept() {
                Ok((stream, from)) => self.place(stream, from),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections for the moment");
                    self.accept_after = Some(Instant::now() + ACCEPT_PAUSE);
                    return;
                }
            }
        }
        self.accept_after = Some(Instant::now());
    }

    fn place(&mut self, mut stream: TcpStream, from: SocketAddr) {
        let free = self.callers.iter().position(Option::is_none);
        let at = free.unwrap_or_else(|| {
            let age = |at: &usize| self.callers[*at].as_ref().map(|caller| caller.deadline);
            (0..CALLERS_MAX).min_by_key(age).expect("there are callers")
        });
        if let Some(displaced) = self.callers[at].take() {
            self.dismiss(&displaced, "too many connections wait to prove themselves");
        }
        let _ = stream.set_nodelay(true);
        if self.poll.registry().register(&mut stream, Token(at), Interest::READABLE).is_ok() {
            self.callers[at] = Some(Box::new(Caller {
                stream,
                from,
                deadline: Instant::now() + CALLER_LIMIT,
                stage: Stage::Hello,
                buffer: [0; Proof::BYTES],
                filled: 0,
            }));
        }
    }

    /// Reads what a caller has to say.
    fn hear(&mut self, mut caller: Box<Caller>) -> Heard {
        loop {
            let needed = match caller.stage {
                Stage::Hello => Hello::BYTES,
                Stage::Proof(_) => Proof::BYTES,
            };
            if caller.filled < needed {
                let filled = caller.filled;
                match caller.stream.read(&mut caller.buffer[filled..needed]) {
                    Ok(0) => {
                        self.dismiss(&caller, "it left without proving itself");
                        return Heard::Gone;
                    }
                    Ok(bytes) => caller.filled += bytes,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        return Heard::Waits(caller);
                    }
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => {
                        self.dismiss(&caller, &error.to_string());
                        return Heard::Gone;
                    }
                }
                continue;
            }
            caller.filled = 0;
            match caller.stage {
                Stage::Hello => {
                    if !self.challenge(&mut caller) {
                        return Heard::Gone;
                    }
                }
                Stage::Proof(_) => return self.judge(*caller),
            }
        }
    }

    /// Answers a first message; false if that was the end.
    fn challenge(&mut self, caller: &mut Caller) -> bool {
        let bytes = caller.buffer[..Hello::BYTES].try_into().expect("a full message");
        let door = nonce();
        let (refusal, why) = match Hello::from_bytes(bytes) {
            Ok(hello) => {
                let Hello { purpose, nonce } = hello;
                caller.stage = Stage::Proof(Transcript { purpose, caller: nonce, door });
                (None, String::new())
            }
            Err(NotHello::Stranger) => {
                self.dismiss(caller, "it does not speak this protocol");
                return false;
            }
            Err(NotHello::Version(version)) => {
                (Some(Refusal::Version), format!("it speaks protocol version {version}"))
            }
        };
        // 48 bytes always fit into an empty socket buffer.
        let sent = caller.stream.write(&Challenge { refusal, nonce: door }.to_bytes());
        if refusal.is_some() {
            self.dismiss(caller, &why);
            return false;
        }
        matches!(sent, Ok(Challenge::BYTES))
    }

    /// Decides about a caller that has given its proof.
    fn judge(&mut self, caller: Caller) -> Heard {
        let Caller { mut stream, from, stage, buffer, .. } = caller;
        let Stage::Proof(transcript) = stage else { unreachable!("called with a proof") };
        let node = match Proof::check(&self.key, &transcript, &buffer) {
            Ok(node) => node,
            Err(refusal) => {
                let _ = stream.write(&Verdict::make(&self.key, &transcript, Some(refusal), b""));
                self.strangers.refused(from, refusal.reason());
                return Heard::Gone;
            }
        };
        if self.poll.registry().deregister(&mut stream).is_err() {
            return Heard::Gone;
        }
        let stream = std::net::TcpStream::from(std::os::fd::OwnedFd::from(stream));
        Heard::Admitted(Box::new(Admitted { stream, node, transcript }))
    }
}
