//! What will happen, in order of virtual time, and the trace of what did happen.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// Number of past events kept for a failure's report.
const TRACE_EVENTS: usize = 128;

/// Something that happens at a virtual time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    /// What was sent on this link reaches the receiver.
    Arrive { link: u32 },
    /// The consumer's counter reaches the sender of this link.
    Credit { link: u32 },
    /// A READ does its next step: a fetch from memory, or its completion.
    Read { read: u32, generation: u32 },
    /// A stalled node goes on.
    Resume { rank: u16 },
}

/// The events to come and a digest of those that were.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    /// Ordered by time, then by the order in which they were planned.
    queue: BinaryHeap<Reverse<(u64, u64, Event)>>,
    planned: u64,
    happened: u64,
    digest: u64,
    recent: VecDeque<(u64, Event)>,
}

impl Agenda {
    pub(super) fn plan(&mut self, at_ns: u64, event: Event) {
        self.queue.push(Reverse((at_ns, self.planned, event)));
        self.planned += 1;
    }

    /// Time of the next event.
    pub(super) fn next_ns(&self) -> Option<u64> {
        self.queue.peek().map(|Reverse((at_ns, _, _))| *at_ns)
    }

    /// Takes the next event.
    pub(super) fn take(&mut self) -> Option<(u64, Event)> {
        let Reverse((at_ns, _, event)) = self.queue.pop()?;
        self.happened += 1;
        let (kind, subject) = match event {
            Event::Arrive { link } => (1, link),
            Event::Credit { link } => (2, link),
            Event::Read { read, .. } => (3, read),
            Event::Resume { rank } => (4, u32::from(rank)),
        };
        self.note(at_ns);
        self.note(kind << 32 | u64::from(subject));
        if self.recent.len() == TRACE_EVENTS {
            self.recent.pop_front();
        }
        self.recent.push_back((at_ns, event));
        Some((at_ns, event))
    }

    /// Adds a fact to the digest of the trace.
    pub(super) fn note(&mut self, fact: u64) {
        self.digest = (self.digest.rotate_left(5) ^ fact).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    pub(super) fn digest(&self) -> u64 {
        self.digest
    }

    pub(super) fn happened(&self) -> u64 {
        self.happened
    }

    pub(super) fn recent(&self) -> impl Iterator<Item = &(u64, Event)> {
        self.recent.iter()
    }
}
