//! How two nodes convince each other that they know the job's token without sending it.
//!
//! ```text
//! caller                                   door
//!   Hello(version, purpose, nonce c)  ->
//!                                      <-  Challenge(version, refusal or go on, nonce d)
//!   Proof(mac, identity)              ->
//!                                      <-  Verdict(mac, refusal or welcome, body)
//! ```
//!
//! A mac is HMAC-SHA-256, keyed by a digest of the token, over who speaks, both nonces, the purpose
//! and what is said, so neither side's answer can be replayed or turned around. All messages but
//! the verdict's body have a fixed length; the body's length is known to the caller beforehand or
//! bounded. What follows on the connection is neither encrypted nor authenticated: the token keeps
//! strangers and other jobs out, not somebody who can alter packets on the way.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use super::identity::NodeIdentity;

/// Raised with every change of anything that travels between nodes.
pub(crate) const PROTOCOL_VERSION: u32 = 3;

/// Starts every connection. The line break keeps it apart from text protocols.
const MAGIC: [u8; 8] = *b"STERNA\r\n";

/// A random number that is used once.
pub(crate) type Nonce = [u8; 32];

const MAC_BYTES: usize = 32;

/// A digest of the job's token.
#[derive(Clone)]
pub(crate) struct JobKey([u8; 32]);

impl std::fmt::Debug for JobKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JobKey(secret)")
    }
}

impl JobKey {
    pub(crate) fn new(token: &str) -> Self {
        Self(Sha256::new_with_prefix(b"sterna job token").chain_update(token).finalize().into())
    }

    fn mac(&self, parts: &[&[u8]]) -> Hmac<Sha256> {
        let mut mac =
            <Hmac<Sha256> as KeyInit>::new_from_slice(&self.0).expect("a key of any length");
        for part in parts {
            mac.update(part);
        }
        mac
    }

    /// A number that only nodes of the job can compute from `parts`.
    pub(crate) fn tag(&self, parts: &[&[u8]]) -> u64 {
        let bytes: [u8; 32] = self.mac(parts).finalize().into_bytes().into();
        u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes"))
    }
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To join the job at rank 0.
    Join,
    /// To be the link between two nodes.
    Link,
    /// To be a read lane.
    Lane,
}

impl Purpose {
    fn code(self) -> u8 {
        match self {
            Self::Join => 1,
            Self::Link => 2,
            Self::Lane => 3,
        }
    }
}

/// Why a door does not let a caller in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Other protocol version.
    Version,
    /// The mac does not fit: another token.
    Token,
    /// An identity that cannot be.
    Malformed,
    /// The caller wants to join, but this is not rank 0, or the job has begun.
    NotJoining,
    /// This rank is there already.
    RankTaken,
    /// The caller was told another number of nodes.
    Size,
    /// The caller was told another choice of providers.
    Choice,
    /// Rank 0 gave up.
    Aborted,
}

impl Refusal {
    const ALL: [(u8, Self); 8] = [
        (1, Self::Version),
        (2, Self::Token),
        (3, Self::Malformed),
        (4, Self::NotJoining),
        (5, Self::RankTaken),
        (6, Self::Size),
        (7, Self::Choice),
        (8, Self::Aborted),
    ];

    fn code(self) -> u8 {
        Self::ALL.iter().find(|(_, refusal)| *refusal == self).expect("all are listed").0
    }

    /// In words, with what to do.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Version => "another version of Sterna: use one build at all nodes",
            Self::Token => "another job token: set STERNA_TOKEN to the same at all nodes",
            Self::Malformed => "a malformed identity",
            Self::NotJoining => "this job is complete already, or this is not its rank 0",
            Self::RankTaken => "this rank has joined already: give each node its own STERNA_RANK",
            Self::Size => "another number of nodes: set STERNA_SIZE to the same at all nodes",
            Self::Choice => "another choice of providers: set STERNA_FABRIC to the same everywhere",
            Self::Aborted => "rank 0 gave up; see its message",
        }
    }
}

/// The first message of a caller.
pub(crate) struct Hello {
    pub(crate) purpose: Purpose,
    pub(crate) nonce: Nonce,
}

/// What is wrong with a first message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NotHello {
    /// Something else than Sterna.
    Stranger,
    /// Sterna of another version.
    Version(u32),
}

impl Hello {
    pub(crate) const BYTES: usize = 48;

    pub(crate) fn to_bytes(&self) -> [u8; Self::BYTES] {
        opening(self.purpose.code(), &self.nonce)
    }

    pub(crate) fn from_bytes(bytes: &[u8; Self::BYTES]) -> Result<Self, NotHello> {
        let (code, nonce) = read_opening(bytes)?;
        let purpose = [Purpose::Join, Purpose::Link, Purpose::Lane]
            .into_iter()
            .find(|purpose| purpose.code() == code)
            .ok_or(NotHello::Stranger)?;
        Ok(Self { purpose, nonce })
    }
}

/// The door's answer to it.
pub(crate) struct Challenge {
    pub(crate) refusal: Option<Refusal>,
    pub(crate) nonce: Nonce,
}

impl Challenge {
    pub(crate) const BYTES: usize = 48;

    pub(crate) fn to_bytes(&self) -> [u8; Self::BYTES] {
        opening(self.refusal.map_or(0, Refusal::code), &self.nonce)
    }

    pub(crate) fn from_bytes(bytes: &[u8; Self::BYTES]) -> Result<Self, NotHello> {
        let (code, nonce) = read_opening(bytes)?;
        Ok(Self { refusal: refusal_of(code).ok_or(NotHello::Stranger)?, nonce })
    }
}

fn opening(code: u8, nonce: &Nonce) -> [u8; 48] {
    let mut out = [0; 48];
    out[0..8].copy_from_slice(&MAGIC);
    out[8..12].copy_from_slice(&PROTOCOL_VERSION.to_le_bytes());
    out[12] = code;
    out[16..48].copy_from_slice(nonce);
    out
}

fn read_opening(bytes: &[u8; 48]) -> Result<(u8, Nonce), NotHello> {
    if bytes[0..8] != MAGIC {
        return Err(NotHello::Stranger);
    }
    let version = u32::from_le_bytes(bytes[8..12].try_into().expect("4 bytes"));
    if version != PROTOCOL_VERSION {
        return Err(NotHello::Version(version));
    }
    Ok((bytes[12], bytes[16..48].try_into().expect("32 bytes")))
}

/// `Some(None)` for welcome.
fn refusal_of(code: u8) -> Option<Option<Refusal>> {
    if code == 0 {
        return Some(None);
    }
    Refusal::ALL.iter().find(|(c, _)| *c == code).map(|(_, refusal)| Some(*refusal))
}

/// What both sides said so far; all macs cover it.
pub(crate) struct Transcript {
    pub(crate) purpose: Purpose,
    pub(crate) caller: Nonce,
    pub(crate) door: Nonce,
}

/// The caller's proof.
pub(crate) struct Proof;

impl Proof {
    pub(crate) const BYTES: usize = MAC_BYTES + NodeIdentity::BYTES;

    pub(crate) fn make(
        key: &JobKey,
        transcript: &Transcript,
        node: &NodeIdentity,
    ) -> [u8; Self::BYTES] {
        let body = node.to_bytes();
        let mac = transcript.mac(key, b"caller", &body).finalize().into_bytes();
        let mut out = [0; Self::BYTES];
        out[..MAC_BYTES].copy_from_slice(&mac);
        out[MAC_BYTES..].copy_from_slice(&body);
        out
    }

    pub(crate) fn check(
        key: &JobKey,
        transcript: &Transcript,
        bytes: &[u8; Self::BYTES],
    ) -> Result<NodeIdentity, Refusal> {
        let (mac, body) = bytes.split_at(MAC_BYTES);
        // Compares in constant time.
        transcript.mac(key, b"caller", body).verify_slice(mac).map_err(|_| Refusal::Token)?;
        NodeIdentity::from_bytes(body.try_into().expect("the rest")).ok_or(Refusal::Malformed)
    }
}

impl Transcript {
    fn mac(&self, key: &JobKey, speaker: &[u8], said: &[u8]) -> Hmac<Sha256> {
        key.mac(&[speaker, &[self.purpose.code()], &self.caller, &self.door, said])
    }
}

/// The head of the door's last message; `body_bytes` bytes follow.
pub(crate) struct Verdict {
    mac: [u8; MAC_BYTES],
    pub(crate) refusal: Option<Refusal>,
    pub(crate) body_bytes: u32,
}

impl Verdict {
    pub(crate) const BYTES: usize = MAC_BYTES + 8;

    /// The whole message.
    pub(crate) fn make(
        key: &JobKey,
        transcript: &Transcript,
        refusal: Option<Refusal>,
        body: &[u8],
    ) -> Vec<u8> {
        let mut said = vec![refusal.map_or(0, Refusal::code), 0, 0, 0];
        said.extend(u32::try_from(body.len()).expect("a table of nodes is short").to_le_bytes());
        said.extend(body);
        let mut out = transcript.mac(key, b"door", &said).finalize().into_bytes().to_vec();
        out.extend(said);
        out
    }

    pub(crate) fn from_bytes(bytes: &[u8; Self::BYTES]) -> Option<Self> {
        let (mac, head) = bytes.split_at(MAC_BYTES);
        Some(Self {
            mac: mac.try_into().expect("32 bytes"),
            refusal: refusal_of(head[0])?,
            body_bytes: u32::from_le_bytes(head[4..8].try_into().expect("4 bytes")),
        })
    }

    /// Whether the door knows the token.
    pub(crate) fn is_proven(&self, key: &JobKey, transcript: &Transcript, body: &[u8]) -> bool {
        let mut said = vec![self.refusal.map_or(0, Refusal::code), 0, 0, 0];
        said.extend(self.body_bytes.to_le_bytes());
        said.extend(body);
        transcript.mac(key, b"door", &said).verify_slice(&self.mac).is_ok()
    }
}

/// A fresh nonce.
pub(crate) fn nonce() -> Nonce {
    let mut nonce = [0; 32];
    getrandom::fill(&mut nonce).expect("the system gives random bytes");
    nonce
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::super::identity::HostIdentity;
    use super::*;
    use crate::config::ProviderChoice;
    use crate::rank::Rank;

    fn node() -> NodeIdentity {
        NodeIdentity {
            rank: Rank(1),
            size: 2,
            choice: ProviderChoice::Auto,
            rdma: None,
            pid: 1,
            incarnation: 5,
            host: HostIdentity { boot_id: [1; 16], network_namespace: 2, uid: 3 },
            address: SocketAddr::from(([127, 0, 0, 1], 9)),
        }
    }

    fn transcript() -> Transcript {
        Transcript { purpose: Purpose::Link, caller: [7; 32], door: [9; 32] }
    }

    #[test]
    fn a_proof_holds_for_its_token_purpose_and_nonces_only() {
        let key = JobKey::new("a token of this job");
        let proof = Proof::make(&key, &transcript(), &node());
        assert_eq!(Proof::check(&key, &transcript(), &proof), Ok(node()));
        let other = JobKey::new("a token of that job");
        assert_eq!(Proof::check(&other, &transcript(), &proof), Err(Refusal::Token));
        let replayed = Transcript { door: [8; 32], ..transcript() };
        assert_eq!(Proof::check(&key, &replayed, &proof), Err(Refusal::Token));
        let turned = Transcript { purpose: Purpose::Lane, ..transcript() };
        assert_eq!(Proof::check(&key, &turned, &proof), Err(Refusal::Token));
        for at in 0..proof.len() {
            let mut bent = proof;
            bent[at] ^= 1;
            assert!(Proof::check(&key, &transcript(), &bent).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_verdict_is_not_the_callers_own_proof_sent_back() {
        let key = JobKey::new("a token of this job");
        let verdict = Verdict::make(&key, &transcript(), None, b"table");
        let head = verdict[..Verdict::BYTES].try_into().expect("a head");
        let head = Verdict::from_bytes(head).expect("a verdict");
        assert!(head.is_proven(&key, &transcript(), b"table"));
        assert!(!head.is_proven(&key, &transcript(), b"tables"));
        assert!(!head.is_proven(&JobKey::new("other"), &transcript(), b"table"));
    }

    #[test]
    fn text_of_another_protocol_is_a_stranger_and_another_version_says_so() {
        let mut bytes = *b"GET / HTTP/1.1\r\nHost: example.org\r\nAccept: */*\r\n";
        assert_eq!(Hello::from_bytes(&bytes).err(), Some(NotHello::Stranger));
        bytes = Hello { purpose: Purpose::Join, nonce: [0; 32] }.to_bytes();
        assert!(Hello::from_bytes(&bytes).is_ok());
        bytes[8] = 99;
        assert_eq!(Hello::from_bytes(&bytes).err(), Some(NotHello::Version(99)));
    }
}
