//! Which provider reaches which peer, and why.

use std::fmt::Write as _;

use crate::config::ProviderChoice;
use crate::error::FabricError;
use crate::fabric::Provider;
use crate::join::identity::NodeIdentity;
use crate::rank::Rank;

/// Decides for each peer; `None` for this node itself. Both ends of a pair decide alike, since they
/// have the same table and the same choice.
///
/// # Errors
/// [`FabricError::Config`] if shared memory was asked for and a peer is on another host.
pub(super) fn decide(
    me: &NodeIdentity,
    nodes: &[NodeIdentity],
) -> Result<Vec<Option<Provider>>, FabricError> {
    let mut routes = Vec::with_capacity(nodes.len());
    for node in nodes {
        let shares_memory = node.host == me.host;
        if me.choice == ProviderChoice::Shm && !shares_memory {
            return Err(FabricError::Config(format!(
                "STERNA_FABRIC=shm, but {} at {} is on another host, in another network namespace \
                 or of another user: use auto or tcp",
                node.rank, node.address
            )));
        }
        routes.push(match me.choice {
            _ if node.rank == me.rank => None,
            ProviderChoice::Auto | ProviderChoice::Shm if shares_memory => Some(Provider::Shm),
            _ => Some(Provider::Tcp),
        });
    }
    Ok(routes)
}

/// The start line.
pub(super) fn describe(
    me: &NodeIdentity,
    nodes: &[NodeIdentity],
    routes: &[Option<Provider>],
) -> String {
    let mut line = format!("{} of {} nodes", me.rank, nodes.len());
    let reason = match me.choice {
        ProviderChoice::Auto => ["the same host", "other hosts"],
        ProviderChoice::Shm => ["STERNA_FABRIC=shm", ""],
        ProviderChoice::Tcp => ["", "STERNA_FABRIC=tcp"],
    };
    for (provider, name, why) in
        [(Provider::Shm, "shm", reason[0]), (Provider::Tcp, "tcp", reason[1])]
    {
        let ranks = nodes.iter().zip(routes).filter(|(_, route)| **route == Some(provider));
        let ranks = ranges(ranks.map(|(node, _)| node.rank));
        if !ranks.is_empty() {
            let _ = write!(line, "; {name} to {ranks} ({why})");
        }
    }
    line
}

/// Ranks in order as text: "0, 2-5".
fn ranges(ranks: impl Iterator<Item = Rank>) -> String {
    let mut runs: Vec<(u16, u16)> = Vec::new();
    for Rank(rank) in ranks {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == rank => *last = rank,
            _ => runs.push((rank, rank)),
        }
    }
    let texts: Vec<String> = runs
        .iter()
        .map(
            |(first, last)| {
                if first == last { first.to_string() } else { format!("{first}-{last}") }
            },
        )
        .collect();
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::join::identity::HostIdentity;

    fn nodes(choice: ProviderChoice) -> Vec<NodeIdentity> {
        [1, 1, 2, 1]
            .into_iter()
            .zip(0..)
            .map(|(host, rank)| NodeIdentity {
                rank: Rank(rank),
                size: 4,
                choice,
                pid: 1,
                incarnation: 1,
                host: HostIdentity { boot_id: [host; 16], network_namespace: 1, uid: 0 },
                address: "10.0.0.1:5".parse().expect("an address"),
            })
            .collect()
    }

    #[test]
    fn peers_of_the_host_share_memory_and_others_use_sockets_and_the_line_says_why() {
        let nodes = nodes(ProviderChoice::Auto);
        let routes = decide(&nodes[1], &nodes).expect("possible");
        assert_eq!(routes, [Some(Provider::Shm), None, Some(Provider::Tcp), Some(Provider::Shm)]);
        assert_eq!(
            describe(&nodes[1], &nodes, &routes),
            "rank 1 of 4 nodes; shm to 0, 3 (the same host); tcp to 2 (other hosts)"
        );
    }

    #[test]
    fn a_forced_provider_is_used_for_all_or_is_an_error() {
        let tcp = nodes(ProviderChoice::Tcp);
        let routes = decide(&tcp[0], &tcp).expect("possible");
        assert!(routes[1..].iter().all(|route| *route == Some(Provider::Tcp)));
        let shm = nodes(ProviderChoice::Shm);
        let error = decide(&shm[0], &shm).expect_err("rank 2 is elsewhere").to_string();
        assert!(error.contains("rank 2"), "{error}");
    }
}
