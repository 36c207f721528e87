//! The ring against a queue of byte strings: any mix of pushes and pops, through wrap-around and full.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use proptest::prelude::*;

use super::{Broken, Limits, Memory, PushError, Receiver, Sender, Words};
use crate::sync::Ordering;

#[derive(Clone)]
struct Heap(Rc<(Words, RefCell<Vec<u8>>)>);

impl Heap {
    fn new(bytes: usize) -> Self {
        Self(Rc::new((Words::default(), RefCell::new(vec![0; bytes]))))
    }
}

impl Memory for Heap {
    fn words(&self) -> &Words {
        &self.0.0
    }

    fn store(&self, offset: usize, bytes: &[u8]) {
        self.0.1.borrow_mut()[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    fn load(&self, offset: usize, to: &mut [u8]) {
        to.copy_from_slice(&self.0.1.borrow()[offset..offset + to.len()]);
    }
}

fn limits() -> Limits {
    Limits { bytes: 256, records: 6, record_bytes: 120 }
}

fn ring() -> (Heap, Sender<Heap>, Receiver<Heap>) {
    let heap = Heap::new(limits().bytes);
    (heap.clone(), Sender::new(heap.clone(), limits()), Receiver::new(heap, limits()))
}

/// One step: a push of so many bytes in two parts, or a pop, or giving credit back.
#[derive(Clone, Debug)]
enum Step {
    Push(usize, usize),
    Pop,
    Credit,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0_usize..=120, 0_usize..=120).prop_map(|(bytes, cut)| Step::Push(bytes, cut)),
        4 => Just(Step::Pop),
        2 => Just(Step::Credit),
    ];
    prop::collection::vec(step, 1..400)
}

proptest! {
    #[test]
    fn a_ring_delivers_what_a_queue_delivers(steps in steps()) {
        let (_, mut sender, mut receiver) = ring();
        let mut model = VecDeque::new();
        let mut record = vec![0; 120];
        let mut next = 0_u8;
        for step in steps {
            match step {
                Step::Push(bytes, cut) => {
                    next = next.wrapping_add(1);
                    let content: Vec<u8> = (0..bytes).map(|i| next ^ i.to_le_bytes()[0]).collect();
                    let cut = cut.min(bytes);
                    match sender.try_push(&[&content[..cut], &content[cut..]]) {
                        Ok(()) => model.push_back(content),
                        Err(PushError::Full) => {}
                        Err(PushError::Broken(broken)) => panic!("{broken}"),
                    }
                    prop_assert!(model.len() <= 6, "more records than the limit");
                }
                Step::Pop => {
                    let len = receiver.try_pop(&mut record).expect("an honest sender");
                    let got = len.map(|len| record[..len].to_vec());
                    prop_assert_eq!(got, model.pop_front());
                }
                Step::Credit => receiver.return_credit(),
            }
        }
        // Whatever happened, an emptied ring takes the largest record.
        while receiver.try_pop(&mut record).expect("an honest sender").is_some() {}
        receiver.return_credit();
        prop_assert_eq!(sender.try_push(&[&[7; 120]]), Ok(()));
    }

    #[test]
    fn whatever_lies_in_the_memory_never_harms_the_receiver(
        data in prop::collection::vec(any::<u8>(), 256),
        lens in prop::collection::vec(0_u8..140, 32),
        published in prop::collection::vec(0_u64..600, 1..20),
    ) {
        let (heap, _, mut receiver) = ring();
        heap.store(0, &data);
        // Plausible lengths and numbers make it past the first checks more often than noise does.
        for (i, &len) in lens.iter().enumerate() {
            if len < 130 {
                heap.store(i * 8, &u64::from(len).to_le_bytes());
            }
        }
        let mut record = vec![0; 120];
        for position in published {
            heap.words().published.0.store(position, Ordering::Relaxed);
            // A broken ring is never used again.
            while let Ok(Some(len)) = receiver.try_pop(&mut record) {
                prop_assert!(len <= 120);
            }
        }
    }
}

#[test]
fn the_record_limit_holds_and_credit_lifts_it() {
    let (_, mut sender, mut receiver) = ring();
    for _ in 0..6 {
        assert_eq!(sender.try_push(&[b"x"]), Ok(()));
    }
    assert_eq!(sender.try_push(&[b"x"]), Err(PushError::Full));
    let mut record = vec![0; 120];
    assert_eq!(receiver.try_pop(&mut record), Ok(Some(1)));
    receiver.return_credit();
    assert_eq!(sender.try_push(&[b"x"]), Ok(()));
}

#[test]
fn a_sender_that_lies_is_found_out() {
    let mut record = vec![0; 120];
    let mut receive = |published: u64, header: u64| {
        let (heap, _, mut receiver) = ring();
        heap.store(0, &header.to_le_bytes());
        heap.words().published.0.store(published, Ordering::Relaxed);
        receiver.try_pop(&mut record)
    };
    assert_eq!(receive(16, 4), Ok(Some(4)));
    for (published, header, what) in [
        (264, 0, "more than the ring holds"),
        (12, 0, "not a multiple of 8"),
        (u64::MAX - 7, 0, "backwards"),
        (16, 9, "longer than what was published"),
        (16, 121, "above the limit"),
        (16, 4 | 1 << 32, "the wrong number"),
        (16, u64::from(u32::MAX), "a skip at the start"),
    ] {
        assert!(matches!(receive(published, header), Err(Broken(_))), "{what}");
    }
}

#[test]
fn a_receiver_that_lies_about_credit_is_found_out() {
    for (bytes, records) in [(1 << 20, 0), (0, 100)] {
        let (heap, mut sender, _) = ring();
        while sender.try_push(&[b"full"]).is_ok() {}
        heap.words().consumed.0.bytes.store(bytes, Ordering::Relaxed);
        heap.words().consumed.0.records.store(records, Ordering::Relaxed);
        assert!(matches!(sender.try_push(&[b"x"]), Err(PushError::Broken(_))));
    }
}
