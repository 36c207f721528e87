//! Which device, port and GID a node uses, without being asked; what the user forces wins or is an error.
//!
//! A port has to be active. Hardware comes before software devices, a GID that is the address by which
//! this node reaches its job before others, RoCE version 2 before 1, IPv4 before global IPv6 addresses;
//! link-local addresses only serve if there is nothing else on InfiniBand.

use std::net::IpAddr;
use std::path::Path;

use super::device::{DeviceEntry, DeviceLimits, LinkLayer, Port, PortState, devices};
use super::error::VerbsError;
use super::gid::{Gid, GidEntry, GidKind, read_place, read_table};
use super::tuning::{MESSAGE_BYTES_MAX, MESSAGE_BYTES_MIN};

/// What the user forces; all of it is optional.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// Name of the device.
    pub device: Option<String>,
    /// Number of the port, from 1.
    pub port: Option<u8>,
    /// The GID: its place in the port's table (`3`) or its address (`10.0.0.7`, `fe80::1`).
    pub gid: Option<GidWish>,
    /// Traffic class of packets (RoCE: the IP header's byte with DSCP and ECN).
    pub traffic_class: u8,
    /// Queue pairs that a node may have in use; without, as many as caches of usual devices hold, or more where nodes are many.
    pub queue_pairs: Option<u32>,
}

/// How the user names a GID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GidWish {
    /// By its place in the table.
    Index(u8),
    /// By its address.
    Address(Gid),
}

impl GidWish {
    /// From a number or an IP address.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let index = text.parse().ok().map(Self::Index);
        index.or_else(|| text.parse().ok().map(|ip| Self::Address(Gid::of_ip(ip))))
    }

    fn fits(self, entry: &GidEntry) -> bool {
        match self {
            Self::Index(index) => entry.index == index,
            Self::Address(gid) => entry.gid == gid,
        }
    }
}

/// Where a node's queue pairs are.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) device: String,
    pub(crate) port: u8,
    pub(crate) gid: Gid,
    pub(crate) gid_index: u8,
    gid_kind: GidKind,
    pub(crate) lid: u16,
    pub(crate) is_ethernet: bool,
    pub(crate) is_software: bool,
    /// Code of the longest packet.
    pub(crate) mtu: u8,
    mtu_bytes: u32,
    pub(crate) message_bytes_max: u32,
    pub(crate) traffic_class: u8,
    /// Queue pairs that the user allows.
    pub(crate) pairs_wished: Option<u32>,
    pub(crate) reads_served: u8,
    pub(crate) reads_issued: u8,
    pub(crate) limits: DeviceLimits,
}

impl Place {
    /// For the start line.
    pub(crate) fn describe(&self) -> String {
        let kind = match (self.is_ethernet, self.gid_kind) {
            (true, GidKind::RoceV2) => "RoCE v2",
            (true, GidKind::Native) => "RoCE v1",
            (false, _) => "InfiniBand",
        };
        let software = if self.is_software { ", software emulation" } else { "" };
        format!(
            "device {} port {}, {kind}, GID {} at place {}, MTU {}{software}",
            self.device,
            self.port,
            self.gid.ip(),
            self.gid_index,
            self.mtu_bytes
        )
    }

    /// Looks the GID up again: its place in the table changes when the interface gets other addresses.
    pub(crate) fn refresh(&mut self) -> Result<(), VerbsError> {
        let root = Path::new("/");
        let same = |entry: &GidEntry| entry.gid == self.gid && entry.kind == self.gid_kind;
        if read_place(root, &self.device, self.port, self.gid_index).is_some_and(|at| same(&at)) {
            return Ok(());
        }
        let table = read_table(root, &self.device, self.port, 256);
        let found = table.iter().find(|entry| same(entry)).ok_or_else(|| {
            VerbsError::Choice(format!(
                "GID {} of {} port {} is gone: the interface lost its address; give it back (ip address) \
                 or restart the job",
                self.gid.ip(),
                self.device,
                self.port
            ))
        })?;
        self.gid_index = found.index;
        Ok(())
    }
}

/// Chooses among the devices of this host. `address` is the one by which the node reaches its job.
pub(crate) fn choose(wish: &Wish, address: Option<IpAddr>) -> Result<Place, VerbsError> {
    pick(wish, address, &devices()?)
}

/// The port and address that a node of this host uses, for those who show it or hand it on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Chosen {
    /// Name of the device.
    pub device: String,
    /// Number of its port.
    pub port: u8,
    /// Place of the GID in the port's table, for programs on this host; other hosts have other places.
    pub gid_index: u8,
    /// Done by the kernel's software.
    pub is_software: bool,
    /// All of it in words.
    pub description: String,
}

/// What a node of this host would choose that reaches its job by `address`.
///
/// # Errors
/// As a job would end: what was forced is not there, or no port can be used, with the reasons.
pub fn chosen(wish: &Wish, address: Option<IpAddr>) -> Result<Chosen, VerbsError> {
    let place = choose(wish, address)?;
    Ok(Chosen {
        description: place.describe(),
        device: place.device,
        port: place.port,
        gid_index: place.gid_index,
        is_software: place.is_software,
    })
}

fn pick(
    wish: &Wish,
    address: Option<IpAddr>,
    entries: &[DeviceEntry],
) -> Result<Place, VerbsError> {
    let named: Vec<_> = entries
        .iter()
        .filter(|entry| wish.device.as_ref().is_none_or(|name| *name == entry.name))
        .collect();
    if let (Some(name), true) = (&wish.device, named.is_empty()) {
        let names: Vec<_> = entries.iter().map(|entry| entry.name.as_str()).collect();
        return Err(VerbsError::Choice(format!(
            "there is no RDMA device {name}; this host has: {}",
            names.join(", ")
        )));
    }
    let mut best: Option<(u32, Place)> = None;
    let mut reasons = Vec::new();
    for entry in named {
        let device = match &entry.device {
            Ok(device) => device,
            Err(error) => {
                reasons.push(format!("{}: {error}", entry.name));
                continue;
            }
        };
        let ports = device.ports.iter();
        for port in ports.filter(|port| wish.port.is_none_or(|number| number == port.number)) {
            let name = format!("{} port {}", entry.name, port.number);
            match gid(wish, address, port) {
                Err(reason) => reasons.push(format!("{name}: {reason}")),
                Ok((rank, gid)) => {
                    let rank = rank + if device.is_software { 0 } else { 1000 };
                    if best.as_ref().is_none_or(|(before, _)| rank > *before) {
                        let place =
                            place(wish, &entry.name, device.is_software, &device.limits, port, gid);
                        best = Some((rank, place));
                    }
                }
            }
        }
        if let Some(number) = wish.port
            && device.ports.iter().all(|port| port.number != number)
        {
            reasons.push(format!("{} has no port {number}", entry.name));
        }
    }
    best.map(|(_, place)| place).ok_or_else(|| {
        VerbsError::Choice(format!("no RDMA port can be used: {}", reasons.join("; ")))
    })
}

/// The best GID of a port and how good it is, or why there is none.
fn gid<'a>(
    wish: &Wish,
    address: Option<IpAddr>,
    port: &'a Port,
) -> Result<(u32, &'a GidEntry), String> {
    if port.state != PortState::Active {
        return Err(format!(
            "its state is {:?}, not Active: check cable, switch and `ip link` (InfiniBand: the subnet \
             manager)",
            port.state
        ));
    }
    if port.message_bytes_max < MESSAGE_BYTES_MIN {
        return Err(format!("it carries messages of {} bytes only", port.message_bytes_max));
    }
    let is_ethernet = port.link_layer == LinkLayer::Ethernet;
    let rank = |entry: &GidEntry| {
        let routable = !entry.gid.is_link_local();
        let forced = wish.gid.is_some();
        if is_ethernet && !routable && !forced {
            return None;
        }
        let own = address.is_some_and(|address| entry.gid == Gid::of_ip(address));
        Some(
            1 + u32::from(own) * 100
                + u32::from(entry.kind == GidKind::RoceV2) * 20
                + u32::from(routable) * 10
                + u32::from(entry.gid.ip().is_ipv4()) * 5,
        )
    };
    let fitting = port.gids.iter().filter(|entry| wish.gid.is_none_or(|wish| wish.fits(entry)));
    // Of equals the first.
    let best = fitting
        .filter_map(|entry| Some((rank(entry)?, entry)))
        .reduce(|best, next| if next.0 > best.0 { next } else { best });
    best.ok_or_else(|| match wish.gid {
        Some(GidWish::Index(index)) => format!("place {index} of its table of GIDs is empty"),
        Some(GidWish::Address(gid)) => format!("it has no GID {}", gid.ip()),
        None => "it has no routable GID: give its interface an IP address".to_owned(),
    })
}

fn place(
    wish: &Wish,
    device: &str,
    is_software: bool,
    limits: &DeviceLimits,
    port: &Port,
    gid: &GidEntry,
) -> Place {
    let reads = |count: u32| u8::try_from(count.clamp(1, 255)).expect("at most 255");
    Place {
        device: device.to_owned(),
        port: port.number,
        gid: gid.gid,
        gid_index: gid.index,
        gid_kind: gid.kind,
        lid: port.lid,
        is_ethernet: port.link_layer == LinkLayer::Ethernet,
        is_software,
        // 256 bytes are code 1, each code more doubles them.
        mtu: u8::try_from((port.mtu_bytes.max(256) / 128).ilog2()).expect("a small code"),
        mtu_bytes: port.mtu_bytes,
        message_bytes_max: port.message_bytes_max.min(MESSAGE_BYTES_MAX),
        traffic_class: wish.traffic_class,
        pairs_wished: wish.queue_pairs,
        reads_served: reads(limits.reads_served),
        reads_issued: reads(limits.reads_issued),
        limits: *limits,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verbs::device::{Atomics, Device};

    fn gid(index: u8, ip: &str, kind: GidKind) -> GidEntry {
        let gid = Gid::of_ip(ip.parse().expect("an address"));
        GidEntry { index, gid, kind, netdev: Some("eth0".to_owned()) }
    }

    fn device(name: &str, is_software: bool, state: PortState, gids: Vec<GidEntry>) -> DeviceEntry {
        let port = Port {
            number: 1,
            state,
            link_layer: LinkLayer::Ethernet,
            mtu_bytes: 1024,
            mtu_bytes_max: 4096,
            gigabits: Some(100.0),
            lid: 0,
            message_bytes_max: 1 << 30,
            gids,
        };
        let limits = DeviceLimits {
            queue_pairs: 1 << 16,
            work_requests: 1 << 14,
            pieces: 30,
            completion_queues: 1 << 16,
            completions: 1 << 22,
            regions: 1 << 20,
            region_bytes: u64::MAX,
            reads_served: 16,
            reads_issued: 16,
            shared_queues: 1 << 16,
            shared_requests: 1 << 15,
            atomics: Atomics::Device,
        };
        DeviceEntry {
            name: name.to_owned(),
            device: Ok(Device {
                name: name.to_owned(),
                node: "/dev/infiniband/uverbs0".into(),
                firmware: String::new(),
                vendor: (0, 0),
                is_software,
                numa_node: None,
                limits,
                ports: vec![port],
            }),
        }
    }

    fn usual() -> Vec<GidEntry> {
        vec![
            gid(0, "fe80::1", GidKind::Native),
            gid(1, "fe80::1", GidKind::RoceV2),
            gid(2, "10.0.0.7", GidKind::Native),
            gid(3, "10.0.0.7", GidKind::RoceV2),
            gid(5, "2001:db8::7", GidKind::RoceV2),
            gid(7, "10.9.9.9", GidKind::RoceV2),
        ]
    }

    #[test]
    fn the_routable_gid_of_the_interface_that_reaches_the_job_is_chosen() {
        let devices = [device("mlx5_0", false, PortState::Active, usual())];
        let chosen = |address: Option<&str>| {
            let address = address.map(|text| text.parse().expect("an address"));
            pick(&Wish::default(), address, &devices).expect("usable").gid_index
        };
        assert_eq!(chosen(None), 3, "RoCE v2, IPv4, the first");
        assert_eq!(chosen(Some("10.9.9.9")), 7);
        assert_eq!(chosen(Some("2001:db8::7")), 5);
        assert_eq!(chosen(Some("127.0.0.1")), 3, "an address of another interface changes nothing");
    }

    #[test]
    fn hardware_comes_before_software_and_a_port_that_is_down_is_no_choice() {
        let soft = device("rxe0", true, PortState::Active, usual());
        let hard = |state| device("mlx5_0", false, state, usual());
        let chosen = |devices: &[DeviceEntry]| pick(&Wish::default(), None, devices);
        let place = chosen(&[soft.clone(), hard(PortState::Active)]).expect("usable");
        assert_eq!((place.device.as_str(), place.mtu, place.is_software), ("mlx5_0", 3, false));
        let place = chosen(&[hard(PortState::Down), soft]).expect("usable");
        assert_eq!(place.device, "rxe0");
        assert!(place.describe().contains("software"), "{}", place.describe());
        let text = chosen(&[hard(PortState::Down)]).expect_err("down").to_string();
        assert!(text.contains("mlx5_0 port 1") && text.contains("Down"), "{text}");
    }

    #[test]
    fn what_is_forced_is_taken_or_is_an_error_that_names_it() {
        let devices = [device("mlx5_0", false, PortState::Active, usual())];
        let wish = |device: Option<&str>, port, gid: Option<&str>| Wish {
            device: device.map(str::to_owned),
            port,
            gid: gid.map(|text| GidWish::parse(text).expect("a GID")),
            traffic_class: 106,
            queue_pairs: None,
        };
        let chosen = |wish: &Wish| pick(wish, None, &devices);
        let place = chosen(&wish(Some("mlx5_0"), Some(1), Some("1"))).expect("there");
        assert_eq!((place.gid_index, place.traffic_class), (1, 106), "also a link-local one");
        assert_eq!(chosen(&wish(None, None, Some("2001:db8::7"))).expect("there").gid_index, 5);
        for (wish, part) in [
            (wish(Some("mlx5_9"), None, None), "mlx5_9"),
            (wish(None, Some(2), None), "no port 2"),
            (wish(None, None, Some("9")), "place 9"),
            (wish(None, None, Some("10.1.1.1")), "10.1.1.1"),
        ] {
            let text = chosen(&wish).expect_err(part).to_string();
            assert!(text.contains(part), "{text}");
        }
        assert_eq!(GidWish::parse("eth0"), None);
    }

    #[test]
    fn a_port_without_a_routable_address_says_what_to_do() {
        let gids = vec![gid(0, "fe80::1", GidKind::RoceV2)];
        let devices = [device("mlx5_0", false, PortState::Active, gids)];
        let text = pick(&Wish::default(), None, &devices).expect_err("not routable").to_string();
        assert!(text.contains("IP address"), "{text}");
    }
}
