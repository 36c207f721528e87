//! What two nodes tell each other over the authenticated connection of a link or lane before their queue
//! pairs can talk.
//!
//! ```text
//!  0          8          12           16        32    34    35      36    40        44     48        56          64
//! +----------+----------+------------+---------+-----+-----+-------+-----+---------+------+---------+-----------+
//! | "STRNVRBS" number   | 1st packet | GID     | LID | MTU | READs | net | records | key  | address | ring size |
//! +----------+----------+------------+---------+-----+-----+-------+-----+---------+------+---------+-----------+
//!  a goodbye, after the link has been made:
//!  0           8         16
//! +-----------+---------+
//! | "GOODBYE!"| records |
//! +-----------+---------+
//! ```

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::gid::Gid;
use super::queue_pair::Endpoint;

const MAGIC: [u8; 8] = *b"STRNVRBS";
const GOODBYE: [u8; 8] = *b"GOODBYE!";
/// Says that a queue pair is ready.
const READY: [u8; 8] = *b"READY..!";

/// One side's half of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    pub(super) endpoint: Endpoint,
    pub(super) is_ethernet: bool,
    /// The inbox into which the other side writes; zeroes on a lane.
    pub(super) inbox: Inbox,
}

/// Memory of this node that one peer writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Inbox {
    pub(super) address: u64,
    pub(super) key: u32,
    /// Records that may lie there at once.
    pub(super) records: u32,
    pub(super) ring_bytes: u64,
}

impl Offer {
    /// Length on the wire.
    pub(super) const BYTES: usize = 64;

    pub(super) fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut out = [0; Self::BYTES];
        let Self { endpoint, is_ethernet, inbox } = self;
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &MAGIC);
        put(8, &endpoint.number.to_le_bytes());
        put(12, &endpoint.first_packet.to_le_bytes());
        put(16, &endpoint.gid.0);
        put(32, &endpoint.lid.to_le_bytes());
        put(34, &[endpoint.mtu, endpoint.reads, u8::from(is_ethernet)]);
        put(40, &inbox.records.to_le_bytes());
        put(44, &inbox.key.to_le_bytes());
        put(48, &inbox.address.to_le_bytes());
        put(56, &inbox.ring_bytes.to_le_bytes());
        out
    }

    /// From bytes; `None` if they are no offer.
    pub(super) fn from_bytes(bytes: &[u8; Self::BYTES]) -> Option<Self> {
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        let is_sound = bytes[..8] == MAGIC && (1..=5).contains(&bytes[34]) && bytes[36] <= 1;
        is_sound.then(|| Self {
            endpoint: Endpoint {
                number: word(8) & 0x00ff_ffff,
                first_packet: word(12) & 0x00ff_ffff,
                gid: Gid(bytes[16..32].try_into().expect("16 bytes")),
                lid: u16::from_le_bytes([bytes[32], bytes[33]]),
                mtu: bytes[34],
                reads: bytes[35].max(1),
            },
            is_ethernet: bytes[36] == 1,
            inbox: Inbox {
                records: word(40),
                key: word(44),
                address: long(48),
                ring_bytes: long(56),
            },
        })
    }

    /// Sends it.
    pub(super) fn send(self, mut stream: &TcpStream) -> io::Result<()> {
        stream.write_all(&self.to_bytes())
    }

    /// Receives the other side's.
    pub(super) fn receive(stream: &TcpStream, deadline: Instant) -> io::Result<Self> {
        let mut bytes = [0; Self::BYTES];
        receive(stream, &mut bytes, deadline)?;
        Self::from_bytes(&bytes).ok_or_else(|| {
            io::Error::new(ErrorKind::InvalidData, "it does not speak this protocol")
        })
    }
}

/// Says that this side's queue pair is connected.
pub(super) fn send_ready(mut stream: &TcpStream) -> io::Result<()> {
    stream.write_all(&READY)
}

/// Hears that the other side's queue pair is connected.
pub(super) fn receive_ready(stream: &TcpStream, deadline: Instant) -> io::Result<()> {
    let mut bytes = [0; READY.len()];
    receive(stream, &mut bytes, deadline)?;
    if bytes == READY {
        return Ok(());
    }
    Err(io::Error::new(ErrorKind::InvalidData, "it does not speak this protocol"))
}

/// A goodbye after so many records.
pub(super) fn goodbye(records: u64) -> [u8; 16] {
    let mut out = [0; 16];
    out[..8].copy_from_slice(&GOODBYE);
    out[8..].copy_from_slice(&records.to_le_bytes());
    out
}

/// How many records came before a goodbye; `None` if it is none.
pub(super) fn said_goodbye(bytes: &[u8]) -> Option<u64> {
    let records = bytes.strip_prefix(&GOODBYE)?.try_into().ok()?;
    Some(u64::from_le_bytes(records))
}

fn receive(mut stream: &TcpStream, bytes: &mut [u8], deadline: Instant) -> io::Result<()> {
    let mut filled = 0;
    while filled < bytes.len() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(ErrorKind::TimedOut, "no answer in time"));
        }
        stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        match stream.read(&mut bytes[filled..]) {
            Ok(0) => {
                return Err(io::Error::new(ErrorKind::UnexpectedEof, "it closed the connection"));
            }
            Ok(count) => filled += count,
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut
                ) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_offer_and_a_goodbye_survive_the_wire() {
        let offer = Offer {
            endpoint: Endpoint {
                number: 0x12_3456,
                first_packet: 0x65_4321,
                gid: Gid::of_ip("10.0.0.2".parse().expect("an address")),
                lid: 7,
                mtu: 3,
                reads: 16,
            },
            is_ethernet: true,
            inbox: Inbox { address: 1 << 40, key: 99, records: 256, ring_bytes: 1 << 20 },
        };
        assert_eq!(Offer::from_bytes(&offer.to_bytes()), Some(offer));
        assert_eq!(said_goodbye(&goodbye(1 << 50)), Some(1 << 50));
        assert_eq!(said_goodbye(b"GOODBYE?12345678"), None);
        assert_eq!(said_goodbye(&goodbye(3)[..15]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_offer_or_none(noise in prop::array::uniform32(any::<u8>()), magic: bool) {
            let mut bytes = [0; Offer::BYTES];
            bytes[..32].copy_from_slice(&noise);
            bytes[32..].copy_from_slice(&noise);
            if magic {
                bytes[..8].copy_from_slice(&MAGIC);
            }
            if let Some(offer) = Offer::from_bytes(&bytes) {
                prop_assert!(magic && offer.endpoint.number < 1 << 24 && offer.endpoint.mtu <= 5);
            }
        }
    }
}
