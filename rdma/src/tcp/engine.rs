//! What happens on the thread that polls: records are taken from links, READs of peers are served,
//! and the end of a link is reported once, after everything that came before it.

use std::io::{ErrorKind, Read as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use mio::{Interest, Token};

use super::frame::{self, FrameBuffer, FrameKind};
use super::limits::{LANES_MAX, LINK_BURST};
use super::link::{Link, retry};
use super::serve::{Lane, ServedLane};
use super::{TcpProvider, socket};
use crate::fabric::{LostReason, Sink};
use crate::join::door::Admitted;
use crate::join::proof::Purpose;

/// The receiving side of a link.
pub(super) struct Inbound {
    pub(super) link: Arc<Link>,
    pub(super) frames: FrameBuffer,
    pub(super) readable: bool,
    /// The end was announced: it is read until there.
    pub(super) ending: bool,
    /// Nothing more can be received, for this reason.
    pub(super) ended: Option<LostReason>,
    /// The loss was reported.
    pub(super) reported: bool,
    pub(super) flush_due: bool,
    pub(super) credit_due: bool,
}

/// State of the thread that polls.
pub(super) struct Engine {
    /// By rank.
    pub(super) links: Vec<Option<Inbound>>,
    pub(super) lanes: Vec<Option<ServedLane>>,
    /// Links and lanes with something to do; each at most once.
    pub(super) busy_links: Vec<usize>,
    pub(super) busy_lanes: Vec<usize>,
}

impl TcpProvider {
    /// Takes over a connection that a peer opened for a lane.
    pub(super) fn adopt(&self, engine: &mut Engine, admitted: Admitted) {
        let Admitted { stream, node, transcript } = admitted;
        let rank = node.rank;
        let from = stream.peer_addr().unwrap_or(node.address);
        let known = self.nodes.get(rank.index());
        let is_peer = self.link(rank).is_some()
            && known.is_some_and(|known| known.incarnation == node.incarnation);
        if !is_peer || transcript.purpose != Purpose::Lane {
            self.strangers.refused(from, "it is no peer of this start of the job");
            return;
        }
        if self.shared.lost[rank.index()].get().is_some() {
            return;
        }
        let free = engine.lanes.iter().position(Option::is_none).unwrap_or(engine.lanes.len());
        if free >= LANES_MAX || socket::prepare_served(&stream).is_err() {
            tracing::warn!(from = %rank, "a read lane is closed: too many are open");
            return;
        }
        let mut stream = mio::net::TcpStream::from_std(stream);
        let token = Token(self.first_token + self.nodes.len() + free);
        let interest = Interest::READABLE | Interest::WRITABLE;
        if let Err(error) = self.registry.register(&mut stream, token, interest) {
            tracing::warn!(from = %rank, %error, "a read lane is closed");
            return;
        }
        if free == engine.lanes.len() {
            engine.lanes.push(None);
        }
        engine.lanes[free] = Some(ServedLane::new(rank, stream));
    }

    /// Notes what the system has announced.
    pub(super) fn note(&self, engine: &mut Engine, token: Token, ending: bool) {
        let Some(at) = token.0.checked_sub(self.first_token) else { return };
        if let Some(inbound) = engine.links.get_mut(at).and_then(Option::as_mut) {
            inbound.readable = true;
            inbound.flush_due = true;
            inbound.ending |= ending;
            mark(&mut engine.busy_links, at);
        } else if let Some(at) = at.checked_sub(self.nodes.len())
            && let Some(lane) = engine.lanes.get_mut(at).and_then(Option::as_mut)
        {
            lane.ready();
            if ending {
                lane.ending();
            }
            mark(&mut engine.busy_lanes, at);
        }
    }

    /// Serves lanes that have requests.
    pub(super) fn serve(&self, engine: &mut Engine) -> bool {
        if engine.busy_lanes.is_empty() {
            return false;
        }
        let served = &self.shared.counters.reads_served;
        for at in std::mem::take(&mut engine.busy_lanes) {
            let Some(lane) = &mut engine.lanes[at] else { continue };
            match lane.work(&self.shared.exports, served) {
                Lane::Idle => {}
                Lane::Busy => mark(&mut engine.busy_lanes, at),
                Lane::Ended => engine.lanes[at] = None,
                Lane::Malformed(text) => {
                    let peer = lane.peer;
                    engine.lanes[at] = None;
                    if let Some(inbound) = &mut engine.links[peer.index()] {
                        inbound.ended.get_or_insert(LostReason::Malformed(text));
                        mark(&mut engine.busy_links, peer.index());
                    }
                }
            }
        }
        true
    }

    /// Delivers what one link has. Returns records and events delivered.
    fn deliver(&self, inbound: &mut Inbound, budget: usize, sink: &mut dyn Sink) -> usize {
        let link = Arc::clone(&inbound.link);
        let peer = link.peer;
        let (mut records, mut bytes) = (0, 0);
        while records < budget && inbound.ended.is_none() {
            match inbound.frames.next() {
                Ok(Some(frame)) => {
                    if !link.take_credit(frame.consumed) {
                        let text = "it consumed what was not sent".to_owned();
                        inbound.ended = Some(LostReason::Malformed(text));
                        break;
                    }
                    match frame.kind {
                        FrameKind::Record => {
                            records += 1;
                            bytes += frame.record.len();
                            link.consume(frame.record.len());
                            sink.record(peer, frame.record);
                            if self.shared.lost[peer.index()].get().is_some() {
                                break;
                            }
                        }
                        FrameKind::Credit => {}
                        FrameKind::Goodbye => inbound.ended = Some(LostReason::Goodbye),
                    }
                }
                Ok(None) if inbound.readable => self.receive(inbound),
                Ok(None) => break,
                Err(error) => inbound.ended = Some(LostReason::Malformed(error.to_string())),
            }
        }
        let counters = &self.shared.counters;
        counters.records_received.fetch_add(records as u64, Ordering::Relaxed);
        counters.record_bytes_received.fetch_add(bytes as u64, Ordering::Relaxed);
        records
    }

    /// Receives once; the buffer holds no complete frame.
    fn receive(&self, inbound: &mut Inbound) {
        let space = inbound.frames.space();
        match retry(|| (&inbound.link.stream).read(space)) {
            Ok(0) => {
                inbound.ended = Some(match inbound.link.broken() {
                    Some(error) => self.end(&format!("its connection broke: {error}")),
                    None => self.end("its process ended: the connection was closed"),
                });
            }
            Ok(count) => {
                // A short read has emptied the socket; what comes later is announced anew.
                inbound.readable = inbound.ending || count == space.len();
                inbound.frames.received(count);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => inbound.readable = false,
            Err(error) => {
                inbound.ended = Some(self.end(&format!("its connection broke: {error}")));
            }
        }
    }

    /// What the end of a connection means.
    fn end(&self, text: &str) -> LostReason {
        if self.said_goodbye.load(Ordering::Relaxed) {
            LostReason::Goodbye
        } else {
            LostReason::Died(text.to_owned())
        }
    }

    /// One link's turn. Returns what was delivered; marks the link again if more can be done.
    pub(super) fn work(
        &self,
        engine: &mut Engine,
        at: usize,
        budget: usize,
        sink: &mut dyn Sink,
    ) -> usize {
        let Some(inbound) = &mut engine.links[at] else { return 0 };
        // An expelled peer is reported by `poll`; nothing of it is delivered any more.
        if inbound.reported || self.shared.lost[at].get().is_some() {
            return 0;
        }
        if inbound.flush_due {
            inbound.flush_due = !inbound.link.flush();
        }
        let budget = budget.min(LINK_BURST);
        let mut delivered = self.deliver(inbound, budget, sink);
        if let Some(reason) = inbound.ended.clone() {
            if delivered < budget {
                self.lose(engine, at, reason, sink);
                delivered += 1;
            } else {
                mark(&mut engine.busy_links, at);
            }
            return delivered;
        }
        inbound.credit_due = !inbound.link.return_credit();
        if delivered == budget || inbound.readable || inbound.flush_due || inbound.credit_due {
            mark(&mut engine.busy_links, at);
        }
        delivered
    }

    /// Reports a loss, once, after everything that came before it.
    pub(super) fn lose(
        &self,
        engine: &mut Engine,
        at: usize,
        reason: LostReason,
        sink: &mut dyn Sink,
    ) {
        let Some(inbound) = &mut engine.links[at] else { return };
        if std::mem::replace(&mut inbound.reported, true) {
            return;
        }
        let peer = inbound.link.peer;
        let text = match &reason {
            LostReason::Goodbye => "it has left".to_owned(),
            LostReason::Died(text) | LostReason::Expelled(text) => text.clone(),
            LostReason::Malformed(text) => format!("it broke the wire format: {text}"),
        };
        let _ = self.shared.lost[at].set(text);
        inbound.link.close();
        inbound.frames = FrameBuffer::new(frame::HEADER_BYTES);
        for lane in &mut engine.lanes {
            lane.take_if(|lane| lane.peer == peer);
        }
        sink.peer_lost(peer, reason);
    }
}

/// Adds `at` unless it is there.
pub(super) fn mark(list: &mut Vec<usize>, at: usize) {
    if !list.contains(&at) {
        list.push(at);
    }
}
