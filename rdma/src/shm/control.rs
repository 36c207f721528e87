//! What goes over the socket of a pair after it has joined: regions, goodbye, and the hang-up.
//!
//! A socket's buffer is limited, and a peer that is busy may not take from it for a while. Whoever
//! waits to send therefore takes packets of *all* peers meanwhile: two nodes that export to
//! each other, or any circle of them, always make room for each other. The wait is bounded.

use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::packet::{NotPacket, Packet};
use super::peer::{Peer, Slot, Standing, lock};
use super::socket::Received;
use crate::error::FabricError;
use crate::fabric::LostReason;
use crate::memory::{MapError, map_peer_rows};
use crate::region::RegionId;
use crate::tuning::{CONTROL_BURST_PACKETS, REGIONS_MAX};
use crate::wake::{poll, pollfd};

/// How long to sleep before a second try when the system, not the peer, is the bottleneck.
const PAUSE: Duration = Duration::from_millis(5);

/// Sends a packet within `limit`. A peer that is gone is not an error: nobody misses the packet.
pub(super) fn send(
    peers: &[Arc<Peer>],
    to: &Peer,
    packet: Packet,
    fds: &[BorrowedFd<'_>],
    limit: Duration,
) -> Result<(), FabricError> {
    let deadline = Instant::now() + limit;
    let bytes = packet.to_bytes();
    loop {
        if to.standing() != Standing::Live {
            return Ok(());
        }
        let Err(error) = to.socket.send(&bytes, fds) else { return Ok(()) };
        match error.raw_os_error() {
            // The buffer is full, or too many descriptors of this user are on their way.
            Some(libc::EAGAIN | libc::ETOOMANYREFS | libc::ENOBUFS | libc::EINTR) => {}
            Some(libc::EPIPE | libc::ECONNRESET | libc::ENOTCONN) => return Ok(()),
            _ => {
                return Err(FabricError::Os {
                    what: format!("passing memory to {}", to.rank),
                    reason: error.to_string(),
                });
            }
        }
        if Instant::now() >= deadline {
            return Err(FabricError::Os {
                what: format!("passing memory to {}", to.rank),
                reason: format!(
                    "it has taken nothing for {} s: see whether it is stopped",
                    limit.as_secs()
                ),
            });
        }
        make_room(peers, to)?;
    }
}

/// Sleeps a little, or until `to` may take something or another peer has sent something, and
/// takes the latter.
fn make_room(peers: &[Arc<Peer>], to: &Peer) -> Result<(), FabricError> {
    let mut fds: Vec<_> = peers
        .iter()
        .filter(|peer| peer.standing() == Standing::Live)
        .map(|peer| pollfd(peer.socket.as_fd().as_raw_fd(), libc::POLLIN))
        .collect();
    fds.push(pollfd(to.socket.as_fd().as_raw_fd(), libc::POLLOUT));
    // A full set of descriptors on their way is not shown by POLLOUT: without news, pause.
    if poll(&mut fds, PAUSE)? > 0 && fds.last().is_some_and(|fd| fd.revents != 0) {
        std::thread::yield_now();
    }
    for peer in peers {
        drain(peer);
    }
    Ok(())
}

/// Takes what `peer` has sent. Returns whether there was something.
pub(super) fn drain(peer: &Peer) -> bool {
    let _in_order = lock(&peer.draining);
    let mut any = false;
    peer.more_packets.store(false, Ordering::Relaxed);
    for _ in 0..CONTROL_BURST_PACKETS {
        if peer.standing() != Standing::Live {
            return any;
        }
        let mut bytes = [0; Packet::BYTES];
        let received = match peer.socket.receive(&mut bytes) {
            Ok(received) => received,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return any,
            // A peer that ended before it had read everything: what it sent itself is still there.
            Err(error)
                if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::Interrupted) =>
            {
                continue;
            }
            Err(error) => {
                peer.leave(LostReason::Died(format!("its socket failed: {error}")));
                return true;
            }
        };
        any = true;
        if received.len == 0 {
            peer.leave(LostReason::Died("its process has ended".to_owned()));
            return true;
        }
        if let Err(what) = take(peer, &bytes, &received) {
            peer.cut(LostReason::Malformed(what.to_owned()));
            return true;
        }
    }
    peer.more_packets.store(true, Ordering::Relaxed);
    any
}

/// Handles one packet.
fn take(peer: &Peer, bytes: &[u8; Packet::BYTES], received: &Received) -> Result<(), &'static str> {
    if received.len != Packet::BYTES {
        return Err("a packet has the wrong length");
    }
    match Packet::from_bytes(bytes) {
        Ok(Packet::Goodbye) => {
            peer.leave(LostReason::Goodbye);
            Ok(())
        }
        Ok(Packet::Region { id, bytes }) => take_region(peer, id, bytes, received),
        Ok(Packet::Hello(_) | Packet::Refused(_)) => Err("a packet of joining came after it"),
        Err(NotPacket::Version | NotPacket::Malformed) => Err("a packet is malformed"),
    }
}

fn take_region(
    peer: &Peer,
    id: RegionId,
    bytes: u64,
    received: &Received,
) -> Result<(), &'static str> {
    if id.0 >= REGIONS_MAX {
        return Err("a region's number is above the limit");
    }
    if received.truncated {
        let reason = "no descriptor is left to receive it: raise ulimit -n";
        return peer.put_region(id, Slot::Failed(reason.to_owned()));
    }
    let [fd] = received.fds.as_slice() else { return Err("a region came without its memory") };
    let bytes = usize::try_from(bytes).map_err(|_| "a region is larger than memory can be")?;
    let slot = match map_peer_rows(fd.as_fd(), bytes) {
        Ok(mapping) => Slot::Mapped(Arc::new(mapping)),
        Err(MapError::Unfit(what)) => return Err(what),
        Err(error @ MapError::Os { .. }) => Slot::Failed(error.to_string()),
    };
    peer.put_region(id, slot)
}
