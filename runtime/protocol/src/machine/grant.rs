//! Grants and refusals of this node's Acquires; any node may answer one.

use sterna_rdma::Rank;

use crate::entry::ExchangeKind;
use crate::ids::{RowId, SlotId};
use crate::machine::acquire::RETRY_USES;
use crate::machine::lookahead::Lookahead;
use crate::machine::{Machine, PeerFault};
use crate::owned::Policy;
use crate::record::{Grants, Refusals};
use crate::storage::{Foreign, Storage};
use crate::words::DirectoryWord;

impl<K: Copy, P: Policy> Machine<K, P> {
    pub(super) fn on_shares<S: Storage<Place = K>>(
        &mut self,
        from: Rank,
        grants: Grants<'_>,
        store: &mut S,
    ) -> Result<(), PeerFault> {
        let number = grants.number;
        if self.abandoned.contains(&number) {
            return Ok(());
        }
        let table = grants.table;
        let rows = grants.iter().map(|grant| RowId { table, key: grant.key });
        let mut ahead = Lookahead::new(rows, store);
        for grant in grants.iter() {
            ahead.step(store);
            let row = RowId { table, key: grant.key };
            let mut foreign = store.find(row).ok_or(PeerFault::Answer { from, number })?;
            let asked = Self::asked(&mut foreign, number);
            let usable = foreign.control().shared(number, from, grant.epoch);
            match usable.ok_or(PeerFault::Answer { from, number })? {
                true if !foreign.install_replica(&grant) => {
                    return Err(PeerFault::Payload { from, row });
                }
                true => {}
                false => {
                    foreign.unreserve();
                    foreign.refused(RETRY_USES);
                }
            }
            self.changed(&mut foreign);
            self.acquire_answered(asked, number);
        }
        Ok(())
    }

    pub(super) fn on_moves<S: Storage<Place = K>>(
        &mut self,
        from: Rank,
        grants: Grants<'_>,
        store: &mut S,
    ) -> Result<(), PeerFault> {
        let number = grants.number;
        if self.abandoned.contains(&number) {
            return Ok(());
        }
        let table = grants.table;
        let rows = grants.iter().map(|grant| RowId { table, key: grant.key });
        let mut ahead = Lookahead::new(rows, store);
        for grant in grants.iter() {
            ahead.step(store);
            let row = RowId { table, key: grant.key };
            let mut foreign = store.find(row).ok_or(PeerFault::Answer { from, number })?;
            grant.holders.iter().try_for_each(|holder| self.known(from, holder))?;
            let asked = Self::asked(&mut foreign, number);
            if !foreign.control().moved_here(number, self.rank, grant.epoch) {
                return Err(PeerFault::Answer { from, number });
            }
            let slot = foreign.install_live(&grant).ok_or(PeerFault::Payload { from, row })?;
            drop(foreign);
            for holder in grant.holders.iter().filter(|&holder| holder != self.rank) {
                self.holders.insert(row, holder);
            }
            self.counters.moved_here += 1;
            self.acquire_answered(asked, number);
            self.note_location(row, DirectoryWord::new(self.rank, grant.epoch, slot), store);
            self.unpark.push(row);
        }
        Ok(())
    }

    pub(super) fn on_refusals<S: Storage<Place = K>>(
        &mut self,
        from: Rank,
        refusals: Refusals<'_>,
        store: &mut S,
    ) -> Result<(), PeerFault> {
        let number = refusals.number;
        if self.abandoned.contains(&number) {
            return Ok(());
        }
        for refusal in refusals.iter() {
            let row = RowId { table: refusals.table, key: refusal.key };
            self.known(from, refusal.next)?;
            let mut foreign = store.find(row).ok_or(PeerFault::Answer { from, number })?;
            let asked = Self::asked(&mut foreign, number);
            if !foreign.control().refused(number, refusal.next, refusal.epoch) {
                return Err(PeerFault::Answer { from, number });
            }
            foreign.unreserve();
            foreign.refused(refusal.uses);
            self.changed(&mut foreign);
            self.acquire_answered(asked, number);
        }
        Ok(())
    }

    /// The peer that the open Acquire with this number went to.
    fn asked<F: Foreign>(foreign: &mut F, number: u32) -> Option<Rank> {
        let open = foreign.control().exchange()?;
        (open.kind == ExchangeKind::Acquire && open.number == number).then_some(open.peer)
    }

    fn acquire_answered(&mut self, asked: Option<Rank>, number: u32) {
        if let Some(asked) = asked {
            let peer = &mut self.peers[asked.index()];
            let sent = peer.request(number).map(|index| peer.requests[index].sent_ns);
            peer.answered(number);
            if let Some(sent_ns) = sent {
                self.note_round_trip(sent_ns);
            }
        }
    }

    /// Tells the home of a row that it is here now; at once if that is this node.
    fn note_location<S: Storage<Place = K>>(
        &mut self,
        row: RowId,
        word: DirectoryWord,
        store: &mut S,
    ) {
        debug_assert!(word.slot() != SlotId::UNDISCLOSED, "a Live row has a slot");
        if store.directory(row).is_some() {
            store.set_directory(row, word);
        } else {
            self.undisclosed.push(row);
        }
    }
}
