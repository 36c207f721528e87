//! Socket options, so that a peer whose host has vanished is noticed within ten seconds.
//!
//! A process that dies closes its sockets; that is noticed at once. If its host or the way to it
//! vanishes nothing comes: then the system's own probes of an idle connection, or the limit on
//! unacknowledged bytes of a busy one, end the connection. Idle nodes so need no heartbeats.

use std::io;

use socket2::{SockRef, TcpKeepalive};

use super::limits::{KEEPALIVE_IDLE, KEEPALIVE_INTERVAL, KEEPALIVE_PROBES, UNACKNOWLEDGED_MAX};

/// Prepares a proven connection: no waiting to fill packets, non-blocking, watched.
pub(crate) fn prepare(stream: &std::net::TcpStream) -> io::Result<()> {
    prepare_served(stream)?;
    SockRef::from(stream).set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX))
}

/// The same for the owner's side of a read lane, without the limit on unacknowledged bytes: a reader may compute for as long as it
/// likes before it fetches its answers, and the system takes a window that stays closed for a host that has vanished. When the
/// reader's host does vanish, its link ends, and the lane with it.
pub(super) fn prepare_served(stream: &std::net::TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(None)?;
    stream.set_write_timeout(None)?;
    stream.set_nonblocking(true)?;
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    socket.set_tcp_keepalive(&keepalive)
}
