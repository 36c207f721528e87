//! The machine with many keys: batches, limits, faults of peers, losses.

mod batches;

use batches::{KEYS, Node, carry, row};
use proptest::prelude::*;
use sterna_protocol::machine::{PeerFault, REQUESTS_MAX};
use sterna_protocol::record::{Acquire, Grant, Holders, Kind, Nack, Record, Refusal, Writer};
use sterna_protocol::{EntryState, Epoch, Key, Rank, SlotId, TableId};

const RECORD: usize = 4096;

/// A record of updates to these keys.
fn updates(number: u32, keys: &[u64], payload: &[u8]) -> Vec<u8> {
    let mut buffer = vec![0; RECORD];
    let mut writer = Writer::new(&mut buffer, Kind::Update, TableId(0), number);
    for &key in keys {
        assert!(writer.update(Key(key), Epoch::FIRST, |room| {
            room[..payload.len()].copy_from_slice(payload);
            Some(payload.len())
        }));
    }
    writer.finish().to_vec()
}

#[test]
fn hundreds_of_keys_travel_in_few_records_and_each_is_applied_once() {
    let (mut a, mut b) = (Node::new(0, 64 * 1024), Node::new(1, 64 * 1024));
    for round in 1..=3 {
        for key in (1..1000).step_by(2) {
            a.rows.push(key, key);
            a.rows.push(key, 1);
        }
        assert_eq!(a.flush(1), 500);
        assert_eq!(carry(&mut a, &mut b), 1);
        assert!(!a.machine.answered_up_to(a.machine.last_number()));
        assert_eq!(carry(&mut b, &mut a), 1);
        assert!(a.machine.answered_up_to(a.machine.last_number()));
        for key in (1..1000).step_by(2) {
            assert_eq!(b.rows.live[&key], round * (key + 1));
        }
        assert!(a.rows.foreign.values().all(|private| private.flush == 0));
    }
}

#[test]
fn pushes_during_an_exchange_wait_for_its_answer_and_then_go() {
    let (mut a, mut b) = (Node::new(0, RECORD), Node::new(1, RECORD));
    a.rows.push(1, 10);
    assert_eq!(a.flush(1), 1);
    a.rows.push(1, 5);
    assert_eq!(a.flush(1), 0, "K1");
    carry(&mut a, &mut b);
    carry(&mut b, &mut a);
    assert_eq!(a.flush(1), 1, "the ack has listed the key again");
    carry(&mut a, &mut b);
    assert_eq!(b.rows.live[&1], 15);
}

#[test]
fn at_most_64_records_are_unanswered_and_the_rest_waits_as_marks() {
    let (mut a, mut b) = (Node::new(0, 64), Node::new(1, 1024));
    let keys = 150;
    for key in 0..keys {
        a.rows.push(2 * key + 1, 1);
    }
    // Two keys of 24 bytes in a record of 64.
    let opened = a.flush(1);
    assert_eq!((opened, a.links.sent.len()), (2 * REQUESTS_MAX, REQUESTS_MAX));
    assert_eq!(a.machine.unanswered(Rank(1)), REQUESTS_MAX);
    while carry(&mut a, &mut b) > 0 {
        carry(&mut b, &mut a);
        a.flush(1);
    }
    assert_eq!(b.rows.live.values().sum::<u64>(), keys);
}

#[test]
fn a_full_link_leaves_marks_and_answers_where_they_are() {
    let (mut a, mut b) = (Node::new(0, RECORD), Node::new(1, RECORD));
    a.links.closed = true;
    a.rows.push(1, 1);
    assert_eq!(a.flush(1), 0);
    a.links.closed = false;
    assert_eq!(a.flush(1), 1);
    b.links.closed = true;
    carry(&mut a, &mut b);
    assert_eq!(b.rows.live[&1], 1, "it is consumed and applied though nothing can be sent (I11)");
    assert!(b.machine.unsettled());
    b.links.closed = false;
    b.settle();
    assert!(!b.machine.unsettled());
    assert_eq!(carry(&mut b, &mut a), 1);
    assert_eq!(a.machine.unanswered(Rank(1)), 0);
}

#[test]
fn a_row_that_a_worker_is_at_work_on_delays_only_its_own_record() {
    let mut b = Node::new(1, RECORD);
    b.rows.busy = Some(3);
    b.take(0, &updates(1, &[1, 3, 5], &9_u64.to_le_bytes())).unwrap();
    b.take(0, &updates(2, &[7], &9_u64.to_le_bytes())).unwrap();
    b.settle();
    assert_eq!((b.rows.live[&1], b.rows.live[&3], b.rows.live[&5]), (9, 0, 9));
    let answered: Vec<u32> = b.links.sent.drain(..).map(|(_, record)| number(&record)).collect();
    assert_eq!(answered, [2]);
    assert_eq!(b.machine.parked(), 1);
    b.rows.busy = None;
    b.settle();
    assert_eq!(b.rows.live[&3], 9);
    let answered: Vec<u32> = b.links.sent.drain(..).map(|(_, record)| number(&record)).collect();
    assert_eq!(answered, [1]);
}

#[test]
fn a_flush_that_lets_a_second_try_go_first_is_not_forgotten() {
    use sterna_protocol::entry::{Pull, ReadFound};
    let mut a = Node::new(0, RECORD);
    a.rows.push(1, 1);
    let Pull::Read(permit) = a.rows.foreign.get_mut(&1).unwrap().entry.pull(true) else { panic!() };
    assert_eq!((a.flush(1), a.flush(1)), (0, 0));
    let _ = a.rows.foreign.get_mut(&1).unwrap().entry.finish_read(permit, ReadFound::Row);
    assert_eq!(a.flush(1), 1);
}

#[test]
fn a_parked_request_that_is_no_good_takes_no_other_with_it() {
    let mut b = Node::new(1, RECORD);
    b.rows.busy = Some(3);
    b.take(0, &updates(1, &[3], &[1, 2, 3])).unwrap();
    b.take(0, &updates(2, &[3], &9_u64.to_le_bytes())).unwrap();
    b.rows.busy = None;
    let fault = b.machine.settle(7, &mut b.rows, &mut b.links).unwrap_err();
    assert_eq!((fault.culprit(), b.rows.live[&3], b.machine.parked()), (Rank(0), 9, 0));
}

fn number(record: &[u8]) -> u32 {
    match Record::decode(record).unwrap() {
        Record::Answer(answer) => answer.number,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_peer_that_breaks_the_protocol_is_named() {
    let mut b = Node::new(1, RECORD);
    let from = Rank(0);
    let one = 1_u64.to_le_bytes();
    assert_eq!(
        b.take(0, &updates(1, &[1], &[1, 2, 3])),
        Err(PeerFault::Payload { from, row: row(1) })
    );
    assert_eq!(b.take(0, &updates(2, &[KEYS], &one)), Err(PeerFault::Row { from, row: row(KEYS) }));
    assert!(matches!(b.take(0, &[1, 2, 3]), Err(PeerFault::Decode { .. })));
    let mut buffer = [0; 256];
    let mut writer = Writer::new(&mut buffer, Kind::Answer, TableId(0), 99);
    assert!(writer.answer(1, &[]));
    assert_eq!(b.take(0, writer.finish()), Err(PeerFault::Answer { from, number: 99 }));
    let mut writer = Writer::new(&mut buffer, Kind::Answer, TableId(0), 99);
    assert!(writer.answer(1, &[(0, Nack { next: Rank(2), epoch: Epoch::FIRST })]));
    assert_eq!(b.take(0, writer.finish()), Err(PeerFault::Rank { from, rank: Rank(2) }));
}

#[test]
fn more_requests_than_allowed_are_refused_and_nothing_grows() {
    let mut b = Node::new(1, RECORD);
    b.links.closed = true;
    let most = u32::try_from(REQUESTS_MAX).unwrap();
    for number in 0..most {
        b.take(0, &updates(number, &[1], &1_u64.to_le_bytes())).unwrap();
        b.settle();
    }
    let fault = Err(PeerFault::Requests { from: Rank(0) });
    assert_eq!(b.take(0, &updates(most, &[1], &1_u64.to_le_bytes())), fault);
    let mut b = Node::new(1, RECORD);
    b.take(0, &updates(5, &[1], &1_u64.to_le_bytes())).unwrap();
    assert_eq!(b.take(0, &updates(5, &[1], &1_u64.to_le_bytes())), fault, "a number twice");
}

#[test]
fn what_waits_names_its_peer_and_a_loss_ends_it_without_losing_updates() {
    let mut a = Node::new(0, RECORD);
    a.rows.push(1, 10);
    a.rows.push(3, 20);
    a.flush(1);
    a.rows.push(1, 5);
    let waiting: Vec<_> = a.machine.waiting().collect();
    assert_eq!(waiting.len(), 1);
    assert_eq!((waiting[0].peer, waiting[0].keys, waiting[0].since_ns), (Rank(1), 2, 5));
    assert_eq!(waiting[0].to_string(), "rank 1 (Ack of Update 1, 2 keys)");
    assert_eq!(a.machine.peer_lost(Rank(1), &mut a.rows), 2);
    assert_eq!(a.machine.waiting().count(), 0);
    assert_eq!((a.rows.foreign[&1].accumulator, a.rows.foreign[&3].accumulator), (15, 20));
    a.rows.push(3, 1);
    assert_eq!(a.flush(1), 0, "nothing is sent to the lost");
    a.take(1, &[0xFF]).expect("nothing of the lost is read");
}

#[test]
fn answers_to_what_a_lost_peer_had_passed_on_are_nobodys_fault() {
    let mut a = Node::among(3, 0, RECORD);
    let keys = [1, 4, 7];
    for key in keys {
        a.rows.push(key, 1);
        a.rows.foreign.get_mut(&key).unwrap().entry.want_acquire();
    }
    assert_eq!(a.flush(1), 3);
    let number = a.machine.last_number();
    let (_, asked) = a.links.sent.pop_back().expect("an Acquire");
    assert!(matches!(Record::decode(&asked), Ok(Record::Acquire(_))));
    assert_eq!(a.machine.peer_lost(Rank(1), &mut a.rows), 3);

    // Rank 2 had been asked in turn, and answers when rank 1 is gone already.
    let (epoch, next, uses) = (Epoch::FIRST.next(), Rank(2), 3);
    let row = &5_u64.to_le_bytes();
    let mut buffer = [0; 256];
    for kind in [Kind::GrantShare, Kind::GrantMove, Kind::Refuse] {
        let mut writer = Writer::new(&mut buffer, kind, TableId(0), number);
        for key in keys.map(Key) {
            let holders = Holders::default();
            let grant =
                Grant { key, epoch, slot: SlotId(0), version: 0, board: 0, holders, row: None };
            let fits = if kind == Kind::Refuse {
                writer.refusal(&Refusal { key, next, epoch, uses })
            } else {
                writer.grant(&grant, &[], |room| {
                    room[..8].copy_from_slice(row);
                    Some((8, 0, false))
                })
            };
            assert!(fits);
        }
        a.take(2, writer.finish()).expect("rank 2 did nothing wrong");
    }
    assert!(keys.iter().all(|key| a.rows.foreign[key].entry.state() == EntryState::Remote));
    assert_eq!(a.rows.foreign[&1].accumulator, 1);
}

#[test]
fn snapshot_rows_come_from_the_owner_and_wait_for_the_link() {
    let mut b = Node::new(1, RECORD);
    b.rows.live.insert(3, 33);
    let mut buffer = [0; 256];
    let mut writer = Writer::new(&mut buffer, Kind::SnapshotRead, TableId(0), 4);
    assert!(writer.key(Key(3)) && writer.key(Key(2)));
    b.links.closed = true;
    b.take(0, writer.finish()).unwrap();
    assert_eq!(b.machine.parked(), 2);
    b.links.closed = false;
    b.settle();
    let (_, record) = b.links.sent.pop_front().unwrap();
    let Record::SnapshotRows(rows) = Record::decode(&record).unwrap() else { panic!() };
    let rows: Vec<_> = rows.iter().map(|item| (item.key.0, item.row.to_vec())).collect();
    assert_eq!(rows, [(3, 33_u64.to_le_bytes().to_vec()), (2, vec![])]);
}

#[test]
fn a_set_is_ordered_by_the_owner_and_cannot_be_read_until_its_ack() {
    let (mut a, mut b) = (Node::new(0, RECORD), Node::new(1, RECORD));
    a.rows.push(1, 10);
    a.flush(1);
    carry(&mut a, &mut b);
    carry(&mut b, &mut a);
    let private = a.rows.foreign.get_mut(&1).unwrap();
    private.entry.want_set();
    assert_eq!(private.entry.pull(false), sterna_protocol::entry::Pull::Wait);
    a.rows.push(1, 4);
    assert_eq!(a.flush(1), 1);
    carry(&mut a, &mut b);
    assert_eq!(b.rows.live[&1], 7);
    carry(&mut b, &mut a);
    assert!(!a.rows.foreign[&1].entry.setting());
    a.flush(1);
    carry(&mut a, &mut b);
    assert_eq!(b.rows.live[&1], 11, "what was pushed after the set comes after it");
}

#[test]
fn classic_refuses_every_acquire_and_the_key_is_remote_again() {
    let (mut a, mut b) = (Node::new(0, RECORD), Node::new(1, RECORD));
    a.rows.push(1, 1);
    a.flush(1);
    carry(&mut a, &mut b);
    carry(&mut b, &mut a);
    a.rows.foreign.get_mut(&1).unwrap().entry.want_acquire();
    a.rows.push(1, 1);
    assert_eq!(a.flush(1), 1);
    assert_eq!(a.rows.foreign[&1].entry.state(), EntryState::Pending);
    carry(&mut a, &mut b);
    carry(&mut b, &mut a);
    assert_eq!(a.rows.foreign[&1].entry.state(), EntryState::Remote);
    assert_eq!(a.machine.unanswered(Rank(1)), 0);
}

/// A record of any kind with plausible content.
fn record() -> impl Strategy<Value = Vec<u8>> {
    let item = (0_u64..12, 0_u32..4, 0_u16..4, 0_u8..12);
    let items = proptest::collection::vec(item, 1..6);
    (1_u8..=13, 0_u32..4, items).prop_map(|(kind, number, items)| {
        let mut buffer = vec![0; RECORD];
        let table = TableId(0);
        let start = |kind, buffer| Writer::new(buffer, kind, table, number);
        let payload = |length: u8| {
            move |room: &mut [u8]| {
                let length = if length == 11 { 3 } else { 8 };
                room[..length].fill(1);
                Some(length)
            }
        };
        let kinds = [Kind::Update, Kind::Release, Kind::Set];
        let grants = [Kind::GrantShare, Kind::GrantMove];
        let mut writer = match kind {
            1..=3 => start(kinds[usize::from(kind) - 1], &mut buffer),
            4 => start(Kind::Answer, &mut buffer),
            5 => start(Kind::Acquire, &mut buffer),
            6 | 7 => start(grants[usize::from(kind) - 6], &mut buffer),
            8 => start(Kind::Refuse, &mut buffer),
            9 => start(Kind::Location, &mut buffer),
            10 | 11 => start(Kind::Where, &mut buffer),
            _ => start(Kind::SnapshotRead, &mut buffer),
        };
        let count = u32::try_from(items.len()).unwrap();
        for (index, (key, epoch, rank, length)) in (0_u16..).zip(items) {
            let (key, epoch, rank) = (Key(key), Epoch::new(epoch), Rank(rank));
            let slot = SlotId(0);
            match writer.kind() {
                Kind::Answer => {
                    let nack = (index, Nack { next: rank, epoch });
                    writer
                        .answer(count, if length < 6 { &[] } else { std::slice::from_ref(&nack) });
                    break;
                }
                Kind::Acquire => {
                    let (requester, held) = (rank, None);
                    let (uses, span, writes, force) = (1, 1, true, length % 2 == 0);
                    let acquire =
                        Acquire { key, epoch, slot, requester, uses, span, writes, force, held };
                    writer.acquire(&acquire);
                }
                Kind::GrantShare | Kind::GrantMove => {
                    let holders = Holders::default();
                    let grant =
                        Grant { key, epoch, slot, version: 0, board: 0, holders, row: None };
                    let write = payload(length);
                    writer
                        .grant(&grant, &[rank], |room| write(room).map(|it| (it, 1, length == 9)));
                }
                Kind::Refuse => {
                    let refusal = Refusal { key, next: rank, epoch, uses: 1 };
                    writer.refusal(&refusal);
                }
                Kind::Location => {
                    writer.location(&sterna_protocol::record::Location { key, epoch, slot });
                }
                Kind::Where | Kind::SnapshotRead => {
                    writer.key(key);
                }
                _ => {
                    writer.update(key, epoch, payload(length));
                }
            }
        }
        writer.finish().to_vec()
    })
}

proptest! {
    #[test]
    fn whatever_a_peer_sends_the_machine_stays_whole(
        records in proptest::collection::vec(record(), 1..60),
        acquires in proptest::collection::vec(0_u64..12, 0..6),
        closed in any::<bool>(),
    ) {
        let mut a = Node::new(0, RECORD);
        for key in acquires {
            if key % 2 == 1 {
                a.rows.push(key, 1);
                a.rows.foreign.get_mut(&key).unwrap().entry.want_acquire();
            }
        }
        a.flush(1);
        a.links.closed = closed;
        for record in records {
            // A fault would end the connection; going on is harsher.
            let _ = a.take(1, &record);
            let _ = a.machine.settle(7, &mut a.rows, &mut a.links);
            a.flush(1);
        }
        prop_assert!(a.machine.unanswered(Rank(1)) <= REQUESTS_MAX);
        a.machine.peer_lost(Rank(1), &mut a.rows);
        prop_assert_eq!(a.machine.waiting().count(), 0);
    }
}
