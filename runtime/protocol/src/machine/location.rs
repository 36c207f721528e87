//! Where rows are: told to homes, asked of homes.

use sterna_rdma::Rank;

use crate::ids::{RowId, SlotId};
use crate::machine::compose::{Composed, Envelope};
use crate::machine::park::{Parked, Why, Work};
use crate::machine::{Machine, PeerFault};
use crate::outbox::Outbox;
use crate::owned::Policy;
use crate::record::{Found, Keys, Kind, Location, Locations, Whereabouts};
use crate::storage::{Foreign, Storage};
use crate::words::DirectoryWord;

impl<K: Copy, P: Policy> Machine<K, P> {
    /// Tells homes of rows that have come here, as far as links are ready. A row that has left again is
    /// left to its new owner.
    pub(super) fn disclose<S: Storage<Place = K>>(&mut self, store: &mut S, out: &mut dyn Outbox) {
        let rows = std::mem::take(&mut self.undisclosed);
        for &row in &rows {
            let (Some(home), Some((meta, slot))) = (store.home(row), store.live(row)) else {
                continue;
            };
            let location = Location { key: row.key, epoch: meta.epoch(), slot };
            let (kind, table) = (Kind::Location, row.table);
            let to = Envelope { to: home, kind, flags: 0, table, number: Some(0) };
            let composed = self.compose(&to, None, out, |writer| writer.location(&location));
            if composed == Composed::NotReady && !self.peers[home.index()].lost {
                self.undisclosed.push(row);
            }
        }
    }

    pub(super) fn on_locations<S: Storage<Place = K>>(
        &mut self,
        from: Rank,
        locations: Locations<'_>,
        store: &mut S,
    ) -> Result<(), PeerFault> {
        for location in locations.iter() {
            let row = RowId { table: locations.table, key: location.key };
            let known = store.directory(row).ok_or(PeerFault::Row { from, row })?;
            // A row that its home gave away is known to be there, but not in which slot.
            let disclosed = (known.owner(), known.epoch(), known.slot())
                == (from, location.epoch, SlotId::UNDISCLOSED);
            if location.epoch.newer_than(known.epoch()) || disclosed {
                let word = DirectoryWord::new(from, location.epoch, location.slot);
                store.set_directory(row, word);
            }
            if let Some(mut foreign) = store.find(row)
                && foreign.control().learn(from, location.epoch)
            {
                self.changed(&mut foreign);
            }
        }
        Ok(())
    }

    pub(super) fn on_where<S: Storage<Place = K>>(
        &mut self,
        from: Rank,
        keys: Keys<'_>,
        store: &mut S,
        out: &mut dyn Outbox,
    ) -> Result<(), PeerFault> {
        for key in keys.iter() {
            let (row, number) = (RowId { table: keys.table, key }, keys.number);
            if let Some(why) = self.locate(from, row, number, store, out)? {
                let work = Work::Where { from, number };
                if !self.park(Parked { row, why, work }, store) {
                    return Err(PeerFault::Requests { from });
                }
            }
        }
        Ok(())
    }

    /// Answers Where for one row; `Some` says why it has to wait.
    pub(super) fn locate<S: Storage<Place = K>>(
        &mut self,
        from: Rank,
        row: RowId,
        number: u32,
        store: &mut S,
        out: &mut dyn Outbox,
    ) -> Result<Option<Why>, PeerFault> {
        let word = store.directory(row).ok_or(PeerFault::Row { from, row })?;
        let (kind, table) = (Kind::Whereabouts, row.table);
        let to = Envelope { to: from, kind, flags: 0, table, number: Some(number) };
        let found = Found { key: row.key, word };
        let composed = self.compose(&to, None, out, |writer| writer.found(&found));
        Ok((composed == Composed::NotReady).then_some(Why::NotReady))
    }

    pub(super) fn on_whereabouts<S: Storage<Place = K>>(
        &mut self,
        from: Rank,
        found: Whereabouts<'_>,
        store: &mut S,
    ) -> Result<(), PeerFault> {
        for Found { key, word } in found.iter() {
            let row = RowId { table: found.table, key };
            self.known(from, word.owner())?;
            if store.home(row) != Some(from) {
                return Err(PeerFault::Row { from, row });
            }
            self.learned(row, word, store);
        }
        Ok(())
    }

    /// A directory word has been read or told: the row's entry, if there is one, takes it if it is
    /// newer.
    pub fn learned<S: Storage<Place = K>>(
        &mut self,
        row: RowId,
        word: DirectoryWord,
        store: &mut S,
    ) {
        if let Some(mut foreign) = store.find(row)
            && foreign.control().learn(word.owner(), word.epoch())
        {
            self.changed(&mut foreign);
        }
    }
}
