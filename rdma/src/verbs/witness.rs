//! One end of a connection by itself, for tests against other implementations of verbs (feature `witness`;
//! `ci/witness`). It is made of what the provider is made of.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::choose::{Place, Wish, choose};
use super::completion::{CompletionQueue, WorkCompletion, blank};
use super::device;
use super::error::VerbsError;
use super::gid::Gid;
use super::memory::{Access, MemoryRegion, ProtectionDomain};
use super::queue_pair::{Endpoint, Operation, QueuePair, Request, Role};
use super::receive_queue::{RECEIVED, SharedQueue};
use super::status::failure;
use super::sys::bindings::{IBV_WC_SUCCESS, ibv_recv_wr, ibv_sge};
use super::sys::post_srq_recv;
use crate::memory;
use crate::region::{RegionId, RegionSpec, Rights};

/// The limit of every wait.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// Bytes of an end's memory.
pub const BYTES: usize = 64 * 1024;

/// Messages of the other side that may come, and the longest.
const MESSAGES: usize = 8;
const MESSAGE_BYTES: usize = 4096;

/// One end of a connection, with memory that its peer may write.
#[derive(Debug)]
pub struct End {
    place: Place,
    pair: QueuePair,
    completions: CompletionQueue,
    memory: MemoryRegion,
    shared: Option<SharedQueue>,
}

/// What one end tells the other.
#[derive(Clone, Copy, Debug)]
pub struct Address {
    /// Number of its queue pair.
    pub number: u32,
    /// Number of the first packet that it sends.
    pub first_packet: u32,
    /// Its GID.
    pub gid: Gid,
    /// Place of the GID in the table of its port.
    pub gid_index: u8,
    /// Its LID.
    pub lid: u16,
}

/// What an end can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// WRITEs, in both directions, as a link does.
    Link,
    /// READs, as a lane does.
    Reader,
}

impl End {
    /// A new end on this host's RDMA device.
    ///
    /// # Errors
    /// As the provider's.
    pub fn new(kind: Kind) -> Result<Self, VerbsError> {
        let place = choose(&Wish::default(), None)?;
        let context = device::open(&place.device)?;
        let domain = ProtectionDomain::new(&context)?;
        let completions = CompletionQueue::new(&context, 256)?;
        let spec = RegionSpec { name: "witness", bytes: BYTES, rights: Rights::Write };
        let region = memory::allocate(spec, RegionId(0), false)
            .map_err(|error| VerbsError::Choice(error.to_string()))?;
        let (access, role) = match kind {
            Kind::Link => (Access::PeersWrite, Role::Link { sends: 64 }),
            Kind::Reader => (Access::Land, Role::Reader { reads: 64 }),
        };
        let memory = MemoryRegion::register(&domain, Arc::new(region), access, "witness")?;
        let shared = match kind {
            Kind::Link => Some(SharedQueue::empty(&domain, 64)?),
            Kind::Reader => None,
        };
        let pair = QueuePair::new(&domain, &completions, shared.as_ref(), role)?;
        Ok(Self { place, pair, completions, memory, shared })
    }

    /// What the peer has to know.
    #[must_use]
    pub fn address(&self) -> Address {
        let Endpoint { number, first_packet, gid, lid, .. } = self.pair.endpoint(&self.place);
        Address { number, first_packet, gid, gid_index: self.place.gid_index, lid }
    }

    /// Connects to a peer.
    ///
    /// # Errors
    /// As the provider's.
    pub fn connect(&self, peer: Address) -> Result<(), VerbsError> {
        let Address { number, first_packet, gid, lid, .. } = peer;
        let endpoint = Endpoint { number, first_packet, gid, lid, mtu: self.place.mtu, reads: 1 };
        self.pair.connect(&self.place, &endpoint)
    }

    /// First byte and remote key of this end's memory.
    #[must_use]
    pub fn memory(&self) -> (u64, u32) {
        (self.memory.address(), self.memory.remote_key())
    }

    /// What is in this end's memory.
    #[must_use]
    pub fn load(&self, offset: usize, len: usize) -> Vec<u8> {
        assert!(offset.is_multiple_of(8) && len.is_multiple_of(8) && offset + len <= BYTES);
        let mut bytes = vec![0; len];
        // SAFETY: inside the memory, aligned; the copy is made for memory that others write.
        unsafe { crate::copy::copy_out(self.memory.base().add(offset), &mut bytes) };
        bytes
    }

    /// Writes bytes at `remote` of the peer, announced with a number if there is one; waits until it is done.
    ///
    /// # Errors
    /// As the provider's.
    pub fn write(
        &self,
        bytes: &[u8],
        remote: (u64, u32),
        announce: Option<u32>,
        inline: bool,
    ) -> Result<(), VerbsError> {
        let length = u32::try_from(bytes.len()).expect("few bytes");
        assert!(bytes.len() <= BYTES);
        // SAFETY: inside the memory, which no request reads at present: each is waited for.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.memory.base(), bytes.len());
        }
        let operation = announce.map_or(Operation::Write, Operation::Announce);
        self.run(operation, length, remote, inline)
    }

    /// Reads bytes at `remote` of the peer.
    ///
    /// # Errors
    /// As the provider's.
    pub fn read(&self, len: usize, remote: (u64, u32)) -> Result<Vec<u8>, VerbsError> {
        self.run(Operation::Read, u32::try_from(len).expect("few bytes"), remote, false)?;
        Ok(self.load(0, len))
    }

    fn run(
        &self,
        operation: Operation,
        length: u32,
        remote: (u64, u32),
        inline: bool,
    ) -> Result<(), VerbsError> {
        let local = (self.memory.address(), length, self.memory.local_key());
        let request = Request { id: 1, operation, local, remote, signalled: true, inline };
        // SAFETY: the bytes are of registered memory, which stays as it is until the request is done.
        unsafe { self.pair.post(&[request])? };
        self.next(|completion| completion.wr_id == 1).map(|_| ())
    }

    /// Posts receive requests for messages of up to 4 KiB each.
    ///
    /// # Errors
    /// As the provider's.
    pub fn await_messages(&self) -> Result<(), VerbsError> {
        let shared = self.shared.as_ref().expect("a link's end");
        for place in 0..MESSAGES {
            let at = self.memory.address() + (place * MESSAGE_BYTES) as u64;
            let length = u32::try_from(MESSAGE_BYTES).expect("small");
            let mut piece = ibv_sge { addr: at, length, lkey: self.memory.local_key() };
            let mut request = ibv_recv_wr {
                wr_id: RECEIVED - 1 - place as u64,
                next: std::ptr::null_mut(),
                sg_list: &raw mut piece,
                num_sge: 1,
            };
            let mut bad = std::ptr::null_mut();
            // SAFETY: the queue is alive, the list is one request long, its memory is registered.
            let status = unsafe { post_srq_recv(shared.raw(), &raw mut request, &mut bad) };
            self.memory.context().check(status, "posting a receive request")?;
        }
        Ok(())
    }

    /// Waits for the next message of the peer.
    ///
    /// # Errors
    /// As the provider's.
    pub fn message(&self) -> Result<Vec<u8>, VerbsError> {
        let completion = self.next(|completion| completion.wr_id >= RECEIVED - MESSAGES as u64)?;
        let place = usize::try_from(RECEIVED - 1 - completion.wr_id).expect("a place");
        Ok(self.load(place * MESSAGE_BYTES, completion.byte_len as usize))
    }

    fn next(
        &self,
        is_wanted: impl Fn(&WorkCompletion) -> bool,
    ) -> Result<WorkCompletion, VerbsError> {
        let start = Instant::now();
        let mut completion = [blank()];
        while start.elapsed() < WAIT_MAX {
            if self.completions.poll(&mut completion)? == 0 {
                std::thread::yield_now();
                continue;
            }
            if completion[0].status != IBV_WC_SUCCESS {
                return Err(VerbsError::Choice(failure(completion[0].status).text()));
            }
            if is_wanted(&completion[0]) {
                return Ok(completion[0]);
            }
        }
        Err(VerbsError::Choice("no completion in time".to_owned()))
    }
}
