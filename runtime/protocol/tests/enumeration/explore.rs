//! Visiting every state, breadth first, and checking each.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::rc::Rc;

use sterna_protocol::Rank;
use sterna_protocol::record::{Header, Kind};

use super::Setting;
use super::node::{Exposed, Input, Node};
use super::rows::SET;

/// What came out of one setting.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) name: &'static str,
    pub(crate) states: usize,
    pub(crate) steps: usize,
    pub(crate) depth: usize,
    pub(crate) complete: bool,
    pub(crate) seconds: f64,
    pub(crate) broken: Option<Broken>,
}

/// A state that must not be, and the steps that lead there.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) what: String,
    pub(crate) steps: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, states, steps, depth, seconds, .. } = self;
        write!(f, "{name:<44} {states:>9} {steps:>10} {depth:>6}  ")?;
        match &self.broken {
            Some(broken) => write!(
                f,
                "BROKEN after {} steps: {}\n     {}",
                broken.steps.len(),
                broken.what,
                broken.steps.join("; ")
            ),
            None if self.complete => write!(f, "holds ({seconds:.1} s)"),
            None => write!(f, "holds as far as explored ({seconds:.1} s)"),
        }
    }
}

/// Multiplies and mixes: keys are numbers that were given in order, nobody chooses them.
#[derive(Default)]
pub(crate) struct Mix(u64);

impl Hasher for Mix {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 ^= self.0 >> 29;
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(u64::from(word));
    }

    fn write_u16(&mut self, word: u16) {
        self.write_u64(u64::from(word));
    }
}

type Map<K, V> = HashMap<K, V, BuildHasherDefault<Mix>>;

/// Things met so far, each with its number.
struct Numbered<T> {
    numbers: Map<T, u32>,
    things: Vec<T>,
}

impl<T: Clone + Eq + Hash> Numbered<T> {
    fn new() -> Self {
        Self { numbers: Map::default(), things: Vec::new() }
    }

    fn number(&mut self, thing: &T) -> u32 {
        if let Some(&number) = self.numbers.get(thing) {
            return number;
        }
        let number = u32::try_from(self.things.len()).expect("fewer than 2^32");
        self.things.push(thing.clone());
        self.numbers.insert(thing.clone(), number);
        number
    }
}

/// The directed pairs of nodes.
const LINKS: [(u16, u16); 6] = [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)];

fn link(from: usize, to: Rank) -> usize {
    let pair = (u16::try_from(from).expect("three"), to.0);
    LINKS.iter().position(|&link| link == pair).expect("nodes do not send to themselves")
}

/// A state of the whole: numbers of three nodes and of the contents of six links.
type State = ([u32; 3], [u16; 6]);

/// A node's step with all parts numbered.
struct Step {
    label: String,
    node: u32,
    /// Link and record.
    sent: Vec<(usize, u16)>,
    obligatory: bool,
    fault: Option<String>,
}

/// What is asked of a node often, worked out once.
struct Facts {
    node: Node,
    exposed: Exposed,
    reading_from: Option<Rank>,
    /// By which links are ready.
    local: [Option<Rc<[Step]>>; 8],
}

struct Explorer<'a> {
    setting: &'a Setting,
    nodes: Numbered<Vec<u8>>,
    facts: Vec<Facts>,
    records: Numbered<Vec<u8>>,
    /// Contents of links: records, oldest first.
    queues: Numbered<Vec<u16>>,
    /// Grant moves in each content.
    moves: Vec<u8>,
    taken: Map<(u32, u16, u32), Rc<[Step]>>,
    fetched: Map<(u32, Exposed, u8), Rc<[Step]>>,
    directory: Map<(u32, u64, u8), Rc<[Step]>>,
    scratch: Vec<u8>,
}

/// Explores all of a setting's states.
pub(crate) fn explore(setting: &Setting) -> Report {
    let begun = std::time::Instant::now();
    let mut report = Explorer::new(setting).run();
    report.seconds = begun.elapsed().as_secs_f64();
    report
}

impl<'a> Explorer<'a> {
    fn new(setting: &'a Setting) -> Self {
        Self {
            setting,
            nodes: Numbered::new(),
            facts: Vec::new(),
            records: Numbered::new(),
            queues: Numbered::new(),
            moves: Vec::new(),
            taken: Map::default(),
            fetched: Map::default(),
            directory: Map::default(),
            scratch: Vec::new(),
        }
    }

    fn node(&mut self, node: Node) -> u32 {
        node.encode(&mut self.scratch);
        let number = self.nodes.number(&self.scratch);
        if number as usize == self.facts.len() {
            let (exposed, reading_from) = (node.exposed(), node.reading_from());
            self.facts.push(Facts { node, exposed, reading_from, local: Default::default() });
        }
        number
    }

    fn queue(&mut self, records: &Vec<u16>) -> u16 {
        let number = self.queues.number(records);
        if number as usize == self.moves.len() {
            let moves = records.iter().filter(|&&record| {
                let record = &self.records.things[usize::from(record)];
                Header::split(record).expect("a record").0.kind == Kind::GrantMove
            });
            self.moves.push(u8::try_from(moves.count()).expect("few"));
        }
        u16::try_from(number).expect("fewer than 2^16 contents of links")
    }

    fn start(&mut self) -> State {
        let empty = self.queue(&Vec::new());
        let nodes = [0, 1, 2].map(|rank| self.node(Node::start(Rank(rank), self.setting)));
        (nodes, [empty; 6])
    }

    fn steps(&mut self, node: u32, input: &Input<'_>, ready: u8) -> Rc<[Step]> {
        let from = self.facts[node as usize].node.clone();
        let at = (0..3).find(|&at| Rank(at) == from.rank()).expect("three");
        let ready = [0, 1, 2].map(|to| ready >> to & 1 == 1);
        let outcomes = from.steps(input, ready, self.setting);
        outcomes
            .into_iter()
            .map(|outcome| Step {
                label: outcome.label,
                sent: outcome
                    .sent
                    .iter()
                    .map(|(to, record)| {
                        let number = self.records.number(record);
                        (link(usize::from(at), *to), u16::try_from(number).expect("few records"))
                    })
                    .collect(),
                node: self.node(outcome.node),
                obligatory: outcome.obligatory,
                fault: outcome.fault,
            })
            .collect()
    }

    /// Which links of a node take a record: a bit for each receiver.
    fn ready(&self, links: [u16; 6], at: usize) -> u8 {
        let full = |index: usize| !self.queues.things[usize::from(links[index])].is_empty();
        let closed = LINKS
            .iter()
            .enumerate()
            .filter(|&(index, &(from, _))| usize::from(from) == at && full(index))
            .fold(0, |closed, (_, &(_, to))| closed | 1 << to);
        if self.setting.narrow { 7 & !closed } else { 7 }
    }

    /// All steps of a state, by node.
    fn all(&mut self, state: &State, mut each: impl FnMut(&mut Self, usize, Option<usize>, &Step)) {
        let (nodes, links) = *state;
        for at in 0..3 {
            let (number, ready) = (nodes[at], self.ready(links, at));
            let known = |facts: &Facts| facts.local[usize::from(ready)].clone();
            let local = match known(&self.facts[number as usize]) {
                Some(steps) => steps,
                None => {
                    let steps = self.steps(number, &Input::Local, ready);
                    self.facts[number as usize].local[usize::from(ready)] = Some(Rc::clone(&steps));
                    steps
                }
            };
            local.iter().for_each(|step| each(self, at, None, step));
            if let Some(owner) = self.facts[number as usize].reading_from {
                let exposed = self.facts[nodes[owner.index()] as usize].exposed;
                let steps = match self.fetched.get(&(number, exposed, ready)) {
                    Some(steps) => Rc::clone(steps),
                    None => {
                        let steps = self.steps(number, &Input::Fetch(exposed), ready);
                        self.fetched.insert((number, exposed, ready), Rc::clone(&steps));
                        steps
                    }
                };
                steps.iter().for_each(|step| each(self, at, None, step));
            }
            self.look_home(nodes, at, ready, &mut each);
        }
        for (index, &(from, to)) in LINKS.iter().enumerate() {
            let Some(&record) = self.queues.things[usize::from(links[index])].first() else {
                continue;
            };
            let ready = self.ready(links, usize::from(to));
            let source = from | u16::from(ready) << 8;
            let key = (nodes[usize::from(to)], source, u32::from(record));
            let steps = match self.taken.get(&key) {
                Some(steps) => Rc::clone(steps),
                None => {
                    let bytes = self.records.things[usize::from(record)].clone();
                    let steps = self.steps(key.0, &Input::Record(Rank(from), &bytes), ready);
                    self.taken.insert(key, Rc::clone(&steps));
                    steps
                }
            };
            steps.iter().for_each(|step| each(self, usize::from(to), Some(index), step));
        }
    }

    /// Any node may look at the home's directory at any time.
    fn look_home(
        &mut self,
        nodes: [u32; 3],
        at: usize,
        ready: u8,
        each: &mut impl FnMut(&mut Self, usize, Option<usize>, &Step),
    ) {
        let Some(word) = self.facts[nodes[1] as usize].node.directory() else { return };
        let number = nodes[at];
        if !self.facts[number as usize].node.would_learn(word) {
            return;
        }
        let steps = match self.directory.get(&(number, word.0, ready)) {
            Some(steps) => Rc::clone(steps),
            None => {
                let steps = self.steps(number, &Input::Directory(word), ready);
                self.directory.insert((number, word.0, ready), Rc::clone(&steps));
                steps
            }
        };
        steps.iter().for_each(|step| each(self, at, None, step));
    }

    fn after(&mut self, state: &State, at: usize, taken: Option<usize>, step: &Step) -> State {
        let (mut nodes, mut links) = *state;
        nodes[at] = step.node;
        if let Some(index) = taken {
            let rest = self.queues.things[usize::from(links[index])][1..].to_vec();
            links[index] = self.queue(&rest);
        }
        for &(index, record) in &step.sent {
            let mut records = self.queues.things[usize::from(links[index])].clone();
            records.push(record);
            links[index] = self.queue(&records);
        }
        (nodes, links)
    }

    fn run(mut self) -> Report {
        let start = self.start();
        let mut numbers: Map<State, u32> = Map::default();
        let mut states = vec![start];
        let mut parents = vec![0_u32];
        let mut edges: Vec<(u32, u32)> = Vec::new();
        numbers.insert(start, 0);
        let (mut next, mut steps, mut depth, mut level_end) = (0, 0, 0, 1);
        let mut broken: Option<(usize, String)> = None;
        while next < states.len() && broken.is_none() && states.len() < self.setting.states_max {
            if next == level_end {
                depth += 1;
                level_end = states.len();
            }
            let state = states[next];
            let mut obligatory = false;
            let mut fault = None;
            self.all(&state, |explorer, at, taken, step| {
                steps += 1;
                obligatory |= step.obligatory;
                if let Some(what) = &step.fault {
                    fault.get_or_insert_with(|| format!("{what} [{}]", step.label));
                    return;
                }
                let after = explorer.after(&state, at, taken, step);
                let fresh = u32::try_from(states.len()).expect("fewer than 2^32");
                let number = *numbers.entry(after).or_insert(fresh);
                if number == fresh {
                    states.push(after);
                    parents.push(u32::try_from(next).expect("fewer than 2^32"));
                }
                if explorer.setting.cycles && step.obligatory {
                    edges.push((u32::try_from(next).expect("as above"), number));
                }
            });
            let fault = fault.or_else(|| self.one_owner(&state));
            let fault = fault.or_else(|| if obligatory { None } else { self.at_rest(&state) });
            broken = fault.map(|what| (next, what));
            next += 1;
        }
        let complete = next == states.len();
        let cycle = complete && broken.is_none() && has_cycle(states.len(), &edges);
        let broken = broken
            .map(|(at, what)| Broken { what, steps: self.trace(&states, &parents, at) })
            .or_else(|| {
                cycle.then(|| Broken {
                    what: "livelock: a cycle of steps that nobody asked for".into(),
                    steps: Vec::new(),
                })
            });
        let (name, states) = (self.setting.name, states.len());
        Report { name, states, steps, depth, complete, seconds: 0.0, broken }
    }

    /// I1: the main copy is at one node or in one grant.
    fn one_owner(&self, (nodes, links): &State) -> Option<String> {
        let live = nodes.iter().filter(|&&node| self.facts[node as usize].node.live()).count();
        let moving: usize =
            links.iter().map(|&link| usize::from(self.moves[usize::from(link)])).sum();
        if live + moving != 1 {
            return Some(format!("I1: {live} Live and {moving} on their way"));
        }
        self.home_leads(nodes, links)
    }

    /// I1: from the home's word pointers of growing epochs lead to the owner, or to whom a grant is on its way.
    fn home_leads(&self, nodes: &[u32; 3], links: &[u16; 6]) -> Option<String> {
        if self.setting.evictions != [0; 3] {
            // A node that may forget is looked up at the home again; requests that meet it are sent there.
            return None;
        }
        let node = |rank: Rank| &self.facts[nodes[rank.index()] as usize].node;
        let word = node(super::rows::HOME).directory()?;
        let (mut at, mut epoch) = (word.owner(), word.epoch());
        loop {
            let granted = LINKS
                .iter()
                .zip(links)
                .any(|(&(_, to), &link)| Rank(to) == at && self.moves[usize::from(link)] > 0);
            if node(at).live() || granted {
                return None;
            }
            let (next, since) = node(at).points();
            if !since.newer_than(epoch) {
                return Some(format!("I1: pointers end at {at}"));
            }
            (at, epoch) = (next, since);
        }
    }

    /// Checks of a state in which nothing happens by itself any more.
    fn at_rest(&self, (nodes, links): &State) -> Option<String> {
        let nodes = nodes.map(|node| &self.facts[node as usize].node);
        let open: Vec<String> = nodes.iter().map(|node| node.open()).collect();
        let waiting = links.iter().any(|&link| !self.queues.things[usize::from(link)].is_empty());
        let Some(owner) = nodes.iter().find(|node| node.live()) else {
            return Some("stuck: nobody owns the row".into());
        };
        if waiting || open.iter().any(|open| !open.is_empty()) {
            return Some(format!("stuck: {open:?}"));
        }
        for (rank, node) in (0..).map(Rank).zip(nodes) {
            match (node.replica(), owner.holders().contains(&rank)) {
                (true, false) => return Some(format!("orphan: {rank} is in no list of holders")),
                (false, true) => return Some(format!("leak: {rank} is listed as a holder")),
                _ => {}
            }
        }
        self.conserved(owner.row(), nodes)
    }

    /// I2: every push is in the row once, unless a set came after it.
    fn conserved(&self, row: u32, nodes: [&Node; 3]) -> Option<String> {
        let set = nodes.iter().any(|node| node.set_after().is_some());
        if set != (row & SET != 0) {
            return Some(format!(
                "I2: the set is {} in the row",
                if set { "not" } else { "twice" }
            ));
        }
        let mut shift = 0;
        for (at, node) in nodes.iter().enumerate() {
            for push in 0..self.setting.pushes[at] {
                let count = row >> shift & 3;
                shift += 2;
                let made = u32::from(push < node.pushed());
                let right = match node.set_after() {
                    Some(before) => count == u32::from(made == 1 && push >= before),
                    None if set => count <= made,
                    None => count == made,
                };
                if !right {
                    return Some(format!(
                        "I2: push {push} of node {at} is {count} times in the row"
                    ));
                }
            }
        }
        None
    }

    fn trace(&mut self, states: &[State], parents: &[u32], mut at: usize) -> Vec<String> {
        let mut labels = Vec::new();
        while at != 0 {
            let (state, parent) = (states[at], parents[at] as usize);
            let mut found = None;
            self.all(&states[parent], |explorer, node, taken, step| {
                if found.is_none()
                    && step.fault.is_none()
                    && explorer.after(&states[parent], node, taken, step) == state
                {
                    found = Some(step.label.clone());
                }
            });
            labels.push(found.unwrap_or_default());
            at = parent;
        }
        labels.reverse();
        labels
    }
}

/// Takes away states that nothing leads to, until none is left or all that are left are in or behind a
/// cycle.
fn has_cycle(states: usize, edges: &[(u32, u32)]) -> bool {
    let mut into = vec![0_u32; states];
    let mut first = vec![0_usize; states + 1];
    for &(from, to) in edges {
        into[to as usize] += 1;
        first[from as usize + 1] += 1;
    }
    for at in 0..states {
        first[at + 1] += first[at];
    }
    // Edges were noted state by state, so they are sorted by where they start.
    let mut free: Vec<usize> = (0..states).filter(|&at| into[at] == 0).collect();
    let mut gone = 0;
    while let Some(at) = free.pop() {
        gone += 1;
        for &(_, to) in &edges[first[at]..first[at + 1]] {
            into[to as usize] -= 1;
            if into[to as usize] == 0 {
                free.push(to as usize);
            }
        }
    }
    gone < states
}
