//! A table against a plain model, and its rows under threads.
#![cfg(not(loom))]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "small whole numbers in f32"
)]

use proptest::prelude::*;
use sterna_kernels::{ElementType, Optimizer, optimizer::RowShape};
use sterna_protocol::{Epoch, Key, Rank, SlotState, TableId};
use sterna_store::{
    ChunkError, ChunkMemory, Missed, PartitionMap, Patience, Placement, RowTable, SlotError,
    TableShape,
};

/// The part of a table at one node of a job; row `k` is `[k, k, ..]`, its state 0.
fn table(keys: u64, dim: usize, state: usize, here: Rank, size: usize) -> RowTable {
    let placement = Placement::new(keys, &PartitionMap::even(size)).unwrap();
    let chunk = 1024_usize.max(4 * (dim + state) + 32).next_power_of_two();
    let shape = TableShape::with_chunk_bytes(ElementType::F32, dim, state, chunk).unwrap();
    let table = RowTable::new(TableId(0), here, placement, shape, 0);
    table.allocate::<ChunkError>(|bytes| Ok(ChunkMemory::heap(bytes))).unwrap();
    for (slot, key) in table.placement().keys_at(here) {
        let mut row = vec![key.0 as f32; dim];
        row.resize(dim + state, 0.0);
        table.install(slot, key, &row);
    }
    table
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn batches_serve_home_keys_and_list_the_others(
        keys in 1_u64..3000, dim in 1_usize..40, size in 1_usize..5,
        picks in prop::collection::vec(any::<u64>(), 0..300),
    ) {
        let here = Rank(0);
        let table = table(keys, dim, 0, here, size);
        let keys: Vec<_> = picks.into_iter().map(|pick| Key(pick % keys)).collect();
        let (mut out, mut missed) = (vec![-1.0; keys.len() * dim], Vec::new());
        table.pull_batch(&keys, dim, &mut out, &mut missed).unwrap();
        let mut pushed_missed = Vec::new();
        table.push_batch(&keys, Patience::WORKER, &mut pushed_missed, |_, row| {
            row.add(&vec![1.0; dim]);
        });
        prop_assert_eq!(&missed, &pushed_missed);
        let mut after = vec![0.0; dim];
        for (index, &key) in keys.iter().enumerate() {
            let row = &out[index * dim..][..dim];
            let at_home = table.placement().locate(key).unwrap().home == here;
            let wanted = if at_home { key.0 as f32 } else { -1.0 };
            prop_assert!(row.iter().all(|&value| value == wanted));
            let miss = Missed { index: u32::try_from(index).unwrap(), why: SlotError::Elsewhere };
            prop_assert_eq!(missed.contains(&miss), !at_home);
            if at_home {
                let meta = table.pull(key, &mut after).unwrap();
                let pushes = keys.iter().filter(|&&other| other == key).count();
                prop_assert_eq!(meta.version(), pushes as u64);
                prop_assert!(after.iter().all(|&value| value == (key.0 + pushes as u64) as f32));
            }
        }
    }
}

#[test]
fn keys_out_of_range_and_wrong_lengths_are_no_panics() {
    let table = table(100, 4, 0, Rank(0), 1);
    let (mut out, mut missed) = (vec![0.0; 8], Vec::new());
    table.pull_batch(&[Key(100), Key(u64::MAX)], 4, &mut out, &mut missed).unwrap();
    assert_eq!(missed.len(), 2);
    for floats in [0, 3, 5, usize::MAX] {
        assert!(table.pull_batch(&[Key(1), Key(2)], floats, &mut out, &mut missed).is_err());
    }
    assert_eq!(table.pull(Key(1 << 60), &mut out[..4]), Err(SlotError::Elsewhere));
}

#[test]
fn additions_of_threads_are_all_in_the_rows_and_snapshots_are_never_torn() {
    const PUSHES: usize = 20_000;
    let table = table(8, 33, 0, Rank(0), 1);
    std::thread::scope(|scope| {
        for worker in 0..3_u64 {
            let table = &table;
            scope.spawn(move || {
                let ones = [1.0; 33];
                let mut missed = Vec::new();
                for push in 0..PUSHES as u64 / 4 {
                    let keys = [0, 1, 2, 3].map(|next| Key((push * 5 + worker + next) % 8));
                    let mut left = keys.to_vec();
                    while !left.is_empty() {
                        missed.clear();
                        table.push_batch(&left, Patience::WORKER, &mut missed, |_, row| {
                            row.add(&ones);
                        });
                        left = missed.iter().map(|miss| left[miss.index as usize]).collect();
                    }
                }
            });
        }
        scope.spawn(|| {
            let mut row = [0.0; 33];
            for read in 0..PUSHES as u64 {
                match table.snapshot(Key(read % 8), &mut row) {
                    Ok(meta) => {
                        assert!(row.iter().all(|&value| value == row[0]), "torn: {row:?}");
                        assert_eq!(row[0] as u64, read % 8 + meta.version());
                    }
                    Err(why) => assert_eq!(why, SlotError::Busy),
                }
            }
        });
    });
    let mut row = [0.0; 33];
    let sum: f32 = (0..8)
        .map(|key| {
            table.pull(Key(key), &mut row).unwrap();
            row[32] - key as f32
        })
        .sum();
    assert_eq!(sum as usize, 3 * PUSHES);
}

#[test]
fn a_row_that_the_engine_moved_away_is_refused_to_readers_and_writers() {
    let table = table(4, 2, 0, Rank(0), 1);
    let slot = table.home_slot(Key(2)).unwrap();
    let guard = slot.try_lock().unwrap();
    assert!(matches!(slot.try_lock(), Err(SlotError::Busy)), "the engine never waits");
    assert!(matches!(slot.lock(Key(2), Patience::NONE), Err(SlotError::Busy)));
    let mut row = [0.0; 2];
    assert!(slot.read(Key(2), &mut row).is_ok(), "readers never wait");
    assert_eq!(slot.snapshot(Key(2), &mut row, Patience::NONE), Err(SlotError::Busy));
    guard.change(SlotState::Moved, Epoch::FIRST.next(), 3);
    assert_eq!(table.pull(Key(2), &mut row), Err(SlotError::Elsewhere));
    assert_eq!(table.snapshot(Key(2), &mut row), Err(SlotError::Elsewhere));
    assert_eq!(table.set(Key(2), &[1.0, 1.0], Patience::WORKER), Err(SlotError::Elsewhere));
    assert_eq!(table.dot(Key(2), &[1.0, 1.0]), Err(SlotError::Elsewhere));
    assert_eq!(slot.header().1.version(), 3, "the next owner is where the version was");
}

#[test]
fn steps_change_values_and_state_and_a_guard_given_up_leaves_the_version() {
    let shape = RowShape { optimizer: Optimizer::adagrad(0.5), dim: 3 };
    let table = table(4, 3, 3, Rank(0), 1);
    let step = |row| shape.step(row, &[1.0, 2.0, 0.0], 0.5);
    let (meta, ()) = table.update(Key(1), Patience::WORKER, step).unwrap();
    assert_eq!(meta.version(), 1);
    let mut row = [0.0; 6];
    table.pull(Key(1), &mut row).unwrap();
    assert_eq!(row, [0.5, 0.5, 1.0, 1.0, 4.0, 0.0]);
    assert_eq!(table.dot(Key(1), &[2.0, 0.0, 3.0]).unwrap(), 4.0);
    drop(table.home_slot(Key(1)).unwrap().lock(Key(1), Patience::NONE).unwrap());
    assert_eq!(table.pull(Key(1), &mut row).unwrap().version(), 1);
    assert_eq!(table.set(Key(1), &[7.0, 8.0, 9.0], Patience::NONE).unwrap().version(), 2);
    table.snapshot(Key(1), &mut row).unwrap();
    assert_eq!(row, [7.0, 8.0, 9.0, 1.0, 4.0, 0.0]);
}
