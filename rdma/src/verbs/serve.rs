//! The other end of peers' read lanes.
//!
//! A peer opens a lane by a connection to this node's door; the door's thread makes a queue pair for it
//! there and then, so no engine has to run for that. From then on the device answers; this node only
//! keeps the queue pair until the connection ends.

use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use super::choose::Place;
use super::completion::CompletionQueue;
use super::memory::ProtectionDomain;
use super::offer::{Inbox, Offer};
use super::queue_pair::{QueuePair, Role};
use super::tuning::SERVED_MAX;
use crate::error::FabricError;
use crate::join::door::Admitted;
use crate::rank::Rank;

/// How long a caller may take to say what it has; it says it at once, but may not get to run. The door, which
/// serves only one caller meanwhile, is open to nodes of the job alone.
const OFFER_WAIT: Duration = Duration::from_secs(5);

/// The lanes of peers that this node's device answers.
pub(super) struct Server {
    place: Mutex<Place>,
    domain: ProtectionDomain,
    /// Nothing is ever posted on served queue pairs, so nothing comes here.
    completions: CompletionQueue,
    registry: Registry,
    first_token: usize,
    served: Mutex<Served>,
}

#[derive(Default)]
struct Served {
    lanes: Vec<Option<Lane>>,
    /// Peers that are gone: none of their lanes is served any more.
    refused: Vec<Rank>,
}

struct Lane {
    peer: Rank,
    stream: TcpStream,
    /// Held for its drop.
    _pair: QueuePair,
}

impl Server {
    /// Its connections are announced with tokens from `first_token`.
    pub(super) fn new(
        place: Place,
        domain: &ProtectionDomain,
        registry: Registry,
        first_token: usize,
    ) -> Result<Self, FabricError> {
        let completions = CompletionQueue::new(domain.context(), 16)?;
        Ok(Self {
            place: Mutex::new(place),
            domain: domain.clone(),
            completions,
            registry,
            first_token,
            served: Mutex::default(),
        })
    }

    /// Answers a peer that opens a lane.
    pub(super) fn admit(&self, admitted: Admitted) {
        let peer = admitted.node.rank;
        if let Err(reason) = self.try_admit(admitted) {
            tracing::warn!(%peer, reason, "a read lane of this peer could not be served");
        }
    }

    fn try_admit(&self, admitted: Admitted) -> Result<(), String> {
        let Admitted { stream, node, .. } = admitted;
        let text = |error: std::io::Error| error.to_string();
        let offer = Offer::receive(&stream, Instant::now() + OFFER_WAIT).map_err(text)?;
        let place = {
            let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
            place.refresh().map_err(|error| error.to_string())?;
            place.clone()
        };
        if offer.is_ethernet != place.is_ethernet {
            return Err("its port is in another kind of network".to_owned());
        }
        let pair = QueuePair::new(&self.domain, &self.completions, None, Role::Read)
            .map_err(|error| error.to_string())?;
        pair.connect(&place, &offer.endpoint).map_err(|error| error.to_string())?;
        let answer = Offer {
            endpoint: pair.endpoint(&place),
            is_ethernet: place.is_ethernet,
            inbox: Inbox::default(),
        };
        let mut served = self.lock();
        if served.refused.contains(&node.rank) {
            return Err("this node has ended its connections to it".to_owned());
        }
        let free = served.lanes.iter().position(Option::is_none);
        let at = free.unwrap_or(served.lanes.len());
        if at >= SERVED_MAX {
            return Err(format!("{SERVED_MAX} lanes are served already"));
        }
        stream.set_nonblocking(true).map_err(text)?;
        let fd = stream.as_raw_fd();
        let token = Token(self.first_token + at);
        self.registry.register(&mut SourceFd(&fd), token, Interest::READABLE).map_err(text)?;
        answer.send(&stream).map_err(text)?;
        let lane = Some(Lane { peer: node.rank, stream, _pair: pair });
        match served.lanes.get_mut(at) {
            Some(place) => *place = lane,
            None => served.lanes.push(lane),
        }
        Ok(())
    }

    /// Something happened on the connection of this token: its peer has closed the lane.
    pub(super) fn announced(&self, token: usize) {
        let mut served = self.lock();
        let Some(place) = served.lanes.get_mut(token - self.first_token) else { return };
        let has_ended = |lane: &mut Lane| match lane.stream.peek(&mut [0]) {
            Err(error) => !matches!(
                error.kind(),
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted
            ),
            // Whoever says more than an offer does not keep to the protocol.
            Ok(_) => true,
        };
        if let Some(lane) = place.take_if(has_ended) {
            self.close(&lane);
        }
    }

    /// Serves this peer no longer.
    pub(super) fn refuse(&self, peer: Rank) {
        let mut served = self.lock();
        served.refused.push(peer);
        for place in &mut served.lanes {
            if let Some(lane) = place.take_if(|lane| lane.peer == peer) {
                self.close(&lane);
            }
        }
    }

    /// Serves nobody any longer.
    pub(super) fn close_all(&self) {
        for lane in std::mem::take(&mut self.lock().lanes).into_iter().flatten() {
            self.close(&lane);
        }
    }

    fn close(&self, lane: &Lane) {
        let _ = self.registry.deregister(&mut SourceFd(&lane.stream.as_raw_fd()));
        let _ = lane.stream.shutdown(Shutdown::Both);
    }

    fn lock(&self) -> MutexGuard<'_, Served> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
