//! The exhaustive exploration of two keys with homes at two nodes, and of two workers per node who READ on their own: what the
//! one of a single key ([`super`]'s other part) leaves out.
//!
//! Exchanges of both keys go in one record or in two, answers ack one key and nack the other, grants and Locations carry both,
//! READs of two workers overlap. The directory of each home is followed in every state: from its word pointers of growing epochs
//! lead to the owner, or to the node that a grant is on its way to (I1).

mod node;
mod rows;

use std::collections::{HashMap, HashSet, VecDeque};

use sterna_protocol::Rank;
use sterna_protocol::record::Record;

use node::{Node, Sent, WORKERS};
use rows::KEYS;

/// What to explore. Indexes are ranks, then keys or workers.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    pub(crate) nodes: usize,
    pub(crate) shares: bool,
    pub(crate) pushes: [[u8; KEYS]; 3],
    pub(crate) acquires: [[u8; KEYS]; 3],
    pub(crate) releases: [[u8; KEYS]; 3],
    pub(crate) reads: [[u8; WORKERS]; 3],
    /// Whether READs that an exchange has overtaken count (rule K2 is switched off).
    pub(crate) stale_reads: bool,
}

const NOTHING: Setting = Setting {
    name: "",
    nodes: 2,
    shares: false,
    pushes: [[0; KEYS]; 3],
    acquires: [[0; KEYS]; 3],
    releases: [[0; KEYS]; 3],
    reads: [[0; WORKERS]; 3],
    stale_reads: false,
};

impl Setting {
    /// The bit of a push.
    pub(crate) fn bit(&self, rank: usize, key: usize, push: u8) -> u32 {
        let before: u8 = self.pushes[..rank].iter().map(|pushes| pushes[key]).sum();
        1 << (2 * (before + push))
    }
}

/// Those of CI.
pub(crate) fn settings() -> Vec<Setting> {
    vec![
        Setting {
            name: "two keys move between their homes",
            pushes: [[1, 1], [1, 1], [0, 0]],
            acquires: [[0, 1], [1, 0], [0, 0]],
            ..NOTHING
        },
        Setting {
            name: "a third node wants both keys, pushes to both",
            nodes: 3,
            pushes: [[0, 1], [0, 0], [1, 1]],
            acquires: [[0, 1], [0, 0], [1, 1]],
            ..NOTHING
        },
        Setting {
            name: "two workers READ while both keys move",
            pushes: [[0, 0], [1, 1], [0, 0]],
            acquires: [[0, 1], [1, 0], [0, 0]],
            reads: [[0, 0], [1, 1], [0, 0]],
            ..NOTHING
        },
        Setting {
            name: "replicas and moves, two workers READ",
            shares: true,
            pushes: [[0, 0], [2, 0], [0, 0]],
            acquires: [[1, 0], [2, 0], [0, 0]],
            releases: [[0, 0], [1, 0], [0, 0]],
            reads: [[0, 0], [1, 1], [0, 0]],
            ..NOTHING
        },
    ]
}

/// What must break.
pub(crate) fn broken() -> Setting {
    Setting {
        name: "without the generation",
        stale_reads: true,
        pushes: [[0, 0], [1, 0], [0, 0]],
        reads: [[0, 0], [1, 0], [0, 0]],
        ..NOTHING
    }
}

/// Longer ones.
pub(crate) fn large() -> Vec<Setting> {
    vec![
        Setting {
            name: "two workers of both nodes READ while both keys move",
            pushes: [[0, 0], [1, 1], [0, 0]],
            acquires: [[0, 1], [1, 0], [0, 0]],
            reads: [[1, 1], [1, 1], [0, 0]],
            ..NOTHING
        },
        Setting {
            name: "two keys, replicas of both at a third node",
            nodes: 3,
            shares: true,
            pushes: [[1, 0], [0, 0], [1, 1]],
            acquires: [[0, 0], [0, 0], [1, 1]],
            releases: [[0, 0], [0, 0], [1, 1]],
            reads: [[0, 0], [0, 0], [1, 0]],
            ..NOTHING
        },
        Setting {
            name: "two keys go to and fro, two workers READ",
            pushes: [[1, 1], [1, 0], [0, 0]],
            acquires: [[1, 1], [1, 1], [0, 0]],
            reads: [[0, 0], [1, 1], [0, 0]],
            ..NOTHING
        },
    ]
}

#[derive(Clone)]
struct State {
    nodes: Vec<Node>,
    /// By sender and receiver: records, oldest first.
    links: HashMap<(Rank, Rank), VecDeque<Vec<u8>>>,
}

impl State {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        self.nodes.iter().for_each(|node| node.encode(&mut out));
        let mut links: Vec<_> =
            self.links.iter().filter(|(_, records)| !records.is_empty()).collect();
        links.sort_unstable_by_key(|(pair, _)| **pair);
        for ((from, to), records) in links {
            out.extend([from.0, to.0].iter().flat_map(|rank| rank.to_le_bytes()));
            out.extend(records.iter().flatten());
        }
        out
    }

    fn send(&mut self, from: Rank, sent: Sent) {
        for (to, record) in sent.0 {
            self.links.entry((from, to)).or_default().push_back(record);
        }
    }

    /// I1 in every state; I2 and that nothing is stuck where nothing happens by itself any more.
    fn check(&self, setting: &Setting, rest: bool) -> Result<(), String> {
        for key in 0..KEYS {
            let moving = self.moving(key);
            let live: Vec<Rank> = (0..self.nodes.len())
                .filter(|&at| self.nodes[at].rows.keys[key].live())
                .map(Rank::from_index)
                .collect();
            if live.len() + moving.len() != 1 {
                return Err(format!(
                    "I1: key {key} is Live at {live:?} and under way to {moving:?}"
                ));
            }
            self.leads(key, &moving)?;
            if rest {
                let row = self.nodes[live.first().ok_or("stuck: nobody owns a row")?.index()]
                    .rows
                    .keys[key]
                    .base;
                let made = (0..self.nodes.len()).fold(0, |bits, at| {
                    let pushed = self.nodes[at].pushed(key);
                    (0..pushed).fold(bits, |bits, push| bits | setting.bit(at, key, push))
                });
                if row != made {
                    return Err(format!("I2: key {key} is {row:#x} where {made:#x} was pushed"));
                }
            }
        }
        if rest && let Some(what) = self.nodes.iter().find_map(Node::open) {
            return Err(format!("stuck: {what} is left"));
        }
        Ok(())
    }

    /// Whom grants of a key's row are on their way to.
    fn moving(&self, key: usize) -> Vec<Rank> {
        let mut moving = Vec::new();
        for (&(_, to), records) in &self.links {
            for record in records {
                if let Ok(Record::GrantMove(grants)) = Record::decode(record) {
                    let here = grants.iter().filter(|grant| grant.key.0 == key as u64);
                    moving.extend(here.map(|_| to));
                }
            }
        }
        moving
    }

    fn leads(&self, key: usize, moving: &[Rank]) -> Result<(), String> {
        let word = self.nodes[key].rows.keys[key].directory.ok_or("a home has a directory")?;
        let (mut at, mut epoch) = (word.owner(), word.epoch());
        loop {
            let one = &self.nodes[at.index()].rows.keys[key];
            if one.live() || moving.contains(&at) {
                return Ok(());
            }
            let (next, since) = (one.entry.owner(), one.entry.epoch());
            if !since.newer_than(epoch) {
                return Err(format!("I1: pointers to key {key} end at {at}"));
            }
            (at, epoch) = (next, since);
        }
    }

    /// All states after one step, with what the step was and whether it came by itself.
    fn steps(&self, setting: &Setting, mut each: impl FnMut(String, bool, Result<Self, String>)) {
        for at in 0..self.nodes.len() {
            for (act, obligatory) in self.nodes[at].acts(setting) {
                let step = |node: &mut Node, out: &mut Sent| node.act(act, setting, out);
                self.scripted(at, &format!("{act:?}"), obligatory, step, &mut each);
            }
            for worker in 0..WORKERS {
                if let Some((owner, _)) = self.nodes[at].reading(worker) {
                    let there = &self.nodes[owner.index()];
                    let step =
                        |node: &mut Node, out: &mut Sent| node.fetch(worker, there, setting, out);
                    self.scripted(at, "Fetch", true, step, &mut each);
                }
            }
        }
        for (&(from, to), records) in &self.links {
            let Some(record) = records.front() else { continue };
            let mut rest = self.clone();
            rest.links.get_mut(&(from, to)).expect("just seen").pop_front();
            let kind = sterna_protocol::record::Header::split(record).expect("a record").0.kind;
            let step = |node: &mut Node, out: &mut Sent| node.take(from, record, setting, out);
            rest.scripted(to.index(), &format!("{kind:?} of {from}"), true, step, &mut each);
        }
    }

    /// Takes a step once for each sequence of decisions that it can meet.
    fn scripted(
        &self,
        at: usize,
        label: &str,
        obligatory: bool,
        step: impl Fn(&mut Node, &mut Sent) -> Result<(), String>,
        each: &mut impl FnMut(String, bool, Result<Self, String>),
    ) {
        let mut picks: Vec<usize> = Vec::new();
        loop {
            let (mut after, mut out) = (self.clone(), Sent::default());
            let node = &mut after.nodes[at];
            let policy = node.machine.policy();
            (policy.picks, policy.at) = (picks.clone(), 0);
            policy.widths.clear();
            let done = step(node, &mut out);
            let policy = node.machine.policy();
            let widths = std::mem::take(&mut policy.widths);
            (policy.picks, policy.at) = (Vec::new(), 0);
            after.send(Rank::from_index(at), out);
            each(format!("{at}: {label} {picks:?}"), obligatory, done.map(|()| after));
            picks.resize(widths.len(), 0);
            while picks.last().is_some_and(|&pick| pick + 1 == widths[picks.len() - 1]) {
                picks.pop();
            }
            match picks.last_mut() {
                Some(pick) => *pick += 1,
                None => return,
            }
        }
    }
}

/// What came out of one setting: states, or what is wrong and the steps that lead there.
pub(crate) type Outcome = Result<usize, (String, Vec<String>)>;

/// Explores all of a setting's states, breadth first.
pub(crate) fn explore(setting: &Setting) -> Outcome {
    let ranks = (0..setting.nodes).map(Rank::from_index);
    let start = State {
        nodes: ranks.map(|rank| Node::start(rank, setting)).collect(),
        links: HashMap::new(),
    };
    let mut known: HashSet<Vec<u8>> = HashSet::from([start.encode()]);
    let mut paths: Vec<(usize, String)> = vec![(0, String::new())];
    let mut open = VecDeque::from([(0, start)]);
    while let Some((at, state)) = open.pop_front() {
        let mut rest = true;
        let mut fault = None;
        state.steps(setting, |label, obligatory, after| {
            rest &= !obligatory;
            match after {
                Err(what) => drop(fault.get_or_insert((what, label))),
                Ok(after) if known.insert(after.encode()) => {
                    paths.push((at, label));
                    open.push_back((paths.len() - 1, after));
                }
                Ok(_) => {}
            }
        });
        let checked = state.check(setting, rest).map_err(|what| (what, String::new()));
        if let Err((what, last)) = fault.map_or(checked, Err) {
            let mut steps = vec![last];
            let mut at = at;
            while at > 0 {
                steps.push(paths[at].1.clone());
                at = paths[at].0;
            }
            steps.reverse();
            return Err((what, steps));
        }
    }
    Ok(known.len())
}

/// Explores each setting and prints a table.
pub(crate) fn run(settings: &[Setting]) -> Vec<Outcome> {
    settings
        .iter()
        .map(|setting| {
            let begun = std::time::Instant::now();
            let outcome = explore(setting);
            let seconds = begun.elapsed().as_secs_f64();
            match &outcome {
                Ok(states) => println!("{:<48} {states:>9}  holds ({seconds:.1} s)", setting.name),
                Err((what, steps)) => {
                    println!("{:<48} BROKEN: {what}\n     {}", setting.name, steps.join("; "));
                }
            }
            outcome
        })
        .collect()
}
