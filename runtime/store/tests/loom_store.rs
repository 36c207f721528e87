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

use loom::thread;
use sterna_kernels::ElementType;
use sterna_protocol::{DirectoryWord, Epoch, Key, MetaWord, Rank, SlotId, SlotState, TableId};
use sterna_store::{
    ChunkMemory, Control, Directory, Due, ForeignKey, ForeignTable, Full, Patience, SlotArena,
    SlotError, TableShape,
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
