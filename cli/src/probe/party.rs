//! A node of a job that only measures: its region, its peers' regions, what arrived, and how it waits.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use sterna_rdma::topology::Topology;
use sterna_rdma::{
    Fabric, FabricConfig, LostReason, READ_BYTES_MAX, Rank, Region, RegionSpec, RegionToken,
    Rights, SendError, Sink,
};

use super::rows;
use super::wire::{Arrived, Kind, header, parse};

/// Bytes that each party lets the others read: more than caches hold of it, less than anybody misses.
pub(super) const REGION_BYTES: usize = 16 << 20;

const _: () = assert!(REGION_BYTES > 2 * READ_BYTES_MAX);

/// The longest wait for an answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// How long a party that polls does so before it sleeps after all, unless told otherwise; as long as an engine.
const POLL_LIMIT: Duration = Duration::from_micros(50);

/// The longest sleep when something is to arrive, which ends it.
const SLEEP_MAX: Duration = Duration::from_millis(10);

/// The longest sleep when credit is to come back, which nothing announces.
const CREDIT_SLEEP_MAX: Duration = Duration::from_micros(100);

/// Records taken at once.
const BUDGET: usize = 64;

/// How a party waits for what comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// It polls for so long and then sleeps: there is a CPU for each party.
    Poll(Duration),
    /// It sleeps soon: CPUs are shared.
    Park,
}

impl Waiting {
    /// The way for so many parties on this host, as it was before any thread was pinned.
    pub(crate) fn for_parties(topology: &Topology, parties: usize) -> Self {
        if parties <= topology.parallelism() { Self::Poll(POLL_LIMIT) } else { Self::Park }
    }

    /// The same, but it polls for `limit` if it polls at all.
    pub(crate) fn polling_for(self, limit: Duration) -> Self {
        match self {
            Self::Poll(_) => Self::Poll(limit),
            Self::Park => Self::Park,
        }
    }
}

/// A node that only measures.
pub(crate) struct Party {
    pub(super) fabric: Arc<dyn Fabric>,
    pub(super) inbox: Inbox,
    pub(super) waiting: Waiting,
    /// By rank; `None` for this node.
    pub(super) theirs: Vec<Option<RegionToken>>,
    /// What the others read.
    pub(super) ours: Arc<Region>,
}

impl Party {
    /// Joins the job and makes all regions known to all.
    pub(crate) fn join(config: FabricConfig, waiting: Waiting) -> anyhow::Result<Self> {
        let fabric = sterna_rdma::job::open(config)?;
        let spec = RegionSpec { name: "probe", bytes: REGION_BYTES, rights: Rights::Read };
        let ours = fabric.allocate(spec)?;
        rows::fill(&ours, fabric.rank());
        let token = fabric.export(&ours)?;
        let size = fabric.size();
        let mut party =
            Self { inbox: Inbox::new(size), waiting, theirs: vec![None; size], ours, fabric };
        for peer in party.peers() {
            party.send(peer, Kind::Token, 0, &token.to_bytes())?;
        }
        for peer in party.peers() {
            let token = party.receive(peer, Kind::Token)?;
            let bytes = token.content[..].try_into().context("a token of another length")?;
            let token = RegionToken::from_bytes(bytes);
            party.fabric.import(peer, &token)?;
            party.theirs[peer.index()] = Some(token);
        }
        Ok(party)
    }

    pub(crate) fn rank(&self) -> Rank {
        self.fabric.rank()
    }

    pub(crate) fn size(&self) -> usize {
        self.fabric.size()
    }

    pub(crate) fn fabric(&self) -> &dyn Fabric {
        &*self.fabric
    }

    /// All ranks but this one.
    pub(crate) fn peers(&self) -> Vec<Rank> {
        (0..self.size()).map(Rank::from_index).filter(|&rank| rank != self.rank()).collect()
    }

    /// Answers what the others ask until one of them sends a message, which is returned with its sender, or one says that the work
    /// is over.
    pub(crate) fn serve(&mut self) -> anyhow::Result<Option<(Rank, Vec<u8>)>> {
        let mut idle = Idle::new();
        loop {
            let Some(arrived) = self.inbox.arrived.pop_front() else {
                self.step(&mut idle)?;
                self.inbox.check_served()?;
                continue;
            };
            let from = arrived.from;
            match arrived.kind {
                Kind::Echo => self.send(from, Kind::Echoed, arrived.value, &arrived.content)?,
                Kind::Gather => {
                    let bytes = usize::try_from(arrived.value).unwrap_or(0);
                    let rows = self
                        .gather(bytes, &arrived.content)
                        .with_context(|| format!("{from} asked for rows that are not there"))?;
                    self.send(from, Kind::Gathered, arrived.value, &rows)?;
                }
                Kind::Count => {
                    let bytes = std::mem::take(&mut self.inbox.streamed[from.index()]);
                    self.send(from, Kind::Counted, bytes, &[])?;
                }
                Kind::Message => return Ok(Some((from, arrived.content))),
                Kind::Stop => return Ok(None),
                other => bail!("{from} sent {other:?} to a party that serves"),
            }
        }
    }

    /// Serves until the work is over; messages are no part of it.
    pub(crate) fn serve_to_the_end(mut self) -> anyhow::Result<()> {
        match self.serve()? {
            None => Ok(()),
            Some((from, _)) => bail!("{from} sent a message to a party that only serves"),
        }
    }

    /// Tells all peers that the work is over. Those that are gone need not be told.
    pub(crate) fn stop_all(&mut self) {
        for peer in self.peers() {
            let _ = self.send(peer, Kind::Stop, 0, &[]);
        }
        // What was sent is on its way when the peer takes it or is gone; the fabric's end does not wait for that.
        let deadline = Instant::now() + Duration::from_secs(1);
        let mut idle = Idle::new();
        while Instant::now() < deadline
            && self.peers().iter().any(|peer| self.inbox.lost[peer.index()].is_none())
        {
            if self.step(&mut idle).is_err() {
                break;
            }
        }
    }

    /// Sends a message to a party that serves.
    pub(crate) fn message(&mut self, to: Rank, content: &[u8]) -> anyhow::Result<()> {
        self.send(to, Kind::Message, 0, content)
    }

    /// Waits for a message of one peer, serving all of them meanwhile.
    pub(crate) fn answer(&mut self, from: Rank) -> anyhow::Result<Vec<u8>> {
        match self.serve()? {
            Some((rank, content)) if rank == from => Ok(content),
            Some((rank, _)) => bail!("{rank} sent a message while {from} was asked"),
            None => bail!("the work was said to be over while {from} was asked"),
        }
    }

    pub(super) fn send(
        &mut self,
        to: Rank,
        kind: Kind,
        value: u64,
        content: &[u8],
    ) -> anyhow::Result<()> {
        let (header, deadline) = (header(kind, value), Instant::now() + ANSWER_LIMIT);
        let mut idle = Idle::new();
        loop {
            match self.fabric.try_send(to, &[&header, content]) {
                Ok(()) => return Ok(()),
                Err(SendError::Full(_) | SendError::Busy(_)) => {}
                Err(error) => return Err(error.into()),
            }
            ensure!(Instant::now() < deadline, "{to} took no record for {ANSWER_LIMIT:?}");
            self.step_until_credit(&mut idle)?;
        }
    }

    /// Waits for the next record, which must be of that kind and peer.
    pub(super) fn receive(&mut self, from: Rank, kind: Kind) -> anyhow::Result<Arrived> {
        let deadline = Instant::now() + ANSWER_LIMIT;
        let mut idle = Idle::new();
        loop {
            let place = self
                .inbox
                .arrived
                .iter()
                .position(|arrived| arrived.from == from && arrived.kind == kind);
            if let Some(arrived) = place.and_then(|place| self.inbox.arrived.remove(place)) {
                return Ok(arrived);
            }
            self.inbox.check(from)?;
            ensure!(Instant::now() < deadline, "{from} did not answer for {ANSWER_LIMIT:?}");
            self.step(&mut idle)?;
        }
    }

    /// Takes what has arrived; sleeps if nothing has for a while.
    pub(super) fn step(&mut self, idle: &mut Idle) -> anyhow::Result<()> {
        self.step_for(idle, SLEEP_MAX)
    }

    /// As [`Self::step`], for one who waits until the peer has consumed.
    pub(super) fn step_until_credit(&mut self, idle: &mut Idle) -> anyhow::Result<()> {
        self.step_for(idle, CREDIT_SLEEP_MAX)
    }

    fn step_for(&mut self, idle: &mut Idle, sleep: Duration) -> anyhow::Result<()> {
        let mut taking = Taking { inbox: &mut self.inbox, fabric: &*self.fabric };
        if self.fabric.poll(BUDGET, &mut taking)? > 0 {
            *idle = Idle::new();
        } else if idle.is_over(self.waiting) {
            self.fabric.park(sleep)?;
        }
        Ok(())
    }
}

impl Drop for Party {
    fn drop(&mut self) {
        self.fabric.goodbye();
    }
}

/// A time without anything to do.
pub(super) struct Idle {
    since: Option<Instant>,
    rounds: u32,
}

impl Idle {
    pub(super) fn new() -> Self {
        Self { since: None, rounds: 0 }
    }

    /// Another round without anything; true once the party should sleep.
    pub(super) fn is_over(&mut self, waiting: Waiting) -> bool {
        self.rounds = self.rounds.saturating_add(1);
        match waiting {
            Waiting::Poll(limit) if self.rounds.is_multiple_of(16) => {
                self.since.get_or_insert_with(Instant::now).elapsed() > limit
            }
            Waiting::Poll(_) => {
                std::hint::spin_loop();
                false
            }
            Waiting::Park if self.rounds < 4 => {
                std::thread::yield_now();
                false
            }
            Waiting::Park => true,
        }
    }
}

/// What arrived and was not used yet.
pub(super) struct Inbox {
    pub(super) arrived: VecDeque<Arrived>,
    /// Bytes of streams by sender.
    pub(super) streamed: Vec<u64>,
    pub(super) lost: Vec<Option<LostReason>>,
    malformed: Option<Rank>,
}

impl Inbox {
    fn new(size: usize) -> Self {
        Self {
            arrived: VecDeque::new(),
            streamed: vec![0; size],
            lost: vec![None; size],
            malformed: None,
        }
    }

    /// An error if `peer` is gone.
    pub(super) fn check(&self, peer: Rank) -> anyhow::Result<()> {
        self.check_where(|rank, _| rank == peer)
    }

    /// An error if a party that serves has nobody to serve any more. One that rank 0 has told before this one that the work is
    /// over may leave before this one hears it.
    fn check_served(&self) -> anyhow::Result<()> {
        self.check_where(|rank, reason| rank == Rank(0) || *reason != LostReason::Goodbye)
    }

    fn check_where(&self, matters: impl Fn(Rank, &LostReason) -> bool) -> anyhow::Result<()> {
        if let Some(from) = self.malformed {
            bail!("{from} sent a record that no party sends: another version of sterna?");
        }
        for (rank, lost) in self.lost.iter().enumerate() {
            let rank = Rank::from_index(rank);
            if let Some(reason) = lost
                && matters(rank, reason)
            {
                bail!("{rank} is lost: {reason:?}");
            }
        }
        Ok(())
    }
}

/// Takes what arrives; answers at once, from where the record lies, what asks for nothing but itself.
struct Taking<'a> {
    inbox: &'a mut Inbox,
    fabric: &'a dyn Fabric,
}

impl Sink for Taking<'_> {
    fn record(&mut self, from: Rank, record: &[u8]) {
        let inbox = &mut *self.inbox;
        match parse(record) {
            Some((Kind::Stream, ..)) => inbox.streamed[from.index()] += record.len() as u64,
            // After those that wait already.
            Some((Kind::Echo, value, content))
                if inbox.arrived.is_empty()
                    && self
                        .fabric
                        .try_send(from, &[&header(Kind::Echoed, value), content])
                        .is_ok() => {}
            Some((kind, value, content)) => {
                let at = Instant::now();
                let content = content.to_vec();
                inbox.arrived.push_back(Arrived { from, kind, value, content, at });
            }
            None => inbox.malformed = Some(from),
        }
    }

    fn peer_lost(&mut self, peer: Rank, reason: LostReason) {
        self.inbox.lost[peer.index()] = Some(reason);
    }
}
