//! The caller's side of a door: connect, prove, hear the verdict. Blocking, with a deadline.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::identity::NodeIdentity;
use super::proof::{
    Challenge, Hello, JobKey, NotHello, PROTOCOL_VERSION, Proof, Purpose, Refusal, Transcript,
    Verdict, nonce,
};

/// Limit of one attempt of a call that is repeated.
const ATTEMPT_MAX: Duration = Duration::from_secs(20);

/// Pause between two attempts.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(20);

/// Why a call did not succeed.
#[derive(Debug)]
pub(crate) enum CallError {
    /// Nothing listens there, yet or any more.
    Absent(String),
    /// It did not answer in time, or went away: trying again may help.
    Unreachable(String),
    /// The job there takes no more nodes. One that ends makes place for the next.
    Complete(String),
    /// The door said no, or is none: trying again does not help.
    Refused(String),
}

impl CallError {
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Absent(text)
            | Self::Unreachable(text)
            | Self::Complete(text)
            | Self::Refused(text) => text,
        }
    }
}

/// Connects.
pub(crate) fn dial(address: SocketAddr, deadline: Instant) -> Result<TcpStream, CallError> {
    let unreachable = |error: std::io::Error| {
        let text = format!("{address}: {error}");
        match error.kind() {
            ErrorKind::ConnectionRefused => CallError::Absent(text),
            _ => CallError::Unreachable(text),
        }
    };
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
        let reason = refusal.reason().to_owned();
        return Err(match refusal {
            Refusal::NotJoining => CallError::Complete(reason),
            _ => CallError::Refused(reason),
        });
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

/// The same, repeated until `deadline` while something listens there and the peer is not `lost`: a door does not wait long for callers
/// that say nothing, and on a busy machine either side may not get its turn for seconds.
pub(crate) fn call_patiently(
    address: SocketAddr,
    purpose: Purpose,
    me: &NodeIdentity,
    key: &JobKey,
    deadline: Instant,
    lost: impl Fn() -> bool,
) -> Result<TcpStream, CallError> {
    loop {
        let attempt = deadline.min(Instant::now() + ATTEMPT_MAX);
        match call(address, purpose, me, key, attempt) {
            Err(CallError::Unreachable(_)) if Instant::now() < deadline && !lost() => {
                std::thread::sleep(ATTEMPT_PAUSE);
            }
            outcome => return outcome,
        }
    }
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

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};
    use std::sync::Arc;

    use super::*;
    use crate::config::ProviderChoice;
    use crate::join::door::Door;
    use crate::join::identity::HostIdentity;
    use crate::rank::Rank;

    const LIMIT: Duration = Duration::from_secs(60);

    fn me() -> NodeIdentity {
        NodeIdentity {
            rank: Rank(1),
            size: 2,
            choice: ProviderChoice::Tcp,
            rdma: None,
            pid: 0,
            incarnation: 0,
            host: HostIdentity { boot_id: [0; 16], network_namespace: 0, uid: 0 },
            address: (Ipv4Addr::LOCALHOST, 1).into(),
        }
    }

    #[test]
    fn a_call_that_a_busy_door_has_let_fall_is_made_again() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("bound");
        let key = JobKey::new("a token");
        let deadline = Instant::now() + LIMIT;
        std::thread::scope(|scope| {
            let caller = scope
                .spawn(|| call_patiently(address, Purpose::Lane, &me(), &key, deadline, || false));
            for _ in 0..2 {
                drop(listener.accept().expect("it calls"));
            }
            let mut door = Door::new(listener, key.clone(), Arc::default()).expect("a door");
            let mut admitted = Vec::new();
            while admitted.is_empty() {
                assert!(Instant::now() < deadline, "it calls no more");
                door.step(Some(Duration::from_secs(1)), &mut admitted).expect("no fault");
            }
            admitted[0].answer(&key, None, b"", LIMIT).expect("it listens");
            caller.join().expect("no panic").expect("it was let in");
        });
    }

    #[test]
    fn who_is_lost_or_listens_no_more_is_not_called_again() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("bound");
        let key = JobKey::new("a token");
        let deadline = Instant::now() + LIMIT;
        std::thread::scope(|scope| {
            let caller = scope
                .spawn(|| call_patiently(address, Purpose::Lane, &me(), &key, deadline, || true));
            drop(listener.accept().expect("it calls"));
            let error = caller.join().expect("no panic").expect_err("nobody answers");
            assert!(matches!(error, CallError::Unreachable(_)), "{error:?}");
        });
        drop(listener);
        // The port stays taken, so that nobody else listens there.
        let kind = (socket2::Domain::IPV4, socket2::Type::STREAM);
        let silent = socket2::Socket::new(kind.0, kind.1, None).expect("a socket");
        silent.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a port");
        let address = silent.local_addr().expect("bound").as_socket().expect("an address");
        let error = call_patiently(address, Purpose::Lane, &me(), &key, deadline, || false);
        assert!(matches!(error, Err(CallError::Absent(_))), "{error:?}");
    }
}
