//! Which READs of a node are under way, told in memory that peers read.
//!
//! A device fetches the lines of a READ in any order and looks at no header twice. So a slot that a row has left is used for another
//! one only when every READ has ended that was posted before. For each lane there is a *generation*: READs count in the one in which
//! they are posted, and it moves on when those of the one before have all ended. Who sees a lane without READs, or its generation two
//! further than at first, knows that all READs have ended that were posted when it looked first.
//!
//! ```text
//!  line of a lane, 64 bytes:
//!  0                            8                   16
//! +-----------------+--------+---------------------+-----
//! | generation:63   | busy:1 | the same, inverted  |         zeroes: never used
//! +-----------------+--------+---------------------+-----
//! ```
//!
//! Devices in software copy byte by byte, so the word comes twice: what agrees is whole.

use crate::memory::{ChunkMemory, word};
use crate::sync::{Ordering, fence};

/// Bytes of a lane in a page.
const LANE_BYTES: usize = 64;

/// Bytes that a page needs for so many lanes.
#[must_use]
pub const fn clock_page_bytes(lanes: usize) -> usize {
    lanes * LANE_BYTES
}

/// A lane's own side: counts its READs and tells of them.
#[derive(Debug)]
pub struct ReadClock {
    page: ChunkMemory,
    offset: usize,
    generation: u64,
    /// READs under way, by the low bit of their generation.
    open: [u32; 2],
}

impl ReadClock {
    /// That of the lane of this number; one that had the number before is gone.
    #[must_use]
    pub fn new(page: ChunkMemory, lane: usize) -> Self {
        let offset = lane * LANE_BYTES;
        assert!(offset + LANE_BYTES <= page.bytes(), "a lane of the page");
        // SAFETY: inside the page, whose lanes are only reached as words.
        let before = unsafe { word(page.base(), offset) }.load(Ordering::Relaxed);
        Self { page, offset, generation: before / 2 + 2, open: [0; 2] }
    }

    /// A READ is about to be posted. Gives the low bit of its generation, for [`ReadClock::end`].
    #[inline]
    pub fn begin(&mut self) -> bool {
        if self.open == [0; 2] {
            self.tell(true);
        }
        let odd = self.generation & 1 == 1;
        self.open[usize::from(odd)] += 1;
        odd
    }

    /// A READ has ended, or was not posted after all.
    #[inline]
    pub fn end(&mut self, odd: bool) {
        self.open[usize::from(odd)] -= 1;
        if self.open == [0; 2] {
            self.generation += 2;
            self.tell(false);
        } else if self.open[usize::from(self.generation & 1 == 0)] == 0 {
            self.generation += 1;
            self.tell(true);
        }
    }

    fn tell(&self, busy: bool) {
        let told = self.generation << 1 | u64::from(busy);
        // SAFETY: as in `new`.
        let (first, second) = unsafe {
            (word(self.page.base(), self.offset), word(self.page.base(), self.offset + 8))
        };
        first.store(told, Ordering::Release);
        second.store(!told, Ordering::Release);
        // What is posted from here on is posted after this is there to be read.
        fence(Ordering::SeqCst);
    }
}

impl Drop for ReadClock {
    /// Its lane is gone, and the READs with it.
    fn drop(&mut self) {
        self.generation += 2;
        self.tell(false);
    }
}

/// What a peer has read of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneSeen {
    /// No READ was under way.
    Idle,
    /// READs were, and this was the generation.
    Busy(u64),
    /// It was being written.
    Unclear,
}

/// The lanes of a page as it was read.
pub fn lanes_seen(page: &[u8]) -> impl Iterator<Item = LaneSeen> {
    page.chunks_exact(LANE_BYTES).map(|lane| {
        let word = |at: usize| u64::from_le_bytes(lane[at..at + 8].try_into().expect("8 bytes"));
        match (word(0), word(8)) {
            (0, 0) => LaneSeen::Idle,
            (told, inverted) if told != !inverted => LaneSeen::Unclear,
            (told, _) if told & 1 == 0 => LaneSeen::Idle,
            (told, _) => LaneSeen::Busy(told >> 1),
        }
    })
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn page(lanes: usize) -> ChunkMemory {
        ChunkMemory::heap(clock_page_bytes(lanes))
    }

    fn look(page: &ChunkMemory) -> Vec<LaneSeen> {
        let mut bytes = Vec::new();
        for at in (0..page.bytes()).step_by(8) {
            // SAFETY: inside the page.
            let value = unsafe { word(page.base(), at) }.load(Ordering::Acquire);
            bytes.extend(value.to_le_bytes());
        }
        lanes_seen(&bytes).collect()
    }

    #[test]
    fn a_lane_is_busy_while_it_reads_and_a_later_one_goes_on_where_it_ended() {
        let page = page(2);
        assert_eq!(look(&page), [LaneSeen::Idle; 2]);
        let mut clock = ReadClock::new(page.clone(), 1);
        let odd = clock.begin();
        let LaneSeen::Busy(generation) = look(&page)[1] else { panic!("busy") };
        drop(clock);
        assert_eq!(look(&page), [LaneSeen::Idle; 2]);
        let mut next = ReadClock::new(page.clone(), 1);
        next.begin();
        assert!(matches!(look(&page)[1], LaneSeen::Busy(later) if later >= generation + 2));
        next.end(odd);
        assert_eq!(look(&page)[1], LaneSeen::Idle);
    }

    #[test]
    fn what_is_being_written_is_seen_as_such() {
        let lane = |word: u64, inverted: u64| {
            let mut bytes = [0; LANE_BYTES];
            bytes[..8].copy_from_slice(&word.to_le_bytes());
            bytes[8..16].copy_from_slice(&inverted.to_le_bytes());
            lanes_seen(&bytes).next().expect("one lane")
        };
        assert_eq!(lane(0x1ff, !0x1fe), LaneSeen::Unclear);
        assert_eq!(lane(0x1ff, !0x1ff), LaneSeen::Busy(0xff));
        assert_eq!(lane(0x200, !0x200), LaneSeen::Idle);
    }

    proptest! {
        /// READs begin and end in any order; whoever looks first and sees no READ, or later two generations more, is right.
        #[test]
        fn two_generations_later_all_earlier_reads_have_ended(
            steps in prop::collection::vec((0_u8..3, any::<prop::sample::Index>()), 1..300),
        ) {
            let page = page(1);
            let mut clock = ReadClock::new(page.clone(), 0);
            let mut open: Vec<(bool, u32)> = Vec::new();
            let mut begun = 0_u32;
            // What was seen, and how many READs had begun by then.
            let mut looks: Vec<(u64, u32)> = Vec::new();
            for (step, index) in steps {
                match step {
                    0 => {
                        open.push((clock.begin(), begun));
                        begun += 1;
                    }
                    1 if !open.is_empty() => {
                        let (odd, _) = open.swap_remove(index.index(open.len()));
                        clock.end(odd);
                    }
                    _ => {}
                }
                let oldest = open.iter().map(|&(_, number)| number).min();
                match look(&page)[0] {
                    LaneSeen::Idle => prop_assert_eq!(oldest, None),
                    LaneSeen::Busy(now) => {
                        for &(seen, before) in &looks {
                            let passed = now >= seen + 2;
                            prop_assert!(!passed || oldest.is_none_or(|oldest| oldest >= before));
                        }
                        looks.push((now, begun));
                    }
                    LaneSeen::Unclear => prop_assert!(false, "nobody writes"),
                }
            }
        }

        /// As long as READs end, generations go on, whoever else begins meanwhile.
        #[test]
        fn a_lane_that_is_never_idle_goes_on(width in 1_usize..8) {
            let page = page(1);
            let mut clock = ReadClock::new(page.clone(), 0);
            let mut open: std::collections::VecDeque<bool> = (0..width).map(|_| clock.begin()).collect();
            let LaneSeen::Busy(first) = look(&page)[0] else { panic!("busy") };
            for _ in 0..4 * width {
                open.push_back(clock.begin());
                clock.end(open.pop_front().expect("some"));
            }
            prop_assert!(matches!(look(&page)[0], LaneSeen::Busy(now) if now >= first + 2));
        }
    }
}
