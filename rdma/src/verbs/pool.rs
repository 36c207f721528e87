//! Where the READs of a lane land: a ring of bytes, given out in order and free again in order.

use std::collections::VecDeque;

/// READs start at cache lines.
const LINE_BYTES: usize = 64;

/// Which parts of a pool are in use. It knows offsets only, no memory.
#[derive(Debug)]
pub(super) struct Pool {
    bytes: usize,
    /// Bytes given out and free again since the start, skipped ones included.
    taken: u64,
    freed: u64,
    /// Parts in the order in which they were given out: their end, and whether they are free again.
    parts: VecDeque<(u64, bool)>,
    /// Number of the first of `parts`.
    first: u64,
}

/// A part of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    number: u64,
    /// Its first byte.
    pub(super) offset: usize,
}

impl Pool {
    pub(super) fn new(bytes: usize) -> Self {
        assert!(bytes.is_power_of_two());
        Self { bytes, taken: 0, freed: 0, parts: VecDeque::new(), first: 0 }
    }

    /// A part of `len` bytes, if there is room.
    pub(super) fn take(&mut self, len: usize) -> Option<Part> {
        let len = len.next_multiple_of(LINE_BYTES);
        let start = usize::try_from(self.taken & (self.bytes as u64 - 1)).expect("in the pool");
        let to_end = self.bytes - start;
        let (skipped, offset) = if len <= to_end { (0, start) } else { (to_end, 0) };
        let end = self.taken + (skipped + len) as u64;
        if end - self.freed > self.bytes as u64 {
            return None;
        }
        self.taken = end;
        self.parts.push_back((end, false));
        Some(Part { number: self.first + self.parts.len() as u64 - 1, offset })
    }

    /// Takes a part back.
    pub(super) fn give_back(&mut self, part: Part) {
        let at = usize::try_from(part.number - self.first).expect("few parts");
        assert!(!self.parts[at].1, "a part is given back once");
        self.parts[at].1 = true;
        while let Some(&(end, true)) = self.parts.front() {
            self.freed = end;
            self.parts.pop_front();
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_pool_can_be_used_up_exactly_and_again() {
        let mut pool = Pool::new(4096);
        for _ in 0..3 {
            let parts: Vec<_> = (0..4).map(|_| pool.take(1024).expect("room")).collect();
            assert_eq!(pool.take(8), None);
            // Not in order.
            for at in [2, 0, 3, 1] {
                pool.give_back(parts[at]);
            }
        }
    }

    proptest! {
        #[test]
        fn parts_in_use_never_overlap(steps in prop::collection::vec((1_usize..900, any::<u8>()), 1..300)) {
            let mut pool = Pool::new(4096);
            let mut used: Vec<(Part, usize)> = Vec::new();
            for (len, choice) in steps {
                if let Some(part) = pool.take(len) {
                    prop_assert!(part.offset.is_multiple_of(LINE_BYTES) && part.offset + len <= 4096);
                    for (other, bytes) in &used {
                        prop_assert!(
                            part.offset + len <= other.offset || other.offset + bytes <= part.offset
                        );
                    }
                    used.push((part, len));
                } else {
                    prop_assert!(!used.is_empty(), "an empty pool has room");
                    let (part, _) = used.swap_remove(usize::from(choice) % used.len());
                    pool.give_back(part);
                }
            }
        }
    }
}
