//! Calls that all nodes make together, through rank 0: sums, and with them barriers and new tables.

use std::time::Duration;

use sterna_protocol::record::{Arena, Kind, REDUCE_MAX, Reduce, ReduceStep};
use sterna_protocol::{Rank, TableId};
use sterna_rdma::RegionToken;

use super::{PeerChunks, Remote};
use crate::config;
use crate::error::{Error, Result};
use crate::policy::Policy;
use crate::table::Table;

/// How long to sleep before looking again; whatever arrives ends the sleep.
const PAUSE: Duration = Duration::from_millis(50);

/// Who makes a collective call. Nodes make tables and reports while their workers meet, so each has rounds of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Callers {
    /// The workers, by the one that arrived last at its node.
    Workers,
    /// The nodes themselves, one call at a time.
    Nodes,
}

impl Callers {
    pub(super) const ALL: [Self; 2] = [Self::Workers, Self::Nodes];

    /// Rounds of workers lie below 2^31, those of nodes above.
    const fn first_round(self) -> u32 {
        (self as u32) << 31
    }

    pub(super) const fn of_round(round: u32) -> Self {
        Self::ALL[(round >> 31) as usize]
    }
}

/// The sums under way. Rounds are numbered; a node begins one only when it has the result of the one before.
#[derive(Debug)]
pub(super) struct Reduction {
    round: u32,
    parts: Vec<Option<Vec<f64>>>,
    result: Option<(u32, Vec<f64>)>,
}

impl Reduction {
    pub(super) fn new(callers: Callers, size: usize) -> Self {
        Self { round: callers.first_round(), parts: vec![None; size], result: None }
    }

    /// A part (at rank 0) or a result.
    pub(super) fn on_record(&mut self, from: Rank, reduce: &Reduce<'_>) -> Result<(), String> {
        let numbers: Vec<f64> = reduce.iter().collect();
        match reduce.step {
            ReduceStep::Result if from == Rank(0) => self.result = Some((reduce.round, numbers)),
            ReduceStep::Part if reduce.round == self.round + 1 => {
                if self.parts[from.index()].replace(numbers).is_some() {
                    return Err(format!("{from} sent two parts of one sum"));
                }
            }
            _ => return Err(format!("{from} is at another collective call")),
        }
        Ok(())
    }
}

impl Remote {
    /// Replaces `values` by their sum over all nodes; all nodes call it. Many numbers take several rounds, as many as
    /// fit a record in each.
    pub(crate) fn all_reduce(&self, callers: Callers, values: &mut [f64]) -> Result<()> {
        let (first, rest) = values.split_at_mut(values.len().min(REDUCE_MAX));
        self.reduce_part(callers, first)?;
        rest.chunks_mut(REDUCE_MAX).try_for_each(|part| self.reduce_part(callers, part))
    }

    fn reduce_part(&self, callers: Callers, values: &mut [f64]) -> Result<()> {
        let (here, size) = (self.fabric.rank(), self.fabric.size());
        let deadline = self.now() + self.meeting_limit;
        let round = {
            let mut engine = self.engine();
            let round = engine.reductions[callers as usize].round + 1;
            if here == Rank(0) {
                engine.reductions[callers as usize].parts[0] = Some(values.to_vec());
            } else {
                engine.tell(Rank(0), Kind::Reduce, TableId(0), round, |writer| {
                    writer.reduce(ReduceStep::Part, values);
                });
                engine.reductions[callers as usize].round = round;
            }
            round
        };
        // A peer may send what is waited for and leave: look once more before calling it lost.
        let mut fault = None;
        loop {
            let missing: Vec<Rank> = {
                let mut engine = self.engine();
                let reduction = &mut engine.reductions[callers as usize];
                if here == Rank(0) && reduction.parts.iter().all(Option::is_some) {
                    sum(&mut reduction.parts, values)?;
                    reduction.round = round;
                    engine.tell_all(Kind::Reduce, TableId(0), round, |writer| {
                        writer.reduce(ReduceStep::Result, values);
                    });
                    drop(engine);
                    return self.deliver(deadline);
                }
                match reduction.result.take() {
                    Some((of, result)) if of == round && result.len() == values.len() => {
                        values.copy_from_slice(&result);
                        return Ok(());
                    }
                    Some((of, _)) => {
                        return Err(Error::Config(format!(
                            "rank 0 is at collective call {of}, this node at {round}: all nodes must make the same calls"
                        )));
                    }
                    None if here == Rank(0) => {
                        let absent = |rank: &usize| reduction.parts[*rank].is_none();
                        (1..size).filter(absent).map(Rank::from_index).collect()
                    }
                    None => vec![Rank(0)],
                }
            };
            if let Some(error) = fault {
                return Err(error);
            }
            fault = self.await_peers("a meeting of all nodes", &missing, deadline).err();
        }
    }

    /// The workers' meeting: sums, and lets no replica be used afterwards whose base was read before. All updates have been
    /// acknowledged when it begins, and are on the boards therefore.
    pub(crate) fn meet(&self, values: &mut [f64]) -> Result<()> {
        // So are the changes of main copies by their own node.
        self.fold_board(&mut self.engine());
        self.all_reduce(Callers::Workers, values)?;
        // Replicas may come while nodes wait for each other, so whether there are any is not asked.
        if self.policy != Policy::Classic {
            self.refresh_all()?;
        }
        Ok(())
    }

    /// Waits until the links have taken all control records.
    fn deliver(&self, deadline: Duration) -> Result<()> {
        loop {
            let left: Vec<Rank> = self.engine().unsent.iter().map(|(to, _)| *to).collect();
            if left.is_empty() {
                return Ok(());
            }
            // Whoever has the sum may leave, while others' is on its way still.
            self.await_step("a meeting of all nodes", &left, deadline)?;
        }
    }

    /// Tells all peers of this node's part of a table, and learns theirs.
    pub(crate) fn exchange_chunks(
        &self,
        spec: (TableId, &str, &str),
        tokens: &[(Arena, Vec<RegionToken>)],
        expected: &[([usize; 2], [usize; 2])],
    ) -> Result<PeerChunks> {
        let (table, name, definition) = spec;
        let peers = {
            let mut engine = self.engine();
            engine.tell_all(Kind::Table, table, 0, |writer| {
                writer.table(name, definition.as_bytes());
            });
            for &(arena, ref tokens) in tokens {
                for (index, token) in (0_u32..).zip(tokens) {
                    engine.tell_all(Kind::Chunk, table, 0, |writer| {
                        writer.chunk(arena, index, token);
                    });
                }
            }
            engine.machine.others()
        };
        let deadline = self.now() + self.meeting_limit;
        let mut fault = None;
        loop {
            let missing = match self.missing_chunks(spec, &peers, expected) {
                Ok(missing) => missing,
                Err(error) => {
                    // The others are to see the difference, too, and not just a node that left.
                    let _ = self.deliver(deadline);
                    return Err(error);
                }
            };
            if missing.is_empty() {
                break;
            }
            if let Some(error) = fault {
                return Err(error);
            }
            fault = self.await_peers("creating a table", &missing, deadline).err();
        }
        let chunks = PeerChunks::new(expected.iter().map(|&(_, most)| most));
        self.engine().chunks.retain(|&(of, peer, arena, index), &mut region| {
            of != table || !chunks.learn(peer, arena, index as usize, region)
        });
        Ok(chunks)
    }

    /// Peers that have not told all yet; an error if one makes another table.
    fn missing_chunks(
        &self,
        (table, name, definition): (TableId, &str, &str),
        peers: &[Rank],
        expected: &[([usize; 2], [usize; 2])],
    ) -> Result<Vec<Rank>> {
        let engine = self.engine();
        let mut missing = Vec::new();
        for &peer in peers {
            match engine.definitions.get(&(table, peer)) {
                None => missing.push(peer),
                Some((theirs, said)) if theirs != name || said != definition.as_bytes() => {
                    let said = String::from_utf8_lossy(said);
                    let reason = format!(
                        "{peer} makes another table: `{theirs}`, {said}; here it is {definition}"
                    );
                    return Err(Error::Table { table: name.to_owned(), reason });
                }
                Some(_) => {
                    let told = |arena: Arena, count: usize| {
                        (0_u32..)
                            .take(count)
                            .all(|index| engine.chunks.contains_key(&(table, peer, arena, index)))
                    };
                    let (start, _) = expected[peer.index()];
                    if !told(Arena::Rows, start[0]) || !told(Arena::Directory, start[1]) {
                        missing.push(peer);
                    }
                }
            }
        }
        Ok(missing)
    }

    /// Makes a table known to the engine.
    pub(crate) fn add_table(&self, table: Table) {
        let mut engine = self.engine();
        engine.announced.push(table.0.rows.arena().chunks());
        engine.tables.push(table);
    }

    fn await_peers(&self, what: &str, missing: &[Rank], deadline: Duration) -> Result<()> {
        missing.iter().try_for_each(|&rank| self.check_peer(rank))?;
        self.await_step(what, missing, deadline)
    }

    fn await_step(&self, what: &str, missing: &[Rank], deadline: Duration) -> Result<()> {
        self.check_deaths()?;
        if self.now() >= deadline {
            let names: Vec<String> = missing.iter().map(Rank::to_string).collect();
            return Err(Error::Timeout {
                what: what.to_owned(),
                seconds: self.meeting_limit.as_secs(),
                waiting_for: names.join(", "),
                setting: config::MEETING_LIMIT,
            });
        }
        self.help(PAUSE)
    }
}

/// Adds up the parts in the order of ranks, so that every run gives the same sum.
fn sum(parts: &mut [Option<Vec<f64>>], values: &mut [f64]) -> Result<()> {
    values.fill(0.0);
    for part in parts {
        let part = part.take().expect("all parts are here");
        if part.len() != values.len() {
            let reason = "nodes meet with vectors of different lengths".to_owned();
            return Err(Error::Config(reason));
        }
        for (sum, number) in values.iter_mut().zip(part) {
            *sum += number;
        }
    }
    Ok(())
}
