use super::*;

const OWNER: Rank = Rank(1);

fn entry() -> Entry {
    Entry::new(OWNER, Epoch::FIRST, 7)
}

fn read(entry: &mut Entry, second_try: bool) -> ReadPermit {
    match entry.pull(second_try) {
        Pull::Read(permit) => permit,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_read_that_a_flush_overtook_does_not_count() {
    let mut entry = entry();
    let permit = read(&mut entry, false);
    assert_eq!(entry.next_exchange(true), Some(ExchangeKind::Flush));
    entry.begin(ExchangeKind::Flush, 1);
    assert_eq!(entry.pull(false), Pull::Wait);
    assert_eq!(entry.acked(1), Some(ExchangeKind::Flush));
    assert_eq!(entry.finish_read(permit, ReadFound::Row), ReadVerdict::Repeat);
    let permit = read(&mut entry, false);
    assert_eq!(entry.finish_read(permit, ReadFound::Row), ReadVerdict::Accept);
}

#[test]
fn a_second_try_holds_the_flush_back_and_the_flush_goes_before_the_next_one() {
    let mut entry = entry();
    let permit = read(&mut entry, true);
    assert_eq!(entry.next_exchange(true), None);
    assert!(!entry.needs_engine(true), "listed again when the READ is done");
    assert_eq!(entry.pull(true), Pull::Wait, "no chain of second tries");
    assert_eq!(entry.finish_read(permit, ReadFound::Row), ReadVerdict::Accept);
    assert!(entry.needs_engine(true));
    assert_eq!(entry.pull(true), Pull::Wait);
    assert_eq!(entry.next_exchange(true), Some(ExchangeKind::Flush));
    entry.begin(ExchangeKind::Flush, 1);
    assert_eq!(entry.acked(1), Some(ExchangeKind::Flush));
    let _ = read(&mut entry, true);
}

#[test]
fn an_intent_that_ends_before_its_room_was_found_bars_no_second_try() {
    let mut entry = entry();
    entry.want_acquire();
    let permit = read(&mut entry, true);
    assert_eq!(entry.next_exchange(false), None);
    entry.want_release();
    assert_eq!(entry.finish_read(permit, ReadFound::Nothing), ReadVerdict::Repeat);
    let _ = read(&mut entry, true);
}

#[test]
fn a_share_that_nobody_wants_any_more_is_given_back() {
    let mut entry = entry();
    entry.want_acquire();
    entry.begin(ExchangeKind::Acquire, 3);
    assert_eq!(entry.state(), EntryState::Pending);
    assert!(!entry.want_release());
    assert_eq!(entry.shared(3, OWNER, Epoch::FIRST), Some(false));
    assert_eq!(entry.next_exchange(false), Some(ExchangeKind::Release));
}

#[test]
fn only_the_answer_with_its_number_ends_an_exchange() {
    let mut entry = entry();
    entry.begin(ExchangeKind::Flush, 5);
    assert_eq!(entry.acked(4), None);
    assert_eq!(entry.nacked(6, Rank(2), Epoch::FIRST.next()), None);
    assert_eq!(entry.shared(5, OWNER, Epoch::FIRST), None);
    assert_eq!((entry.owner(), entry.exchange().is_some()), (OWNER, true));
    assert_eq!(entry.nacked(5, Rank(2), Epoch::FIRST.next()), Some(ExchangeKind::Flush));
    assert_eq!(entry.owner(), Rank(2));
}

#[test]
fn older_news_of_an_owner_is_not_taken() {
    let mut entry = Entry::new(OWNER, Epoch::new(5), 0);
    let permit = read(&mut entry, false);
    let moved = ReadFound::Moved { next: Rank(2), epoch: Epoch::new(4) };
    assert_eq!(entry.finish_read(permit, moved), ReadVerdict::Repeat);
    assert_eq!((entry.owner(), entry.epoch()), (OWNER, Epoch::new(5)));
    assert!(entry.learn(Rank(2), Epoch::new(6)));
    assert!(!entry.learn(Rank(3), Epoch::new(6)));
}
