//! Consistent rows for peers.

use sterna_rdma::Rank;

use crate::ids::{Epoch, RowId};
use crate::machine::compose::{Composed, Envelope};
use crate::machine::park::{Parked, Why, Work};
use crate::machine::{Machine, PeerFault};
use crate::outbox::Outbox;
use crate::owned::Policy;
use crate::record::{Keys, Kind};
use crate::storage::{Copied, Storage};
use crate::words::{MetaWord, SlotState};

impl<K: Copy, P: Policy> Machine<K, P> {
    pub(super) fn on_snapshot_read<S: Storage<Place = K>>(
        &mut self,
        from: Rank,
        keys: Keys<'_>,
        store: &mut S,
        out: &mut dyn Outbox,
    ) -> Result<(), PeerFault> {
        for key in keys.iter() {
            let (row, number) = (RowId { table: keys.table, key }, keys.number);
            if let Some(why) = self.snapshot(from, row, number, store, out)? {
                let work = Work::Snapshot { from, number };
                if !self.park(Parked { row, why, work }, store) {
                    return Err(PeerFault::Requests { from });
                }
            }
        }
        Ok(())
    }

    /// Answers SnapshotRead for one row; `Some` says why it has to wait.
    pub(super) fn snapshot<S: Storage<Place = K>>(
        &mut self,
        from: Rank,
        row: RowId,
        number: u32,
        store: &mut S,
        out: &mut dyn Outbox,
    ) -> Result<Option<Why>, PeerFault> {
        // Asked before a record is begun, because the answer differs.
        let away = match store.live(row) {
            Some(_) => None,
            None => Some(self.next_owner(from, row, Epoch::FIRST, store)?.so_far()),
        };
        let (kind, table) = (Kind::SnapshotRows, row.table);
        let to = Envelope { to: from, kind, flags: 0, table, number: Some(number) };
        let mut copied = Copied::Elsewhere;
        let composed = self.compose(&to, None, out, |writer| {
            writer.snapshot_row(row.key, |room| {
                if let Some(nack) = away {
                    let next = u64::from(nack.next.0);
                    return Some((0, MetaWord::new(SlotState::Moved, nack.epoch, next)));
                }
                copied = store.copy_row(row, room);
                if let Copied::Row(length, meta) = copied { Some((length, meta)) } else { None }
            })
        });
        Ok(match (composed, copied) {
            (Composed::In(_), _) => None,
            (Composed::NotReady, _) => Some(Why::NotReady),
            (Composed::NoRoom, Copied::Busy | Copied::Elsewhere) => Some(Why::Busy),
            (Composed::NoRoom, _) => panic!("a table's rows fit a record: checked at its creation"),
        })
    }
}
