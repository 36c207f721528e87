//! Connects a node to those peers that it meets over sockets (which then carry the records, or only set
//! RDMA up): it calls the lower ranks and is called by the higher ones.

use std::net::TcpStream;
use std::time::Instant;

use crate::error::FabricError;
use crate::fabric::Provider;
use crate::join::call::{CallError, call_patiently};
use crate::join::proof::Purpose;
use crate::join::rendezvous::Joined;
use crate::rank::Rank;

/// Connects to all peers that `routes` gives to sockets or RDMA.
pub(super) fn connect(
    joined: &Joined,
    routes: &[Option<Provider>],
) -> Result<Vec<(Rank, TcpStream)>, FabricError> {
    let begin = Instant::now();
    let deadline = joined.connect_deadline();
    let by_sockets = |rank: usize| matches!(routes[rank], Some(Provider::Tcp | Provider::Verbs));
    let mine = joined.me.rank.index();
    let mut links = Vec::new();
    for node in joined.nodes[..mine].iter().filter(|node| by_sockets(node.rank.index())) {
        let (me, key) = (&joined.me, &joined.key);
        let stream = call_patiently(node.address, Purpose::Link, me, key, deadline, || false)
            .map_err(|error| not_reached(node.rank, &error))?;
        links.push((node.rank, stream));
    }
    let mut missing: Vec<Rank> =
        (mine + 1..routes.len()).filter(|rank| by_sockets(*rank)).map(Rank::from_index).collect();
    while !missing.is_empty() {
        let Some(admitted) = joined.doorkeeper.arrivals().wait(Purpose::Link, deadline) else {
            let names: Vec<String> = missing.iter().map(Rank::to_string).collect();
            return Err(FabricError::JoinTimeout {
                waited_for: names.join(", "),
                seconds: begin.elapsed().as_secs(),
                hint: format!(
                    "they met the job but did not reach {}: check firewalls between the nodes, or \
                     set STERNA_BIND{}",
                    joined.me.address,
                    joined.strangers.summary()
                ),
            });
        };
        let node = &admitted.node;
        let expected = missing.iter().position(|rank| *rank == node.rank);
        let known = &joined.nodes[node.rank.index().min(joined.nodes.len() - 1)];
        match expected {
            Some(at) if known.incarnation == node.incarnation => {
                missing.swap_remove(at);
                links.push((node.rank, admitted.stream));
            }
            _ => joined.strangers.refused(node.address, "it is no peer of this start of the job"),
        }
    }
    Ok(links)
}

fn not_reached(peer: Rank, error: &CallError) -> FabricError {
    FabricError::PeerLost { peer, reason: format!("connecting to it: {}", error.text()) }
}
