//! Records: what is written is read back, and bytes of any kind do no harm.

use proptest::prelude::*;
use sterna_protocol::record::{
    Acquire, Arena, Found, Grant, Header, Holders, Kind, Location, Nack, Record, ReduceStep,
    Refusal, SetScope, Trial, TrialStep, Writer,
};
use sterna_protocol::{
    Clock, DirectoryWord, Epoch, Key, MetaWord, Rank, SlotId, SlotState, TableId,
};
use sterna_rdma::fabric::RECORD_BYTES_MAX;
use sterna_rdma::region::{RegionId, RegionToken};

fn epoch() -> impl Strategy<Value = Epoch> {
    (0_u32..1 << 20).prop_map(Epoch::new)
}

fn rank() -> impl Strategy<Value = Rank> {
    (0_u16..4096).prop_map(Rank)
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..100)
}

fn acquire() -> impl Strategy<Value = Acquire> {
    let held = proptest::option::of((epoch(), any::<u64>()));
    (any::<u64>(), epoch(), any::<u32>(), rank(), any::<(u8, u8, bool, bool)>(), held).prop_map(
        |(key, epoch, slot, requester, (uses, span, writes, force), held)| Acquire {
            key: Key(key),
            epoch,
            slot: SlotId(slot),
            requester,
            uses,
            span,
            writes,
            force,
            held,
        },
    )
}

/// Writes a record into a buffer of `bytes`; returns it and how many items it took.
fn write(
    bytes: usize,
    kind: Kind,
    number: u32,
    mut add: impl FnMut(&mut Writer<'_>) -> bool,
) -> (Vec<u8>, usize) {
    let mut buffer = vec![0xAA; bytes];
    let mut writer = Writer::new(&mut buffer, kind, TableId(3), number);
    let mut items = 0;
    while add(&mut writer) {
        items += 1;
    }
    (writer.finish().to_vec(), items)
}

fn put(bytes: &[u8], room: &mut [u8]) -> Option<usize> {
    room.get_mut(..bytes.len())?.copy_from_slice(bytes);
    Some(bytes.len())
}

/// Walks all that a record says, as a receiver would.
fn walk(record: &Record<'_>) -> usize {
    match record {
        Record::Update(items) | Record::Release(items) | Record::Set(items, _) => {
            items.iter().map(|item| item.payload.len()).sum()
        }
        Record::Answer(answer) => answer.iter().flatten().count(),
        Record::Acquire(items) => items.iter().count(),
        Record::GrantShare(items) | Record::GrantMove(items) => items
            .iter()
            .map(|item| item.row.map_or(0, <[u8]>::len) + item.holders.iter().count())
            .sum(),
        Record::Refuse(items) => items.iter().count(),
        Record::Location(items) => items.iter().count(),
        Record::Where(items) | Record::SnapshotRead(items) | Record::Offer(items) => {
            items.iter().count()
        }
        Record::Whereabouts(items) => items.iter().count(),
        Record::SnapshotRows(items) => items.iter().map(|item| item.row.len()).sum(),
        Record::Reduce(items) => items.iter().count(),
        Record::Table(table) => table.definition.len() + table.name.len(),
        Record::Stop(stop) => stop.reason.len(),
        Record::Chunk(_)
        | Record::Barrier(_)
        | Record::Clock(_)
        | Record::Arm(_)
        | Record::Notice(_)
        | Record::Trial(_) => 0,
    }
}

proptest! {
    #[test]
    fn updates_come_back_as_they_were_written(
        items in proptest::collection::vec((any::<u64>(), epoch(), payload()), 1..50),
        kind in 0..3, whole in any::<bool>(), room in 200_usize..8192,
    ) {
        let kind = [Kind::Update, Kind::Release, Kind::Set][usize::try_from(kind).unwrap()];
        let mut next = items.iter();
        let (record, taken) = write(room, kind, 17, |writer| {
            if kind == Kind::Set {
                writer.flags(u8::from(whole));
            }
            next.next().is_some_and(|(key, epoch, payload)| {
                writer.update(Key(*key), *epoch, |room| put(payload, room))
            })
        });
        prop_assert!(record.len() <= room && taken >= 1);
        let updates = match Record::decode(&record).unwrap() {
            Record::Update(updates) | Record::Release(updates) => updates,
            Record::Set(updates, scope) => {
                prop_assert_eq!(scope == SetScope::WholeRow, whole);
                updates
            }
            other => panic!("{other:?}"),
        };
        prop_assert_eq!((updates.table, updates.number, updates.len()), (TableId(3), 17, taken));
        for (update, (key, epoch, payload)) in updates.iter().zip(&items) {
            prop_assert_eq!((update.key, update.epoch, update.payload), (Key(*key), *epoch, &payload[..]));
        }
    }

    #[test]
    fn answers_come_back_as_they_were_written(
        count in 1_u32..=1024,
        nacked in proptest::collection::btree_map(0_u16..1024, (rank(), epoch()), 0..60),
    ) {
        let nacks: Vec<_> = nacked
            .into_iter()
            .filter(|&(index, _)| u32::from(index) < count)
            .map(|(index, (next, epoch))| (index, Nack { next, epoch }))
            .collect();
        let mut buffer = vec![0xAA; 1024];
        let mut writer = Writer::new(&mut buffer, Kind::Answer, TableId(3), 5);
        prop_assert!(writer.answer(count, &nacks));
        let Record::Answer(answer) = Record::decode(writer.finish()).unwrap() else { panic!() };
        prop_assert_eq!(answer.len(), count as usize);
        let found: Vec<_> = (0_u16..)
            .zip(answer.iter())
            .filter_map(|(index, nack)| Some((index, nack?)))
            .collect();
        prop_assert_eq!(found, nacks);
    }

    #[test]
    fn acquires_and_refusals_come_back_as_they_were_written(
        items in proptest::collection::vec(acquire(), 1..50), uses in any::<u16>(),
    ) {
        let mut next = items.iter();
        let (record, taken) = write(RECORD_BYTES_MAX, Kind::Acquire, 9, |writer| {
            next.next().is_some_and(|item| writer.acquire(item))
        });
        prop_assert_eq!(taken, items.len());
        let Record::Acquire(found) = Record::decode(&record).unwrap() else { panic!() };
        prop_assert!(found.iter().eq(items.iter().copied()));

        let refusals: Vec<_> = items
            .iter()
            .map(|item| Refusal { key: item.key, next: item.requester, epoch: item.epoch, uses })
            .collect();
        let mut next = refusals.iter();
        let (record, _) = write(RECORD_BYTES_MAX, Kind::Refuse, 9, |writer| {
            next.next().is_some_and(|item| writer.refusal(item))
        });
        let Record::Refuse(found) = Record::decode(&record).unwrap() else { panic!() };
        prop_assert!(found.iter().eq(refusals.iter().copied()));
    }

    #[test]
    fn grants_come_back_as_they_were_written(
        items in proptest::collection::vec(
            (any::<(u64, u32, u64, u32)>(), epoch(), proptest::collection::vec(rank(), 0..9), payload(), any::<bool>()),
            1..30,
        ),
        moves in any::<bool>(),
    ) {
        let kind = if moves { Kind::GrantMove } else { Kind::GrantShare };
        let mut next = items.iter();
        let (record, taken) = write(RECORD_BYTES_MAX, kind, 9, |writer| {
            next.next().is_some_and(|&((key, slot, version, board), epoch, ref holders, ref row, omit)| {
                let (key, slot) = (Key(key), SlotId(slot));
                let grant =
                    Grant { key, epoch, slot, version: 0, board, holders: Holders::default(), row: None };
                writer.grant(&grant, holders, |room| put(row, room).map(|length| (length, version, omit)))
            })
        });
        prop_assert_eq!(taken, items.len());
        let found = match Record::decode(&record).unwrap() {
            Record::GrantMove(grants) | Record::GrantShare(grants) => grants,
            other => panic!("{other:?}"),
        };
        for (found, ((key, slot, version, board), epoch, holders, row, omit)) in found.iter().zip(&items) {
            prop_assert_eq!((found.key, found.slot), (Key(*key), SlotId(*slot)));
            prop_assert_eq!((found.version, found.board, found.epoch), (*version, *board, *epoch));
            prop_assert!(found.holders.iter().eq(holders.iter().copied()));
            prop_assert_eq!(found.row, (!omit).then_some(&row[..]));
        }
    }

    #[test]
    fn places_and_rows_come_back_as_they_were_written(
        items in proptest::collection::vec((any::<(u64, u32, u64)>(), rank(), epoch(), payload()), 1..30),
    ) {
        let mut next = items.iter();
        let (record, _) = write(RECORD_BYTES_MAX, Kind::Location, 0, |writer| {
            next.next().is_some_and(|&((key, slot, _), _, epoch, _)| {
                writer.location(&Location { key: Key(key), epoch, slot: SlotId(slot) })
            })
        });
        let Record::Location(found) = Record::decode(&record).unwrap() else { panic!() };
        for (found, ((key, slot, _), _, epoch, _)) in found.iter().zip(&items) {
            prop_assert_eq!(found, Location { key: Key(*key), epoch: *epoch, slot: SlotId(*slot) });
        }
        let mut next = items.iter();
        let (record, _) = write(RECORD_BYTES_MAX, Kind::Whereabouts, 1, |writer| {
            next.next().is_some_and(|&((key, slot, _), owner, epoch, _)| {
                let word = DirectoryWord::new(owner, epoch, SlotId(slot));
                writer.found(&Found { key: Key(key), word })
            })
        });
        let Record::Whereabouts(found) = Record::decode(&record).unwrap() else { panic!() };
        for (found, ((_, slot, _), owner, ..)) in found.iter().zip(&items) {
            prop_assert_eq!((found.word.owner(), found.word.slot()), (*owner, SlotId(*slot)));
        }
        let mut next = items.iter();
        let (record, _) = write(RECORD_BYTES_MAX, Kind::SnapshotRows, 1, |writer| {
            next.next().is_some_and(|((key, _, version), _, epoch, row)| {
                let meta = MetaWord::new(SlotState::Live, *epoch, *version);
                writer.snapshot_row(Key(*key), |room| put(row, room).map(|length| (length, meta)))
            })
        });
        let Record::SnapshotRows(found) = Record::decode(&record).unwrap() else { panic!() };
        for (found, (_, _, epoch, row)) in found.iter().zip(&items) {
            prop_assert_eq!((found.meta.epoch(), found.row), (*epoch, &row[..]));
        }
    }

    #[test]
    fn control_records_come_back_as_they_were_written(
        name in "[a-zä]{1,40}", definition in payload(), round in any::<u32>(), release in any::<bool>(),
        numbers in proptest::collection::vec(any::<f64>(), 0..20), reason in "\\PC{0,50}", token in any::<[u8; 32]>(),
    ) {
        let mut buffer = vec![0xAA; 8192];
        let mut writer = Writer::new(&mut buffer, Kind::Table, TableId(3), round);
        prop_assert!(writer.table(&name, &definition));
        let Record::Table(table) = Record::decode(writer.finish()).unwrap() else { panic!() };
        prop_assert_eq!((table.name, table.definition, table.round), (&name[..], &definition[..], round));

        let mut writer = Writer::new(&mut buffer, Kind::Barrier, TableId(0), round);
        writer.barrier(release);
        let Record::Barrier(step) = Record::decode(writer.finish()).unwrap() else { panic!() };
        prop_assert_eq!((step.round, step.release), (round, release));

        let mut writer = Writer::new(&mut buffer, Kind::Reduce, TableId(0), round);
        prop_assert!(writer.reduce(ReduceStep::Result, &numbers));
        let Record::Reduce(reduce) = Record::decode(writer.finish()).unwrap() else { panic!() };
        prop_assert_eq!(reduce.step, ReduceStep::Result);
        prop_assert!(reduce.iter().map(f64::to_bits).eq(numbers.iter().map(|number| number.to_bits())));

        let mut writer = Writer::new(&mut buffer, Kind::Stop, TableId(0), 0);
        prop_assert!(writer.stop(true, &reason));
        let Record::Stop(stop) = Record::decode(writer.finish()).unwrap() else { panic!() };
        prop_assert_eq!((stop.failed, stop.reason), (true, &reason[..]));

        let mut writer = Writer::new(&mut buffer, Kind::Clock, TableId(0), round);
        prop_assert!(writer.clock(Clock(u64::from(round))));
        let mut spare = [0; 64];
        let mut arm = Writer::new(&mut spare, Kind::Arm, TableId(0), 0);
        prop_assert!(arm.board_sequence(u64::from(round)));
        let Record::Arm(seen) = Record::decode(arm.finish()).unwrap() else { panic!() };
        prop_assert_eq!(seen.0, u64::from(round));
        let Record::Clock(clock) = Record::decode(writer.finish()).unwrap() else { panic!() };
        prop_assert_eq!((clock.meetings, clock.flushed), (round, Clock(u64::from(round))));

        let steps = [
            TrialStep::Begins { act: round.is_multiple_of(2) },
            TrialStep::Over { keys: u64::from(round), ns: u64::MAX },
        ];
        for step in steps {
            let mut spare = [0; 64];
            let mut writer = Writer::new(&mut spare, Kind::Trial, TableId(0), round);
            prop_assert!(writer.trial(step));
            let Record::Trial(trial) = Record::decode(writer.finish()).unwrap() else { panic!() };
            prop_assert_eq!(trial, Trial { phase: round, step });
        }

        let token = RegionToken { id: RegionId(round), ..RegionToken::from_bytes(&token) };
        let mut writer = Writer::new(&mut buffer, Kind::Chunk, TableId(3), 0);
        prop_assert!(writer.chunk(Arena::Directory, round, &token));
        let Record::Chunk(chunk) = Record::decode(writer.finish()).unwrap() else { panic!() };
        prop_assert_eq!((chunk.table, chunk.arena, chunk.index, chunk.token), (TableId(3), Arena::Directory, round, token));
    }

    #[test]
    fn any_bytes_are_refused_or_walked(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(record) = Record::decode(&bytes) {
            prop_assert!(walk(&record) <= bytes.len());
        }
    }

    #[test]
    fn any_body_behind_a_fitting_header_is_refused_or_walked(
        kind in 1_u8..=23, flags in 0_u8..3, count in 0_u32..6, body in proptest::collection::vec(0_u8..40, 0..300),
    ) {
        let mut bytes = vec![kind, flags, 0, 0, 1, 0, 0, 0];
        bytes.extend(count.to_le_bytes());
        bytes.extend(u32::try_from(body.len()).unwrap().to_le_bytes());
        bytes.extend(body);
        if let Ok(record) = Record::decode(&bytes) {
            prop_assert!(walk(&record) <= bytes.len());
        }
    }

    #[test]
    fn changed_bytes_of_good_records_are_refused_or_walked(
        items in proptest::collection::vec((any::<u64>(), epoch(), payload()), 1..10),
        holders in proptest::collection::vec(rank(), 0..5),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..5),
        cut in any::<proptest::sample::Index>(),
    ) {
        let mut next = items.iter();
        let (updates, _) = write(4096, Kind::Update, 1, |writer| {
            next.next().is_some_and(|(key, epoch, payload)| {
                writer.update(Key(*key), *epoch, |room| put(payload, room))
            })
        });
        let mut next = items.iter();
        let (grants, _) = write(4096, Kind::GrantMove, 1, |writer| {
            next.next().is_some_and(|(key, epoch, row)| {
                let (key, slot, epoch) = (Key(*key), SlotId(0), *epoch);
                let grant = Grant { key, epoch, slot, version: 0, board: 0, holders: Holders::default(), row: None };
                writer.grant(&grant, &holders, |room| put(row, room).map(|length| (length, 1, false)))
            })
        });
        for mut record in [updates, grants] {
            for (place, byte) in &changes {
                let place = place.index(record.len());
                record[place] = *byte;
            }
            if let Ok(record) = Record::decode(&record) {
                walk(&record);
            }
            record.truncate(cut.index(record.len() + 1));
            prop_assert!(Record::decode(&record).is_err() || record.len() >= 16);
        }
    }
}

#[test]
fn a_length_that_promises_more_than_there_is_is_refused() {
    let header = Header { kind: Kind::Update, flags: 0, table: TableId(0), number: 1, count: 1 };
    let mut record = header.to_bytes(16).to_vec();
    record.extend([0; 12]);
    record.extend(u32::MAX.to_le_bytes());
    assert!(Record::decode(&record).is_err());
    assert!(Record::decode(&vec![1; RECORD_BYTES_MAX + 1]).is_err());
}

#[test]
fn a_full_record_keeps_what_it_has() {
    let mut buffer = vec![0; 64];
    let mut writer = Writer::new(&mut buffer, Kind::Update, TableId(0), 1);
    assert!(writer.update(Key(1), Epoch::FIRST, |room| put(&[1; 16], room)));
    assert!(!writer.update(Key(2), Epoch::FIRST, |room| put(&[2; 8], room)));
    let Record::Update(updates) = Record::decode(writer.finish()).unwrap() else { panic!() };
    assert_eq!(updates.len(), 1);
    assert_eq!(updates.iter().next().unwrap().payload, [1; 16]);
}
