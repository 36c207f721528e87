//! What a node has seen of the board of one owner, and of which of the rows there it has replicas.

use std::collections::BTreeMap;

use sterna_rdma::RegionId;
use sterna_store::{EntryId, board_layout as layout};

/// Whether the board is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// There are no replicas of this owner's rows.
    Idle,
    /// A round is due at this time.
    Active { next_ns: u64 },
    /// A round is under way.
    Round,
    /// The owner tells of the next change.
    Armed,
}

/// A replica that is to be read anew: its place on the board and its entry, and a version that its row is known to have had.
#[derive(Clone, Copy, Debug)]
pub(super) struct Again {
    pub(super) place: u32,
    pub(super) entry: EntryId,
    pub(super) known: Option<u64>,
}

/// The rows of a page that have replicas here.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// The page's word when all below it had been looked at.
    pub(super) seen: Option<u64>,
    /// Places on the board, the entries of the replicas, and since when they are here.
    pub(super) rows: Vec<(u32, EntryId, u64)>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) board: Option<RegionId>,
    pub(super) mode: Mode,
    pub(super) pages: BTreeMap<u32, Page>,
    /// The words of the root when all below them had been looked at.
    sequence: Option<u64>,
    blocks: BTreeMap<u32, u64>,
    /// Replicas whose READ did not count, or that could not be read: next round, whatever the board says.
    pub(super) again: Vec<Again>,
    /// Whether the round under way has taken some of those along.
    pub(super) retries: bool,
    /// READs of the round that have not ended.
    pub(super) open: usize,
    /// The sequence that the round found.
    found: u64,
    quiet: u32,
    /// Rounds begun and ended.
    pub(super) begun: u64,
    pub(super) ended: u64,
    /// When the round under way began, and since when nothing is known to have changed: the begin of the round before, or when the owner
    /// told of the first change.
    pub(super) begun_ns: u64,
    pub(super) looked_ns: u64,
    /// Time spent on the round by this node, in nanoseconds.
    pub(super) spent_ns: u64,
}

impl Watch {
    pub(super) fn new() -> Self {
        Self {
            board: None,
            mode: Mode::Idle,
            pages: BTreeMap::new(),
            sequence: None,
            blocks: BTreeMap::new(),
            again: Vec::new(),
            retries: false,
            open: 0,
            found: 0,
            quiet: 0,
            begun: 0,
            ended: 0,
            begun_ns: 0,
            looked_ns: 0,
            spent_ns: 0,
        }
    }

    /// A replica has been set up. What changed before it was listed here may have been looked at already, so its page is looked at
    /// once more.
    pub(super) fn add(&mut self, place: u32, entry: EntryId, now_ns: u64) {
        let page = layout::above(place as usize);
        let block = layout::above(page);
        self.blocks.remove(&number(block));
        self.sequence = None;
        let page = self.pages.entry(number(page)).or_default();
        page.seen = None;
        page.rows.retain(|&(other, ..)| other != place);
        page.rows.push((place, entry, now_ns));
        self.wake(now_ns);
    }

    /// A round is due, unless one is under way.
    pub(super) fn wake(&mut self, now_ns: u64) {
        self.quiet = 0;
        if matches!(self.mode, Mode::Idle | Mode::Armed) && !self.pages.is_empty() {
            self.mode = Mode::Active { next_ns: now_ns };
        }
    }

    /// The next round is due now.
    pub(super) fn hurry(&mut self, now_ns: u64) {
        self.wake(now_ns);
        if let Mode::Active { next_ns } = &mut self.mode {
            *next_ns = now_ns;
        }
    }

    /// Takes the root's words, in whatever order they were fetched: their sum is the sequence up to which changes are known. Gives
    /// the blocks to be looked at.
    pub(super) fn root(&mut self, word: impl Fn(usize) -> u64) -> Vec<u32> {
        self.found = (0..layout::BLOCKS).map(&word).fold(0, u64::wrapping_add);
        let mut changed = Vec::new();
        let mut last = None;
        for &page in self.pages.keys() {
            let block = number(layout::above(page as usize));
            if last.replace(block) != Some(block) {
                let now = word(block as usize);
                if self.blocks.insert(block, now) != Some(now) {
                    changed.push(block);
                }
            }
        }
        changed
    }

    /// Takes the page words of a block. Gives the pages to be looked at, with their words.
    pub(super) fn block(&self, block: u32, word: impl Fn(usize) -> u64) -> Vec<(u32, u64)> {
        let first = block * number(layout::GROUP_BYTES / 8);
        let pages = self.pages.range(first..first + number(layout::GROUP_BYTES / 8));
        pages
            .map(|(&page, known)| (page, known.seen, word(layout::within(page as usize))))
            .filter(|&(_, seen, now)| seen != Some(now))
            .map(|(page, _, now)| (page, now))
            .collect()
    }

    /// All READs of the round have ended; `pause_ns` is how long to wait before the next one, `quiet_rounds` how many without a change
    /// are long enough. Gives the sequence to arm with, if
    /// nothing has changed for long enough.
    pub(super) fn end(&mut self, now_ns: u64, pause_ns: u64, quiet_rounds: u32) -> Option<u64> {
        self.ended = self.begun;
        self.retries = false;
        self.looked_ns = self.begun_ns;
        let calm = self.sequence == Some(self.found) && self.again.is_empty();
        if self.again.is_empty() {
            self.sequence = Some(self.found);
        }
        self.quiet = if calm { self.quiet + 1 } else { 0 };
        self.mode = Mode::Active { next_ns: now_ns + pause_ns };
        if self.pages.is_empty() {
            self.mode = Mode::Idle;
            self.again.clear();
        } else if self.quiet >= quiet_rounds {
            self.mode = Mode::Armed;
            return Some(self.found);
        }
        None
    }

    /// The owner is gone, and so many READs of it will not be posted: nothing is looked at once those under way have ended.
    pub(super) fn lose(&mut self, unposted: usize) {
        self.pages.clear();
        self.again.clear();
        self.open -= unposted;
        if self.open == 0 {
            self.mode = Mode::Idle;
        }
    }

    /// A part of the round failed: all is looked at again.
    pub(super) fn forget_seen(&mut self) {
        self.sequence = None;
        self.blocks.clear();
        self.pages.values_mut().for_each(|page| page.seen = None);
    }
}

fn number(of: usize) -> u32 {
    u32::try_from(of).expect("boards have 2^18 places")
}

#[cfg(test)]
mod tests {
    use sterna_protocol::{Key, TableId};
    use sterna_store::{ForeignKey, ForeignTable};

    use super::*;
    use crate::remote::held::Held;

    fn entry() -> EntryId {
        let table: ForeignTable<Held> = ForeignTable::new(1, 1);
        let key = ForeignKey { table: TableId(0), key: Key(7) };
        table.entry(key).expect("room for one").place()
    }

    #[test]
    fn two_rounds_without_news_arm_the_owner_and_a_replica_ends_the_rest() {
        let mut watch = Watch::new();
        watch.wake(5);
        assert_eq!(watch.mode, Mode::Idle, "there is nothing to look after");
        watch.add(70, entry(), 5);
        assert_eq!(watch.mode, Mode::Active { next_ns: 5 });
        assert_eq!(watch.root(|block| [9, 0][block.min(1)]), [0]);
        assert_eq!(watch.block(0, |page| page as u64 + 3), [(1, 4)]);
        watch.pages.get_mut(&1).expect("its page").seen = Some(4);
        assert_eq!(watch.end(10, 100, 2), None);
        for armed in [None, Some(9)] {
            assert!(watch.root(|block| [9, 0][block.min(1)]).is_empty());
            assert_eq!(watch.end(20, 100, 2), armed);
        }
        assert_eq!(watch.mode, Mode::Armed);
        watch.add(71, entry(), 30);
        assert_eq!(watch.mode, Mode::Active { next_ns: 30 });
        assert_eq!(watch.root(|block| [9, 0][block.min(1)]), [0], "all of its page is looked at");
    }

    #[test]
    fn a_lost_owner_is_looked_at_no_more() {
        let mut watch = Watch::new();
        watch.add(70, entry(), 5);
        (watch.mode, watch.open) = (Mode::Round, 3);
        watch.lose(2);
        assert_eq!((watch.mode, watch.open), (Mode::Round, 1), "one READ has yet to end");
        watch.open = 0;
        assert_eq!((watch.end(10, 100, 2), watch.mode), (None, Mode::Idle));
        watch.add(70, entry(), 20);
        (watch.mode, watch.open) = (Mode::Round, 2);
        watch.lose(2);
        assert_eq!(watch.mode, Mode::Idle);
    }
}
