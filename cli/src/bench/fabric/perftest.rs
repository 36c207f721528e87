//! perftest (`ib_read_lat` and its sisters), the usual measure of RDMA devices, run between the same two CPUs in turn with ours.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use sterna_rdma::FabricConfig;
use sterna_rdma::verbs::chosen;

use super::cell::Bare;
use crate::launch;

/// How long a run may take, with its connection.
const RUN_LIMIT: Duration = Duration::from_secs(60);

/// How long its server may take to listen.
const LISTEN_LIMIT: Duration = Duration::from_secs(20);

/// READs under way at a time that any device of today has; both sides must say it.
const READS_MAX: usize = 128;

/// One of its programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Tool {
    ReadLatency,
    SendLatency,
    ReadRate,
    WriteRate,
}

impl Tool {
    const fn program(self) -> &'static str {
        match self {
            Self::ReadLatency => "ib_read_lat",
            Self::SendLatency => "ib_send_lat",
            Self::ReadRate => "ib_read_bw",
            Self::WriteRate => "ib_write_bw",
        }
    }

    const fn is_rate(self) -> bool {
        matches!(self, Self::ReadRate | Self::WriteRate)
    }
}

/// What is to be run.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Plan {
    pub(super) tool: Tool,
    pub(super) bytes: usize,
    /// Operations on their way at a time, of rates.
    pub(super) depth: usize,
    pub(super) iterations: u64,
}

impl Plan {
    /// As many operations as ours did in its slice, within what makes sense.
    pub(super) fn new(tool: Tool, bytes: usize, depth: usize, ours: u64) -> Self {
        let least = if tool.is_rate() { 2 * depth as u64 } else { 0 }.max(100);
        Self { tool, bytes, depth, iterations: ours.clamp(least, 50_000.max(least)) }
    }

    /// The command of either side, with what this host's own device needs.
    fn command(&self, port: u16) -> anyhow::Result<Command> {
        let place = chosen(&FabricConfig::rdma_from_env()?, None)?;
        let mut command = Command::new(self.tool.program());
        command.args(["-F", "-d", &place.device]);
        for (flag, value) in [
            ("-i", u64::from(place.port)),
            ("-x", u64::from(place.gid_index)),
            ("-s", self.bytes as u64),
            ("-n", self.iterations),
            ("-p", u64::from(port)),
        ] {
            command.args([flag, &value.to_string()]);
        }
        if self.tool.is_rate() {
            command.args(["-t", &self.depth.to_string()]);
        }
        if self.tool == Tool::ReadRate {
            command.args(["-o", &self.depth.min(READS_MAX).to_string()]);
        }
        command.stdin(Stdio::null()).stderr(Stdio::null());
        launch::tie(&mut command, None);
        Ok(command)
    }
}

/// Where a server listens.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Address {
    ip: IpAddr,
    port: u16,
}

/// The server of a run; ended with this value.
pub(super) struct Server(Child);

impl Server {
    /// Starts it and waits until it listens. `host` is rank 0's, for the address by which it can reach us.
    pub(super) fn start(plan: &Plan, host: &str) -> anyhow::Result<(Self, Address)> {
        let port = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?.local_addr()?.port();
        let mut command = plan.command(port)?;
        command.stdout(Stdio::null());
        let name = plan.tool.program();
        let child = command.spawn().with_context(|| {
            format!("running {name}, which is part of perftest: apt-get install perftest")
        })?;
        let mut server = Self(child);
        let deadline = Instant::now() + LISTEN_LIMIT;
        while !is_listening(port) {
            if let Some(status) = server.0.try_wait()? {
                bail!("the server of {name} ended with {status}");
            }
            ensure!(Instant::now() < deadline, "{name} does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok((server, Address { ip: own_address(host)?, port }))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended when its client has; otherwise it is of no use any more.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs the measuring side and returns its figure, or `None` where it printed none, which some versions do now and then.
pub(super) fn run(plan: &Plan, server: Address) -> anyhow::Result<Option<Bare>> {
    let name = plan.tool.program();
    let mut command = plan.command(server.port)?;
    command.arg(server.ip.to_string()).stdout(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("running {name}"))?;
    let deadline = Instant::now() + RUN_LIMIT;
    // What it prints is less than a pipe holds.
    while child.try_wait()?.is_none() {
        if Instant::now() >= deadline {
            let _ = child.kill();
            let _ = child.wait();
            bail!("{name} took longer than {RUN_LIMIT:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output()?;
    Ok(figure(plan, &String::from_utf8_lossy(&output.stdout)))
}

/// The median of a latency test, the mean rate of a bandwidth test.
fn figure(plan: &Plan, printed: &str) -> Option<Bare> {
    let mut lines = printed.lines().skip_while(|line| !line.trim_start().starts_with("#bytes"));
    let columns: Vec<&str> = lines.nth(1)?.split_whitespace().collect();
    let number = |at: usize| columns.get(at)?.parse::<f64>().ok().filter(|number| *number > 0.0);
    if plan.tool.is_rate() {
        // Millions of messages: its MB are of 2^20 bytes.
        #[allow(clippy::cast_precision_loss, reason = "a rate")]
        let rate = number(4)? * plan.bytes as f64;
        return Some(Bare::MegabytesPerSecond(rate));
    }
    number(4).map(Bare::P50Us)
}

/// Whether a socket of this host listens at `port`.
fn is_listening(port: u16) -> bool {
    let suffix = format!(":{port:04X}");
    ["/proc/net/tcp", "/proc/net/tcp6"].iter().any(|table| {
        fs::read_to_string(table).unwrap_or_default().lines().skip(1).any(|line| {
            let mut columns = line.split_whitespace().skip(1);
            columns.next().is_some_and(|local| local.ends_with(&suffix))
                && columns.nth(1) == Some("0A")
        })
    })
}

/// The address by which `host` can reach this host.
fn own_address(host: &str) -> anyhow::Result<IpAddr> {
    // Connecting a socket of datagrams sends nothing; it only asks for the route.
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect((host, 9)).with_context(|| format!("finding the route to {host}"))?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_in_what_each_kind_prints() {
        let latency = "---\n #bytes #iterations    t_min[usec]    t_max[usec]  t_typical[usec]    t_avg[usec]\n \
                       64      500          22.62          183.75       23.01    24.09\n---\n";
        let plan = |tool| Plan::new(tool, 64, 16, 500);
        assert_eq!(figure(&plan(Tool::ReadLatency), latency), Some(Bare::P50Us(23.01)));
        let rate = " #bytes     #iterations    BW peak[MB/sec]    BW average[MB/sec]   MsgRate[Mpps]\n \
                    64         35400            0.00               2.16   		   0.5\n";
        let found = figure(&plan(Tool::WriteRate), rate);
        assert_eq!(found, Some(Bare::MegabytesPerSecond(32.0)));
        let nothing = rate.replace("0.5", "0.00");
        assert_eq!(figure(&plan(Tool::WriteRate), &nothing), None, "as it prints sometimes");
        assert_eq!(figure(&plan(Tool::WriteRate), "Couldn't connect\n"), None);
        assert_eq!(figure(&plan(Tool::WriteRate), " #bytes\n"), None);
    }

    #[test]
    fn a_run_is_as_long_as_ours_within_limits() {
        assert_eq!(Plan::new(Tool::ReadLatency, 64, 1, 7).iterations, 100);
        assert_eq!(Plan::new(Tool::WriteRate, 64, 256, 7).iterations, 512);
        assert_eq!(Plan::new(Tool::WriteRate, 64, 256, 1 << 40).iterations, 50_000);
    }

    #[test]
    fn a_listening_socket_is_seen_and_a_closed_one_is_not() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        let port = listener.local_addr().expect("bound").port();
        assert!(is_listening(port));
        drop(listener);
        assert!(!is_listening(port));
    }
}
