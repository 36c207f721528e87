//! One slot: reading its row while others write it, and writing it under the writer bit.
//!
//! A reader copies and then looks whether key, epoch and state are what they were; it never waits. A
//! writer takes the writer bit by compare-and-swap on the whole meta word, so it owns exactly the
//! state it saw, looks at the key again, works, and stores the word one version on. The engine takes
//! the same bit to change the state and never spins for it (`try_lock`); workers spin a little, then
//! yield, and give up after a bound: the writer they wait for may have been preempted.

use std::ptr::NonNull;

use sterna_kernels::{ElementType, RowPtr};
use sterna_protocol::{Epoch, Key, MetaWord, SlotState};
use thiserror::Error;

use crate::lanes::Lanes;
use crate::memory::{advance, word};
use crate::shape::{HEADER_BYTES, TableShape};
use crate::sync::{AtomicU64, Ordering, fence, spin_loop, yield_now};

const META_OFFSET: usize = 8;

/// Why a slot could not be used; both are for the caller to try again, elsewhere or later.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SlotError {
    /// The slot does not hold this key's row.
    #[error("the row is not here")]
    Elsewhere,
    /// A writer has been at work for longer than the caller was willing to wait.
    #[error("another writer is at work on the row")]
    Busy,
}

/// How long to wait for another writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    spins: u32,
    yields: u32,
}

impl Patience {
    /// Not at all: the engine marks the slot for later.
    pub const NONE: Self = Self { spins: 0, yields: 0 };
    /// A few rows' worth of spinning, then some turns of the scheduler: enough for a preempted writer
    /// to come back if the machine is not badly overcommitted.
    pub const WORKER: Self =
        if cfg!(loom) { Self { spins: 0, yields: 2 } } else { Self { spins: 128, yields: 64 } };

    fn wait(&mut self) -> bool {
        if self.spins > 0 {
            self.spins -= 1;
            spin_loop();
        } else if self.yields > 0 {
            self.yields -= 1;
            yield_now();
        } else {
            return false;
        }
        true
    }
}

#[inline]
fn copy_front(row: RowPtr, out: &mut [f32]) {
    row.part(0, out.len()).copy_out(out);
}

/// A slot in an arena.
#[derive(Clone, Copy)]
pub struct Slot<'a> {
    start: NonNull<u8>,
    shape: &'a TableShape,
}

impl<'a> Slot<'a> {
    /// A slot of this shape at a byte offset of a chunk.
    ///
    /// # Safety
    /// A whole slot must lie at `offset`, a multiple of 16, of a chunk that lives for `'a`; its two
    /// header words must only be accessed as atomics and its row as this module does.
    #[inline]
    pub(crate) unsafe fn new(base: NonNull<u8>, offset: usize, shape: &'a TableShape) -> Self {
        // SAFETY: inside the chunk, by the caller's promise.
        Self { start: unsafe { advance(base, offset) }, shape }
    }

    /// The key's word.
    #[must_use]
    #[inline]
    pub fn key_word(&self) -> &'a AtomicU64 {
        // SAFETY: the first word of the slot, by the constructor's contract.
        unsafe { word(self.start, 0) }
    }

    /// The meta word.
    #[must_use]
    #[inline]
    pub fn meta(&self) -> &'a AtomicU64 {
        // SAFETY: the second word of the slot, by the constructor's contract.
        unsafe { word(self.start, META_OFFSET) }
    }

    /// The header as it is now. The key is at least as new as the meta word: a slot's key changes
    /// before the word that publishes it.
    #[must_use]
    #[inline]
    pub fn header(&self) -> (Key, MetaWord) {
        let meta = MetaWord(self.meta().load(Ordering::Acquire));
        (Key(self.key_word().load(Ordering::Relaxed)), meta)
    }

    /// Copies the values, and state as far as `out` is longer, of a row that may change meanwhile
    /// (hogwild). Gives the header that was seen after the copy.
    ///
    /// # Errors
    /// [`SlotError::Elsewhere`] if the slot did not hold the row all the time.
    #[inline]
    pub fn read(&self, key: Key, out: &mut [f32]) -> Result<MetaWord, SlotError> {
        self.read_with(key, |row| copy_front(row, out)).map(|(meta, ())| meta)
    }

    /// The scalar product of the row's values with `x`, without a copy.
    ///
    /// # Errors
    /// [`SlotError::Elsewhere`] if the slot did not hold the row all the time.
    ///
    /// # Panics
    /// If `x` is not as long as the table's dimension.
    pub fn dot(&self, key: Key, x: &[f32]) -> Result<f32, SlotError> {
        assert_eq!(x.len(), self.shape.dim(), "as long as the row");
        let product = self.read_with(key, |row| row.part(0, x.len()).dot(x));
        product.map(|(_, product)| product)
    }

    #[inline]
    fn read_with<R>(
        &self,
        key: Key,
        work: impl FnOnce(RowPtr) -> R,
    ) -> Result<(MetaWord, R), SlotError> {
        let before = self.in_state(key, SlotState::readable)?;
        let result = self.row().peek(work);
        // If the copy saw a lane of a later writer, the header shows its writer bit or a later word.
        fence(Ordering::Acquire);
        let (found, after) = self.header();
        if found == key && after.state().readable() && after.epoch() == before.epoch() {
            Ok((after, result))
        } else {
            Err(SlotError::Elsewhere)
        }
    }

    /// Copies a row (values, then state as far as `out` is longer) of one version, with no update
    /// half made. Tries without the writer bit first, then takes it.
    ///
    /// # Errors
    /// If the row is not here, or writers keep it busy for longer than `patience`.
    pub fn snapshot(
        &self,
        key: Key,
        out: &mut [f32],
        patience: Patience,
    ) -> Result<MetaWord, SlotError> {
        const TRIES: u32 = if cfg!(loom) { 1 } else { 16 };
        for _ in 0..TRIES {
            let before = self.in_state(key, SlotState::owns)?;
            if !before.writer() {
                self.row().peek(|row| copy_front(row, out));
                fence(Ordering::Acquire);
                if self.header() == (key, before) {
                    return Ok(before);
                }
            }
            spin_loop();
        }
        let guard = self.lock(key, patience)?;
        guard.read(out);
        Ok(guard.meta())
    }

    /// Takes the writer bit of a main copy.
    ///
    /// # Errors
    /// If it is not here, or another writer keeps the bit for longer than `patience`.
    #[inline]
    pub fn lock(&self, key: Key, patience: Patience) -> Result<SlotGuard<'a>, SlotError> {
        self.lock_in(key, SlotState::owns, patience)
    }

    /// Takes the writer bit of a replica, under its entry's lock.
    ///
    /// # Errors
    /// As [`Slot::lock`].
    pub fn lock_replica(&self, key: Key, patience: Patience) -> Result<SlotGuard<'a>, SlotError> {
        self.lock_in(key, |state| state == SlotState::Replica, patience)
    }

    #[inline(always)]
    fn lock_in(
        &self,
        key: Key,
        wanted: impl Fn(SlotState) -> bool,
        mut patience: Patience,
    ) -> Result<SlotGuard<'a>, SlotError> {
        loop {
            let seen = self.in_state(key, &wanted)?;
            if !seen.writer()
                && let Some(guard) = self.take(seen)
            {
                // The slot may have changed hands between the two loads of the header.
                let same_key = self.key_word().load(Ordering::Relaxed) == key.0;
                return if same_key { Ok(guard) } else { Err(SlotError::Elsewhere) };
            }
            if !patience.wait() {
                return Err(SlotError::Busy);
            }
        }
    }

    /// Takes the writer bit in whatever state the slot is, without waiting: for the engine.
    ///
    /// # Errors
    /// [`SlotError::Busy`] if a writer is at work; the engine marks the slot for later.
    pub fn try_lock(&self) -> Result<SlotGuard<'a>, SlotError> {
        let seen = MetaWord(self.meta().load(Ordering::Acquire));
        if seen.writer() {
            return Err(SlotError::Busy);
        }
        self.take(seen).ok_or(SlotError::Busy)
    }

    #[inline]
    fn take(&self, seen: MetaWord) -> Option<SlotGuard<'a>> {
        let locked = seen.with_writer().0;
        self.meta().compare_exchange(seen.0, locked, Ordering::Acquire, Ordering::Relaxed).ok()?;
        // A reader that sees any lane written from here on also sees the writer bit or a later word.
        fence(Ordering::Release);
        Some(SlotGuard { slot: *self, meta: seen })
    }

    #[inline]
    fn in_state(
        &self,
        key: Key,
        wanted: impl Fn(SlotState) -> bool,
    ) -> Result<MetaWord, SlotError> {
        let (found, meta) = self.header();
        if found == key && wanted(meta.state()) { Ok(meta) } else { Err(SlotError::Elsewhere) }
    }

    #[inline]
    fn row(&self) -> Lanes {
        let ElementType::F32 = self.shape.element();
        // SAFETY: the row lies behind the header inside the slot, by the constructor's contract.
        unsafe { Lanes::new(self.start, HEADER_BYTES, self.shape.row_len()) }
    }

    /// Writes a whole row into a slot that nobody else knows yet.
    pub(crate) fn fill_row(&self, row: &[f32]) {
        assert_eq!(row.len(), self.shape.row_len(), "values and state");
        self.row().edit(|lanes| lanes.copy_in(row));
    }

    /// Starts loading the first `floats` floats and the header into the cache, for reading.
    #[inline]
    pub fn prefetch_read(&self, floats: usize) {
        self.each_line(floats, crate::prefetch::read);
    }

    /// Starts loading the whole slot into the cache, for writing.
    #[inline]
    pub fn prefetch_write(&self) {
        self.each_line(self.shape.row_len(), crate::prefetch::write);
    }

    #[inline]
    fn each_line(&self, floats: usize, fetch: impl Fn(*const u8)) {
        if cfg!(loom) {
            return;
        }
        // A slot need not start at a line: the first address is moved back to where its line does.
        let before = self.start.as_ptr().addr() % crate::prefetch::LINE_BYTES;
        let first = self.start.as_ptr().wrapping_sub(before);
        let bytes = before + HEADER_BYTES + floats * size_of::<f32>();
        for at in (0..bytes).step_by(crate::prefetch::LINE_BYTES) {
            fetch(first.wrapping_add(at));
        }
    }
}

/// The writer bit of a slot. Dropping it without [`SlotGuard::commit`] leaves the version as it was.
pub struct SlotGuard<'a> {
    slot: Slot<'a>,
    meta: MetaWord,
}

impl SlotGuard<'_> {
    /// The meta word as it was found, without the writer bit.
    #[must_use]
    pub fn meta(&self) -> MetaWord {
        self.meta
    }

    /// The slot's key.
    #[must_use]
    pub fn key(&self) -> Key {
        Key(self.slot.key_word().load(Ordering::Relaxed))
    }

    /// Copies values, then state as far as `out` is longer.
    pub fn read(&self, out: &mut [f32]) {
        self.slot.row().peek(|row| copy_front(row, out));
    }

    /// Overwrites values, then state as far as `from` is longer.
    pub fn write(&mut self, from: &[f32]) {
        self.slot.row().edit(|row| row.part(0, from.len()).copy_in(from));
    }

    /// Lends the row, values then state, for a kernel. Other threads may read it meanwhile; it must
    /// not be used after `work` has returned.
    #[inline]
    pub fn edit<R>(&mut self, work: impl FnOnce(RowPtr) -> R) -> R {
        self.slot.row().edit(work)
    }

    /// Ends the write: one version on.
    #[inline]
    pub fn commit(mut self) -> MetaWord {
        self.meta = self.meta.bumped();
        self.meta
    }

    /// Ends a change of the slot's state by the engine.
    pub fn change(mut self, state: SlotState, epoch: Epoch, version: u64) {
        self.meta = MetaWord::new(state, epoch, version);
    }

    /// Gives the slot to another key, before [`SlotGuard::change`] publishes it.
    pub fn rename(&mut self, key: Key) {
        assert!(!self.meta.state().readable(), "a slot in use keeps its key");
        self.slot.key_word().store(key.0, Ordering::Relaxed);
    }
}

impl Drop for SlotGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        self.slot.meta().store(self.meta.0, Ordering::Release);
    }
}
