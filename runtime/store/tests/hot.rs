//! Private replicas of hot rows: nothing is lost, and a worker always sees its own pushes.
#![cfg(not(loom))]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "small whole numbers in f32"
)]

use std::sync::atomic::{AtomicBool, Ordering};

use sterna_kernels::{ElementType, Optimizer, RowShape};
use sterna_protocol::{Epoch, Key, Rank, SlotState, TableId};
use sterna_store::{
    Change, ChunkError, ChunkMemory, HotRows, PartitionMap, Patience, Placement, RowTable,
    SlotError, TableShape,
};

const DIM: usize = 5;

fn sgd() -> RowShape {
    RowShape { optimizer: Optimizer::sgd(1.0), dim: DIM }
}

fn table(keys: u64, shape: &RowShape) -> RowTable {
    let placement = Placement::new(keys, &PartitionMap::even(1)).unwrap();
    let slots = placement.slots(Rank(0));
    let form = TableShape::new(ElementType::F32, shape.dim, shape.state_len(), slots).unwrap();
    let table = RowTable::new(TableId(0), Rank(0), placement, form, 0);
    table.allocate::<ChunkError>(|bytes| Ok(ChunkMemory::heap(bytes))).unwrap();
    for (slot, key) in table.placement().keys_at(Rank(0)) {
        table.install(slot, key, &vec![0.0; shape.row_len()]);
    }
    table
}

/// Adds 1 to rows until all have taken it.
fn add_one(table: &RowTable, hot: &mut HotRows, keys: &[Key]) {
    let mut left = keys.to_vec();
    while !left.is_empty() {
        let (ones, mut missed) = (vec![1.0; left.len() * DIM], Vec::new());
        table
            .push_batch_hot(hot, &left, Change::Add, &ones, &mut missed, |_, _| unreachable!())
            .unwrap();
        assert!(missed.iter().all(|miss| miss.why == SlotError::Busy));
        left = missed.iter().map(|miss| left[miss.index as usize]).collect();
    }
}

fn drop_all(table: &RowTable, hot: &mut HotRows) {
    while hot
        .drop_all(|key| table.home_slot(key), Patience::WORKER, |_, _| unreachable!(), |_| ())
        .is_err()
    {
        std::thread::yield_now();
    }
    assert!(hot.is_empty());
}

#[test]
fn no_push_of_threads_on_hot_rows_is_lost_and_each_thread_sees_its_own() {
    const WORKERS: u64 = 4;
    const CALLS: u64 = 4_000;
    const KEYS: u64 = 7;
    let table = table(KEYS, &sgd());
    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            let table = &table;
            scope.spawn(move || {
                let mut hot = HotRows::new(sgd());
                let mut own = [0.0_f32; KEYS as usize];
                let mut last = [0.0_f32; KEYS as usize];
                for call in 0..CALLS {
                    let keys = [call, call + worker + 1].map(|number| Key(number % KEYS));
                    add_one(table, &mut hot, &keys);
                    keys.iter().for_each(|key| own[key.0 as usize] += 1.0);
                    let (mut out, mut missed) = ([0.0; 2 * DIM], Vec::new());
                    table
                        .pull_batch_hot(&mut hot, &keys, DIM, &mut out, &mut missed, |_, _| ())
                        .unwrap();
                    assert!(missed.is_empty());
                    for (key, row) in keys.iter().zip(out.chunks(DIM)) {
                        let at = key.0 as usize;
                        assert!(row[0] >= own[at], "own pushes: {row:?}, {} made", own[at]);
                        assert!(row[0] >= last[at], "values only grow: {row:?} after {}", last[at]);
                        last[at] = row[0];
                    }
                    if call % 97 == 0 {
                        drop_all(table, &mut hot);
                    }
                }
                drop_all(table, &mut hot);
            });
        }
    });
    let mut row = [0.0; DIM];
    let sums: [f32; DIM] = (0..KEYS).fold([0.0; DIM], |mut sums, key| {
        table.pull(Key(key), &mut row).unwrap();
        sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        sums
    });
    assert_eq!(sums, [(WORKERS * CALLS * 2) as f32; DIM]);
}

#[test]
fn a_row_that_nobody_else_pushes_gets_no_private_copy() {
    let table = table(3, &sgd());
    let mut hot = HotRows::new(sgd());
    for _ in 0..100 {
        add_one(&table, &mut hot, &[Key(0), Key(1)]);
    }
    assert!(hot.is_empty());
    assert_eq!(hot.counts().made, 0);
}

/// Makes the row of key 0 hot for one worker by pushes of another.
fn heat(table: &RowTable) -> HotRows {
    let (mut ours, mut theirs) = (HotRows::new(sgd()), HotRows::new(sgd()));
    add_one(table, &mut ours, &[Key(0)]);
    add_one(table, &mut theirs, &[Key(0)]);
    add_one(table, &mut ours, &[Key(0)]);
    assert!(ours.holds(Key(0)));
    ours
}

#[test]
fn a_private_copy_is_folded_after_sixteen_pushes_and_kept_only_while_others_push() {
    let table = table(1, &sgd());
    let mut hot = heat(&table);
    let mut row = [0.0; DIM];
    for push in 1..16 {
        add_one(&table, &mut hot, &[Key(0)]);
        table.pull(Key(0), &mut row).unwrap();
        assert_eq!(row[0], 3.0, "push {push} is private");
    }
    add_one(&table, &mut hot, &[Key(0)]);
    assert_eq!(table.pull(Key(0), &mut row).unwrap().version(), 4, "a fold is one version");
    assert_eq!(row[0], 19.0);
    assert!(hot.is_empty(), "nobody else has pushed since");
}

#[test]
fn a_private_copy_is_given_up_after_sixty_four_pulls() {
    let table = table(1, &sgd());
    let mut hot = heat(&table);
    add_one(&table, &mut hot, &[Key(0)]);
    let mut others = HotRows::new(sgd());
    add_one(&table, &mut others, &[Key(0)]);
    let (mut row, mut missed) = ([0.0; DIM], Vec::new());
    let mut pull = |hot: &mut HotRows| {
        table.pull_batch_hot(hot, &[Key(0)], DIM, &mut row, &mut missed, |_, _| ()).unwrap();
        row[0]
    };
    for _ in 0..64 {
        assert_eq!(pull(&mut hot), 4.0, "three shared pushes and an own one");
    }
    assert_eq!(pull(&mut hot), 5.0, "the other's push, too");
    assert!(hot.is_empty());
}

#[test]
fn the_update_of_a_row_that_has_moved_away_is_handed_over_once() {
    let table = table(2, &sgd());
    let mut hot = heat(&table);
    add_one(&table, &mut hot, &[Key(0)]);
    add_one(&table, &mut hot, &[Key(0)]);
    let slot = table.home_slot(Key(0)).unwrap();
    slot.try_lock().unwrap().change(SlotState::Moved, Epoch::FIRST.next(), 1);
    let mut row = [0.0; DIM];
    assert!(hot.pull(Key(0), &mut row), "own pushes stay visible until they are handed over");
    assert_eq!(row[0], 5.0);
    let mut handed = [0.0; DIM];
    let mut calls = 0;
    hot.drop_all(
        |key| table.home_slot(key),
        Patience::WORKER,
        |key, update| {
            assert_eq!(key, Key(0));
            update.apply_private(&mut handed);
            calls += 1;
        },
        |_| (),
    )
    .unwrap();
    assert_eq!((calls, handed), (1, [2.0; DIM]));
    assert!(hot.is_empty());
    let mut missed = Vec::new();
    table
        .push_batch_hot(&mut hot, &[Key(0)], Change::Add, &[1.0; DIM], &mut missed, |_, _| ())
        .unwrap();
    assert_eq!(missed[0].why, SlotError::Elsewhere);
}

#[test]
fn a_busy_slot_keeps_the_private_copy_until_it_can_be_folded() {
    let table = table(1, &sgd());
    let mut hot = heat(&table);
    let guard = table.home_slot(Key(0)).unwrap().try_lock().unwrap();
    for _ in 0..40 {
        add_one(&table, &mut hot, &[Key(0)]);
    }
    let slot_of = |key| table.home_slot(key);
    assert_eq!(hot.drop_all(slot_of, Patience::NONE, |_, _| (), |_| ()), Err(SlotError::Busy));
    drop(guard);
    assert_eq!(hot.drop_all(slot_of, Patience::NONE, |_, _| (), |_| ()), Ok(()));
    let mut row = [0.0; DIM];
    table.pull(Key(0), &mut row).unwrap();
    assert_eq!(row, [43.0; DIM]);
}

#[test]
fn lines_that_were_asked_for_before_change_nothing_but_time() {
    let table = table(200, &sgd());
    let mut hot = HotRows::new(sgd());
    let all: Vec<Key> = (0..200).rev().map(Key).collect();
    table.prime_push(&mut hot, &all);
    add_one(&table, &mut hot, &all);
    table.prime_push(&mut hot, &all);
    add_one(&table, &mut hot, &all[100..]);
    table.prime_push(&mut hot, &[]);
    add_one(&table, &mut hot, &all[199..]);
    drop_all(&table, &mut hot);
    let mut row = [0.0; DIM];
    for (key, expected) in [(0, 3.0), (99, 2.0), (100, 1.0), (199, 1.0)] {
        table.pull(Key(key), &mut row).unwrap();
        assert_eq!(row, [expected; DIM], "key {key}");
    }
}

#[test]
fn stateful_steps_of_threads_leave_the_exact_state() {
    const STEPS: usize = 3_000;
    let shape = RowShape { optimizer: Optimizer::adagrad(0.01), dim: DIM };
    let table = table(2, &shape);
    let go = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut hot = HotRows::new(shape);
                while !go.load(Ordering::Acquire) {
                    std::thread::yield_now();
                }
                let (grads, change) = ([1.0; 2 * DIM], Change::Step(0.01));
                let mut missed = Vec::new();
                for _ in 0..STEPS {
                    let mut left = vec![Key(0), Key(1)];
                    while !left.is_empty() {
                        missed.clear();
                        let grads = &grads[..left.len() * DIM];
                        table
                            .push_batch_hot(&mut hot, &left, change, grads, &mut missed, |_, _| ())
                            .unwrap();
                        left = missed.iter().map(|miss| left[miss.index as usize]).collect();
                    }
                }
                drop_all(&table, &mut hot);
            });
        }
        go.store(true, Ordering::Release);
    });
    let mut row = [0.0; 2 * DIM];
    for key in [Key(0), Key(1)] {
        table.pull(key, &mut row).unwrap();
        assert_eq!(row[DIM..], [(3 * STEPS) as f32; DIM], "Adagrad's sums are exact");
        assert!(row[..DIM].iter().all(|&value| value < 0.0));
    }
}
