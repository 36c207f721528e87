//! What this node's workers have announced to use: counted per key; the first to want a key and the last to want it no longer
//! change something.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use sterna_protocol::entry::EntryState;
use sterna_protocol::ids::RowId;
use sterna_protocol::{Key, SlotState};
use sterna_store::{ForeignKey, Listing, Slot};

use std::sync::atomic::Ordering;

use super::storage::ForeignRow;
use super::{Remote, Waiting, lock};
use crate::error::Result;
use crate::policy::Policy;
use crate::table::{Table, TableState};

/// Keys whose entries are being loaded while one is worked on.
const NEAR: usize = 12;

/// Keys further on, of which what leads to their entries is being loaded.
const FAR: usize = 32;

/// Keys that are asked for between two calls of the engine.
const TOLD_EVERY: usize = 512;

/// How long to wait for room before looking again.
const PAUSE: Duration = Duration::from_millis(1);

/// Where the rows of keys that are at home here are likely to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Home {
    Here,
    Away,
}

impl Remote {
    /// Asks for replicas of the rows of a new table that the policy wants everywhere.
    pub(crate) fn replicate(&self, table: &Table) -> Result<()> {
        let hot = &table.0.spec.hot.0;
        let row = |key| RowId { table: table.id(), key: Key(key) };
        self.hot
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(hot.iter().map(|&key| row(key)));
        match self.policy {
            Policy::FullReplication => {
                let mut listing = self.foreign.listing();
                (0..table.keys()).try_for_each(|key| self.want(table, Key(key), &mut listing))
            }
            Policy::Mixed => {
                let mut listing = self.foreign.listing();
                hot.iter().try_for_each(|&key| self.want(table, Key(key), &mut listing))
            }
            _ => Ok(()),
        }
    }

    /// One more intent names these keys.
    pub(crate) fn want_all(&self, table: &Table, keys: &[Key]) -> Result<()> {
        let mut listing = self.foreign.listing();
        self.ahead(table, keys, Home::Here, |key| self.want(table, key, &mut listing))
    }

    /// One intent less names these keys.
    pub(crate) fn unwant_all(&self, table: &Table, keys: &[Key]) {
        let done = self.ahead(table, keys, Home::Here, |key| {
            self.unwant(table, key);
            Ok(())
        });
        debug_assert!(done.is_ok(), "nothing of it can fail");
    }

    /// Works on keys one after the other, while what the next ones need is being loaded.
    fn ahead(
        &self,
        table: &Table,
        keys: &[Key],
        home: Home,
        mut work: impl FnMut(Key) -> Result<()>,
    ) -> Result<()> {
        let rows = &table.0.rows;
        let id = |key| ForeignKey { table: table.id(), key };
        let far = |key| {
            let at_home = rows.home_here(key);
            at_home.into_iter().for_each(|slot| rows.prefetch_home(slot));
            if at_home.is_none() || home == Home::Away {
                self.foreign.prefetch_index(id(key));
            }
        };
        let near = |key| {
            if home == Home::Away || rows.home_here(key).is_none() {
                self.foreign.prefetch_entry(id(key));
            }
        };
        keys.iter().take(FAR).for_each(|&key| far(key));
        keys.iter().take(NEAR).for_each(|&key| near(key));
        for (at, &key) in keys.iter().enumerate() {
            keys.get(at + FAR).into_iter().for_each(|&key| far(key));
            keys.get(at + NEAR).into_iter().for_each(|&key| near(key));
            work(key)?;
        }
        Ok(())
    }

    /// One more intent names a key.
    fn want(&self, table: &Table, key: Key, listing: &mut Listing<'_>) -> Result<()> {
        let rows = &table.0.rows;
        if let Some(slot) = rows.home_here(key) {
            let count = rows.directory().references(slot).expect("a home slot");
            if count.fetch_add(1, Ordering::Relaxed) > 0 || rows.version_of(slot).is_some() {
                return Ok(());
            }
            return self.with_row(table, key, listing, |row: &mut ForeignRow<'_>, listing| {
                row.acquire(listing);
            });
        }
        self.with_row(table, key, listing, |row, listing| {
            row.guard.control.references += 1;
            if row.guard.control.references == 1 {
                row.acquire(listing);
            }
        })
    }

    /// One intent less names a key.
    fn unwant(&self, table: &Table, key: Key) {
        let rows = &table.0.rows;
        let home = rows.home_here(key);
        if let Some(slot) = home {
            let count = rows.directory().references(slot).expect("a home slot");
            if count.fetch_sub(1, Ordering::Relaxed) > 1 {
                return;
            }
            if rows.version_of(slot).is_some() {
                return self.note_unwanted(table, key);
            }
        }
        let Some(mut row) = self.known(table, key) else {
            return self.note_unwanted(table, key);
        };
        if home.is_none() {
            let held = &mut row.guard.control;
            held.references = held.references.saturating_sub(1);
            if held.references > 0 {
                return;
            }
        }
        row.guard.control.patience = 0;
        row.release();
        drop(row);
        self.note_unwanted(table, key);
    }

    /// Asks for the main copies of keys; gives those for which there is something to wait. The first ones are on their way while the
    /// last ones are looked up.
    pub(crate) fn localize(&self, table: &Table, keys: &[Key]) -> Result<Vec<Key>> {
        let mut asked = Vec::with_capacity(keys.len());
        let mut listing = self.foreign.listing();
        for part in keys.chunks(TOLD_EVERY) {
            if !asked.is_empty() {
                self.fabric.wake();
            }
            self.ahead(table, part, Home::Away, |key| {
                self.with_row(table, key, &mut listing, |row, listing| {
                    if !row.is_here() {
                        row.guard.control.force = true;
                        row.guard.control.control.want_acquire();
                        row.list_in(listing);
                        asked.push(key);
                    }
                })
            })?;
            listing.tell();
        }
        Ok(asked)
    }

    /// Whether [`Remote::localize`] of a key has been answered.
    pub(crate) fn is_localized(&self, table: &Table, key: Key) -> bool {
        // The engine is at work on the entries; a row that has come can be told by its slot.
        let come = |slot: Slot<'_>| slot.header().0 == key && slot.header().1.state().owns();
        if table.0.rows.slot(key).is_some_and(come) {
            return true;
        }
        self.foreign.find(ForeignKey { table: table.id(), key }).is_none_or(|guard| {
            let entry = &guard.control.control;
            !guard.control.force || entry.state() == EntryState::Live
        })
    }

    /// Waits until all have been answered.
    pub(crate) fn settle_localized(&self, table: &Table, keys: &[Key]) -> Result<()> {
        let deadline = self.now() + self.wait_limit;
        let mut news = Instant::now();
        let rows = &table.0.rows;
        for (at, &key) in keys.iter().enumerate() {
            keys.get(at + FAR).into_iter().for_each(|&key| rows.prefetch_place(key));
            keys.get(at + NEAR).into_iter().for_each(|&key| rows.prefetch_header(key));
            while !self.is_localized(table, key) {
                if self.now() >= deadline {
                    return Err(
                        self.late(&Waiting { what: "rows that were asked for", rank: None })
                    );
                }
                self.check_deaths()?;
                self.help_at_once(&mut news, PAUSE)?;
            }
        }
        Ok(())
    }

    /// Whether an intent of this node names a key.
    pub(crate) fn wanted(&self, table: &TableState, key: Key) -> bool {
        if let Some(slot) = table.rows.home_here(key) {
            return table.rows.directory().wanted(slot);
        }
        let id = ForeignKey { table: table.rows.id(), key };
        self.foreign.find(id).is_some_and(|guard| guard.control.references > 0)
    }

    /// The same under the key's lock.
    pub(crate) fn wanted_by(&self, row: &ForeignRow<'_>) -> bool {
        self.references(row) > 0
    }

    /// How many intents name a key, under its lock.
    pub(crate) fn references(&self, row: &ForeignRow<'_>) -> u32 {
        if let Some(slot) = row.home_slot() {
            let count = row.table.rows.directory().references(slot);
            return count.map_or(0, |count| count.load(Ordering::Relaxed));
        }
        row.guard.control.references
    }

    /// Tells the engine that intents on a key have ended, if others have replicas of it.
    fn note_unwanted(&self, table: &Table, key: Key) {
        let rows = &table.0.rows;
        let shared = rows.slot(key).is_some_and(|slot| {
            let (found, meta) = slot.header();
            found == key && meta.state() == SlotState::Shared
        });
        if shared {
            lock(&self.unwanted).push(RowId { table: rows.id(), key });
        }
    }

    fn with_row(
        &self,
        table: &Table,
        key: Key,
        listing: &mut Listing<'_>,
        work: impl FnOnce(&mut ForeignRow<'_>, &mut Listing<'_>),
    ) -> Result<()> {
        let mut deadline = None;
        loop {
            if let Some(mut row) = self.row(table, key) {
                work(&mut row, listing);
                return Ok(());
            }
            // Entries that are marked make no room before their engine knows of them.
            listing.tell();
            let now = self.now();
            if now >= *deadline.get_or_insert(now + self.wait_limit) {
                return Err(self.late(&Waiting { what: "room for an intent", rank: None }));
            }
            self.help(PAUSE)?;
        }
    }
}

impl ForeignRow<'_> {
    /// Asks for a base, if there is none.
    fn acquire(&mut self, listing: &mut Listing<'_>) {
        if self.is_here() || self.guard.control.control.state() == EntryState::Replica {
            return;
        }
        self.guard.control.control.want_acquire();
        self.list_in(listing);
    }
}
