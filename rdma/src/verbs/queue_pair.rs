//! Queue pairs: one end of a reliable connection between two devices.

use std::mem::MaybeUninit;
use std::ptr::NonNull;

use super::choose::Place;
use super::completion::CompletionQueue;
use super::error::VerbsError;
use super::gid::Gid;
use super::memory::ProtectionDomain;
use super::receive_queue::SharedQueue;
use super::sys;
use super::sys::bindings::*;
use super::tuning::{
    ACK_TIMEOUT, CHAIN_MAX, HOP_LIMIT, INLINE_BYTES, NOT_READY_PAUSE, NOT_READY_RETRIES, RETRIES,
};

/// What one end of a connection tells the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// Number of the queue pair at its device.
    pub(super) number: u32,
    /// Number of the first packet that it sends.
    pub(super) first_packet: u32,
    /// Address of its port.
    pub(super) gid: Gid,
    /// Local address of its port (InfiniBand).
    pub(super) lid: u16,
    /// Code of the longest packet of its port.
    pub(super) mtu: u8,
    /// READs that it serves at once.
    pub(super) reads: u8,
}

/// What a queue pair does for the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// It takes records: WRITEs, announced in the shared receive queue. `sends` requests may be posted.
    Link { sends: u32 },
    /// It reads. So many READs may be posted.
    Reader { reads: u32 },
    /// It is read.
    Read,
}

/// What a work request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    /// Brings remote bytes here.
    Read,
    /// Puts bytes of this node there.
    Write,
    /// The same, and announces it with a number.
    Announce(u32),
}

/// A work request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    /// Comes back with the completion.
    pub(super) id: u64,
    pub(super) operation: Operation,
    /// Bytes of this node: address, how many, key. With `inline` the key is not looked at.
    pub(super) local: (u64, u32, u32),
    /// Where at the peer: address, key.
    pub(super) remote: (u64, u32),
    /// Whether success completes; failure always does.
    pub(super) signalled: bool,
    /// Whether the bytes are copied while it is posted.
    pub(super) inline: bool,
}

/// A queue pair.
#[derive(Debug)]
pub(super) struct QueuePair {
    raw: NonNull<ibv_qp>,
    domain: ProtectionDomain,
    first_packet: u32,
    inline_bytes: usize,
    role: Role,
    /// Held for their drop, after the pair.
    _completions: CompletionQueue,
    _shared: Option<SharedQueue>,
}

// SAFETY: the functions of libibverbs may be called on a queue pair by any thread at any time.
unsafe impl Send for QueuePair {}
// SAFETY: as above.
unsafe impl Sync for QueuePair {}

impl QueuePair {
    /// A queue pair whose requests complete in `completions`, as those of `shared` do.
    pub(super) fn new(
        domain: &ProtectionDomain,
        completions: &CompletionQueue,
        shared: Option<&SharedQueue>,
        role: Role,
    ) -> Result<Self, VerbsError> {
        let context = domain.context();
        let sends = match role {
            Role::Link { sends } => sends,
            Role::Reader { reads } => reads,
            Role::Read => 1,
        };
        let mut seed = [0; 4];
        getrandom::fill(&mut seed)
            .map_err(|error| VerbsError::Choice(format!("drawing a random number: {error}")))?;
        let mut refused = None;
        for inline in INLINE_BYTES {
            let mut attr = ibv_qp_init_attr {
                qp_context: std::ptr::null_mut(),
                send_cq: completions.raw(),
                recv_cq: completions.raw(),
                srq: shared.map_or(std::ptr::null_mut(), SharedQueue::raw),
                cap: ibv_qp_cap {
                    max_send_wr: sends,
                    max_recv_wr: u32::from(shared.is_none()),
                    max_send_sge: 1,
                    max_recv_sge: 1,
                    max_inline_data: inline,
                },
                qp_type: IBV_QPT_RC,
                sq_sig_all: 0,
            };
            // SAFETY: domain and queues are alive and held by the pair; `attr` is valid for the call.
            let raw = unsafe { (context.library().ibv_create_qp)(domain.raw(), &raw mut attr) };
            if let Some(raw) = NonNull::new(raw) {
                return Ok(Self {
                    raw,
                    domain: domain.clone(),
                    first_packet: u32::from_le_bytes(seed) & 0x00ff_ffff,
                    inline_bytes: attr.cap.max_inline_data.max(inline) as usize,
                    role,
                    _completions: completions.clone(),
                    _shared: shared.cloned(),
                });
            }
            let what = format!("making a queue pair for {sends} requests");
            refused.get_or_insert_with(|| VerbsError::last(&what, context.name()));
        }
        Err(refused.expect("tried at least once"))
    }

    /// Its number at the device.
    pub(super) fn number(&self) -> u32 {
        // SAFETY: alive.
        unsafe { self.raw.as_ref().qp_num }
    }

    /// Bytes that a request may carry itself.
    pub(super) fn inline_bytes(&self) -> usize {
        self.inline_bytes
    }

    /// What the other end has to know.
    pub(super) fn endpoint(&self, place: &Place) -> Endpoint {
        Endpoint {
            number: self.number(),
            first_packet: self.first_packet,
            gid: place.gid,
            lid: place.lid,
            mtu: place.mtu,
            reads: place.reads_served,
        }
    }

    /// Connects it to the other end. Both may send once both have done this.
    pub(super) fn connect(&self, place: &Place, peer: &Endpoint) -> Result<(), VerbsError> {
        self.initialise(place)?;
        self.prepare_to_receive(place, peer)?;
        self.prepare_to_send(place, peer)
    }

    fn initialise(&self, place: &Place) -> Result<(), VerbsError> {
        let mut attr = blank();
        attr.qp_state = IBV_QPS_INIT;
        attr.pkey_index = 0;
        attr.port_num = place.port;
        attr.qp_access_flags = match self.role {
            Role::Link { .. } => IBV_ACCESS_REMOTE_WRITE,
            Role::Reader { .. } => 0,
            Role::Read => IBV_ACCESS_REMOTE_READ,
        };
        let mask = IBV_QP_STATE | IBV_QP_PKEY_INDEX | IBV_QP_PORT | IBV_QP_ACCESS_FLAGS;
        self.modify(&mut attr, mask, "initialising a queue pair")
    }

    fn prepare_to_receive(&self, place: &Place, peer: &Endpoint) -> Result<(), VerbsError> {
        let mut attr = blank();
        attr.qp_state = IBV_QPS_RTR;
        attr.path_mtu = u32::from(place.mtu.min(peer.mtu));
        attr.dest_qp_num = peer.number;
        attr.rq_psn = peer.first_packet;
        // Before its peer reads, a queue pair has to be ready to serve that; only one side reads.
        attr.max_dest_rd_atomic = if self.role == Role::Read { place.reads_served } else { 1 };
        attr.min_rnr_timer = NOT_READY_PAUSE;
        attr.ah_attr.port_num = place.port;
        attr.ah_attr.dlid = peer.lid;
        // RoCE always names addresses; InfiniBand does between subnets or when told.
        if place.is_ethernet || place.gid.subnet() != peer.gid.subnet() {
            attr.ah_attr.is_global = 1;
            attr.ah_attr.grh.dgid.raw = peer.gid.0;
            attr.ah_attr.grh.sgid_index = place.gid_index;
            attr.ah_attr.grh.hop_limit = HOP_LIMIT;
            attr.ah_attr.grh.traffic_class = place.traffic_class;
        }
        let mask = IBV_QP_STATE
            | IBV_QP_AV
            | IBV_QP_PATH_MTU
            | IBV_QP_DEST_QPN
            | IBV_QP_RQ_PSN
            | IBV_QP_MAX_DEST_RD_ATOMIC
            | IBV_QP_MIN_RNR_TIMER;
        self.modify(&mut attr, mask, &format!("connecting a queue pair to {}", peer.gid))
    }

    fn prepare_to_send(&self, place: &Place, peer: &Endpoint) -> Result<(), VerbsError> {
        let mut attr = blank();
        attr.qp_state = IBV_QPS_RTS;
        attr.sq_psn = self.first_packet;
        attr.timeout = ACK_TIMEOUT;
        attr.retry_cnt = RETRIES;
        attr.rnr_retry = NOT_READY_RETRIES;
        attr.max_rd_atomic = match self.role {
            Role::Reader { .. } => place.reads_issued.min(peer.reads).max(1),
            Role::Link { .. } | Role::Read => 1,
        };
        let mask = IBV_QP_STATE
            | IBV_QP_SQ_PSN
            | IBV_QP_TIMEOUT
            | IBV_QP_RETRY_CNT
            | IBV_QP_RNR_RETRY
            | IBV_QP_MAX_QP_RD_ATOMIC;
        self.modify(&mut attr, mask, "making a queue pair ready to send")
    }

    /// Ends the connection: what is outstanding completes as flushed, nothing of the peer lands any more.
    pub(super) fn fail(&self) {
        let mut attr = blank();
        attr.qp_state = IBV_QPS_ERR;
        if let Err(error) = self.modify(&mut attr, IBV_QP_STATE, "ending a connection") {
            tracing::debug!(%error, "a queue pair cannot be ended");
        }
    }

    fn modify(&self, attr: &mut ibv_qp_attr, mask: u32, what: &str) -> Result<(), VerbsError> {
        let context = self.domain.context();
        let mask = i32::try_from(mask).expect("small flags");
        // SAFETY: the queue pair is alive and `attr` valid for the call.
        let status = unsafe { (context.library().ibv_modify_qp)(self.raw.as_ptr(), attr, mask) };
        context.check(status, what)
    }

    /// Posts requests, at most [`CHAIN_MAX`], with one doorbell.
    ///
    /// # Safety
    /// The bytes of `inline` requests are readable at their addresses; those of others are of registered
    /// memory and stay as they are (or, for READs, belong to nobody else) until they have completed.
    ///
    /// # Errors
    /// What was not taken; the connection cannot be used any more then.
    pub(super) unsafe fn post(&self, requests: &[Request]) -> Result<(), VerbsError> {
        assert!(!requests.is_empty() && requests.len() <= CHAIN_MAX, "a chain");
        // Only as many as there are requests are ever written: most chains are short.
        let mut chain = [const { MaybeUninit::<ibv_send_wr>::uninit() }; CHAIN_MAX];
        let mut pieces = [const { MaybeUninit::<ibv_sge>::uninit() }; CHAIN_MAX];
        let first: *mut ibv_send_wr = chain.as_mut_ptr().cast();
        let piece: *mut ibv_sge = pieces.as_mut_ptr().cast();
        for (at, request) in requests.iter().enumerate() {
            let (address, length, lkey) = request.local;
            let piece = piece.wrapping_add(at);
            // SAFETY: `at` is below the length of both arrays; a request is plain numbers and pointers, for which
            // zeroes are valid.
            let to = unsafe {
                piece.write(ibv_sge { addr: address, length, lkey });
                first.add(at).write(std::mem::zeroed());
                &mut *first.add(at)
            };
            to.wr_id = request.id;
            to.sg_list = piece;
            to.num_sge = i32::from(length > 0);
            to.send_flags = if request.signalled { IBV_SEND_SIGNALED } else { 0 }
                | if request.inline { IBV_SEND_INLINE } else { 0 };
            to.opcode = match request.operation {
                Operation::Read => IBV_WR_RDMA_READ,
                Operation::Write => IBV_WR_RDMA_WRITE,
                Operation::Announce(number) => {
                    to.__bindgen_anon_1.imm_data = number.to_be();
                    IBV_WR_RDMA_WRITE_WITH_IMM
                }
            };
            let (remote_addr, rkey) = request.remote;
            to.wr.rdma = ibv_send_wr__bindgen_ty_2__bindgen_ty_1 { remote_addr, rkey };
            if at + 1 < requests.len() {
                to.next = first.wrapping_add(at + 1);
            }
        }
        let mut bad = std::ptr::null_mut();
        // SAFETY: the list ends with null and outlives the call; its memory is as the caller says.
        let status = unsafe { sys::post_send(self.raw.as_ptr(), first, &mut bad) };
        self.domain.context().check(status, "posting work requests")
    }
}

impl Drop for QueuePair {
    fn drop(&mut self) {
        let library = self.domain.context().library();
        // SAFETY: alive until now and used by nobody any more.
        let status = unsafe { (library.ibv_destroy_qp)(self.raw.as_ptr()) };
        debug_assert_eq!(status, 0, "ending a queue pair");
    }
}

fn blank() -> ibv_qp_attr {
    // SAFETY: plain numbers and unions of them, for which zeroes are valid.
    unsafe { std::mem::zeroed() }
}
