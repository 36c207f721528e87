//! Acquires: decided by the owner, passed on by others along growing epochs (I4), parked by who is next.

use sterna_rdma::Rank;

use crate::ids::{RowId, SlotId};
use crate::machine::compose::{Composed, Envelope};
use crate::machine::lookahead::Lookahead;
use crate::machine::park::{Parked, Why, Work};
use crate::machine::update::Next;
use crate::machine::{Machine, PeerFault};
use crate::outbox::Outbox;
use crate::owned::{Decision, Policy, Wish};
use crate::record::{Acquire, Acquires, Grant, Holders, Kind, Nack, Refusal};
use crate::storage::{Copied, Owned, Storage};
use crate::words::MetaWord;

/// Ask again after this many uses, when there is no room for more.
pub(super) const RETRY_USES: u16 = 16;

impl<K: Copy, P: Policy> Machine<K, P> {
    pub(super) fn on_acquires<S: Storage<Place = K>>(
        &mut self,
        from: Rank,
        acquires: Acquires<'_>,
        store: &mut S,
        out: &mut dyn Outbox,
    ) -> Result<(), PeerFault> {
        let (table, number) = (acquires.table, acquires.number);
        let rows = acquires.iter().map(|acquire| RowId { table, key: acquire.key });
        let mut ahead = Lookahead::new(rows, store);
        for acquire in acquires.iter() {
            ahead.step(store);
            let row = RowId { table, key: acquire.key };
            self.known(from, acquire.requester)?;
            if let Some(why) = self.acquire(from, row, number, &acquire, store, out)? {
                let work = Work::Acquire { number, acquire };
                if !self.park(Parked { row, why, work }, store) {
                    // As good as refused: the requester finds out by its own patience if even this
                    // cannot be said.
                    let known = self.next_owner(from, row, acquire.epoch, store)?;
                    let Nack { next, epoch } = known.so_far();
                    let uses = RETRY_USES;
                    let refusal = Refusal { key: row.key, next, epoch, uses };
                    self.refuse(row, number, acquire.requester, &refusal, out);
                }
            }
        }
        Ok(())
    }

    /// Answers an Acquire of one row or passes it on; `Some` says why it has to wait.
    pub(super) fn acquire<S: Storage<Place = K>>(
        &mut self,
        from: Rank,
        row: RowId,
        number: u32,
        acquire: &Acquire,
        store: &mut S,
        out: &mut dyn Outbox,
    ) -> Result<Option<Why>, PeerFault> {
        if let Some(mut owned) = store.owned(row) {
            return Ok(self.decide(row, number, acquire, &mut owned, out));
        }
        let Nack { next, epoch } = match self.next_owner(from, row, acquire.epoch, store)? {
            Next::Early(_) => return Ok(Some(Why::Early)),
            Next::Known(nack) => nack,
        };
        if !epoch.newer_than(acquire.epoch) || next == acquire.requester {
            // Nothing newer is known here, or the requester itself is next: it looks again.
            let refusal = Refusal { key: row.key, next, epoch, uses: 0 };
            return Ok(self.refuse(row, number, acquire.requester, &refusal, out));
        }
        let passed = Acquire { epoch, ..*acquire };
        let (kind, table) = (Kind::Acquire, row.table);
        let to = Envelope { to: next, kind, flags: 0, table, number: Some(number) };
        let composed = self.compose(&to, None, out, |writer| writer.acquire(&passed));
        self.counters.passed_on += u64::from(composed != Composed::NotReady);
        Ok(Self::later(composed))
    }

    fn later(composed: Composed) -> Option<Why> {
        (composed == Composed::NotReady).then_some(Why::NotReady)
    }

    fn decide<O: Owned>(
        &mut self,
        row: RowId,
        number: u32,
        acquire: &Acquire,
        owned: &mut O,
        out: &mut dyn Outbox,
    ) -> Option<Why> {
        let requester = acquire.requester;
        let ready = out.ready(requester) && !self.peers[requester.index()].lost;
        if requester == self.rank || self.peers[requester.index()].lost {
            // It has been answered by the grant that made this node the owner; or nobody waits.
            return None;
        }
        if !ready {
            return Some(Why::NotReady);
        }
        let (wanted_here, fresh) = (owned.wanted(), owned.fresh(self.now_ns));
        let holders = self.holders.of(row);
        match self.policy.decide(&Wish { row, acquire, holders, wanted_here, fresh }) {
            Decision::Later => Some(Why::Busy),
            Decision::Move => self.grant_move(row, number, acquire, owned, out),
            Decision::Share => self.grant_share(row, number, acquire, owned, out),
            Decision::Refuse { uses } => {
                let (next, epoch) = (self.rank, owned.meta().epoch());
                let refusal = Refusal { key: row.key, next, epoch, uses };
                self.refuse(row, number, requester, &refusal, out)
            }
        }
    }

    fn refuse(
        &mut self,
        row: RowId,
        number: u32,
        requester: Rank,
        refusal: &Refusal,
        out: &mut dyn Outbox,
    ) -> Option<Why> {
        let (kind, table) = (Kind::Refuse, row.table);
        let to = Envelope { to: requester, kind, flags: 0, table, number: Some(number) };
        let composed = self.compose(&to, None, out, |writer| writer.refusal(refusal));
        self.counters.refused += u64::from(composed != Composed::NotReady);
        Self::later(composed)
    }

    /// There is no room for what the policy decided.
    fn refuse_full(
        &mut self,
        row: RowId,
        number: u32,
        meta: MetaWord,
        requester: Rank,
        out: &mut dyn Outbox,
    ) -> Option<Why> {
        let (next, epoch, uses) = (self.rank, meta.epoch(), RETRY_USES);
        let refusal = Refusal { key: row.key, next, epoch, uses };
        self.refuse(row, number, requester, &refusal, out)
    }

    fn grant_share<O: Owned>(
        &mut self,
        row: RowId,
        number: u32,
        acquire: &Acquire,
        owned: &mut O,
        out: &mut dyn Outbox,
    ) -> Option<Why> {
        let (meta, slot) = (owned.meta(), owned.slot());
        let Some(board) = owned.enter_board() else {
            return self.refuse_full(row, number, meta, acquire.requester, out);
        };
        let grant = Grant { board, ..grant(row, meta, slot) };
        let (kind, to, table) = (Kind::GrantShare, acquire.requester, row.table);
        let to = Envelope { to, kind, flags: 0, table, number: Some(number) };
        let mut copied = Copied::Elsewhere;
        let composed = self.compose(&to, None, out, |writer| {
            writer.grant(&grant, &[], |room| {
                copied = owned.share_row(room);
                let Copied::Row(length, meta) = copied else { return None };
                let current = acquire.held == Some((meta.epoch(), meta.version()));
                Some((length, meta.version(), current))
            })
        });
        match (composed, copied) {
            (Composed::In(_), _) => {
                self.holders.insert(row, acquire.requester);
                self.counters.shared += 1;
                None
            }
            (Composed::NotReady, _) => Some(Why::NotReady),
            (Composed::NoRoom, Copied::Busy | Copied::Elsewhere) => Some(Why::Busy),
            (Composed::NoRoom, _) => panic!("a table's rows fit a record: checked at its creation"),
        }
    }

    fn grant_move<O: Owned>(
        &mut self,
        row: RowId,
        number: u32,
        acquire: &Acquire,
        owned: &mut O,
        out: &mut dyn Outbox,
    ) -> Option<Why> {
        let (meta, slot) = (owned.meta(), owned.slot());
        let next = acquire.requester;
        let epoch = meta.epoch().next();
        let grant = Grant { epoch, ..grant(row, meta, slot) };
        let (kind, table) = (Kind::GrantMove, row.table);
        let to = Envelope { to: next, kind, flags: 0, table, number: Some(number) };
        let mut others = self.holders.of(row).to_vec();
        others.retain(|&holder| holder != next);
        let mut copied = Copied::Elsewhere;
        let composed = self.compose(&to, None, out, |writer| {
            writer.grant(&grant, &others, |room| {
                copied = owned.move_row(next, epoch, room);
                let Copied::Row(length, meta) = copied else { return None };
                let current = acquire.held == Some((meta.epoch(), meta.version()));
                Some((length, meta.version(), current))
            })
        });
        match (composed, copied) {
            (Composed::In(_), _) => {
                self.holders.take(row);
                self.counters.moved_away += 1;
                self.unpark.push(row);
                None
            }
            (Composed::NotReady, _) => Some(Why::NotReady),
            (Composed::NoRoom, Copied::Busy | Copied::Elsewhere) => Some(Why::Busy),
            (Composed::NoRoom, Copied::Full) => {
                self.refuse_full(row, number, meta, acquire.requester, out)
            }
            (Composed::NoRoom, _) => panic!("a table's rows fit a record: checked at its creation"),
        }
    }
}

fn grant(row: RowId, meta: MetaWord, slot: SlotId) -> Grant<'static> {
    let (key, epoch, version, holders) =
        (row.key, meta.epoch(), meta.version(), Holders::default());
    Grant { key, epoch, slot, version, board: 0, holders, row: None }
}
