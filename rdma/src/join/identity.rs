//! Who a node is: what it tells the others when it joins.
//!
//! ```text
//!  0      2      4        8        12      16            24          40       48         56
//! +------+------+--------+--------+-------+-------------+-----------+--------+----------+
//! | rank | size | ways   | pid    | uid   | incarnation | boot id   | netns  | port, v6 |
//! +------+------+--------+--------+-------+-------------+-----------+--------+----------+
//! 56            72
//! +------------+
//! | IP address |
//! +------------+
//! ```
//!
//! `ways` are two bytes: the choice of providers, and the network of the RDMA port.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt;

use crate::config::ProviderChoice;
use crate::error::FabricError;
use crate::rank::Rank;

/// What tells two hosts (or containers that cannot share memory) apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HostIdentity {
    /// Random at each boot of a kernel.
    pub(crate) boot_id: [u8; 16],
    /// Inode of the network namespace: abstract Unix sockets do not cross it.
    pub(crate) network_namespace: u64,
    /// User: another one cannot open this one's memory.
    pub(crate) uid: u32,
}

impl HostIdentity {
    /// That of this process.
    pub(crate) fn of_this_process() -> Result<Self, FabricError> {
        let failed = |what: &str, reason: &dyn std::fmt::Display| FabricError::Os {
            what: format!("reading {what}"),
            reason: reason.to_string(),
        };
        let path = "/proc/sys/kernel/random/boot_id";
        let text = std::fs::read_to_string(path).map_err(|error| failed(path, &error))?;
        let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
        let boot_id = u128::from_str_radix(&digits, 16).map_err(|error| failed(path, &error))?;
        let path = "/proc/self/ns/net";
        let namespace = std::fs::metadata(path).map_err(|error| failed(path, &error))?.ino();
        // SAFETY: `geteuid` has no preconditions and cannot fail.
        let uid = unsafe { libc::geteuid() };
        Ok(Self { boot_id: boot_id.to_be_bytes(), network_namespace: namespace, uid })
    }
}

/// Kinds of networks for RDMA; ports in different kinds do not reach each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RdmaNetwork {
    InfiniBand,
    Ethernet,
}

/// What a node tells about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NodeIdentity {
    pub(crate) rank: Rank,
    /// Number of nodes as this node was told.
    pub(crate) size: u16,
    pub(crate) choice: ProviderChoice,
    pub(crate) pid: u32,
    /// The kind of network of its RDMA port, if it has one that may be used.
    pub(crate) rdma: Option<RdmaNetwork>,
    /// Random at each start of a node: a restarted node is another one.
    pub(crate) incarnation: u64,
    pub(crate) host: HostIdentity,
    /// Where it listens for its peers. Rank 0 may leave the address unspecified: the others know
    /// where they reached it.
    pub(crate) address: SocketAddr,
}

impl NodeIdentity {
    /// Length on the wire.
    pub(crate) const BYTES: usize = 72;

    pub(crate) fn to_bytes(&self) -> [u8; Self::BYTES] {
        let mut out = [0; Self::BYTES];
        out[0..2].copy_from_slice(&self.rank.0.to_le_bytes());
        out[2..4].copy_from_slice(&self.size.to_le_bytes());
        out[4] = match self.choice {
            ProviderChoice::Auto => 0,
            ProviderChoice::Shm => 1,
            ProviderChoice::Tcp => 2,
            ProviderChoice::Verbs => 3,
        };
        out[5] = match self.rdma {
            None => 0,
            Some(RdmaNetwork::InfiniBand) => 1,
            Some(RdmaNetwork::Ethernet) => 2,
        };
        out[8..12].copy_from_slice(&self.pid.to_le_bytes());
        out[12..16].copy_from_slice(&self.host.uid.to_le_bytes());
        out[16..24].copy_from_slice(&self.incarnation.to_le_bytes());
        out[24..40].copy_from_slice(&self.host.boot_id);
        out[40..48].copy_from_slice(&self.host.network_namespace.to_le_bytes());
        out[48..50].copy_from_slice(&self.address.port().to_le_bytes());
        match self.address.ip() {
            IpAddr::V4(ip) => out[56..60].copy_from_slice(&ip.octets()),
            IpAddr::V6(ip) => {
                out[50] = 1;
                out[56..72].copy_from_slice(&ip.octets());
            }
        }
        out
    }

    /// From bytes; `None` if they are not an identity.
    pub(crate) fn from_bytes(bytes: &[u8; Self::BYTES]) -> Option<Self> {
        let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        let ip = match bytes[50] {
            0 => IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(&bytes[56..60]).expect("4 bytes"))),
            1 => {
                IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(&bytes[56..72]).expect("16 bytes")))
            }
            _ => return None,
        };
        let choice = match bytes[4] {
            0 => ProviderChoice::Auto,
            1 => ProviderChoice::Shm,
            2 => ProviderChoice::Tcp,
            3 => ProviderChoice::Verbs,
            _ => return None,
        };
        let rdma = match bytes[5] {
            0 => None,
            1 => Some(RdmaNetwork::InfiniBand),
            2 => Some(RdmaNetwork::Ethernet),
            _ => return None,
        };
        let (rank, size) = (half(0), half(2));
        if rank >= size || usize::from(size) > Rank::COUNT_MAX {
            return None;
        }
        Some(Self {
            rank: Rank(rank),
            size,
            choice,
            rdma,
            pid: word(8),
            incarnation: long(16),
            host: HostIdentity {
                boot_id: bytes[24..40].try_into().expect("16 bytes"),
                network_namespace: long(40),
                uid: word(12),
            },
            address: SocketAddr::new(ip, half(48)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_survives_the_wire() {
        for address in ["10.1.2.3:4567", "[fe80::7]:1"] {
            let node = NodeIdentity {
                rank: Rank(3),
                size: 9,
                choice: ProviderChoice::Verbs,
                rdma: Some(RdmaNetwork::Ethernet),
                pid: 7,
                incarnation: 0x1234_5678_9abc_def0,
                host: HostIdentity::of_this_process().expect("procfs"),
                address: address.parse().expect("an address"),
            };
            assert_eq!(NodeIdentity::from_bytes(&node.to_bytes()), Some(node));
        }
    }

    #[test]
    fn a_rank_outside_the_job_is_no_identity() {
        let mut bytes = [0; NodeIdentity::BYTES];
        assert_eq!(NodeIdentity::from_bytes(&bytes), None, "size 0");
        bytes[2] = 2;
        assert!(NodeIdentity::from_bytes(&bytes).is_some());
        bytes[0] = 2;
        assert_eq!(NodeIdentity::from_bytes(&bytes), None);
    }
}
