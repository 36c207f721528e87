//! Lists of entries that have something for an owner, in the order in which they were listed.
//!
//! Those who list and the engine that takes have queues and counts of their own, on lines of their own: the
//! engine gets all that is listed at once, and sees by the counts alone, which lie close together, what there
//! is. Who marks many entries lists them in groups ([`Listing`]): else each of them would fetch the lock and the
//! count from the engine, which looks at both meanwhile.

use std::collections::VecDeque;
use std::sync::PoisonError;

use super::EntryId;
use crate::sync::{AtomicUsize, Mutex, MutexGuard, Ordering};

/// Entries of a list that are being loaded while its first one is worked on.
const TAKEN_AHEAD: usize = 12;

/// Entries of a group.
const GROUP: usize = 64;

pub(super) struct DirtyLists {
    listed: Box<[Queue]>,
    taken: Box<[Queue]>,
    /// How many were ever listed, and taken; modulo 2^64.
    listed_counts: Box<[AtomicUsize]>,
    taken_counts: Box<[AtomicUsize]>,
}

#[derive(Default)]
#[repr(align(128))]
struct Queue(Mutex<VecDeque<EntryId>>);

impl Queue {
    fn lock(&self) -> MutexGuard<'_, VecDeque<EntryId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DirtyLists {
    pub(super) fn new(lists: usize) -> Self {
        let queues = || (0..lists).map(|_| Queue::default()).collect();
        let counts = || (0..lists).map(|_| AtomicUsize::new(0)).collect();
        Self { listed: queues(), taken: queues(), listed_counts: counts(), taken_counts: counts() }
    }

    pub(super) fn push(&self, list: usize, id: EntryId) {
        let mut entries = self.listed[list].lock();
        entries.push_back(id);
        self.listed_counts[list].fetch_add(1, Ordering::Relaxed);
    }

    fn extend(&self, list: usize, ids: impl ExactSizeIterator<Item = EntryId>) {
        let mut entries = self.listed[list].lock();
        let count = ids.len();
        entries.extend(ids);
        self.listed_counts[list].fetch_add(count, Ordering::Relaxed);
    }

    /// Moves up to `most` of a list to `out`, the first listed first; `prefetch` is told of some that come after them.
    pub(super) fn take(
        &self,
        list: usize,
        most: usize,
        out: &mut Vec<EntryId>,
        prefetch: impl Fn(EntryId),
    ) {
        let mut entries = self.taken[list].lock();
        let mut left = most;
        while left > 0 {
            if entries.is_empty() {
                // What is listed is only looked at when all that was taken over is gone: others write there.
                if self.len(list) == most - left {
                    break;
                }
                std::mem::swap(&mut *entries, &mut *self.listed[list].lock());
                entries.iter().take(TAKEN_AHEAD).for_each(|&soon| prefetch(soon));
            }
            let count = left.min(entries.len());
            if count == 0 {
                break;
            }
            out.extend(entries.drain(..count));
            left -= count;
        }
        if let Some(&soon) = entries.get(TAKEN_AHEAD) {
            prefetch(soon);
        }
        if left < most {
            // Nobody else counts here while the queue is locked.
            let taken = self.taken_counts[list].load(Ordering::Relaxed);
            self.taken_counts[list].store(taken.wrapping_add(most - left), Ordering::Relaxed);
        }
    }

    pub(super) fn len(&self, list: usize) -> usize {
        let taken = self.taken_counts[list].load(Ordering::Relaxed);
        // One that is taken between the two looks must not make it less than nothing.
        let len = self.listed_counts[list].load(Ordering::Relaxed).wrapping_sub(taken);
        if len > usize::MAX / 2 { 0 } else { len }
    }
}

/// Lists of a thread's own: what it marks with [`EntryGuard::mark_dirty_in`](super::EntryGuard::mark_dirty_in) is listed for
/// the engine in groups, and at the latest when this is dropped. Before its owner waits for anything it has to call
/// [`Listing::tell`]: an entry that is marked is listed by nobody else.
pub struct Listing<'a> {
    lists: &'a DirtyLists,
    entries: Vec<(usize, EntryId)>,
}

impl<'a> Listing<'a> {
    pub(super) fn new(lists: &'a DirtyLists) -> Self {
        Self { lists, entries: Vec::new() }
    }

    pub(super) fn push(&mut self, list: usize, id: EntryId) {
        self.entries.push((list, id));
        if self.entries.len() == GROUP {
            self.tell();
        }
    }

    /// Lists what has been marked so far.
    pub fn tell(&mut self) {
        // Stable: what was marked first is listed first.
        self.entries.sort_by_key(|&(list, _)| list);
        for same in self.entries.chunk_by(|one, next| one.0 == next.0) {
            self.lists.extend(same[0].0, same.iter().map(|&(_, id)| id));
        }
        self.entries.clear();
    }
}

impl Drop for Listing<'_> {
    fn drop(&mut self) {
        self.tell();
    }
}

impl std::fmt::Debug for Listing<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listing").field("entries", &self.entries.len()).finish_non_exhaustive()
    }
}
