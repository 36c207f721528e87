//! What a rank finds in its environment.
//!
//! The launcher itself opens the listening socket of rank 0 and lets rank 0 inherit it, so no other process can
//! take the port in between.

use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsRawFd, RawFd};

use anyhow::Context;
use sterna_rdma::{FabricConfig, Rank};

/// Length of a job's token in bytes; it travels as hexadecimal digits.
const TOKEN_BYTES: usize = 32;

/// A job that is about to start: its size, its meeting point and its secret.
#[derive(Debug)]
pub(crate) struct Job {
    nodes: u16,
    listener: TcpListener,
    address: String,
    token: String,
}

impl Job {
    /// A job whose ranks all run on this host and meet on the loopback interface.
    pub(crate) fn on_this_host(nodes: u16) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .context("opening a socket on 127.0.0.1 for the ranks to meet")?;
        let address = listener.local_addr()?.to_string();
        let mut secret = [0_u8; TOKEN_BYTES];
        getrandom::fill(&mut secret)
            .map_err(|error| anyhow::anyhow!("no random bytes for the job token: {error}"))?;
        let token = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { nodes, listener, address, token })
    }

    /// Number of ranks.
    pub(crate) fn nodes(&self) -> u16 {
        self.nodes
    }

    /// The socket that rank 0 inherits; other ranks do not.
    pub(crate) fn listener_for(&self, rank: u16) -> Option<RawFd> {
        (rank == 0).then(|| self.listener.as_raw_fd())
    }

    /// How this process joins as one of the ranks.
    pub(crate) fn config(&self, rank: u16) -> anyhow::Result<FabricConfig> {
        let size = usize::from(self.nodes);
        let mut config = FabricConfig::new(Rank(rank), size, Some(&self.address), &self.token);
        config.rdma = FabricConfig::rdma_from_env()?;
        config.local_rank = Some(usize::from(rank));
        config.local_size = Some(size);
        if rank == 0 {
            config.listener = Some(self.listener.try_clone().context("sharing a socket")?);
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
