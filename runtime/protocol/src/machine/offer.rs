//! Offers: a row that only one other node still wants is to move there.

use sterna_rdma::Rank;

use crate::entry::EntryState;
use crate::ids::RowId;
use crate::machine::compose::{Composed, Envelope};
use crate::machine::{Machine, PeerFault};
use crate::outbox::Outbox;
use crate::owned::Policy;
use crate::record::{Keys, Kind};
use crate::storage::{Foreign, Storage};

impl<K: Copy, P: Policy> Machine<K, P> {
    /// A node has given up its replica of a row that is Live here.
    pub(super) fn holder_left<S: Storage<Place = K>>(
        &mut self,
        row: RowId,
        holder: Rank,
        store: &mut S,
    ) {
        self.holders.remove(row, holder);
        match self.holders.of(row).len() {
            0 => store.unshare(row),
            1 => self.unwanted(row),
            _ => {}
        }
    }

    /// Intents on a row have ended: if it is Live here and one other node wants it, that node is offered
    /// the row with the next [`Machine::settle`].
    pub fn unwanted(&mut self, row: RowId) {
        if self.policy.offers() && self.holders.of(row).len() == 1 {
            self.unwanted.push(row);
        }
    }

    /// Sends the offers that are due, as far as links are ready.
    pub(super) fn offer<S: Storage<Place = K>>(&mut self, store: &mut S, out: &mut dyn Outbox) {
        for row in std::mem::take(&mut self.unwanted) {
            let &[holder] = self.holders.of(row) else { continue };
            if store.wanted(row) || store.live(row).is_none() || self.peers[holder.index()].lost {
                continue;
            }
            let (kind, table) = (Kind::Offer, row.table);
            let to = Envelope { to: holder, kind, flags: 0, table, number: Some(0) };
            match self.compose(&to, None, out, |writer| writer.key(row.key)) {
                Composed::NotReady => self.unwanted.push(row),
                _ => self.counters.offered += 1,
            }
        }
    }

    /// Takes up offers of rows that are still wanted here: by an ordinary Acquire.
    pub(super) fn on_offers<S: Storage<Place = K>>(
        &mut self,
        from: Rank,
        keys: Keys<'_>,
        store: &mut S,
    ) -> Result<(), PeerFault> {
        for key in keys.iter() {
            let row = RowId { table: keys.table, key };
            store.home(row).ok_or(PeerFault::Row { from, row })?;
            let Some(mut foreign) = store.find(row) else { continue };
            let entry = foreign.control();
            if entry.state() == EntryState::Replica && entry.owner() == from {
                entry.want_acquire();
                self.list(&mut foreign);
            }
        }
        Ok(())
    }
}
