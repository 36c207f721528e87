//! Counts and logs connections that were refused.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Refusals that are all logged; after that, those whose number is a power of two.
const LOGGED: u64 = 64;

/// Refused connections of a node.
#[derive(Debug, Default)]
pub(crate) struct Strangers {
    count: AtomicU64,
    last: Mutex<Option<String>>,
}

impl Strangers {
    /// Notes a refusal.
    pub(crate) fn refused(&self, from: SocketAddr, why: &str) {
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        if count <= LOGGED || count.is_power_of_two() {
            tracing::warn!(%from, why, count, "refused a connection");
        }
        *self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner) =
            Some(format!("{from}: {why}"));
    }

    /// How many there were.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// A sentence for error messages, empty if there were none.
    pub(crate) fn summary(&self) -> String {
        let last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match last.as_ref() {
            Some(last) => format!("; {} connections were refused, the last: {last}", self.count()),
            None => String::new(),
        }
    }
}
