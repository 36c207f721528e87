//! A worker's private replicas of rows that other workers of its node push to as well.
//!
//! Sharing a row costs a transfer of its lines per push, whatever the lock. So a worker is to its node
//! what a node is to an owner: it notes for the keys that it pushed last at which version it left
//! them, and when a version has moved by its next push, it keeps a private copy of the row, steps that,
//! and composes what it did. A *fold* puts the composed update into the slot as one push and copies
//! the row anew. Own pulls read the private copy, so a worker always sees its own pushes; what others
//! do it sees after 16 pushes or 64 pulls at the latest.
//!
//! Replicas are private to their worker: no word of them is shared, and a move of the row needs no
//! fold. When the row is not here any more, the update is handed to the caller, who sends it after
//! the row as any other push.

use sterna_kernels::RowPtr;
use sterna_kernels::optimizer::RowShape;
use sterna_kernels::update::Update;
use sterna_protocol::{Key, MetaWord, SlotState};

use crate::pool::Block;
use crate::slot::{Patience, Slot, SlotError, SlotGuard};

/// Pushes after which a private copy is folded.
pub(crate) const PUSHES_MAX: u32 = 16;
/// Own pulls after which a private copy is given up.
pub(crate) const PULLS_MAX: u32 = 64;
/// Keys that are watched at a time, by a direct map.
const WATCHED: usize = 512;
/// No key: tables end far below.
const NOTHING: u64 = u64::MAX;
/// Not a replica's index.
const NO_REPLICA: u16 = u16::MAX;

/// What one call does to a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    /// One optimizer step by a gradient with this learning rate.
    Step(f32),
    /// Plain addition to the values.
    Add,
}

impl Change {
    /// Changes a row in place; `floats` are as many as its values.
    #[inline]
    pub fn apply(self, shape: &RowShape, row: RowPtr, floats: &[f32]) {
        match self {
            Self::Step(lr) => shape.step(row, floats, lr),
            Self::Add => row.part(0, floats.len()).add(floats),
        }
    }
}

/// What a change has touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// Nothing that other nodes have to be told of.
    Private,
    /// A main copy that other nodes have replicas of: the caller tells the board.
    Shared,
}

impl Changed {
    fn of(now: MetaWord) -> Self {
        if now.state() == SlotState::Shared { Self::Shared } else { Self::Private }
    }
}

#[derive(Clone, Copy)]
struct Watch {
    key: u64,
    /// The row's version after this worker's last push.
    version: u64,
    replica: u16,
}

struct Replica {
    /// Its watch's place.
    at: u16,
    row: Box<[f32]>,
    /// The composed update since `row` was copied.
    update: Block,
    /// Pushes in `update`.
    pushes: u32,
    pulls: u32,
    /// The slot's version when the row was copied.
    base: u64,
}

/// The private replicas of one worker in one table.
pub struct HotRows {
    shape: RowShape,
    watches: Box<[Watch; WATCHED]>,
    replicas: Vec<Replica>,
    /// Rows and updates of replicas that were dropped, for the next ones.
    idle: Vec<(Box<[f32]>, Block)>,
    counts: HotCounts,
    /// The first key of the batch whose first lines have been asked for.
    primed: Option<Key>,
}

/// What private replicas did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HotCounts {
    /// Replicas made.
    pub made: u64,
    /// Pushes that went to a private copy.
    pub pushes: u64,
    /// Pulls that were served from one.
    pub pulls: u64,
    /// Updates that were put into slots.
    pub folds: u64,
}

impl HotRows {
    /// No replicas of rows of this shape.
    #[must_use]
    pub fn new(shape: RowShape) -> Self {
        let watch = Watch { key: NOTHING, version: 0, replica: NO_REPLICA };
        Self {
            shape,
            watches: Box::new([watch; WATCHED]),
            replicas: Vec::new(),
            idle: Vec::new(),
            counts: HotCounts::default(),
            primed: None,
        }
    }

    /// The shape of the rows.
    #[must_use]
    pub fn shape(&self) -> &RowShape {
        &self.shape
    }

    /// Whether there is no private copy at all.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.replicas.is_empty()
    }

    /// What happened so far.
    #[must_use]
    pub fn counts(&self) -> HotCounts {
        self.counts
    }

    /// Whether there is a private copy of this key's row.
    #[must_use]
    #[inline]
    pub fn holds(&self, key: Key) -> bool {
        self.replica_of(key).is_some()
    }

    /// Whether a push of this key will touch its slot, and not only a private copy.
    #[inline]
    pub(crate) fn touches_slot(&self, key: Key) -> bool {
        match self.replica_of(key) {
            Some(replica) => self.replicas[replica].pushes + 1 >= PUSHES_MAX,
            None => true,
        }
    }

    pub(crate) fn prime(&mut self, first: Option<Key>) {
        self.primed = first;
    }

    pub(crate) fn take_primed(&mut self) -> Option<Key> {
        self.primed.take()
    }

    /// Copies the private row of a key, as many floats as `out` holds, if there is one.
    #[inline]
    pub fn pull(&mut self, key: Key, out: &mut [f32]) -> bool {
        let Some(at) = self.replica_of(key) else { return false };
        let replica = &mut self.replicas[at];
        out.copy_from_slice(&replica.row[..out.len()]);
        replica.pulls += 1;
        self.counts.pulls += 1;
        true
    }

    /// Whether the private copy of a key was read often enough to be given up.
    #[inline]
    pub(crate) fn stale(&self, key: Key) -> bool {
        self.replica_of(key).is_some_and(|at| self.replicas[at].pulls >= PULLS_MAX)
    }

    /// Changes the row of a key: a private copy, if there is one, else the slot. An update that finds
    /// its row gone goes to `away`.
    ///
    /// # Errors
    /// If neither a private copy nor the slot could take the change.
    #[inline]
    pub fn push(
        &mut self,
        slot: Option<Slot<'_>>,
        key: Key,
        change: Change,
        floats: &[f32],
        away: impl FnMut(Key, &Update<'_>),
    ) -> Result<Changed, SlotError> {
        let Some(at) = self.replica_of(key) else {
            return self.push_slot(slot, key, change, floats);
        };
        if self.push_private(at, change, floats) >= PUSHES_MAX
            && let Ok(changed) = self.fold(at, slot, Patience::NONE, false, away)
        {
            return Ok(changed);
        }
        // A busy slot is no trouble: the next push tries again.
        Ok(Changed::Private)
    }

    /// Changes a private copy and gives how many pushes its update holds.
    fn push_private(&mut self, at: usize, change: Change, floats: &[f32]) -> u32 {
        let replica = &mut self.replicas[at];
        let mut update = Update::in_block(&self.shape, &mut replica.update);
        match change {
            Change::Step(lr) => update.step_copy(&mut replica.row, floats, lr),
            Change::Add => update.add_copy(&mut replica.row, floats),
        }
        replica.pushes += 1;
        self.counts.pushes += 1;
        replica.pushes
    }

    /// Folds the private copy of a key, if there is one, and gives it up.
    ///
    /// # Errors
    /// [`SlotError::Busy`] if the slot could not be had in time; the copy is still there.
    pub fn drop_key(
        &mut self,
        slot: Option<Slot<'_>>,
        key: Key,
        patience: Patience,
        away: impl FnMut(Key, &Update<'_>),
    ) -> Result<Changed, SlotError> {
        match self.replica_of(key) {
            Some(at) => self.fold(at, slot, patience, true, away),
            None => Ok(Changed::Private),
        }
    }

    /// Folds and gives up all private copies; `slot_of` finds their slots, `shared` is told of keys that
    /// other nodes have replicas of.
    ///
    /// # Errors
    /// [`SlotError::Busy`] if some slot could not be had in time; its copy is still there, so the
    /// caller lets others run and calls again.
    pub fn drop_all<'a>(
        &mut self,
        slot_of: impl Fn(Key) -> Option<Slot<'a>>,
        patience: Patience,
        mut away: impl FnMut(Key, &Update<'_>),
        mut shared: impl FnMut(Key),
    ) -> Result<(), SlotError> {
        let keys = self.replicas.iter().map(|replica| self.watches[usize::from(replica.at)].key);
        for slot in keys.filter_map(|key| slot_of(Key(key))) {
            slot.prefetch_write();
        }
        let mut result = Ok(());
        for at in (0..self.replicas.len()).rev() {
            let key = Key(self.watches[usize::from(self.replicas[at].at)].key);
            match self.fold(at, slot_of(key), patience, true, &mut away) {
                Ok(Changed::Shared) => shared(key),
                Ok(Changed::Private) => {}
                Err(busy) => result = Err(busy),
            }
        }
        result
    }

    #[inline]
    fn replica_of(&self, key: Key) -> Option<usize> {
        let watch = &self.watches[place(key)];
        (watch.key == key.0 && watch.replica != NO_REPLICA).then_some(usize::from(watch.replica))
    }

    /// Changes the slot and looks whether others do so, too. All that can be done before the writer bit
    /// is taken or after it is given back is done then: what stands behind a locked instruction waits.
    #[inline(always)]
    fn push_slot(
        &mut self,
        slot: Option<Slot<'_>>,
        key: Key,
        change: Change,
        floats: &[f32],
    ) -> Result<Changed, SlotError> {
        let watch = &mut self.watches[place(key)];
        let mut guard = slot.ok_or(SlotError::Elsewhere)?.lock(key, Patience::WORKER)?;
        guard.edit(|row| change.apply(&self.shape, row, floats));
        let (before, after) = (guard.meta().version(), guard.meta().bumped().version());
        if watch.key == key.0 && watch.version != before {
            self.make(key, &guard);
        } else if watch.replica == NO_REPLICA {
            (watch.key, watch.version) = (key.0, after);
        }
        Ok(Changed::of(guard.commit()))
    }

    /// Starts a private copy of the row under the guard, as it will be once the guard is committed.
    #[cold]
    fn make(&mut self, key: Key, guard: &SlotGuard<'_>) {
        let (mut row, update) = self.idle.pop().unwrap_or_else(|| {
            let floats = |len| vec![0.0; len].into();
            (floats(self.shape.row_len()), floats(self.shape.block_len()))
        });
        guard.read(&mut row);
        let base = guard.meta().bumped().version();
        let watch = &mut self.watches[place(key)];
        watch.replica = u16::try_from(self.replicas.len()).expect("no more replicas than watches");
        let at = u16::try_from(place(key)).expect("a watch's place");
        self.replicas.push(Replica { at, row, update, pushes: 0, pulls: 0, base });
        self.counts.made += 1;
    }

    /// Puts the composed update of a replica into its slot. The copy is kept, fresh, if others have
    /// pushed since the last fold and the caller does not want it gone.
    #[inline(never)]
    fn fold(
        &mut self,
        at: usize,
        slot: Option<Slot<'_>>,
        patience: Patience,
        give_up: bool,
        mut away: impl FnMut(Key, &Update<'_>),
    ) -> Result<Changed, SlotError> {
        let replica = &mut self.replicas[at];
        let key = Key(self.watches[usize::from(replica.at)].key);
        if replica.pushes == 0 && give_up {
            let version = replica.base;
            self.forget(at, version);
            return Ok(Changed::Private);
        }
        let guard = slot.ok_or(SlotError::Elsewhere).and_then(|slot| slot.lock(key, patience));
        let mut guard = match guard {
            Ok(guard) => guard,
            Err(SlotError::Busy) => return Err(SlotError::Busy),
            Err(SlotError::Elsewhere) => {
                away(key, &Update::in_block(&self.shape, &mut replica.update));
                self.forget(at, 0);
                return Ok(Changed::Private);
            }
        };
        let mut update = Update::in_block(&self.shape, &mut replica.update);
        guard.edit(|row| update.apply(row));
        update.clear();
        let alone = guard.meta().version() == replica.base;
        let keep = !alone && !give_up;
        if keep {
            guard.read(&mut replica.row);
        }
        let now: MetaWord = guard.commit();
        self.counts.folds += 1;
        if keep {
            (replica.pushes, replica.pulls, replica.base) = (0, 0, now.version());
        } else {
            self.forget(at, now.version());
        }
        Ok(Changed::of(now))
    }

    /// Drops a replica whose update is dealt with; its key is watched from this version on.
    fn forget(&mut self, at: usize, version: u64) {
        let mut replica = self.replicas.swap_remove(at);
        Update::in_block(&self.shape, &mut replica.update).clear();
        let watch = &mut self.watches[usize::from(replica.at)];
        (watch.replica, watch.version) = (NO_REPLICA, version);
        if let Some(moved) = self.replicas.get(at) {
            self.watches[usize::from(moved.at)].replica =
                u16::try_from(at).expect("no more replicas than watches");
        }
        self.idle.push((replica.row, replica.update));
    }
}

impl std::fmt::Debug for HotRows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HotRows")
            .field("replicas", &self.replicas.len())
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

#[inline]
fn place(key: Key) -> usize {
    (key.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 55) as usize
}
