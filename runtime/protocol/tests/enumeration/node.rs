//! One node of the exploration: its machine, its rows, one worker; and every step that it can take.

use sterna_protocol::entry::{EntryState, Pull, ReadFound, ReadPermit, ReadVerdict};
use sterna_protocol::owned::Wish;
use sterna_protocol::{Decision, DirectoryWord, Epoch, Machine, Outbox, Policy, Rank};

use super::Setting;
use super::rows::{ROW, Rows, SET};

#[derive(Clone, Debug)]
pub(crate) struct Node {
    machine: Machine<(), Script>,
    rows: Rows,
    read: Option<Read>,
    /// The last READ of a pull did not count.
    again: bool,
    pushed: u8,
    acquired: u8,
    reads: u8,
    released: u8,
    sets: u8,
    /// Pushes before the set.
    pushed_at_set: u8,
    busy: u8,
    evicted: u8,
    /// The newest value that the worker has seen.
    seen: u32,
}

/// A READ under way.
#[derive(Clone, Debug)]
struct Read {
    permit: ReadPermit,
    refresh: bool,
    fetched: Option<u32>,
    pushed: u8,
    seen: u32,
}

/// A policy that takes given decisions, and notes how many there were to take.
#[derive(Clone, Debug, Default)]
struct Script {
    allowed: [bool; 3],
    picks: Vec<u8>,
    at: usize,
    /// Alternatives at each pick.
    widths: Vec<u8>,
}

impl Policy for Script {
    fn decide(&mut self, wish: &Wish<'_>) -> Decision {
        let all = [Decision::Move, Decision::Share, Decision::Refuse { uses: 1 }];
        let again = wish.holders.contains(&wish.acquire.requester);
        let allowed: Vec<Decision> = (0..3)
            .filter(|&index| self.allowed[index] || (index == 2 && again))
            .map(|index| all[index])
            .collect();
        let pick = self.picks.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        self.widths.push(u8::try_from(allowed.len()).expect("three"));
        allowed[usize::from(pick)]
    }
}

/// What a step of a node does.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) label: String,
    pub(crate) node: Node,
    pub(crate) sent: Vec<(Rank, Vec<u8>)>,
    /// Whether the step comes by itself; pushes, intents and pulls are the worker's wish.
    pub(crate) obligatory: bool,
    pub(crate) fault: Option<String>,
}

/// What comes from outside the node.
#[derive(Clone, Debug)]
pub(crate) enum Input<'a> {
    /// Whatever it does by itself.
    Local,
    Record(Rank, &'a [u8]),
    /// Its READ looks at the owner's slot.
    Fetch(Exposed),
    /// It looks at the home's directory.
    Directory(DirectoryWord),
}

/// What a READ finds at a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Exposed {
    Row(u32),
    Moved(Rank, Epoch),
}

/// What a step has sent, on links of which some are ready.
struct Sent {
    records: Vec<(Rank, Vec<u8>)>,
    ready: [bool; 3],
    narrow: bool,
}

impl Outbox for Sent {
    fn ready(&self, to: Rank) -> bool {
        self.ready[to.index()]
    }

    fn send(&mut self, to: Rank, record: &[u8]) {
        assert!(self.ready[to.index()], "a record is only given to a link that is ready");
        self.ready[to.index()] = !self.narrow;
        self.records.push((to, record.to_vec()));
    }
}

fn name(rank: Rank) -> char {
    char::from(b'A' + rank.0.to_le_bytes()[0])
}

/// The counts of a value as a number of pushes each.
fn counts(value: u32, pushes: usize) -> Vec<u32> {
    (0..pushes).map(|push| value >> (2 * push) & 3).collect()
}

impl Node {
    pub(crate) fn start(rank: Rank, setting: &Setting) -> Self {
        let policy = Script { allowed: setting.decisions, ..Script::default() };
        let mut machine = Machine::with_record_bytes(rank, 3, policy, 512);
        if setting.start == super::Start::ReplicaA && rank == super::rows::HOME {
            machine.adopt_holder(ROW, Rank(0));
        }
        Self {
            machine,
            rows: Rows::start(rank, setting),
            read: None,
            again: false,
            pushed: 0,
            acquired: 0,
            reads: 0,
            released: 0,
            sets: 0,
            pushed_at_set: 0,
            busy: 0,
            evicted: 0,
            seen: 0,
        }
    }

    /// Everything that tells this node from others, in few bytes.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let rows = &self.rows;
        out.clear();
        out.extend(rows.rank.0.to_le_bytes());
        out.extend(rows.entry.fingerprint(self.read.as_ref().map(|read| read.permit)));
        for word in [rows.base, rows.accumulator, rows.flush, self.seen] {
            out.extend(word.to_le_bytes());
        }
        out.extend(rows.directory.map_or(0, |word| word.0).to_le_bytes());
        let done = [self.pushed, self.acquired, self.reads, self.released, self.sets];
        out.extend(done);
        let flags = [self.again, rows.staged, rows.busy].map(u8::from);
        out.extend([self.evicted, self.pushed_at_set, self.busy, flags[0], flags[1], flags[2]]);
        if let Some(read) = &self.read {
            out.extend([1, u8::from(read.refresh), read.pushed]);
            out.extend(read.permit.owner.0.to_le_bytes());
            out.extend(read.permit.epoch.get().to_le_bytes());
            out.extend(read.seen.to_le_bytes());
            out.push(u8::from(read.fetched.is_some()));
            out.extend(read.fetched.unwrap_or(0).to_le_bytes());
        }
        self.machine.fingerprint(out);
    }

    pub(crate) fn live(&self) -> bool {
        self.rows.is_live()
    }

    pub(crate) fn replica(&self) -> bool {
        self.rows.replica()
    }

    pub(crate) fn holders(&self) -> &[Rank] {
        self.machine.holders().of(ROW)
    }

    pub(crate) fn row(&self) -> u32 {
        self.rows.base
    }

    pub(crate) fn pushed(&self) -> u8 {
        self.pushed
    }

    /// Whether a set was made here, and how many pushes before it.
    pub(crate) fn set_after(&self) -> Option<u8> {
        (self.sets > 0).then_some(self.pushed_at_set)
    }

    /// Whom the READ under way has yet to look at.
    pub(crate) fn reading_from(&self) -> Option<Rank> {
        self.read.as_ref().filter(|read| read.fetched.is_none()).map(|read| read.permit.owner)
    }

    pub(crate) fn directory(&self) -> Option<DirectoryWord> {
        self.rows.directory
    }

    /// Whom this node takes for the owner, and since when.
    pub(crate) fn points(&self) -> (Rank, Epoch) {
        (self.rows.entry.owner(), self.rows.entry.epoch())
    }

    pub(crate) fn exposed(&self) -> Exposed {
        if self.live() {
            Exposed::Row(self.rows.base)
        } else {
            Exposed::Moved(self.rows.entry.owner(), self.rows.entry.epoch())
        }
    }

    /// What is still open here, in words; empty at rest.
    pub(crate) fn open(&self) -> String {
        let rows = &self.rows;
        let marks = [
            (rows.accumulator != 0, " accumulator"),
            (rows.flush != 0, " flush"),
            (rows.staged, " staged set"),
            (rows.entry.exchange().is_some(), " exchange"),
            (rows.entry.needs_engine(false), " wish"),
            (self.machine.parked() > 0, " parked"),
            (self.machine.unsettled(), " unsettled"),
            (self.read.is_some(), " READ"),
            (self.again, " pull"),
        ];
        marks.iter().filter(|(on, _)| *on).map(|(_, what)| *what).collect()
    }

    /// All that can happen to this node by this input.
    pub(crate) fn steps(
        &self,
        input: &Input<'_>,
        ready: [bool; 3],
        setting: &Setting,
    ) -> Vec<Outcome> {
        let mut steps = Steps { setting, from: self, ready, done: Vec::new() };
        match *input {
            Input::Local => steps.local(),
            Input::Record(from, record) => steps.record(from, record),
            Input::Fetch(exposed) => steps.fetch(exposed),
            Input::Directory(word) => {
                // A node that takes itself for the owner, without the row, has to look.
                let obligatory = !self.owner_is_other();
                steps.step("learns from home", obligatory, |node, out| {
                    node.machine.learned(ROW, word, &mut node.rows);
                    node.settle(setting, out)
                });
            }
        }
        steps.done
    }

    pub(crate) fn rank(&self) -> Rank {
        self.rows.rank
    }

    /// Whether a directory word says something new.
    pub(crate) fn would_learn(&self, word: DirectoryWord) -> bool {
        !self.live() && self.read.is_none() && word.epoch().newer_than(self.rows.entry.epoch())
    }

    fn owner_is_other(&self) -> bool {
        self.rows.entry.owner() != self.rank()
    }

    /// Bits of a push of this node.
    fn push_bit(&self, setting: &Setting, push: u8) -> u32 {
        let before: u8 = setting.pushes[..self.rank().index()].iter().sum();
        1 << (2 * (before + push))
    }

    /// Checks a pull that shows `value`; `pushed` and `seen` are from when it began.
    fn check(&self, setting: &Setting, value: u32, pushed: u8, seen: u32) -> Result<(), String> {
        let all = usize::from(setting.pushes.iter().sum::<u8>());
        let (shown, before) = (counts(value, all), counts(seen, all));
        let who = name(self.rank());
        if shown.iter().any(|&count| count > 1) {
            return Err(format!("I10: a pull at {who} counts a push twice: {shown:?}"));
        }
        if self.sets > 0 && value & SET == 0 {
            return Err(format!("I8: a pull at {who} misses its own set"));
        }
        let own = |push| shown[self.push_bit(setting, push).trailing_zeros() as usize / 2];
        for push in 0..pushed {
            let wanted = u32::from(self.sets == 0 || push >= self.pushed_at_set);
            // Another node's set may have overwritten it.
            let overwritten = self.sets == 0 && value & SET != 0;
            if own(push) != wanted && !(overwritten && own(push) == 0) {
                return Err(format!("I8: a pull at {who} misses its own push {push}: {shown:?}"));
            }
        }
        let set_between = value & SET != 0 && seen & SET == 0;
        let back = before.iter().zip(&shown).any(|(before, shown)| before > shown);
        if (back && !set_between) || (seen & SET != 0 && value & SET == 0) {
            return Err(format!("I8: a pull at {who} goes back: {shown:?} after {before:?}"));
        }
        Ok(())
    }

    /// A worker looks at the local view all the time.
    fn observe(&mut self, setting: &Setting) -> Result<(), String> {
        let Some(view) = self.rows.view() else { return Ok(()) };
        self.check(setting, view, self.pushed, self.seen)?;
        self.seen = view;
        if self.again {
            // The pull that is to be repeated is served from here.
            self.again = false;
        }
        Ok(())
    }

    fn settle(&mut self, setting: &Setting, out: &mut Sent) -> Result<(), String> {
        if setting.delayed_acks || setting.narrow {
            return Ok(());
        }
        self.machine.settle(0, &mut self.rows, out).map_err(|fault| fault.to_string())
    }

    fn engine(&mut self, out: &mut Sent) {
        self.rows.listed = true;
        let owner = self.rows.entry.owner();
        self.machine.flush_dirty(owner, 0, &mut self.rows, out);
        self.rows.listed = false;
    }

    fn post(&mut self, permit: ReadPermit, refresh: bool) {
        let (pushed, seen) = (self.pushed, self.seen);
        self.read = Some(Read { permit, refresh, fetched: None, pushed, seen });
        self.again = false;
    }

    fn found_moved(&mut self, next: Rank, epoch: Epoch, setting: &Setting) {
        let read = self.read.take().expect("a READ is under way");
        let _ = self.rows.entry.finish_read(read.permit, ReadFound::Moved { next, epoch });
        self.again = setting.second_tries && !read.refresh;
    }

    fn finish_read(&mut self, setting: &Setting) -> Result<(), String> {
        let read = self.read.take().expect("a READ is under way");
        let value = read.fetched.expect("it has fetched");
        if self.rows.entry.finish_read(read.permit, ReadFound::Row) != ReadVerdict::Accept {
            self.again = setting.second_tries && !read.refresh;
            return Ok(());
        }
        if read.refresh {
            // Without the generation the entry may be no replica any more.
            if self.rows.replica() {
                self.rows.base = value;
            }
            return Ok(());
        }
        let pulled = value + self.rows.accumulator;
        self.check(setting, pulled, read.pushed, read.seen)?;
        if !self.rows.is_live() && !self.rows.replica() {
            self.seen = pulled;
        }
        Ok(())
    }

    fn stage_set(&mut self) {
        self.sets += 1;
        self.pushed_at_set = self.pushed;
        if self.rows.is_live() {
            self.rows.base = SET;
            return;
        }
        self.rows.accumulator = 0;
        self.rows.base = 0;
        self.rows.staged = true;
        self.rows.entry.want_set();
    }
}

struct Steps<'a> {
    setting: &'a Setting,
    from: &'a Node,
    ready: [bool; 3],
    done: Vec<Outcome>,
}

impl Steps<'_> {
    /// Takes a step once for each sequence of decisions that it can meet.
    fn step(
        &mut self,
        label: &str,
        obligatory: bool,
        act: impl Fn(&mut Node, &mut Sent) -> Result<(), String>,
    ) {
        let mut picks: Vec<u8> = Vec::new();
        loop {
            let mut node = self.from.clone();
            node.machine.renumber(1);
            let policy = node.machine.policy();
            *policy = Script { allowed: policy.allowed, picks: picks.clone(), ..Script::default() };
            let (ready, narrow) = (self.ready, self.setting.narrow);
            let mut out = Sent { records: Vec::new(), ready, narrow };
            let acted = act(&mut node, &mut out).and_then(|()| node.observe(self.setting));
            let widths = std::mem::take(&mut node.machine.policy().widths);
            node.machine.policy().picks.clear();
            let label = format!("{} {label} {picks:?}", name(self.from.rank()));
            self.done.push(Outcome {
                label,
                node,
                sent: out.records,
                obligatory,
                fault: acted.err(),
            });
            // The next sequence: count up the last pick that has alternatives left.
            picks.resize(widths.len(), 0);
            while picks.last().is_some_and(|&pick| pick + 1 == widths[picks.len() - 1]) {
                picks.pop();
            }
            match picks.last_mut() {
                Some(pick) => *pick += 1,
                None => break,
            }
        }
    }

    fn local(&mut self) {
        let (node, setting) = (self.from, self.setting);
        let at = node.rank().index();
        if node.pushed < setting.pushes[at] {
            self.step("pushes", false, |node, _| {
                let bit = node.push_bit(setting, node.pushed);
                node.pushed += 1;
                let live = node.rows.is_live();
                *(if live { &mut node.rows.base } else { &mut node.rows.accumulator }) += bit;
                Ok(())
            });
        }
        if node.owner_is_other() {
            self.exchanges();
        }
        let intent = node.replica() || node.rows.entry.state() == EntryState::Pending;
        if intent && node.released < setting.releases[at] {
            self.step("ends its intent", false, |node, out| {
                node.released += 1;
                if node.rows.entry.want_release() {
                    node.rows.base = 0;
                }
                node.engine(out);
                Ok(())
            });
        }
        if node.sets < setting.sets[at] {
            self.step("sets", false, |node, out| {
                node.stage_set();
                node.engine(out);
                Ok(())
            });
        }
        self.reads();
        if node.machine.unsettled() {
            self.productive("settles", |node, out| {
                node.machine.settle(0, &mut node.rows, out).map_err(|fault| fault.to_string())
            });
        }
        let forgettable = !node.rows.entry.pinned()
            && node.rows.accumulator == 0
            && node.read.is_none()
            && node.rank() != super::rows::HOME;
        if forgettable && node.evicted < setting.evictions[at] {
            self.step("forgets where the row is", false, |node, _| {
                node.evicted += 1;
                node.rows.forget();
                Ok(())
            });
        }
        if node.rows.busy {
            self.step("ends its work on the row", true, |node, _| {
                node.rows.busy = false;
                Ok(())
            });
        } else if node.live() && node.busy < setting.busy[at] {
            self.step("is at work on the row", false, |node, _| {
                node.busy += 1;
                node.rows.busy = true;
                Ok(())
            });
        }
    }

    /// A step that the engine takes by itself, if it does anything now.
    fn productive(
        &mut self,
        label: &str,
        act: impl Fn(&mut Node, &mut Sent) -> Result<(), String>,
    ) {
        let first = self.done.len();
        self.step(label, true, act);
        let (mut before, mut after) = (Vec::new(), Vec::new());
        self.from.encode(&mut before);
        let mut at = first;
        while at < self.done.len() {
            let step = &self.done[at];
            after.clear();
            step.node.encode(&mut after);
            if before == after && step.sent.is_empty() && step.fault.is_none() {
                self.done.remove(at);
            } else {
                at += 1;
            }
        }
    }

    fn exchanges(&mut self) {
        let (node, setting) = (self.from, self.setting);
        let entry = &node.rows.entry;
        let has_updates = node.rows.accumulator != 0;
        if entry.needs_engine(has_updates) {
            self.productive("opens an exchange", |node, out| {
                node.engine(out);
                Ok(())
            });
        } else if has_updates && entry.exchange().is_none() && !node.live() {
            // A second try holds it back; that it had to wait is remembered.
            self.step("holds an exchange back", false, |node, out| {
                node.engine(out);
                Ok(())
            });
        }
        let free = entry.exchange().is_none()
            && (!entry.needs_engine(false) || setting.removed == super::Removed::ReleaseIsExchange);
        let state = entry.state();
        if node.acquired < setting.acquires[node.rank().index()]
            && (free || setting.narrow)
            && state != EntryState::Live
        {
            self.step("acquires", false, |node, out| {
                node.acquired += 1;
                node.rows.entry.want_acquire();
                node.engine(out);
                Ok(())
            });
        }
    }

    fn reads(&mut self) {
        let (node, setting) = (self.from, self.setting);
        match &node.read {
            Some(read) if read.fetched.is_some() => {
                self.step("READ done", true, |node, _| node.finish_read(setting));
            }
            None if node.again => {
                let ready = matches!(node.rows.entry.clone().pull(true), Pull::Read(_));
                if ready && node.owner_is_other() {
                    self.step("posts a second READ", true, |node, _| {
                        if let Pull::Read(permit) = node.rows.entry.pull(true) {
                            node.post(permit, false);
                        }
                        Ok(())
                    });
                }
            }
            None if node.reads < setting.reads[node.rank().index()] && node.owner_is_other() => {
                let mut entry = node.rows.entry.clone();
                if matches!(entry.pull(false), Pull::Read(_)) {
                    self.step("posts a READ", false, |node, _| {
                        if let Pull::Read(permit) = node.rows.entry.pull(false) {
                            node.reads += 1;
                            node.post(permit, false);
                        }
                        Ok(())
                    });
                } else if entry.refresh(false).is_some() {
                    self.step("posts a refresh", false, |node, _| {
                        if let Some(permit) = node.rows.entry.refresh(false) {
                            node.reads += 1;
                            node.post(permit, true);
                        }
                        Ok(())
                    });
                }
            }
            _ => {}
        }
    }

    fn fetch(&mut self, exposed: Exposed) {
        let setting = self.setting;
        match exposed {
            Exposed::Row(value) => self.step("READ fetches", true, |node, _| {
                node.read.as_mut().expect("a READ is under way").fetched = Some(value);
                Ok(())
            }),
            Exposed::Moved(next, epoch) => self.step("READ finds Moved", true, |node, out| {
                node.found_moved(next, epoch, setting);
                // What is parked for the key may be servable by what was learned.
                node.machine.settle_row(ROW, &mut node.rows, out).map_err(|fault| fault.to_string())
            }),
        }
    }

    fn record(&mut self, from: Rank, record: &[u8]) {
        let setting = self.setting;
        let kind = sterna_protocol::record::Header::split(record).expect("a record").0.kind;
        let label = format!("takes {kind:?} of {}", name(from));
        self.step(&label, true, |node, out| {
            node.machine
                .handle(from, record, 0, &mut node.rows, out)
                .map_err(|fault| fault.to_string())?;
            node.settle(setting, out)
        });
    }
}
