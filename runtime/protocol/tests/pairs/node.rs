//! One node of the exploration: its machine, two rows, two workers who READ on their own.

use sterna_protocol::entry::{Pull, ReadFound, ReadPermit, ReadVerdict};
use sterna_protocol::owned::Wish;
use sterna_protocol::{Decision, Machine, Outbox, Policy, Rank};

use super::Setting;
use super::rows::{KEYS, Rows, row};

/// Workers of a node.
pub(crate) const WORKERS: usize = 2;

/// A policy that takes given decisions, and notes how many there were to take.
#[derive(Clone, Debug, Default)]
pub(crate) struct Script {
    shares: bool,
    pub(crate) picks: Vec<usize>,
    pub(crate) at: usize,
    pub(crate) widths: Vec<usize>,
}

impl Policy for Script {
    fn decide(&mut self, wish: &Wish<'_>) -> Decision {
        // As the runtime's policies, this moves no row of which a third node has a replica.
        let third = wish.holders.iter().any(|&holder| holder != wish.acquire.requester);
        let allowed: &[Decision] = match (self.shares, third) {
            (false, _) => &[Decision::Move],
            (true, true) => &[Decision::Share],
            (true, false) => &[Decision::Move, Decision::Share],
        };
        let pick = self.picks.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        self.widths.push(allowed.len());
        allowed[pick]
    }
}

/// A READ under way.
#[derive(Clone, Debug)]
pub(crate) struct Read {
    pub(crate) key: usize,
    permit: ReadPermit,
    refresh: bool,
    pub(crate) fetched: Option<u32>,
    pushed: u8,
    seen: u32,
}

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) machine: Machine<usize, Script>,
    pub(crate) rows: Rows,
    pub(crate) reads: [Option<Read>; WORKERS],
    /// Of each worker: READs made, and the newest value seen of each key.
    read: [u8; WORKERS],
    seen: [[u32; KEYS]; WORKERS],
    pushed: [u8; KEYS],
    acquired: [u8; KEYS],
    released: [u8; KEYS],
}

/// What a step has sent.
#[derive(Default)]
pub(crate) struct Sent(pub(crate) Vec<(Rank, Vec<u8>)>);

impl Outbox for Sent {
    fn ready(&self, _: Rank) -> bool {
        true
    }

    fn send(&mut self, to: Rank, record: &[u8]) {
        self.0.push((to, record.to_vec()));
    }
}

/// Something that a node may do by itself or for its workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Push(usize),
    Acquire(usize),
    Release(usize),
    /// The engine sends what these keys (a bit each) have to say.
    Engine(u8),
    Post(usize, usize),
    Done(usize),
}

fn counts(value: u32) -> impl Iterator<Item = u32> {
    (0..16).map(move |push| value >> (2 * push) & 3)
}

impl Node {
    pub(crate) fn start(rank: Rank, setting: &Setting) -> Self {
        let policy = Script { shares: setting.shares, ..Script::default() };
        Self {
            machine: Machine::with_record_bytes(rank, setting.nodes, policy, 512),
            rows: Rows::start(rank, setting.stale_reads),
            reads: Default::default(),
            read: [0; WORKERS],
            seen: [[0; KEYS]; WORKERS],
            pushed: [0; KEYS],
            acquired: [0; KEYS],
            released: [0; KEYS],
        }
    }

    /// All that tells this node from others.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        for one in &self.rows.keys {
            out.extend(one.entry.fingerprint(None));
            let number = one.entry.exchange().map_or(0, |open| open.number);
            for word in [one.base, one.accumulator, one.flush, number] {
                out.extend(word.to_le_bytes());
            }
            out.extend(one.directory.map_or(0, |word| word.0).to_le_bytes());
        }
        out.extend(self.seen.iter().flatten().flat_map(|seen| seen.to_le_bytes()));
        out.extend(
            self.read.iter().chain(&self.pushed).chain(&self.acquired).chain(&self.released),
        );
        for read in &self.reads {
            let Some(read) = read else {
                out.push(0);
                continue;
            };
            let counts = self.rows.keys[read.key].entry.fingerprint(Some(read.permit))[1];
            let key = u8::try_from(read.key).expect("two");
            out.extend([1 + key, counts, u8::from(read.refresh), read.pushed]);
            out.extend(read.permit.owner.0.to_le_bytes());
            out.extend(read.permit.epoch.get().to_le_bytes());
            out.extend(read.seen.to_le_bytes());
            out.extend(read.fetched.map_or(u32::MAX, |value| value).to_le_bytes());
        }
        self.machine.fingerprint(out);
        self.machine.fingerprint_numbers(out);
    }

    pub(crate) fn pushed(&self, key: usize) -> u8 {
        self.pushed[key]
    }

    fn own(&self, key: usize, setting: &Setting, pushed: u8) -> u32 {
        (0..pushed).fold(0, |bits, push| bits | setting.bit(self.rows.rank.index(), key, push))
    }

    /// What is left to do before this node is at rest.
    pub(crate) fn open(&self) -> Option<&'static str> {
        let busy = self.rows.keys.iter().any(|one| {
            one.accumulator != 0
                || one.flush != 0
                || one.entry.exchange().is_some()
                || one.entry.needs_engine(false)
        });
        match () {
            () if busy => Some("an exchange or an update"),
            () if self.machine.parked() > 0 => Some("a parked request"),
            () if self.machine.unsettled() => Some("an answer"),
            () if self.reads.iter().any(Option::is_some) => Some("a READ"),
            () => None,
        }
    }

    /// What can happen here next; whether it comes by itself.
    pub(crate) fn acts(&self, setting: &Setting) -> Vec<(Act, bool)> {
        let (mut acts, mut needy) = (Vec::new(), 0_u8);
        let at = self.rows.rank.index();
        for (key, one) in self.rows.keys.iter().enumerate() {
            let other = one.entry.owner() != self.rows.rank;
            if self.pushed[key] < setting.pushes[at][key] {
                acts.push((Act::Push(key), false));
            }
            let free = one.entry.exchange().is_none() && !one.entry.needs_engine(false);
            if self.acquired[key] < setting.acquires[at][key] && !one.live() && other && free {
                acts.push((Act::Acquire(key), false));
            }
            if self.released[key] < setting.releases[at][key] && one.replica() {
                acts.push((Act::Release(key), false));
            }
            if other && one.entry.needs_engine(one.accumulator != 0) {
                needy |= 1 << key;
            }
            for worker in 0..WORKERS {
                let may = self.read[worker] < setting.reads[at][worker];
                let mut entry = one.entry.clone();
                let ready =
                    matches!(entry.pull(false), Pull::Read(_)) || entry.refresh(false).is_some();
                if may && ready && other && self.reads[worker].is_none() {
                    acts.push((Act::Post(worker, key), false));
                }
            }
        }
        // Both keys in one record, or each in its own.
        acts.extend(
            (1..=3).filter(|keys| keys & !needy == 0).map(|keys| (Act::Engine(keys), true)),
        );
        for (worker, read) in self.reads.iter().enumerate() {
            if read.as_ref().is_some_and(|read| read.fetched.is_some()) {
                acts.push((Act::Done(worker), true));
            }
        }
        acts
    }

    pub(crate) fn act(
        &mut self,
        act: Act,
        setting: &Setting,
        out: &mut Sent,
    ) -> Result<(), String> {
        match act {
            Act::Push(key) => {
                let bit = setting.bit(self.rows.rank.index(), key, self.pushed[key]);
                self.pushed[key] += 1;
                let one = &mut self.rows.keys[key];
                *(if one.live() { &mut one.base } else { &mut one.accumulator }) += bit;
            }
            Act::Acquire(key) => {
                self.acquired[key] += 1;
                self.rows.keys[key].entry.want_acquire();
            }
            Act::Release(key) => {
                self.released[key] += 1;
                let one = &mut self.rows.keys[key];
                if one.entry.want_release() {
                    one.base = 0;
                }
            }
            Act::Engine(keys) => {
                for (key, one) in self.rows.keys.iter_mut().enumerate() {
                    one.listed = keys >> key & 1 == 1;
                }
                for peer in self.machine.others() {
                    self.machine.flush_dirty(peer, 0, &mut self.rows, out);
                }
                self.rows.keys.iter_mut().for_each(|one| one.listed = false);
            }
            Act::Post(worker, key) => self.post(worker, key),
            Act::Done(worker) => self.finish(worker, setting)?,
        }
        self.observe(setting)
    }

    fn post(&mut self, worker: usize, key: usize) {
        let entry = &mut self.rows.keys[key].entry;
        let (permit, refresh) = match entry.pull(false) {
            Pull::Read(permit) => (permit, false),
            _ => (entry.refresh(false).expect("it was ready"), true),
        };
        self.read[worker] += 1;
        let (pushed, seen) = (self.pushed[key], self.seen[worker][key]);
        self.reads[worker] = Some(Read { key, permit, refresh, fetched: None, pushed, seen });
    }

    /// Where a worker's READ looks.
    pub(crate) fn reading(&self, worker: usize) -> Option<(Rank, usize)> {
        let read = self.reads[worker].as_ref().filter(|read| read.fetched.is_none())?;
        Some((read.permit.owner, read.key))
    }

    /// A READ looks at its owner's slot.
    pub(crate) fn fetch(
        &mut self,
        worker: usize,
        at: &Self,
        setting: &Setting,
        out: &mut Sent,
    ) -> Result<(), String> {
        let read = self.reads[worker].as_mut().expect("a READ is under way");
        let there = &at.rows.keys[read.key];
        if there.live() {
            read.fetched = Some(there.base);
            return Ok(());
        }
        let (key, permit) = (read.key, read.permit);
        let (next, epoch) = (there.entry.owner(), there.entry.epoch());
        self.reads[worker] = None;
        let found = ReadFound::Moved { next, epoch };
        let _ = self.rows.keys[key].entry.finish_read(permit, found);
        self.machine
            .settle_row(row(key), &mut self.rows, out)
            .map_err(|fault| fault.to_string())?;
        self.observe(setting)
    }

    fn finish(&mut self, worker: usize, setting: &Setting) -> Result<(), String> {
        let read = self.reads[worker].take().expect("a READ is under way");
        let value = read.fetched.expect("it has fetched");
        let one = &mut self.rows.keys[read.key];
        if one.entry.finish_read(read.permit, ReadFound::Row) != ReadVerdict::Accept {
            return Ok(());
        }
        if read.refresh {
            // Of two READs the later may end first: counts only grow here, as versions do in the runtime.
            if counts(one.base).zip(counts(value)).all(|(old, new)| old <= new) {
                one.base = value;
            }
            return Ok(());
        }
        let pulled = value + one.accumulator;
        self.check(setting, read.key, pulled, (read.pushed, read.seen))?;
        self.seen[worker][read.key] |= pulled;
        Ok(())
    }

    fn check(
        &self,
        setting: &Setting,
        key: usize,
        value: u32,
        (pushed, seen): (u8, u32),
    ) -> Result<(), String> {
        let at = self.rows.rank;
        if counts(value).any(|count| count > 1) {
            return Err(format!(
                "I10: a pull of key {key} at {at} counts a push twice: {value:#x}"
            ));
        }
        let own = self.own(key, setting, pushed);
        if own & !value != 0 {
            return Err(format!("I8: a pull of key {key} at {at} misses {own:#x}: {value:#x}"));
        }
        if seen & !value != 0 {
            return Err(format!(
                "I8: a pull of key {key} at {at} goes back from {seen:#x}: {value:#x}"
            ));
        }
        Ok(())
    }

    /// Both workers look at the local views all the time.
    pub(crate) fn observe(&mut self, setting: &Setting) -> Result<(), String> {
        for key in 0..KEYS {
            let Some(view) = self.rows.keys[key].view() else { continue };
            for worker in 0..WORKERS {
                self.check(setting, key, view, (self.pushed[key], self.seen[worker][key]))?;
                self.seen[worker][key] = view;
            }
        }
        Ok(())
    }

    pub(crate) fn take(
        &mut self,
        from: Rank,
        record: &[u8],
        setting: &Setting,
        out: &mut Sent,
    ) -> Result<(), String> {
        let machine = &mut self.machine;
        machine.handle(from, record, 0, &mut self.rows, out).map_err(|fault| fault.to_string())?;
        machine.settle(0, &mut self.rows, out).map_err(|fault| fault.to_string())?;
        self.observe(setting)
    }
}
