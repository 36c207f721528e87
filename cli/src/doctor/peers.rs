//! `--peers`: starts the other side of the pair test on other hosts by a remote shell, and names those that do not start.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, ToSocketAddrs, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use sterna_rdma::topology::Topology;
use sterna_rdma::{FabricConfig, Rank};

use super::DoctorArgs;
use super::pairs;
use super::report::Check;
use crate::launch;
use crate::probe::{Party, Waiting};

/// A host that cannot be reached at all says so within this time.
const START_LIMIT: Duration = Duration::from_millis(1500);

/// How long the hosts may take to meet.
const JOIN_LIMIT: Duration = Duration::from_secs(60);

/// How long the complaint of a host whose command has ended may take to be read.
const SAID_LIMIT: Duration = Duration::from_secs(10);

/// Bytes of a host's complaint that are kept.
const SAID_BYTES_MAX: u64 = 4096;

/// Starts the peers and tests every pair.
pub(crate) fn check(args: &DoctorArgs, wish: &FabricConfig) -> Vec<Check> {
    let mut started = match start(args, wish) {
        Ok(started) => started,
        Err(error) => {
            let fix = "--rsh with a command that needs no password (ssh-copy-id), hosts that resolve, --address";
            return vec![Check::fail("peers", format!("{error:#}"), fix)];
        }
    };
    let mut failures = started.failures(Instant::now() + START_LIMIT);
    if !failures.is_empty() {
        return failures;
    }
    let config = started.config.take().expect("taken once");
    let waiting = Waiting::for_parties(&Topology::read(), 1);
    match Party::join(config, waiting).and_then(|mut party| pairs::check(&mut party)) {
        Ok(checks) => checks,
        Err(error) => {
            // Hosts that failed only after the limit above are why the others did not meet.
            failures = started.failures(Instant::now());
            if failures.is_empty() {
                failures.push(pairs::failed(&error));
            }
            failures
        }
    }
}

/// The peers, ended with this value.
struct Started {
    config: Option<FabricConfig>,
    peers: Vec<Peer>,
}

struct Peer {
    host: String,
    child: Child,
    /// What it complained, when it has ended.
    said: Receiver<String>,
}

fn start(args: &DoctorArgs, wish: &FabricConfig) -> anyhow::Result<Started> {
    for host in &args.peers {
        ensure!(
            !host.is_empty() && !host.starts_with('-'),
            "--peers: {host:?} is not the name of a host"
        );
    }
    let address = match args.address {
        Some(address) => address,
        None => own_address(&args.peers[0])?,
    };
    let listener =
        TcpListener::bind((address, 0)).with_context(|| format!("listening on {address}"))?;
    let place = listener.local_addr()?.to_string();
    let token = token()?;
    let mut config = FabricConfig::new(Rank(0), 1 + args.peers.len(), Some(&place), &token);
    config.choice = wish.choice;
    config.rdma = wish.rdma.clone();
    config.join_timeout = JOIN_LIMIT;
    config.listener = Some(listener);
    let mut started = Started { config: Some(config), peers: Vec::new() };
    for (host, rank) in args.peers.iter().zip(1..) {
        started.peers.push(Peer::start(args, wish.choice.name(), host, rank, &place, &token)?);
    }
    Ok(started)
}

impl Peer {
    fn start(
        args: &DoctorArgs,
        fabric: &str,
        host: &str,
        rank: usize,
        place: &str,
        token: &str,
    ) -> anyhow::Result<Self> {
        let program = match &args.remote_program {
            Some(path) => path.clone(),
            None => std::env::current_exe()?.to_string_lossy().into_owned(),
        };
        let mut words = args.rsh.split_whitespace();
        let shell = words.next().context("--rsh is empty")?;
        let mut command = Command::new(shell);
        // The token goes by the standard input: a command line is seen by all users of a host.
        command.args(words).arg(host).arg(format!(
            "STERNA_RANK={rank} STERNA_SIZE={} STERNA_ADDR={place} exec {} doctor --member --fabric {fabric}",
            1 + args.peers.len(),
            quoted(&program)
        ));
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        launch::tie(&mut command, None);
        let mut child = command.spawn().with_context(|| format!("running {shell} for {host}"))?;
        // A host that is gone already is told by how its command ended, not by this pipe.
        let _ = writeln!(child.stdin.take().expect("piped"), "{token}");
        let errors = child.stderr.take().expect("piped");
        let (sender, said) = mpsc::channel();
        std::thread::spawn(move || {
            let mut text = String::new();
            let _ = errors.take(SAID_BYTES_MAX).read_to_string(&mut text);
            let _ = sender.send(text);
        });
        Ok(Self { host: host.to_owned(), child, said })
    }
}

impl Started {
    /// Those that have ended, with an error, until `deadline`.
    fn failures(&mut self, deadline: Instant) -> Vec<Check> {
        loop {
            let failures: Vec<Check> = self.peers.iter_mut().filter_map(Peer::failure).collect();
            if !failures.is_empty() || Instant::now() >= deadline {
                return failures;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Peer {
    fn failure(&mut self) -> Option<Check> {
        let status = self.child.try_wait().ok()??;
        if status.success() {
            return None;
        }
        let said = self.said.recv_timeout(SAID_LIMIT).unwrap_or_default();
        let said = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
        let fix = match status.code() {
            Some(127) => "install sterna there at the same path, or name it: --remote-program PATH",
            Some(255) => {
                "ssh to this host without a password (ssh-copy-id), or another command: --rsh"
            }
            _ => "run sterna doctor there",
        };
        Some(Check::fail(self.host.clone(), format!("{status}: {said}"), fix))
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // Those that are well end by themselves when rank 0 leaves.
        let deadline = Instant::now() + Duration::from_secs(10);
        for peer in &mut self.peers {
            while matches!(peer.child.try_wait(), Ok(None)) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(5));
            }
            let _ = peer.child.kill();
            let _ = peer.child.wait();
        }
    }
}

/// The address by which this host reaches `peer` (user@ in front is not part of its name).
fn own_address(peer: &str) -> anyhow::Result<IpAddr> {
    let name = peer.rsplit_once('@').map_or(peer, |(_, name)| name);
    let there = (name, 9_u16)
        .to_socket_addrs()
        .with_context(|| format!("{name} does not resolve"))?
        .next()
        .with_context(|| format!("{name} has no address"))?;
    let any = if there.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    // Connecting a socket of datagrams sends nothing; it only asks for the route.
    let socket = UdpSocket::bind(any)?;
    socket.connect(there).with_context(|| format!("there is no route to {there}"))?;
    let address = socket.local_addr()?.ip();
    if address.is_unspecified() {
        bail!("the route to {there} has no address: give --address");
    }
    Ok(address)
}

fn token() -> anyhow::Result<String> {
    let mut secret = [0_u8; 32];
    getrandom::fill(&mut secret).map_err(|error| anyhow::anyhow!("no random bytes: {error}"))?;
    Ok(secret.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// One word for a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_one_word_for_a_shell() {
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }

    #[test]
    fn the_own_address_is_that_of_the_route() {
        let own = own_address("root@127.0.0.1").expect("the loopback interface");
        assert!(own.is_loopback());
        let error = own_address("no-such-host.invalid").expect_err("no such name").to_string();
        assert!(error.contains("no-such-host.invalid does not resolve"), "{error}");
    }
}
