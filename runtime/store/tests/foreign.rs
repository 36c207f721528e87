//! The foreign table against a map, and under threads.
#![cfg(not(loom))]
#![allow(clippy::cast_precision_loss, reason = "small whole numbers in f32")]

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;
use sterna_protocol::{Key, Rank, TableId};
use sterna_store::{Control, Due, ForeignKey, ForeignTable, Full, Listing};

#[derive(Debug)]
struct Counter {
    generation: u64,
    pinned: bool,
    pushes: u64,
}

impl Control for Counter {
    fn new(generation: u64) -> Self {
        Self { generation, pinned: false, pushes: 0 }
    }

    fn generation(&self) -> u64 {
        self.generation
    }

    fn pinned(&self) -> bool {
        self.pinned
    }
}

type Table = ForeignTable<Counter>;

fn key(number: u64) -> ForeignKey {
    let table = TableId(u16::try_from(number % 3).unwrap());
    ForeignKey { table, key: Key(number / 3) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn pinned_entries_stay_and_generations_never_repeat(
        ops in prop::collection::vec((0_u64..600, 0_u8..8), 1..3000),
    ) {
        let table = Table::new(256, 2);
        let mut model: HashMap<u64, u64> = HashMap::new();
        let mut last: HashMap<u64, u64> = HashMap::new();
        for (number, op) in ops {
            match op {
                0..=3 => match table.entry(key(number)) {
                    Ok(mut entry) => {
                        prop_assert_eq!(entry.key(), key(number));
                        let before = last.insert(number, entry.control.generation);
                        if let Some(pushes) = model.get(&number) {
                            prop_assert_eq!(entry.control.pushes, *pushes);
                        } else if entry.control.pushes == 0 {
                            prop_assert!(before.is_none_or(|last| last <= entry.control.generation));
                        }
                        entry.control.pushes += 1;
                        entry.control.generation += 1;
                        entry.control.pinned = true;
                        last.insert(number, entry.control.generation);
                        let pushes = entry.control.pushes;
                        model.insert(number, pushes);
                    }
                    Err(full) => {
                        prop_assert_eq!(full, Full::Entries { limit: 256 });
                        prop_assert!(!model.contains_key(&number));
                    }
                },
                4..=5 => if let Some(mut entry) = table.find(key(number)) {
                    entry.control.pinned = false;
                    model.remove(&number);
                },
                _ => {
                    let found = table.find(key(number)).map(|entry| entry.control.pushes);
                    if let Some(pushes) = model.get(&number) {
                        prop_assert_eq!(found, Some(*pushes));
                    }
                }
            }
            prop_assert!(table.counts().entries <= 256);
        }
        let places: HashSet<_> = table
            .places()
            .filter_map(|place| table.at(place).map(|entry| entry.key()))
            .collect();
        prop_assert!(model.keys().all(|&number| places.contains(&key(number))));
    }
}

#[test]
fn a_key_that_was_evicted_comes_back_with_a_greater_generation() {
    let table = Table::new(16, 1);
    let mut seen: HashMap<u64, u64> = HashMap::new();
    for round in 0..200_u64 {
        let number = round * 7 % 100;
        let mut entry = table.entry(key(number)).unwrap();
        if let Some(&last) = seen.get(&number)
            && entry.control.pushes == 0
        {
            assert!(entry.control.generation > last);
        }
        entry.control.pushes = 1;
        entry.control.generation += round % 5;
        seen.insert(number, entry.control.generation);
    }
    assert!(table.counts().evicted > 100);
}

#[test]
fn a_table_of_pinned_entries_is_full_until_one_is_free() {
    let table = Table::new(16, 1);
    let mut pinned = Vec::new();
    for number in 0..1000 {
        match table.entry(key(number)) {
            Ok(mut entry) => {
                entry.accumulator = Some([1.0].into());
                pinned.push(number);
            }
            Err(full) => assert_eq!(full, Full::Entries { limit: 16 }),
        }
    }
    assert_eq!((pinned.len(), table.counts().refused), (16, 984));
    let freed = pinned.remove(3);
    table.find(key(freed)).unwrap().accumulator = None;
    let taken = (1000..1400).filter(|&number| table.entry(key(number)).is_ok()).count();
    assert!(taken > 0, "one entry can be given up");
    for number in pinned {
        let entry = table.find(key(number)).expect("pinned");
        assert_eq!(entry.accumulator.as_deref(), Some([1.0].as_slice()));
    }
}

#[test]
fn dirty_entries_are_listed_once_in_order() {
    let table = Table::new(64, 3);
    for number in [5, 6, 5, 7, 6] {
        table.entry(key(number)).unwrap().mark_dirty(Rank(2), Due::Now);
    }
    assert_eq!((table.dirty_len(Rank(2), Due::Now), table.dirty_len(Rank(1), Due::Now)), (3, 0));
    let mut taken = Vec::new();
    table.take_dirty(Rank(2), Due::Now, 2, &mut taken);
    let keys: Vec<_> = taken.iter().map(|&place| table.at(place).unwrap().key()).collect();
    assert_eq!(keys, [key(5), key(6)]);
    table.entry(key(5)).unwrap().mark_dirty(Rank(1), Due::Now);
    assert_eq!(table.dirty_len(Rank(1), Due::Now), 0, "still marked, though taken");
    table.at(taken[0]).unwrap().clear_dirty(Due::Now);
    table.entry(key(5)).unwrap().mark_dirty(Rank(1), Due::Now);
    assert_eq!(table.dirty_len(Rank(1), Due::Now), 1);
    taken.clear();
    table.take_dirty(Rank(2), Due::Now, 10, &mut taken);
    assert_eq!(taken.len(), 1);
}

#[test]
fn entries_marked_in_a_threads_own_lists_are_listed_once_in_order_for_each_owner() {
    let table = Table::new(1 << 12, 3);
    let mut listing = table.listing();
    let mark = |listing: &mut Listing<'_>, number: u64, owner: u16| {
        table.entry(key(number)).unwrap().mark_dirty_in(listing, Rank(owner), Due::Now);
    };
    (0..5).for_each(|number| mark(&mut listing, number, 1 + (number % 2) as u16));
    mark(&mut listing, 3, 2);
    let listed = |owner| table.dirty_len(Rank(owner), Due::Now);
    assert_eq!((listed(1), listed(2)), (0, 0), "nobody has been told");
    table.entry(key(3)).unwrap().mark_dirty(Rank(2), Due::Now);
    listing.tell();
    assert_eq!((listed(1), listed(2)), (3, 2));
    let mut taken = Vec::new();
    table.take_dirty(Rank(1), Due::Now, 10, &mut taken);
    let keys: Vec<_> = taken.iter().map(|&place| table.at(place).unwrap().key()).collect();
    assert_eq!(keys, [key(0), key(2), key(4)]);
    (100..1100).for_each(|number| mark(&mut listing, number, 1));
    assert!(listed(1) > 900, "long lists are told of as they grow");
    drop(listing);
    assert_eq!(listed(1), 1000);
}

/// Three workers push, an engine flushes, the table is far too small for the keys: nothing is lost.
#[test]
fn pushes_of_threads_reach_the_owner_exactly_once_through_a_small_table() {
    const WORKERS: u64 = 3;
    const PUSHES: u64 = 20_000;
    let table = Table::new(64, 1);
    let done = AtomicBool::new(false);
    let mut owner: HashMap<ForeignKey, f32> = HashMap::new();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| {
                let table = &table;
                scope.spawn(move || {
                    let mut random = worker + 1;
                    for _ in 0..PUSHES {
                        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
                        let id = key(random >> 40 & 511);
                        let mut entry = loop {
                            match table.entry(id) {
                                Ok(entry) => break entry,
                                Err(_) => std::thread::yield_now(),
                            }
                        };
                        assert_eq!(entry.key(), id);
                        entry.accumulator.get_or_insert_with(|| [0.0].into())[0] += 1.0;
                        entry.mark_dirty(Rank(0), Due::Now);
                    }
                })
            })
            .collect();
        let engine = scope.spawn(|| {
            let mut taken = Vec::new();
            loop {
                let last = done.load(Ordering::Acquire);
                table.take_dirty(Rank(0), Due::Now, 16, &mut taken);
                for place in taken.drain(..) {
                    let mut entry = table.at(place).expect("dirty entries stay");
                    entry.clear_dirty(Due::Now);
                    let pushes = entry.accumulator.take().map_or(0.0, |block| block[0]);
                    *owner.entry(entry.key()).or_default() += pushes;
                }
                if last && table.dirty_len(Rank(0), Due::Now) == 0 {
                    break;
                }
                std::thread::yield_now();
            }
        });
        for worker in workers {
            worker.join().unwrap();
        }
        done.store(true, Ordering::Release);
        engine.join().unwrap();
    });
    assert_eq!(owner.values().sum::<f32>(), (WORKERS * PUSHES) as f32);
}
