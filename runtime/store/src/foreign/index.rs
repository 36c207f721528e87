//! Open addressing over words that readers probe without a lock: over entries, and over slots.
//!
//! A word is 0 or `tag << 32 | cell + 1`; the tag's low bits give the place where probing starts. Only
//! the holder of the shard's lock writes. A reader that races with a removal (which shifts later words
//! back) or with growth (old indexes stay until the end) may miss a key; it never takes a wrong one,
//! because it compares the key in the cell. A miss is repeated under the shard's lock.

use crate::sync::{AtomicU64, Ordering};

pub(crate) struct Index {
    words: Box<[AtomicU64]>,
}

impl Index {
    pub(crate) fn new(len: usize) -> Self {
        assert!(len.is_power_of_two());
        Self { words: (0..len).map(|_| AtomicU64::new(0)).collect() }
    }

    pub(crate) fn len(&self) -> usize {
        self.words.len()
    }

    /// The cells that may hold a key with this tag, first to last.
    #[expect(clippy::cast_possible_truncation, reason = "the cell is the low half")]
    pub(crate) fn candidates(&self, tag: u32) -> impl Iterator<Item = u32> + '_ {
        (0..self.len())
            .map(move |step| self.words[self.wrap(tag as usize + step)].load(Ordering::Relaxed))
            .take_while(|&word| word != 0)
            .filter(move |&word| tag_of(word) == tag)
            .map(|word| word as u32 - 1)
    }

    /// Starts loading the words that probing begins with.
    #[inline]
    pub(crate) fn prefetch(&self, tag: u32) {
        let first = &self.words[self.wrap(tag as usize)];
        crate::prefetch::read(std::ptr::from_ref(first).cast());
    }

    /// Adds a word; there is room for it.
    pub(crate) fn insert(&self, tag: u32, cell: u32) {
        let place = (0..self.len())
            .map(|step| self.wrap(tag as usize + step))
            .find(|&place| self.words[place].load(Ordering::Relaxed) == 0)
            .expect("an index is at most half full");
        let word = u64::from(tag) << 32 | u64::from(cell + 1);
        self.words[place].store(word, Ordering::Relaxed);
    }

    /// Removes a word and moves back those behind it that its place kept from theirs.
    pub(crate) fn remove(&self, tag: u32, cell: u32) {
        let wanted = u64::from(tag) << 32 | u64::from(cell + 1);
        let mut hole = (0..self.len())
            .map(|step| self.wrap(tag as usize + step))
            .find(|&place| self.words[place].load(Ordering::Relaxed) == wanted)
            .expect("a cell in use is in the index");
        let mut place = hole;
        loop {
            place = self.wrap(place + 1);
            let word = self.words[place].load(Ordering::Relaxed);
            if word == 0 {
                break;
            }
            let start = self.wrap(tag_of(word) as usize);
            // The word may move back to the hole unless its own start lies behind the hole.
            if self.wrap(place.wrapping_sub(start)) >= self.wrap(place.wrapping_sub(hole)) {
                self.words[hole].store(word, Ordering::Relaxed);
                hole = place;
            }
        }
        self.words[hole].store(0, Ordering::Relaxed);
    }

    /// The same words in twice the room.
    #[expect(clippy::cast_possible_truncation, reason = "the cell is the low half")]
    pub(crate) fn doubled(&self) -> Self {
        let larger = Self::new(self.len() * 2);
        for word in &self.words {
            let word = word.load(Ordering::Relaxed);
            if word != 0 {
                larger.insert(tag_of(word), word as u32 - 1);
            }
        }
        larger
    }

    fn wrap(&self, place: usize) -> usize {
        place & (self.len() - 1)
    }
}

fn tag_of(word: u64) -> u32 {
    (word >> 32) as u32
}
