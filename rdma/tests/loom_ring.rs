//! Every interleaving of a small ring's two sides, with loom's memory: `ci/loom` runs this.
#![cfg(loom)]

#[allow(dead_code, reason = "the ring's own sources, of which this uses a part")]
#[path = "../src/ring/mod.rs"]
mod ring;
#[allow(unused_imports, reason = "as above")]
#[path = "../src/sync.rs"]
mod sync;

use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicBool, Ordering, fence};
use loom::thread;
use ring::{Limits, Memory, PushError, Receiver, Sender, Words};

/// Data whose every access is checked for races.
struct Data {
    words: Words,
    bytes: Vec<UnsafeCell<u8>>,
}

#[derive(Clone)]
struct Checked(Arc<Data>);

// SAFETY: loom's cells report unordered accesses; finding them is the purpose.
unsafe impl Send for Checked {}

impl Memory for Checked {
    fn words(&self) -> &Words {
        &self.0.words
    }

    fn store(&self, offset: usize, bytes: &[u8]) {
        for (cell, &byte) in self.0.bytes[offset..offset + bytes.len()].iter().zip(bytes) {
            // SAFETY: loom fails the test if another thread's access is not ordered with this one.
            cell.with_mut(|cell| unsafe { *cell = byte });
        }
    }

    fn load(&self, offset: usize, to: &mut [u8]) {
        let len = to.len();
        for (cell, byte) in self.0.bytes[offset..offset + len].iter().zip(to) {
            // SAFETY: as above.
            *byte = cell.with(|cell| unsafe { *cell });
        }
    }
}

fn ring(limits: Limits) -> (Sender<Checked>, Receiver<Checked>) {
    let bytes = (0..limits.bytes).map(|_| UnsafeCell::new(0)).collect();
    let memory = Checked(Arc::new(Data { words: Words::default(), bytes }));
    (Sender::new(memory.clone(), limits), Receiver::new(memory, limits))
}

#[test]
fn records_arrive_whole_in_order_once_through_wrap_and_full() {
    loom::model(|| {
        // Two records fit; the third waits for credit, and one of them wraps.
        let (mut sender, mut receiver) = ring(Limits { bytes: 32, records: 2, record_bytes: 8 });
        let sending = thread::spawn(move || {
            for value in 1..=3_u8 {
                loop {
                    match sender.try_push(&[&[value; 5]]) {
                        Ok(()) => break,
                        Err(PushError::Full) => thread::yield_now(),
                        Err(PushError::Broken(broken)) => panic!("{broken}"),
                    }
                }
            }
        });
        let mut record = [0; 8];
        for value in 1..=3_u8 {
            loop {
                if let Some(len) = receiver.try_pop(&mut record).expect("an honest sender") {
                    assert_eq!(record[..len], [value; 5]);
                    receiver.return_credit();
                    break;
                }
                thread::yield_now();
            }
        }
        sending.join().expect("the sender ends");
        assert_eq!(receiver.try_pop(&mut record), Ok(None));
    });
}

#[test]
fn a_record_is_seen_before_sleep_or_its_sender_rings_the_bell() {
    loom::model(|| {
        let (mut sender, mut receiver) = ring(Limits { bytes: 32, records: 2, record_bytes: 8 });
        let bell = Arc::new(AtomicBool::new(false));
        let sending = thread::spawn({
            let bell = Arc::clone(&bell);
            move || {
                sender.try_push(&[b"x"]).expect("room");
                if sender.must_wake() {
                    bell.store(true, Ordering::Release);
                }
            }
        });
        receiver.fall_asleep();
        fence(Ordering::SeqCst);
        let seen = receiver.has_record().expect("an honest sender");
        sending.join().expect("the sender ends");
        assert!(seen || bell.load(Ordering::Acquire), "asleep for ever with a record in the ring");
    });
}
