//! A node's fabric, wrapped: what passes is shown to the [`Wire`].
//!
//! A [`Sabotage`] breaks a rule on purpose: it shows that the checker of that rule can fail.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use sterna_protocol::ids::Epoch;
use sterna_protocol::record::{Header, Kind, Record, Writer};
use sterna_rdma::{
    Completion, Fabric, FabricCounters, FabricError, LostReason, Provider, Rank, Read, ReadData,
    ReadLane, Region, RegionId, RegionSpec, RegionToken, SendError, Sink,
};

use super::wire::Wire;

/// A rule that is broken on purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sabotage {
    #[default]
    Nothing,
    /// Shares arrive as moves, so that a row has two owners: against I1.
    ShareAsMove,
    /// Updates lose what they say: against I2.
    EmptyUpdate,
    /// READs as devices do them, of slots that are used again at once: against I3.
    ReusedSlot,
    /// Acquires are passed on with the epoch that they came with: against I4.
    SameEpoch,
    /// An answer says that all was applied: against I5.
    FalseAck,
    /// Grants and refusals are lost: against I6.
    LostGrant,
    /// More is held than a limit that is taken to be smaller: against I7.
    Hoard,
    /// READs of a row show the values that the first one showed: against I8.
    OldRead,
    /// The policy is `ssp`, but nobody waits or reads anew: against I9.
    NoBound,
    /// An engine does not look at what has arrived: against I11.
    Deaf,
}

impl Sabotage {
    pub const ALL: [Self; 11] = [
        Self::Nothing,
        Self::ShareAsMove,
        Self::EmptyUpdate,
        Self::ReusedSlot,
        Self::SameEpoch,
        Self::FalseAck,
        Self::LostGrant,
        Self::Hoard,
        Self::OldRead,
        Self::NoBound,
        Self::Deaf,
    ];
}

/// Offset of an item's epoch in records whose items begin with key and epoch.
const EPOCH_AT: usize = 24;

/// A node's fabric whose traffic is seen.
pub struct Tapped {
    pub(super) inner: Arc<dyn Fabric>,
    pub(super) wire: Arc<Wire>,
}

impl Tapped {
    /// A record as the link gets it.
    fn leaves(&self, record: &mut [u8]) {
        if self.wire.sabotage == Sabotage::SameEpoch
            && let Ok(Record::Acquire(acquires)) = Record::decode(record)
            && acquires.iter().any(|it| it.requester != self.inner.rank())
        {
            record[EPOCH_AT..EPOCH_AT + 4].copy_from_slice(&Epoch::FIRST.get().to_le_bytes());
        }
    }

    /// A record as its receiver gets it; nothing if it is lost.
    fn arrives(&self, record: &[u8]) -> Option<Vec<u8>> {
        let mut record = record.to_vec();
        let kind = Header::split(&record).ok()?.0.kind;
        match (self.wire.sabotage, kind) {
            (Sabotage::ShareAsMove, Kind::GrantShare) => {
                record[0] = Kind::GrantMove as u8;
                let epoch = u32::from_le_bytes(record[EPOCH_AT..EPOCH_AT + 4].try_into().ok()?);
                record[EPOCH_AT..EPOCH_AT + 4].copy_from_slice(&(epoch + 1).to_le_bytes());
            }
            (Sabotage::EmptyUpdate, Kind::Update | Kind::Release) => {
                // Of the first item only, and not what says how long it is.
                let says = EPOCH_AT + 8 + sterna_kernels::Update::empty_bytes();
                let length = u32::from_le_bytes(record[28..32].try_into().ok()?) as usize;
                record[says.min(32 + length)..32 + length].fill(0);
            }
            (Sabotage::FalseAck, Kind::Answer) => {
                let Ok(Record::Answer(answer)) = Record::decode(&record) else { return None };
                let mut acked = vec![0; record.len()];
                let (table, number) = (answer.table, answer.number);
                let mut writer = Writer::new(&mut acked, Kind::Answer, table, number);
                assert!(writer.answer(u32::try_from(answer.len()).ok()?, &[]), "it is shorter");
                record = writer.finish().to_vec();
            }
            (Sabotage::LostGrant, Kind::GrantShare | Kind::GrantMove | Kind::Refuse) => {
                return None;
            }
            _ => {}
        }
        Some(record)
    }
}

/// What is delivered to a node, seen on its way.
struct Watched<'s> {
    tap: &'s Tapped,
    sink: &'s mut dyn Sink,
}

impl Sink for Watched<'_> {
    fn record(&mut self, from: Rank, record: &[u8]) {
        if let Some(record) = self.tap.arrives(record) {
            self.sink.record(from, &record);
            self.tap.wire.delivered(self.tap.inner.rank(), &record);
        }
    }

    fn peer_lost(&mut self, peer: Rank, reason: LostReason) {
        self.sink.peer_lost(peer, reason);
    }
}

impl Fabric for Tapped {
    fn rank(&self) -> Rank {
        self.inner.rank()
    }

    fn size(&self) -> usize {
        self.inner.size()
    }

    fn provider(&self, peer: Rank) -> Provider {
        let guarded = !self.wire.device || self.wire.sabotage == Sabotage::ReusedSlot;
        if guarded { self.inner.provider(peer) } else { Provider::Verbs }
    }

    fn allocate(&self, spec: RegionSpec) -> Result<Arc<Region>, FabricError> {
        self.inner.allocate(spec)
    }

    fn export(&self, region: &Arc<Region>) -> Result<RegionToken, FabricError> {
        self.inner.export(region)
    }

    fn import(&self, peer: Rank, token: &RegionToken) -> Result<(), FabricError> {
        self.inner.import(peer, token)
    }

    fn try_send(&self, to: Rank, parts: &[&[u8]]) -> Result<(), SendError> {
        let mut record = parts.concat();
        self.leaves(&mut record);
        self.inner.try_send(to, &[&record])?;
        self.wire.sent(self.inner.rank(), to, &record);
        Ok(())
    }

    fn poll(&self, budget: usize, sink: &mut dyn Sink) -> Result<usize, FabricError> {
        if self.wire.sabotage == Sabotage::Deaf && self.inner.rank() == Rank(1) {
            return Ok(0);
        }
        self.inner.poll(budget, &mut Watched { tap: self, sink })
    }

    fn park(&self, limit: Duration) -> Result<(), FabricError> {
        self.inner.park(limit)
    }

    fn wake(&self) {
        self.inner.wake();
    }

    fn open_lane(&self) -> Result<Box<dyn ReadLane>, FabricError> {
        let inner = self.inner.open_lane()?;
        if self.wire.sabotage != Sabotage::OldRead {
            return Ok(inner);
        }
        Ok(Box::new(Forgetful { inner, posted: HashMap::new(), first: HashMap::new() }))
    }

    fn expel(&self, peer: Rank, reason: &str) {
        self.inner.expel(peer, reason);
    }

    fn goodbye(&self) {
        self.inner.goodbye();
    }

    fn describe(&self) -> String {
        self.inner.describe()
    }

    fn counters(&self) -> FabricCounters {
        self.inner.counters()
    }
}

/// A lane whose READs show the values that the first READ of their row showed, under today's header.
struct Forgetful {
    inner: Box<dyn ReadLane>,
    posted: HashMap<u64, Read>,
    first: HashMap<(Rank, RegionId, u64, u32), Vec<u8>>,
}

impl ReadLane for Forgetful {
    fn post(&mut self, read: Read) -> Result<(), FabricError> {
        self.inner.post(read)?;
        self.posted.insert(read.token, read);
        Ok(())
    }

    fn submit(&mut self) -> Result<(), FabricError> {
        self.inner.submit()
    }

    fn poll(&mut self, done: &mut dyn FnMut(Completion<'_>)) -> Result<usize, FabricError> {
        let Self { inner, posted, first } = self;
        inner.poll(&mut |completion| {
            let read = posted.remove(&completion.token);
            let (Some(read), Ok(data)) = (read, &completion.result) else {
                return done(completion);
            };
            let place = (read.peer, read.region, read.offset, read.len);
            let bytes = first.entry(place).or_insert_with(|| data.bytes.to_vec());
            let head = data.bytes.len().min(16);
            bytes[..head].copy_from_slice(&data.bytes[..head]);
            let result = Ok(ReadData { head_before: data.head_before, bytes });
            done(Completion { token: completion.token, result });
        })
    }

    fn wait(&mut self, limit: Duration) -> Result<(), FabricError> {
        self.inner.wait(limit)
    }

    fn outstanding(&self) -> usize {
        self.inner.outstanding()
    }

    fn capacity(&self) -> usize {
        self.inner.capacity()
    }
}
