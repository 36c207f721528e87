//! Ports and their addresses: link, speed, packets, the table of GIDs.

use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};

use sterna_rdma::verbs::DeviceEntry;

use super::report::Check;
use super::system::System;

/// MTU of an interface that carries RoCE packets of 4096 bytes with their headers.
const INTERFACE_MTU: u64 = 4200;

/// Places of a table of GIDs that are looked at.
const PLACES_MAX: u32 = 256;

pub(crate) fn check(system: &System, entries: &[DeviceEntry]) -> Vec<Check> {
    let mut checks = Vec::new();
    for entry in entries {
        let folder = Path::new("sys/class/infiniband").join(&entry.name).join("ports");
        for number in system.names(&folder) {
            let port = Port {
                system,
                name: format!("{} port {number}", entry.name),
                folder: folder.join(&number),
            };
            let queried = entry.device.as_ref().ok().and_then(|device| {
                device.ports.iter().find(|port| port.number.to_string() == number)
            });
            checks.extend(port.check(queried.map(|port| (port.mtu_bytes, port.mtu_bytes_max))));
        }
    }
    checks
}

struct Port<'a> {
    system: &'a System,
    name: String,
    folder: PathBuf,
}

/// A place of the table that is in use.
struct Place {
    index: u32,
    gid: Ipv6Addr,
    kind: String,
    interface: String,
}

impl Port<'_> {
    fn text(&self, file: &str) -> String {
        self.system.text(self.folder.join(file)).unwrap_or_default()
    }

    fn is_ethernet(&self) -> bool {
        self.text("link_layer") == "Ethernet"
    }

    /// `mtu` is what the device says of its packets: in use, and at most.
    fn check(&self, mtu: Option<(u32, u32)>) -> Vec<Check> {
        let places = self.places();
        let mut checks = vec![self.state(&places), self.rate()];
        checks.extend(mtu.map(|mtu| self.mtu(mtu, &places)));
        checks.push(self.gids(&places));
        checks
    }

    fn state(&self, places: &[Place]) -> Check {
        let state = self.text("state");
        let physical = self.text("phys_state");
        let layer = self.text("link_layer");
        let text = format!("{state}, link {physical}, {layer}");
        if state.ends_with("ACTIVE") {
            return Check::pass(&self.name, text);
        }
        let fix = if self.is_ethernet() {
            // Software devices name their interface also when it is down and has no address.
            let parent = self.system.text(self.folder.join("../../parent"));
            let interface = places.first().map(|place| place.interface.clone()).or(parent);
            let interface = interface.unwrap_or_else(|| "INTERFACE".to_owned());
            format!("ip link set {interface} up; the cable, the switch's port")
        } else if state.ends_with("INIT") {
            "start a subnet manager: opensm on one host, or that of the switch".to_owned()
        } else {
            "the cable and the switch's port (ibstat, iblinkinfo)".to_owned()
        };
        Check::fail(&self.name, text, fix)
    }

    fn rate(&self) -> Check {
        let name = format!("{}: rate", self.name);
        let rate = self.text("rate");
        let lanes = rate.split_once('(').and_then(|(_, rest)| rest.split_whitespace().next());
        // Links of four lanes that came up with one are a bad cable or a dirty plug.
        if lanes == Some("1X")
            && rate.starts_with(|c: char| c.is_ascii_digit())
            && !self.is_ethernet()
        {
            return Check::warn(
                name,
                format!("{rate}: one lane of usually four"),
                "reseat or change the cable; ibportstate resets the link",
            );
        }
        Check::pass(name, rate)
    }

    fn mtu(&self, (in_use, most): (u32, u32), places: &[Place]) -> Check {
        let name = format!("{}: packets", self.name);
        let text = format!("{in_use} bytes of payload, {most} possible");
        if in_use >= most || in_use >= 4096 {
            return Check::pass(name, text);
        }
        let interface = places.first().map_or("INTERFACE", |place| place.interface.as_str());
        let mtu = self.system.number(format!("sys/class/net/{interface}/mtu"));
        match mtu {
            _ if !self.is_ethernet() => Check::warn(
                name,
                text,
                "the subnet manager's partition sets it (mtu=5 in partitions.conf)",
            ),
            Some(mtu) if mtu >= INTERFACE_MTU => Check::warn(
                name,
                format!("{text}, although {interface} has an MTU of {mtu}"),
                format!("ip link set {interface} down && ip link set {interface} up"),
            ),
            _ => Check::warn(
                name,
                format!(
                    "{text}: {interface} has an MTU of {}",
                    mtu.map_or_else(|| "?".into(), |mtu| mtu.to_string())
                ),
                format!(
                    "ip link set {interface} mtu {INTERFACE_MTU} (at all hosts, and more at the switches)"
                ),
            ),
        }
    }

    fn places(&self) -> Vec<Place> {
        (0..PLACES_MAX)
            .filter_map(|index| {
                let text =
                    |file: &str| self.system.text(self.folder.join(format!("{file}/{index}")));
                let gid: Ipv6Addr = text("gids")?.parse().ok()?;
                // Reading the kind of an unused place fails.
                let kind = text("gid_attrs/types").unwrap_or_default();
                let interface = text("gid_attrs/ndevs").unwrap_or_default();
                (!gid.is_unspecified()).then_some(Place { index, gid, kind, interface })
            })
            .collect()
    }

    fn gids(&self, places: &[Place]) -> Check {
        let name = format!("{}: GIDs", self.name);
        let table: Vec<String> = places.iter().map(Place::line).collect();
        let routable: Vec<&Place> = places
            .iter()
            .filter(|place| place.kind == "RoCE v2" && !place.is_link_local())
            .collect();
        let check = match (self.is_ethernet(), routable.as_slice()) {
            (false, _) if places.is_empty() => {
                Check::fail(name, "none", "start a subnet manager (opensm)")
            }
            (false, _) => Check::pass(name, format!("{} in use", places.len())),
            (true, []) => {
                let interface =
                    places.first().map_or("INTERFACE", |place| place.interface.as_str());
                Check::fail(
                    name,
                    "no RoCE v2 address that can be routed: link-local ones reach one link only",
                    format!("ip addr add ADDRESS/LENGTH dev {interface}"),
                )
            }
            (true, [first, ..]) => Check::pass(
                name,
                format!(
                    "{} of {} can be routed (RoCE v2), such as {} at place {}; places differ between hosts and \
                     change, so jobs exchange addresses",
                    routable.len(),
                    places.len(),
                    first.ip(),
                    first.index
                ),
            ),
        };
        check.with_details(table)
    }
}

impl Place {
    fn ip(&self) -> IpAddr {
        self.gid.to_canonical()
    }

    fn is_link_local(&self) -> bool {
        self.gid.is_unicast_link_local()
    }

    fn line(&self) -> String {
        let scope = if self.is_link_local() { ", link-local" } else { "" };
        format!("{:>3}  {}  {} {}{scope}", self.index, self.ip(), self.kind, self.interface)
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Level;
    use super::super::system::fixture::Machine;
    use super::*;

    fn checks(files: &[(&str, &str)], mtu: (u32, u32)) -> Vec<Check> {
        let base = "sys/class/infiniband/mlx5_0/ports/1";
        let files: Vec<(String, &str)> = files
            .iter()
            .map(|(path, text)| {
                let inside = if path.starts_with("sys") {
                    (*path).to_owned()
                } else {
                    format!("{base}/{path}")
                };
                (inside, *text)
            })
            .collect();
        let files: Vec<(&str, &str)> =
            files.iter().map(|(path, text)| (path.as_str(), *text)).collect();
        let machine = Machine::new(&files);
        let port =
            Port { system: &machine.system, name: "mlx5_0 port 1".into(), folder: base.into() };
        port.check(Some(mtu))
    }

    const UP: [(&str, &str); 7] = [
        ("state", "4: ACTIVE\n"),
        ("phys_state", "5: LinkUp\n"),
        ("link_layer", "Ethernet\n"),
        ("rate", "100 Gb/sec (4X EDR)\n"),
        ("gids/0", "fe80:0000:0000:0000:0000:00ff:fe00:0001\n"),
        ("gid_attrs/types/0", "RoCE v2\n"),
        ("gid_attrs/ndevs/0", "eth1\n"),
    ];

    fn with(more: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
        UP.iter().chain(more).copied().collect()
    }

    #[test]
    fn a_port_in_order_passes_and_shows_its_table() {
        let files = with(&[
            ("gids/3", "0000:0000:0000:0000:0000:ffff:0a00:0007"),
            ("gid_attrs/types/3", "RoCE v2"),
            ("gid_attrs/ndevs/3", "eth1"),
        ]);
        let checks = checks(&files, (4096, 4096));
        assert!(checks.iter().all(|check| check.level == Level::Pass), "{checks:?}");
        assert!(checks[3].reason.contains("10.0.0.7 at place 3"), "{:?}", checks[3]);
        assert_eq!(checks[3].details.len(), 2);
    }

    #[test]
    fn only_link_local_addresses_fail_and_small_packets_warn_with_the_interface_to_change() {
        let files = with(&[("sys/class/net/eth1/mtu", "1500")]);
        let checks = checks(&files, (1024, 4096));
        assert_eq!((checks[2].level, checks[3].level), (Level::Warn, Level::Fail));
        assert!(checks[2].fix.as_deref().is_some_and(|fix| fix.contains("eth1 mtu 4200")));
        assert!(checks[3].fix.as_deref().is_some_and(|fix| fix.contains("dev eth1")));
    }

    #[test]
    fn a_port_that_is_down_or_waits_for_a_subnet_manager_says_so() {
        let mut files = with(&[]);
        files[0] = ("state", "1: DOWN");
        assert!(
            checks(&files, (4096, 4096))[0]
                .fix
                .as_deref()
                .is_some_and(|fix| fix.contains("ip link set eth1 up"))
        );
        files[0] = ("state", "2: INIT");
        files[2] = ("link_layer", "InfiniBand");
        files[3] = ("rate", "25 Gb/sec (1X EDR)");
        let checks = checks(&files, (4096, 4096));
        assert!(checks[0].fix.as_deref().is_some_and(|fix| fix.contains("opensm")));
        assert_eq!(checks[1].level, Level::Warn);
    }
}
