//! Models of the store's concurrent core: every interleaving that loom distinguishes, with at most
//! three preemptions.
//!
//! `RUSTFLAGS="--cfg loom" cargo test --release -p sterna-store --test loom_store`
//!
//! Loom switches threads where an access depends on the *last* access of its word by another thread.
//! A thread that loads a word before it writes it hides earlier loads of others, so in these models
//! the main thread, which runs first, is the one that writes.
#![cfg(loom)]

use std::sync::Arc;

use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use loom::thread;
use sterna_kernels::ElementType;
use sterna_protocol::{DirectoryWord, Epoch, Key, MetaWord, Rank, SlotId, SlotState, TableId};
use sterna_store::{
    Board, ChunkMemory, Control, Directory, Due, ForeignKey, ForeignTable, Full, NoSlot,
    PartitionMap, Patience, Placement, RowTable, SlotArena, SlotError, TableShape, board_layout,
};

const KEY: Key = Key(7);
const SLOT: SlotId = SlotId(0);

fn model(f: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.max_branches = 10_000;
    builder.check(f);
}

fn arena(chunks: usize) -> SlotArena {
    let shape = TableShape::with_chunk_bytes(ElementType::F32, 4, 0, 32).unwrap();
    let arena = SlotArena::new(shape, 2);
    for _ in 0..chunks {
        arena.grow(ChunkMemory::heap(32)).unwrap();
    }
    arena
}

fn live() -> Arc<SlotArena> {
    let arena = arena(1);
    arena.install(SLOT, KEY, Epoch::FIRST, &[0.0; 4]);
    Arc::new(arena)
}

/// Adds 1 to all values; gives whether the row was there and free.
fn add(arena: &SlotArena, patience: Patience) -> Result<MetaWord, SlotError> {
    let mut guard = arena.slot(SLOT).unwrap().lock(KEY, patience)?;
    guard.edit(|row| row.add(&[1.0; 4]));
    Ok(guard.commit())
}

/// Reads a consistent row while others add.
fn check_snapshot(arena: &SlotArena) {
    let mut row = [9.0; 4];
    match arena.slot(SLOT).unwrap().snapshot(KEY, &mut row, Patience::NONE) {
        Ok(meta) => assert_eq!(row, [f32::from(u8::try_from(meta.version()).unwrap()); 4]),
        Err(why) => assert_eq!(why, SlotError::Busy),
    }
}

#[test]
fn a_snapshot_beside_a_writer_is_never_torn() {
    model(|| {
        let arena = live();
        let reader = {
            let arena = arena.clone();
            thread::spawn(move || check_snapshot(&arena))
        };
        add(&arena, Patience::NONE).expect("a snapshot takes the bit only from another writer");
        reader.join().unwrap();
    });
}

#[test]
fn two_writers_and_a_snapshot_lose_no_update_and_tear_no_row() {
    model(|| {
        let arena = live();
        let other = {
            let arena = arena.clone();
            thread::spawn(move || add(&arena, Patience::WORKER).is_ok())
        };
        let reader = {
            let arena = arena.clone();
            thread::spawn(move || check_snapshot(&arena))
        };
        let own = add(&arena, Patience::WORKER).is_ok();
        reader.join().unwrap();
        let made = u8::from(own) + u8::from(other.join().unwrap());
        let mut row = [9.0; 4];
        let meta = arena.slot(SLOT).unwrap().snapshot(KEY, &mut row, Patience::NONE).unwrap();
        assert_eq!((meta.version(), row), (made.into(), [made.into(); 4]));
    });
}

#[test]
fn a_hogwild_reader_accepts_only_rows_of_its_key() {
    model(|| {
        let arena = live();
        let engine = {
            let arena = arena.clone();
            thread::spawn(move || {
                // The slot is given to another key: Moved first, then a new row, then Live.
                let slot = arena.slot(SLOT).unwrap();
                slot.try_lock().unwrap().change(SlotState::Moved, Epoch::FIRST.next(), 1);
                let mut guard = slot.try_lock().unwrap();
                guard.rename(Key(8));
                guard.write(&[100.0; 4]);
                guard.change(SlotState::Live, Epoch::FIRST, 0);
            })
        };
        let mut row = [9.0; 4];
        if arena.slot(SLOT).unwrap().read(KEY, &mut row).is_ok() {
            assert_eq!(row, [0.0; 4]);
        }
        engine.join().unwrap();
        assert_eq!(arena.slot(SLOT).unwrap().read(KEY, &mut row), Err(SlotError::Elsewhere));
    });
}

/// Moves the row away; gives what it took along, or nothing if a writer was at work.
fn move_away(arena: &SlotArena) -> Option<[f32; 4]> {
    let mut carried = [9.0; 4];
    let guard = arena.slot(SLOT).unwrap().try_lock().ok()?;
    guard.read(&mut carried);
    guard.change(SlotState::Moved, Epoch::FIRST.next(), 1);
    Some(carried)
}

fn check_moved(arena: &SlotArena, written: bool, carried: Option<[f32; 4]>) {
    let Some(carried) = carried else {
        assert!(written, "the writer had the bit");
        return;
    };
    assert_eq!(carried, [f32::from(u8::from(written)); 4], "K3");
    let (slot, mut row) = (arena.slot(SLOT).unwrap(), [0.0; 4]);
    assert_eq!(slot.read(KEY, &mut row), Err(SlotError::Elsewhere));
    assert_eq!(slot.lock(KEY, Patience::NONE).err(), Some(SlotError::Elsewhere));
}

#[test]
fn a_write_is_either_in_the_row_that_moves_away_or_refused() {
    // Both ways round: loom misses switches between a thread's load and its own later write.
    model(|| {
        let arena = live();
        let other = arena.clone();
        let writer = thread::spawn(move || add(&other, Patience::WORKER).is_ok());
        let carried = move_away(&arena);
        check_moved(&arena, writer.join().unwrap(), carried);
    });
    model(|| {
        let arena = live();
        let other = arena.clone();
        let engine = thread::spawn(move || move_away(&other));
        let written = add(&arena, Patience::WORKER).is_ok();
        check_moved(&arena, written, engine.join().unwrap());
    });
}

#[test]
fn whoever_sees_a_disclosed_slot_sees_its_chunk_and_row() {
    model(|| {
        let arena = Arc::new(arena(0));
        let directory = Arc::new(Directory::new(1, 64));
        directory.grow(ChunkMemory::heap(64)).unwrap();
        let grower = {
            let (arena, directory) = (arena.clone(), directory.clone());
            thread::spawn(move || {
                assert_eq!(arena.grow(ChunkMemory::heap(32)), Ok(0));
                arena.install(SLOT, KEY, Epoch::FIRST, &[5.0; 4]);
                directory.set(SLOT, DirectoryWord::new(Rank(0), Epoch::FIRST, SLOT));
            })
        };
        let mut row = [0.0; 4];
        if directory.load(SLOT) == Some(DirectoryWord::new(Rank(0), Epoch::FIRST, SLOT)) {
            arena.slot(SLOT).expect("published").read(KEY, &mut row).expect("live");
            assert_eq!(row, [5.0; 4]);
        } else if let Some(slot) = arena.slot(SLOT)
            && slot.read(KEY, &mut row).is_ok()
        {
            assert_eq!(row, [5.0; 4]);
        }
        grower.join().unwrap();
    });
}

struct Counter(u64);

impl Control for Counter {
    fn new(generation: u64) -> Self {
        Self(generation)
    }

    fn generation(&self) -> u64 {
        self.0
    }

    fn pinned(&self) -> bool {
        false
    }
}

fn foreign(key: u64) -> ForeignKey {
    ForeignKey { table: TableId(0), key: Key(key) }
}

fn push(table: &ForeignTable<Counter>, key: u64) -> Result<(), Full> {
    let mut entry = table.entry(foreign(key))?;
    assert_eq!(entry.key(), foreign(key));
    entry.accumulator.get_or_insert_with(|| [0.0].into())[0] += 1.0;
    entry.mark_dirty(Rank(0), Due::Now);
    Ok(())
}

fn drain(table: &ForeignTable<Counter>) -> f32 {
    let (mut places, mut sum) = (Vec::new(), 0.0);
    table.take_dirty(Rank(0), Due::Now, 8, &mut places);
    for place in places {
        let mut entry = table.at(place).expect("dirty entries stay");
        entry.clear_dirty(Due::Now);
        sum += entry.accumulator.take().map_or(0.0, |block| block[0]);
    }
    sum
}

#[test]
fn a_push_that_meets_a_flush_is_in_it_or_in_the_next() {
    model(|| {
        let table = Arc::new(ForeignTable::<Counter>::new(2, 1));
        push(&table, 1).unwrap();
        let worker = {
            let table = table.clone();
            thread::spawn(move || push(&table, 1).unwrap())
        };
        let first = drain(&table);
        worker.join().unwrap();
        assert_eq!(first + drain(&table), 2.0);
        assert_eq!(drain(&table), 0.0);
    });
}

#[test]
fn two_workers_that_need_a_new_entry_share_it_or_evict_no_dirty_one() {
    model(|| {
        let table = Arc::new(ForeignTable::<Counter>::new(1, 1));
        let worker = {
            let table = table.clone();
            thread::spawn(move || push(&table, 1).is_ok())
        };
        let own = push(&table, 2).is_ok();
        let other = worker.join().unwrap();
        assert!(own != other, "one entry, and a dirty one is never given up");
        assert_eq!(drain(&table), 1.0);
    });
}

/// A row that others have replicas of: its version, and the board that tells of it.
struct Shared {
    version: AtomicU64,
    board: Board,
    place: u32,
    woken: Arc<AtomicBool>,
}

impl Shared {
    fn new() -> Arc<Self> {
        let woken = Arc::new(AtomicBool::new(false));
        let wake = Arc::clone(&woken);
        let wake = Box::new(move || wake.store(true, Ordering::SeqCst));
        let board = Board::new(ChunkMemory::heap(Board::BYTES), wake);
        let place = board.place(TableId(0), SLOT, 0).expect("an empty board has room");
        Arc::new(Self { version: AtomicU64::new(0), board, place, woken })
    }

    /// What a worker does that has changed the row; gives the version that it made.
    fn change(&self) -> u64 {
        let made = self.version.fetch_add(1, Ordering::SeqCst) + 1;
        self.board.mark(self.place);
        made
    }

    fn fold(&self) {
        self.board.fold(|_, _| Some(self.version.load(Ordering::SeqCst)));
    }

    /// The version that stands on the board.
    fn told(&self) -> u64 {
        self.board.read(board_layout::versions(0) + 8 * self.place as usize)
    }
}

#[test]
fn a_change_is_on_the_board_after_the_next_fold_whoever_else_marks_the_row() {
    model(|| {
        let row = Shared::new();
        let worker = {
            let row = row.clone();
            thread::spawn(move || {
                row.change();
            })
        };
        // As an engine that applies a peer's update and acknowledges it after the fold.
        let made = row.change();
        row.fold();
        assert!(row.told() >= made, "I9: the board must tell of what is acknowledged");
        worker.join().unwrap();
        row.fold();
        assert_eq!(row.told(), 2);
        assert!(!row.board.dirty());
    });
}

#[test]
fn a_change_that_the_fold_after_arming_misses_wakes_the_engine() {
    model(|| {
        let row = Shared::new();
        let engine = {
            let row = row.clone();
            thread::spawn(move || {
                row.board.set_armed(true);
                row.fold();
                row.told()
            })
        };
        let made = row.change();
        let told = engine.join().unwrap();
        assert!(told >= made || row.woken.load(Ordering::SeqCst), "E8: a lost wake-up");
    });
}

#[test]
fn two_changes_beside_arming_are_both_told_of_or_wake() {
    model(|| {
        let row = Shared::new();
        let others: Vec<_> = (0..2)
            .map(|_| {
                let row = row.clone();
                thread::spawn(move || row.change())
            })
            .collect();
        row.board.set_armed(true);
        row.fold();
        let told = row.told();
        for other in others {
            other.join().unwrap();
        }
        assert!(told == 2 || row.woken.load(Ordering::SeqCst));
        row.fold();
        assert_eq!(row.told(), 2);
    });
}

#[test]
fn whoever_sees_a_word_of_the_board_changed_finds_what_lies_below_changed() {
    model(|| {
        let row = Shared::new();
        row.change();
        let holder = {
            let row = row.clone();
            thread::spawn(move || {
                let words = [
                    row.board.read(0),
                    row.board.read(board_layout::block(0)),
                    row.board.read(board_layout::pages(0)),
                    row.told(),
                ];
                assert!(words.is_sorted(), "from the root down: {words:?}");
            })
        };
        row.fold();
        holder.join().unwrap();
    });
}

/// A part of a table with two slots for rows of others, and two keys that are at home elsewhere.
fn table() -> (Arc<RowTable>, [Key; 2]) {
    let shape = TableShape::with_chunk_bytes(ElementType::F32, 4, 0, 32).unwrap();
    let placement = Placement::new(4, &PartitionMap::even(2)).unwrap();
    let mut others = (0..4).map(Key).filter(|&key| placement.locate_known(key).home == Rank(1));
    let keys = [others.next().unwrap(), others.next().unwrap()];
    let table = RowTable::new(TableId(0), Rank(0), placement.clone(), shape, 2);
    while table.arena().grow(ChunkMemory::heap(32)).is_ok() {}
    (Arc::new(table), keys)
}

/// Puts a row of another home into a slot and lists it.
fn settle(table: &RowTable, slot: SlotId, key: Key) {
    let mut guard = table.arena().slot(slot).unwrap().try_lock().unwrap();
    guard.rename(key);
    guard.write(&[key.0 as f32; 4]);
    guard.change(SlotState::Live, Epoch::FIRST.next(), 0);
    table.list_slot(key, slot);
}

#[test]
fn two_that_take_a_slot_never_get_the_same_one() {
    model(|| {
        let (table, _) = table();
        let other = {
            let table = table.clone();
            thread::spawn(move || table.take_slot(0))
        };
        let own = table.take_slot(0);
        let other = other.join().unwrap();
        assert!(own.is_ok() && other.is_ok() && own != other, "{own:?} and {other:?}");
        assert_eq!(table.take_slot(0), Err(NoSlot::Full));
        assert_eq!(table.foreign_slots(), 2);
    });
}

#[test]
fn a_slot_that_is_given_back_is_taken_by_one() {
    model(|| {
        let (table, _) = table();
        let (first, second) = (table.take_slot(0).unwrap(), table.take_slot(0).unwrap());
        let other = {
            let table = table.clone();
            thread::spawn(move || table.take_slot(0))
        };
        table.give_slot(first, 0);
        let own = table.take_slot(0);
        let other = other.join().unwrap();
        let taken = [own, other].iter().filter(|taken| **taken == Ok(first)).count();
        assert_eq!(taken, 1, "{own:?} and {other:?}, of {second:?} nobody");
    });
}

#[test]
fn a_row_is_found_by_its_key_while_others_come_and_go() {
    model(|| {
        let (table, [one, two]) = table();
        let (first, second) = (table.take_slot(0).unwrap(), table.take_slot(0).unwrap());
        settle(&table, first, one);
        let worker = {
            let table = table.clone();
            thread::spawn(move || {
                let mut row = [0.0; 4];
                if table.pull(one, &mut row).is_ok() {
                    assert_eq!(row, [one.0 as f32; 4]);
                }
                // Under the entry's lock none is missed.
                let found = table.find_surely(one).map(|(slot, _)| slot);
                assert_eq!(found, Some(first));
            })
        };
        // The index is half full and doubles.
        settle(&table, second, two);
        worker.join().unwrap();
    });
}

#[test]
fn a_slot_that_gets_another_key_is_never_taken_for_the_first_ones() {
    model(|| {
        let (table, [one, two]) = table();
        let slot = table.take_slot(0).unwrap();
        settle(&table, slot, one);
        let engine = {
            let table = table.clone();
            thread::spawn(move || {
                table.unlist_slot(one, slot);
                let guard = table.arena().slot(slot).unwrap().try_lock().unwrap();
                guard.change(SlotState::Moved, Epoch::FIRST.next().next(), 1);
                table.give_slot(slot, 0);
                let again = table.take_slot(0).unwrap();
                settle(&table, again, two);
            })
        };
        let mut row = [9.0; 4];
        for key in [one, two] {
            if table.pull(key, &mut row).is_ok() {
                assert_eq!(row, [key.0 as f32; 4]);
            }
        }
        engine.join().unwrap();
        assert!(table.find_surely(one).is_none());
        assert!(table.find_surely(two).is_some());
    });
}
