//! Nodes in network namespaces of this host, on links of a limited rate.
//!
//! ```text
//!  node 0        node 1        node 2
//!   eth0          eth0          eth0      10.77.0.1/24, .2, .3: token bucket for what leaves the node
//!    |             |             |
//!   port0         port1         port2     token bucket for what comes to the node
//!    +---- bridge in a namespace ----+
//! ```
//!
//! So every node has a full-duplex port of that rate to a switch that never blocks. The names of namespaces hold this
//! process's number; those of processes that are gone are removed at the next start.

use std::fmt;
use std::path::Path;
use std::process::Command;
use std::str::FromStr;

use anyhow::{Context, bail, ensure};

/// Where `ip netns` keeps the names of namespaces.
const NAMES: &str = "/run/netns";

/// In front of the number of the process that made a namespace.
const PREFIX: &str = "sterna-";

/// Where rank 0 listens, in a namespace where nobody else does.
const PORT: u16 = 7077;

/// Time for which a bucket holds tokens: long enough for a timer that comes late, short beside a round of anything.
const BURST_US: u64 = 1000;

/// Longest time that a packet waits for tokens before it is dropped.
const QUEUE: &str = "25ms";

/// What limits the exchange between nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rate {
    /// Nothing: the memory of this host.
    Host,
    /// A port of so many bits per second for each node.
    Bits(u64),
}

const UNITS: [(&str, u64); 3] = [("gbit", 1_000_000_000), ("mbit", 1_000_000), ("kbit", 1_000)];

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "host" {
            return Ok(Self::Host);
        }
        let bits = UNITS.iter().find_map(|&(unit, factor)| {
            text.strip_suffix(unit)?.parse::<u64>().ok()?.checked_mul(factor)
        });
        bits.filter(|bits| (1_000_000..=1_000_000_000_000).contains(bits)).map(Self::Bits).ok_or_else(
            || format!("`{text}` is no rate: `host`, or a whole number with gbit or mbit, from 1mbit on"),
        )
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Bits(bits) = *self else { return write!(f, "host") };
        let unit = UNITS.iter().find(|(_, factor)| bits.is_multiple_of(*factor));
        let (unit, factor) = unit.copied().unwrap_or(("bit", 1));
        write!(f, "{}{unit}", bits / factor)
    }
}

/// Namespaces and links that exist as long as this does.
#[derive(Debug)]
pub(super) struct Network {
    rate: Rate,
    /// The namespaces of the nodes, then that of the switch.
    names: Vec<String>,
}

/// Whether this process may make networks, and has what it takes.
pub(super) fn check() -> anyhow::Result<()> {
    // SAFETY: a system call without arguments.
    let root = unsafe { libc::geteuid() } == 0;
    ensure!(
        root,
        "--rate makes network namespaces, which needs root: put `sudo` before the command, or leave --rate out"
    );
    for program in ["ip", "tc"] {
        let found = Command::new(program).arg("-V").output();
        found.with_context(|| {
            format!("--rate needs the program `{program}`: install iproute2 (apt install iproute2)")
        })?;
    }
    remove_left_behind();
    Ok(())
}

impl Network {
    /// Makes a network of `nodes` nodes.
    pub(super) fn create(rate: Rate, nodes: u16) -> anyhow::Result<Self> {
        let Rate::Bits(bits) = rate else { bail!("the host itself needs no network") };
        let stem = format!("{PREFIX}{}-{rate}", std::process::id());
        // Removed when this is dropped, as far as it came.
        let mut network = Self { rate, names: Vec::new() };
        let switch = format!("{stem}-switch");
        let namespaces = "this process may not make network namespaces: in a container, start that with --privileged, or with \
                          --cap-add NET_ADMIN --cap-add SYS_ADMIN";
        for node in 0..nodes {
            let name = format!("{stem}-{node}");
            call("ip", &["netns", "add", &name]).context(namespaces)?;
            network.names.push(name);
        }
        call("ip", &["netns", "add", &switch]).context(namespaces)?;
        network.names.push(switch.clone());
        let links = "this kernel lacks virtual links or bridges: `modprobe veth bridge`";
        ip(&switch, &["link", "add", "switch", "type", "bridge"]).context(links)?;
        ip(&switch, &["link", "set", "switch", "up"])?;
        for node in 0..nodes {
            let (name, port) = (&network.names[usize::from(node)], format!("port{node}"));
            ip(
                &switch,
                &["link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", name],
            )
            .context(links)?;
            ip(&switch, &["link", "set", &port, "master", "switch", "up"])?;
            ip(name, &["addr", "add", &format!("{}/24", address(node)), "dev", "eth0"])?;
            ip(name, &["link", "set", "eth0", "up"])?;
            ip(name, &["link", "set", "lo", "up"])?;
            limit(name, "eth0", bits)?;
            limit(&switch, &port, bits)?;
        }
        Ok(network)
    }

    pub(super) fn rate(&self) -> Rate {
        self.rate
    }

    /// Options of `sterna launch` for a job of the first so many nodes.
    pub(super) fn launch_options(&self, nodes: u16) -> [String; 4] {
        let names = self.names[..usize::from(nodes)].join(",");
        ["--netns".to_owned(), names, "--meet".to_owned(), format!("{}:{PORT}", address(0))]
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for name in &self.names {
            // The links go with their namespaces. One that cannot be removed now is found at the next start.
            let _ = call("ip", &["netns", "del", name]);
        }
    }
}

fn address(node: u16) -> String {
    format!("10.77.0.{}", node + 1)
}

/// Limits what leaves by this interface.
fn limit(namespace: &str, interface: &str, bits: u64) -> anyhow::Result<()> {
    // A bucket holds a packet of the largest size that the kernel passes down in one piece.
    let burst_bytes = (bits / 8 * BURST_US / 1_000_000).max(64 * 1024);
    let (rate, burst) = (format!("{bits}bit"), burst_bytes.to_string());
    let bucket = ["tbf", "rate", &rate, "burst", &burst, "latency", QUEUE];
    let of = ["-n", namespace, "qdisc", "add", "dev", interface, "root"];
    call("tc", &[&of[..], &bucket].concat())
        .context("this kernel cannot limit rates by token buckets: `modprobe sch_tbf`")
}

fn ip(namespace: &str, arguments: &[&str]) -> anyhow::Result<()> {
    call("ip", &[&["-n", namespace], arguments].concat())
}

/// Runs a program that does one thing and ends.
fn call(program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new(program).args(arguments).output();
    let output = output.with_context(|| format!("running {program}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {}: {}", arguments.join(" "), said.trim());
    Ok(())
}

/// Removes namespaces of processes that were killed.
fn remove_left_behind() {
    let Ok(entries) = std::fs::read_dir(NAMES) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if owner(name).is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            let _ = call("ip", &["netns", "del", name]);
        }
    }
}

/// The number of the process that made a namespace.
fn owner(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_as_they_are_written() {
        for text in ["host", "1gbit", "10gbit", "200mbit", "1500mbit"] {
            assert_eq!(text.parse::<Rate>().expect("a rate").to_string(), text);
        }
        assert_eq!("2000mbit".parse(), Ok(Rate::Bits(2_000_000_000)));
        for text in ["", "gbit", "1", "-1gbit", "1Gbps", "999kbit", "99999999999999gbit"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }

    #[test]
    fn only_namespaces_of_this_command_are_known_as_its_own() {
        assert_eq!(owner("sterna-4711-1gbit-switch"), Some(4711));
        assert_eq!(owner("sterna-data"), None);
        assert_eq!(owner("other-4711-0"), None);
    }
}
