//! Where records go.

use sterna_rdma::Rank;

/// The links of a node, as the machine sees them. Sending never waits: the machine asks first whether a
/// link is ready, and what it cannot say yet remains a mark with it.
pub trait Outbox {
    /// Whether one record of any size would be taken for `to` now.
    fn ready(&self, to: Rank) -> bool;

    /// Takes a record for `to`. Called only after [`Outbox::ready`] said yes, and at most once for it.
    fn send(&mut self, to: Rank, record: &[u8]);
}

/// An [`Outbox`] over links that may be full: one record per peer waits in a buffer of its own, and its
/// link is not ready until that record has left. So at most one composed record per peer ever waits.
#[derive(Debug)]
pub struct Staging {
    waiting: Box<[Vec<u8>]>,
    /// Records that had to wait.
    pub delayed: u64,
}

impl Staging {
    /// For a job of `size` nodes.
    #[must_use]
    pub fn new(size: usize) -> Self {
        Self { waiting: (0..size).map(|_| Vec::new()).collect(), delayed: 0 }
    }

    /// Tries again to send what waits; `try_send` says whether the link took the record. Returns how
    /// many records still wait.
    pub fn pump(&mut self, mut try_send: impl FnMut(Rank, &[u8]) -> bool) -> usize {
        let mut left = 0;
        for (peer, record) in self.waiting.iter_mut().enumerate() {
            if record.is_empty() {
                continue;
            }
            if try_send(Rank::from_index(peer), record) {
                record.clear();
            } else {
                left += 1;
            }
        }
        left
    }

    /// How many records wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.iter().filter(|record| !record.is_empty()).count()
    }

    /// Forgets what waits for a lost peer.
    pub fn forget(&mut self, peer: Rank) {
        self.waiting[peer.index()] = Vec::new();
    }

    /// An outbox that tries the link first.
    pub fn outbox<'a, F>(&'a mut self, try_send: F) -> StagedOutbox<'a, F>
    where
        F: FnMut(Rank, &[u8]) -> bool,
    {
        StagedOutbox { staging: self, try_send }
    }
}

/// See [`Staging::outbox`].
#[derive(Debug)]
pub struct StagedOutbox<'a, F> {
    staging: &'a mut Staging,
    try_send: F,
}

impl<F: FnMut(Rank, &[u8]) -> bool> Outbox for StagedOutbox<'_, F> {
    fn ready(&self, to: Rank) -> bool {
        self.staging.waiting[to.index()].is_empty()
    }

    fn send(&mut self, to: Rank, record: &[u8]) {
        let waiting = &mut self.staging.waiting[to.index()];
        assert!(waiting.is_empty(), "one record per peer waits");
        if !(self.try_send)(to, record) {
            waiting.extend_from_slice(record);
            self.staging.delayed += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_record_per_peer_waits_and_goes_first() {
        let mut staging = Staging::new(2);
        let (here, there) = (Rank(0), Rank(1));
        let mut out = staging.outbox(|_, _| false);
        out.send(there, b"one");
        assert!(out.ready(here) && !out.ready(there));
        assert_eq!((staging.pump(|_, _| false), staging.waiting()), (1, 1));
        let mut left = Vec::new();
        let took = staging.pump(|to, record| {
            left.push((to, record.to_vec()));
            true
        });
        assert_eq!((took, left), (0, vec![(there, b"one".to_vec())]));
        assert!(staging.outbox(|_, _| true).ready(there));
        assert_eq!(staging.delayed, 1);
    }

    #[test]
    fn what_waits_for_a_lost_peer_is_forgotten() {
        let mut staging = Staging::new(1);
        staging.outbox(|_, _| false).send(Rank(0), b"one");
        staging.forget(Rank(0));
        assert_eq!(staging.pump(|_, _| panic!("nothing is left")), 0);
    }
}
