//! Addresses of ports: the table of GIDs, and which of them can be reached from elsewhere.

use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;

/// An address of a port: 16 bytes, on RoCE those of an IPv6 address or of a mapped IPv4 one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Gid(pub [u8; 16]);

impl Gid {
    /// The IP address that it stands for (RoCE).
    #[must_use]
    pub fn ip(self) -> IpAddr {
        Ipv6Addr::from(self.0).to_canonical()
    }

    /// The GID of an IP address (RoCE).
    #[must_use]
    pub fn of_ip(ip: IpAddr) -> Self {
        Self(match ip {
            IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
            IpAddr::V6(ip) => ip.octets(),
        })
    }

    /// Whether it is an unused place of the table.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.0 == [0; 16]
    }

    /// Whether packets to it stay on one link (fe80::/10): routers do not pass them on.
    #[must_use]
    pub fn is_link_local(self) -> bool {
        self.0[0] == 0xfe && self.0[1] & 0xc0 == 0x80
    }

    /// The subnet part (InfiniBand).
    #[must_use]
    pub fn subnet(self) -> [u8; 8] {
        self.0[..8].try_into().expect("8 of 16 bytes")
    }
}

impl fmt::Display for Gid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ipv6Addr::from(self.0).fmt(f)
    }
}

/// How packets to a GID look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GidKind {
    /// InfiniBand's own, or RoCE version 1 (Ethernet frames, not routable); the link layer tells which.
    Native,
    /// RoCE version 2: UDP, routable.
    RoceV2,
}

/// A place in the table of GIDs that is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GidEntry {
    /// Its place; other hosts have other places, so this never travels.
    pub index: u8,
    /// The address.
    pub gid: Gid,
    /// How packets look.
    pub kind: GidKind,
    /// The network interface that it belongs to (RoCE).
    pub netdev: Option<String>,
}

/// Places that are looked at; a queue pair names a place by one byte.
const PLACES_MAX: u32 = 256;

/// The table of a port, as the system shows it below `root` (`/` on a real machine).
pub(super) fn read_table(root: &Path, device: &str, port: u8, places: u32) -> Vec<GidEntry> {
    let base = root.join(format!("sys/class/infiniband/{device}/ports/{port}"));
    (0..=u8::MAX)
        .take(usize::try_from(places.min(PLACES_MAX)).expect("small"))
        .filter_map(|index| read_entry(&base, index))
        .collect()
}

/// One place of the table, if it is in use.
pub(super) fn read_place(root: &Path, device: &str, port: u8, index: u8) -> Option<GidEntry> {
    read_entry(&root.join(format!("sys/class/infiniband/{device}/ports/{port}")), index)
}

fn read_entry(base: &Path, index: u8) -> Option<GidEntry> {
    let text = |path: &str| {
        let text = fs::read_to_string(base.join(format!("{path}/{index}"))).ok()?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    };
    let gid = Gid(text("gids")?.parse::<Ipv6Addr>().ok()?.octets());
    if gid.is_zero() {
        return None;
    }
    // Unused places have no kind: reading it fails.
    let kind = match text("gid_attrs/types")?.as_str() {
        "RoCE v2" => GidKind::RoceV2,
        _ => GidKind::Native,
    };
    Some(GidEntry { index, gid, kind, netdev: text("gid_attrs/ndevs") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(entries: &[(u8, &str, &str, &str)]) -> Vec<GidEntry> {
        let root = std::env::temp_dir().join(format!(
            "sterna-gids-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        let port = root.join("sys/class/infiniband/mlx5_0/ports/1");
        for (folder, column) in [("gids", 0), ("gid_attrs/types", 1), ("gid_attrs/ndevs", 2)] {
            fs::create_dir_all(port.join(folder)).expect("a folder");
            for entry in entries {
                let text = [entry.1, entry.2, entry.3][column];
                if !text.is_empty() {
                    fs::write(port.join(folder).join(entry.0.to_string()), format!("{text}\n"))
                        .expect("a file");
                }
            }
        }
        let read = read_table(&root, "mlx5_0", 1, 16);
        fs::remove_dir_all(&root).expect("our folder");
        read
    }

    #[test]
    fn used_places_are_read_with_their_kind_and_interface() {
        let read = table(&[
            (0, "fe80:0000:0000:0000:ba59:9fff:fe0a:0001", "IB/RoCE v1", "eth1"),
            (1, "fe80:0000:0000:0000:ba59:9fff:fe0a:0001", "RoCE v2", "eth1"),
            (2, "0000:0000:0000:0000:0000:0000:0000:0000", "", ""),
            (3, "0000:0000:0000:0000:0000:ffff:0a01:0203", "RoCE v2", "eth1"),
            (7, "2001:0db8:0000:0000:0000:0000:0000:0007", "RoCE v2", "eth2"),
        ]);
        let seen: Vec<_> = read.iter().map(|entry| (entry.index, entry.kind)).collect();
        use GidKind::{Native, RoceV2};
        assert_eq!(seen, [(0, Native), (1, RoceV2), (3, RoceV2), (7, RoceV2)]);
        assert_eq!(read[2].gid.ip().to_string(), "10.1.2.3");
        assert_eq!(read[2].gid, Gid::of_ip("10.1.2.3".parse().expect("an address")));
        assert_eq!(read[3].netdev.as_deref(), Some("eth2"));
        assert!(read[1].gid.is_link_local() && !read[2].gid.is_link_local());
    }

    #[test]
    fn a_port_that_is_not_there_has_no_addresses() {
        assert!(read_table(Path::new("/nonexistent"), "mlx5_0", 1, 16).is_empty());
        assert!(read_place(Path::new("/nonexistent"), "mlx5_0", 1, 0).is_none());
    }
}
