//! What a rank finds in its environment.
//!
//! The launcher itself opens the listening socket of rank 0 and lets rank 0 inherit it, so no other process can
//! take the port in between. In namespaces of their own rank 0 opens it, at the address that was given.

use std::ffi::{OsStr, OsString};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsRawFd, RawFd};
use std::process::Command;

use anyhow::{Context, ensure};
use sterna_rdma::{FabricConfig, Rank};

/// Length of a job's token in bytes; it travels as hexadecimal digits.
const TOKEN_BYTES: usize = 32;

/// A job that is about to start: its size, its meeting point and its secret.
#[derive(Debug)]
pub(crate) struct Job {
    nodes: u16,
    listener: Option<TcpListener>,
    address: String,
    token: String,
    /// The network namespace of each rank; none if all share this process's.
    namespaces: Vec<String>,
}

impl Job {
    /// A job whose ranks all run on this host and meet on the loopback interface.
    pub(crate) fn on_this_host(nodes: u16) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .context("opening a socket on 127.0.0.1 for the ranks to meet")?;
        let address = listener.local_addr()?.to_string();
        let (listener, namespaces) = (Some(listener), Vec::new());
        Ok(Self { nodes, listener, address, token: token()?, namespaces })
    }

    /// A job whose ranks run in these network namespaces of this host and meet at `address`, where rank 0 listens.
    pub(crate) fn in_namespaces(
        nodes: u16,
        address: &str,
        namespaces: &[String],
    ) -> anyhow::Result<Self> {
        ensure!(
            namespaces.len() == usize::from(nodes),
            "{} network namespaces for {nodes} ranks: each rank needs one",
            namespaces.len()
        );
        let (address, namespaces) = (address.to_owned(), namespaces.to_vec());
        Ok(Self { nodes, listener: None, address, token: token()?, namespaces })
    }

    /// The program as one of the ranks runs it, without its variables.
    pub(super) fn command(&self, rank: u16, program: &OsStr, arguments: &[OsString]) -> Command {
        let mut command = match self.namespaces.get(usize::from(rank)) {
            None => Command::new(program),
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(program);
                command
            }
        };
        command.args(arguments);
        command
    }

    /// Number of ranks.
    pub(crate) fn nodes(&self) -> u16 {
        self.nodes
    }

    /// The socket that rank 0 inherits; other ranks do not.
    pub(crate) fn listener_for(&self, rank: u16) -> Option<RawFd> {
        self.listener.as_ref().filter(|_| rank == 0).map(AsRawFd::as_raw_fd)
    }

    /// How this process joins as one of the ranks.
    pub(crate) fn config(&self, rank: u16) -> anyhow::Result<FabricConfig> {
        let size = usize::from(self.nodes);
        let mut config = FabricConfig::new(Rank(rank), size, Some(&self.address), &self.token);
        config.rdma = FabricConfig::rdma_from_env()?;
        config.local_rank = Some(usize::from(rank));
        config.local_size = Some(size);
        if let (0, Some(listener)) = (rank, &self.listener) {
            config.listener = Some(listener.try_clone().context("sharing a socket")?);
        }
        Ok(config)
    }

    /// The variables of one rank.
    pub(crate) fn variables(&self, rank: u16) -> Vec<(&'static str, String)> {
        let mut variables = vec![
            ("STERNA_RANK", rank.to_string()),
            ("STERNA_SIZE", self.nodes.to_string()),
            ("STERNA_LOCAL_RANK", rank.to_string()),
            ("STERNA_LOCAL_SIZE", self.nodes.to_string()),
            ("STERNA_ADDR", self.address.clone()),
            ("STERNA_TOKEN", self.token.clone()),
        ];
        if let Some(fd) = self.listener_for(rank) {
            variables.push(("STERNA_LISTEN_FD", fd.to_string()));
        }
        variables
    }
}

/// A secret of a job.
fn token() -> anyhow::Result<String> {
    let mut secret = [0_u8; TOKEN_BYTES];
    getrandom::fill(&mut secret)
        .map_err(|error| anyhow::anyhow!("no random bytes for the job token: {error}"))?;
    Ok(secret.iter().map(|byte| format!("{byte:02x}")).collect())
}
