//! What travels over the Unix socket of two peers, one packet each.
//!
//! ```text
//!  0          8          12     16          24       28         32           40       48
//! +----------+----------+------+-----------+--------+----------+------------+--------+
//! | "STRN SHM" version  | 1    | proof     | from   | to       | bytes of a ring     |  Hello  + ring, bell
//! +----------+----------+------+-----------+--------+----------+------------+--------+
//! | ..       | ..       | 2    | bytes     | region |                                |  Region + memory
//! | ..       | ..       | 3    |                                                     |  Goodbye
//! | ..       | ..       | 4    | reason                                              |  Refused
//! +----------+----------+------+-----------------------------------------------------+
//! ```
//!
//! Numbers are little endian. A packet of another length, kind or version ends the connection.

use crate::join::proof::PROTOCOL_VERSION;
use crate::rank::Rank;
use crate::region::RegionId;

const MAGIC: [u8; 8] = *b"STRN SHM";

/// A packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packet {
    /// First packet of each side; comes with the ring on which the other side is to send, and the bell.
    Hello(Hello),
    /// Comes with the memory of a region.
    Region { id: RegionId, bytes: u64 },
    /// The sender ends in good order.
    Goodbye,
    /// The caller was not let in.
    Refused(Refusal),
}

/// Who calls whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hello {
    /// A number that only the job's nodes can compute, for this pair and direction alone.
    pub(super) proof: u64,
    pub(super) from: Rank,
    pub(super) to: Rank,
    pub(super) ring_bytes: u64,
}

/// Why a caller was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Another version of Sterna.
    Version,
    /// Does not know the job's token, or is of another start of the job.
    Proof,
    /// Not a peer that is expected to call.
    Rank,
}

impl Refusal {
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Version => "it runs another version of sterna",
            Self::Proof => "its token is not that of this job",
            Self::Rank => "its rank is not expected here, or has joined already",
        }
    }
}

/// Why bytes are not a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotPacket {
    Version,
    Malformed,
}

impl Packet {
    pub(super) const BYTES: usize = 48;

    pub(super) fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut out = [0; Self::BYTES];
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &MAGIC);
        put(8, &PROTOCOL_VERSION.to_le_bytes());
        match self {
            Self::Hello(hello) => {
                put(12, &[1]);
                put(16, &hello.proof.to_le_bytes());
                put(24, &hello.from.0.to_le_bytes());
                put(28, &hello.to.0.to_le_bytes());
                put(32, &hello.ring_bytes.to_le_bytes());
            }
            Self::Region { id, bytes } => {
                put(12, &[2]);
                put(16, &bytes.to_le_bytes());
                put(24, &id.0.to_le_bytes());
            }
            Self::Goodbye => put(12, &[3]),
            Self::Refused(refusal) => {
                let code = match refusal {
                    Refusal::Version => 1,
                    Refusal::Proof => 2,
                    Refusal::Rank => 3,
                };
                put(12, &[4]);
                put(16, &[code]);
            }
        }
        out
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, NotPacket> {
        let bytes: &[u8; Self::BYTES] = bytes.try_into().map_err(|_| NotPacket::Malformed)?;
        let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        if bytes[..8] != MAGIC {
            return Err(NotPacket::Malformed);
        }
        if word(8) != PROTOCOL_VERSION {
            return Err(NotPacket::Version);
        }
        match (word(12), bytes[16]) {
            (1, _) => Ok(Self::Hello(Hello {
                proof: long(16),
                from: Rank(half(24)),
                to: Rank(half(28)),
                ring_bytes: long(32),
            })),
            (2, _) => Ok(Self::Region { id: RegionId(word(24)), bytes: long(16) }),
            (3, _) => Ok(Self::Goodbye),
            (4, 1) => Ok(Self::Refused(Refusal::Version)),
            (4, 2) => Ok(Self::Refused(Refusal::Proof)),
            (4, 3) => Ok(Self::Refused(Refusal::Rank)),
            _ => Err(NotPacket::Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn packets_survive_the_wire() {
        let hello =
            Hello { proof: u64::MAX - 1, from: Rank(7), to: Rank(4095), ring_bytes: 1 << 20 };
        for packet in [
            Packet::Hello(hello),
            Packet::Region { id: RegionId(77), bytes: 1 << 40 },
            Packet::Goodbye,
            Packet::Refused(Refusal::Version),
            Packet::Refused(Refusal::Proof),
            Packet::Refused(Refusal::Rank),
        ] {
            assert_eq!(Packet::from_bytes(&packet.to_bytes()), Ok(packet));
        }
        let mut other = Packet::Goodbye.to_bytes();
        other[8] ^= 1;
        assert_eq!(Packet::from_bytes(&other), Err(NotPacket::Version));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_packet_or_an_error(
            noise in prop::collection::vec(any::<u8>(), 0..64),
            kind in 0_u8..6,
        ) {
            let _ = Packet::from_bytes(&noise);
            let mut bytes = Packet::Goodbye.to_bytes();
            bytes[12] = kind;
            for (to, from) in bytes[16..].iter_mut().zip(&noise) {
                *to = *from;
            }
            let _ = Packet::from_bytes(&bytes);
        }
    }
}
