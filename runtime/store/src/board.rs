//! The board of a node: which of its rows that others have replicas of have changed, for them to read.
//!
//! Each such row has a place on the board. A holder reads it one-sidedly from the root to the leaves:
//!
//! ```text
//!  0          64            576                33,344
//! +----------+-------------+------------------+----------------------------------+
//! | sequence | 64 blocks   | 4,096 pages      | 262,144 versions of rows         |
//! +----------+-------------+------------------+----------------------------------+
//!   1 word     1 word per    1 word per         1 word per place: the version of
//!              64 pages      64 rows            the row when it was last folded
//! ```
//! Words above the leaves count changes below them, the sequence those of all blocks. A worker that has changed a row sets a bit in a
//! private map; the engine *folds* the map into the board, leaves first, so that whoever sees a word
//! changed finds what lies below it changed as well. When no holder looks, they are *armed*: the worker
//! that makes the first change wakes the engine, which tells them.

use std::fmt;
use std::sync::PoisonError;

use sterna_protocol::{SlotId, TableId};

use crate::memory::{ChunkMemory, word};
use crate::sync::{AtomicBool, AtomicU64, Mutex, MutexGuard, Ordering, sequentially};

/// Words below a word of the level above.
const FAN: usize = 64;
/// Bits of a worker's map under one word of the board's second level.
const MAP_BITS: usize = 64;

/// Rows that may have replicas elsewhere at a time.
pub const BOARD_ROWS: usize = if cfg!(loom) { 64 } else { FAN * FAN * FAN };

const BLOCKS: usize = BOARD_ROWS.div_ceil(FAN * FAN);
const PAGES: usize = BOARD_ROWS.div_ceil(FAN);
const BLOCKS_AT: usize = 64;
const PAGES_AT: usize = BLOCKS_AT + 8 * if cfg!(loom) { BLOCKS } else { FAN };
const VERSIONS_AT: usize = PAGES_AT + 8 * if cfg!(loom) { PAGES } else { FAN * FAN };

/// Where what stands on a board: byte offsets, the same at every node.
pub mod layout {
    use super::{BLOCKS_AT, FAN, PAGES_AT, VERSIONS_AT};

    /// Bytes of sequence and blocks, which are read together.
    pub const ROOT_BYTES: usize = PAGES_AT;
    /// Blocks of a board.
    pub const BLOCKS: usize = FAN;
    /// Bytes of the words under one word.
    pub const GROUP_BYTES: usize = 8 * FAN;

    /// Where in the root the word of a block stands.
    #[must_use]
    pub const fn block(block: usize) -> usize {
        BLOCKS_AT + 8 * block
    }

    /// Where the page words of a block stand.
    #[must_use]
    pub const fn pages(block: usize) -> usize {
        PAGES_AT + GROUP_BYTES * block
    }

    /// Where the versions of a page stand.
    #[must_use]
    pub const fn versions(page: usize) -> usize {
        VERSIONS_AT + GROUP_BYTES * page
    }

    /// The page of a place, and the block of a page.
    #[must_use]
    pub const fn above(place: usize) -> usize {
        place / FAN
    }

    /// A place's number in its page, or a page's in its block.
    #[must_use]
    pub const fn within(place: usize) -> usize {
        place % FAN
    }
}

/// See the module.
pub struct Board {
    memory: ChunkMemory,
    /// A bit per place, a bit per word of that, a bit per word of that.
    dirty: Box<[AtomicU64]>,
    dirty_words: Box<[AtomicU64]>,
    dirty_blocks: AtomicU64,
    armed: AtomicBool,
    wake: Box<dyn Fn() + Send + Sync>,
    inner: Mutex<Places>,
}

#[derive(Default)]
struct Places {
    rows: Vec<Option<(TableId, SlotId)>>,
    free: Vec<u32>,
}

impl Board {
    /// Bytes of a board.
    pub const BYTES: usize = VERSIONS_AT + 8 * BOARD_ROWS;

    /// A board in zeroed memory; `wake` makes the engine look soon.
    ///
    /// # Panics
    /// If the memory is shorter than [`Board::BYTES`].
    #[must_use]
    pub fn new(memory: ChunkMemory, wake: Box<dyn Fn() + Send + Sync>) -> Self {
        assert!(memory.bytes() >= Self::BYTES, "a board is {} bytes", Self::BYTES);
        let words = |count: usize| (0..count).map(|_| AtomicU64::new(0)).collect();
        Self {
            memory,
            dirty: words(BOARD_ROWS / MAP_BITS),
            dirty_words: words(BLOCKS),
            dirty_blocks: AtomicU64::new(0),
            armed: AtomicBool::new(false),
            wake,
            inner: Mutex::default(),
        }
    }

    /// The memory that peers read.
    #[must_use]
    pub fn memory(&self) -> &ChunkMemory {
        &self.memory
    }

    /// Gives a row a place, and writes its version there. `None`: the board is full.
    #[must_use]
    pub fn place(&self, table: TableId, slot: SlotId, version: u64) -> Option<u32> {
        let mut places = self.places();
        let place = match places.free.pop() {
            Some(place) => place,
            None if places.rows.len() < BOARD_ROWS => {
                places.rows.push(None);
                u32::try_from(places.rows.len() - 1).expect("below 2^18")
            }
            None => return None,
        };
        places.rows[place as usize] = Some((table, slot));
        self.word(VERSIONS_AT + 8 * place as usize).store(version, Ordering::Release);
        Some(place)
    }

    /// Takes a place back.
    pub fn clear(&self, place: u32) {
        let mut places = self.places();
        if places.rows[place as usize].take().is_some() {
            places.free.push(place);
        }
    }

    /// Rows on the board.
    #[must_use]
    pub fn rows(&self) -> usize {
        let places = self.places();
        places.rows.len() - places.free.len()
    }

    /// The row at a place has changed, and the change can be seen.
    pub fn mark(&self, place: u32) {
        let place = place as usize;
        let bit = |at: usize| 1_u64 << (at % 64);
        let (word, block) = (place / MAP_BITS, place / FAN / FAN);
        let before = self.dirty[word].fetch_or(bit(place), Ordering::SeqCst);
        if before & bit(place) != 0
            && self.dirty_words[block].load(Ordering::SeqCst) & bit(word) != 0
            && self.dirty_blocks.load(Ordering::SeqCst) & bit(block) != 0
        {
            // Whoever set it has seen to the rest.
            return;
        }
        // Somebody may have set the bit and not yet got here: this change must not wait for them.
        self.dirty_words[block].fetch_or(bit(word), Ordering::SeqCst);
        self.dirty_blocks.fetch_or(bit(block), Ordering::SeqCst);
        sequentially();
        if self.armed.load(Ordering::SeqCst) {
            (self.wake)();
        }
    }

    /// Whether there is something to fold.
    #[must_use]
    #[inline]
    pub fn dirty(&self) -> bool {
        self.dirty_blocks.load(Ordering::SeqCst) != 0
    }

    /// Whether the first change from now on wakes the engine. Arm, then fold: a change that the fold did
    /// not see wakes.
    pub fn set_armed(&self, armed: bool) {
        self.armed.store(armed, Ordering::SeqCst);
        sequentially();
    }

    /// The sum of the words of all blocks: what a holder arms with.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.word(0).load(Ordering::Relaxed)
    }

    /// A word of the board, by its byte offset, as a peer reads it.
    #[doc(hidden)]
    #[must_use]
    pub fn read(&self, offset: usize) -> u64 {
        self.word(offset).load(Ordering::Acquire)
    }

    /// Writes the versions of changed rows to the board; `version` gives that of a row, if it is still
    /// there. For the engine alone. Returns how many rows had changed.
    pub fn fold(&self, version: impl Fn(TableId, SlotId) -> Option<u64>) -> usize {
        if !self.dirty() {
            return 0;
        }
        let places = self.places();
        let (mut changed, mut blocks) = (0, 0);
        for block in bits(self.dirty_blocks.swap(0, Ordering::SeqCst)) {
            for page in bits(self.dirty_words[block].swap(0, Ordering::SeqCst)) {
                let page = block * FAN + page;
                for row in bits(self.dirty[page].swap(0, Ordering::SeqCst)) {
                    let place = page * FAN + row;
                    let known = places.rows.get(place).copied().flatten();
                    if let Some(now) = known.and_then(|(table, slot)| version(table, slot)) {
                        self.word(VERSIONS_AT + 8 * place).store(now, Ordering::Release);
                        changed += 1;
                    }
                }
                self.bump(PAGES_AT + 8 * page);
            }
            self.bump(BLOCKS_AT + 8 * block);
            blocks += 1;
        }
        self.word(0).store(self.sequence().wrapping_add(blocks), Ordering::Release);
        changed
    }

    fn bump(&self, offset: usize) {
        let word = self.word(offset);
        word.store(word.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
    }

    fn word(&self, offset: usize) -> &AtomicU64 {
        debug_assert!(offset < Self::BYTES);
        // SAFETY: inside the memory, whose length was checked, and only used as atomics.
        unsafe { word(self.memory.base(), offset) }
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const _: () = assert!(BLOCKS <= 64 && PAGES == BOARD_ROWS / MAP_BITS, "one word covers all blocks");

fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = (word != 0).then(|| word.trailing_zeros() as usize)?;
        word &= word - 1;
        Some(bit)
    })
}

impl fmt::Debug for Board {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Board").field("sequence", &self.sequence()).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn board() -> (Board, Arc<AtomicUsize>) {
        let woken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&woken);
        let wake = move || {
            count.fetch_add(1, Ordering::SeqCst);
        };
        (Board::new(ChunkMemory::heap(Board::BYTES), Box::new(wake)), woken)
    }

    fn at(board: &Board, offset: usize) -> u64 {
        board.word(offset).load(Ordering::Acquire)
    }

    #[test]
    fn a_fold_shows_what_changed_from_the_root_down() {
        let (board, _) = board();
        let places: Vec<u32> =
            (0..5000).map(|slot| board.place(TableId(1), SlotId(slot), 3).unwrap()).collect();
        assert_eq!(board.rows(), 5000);
        assert_eq!(board.fold(|_, _| panic!("nothing changed")), 0);
        for place in [0, 63, 4999] {
            board.mark(places[place]);
            board.mark(places[place]);
        }
        assert!(board.dirty());
        let version = |table, slot: SlotId| {
            assert_eq!(table, TableId(1));
            Some(10 + u64::from(slot.0))
        };
        assert_eq!(board.fold(version), 3);
        assert_eq!((board.sequence(), at(&board, 0)), (2, 2));
        assert_eq!([at(&board, layout::block(0)), at(&board, layout::block(1))], [1, 1]);
        let page = layout::above(4999);
        let pages = layout::pages(layout::above(page));
        assert_eq!(at(&board, pages + 8 * layout::within(page)), 1);
        let version = |place: usize| {
            at(&board, layout::versions(layout::above(place)) + 8 * layout::within(place))
        };
        assert_eq!([version(0), version(1), version(63), version(4999)], [10, 3, 73, 5009]);
    }

    #[test]
    fn places_are_used_again_and_rows_that_left_are_not_told_of() {
        let (board, _) = board();
        let place = board.place(TableId(0), SlotId(7), 1).unwrap();
        board.mark(place);
        board.clear(place);
        board.clear(place);
        assert_eq!(board.fold(|_, _| panic!("the row left the board")), 0);
        assert_eq!(board.place(TableId(0), SlotId(9), 5), Some(place));
        assert_eq!(board.rows(), 1);
    }

    #[test]
    fn an_armed_board_wakes_at_the_first_change() {
        let (board, woken) = board();
        let place = board.place(TableId(0), SlotId(7), 1).unwrap();
        board.mark(place);
        assert_eq!(woken.load(Ordering::SeqCst), 0);
        board.set_armed(true);
        board.fold(|_, _| Some(2));
        board.mark(place);
        board.mark(place);
        assert_eq!(woken.load(Ordering::SeqCst), 1);
    }
}
