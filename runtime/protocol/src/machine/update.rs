//! Updates, Releases and Sets of peers: applied to Live rows, parked or nacked elsewhere (K6).

use sterna_rdma::Rank;

use crate::entry::ExchangeKind;
use crate::ids::{Epoch, RowId};
use crate::machine::lookahead::Lookahead;
use crate::machine::park::{Parked, Why, Work};
use crate::machine::peer::Owed;
use crate::machine::{Machine, PeerFault, REQUESTS_MAX};
use crate::owned::Policy;
use crate::record::{Nack, SetScope, Updates};
use crate::storage::{Foreign, Outcome, Storage};

/// What is to be done to a row for a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change<'a> {
    pub(super) from: Rank,
    pub(super) row: RowId,
    pub(super) epoch: Epoch,
    pub(super) work: ChangeWork,
    pub(super) payload: &'a [u8],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum ChangeWork {
    Apply,
    Release,
    Set(SetScope),
}

/// What a change gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Ack,
    Nack(Nack),
    Park(Why),
}

impl<K: Copy, P: Policy> Machine<K, P> {
    pub(super) fn on_updates<S: Storage<Place = K>>(
        &mut self,
        from: Rank,
        kind: ExchangeKind,
        updates: Updates<'_>,
        store: &mut S,
    ) -> Result<(), PeerFault> {
        let release = kind == ExchangeKind::Release;
        let work = if release { ChangeWork::Release } else { ChangeWork::Apply };
        self.on_changes(from, work, updates, store)
    }

    pub(super) fn on_set<S: Storage<Place = K>>(
        &mut self,
        from: Rank,
        scope: SetScope,
        updates: Updates<'_>,
        store: &mut S,
    ) -> Result<(), PeerFault> {
        self.on_changes(from, ChangeWork::Set(scope), updates, store)
    }

    fn on_changes<S: Storage<Place = K>>(
        &mut self,
        from: Rank,
        work: ChangeWork,
        updates: Updates<'_>,
        store: &mut S,
    ) -> Result<(), PeerFault> {
        let (table, number) = (updates.table, updates.number);
        let count = u32::try_from(updates.len()).expect("at most 1,024 keys");
        self.owe(from, Owed { table, number, count, open: 0, nacks: Vec::new() })?;
        let rows = updates.iter().map(|update| RowId { table, key: update.key });
        let mut ahead = Lookahead::new(rows, store);
        for (index, update) in (0..).zip(updates.iter()) {
            ahead.step(store);
            let (row, epoch, payload) =
                (RowId { table, key: update.key }, update.epoch, update.payload);
            let change = Change { from, row, epoch, work, payload };
            match self.change(&change, store)? {
                Reply::Ack => {}
                Reply::Nack(nack) => self.just_owed(from).nacks.push((index, nack)),
                Reply::Park(why) => {
                    let parked = Parked { row, why, work: Work::change(&change, number, index) };
                    if self.park(parked, store) {
                        self.just_owed(from).open += 1;
                    } else {
                        let nack = self.next_owner(from, row, epoch, store)?.so_far();
                        self.just_owed(from).nacks.push((index, nack));
                    }
                }
            }
        }
        Ok(())
    }

    fn owe(&mut self, from: Rank, owed: Owed) -> Result<(), PeerFault> {
        let list = &mut self.peers[from.index()].owed;
        if list.len() == REQUESTS_MAX || list.iter().any(|other| other.number == owed.number) {
            return Err(PeerFault::Requests { from });
        }
        list.push_back(owed);
        Ok(())
    }

    fn just_owed(&mut self, to: Rank) -> &mut Owed {
        self.peers[to.index()].owed.back_mut().expect("the answer was just noted")
    }

    /// Does what a peer asks for one key, if it can be done here and now.
    pub(super) fn change<S: Storage<Place = K>>(
        &mut self,
        change: &Change<'_>,
        store: &mut S,
    ) -> Result<Reply, PeerFault> {
        let &Change { from, row, epoch, work, payload } = change;
        let outcome = match work {
            ChangeWork::Set(scope) => store.set(row, payload, scope),
            ChangeWork::Release if payload.is_empty() => match store.live(row) {
                Some(_) => Outcome::Done,
                None => Outcome::Elsewhere,
            },
            ChangeWork::Apply | ChangeWork::Release => store.apply(row, payload),
        };
        match outcome {
            Outcome::Done => {
                self.counters.applied += 1;
                // Who sets a row gives up its replica; it asks again if it wants one.
                if work != ChangeWork::Apply {
                    self.holder_left(row, from, store);
                }
                Ok(Reply::Ack)
            }
            Outcome::Busy => Ok(Reply::Park(Why::Busy)),
            Outcome::Malformed => Err(PeerFault::Payload { from, row }),
            Outcome::Elsewhere => Ok(match self.next_owner(from, row, epoch, store)? {
                Next::Known(nack) => Reply::Nack(nack),
                Next::Early(_) => Reply::Park(Why::Early),
            }),
        }
    }

    /// Who owns a row that is not Live here, for somebody who believes that this node does since `asked`:
    /// the entry's owner, else the directory's, else its home, which knows better.
    ///
    /// If the asker knows of a newer epoch, or was told that this node is next (K6), the answer comes
    /// here: with the grant if an Acquire is open, with a Location if this is the home. Otherwise this
    /// node once owned the row and has forgotten.
    pub(super) fn next_owner<S: Storage<Place = K>>(
        &self,
        from: Rank,
        row: RowId,
        asked: Epoch,
        store: &mut S,
    ) -> Result<Next, PeerFault> {
        let home = store.home(row).ok_or(PeerFault::Row { from, row })?;
        let entry = store.find(row).map(|mut foreign| {
            let entry = foreign.control();
            let pending = entry.exchange().is_some_and(|it| it.kind == ExchangeKind::Acquire);
            (Nack { next: entry.owner(), epoch: entry.epoch() }, pending)
        });
        let (known, pending) = entry.unwrap_or_else(|| match store.directory(row) {
            Some(word) => (Nack { next: word.owner(), epoch: word.epoch() }, false),
            None => (Nack { next: home, epoch: asked }, false),
        });
        let early = known.next == self.rank || asked.newer_than(known.epoch);
        Ok(if !early {
            Next::Known(known)
        } else if pending || home == self.rank {
            Next::Early(known)
        } else {
            Next::Known(Nack { next: home, epoch: asked })
        })
    }
}

/// Who owns a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// As far as is known here.
    Known(Nack),
    /// This node will know better before long; so far it knows this.
    Early(Nack),
}

impl Next {
    /// What is known.
    pub(super) fn so_far(self) -> Nack {
        match self {
            Self::Known(nack) | Self::Early(nack) => nack,
        }
    }
}
