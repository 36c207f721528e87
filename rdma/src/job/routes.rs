//! Which provider reaches which peer, and why.

use std::fmt::Write as _;

use crate::config::ProviderChoice;
use crate::error::FabricError;
use crate::fabric::Provider;
use crate::join::identity::NodeIdentity;
use crate::rank::Rank;
use crate::verbs::Place;

/// Decides for each peer; `None` for this node itself. Both ends of a pair decide alike, since they
/// have the same table and the same choice.
///
/// # Errors
/// [`FabricError::Config`] if a provider was asked for that cannot reach a peer.
pub(super) fn decide(
    me: &NodeIdentity,
    nodes: &[NodeIdentity],
) -> Result<Vec<Option<Provider>>, FabricError> {
    let mut routes = Vec::with_capacity(nodes.len());
    for node in nodes {
        if node.rank == me.rank {
            routes.push(None);
            continue;
        }
        let shares_memory = node.host == me.host;
        let shares_network = me.rdma.is_some() && node.rdma == me.rdma;
        routes.push(Some(match me.choice {
            ProviderChoice::Auto | ProviderChoice::Shm if shares_memory => Provider::Shm,
            ProviderChoice::Shm => {
                return Err(FabricError::Config(format!(
                    "STERNA_FABRIC=shm, but {} at {} is on another host, in another network namespace \
                     or of another user: use auto or tcp",
                    node.rank, node.address
                )));
            }
            ProviderChoice::Auto | ProviderChoice::Verbs if shares_network => Provider::Verbs,
            ProviderChoice::Verbs => {
                return Err(FabricError::Config(format!(
                    "STERNA_FABRIC=verbs, but the RDMA ports of this node and of {} at {} are in \
                     different kinds of networks (InfiniBand, Ethernet): set STERNA_DEVICE at one of \
                     them, or use auto or tcp",
                    node.rank, node.address
                )));
            }
            ProviderChoice::Auto | ProviderChoice::Tcp => Provider::Tcp,
        }));
    }
    Ok(routes)
}

/// The start line. `rdma` is this node's RDMA port, or why it has none.
pub(super) fn describe(
    me: &NodeIdentity,
    nodes: &[NodeIdentity],
    routes: &[Option<Provider>],
    rdma: &Result<Place, String>,
) -> String {
    let mut line = format!("{} of {} nodes", me.rank, nodes.len());
    let forced = format!("STERNA_FABRIC={}", me.choice.name());
    for provider in [Provider::Shm, Provider::Verbs, Provider::Tcp] {
        let ranks = nodes.iter().zip(routes).filter(|(_, route)| **route == Some(provider));
        let ranks = ranges(ranks.map(|(node, _)| node.rank));
        if ranks.is_empty() {
            continue;
        }
        let why = match (me.choice, provider, rdma) {
            (ProviderChoice::Auto, Provider::Shm, _) => "the same host".to_owned(),
            (ProviderChoice::Auto, Provider::Verbs, Ok(place)) => {
                format!("other hosts; {}", place.describe())
            }
            (_, Provider::Verbs, Ok(place)) => format!("{forced}; {}", place.describe()),
            (ProviderChoice::Auto, _, Ok(_)) => {
                "other hosts; no RDMA port there that this one reaches".to_owned()
            }
            (ProviderChoice::Auto, _, Err(reason)) => format!("other hosts; no RDMA: {reason}"),
            _ => forced.clone(),
        };
        let _ = write!(line, "; {} to {ranks} ({why})", provider.name());
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
    use crate::join::identity::{HostIdentity, RdmaNetwork};

    /// Ranks 0, 1, 3 on one host, 2 and 4 on others.
    fn nodes(choice: ProviderChoice, rdma: [Option<RdmaNetwork>; 5]) -> Vec<NodeIdentity> {
        let hosts = [1, 1, 2, 1, 3];
        (0..5)
            .map(|rank| NodeIdentity {
                rank: Rank(rank),
                size: 5,
                choice,
                rdma: rdma[usize::from(rank)],
                pid: 1,
                incarnation: 1,
                host: HostIdentity {
                    boot_id: [hosts[usize::from(rank)]; 16],
                    network_namespace: 1,
                    uid: 0,
                },
                address: "10.0.0.1:5".parse().expect("an address"),
            })
            .collect()
    }

    const ROCE: Option<RdmaNetwork> = Some(RdmaNetwork::Ethernet);

    #[test]
    fn peers_of_the_host_share_memory_and_others_use_rdma_or_sockets_and_the_line_says_why() {
        use Provider::{Shm, Tcp, Verbs};
        let plain = nodes(ProviderChoice::Auto, [None; 5]);
        let routes = decide(&plain[1], &plain).expect("possible");
        assert_eq!(routes, [Some(Shm), None, Some(Tcp), Some(Shm), Some(Tcp)]);
        let reason = Err("there is no device".to_owned());
        assert_eq!(
            describe(&plain[1], &plain, &routes, &reason),
            "rank 1 of 5 nodes; shm to 0, 3 (the same host); tcp to 2, 4 (other hosts; no RDMA: there \
             is no device)"
        );
        let mixed = nodes(ProviderChoice::Auto, [ROCE, ROCE, ROCE, None, None]);
        let routes = decide(&mixed[1], &mixed).expect("possible");
        assert_eq!(routes, [Some(Shm), None, Some(Verbs), Some(Shm), Some(Tcp)]);
        for node in &mixed {
            for peer in &mixed {
                let there = decide(node, &mixed).expect("possible")[peer.rank.index()];
                let back = decide(peer, &mixed).expect("possible")[node.rank.index()];
                assert_eq!(there, back, "both ends of a pair decide alike");
            }
        }
    }

    #[test]
    fn a_forced_provider_is_used_for_all_or_is_an_error() {
        let tcp = nodes(ProviderChoice::Tcp, [None; 5]);
        let routes = decide(&tcp[0], &tcp).expect("possible");
        assert!(routes[1..].iter().all(|route| *route == Some(Provider::Tcp)));
        let verbs = nodes(ProviderChoice::Verbs, [ROCE; 5]);
        let routes = decide(&verbs[0], &verbs).expect("possible");
        assert!(
            routes[1..].iter().all(|route| *route == Some(Provider::Verbs)),
            "also on one host"
        );
        let shm = nodes(ProviderChoice::Shm, [None; 5]);
        let error = decide(&shm[0], &shm).expect_err("rank 2 is elsewhere").to_string();
        assert!(error.contains("rank 2"), "{error}");
        let networks = [ROCE, ROCE, Some(RdmaNetwork::InfiniBand), ROCE, ROCE];
        let apart = nodes(ProviderChoice::Verbs, networks);
        let error = decide(&apart[0], &apart).expect_err("another network").to_string();
        assert!(error.contains("rank 2") && error.contains("InfiniBand"), "{error}");
    }
}
