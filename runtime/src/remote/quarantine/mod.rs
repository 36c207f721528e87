//! When slots that rows have left may be used again, where peers' devices read them.
//!
//! Peers tell in their clock pages which READs of theirs are under way ([`sterna_store::ReadClock`]). All slots that were left before
//! a first look at all pages are free once no lane can have a READ left that was posted before it: this node looks again at those
//! that had. A READ that never ends fails in bounded time, so that slots are free in the end whatever peers tell.

mod lane;

use std::sync::atomic::Ordering;

use sterna_protocol::Rank;
use sterna_rdma::{Fabric, FabricError, ReadLane, RegionToken};
use sterna_store::{ChunkMemory, LaneSeen, ReadClock, lanes_seen};

use super::Remote;

/// Longer than a READ can be under way: a connection of RDMA gives up after seven tries of at most four seconds each.
const READ_NS_MAX: u64 = 30_000_000_000;

/// The pause between two looks for the same READs.
const AGAIN_NS: u64 = 200_000;

/// That after a look that failed: its peer may be going.
const FAILED_NS: u64 = 20_000_000;

/// The pause before slots that were left meanwhile are looked after, and what comes on top for each peer.
const PAUSE_NS: u64 = 2_000_000;
const PAUSE_NS_EACH: u64 = 50_000;

/// A peer whose READs are waited for.
#[derive(Debug)]
struct Wait {
    peer: Rank,
    /// Its page is being read.
    asked: bool,
    /// Lanes that had READs under way, and in which generation; nothing before the first look.
    lanes: Option<Vec<(usize, Option<u64>)>>,
}

/// What this node knows of its peers' READs. The engine's lock guards it.
#[derive(Debug)]
pub(super) struct Quarantine {
    /// Peers that read by a device, and where they tell of that.
    pages: Vec<(Rank, Option<RegionToken>)>,
    /// When the looks under way began.
    begun_ns: Option<u64>,
    waits: Vec<Wait>,
    next_ns: u64,
}

impl Quarantine {
    /// For these peers, which read by a device.
    pub(super) fn new(peers: Vec<Rank>) -> Self {
        let pages = peers.into_iter().map(|peer| (peer, None)).collect();
        Self { pages, begun_ns: None, waits: Vec::new(), next_ns: 0 }
    }

    /// A peer tells where its page is.
    pub(super) fn found(&mut self, peer: Rank, token: RegionToken) {
        if let Some((_, page)) = self.pages.iter_mut().find(|(rank, _)| *rank == peer) {
            *page = Some(token);
        }
    }

    pub(super) fn page(&self, peer: Rank) -> Option<RegionToken> {
        self.pages.iter().find(|(rank, _)| *rank == peer)?.1
    }

    /// A peer is gone, and its connections with it: it reads no more.
    pub(super) fn lost(&mut self, peer: Rank) {
        self.pages.retain(|(rank, _)| *rank != peer);
        self.waits.retain(|wait| wait.peer != peer);
    }

    /// Whose pages are to be read now, if slots were left at `left_ns` and those left before `passed_ns` are free.
    fn due(&mut self, now_ns: u64, left_ns: u64, passed_ns: u64) -> Vec<Rank> {
        if now_ns < self.next_ns {
            return Vec::new();
        }
        if self.begun_ns.is_none() {
            // A peer that has not told of its page yet may read all the same.
            let known = self.pages.iter().all(|(_, page)| page.is_some());
            if left_ns < passed_ns || left_ns == 0 || !known {
                return Vec::new();
            }
            self.begun_ns = Some(now_ns);
            let wait = |&(peer, _): &(Rank, _)| Wait { peer, asked: false, lanes: None };
            self.waits = self.pages.iter().map(wait).collect();
        }
        let mut due = Vec::new();
        for wait in self.waits.iter_mut().filter(|wait| !wait.asked) {
            wait.asked = true;
            due.push(wait.peer);
        }
        due
    }

    /// A peer's page has been read, or could not be.
    pub(super) fn looked(&mut self, peer: Rank, page: Option<&[u8]>, now_ns: u64) {
        let Some(at) = self.waits.iter().position(|wait| wait.peer == peer) else { return };
        let wait = &mut self.waits[at];
        wait.asked = false;
        let Some(page) = page else {
            self.next_ns = now_ns + FAILED_NS;
            return;
        };
        self.next_ns = now_ns + AGAIN_NS;
        let seen: Vec<LaneSeen> = lanes_seen(page).collect();
        let lanes =
            wait.lanes.get_or_insert_with(|| (0..seen.len()).map(|lane| (lane, None)).collect());
        lanes.retain_mut(|(lane, first)| match seen.get(*lane) {
            None | Some(LaneSeen::Idle) => false,
            Some(LaneSeen::Unclear) => true,
            Some(&LaneSeen::Busy(now)) => now < *first.get_or_insert(now) + 2,
        });
        if lanes.is_empty() {
            self.waits.swap_remove(at);
        }
    }

    /// Slots that were left before this time are free: news of it, once.
    fn passed(&mut self, now_ns: u64) -> Option<u64> {
        let begun_ns = self.begun_ns.filter(|_| self.waits.is_empty())?;
        self.begun_ns = None;
        self.next_ns = now_ns + PAUSE_NS + PAUSE_NS_EACH * self.pages.len() as u64;
        Some(begun_ns)
    }
}

/// Opens the read lane of this number, which counts its READs in the clock page if there is one.
pub(super) fn open_lane(
    fabric: &dyn Fabric,
    page: Option<&ChunkMemory>,
    number: usize,
) -> Result<Box<dyn ReadLane>, FabricError> {
    let lane = fabric.open_lane()?;
    Ok(match page {
        Some(page) => lane::counted(lane, ReadClock::new(page.clone(), number)),
        None => lane,
    })
}

impl Remote {
    /// Opens a worker's read lane.
    pub(crate) fn open_lane(&self, worker: usize) -> Result<Box<dyn ReadLane>, FabricError> {
        open_lane(&*self.fabric, self.clock_page.as_ref(), worker)
    }

    /// From when on a slot may be used again that a row has left now. Where READs see the header before and after the row, at once;
    /// where a device fetches all of it in any order, when every READ that may name the slot has ended or failed.
    pub(super) fn reusable_ns(&self) -> u64 {
        if self.clock_page.is_none() {
            return 0;
        }
        let now_ns = self.timing.now_ns();
        self.left_ns.store(now_ns, Ordering::Relaxed);
        now_ns.saturating_add(READ_NS_MAX)
    }

    /// Slots whose time has come by then are free: all READs have ended that were posted when they were left, or all have failed.
    pub(super) fn rested_ns(&self) -> u64 {
        let passed_ns = self.passed_ns.load(Ordering::Relaxed);
        self.timing.now_ns().max(passed_ns.saturating_add(READ_NS_MAX).saturating_sub(1))
    }

    /// Looks after slots that rows have left: gives the peers whose pages are to be read now.
    pub(super) fn look_at_clocks(&self, quarantine: &mut Quarantine, now_ns: u64) -> Vec<Rank> {
        if self.clock_page.is_none() {
            return Vec::new();
        }
        if let Some(passed_ns) = quarantine.passed(now_ns) {
            self.passed_ns.store(passed_ns, Ordering::Relaxed);
        }
        let left_ns = self.left_ns.load(Ordering::Relaxed);
        quarantine.due(now_ns, left_ns, self.passed_ns.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use sterna_rdma::RegionId;

    use super::*;

    const ONE: Rank = Rank(1);
    const TWO: Rank = Rank(2);

    /// A page whose lanes are in these generations and read, or (0) do not.
    fn page(lanes: &[u64]) -> Vec<u8> {
        let mut bytes = vec![0; 64 * lanes.len()];
        for (lane, &generation) in bytes.chunks_exact_mut(64).zip(lanes) {
            let told = if generation == 0 { 8 } else { generation << 1 | 1 };
            lane[..8].copy_from_slice(&told.to_le_bytes());
            lane[8..16].copy_from_slice(&(!told).to_le_bytes());
        }
        bytes
    }

    fn quarantine() -> Quarantine {
        let mut quarantine = Quarantine::new(vec![ONE, TWO]);
        let token = RegionToken { id: RegionId(1), bytes: 128, key: 0, remote_key: 0, address: 0 };
        assert!(quarantine.due(1, 1, 0).is_empty(), "who has not told of a page may be reading");
        quarantine.found(ONE, token);
        quarantine.found(TWO, token);
        quarantine
    }

    #[test]
    fn what_was_left_before_a_look_at_idle_peers_is_free_and_news_starts_another() {
        let mut quarantine = quarantine();
        assert!(quarantine.due(5, 0, 0).is_empty(), "nothing was left");
        assert_eq!(quarantine.due(10, 5, 0), [ONE, TWO]);
        assert!(quarantine.due(11, 11, 0).is_empty(), "their pages are being read");
        quarantine.looked(ONE, Some(&page(&[0, 0])), 12);
        assert_eq!(quarantine.passed(12), None);
        quarantine.looked(TWO, Some(&page(&[0])), 13);
        assert_eq!((quarantine.passed(13), quarantine.passed(13)), (Some(10), None));
        let later = 13 + PAUSE_NS + 2 * PAUSE_NS_EACH;
        assert!(quarantine.due(later - 1, 11, 10).is_empty(), "not so soon");
        assert!(quarantine.due(later, 9, 10).is_empty(), "all that was left is free");
        assert_eq!(quarantine.due(later, 11, 10), [ONE, TWO]);
    }

    #[test]
    fn reads_under_way_are_waited_for_until_two_generations_later() {
        let mut quarantine = quarantine();
        assert_eq!(quarantine.due(10, 5, 0), [ONE, TWO]);
        quarantine.looked(TWO, Some(&page(&[0])), 10);
        let mut now_ns = 10;
        let mut torn = page(&[9, 4]);
        torn[0] ^= 1;
        for seen in [torn, page(&[9, 4]), page(&[10, 5]), page(&[10, 0]), page(&[10, 4])] {
            quarantine.looked(ONE, Some(&seen), now_ns);
            assert_eq!(quarantine.passed(now_ns), None, "{seen:?}");
            now_ns += AGAIN_NS;
            assert!(quarantine.due(now_ns - 1, 5, 0).is_empty());
            assert_eq!(quarantine.due(now_ns, 5, 0), [ONE]);
        }
        // A READ that fails tells nothing; nor does what the other lane does by now.
        quarantine.looked(ONE, None, now_ns);
        assert_eq!(quarantine.passed(now_ns), None);
        now_ns += FAILED_NS;
        assert_eq!(quarantine.due(now_ns, 5, 0), [ONE]);
        quarantine.looked(ONE, Some(&page(&[11, 4])), now_ns);
        assert_eq!(quarantine.passed(now_ns), Some(10));
    }

    #[test]
    fn a_lost_peer_is_not_waited_for() {
        let mut quarantine = quarantine();
        assert_eq!(quarantine.due(10, 5, 0), [ONE, TWO]);
        quarantine.looked(ONE, Some(&page(&[0])), 11);
        quarantine.lost(TWO);
        quarantine.looked(TWO, None, 12);
        assert_eq!(quarantine.passed(12), Some(10));
        let later = 12 + PAUSE_NS + 2 * PAUSE_NS_EACH;
        assert_eq!(quarantine.due(later, 11, 10), [ONE]);
    }
}
