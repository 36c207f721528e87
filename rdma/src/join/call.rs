//! The caller's side of a door: connect, prove, hear the verdict. Blocking, with a deadline.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::identity::NodeIdentity;
use super::proof::{
    Challenge, Hello, JobKey, NotHello, PROTOCOL_VERSION, Proof, Purpose, Transcript, Verdict,
    nonce,
};

/// Why a call did not succeed.
#[derive(Debug)]
pub(crate) enum CallError {
    /// Nobody there, or it went away: trying again may help.
    Unreachable(String),
    /// The door said no, or is none: trying again does not help.
    Refused(String),
}

impl CallError {
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Unreachable(text) | Self::Refused(text) => text,
        }
    }
}

/// Connects.
pub(crate) fn dial(address: SocketAddr, deadline: Instant) -> Result<TcpStream, CallError> {
    let unreachable = |error| CallError::Unreachable(format!("{address}: {error}"));
    let stream = TcpStream::connect_timeout(&address, left(deadline)).map_err(unreachable)?;
    stream.set_nodelay(true).map_err(unreachable)?;
    Ok(stream)
}

/// Says who calls, and proves it.
pub(crate) fn prove(
    mut stream: &TcpStream,
    purpose: Purpose,
    me: &NodeIdentity,
    key: &JobKey,
    deadline: Instant,
) -> Result<Transcript, CallError> {
    let caller = nonce();
    send(&mut stream, &Hello { purpose, nonce: caller }.to_bytes())?;
    let mut bytes = [0; Challenge::BYTES];
    receive(stream, &mut bytes, deadline)?;
    let challenge = Challenge::from_bytes(&bytes).map_err(|error| {
        CallError::Refused(match error {
            NotHello::Stranger => "what listens there is no node of Sterna".to_owned(),
            NotHello::Version(version) => format!(
                "it speaks protocol version {version}, this node {PROTOCOL_VERSION}: use one build \
                 at all nodes"
            ),
        })
    })?;
    if let Some(refusal) = challenge.refusal {
        return Err(CallError::Refused(refusal.reason().to_owned()));
    }
    let transcript = Transcript { purpose, caller, door: challenge.nonce };
    send(&mut stream, &Proof::make(key, &transcript, me))?;
    Ok(transcript)
}

/// Hears the verdict, whose body is `body_bytes` long if it is a welcome.
pub(crate) fn hear_verdict(
    stream: &TcpStream,
    key: &JobKey,
    transcript: &Transcript,
    body_bytes: usize,
    deadline: Instant,
) -> Result<Vec<u8>, CallError> {
    let mut bytes = [0; Verdict::BYTES];
    receive(stream, &mut bytes, deadline)?;
    let malformed = || CallError::Refused("it answered with something malformed".to_owned());
    let verdict = Verdict::from_bytes(&bytes).ok_or_else(malformed)?;
    if let Some(refusal) = verdict.refusal {
        return Err(CallError::Refused(refusal.reason().to_owned()));
    }
    if verdict.body_bytes as usize != body_bytes {
        return Err(malformed());
    }
    let mut body = vec![0; body_bytes];
    receive(stream, &mut body, deadline)?;
    if !verdict.is_proven(key, transcript, &body) {
        return Err(CallError::Refused("it does not know this job's token".to_owned()));
    }
    Ok(body)
}

/// The whole call for a link or a lane.
pub(crate) fn call(
    address: SocketAddr,
    purpose: Purpose,
    me: &NodeIdentity,
    key: &JobKey,
    deadline: Instant,
) -> Result<TcpStream, CallError> {
    let stream = dial(address, deadline)?;
    let transcript = prove(&stream, purpose, me, key, deadline)?;
    hear_verdict(&stream, key, &transcript, 0, deadline)?;
    stream
        .set_read_timeout(None)
        .map_err(|error| CallError::Unreachable(format!("{address}: {error}")))?;
    Ok(stream)
}

/// Time left, never zero since the system takes that for "no limit".
fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
}

/// Sends a message of fixed length, which fits into the empty buffer of a fresh socket.
fn send(stream: &mut &TcpStream, bytes: &[u8]) -> Result<(), CallError> {
    stream
        .write_all(bytes)
        .map_err(|error| CallError::Unreachable(format!("the connection broke: {error}")))
}

fn receive(mut stream: &TcpStream, bytes: &mut [u8], deadline: Instant) -> Result<(), CallError> {
    let broke = |reason: &str| CallError::Unreachable(format!("the connection broke: {reason}"));
    let mut filled = 0;
    while filled < bytes.len() {
        if Instant::now() >= deadline {
            return Err(CallError::Unreachable("no answer in time".to_owned()));
        }
        stream.set_read_timeout(Some(left(deadline))).map_err(|error| broke(&error.to_string()))?;
        match stream.read(&mut bytes[filled..]) {
            Ok(0) => return Err(broke("closed by the other side")),
            Ok(count) => filled += count,
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut
                ) => {}
            Err(error) => return Err(broke(&error.to_string())),
        }
    }
    Ok(())
}
