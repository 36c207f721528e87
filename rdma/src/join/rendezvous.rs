//! How the nodes of a job meet.
//!
//! Rank 0 listens; every other node connects as often as it takes, proves that it knows the token,
//! says who it is, and waits. When all are there, rank 0 gives everybody the table of nodes. Who is
//! missing at the deadline is named. A mistake in the set-up (another size, a rank twice, another
//! version) is an error at both ends at once, not a timeout.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::call::{CallError, dial, hear_verdict, prove};
use super::door::{Admitted, Door};
use super::doorkeeper::Doorkeeper;
use super::identity::{HostIdentity, NodeIdentity, RdmaNetwork};
use super::proof::{JobKey, Purpose, Refusal};
use crate::config::{FabricConfig, ProviderChoice};
use crate::error::FabricError;
use crate::rank::Rank;
use crate::strangers::Strangers;
use crate::verbs::{Place, choose};

/// First and longest pause between two attempts to reach rank 0.
const RETRY_PAUSE: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(200)];

/// How much longer than rank 0 the others wait, so that they hear its reason for giving up.
const GRACE: Duration = Duration::from_secs(1);

/// The least time for connecting the pairs of nodes after all have met; some may be kept from running by
/// what else their hosts do.
const CONNECT_MIN: Duration = Duration::from_secs(30);

/// How long the others come again to a job that takes no more nodes: one before theirs may be saying its goodbyes.
const ENDING_MAX: Duration = Duration::from_secs(20);

/// Limit for giving the table to one node.
const TABLE_LIMIT: Duration = Duration::from_secs(5);

/// A node that has met its job.
pub(crate) struct Joined {
    /// All nodes by rank, this one too.
    pub(crate) nodes: Vec<NodeIdentity>,
    pub(crate) me: NodeIdentity,
    pub(crate) key: JobKey,
    pub(crate) doorkeeper: Doorkeeper,
    pub(crate) strangers: Arc<Strangers>,
    /// Where this node's RDMA connections are to be, or why there are none.
    pub(crate) rdma: Result<Place, String>,
    deadline: Instant,
}

impl Joined {
    /// When all pairs have to be connected: some time is left for that however late they have met.
    pub(crate) fn connect_deadline(&self) -> Instant {
        self.deadline.max(Instant::now() + CONNECT_MIN)
    }
}

/// Meets the other nodes of the job.
pub(crate) fn join(config: &mut FabricConfig) -> Result<Joined, FabricError> {
    let deadline = Instant::now() + config.join_timeout;
    let key = JobKey::new(&config.token);
    let strangers = Arc::new(Strangers::default());
    if config.rank == Rank(0) {
        lead(config, key, strangers, deadline)
    } else {
        follow(config, &key, &strangers, deadline)
    }
}

/// Finds the RDMA port that this node uses, if it may use one. Unless it is asked for, a software device is
/// not: sockets are faster.
fn find_rdma(
    config: &FabricConfig,
    address: SocketAddr,
) -> Result<Result<Place, String>, FabricError> {
    let is_forced = match config.choice {
        ProviderChoice::Shm | ProviderChoice::Tcp => return Ok(Err("not wanted".to_owned())),
        ProviderChoice::Verbs => true,
        ProviderChoice::Auto => config.rdma.device.is_some(),
    };
    match choose(&config.rdma, Some(address.ip())) {
        Ok(place) if place.is_software && !is_forced => Ok(Err(format!(
            "{} is a software device; --device {} uses it all the same",
            place.device, place.device
        ))),
        Ok(place) => Ok(Ok(place)),
        Err(error) if is_forced => Err(error.into()),
        Err(error) => Ok(Err(error.to_string())),
    }
}

fn identity(
    config: &FabricConfig,
    address: SocketAddr,
    rdma: &Result<Place, String>,
) -> Result<NodeIdentity, FabricError> {
    let mut incarnation = [0; 8];
    getrandom::fill(&mut incarnation).map_err(|error| FabricError::Os {
        what: "drawing a random number".to_owned(),
        reason: error.to_string(),
    })?;
    Ok(NodeIdentity {
        rank: config.rank,
        size: u16::try_from(config.size).expect("at most 4,096 nodes"),
        choice: config.choice,
        rdma: rdma.as_ref().ok().map(|place| match place.is_ethernet {
            true => RdmaNetwork::Ethernet,
            false => RdmaNetwork::InfiniBand,
        }),
        pid: std::process::id(),
        incarnation: u64::from_le_bytes(incarnation),
        host: HostIdentity::of_this_process()?,
        address,
    })
}

/// Rank 0: lets everybody in.
fn lead(
    config: &mut FabricConfig,
    key: JobKey,
    strangers: Arc<Strangers>,
    deadline: Instant,
) -> Result<Joined, FabricError> {
    let listener = match config.listener.take() {
        Some(listener) => listener,
        None => listen(config)?,
    };
    let mut door = Door::new(listener, key.clone(), Arc::clone(&strangers))?;
    let rdma = find_rdma(config, door.address())?;
    let me = identity(config, door.address(), &rdma)?;
    let mut lobby = Lobby { waiting: (0..config.size).map(|_| None).collect(), me: &me, key: &key };
    let nodes = match lobby.fill(&mut door, config, deadline) {
        Ok(nodes) => nodes,
        Err(error) => {
            lobby.abort();
            return Err(error);
        }
    };
    let doorkeeper = Doorkeeper::start(door)?;
    Ok(Joined { nodes, me, key, doorkeeper, strangers, rdma, deadline })
}

/// Those who have joined and wait for the others.
struct Lobby<'a> {
    waiting: Vec<Option<Admitted>>,
    me: &'a NodeIdentity,
    key: &'a JobKey,
}

impl Lobby<'_> {
    fn fill(
        &mut self,
        door: &mut Door,
        config: &FabricConfig,
        deadline: Instant,
    ) -> Result<Vec<NodeIdentity>, FabricError> {
        let mut admitted = Vec::new();
        loop {
            if self.waiting[1..].iter().all(Option::is_some) {
                self.dismiss_gone();
                if self.waiting[1..].iter().all(Option::is_some) {
                    return self.give_table();
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(self.missing(config, door));
            }
            door.step(Some(left), &mut admitted)?;
            for node in admitted.drain(..) {
                self.admit(node)?;
            }
        }
    }

    fn admit(&mut self, mut node: Admitted) -> Result<(), FabricError> {
        let who = node.node.clone();
        let refusal = if node.purpose() != Purpose::Join {
            Some(Refusal::NotJoining)
        } else if who.size != self.me.size {
            Some(Refusal::Size)
        } else if who.choice != self.me.choice {
            Some(Refusal::Choice)
        } else {
            self.dismiss_gone();
            let taken = who.rank == self.me.rank || self.waiting[who.rank.index()].is_some();
            taken.then_some(Refusal::RankTaken)
        };
        let Some(refusal) = refusal else {
            self.waiting[who.rank.index()] = Some(node);
            return Ok(());
        };
        let _ = node.answer(self.key, Some(refusal), b"", TABLE_LIMIT);
        if refusal == Refusal::NotJoining {
            return Ok(());
        }
        // It knows the token, so the job itself is set up wrongly.
        let said = match refusal {
            Refusal::Size => format!("{} nodes, here {}", who.size, self.me.size),
            Refusal::Choice => format!("{}, here {}", who.choice.name(), self.me.choice.name()),
            _ => format!("process {} at {}", who.pid, who.address),
        };
        Err(FabricError::Config(format!("{} came with {}: {said}", who.rank, refusal.reason())))
    }

    /// Forgets those whose connection has ended: their process did, and another may come.
    fn dismiss_gone(&mut self) {
        for place in &mut self.waiting {
            if let Some(node) = place.take_if(|node| !is_open(&node.stream)) {
                tracing::warn!(from = %node.node.rank, "left before the job was complete");
            }
        }
    }

    fn missing(&self, config: &FabricConfig, door: &Door) -> FabricError {
        let missing: Vec<String> = self
            .waiting
            .iter()
            .enumerate()
            .skip(1)
            .filter(|(_, node)| node.is_none())
            .map(|(rank, _)| Rank::from_index(rank).to_string())
            .collect();
        FabricError::JoinTimeout {
            waited_for: missing.join(", "),
            seconds: config.join_timeout.as_secs(),
            hint: format!(
                "check that they run and reach {}{}",
                door.address(),
                door.strangers().summary()
            ),
        }
    }

    fn give_table(&mut self) -> Result<Vec<NodeIdentity>, FabricError> {
        let others = self.waiting[1..].iter().flatten().map(|node| node.node.clone());
        let nodes: Vec<NodeIdentity> = std::iter::once(self.me.clone()).chain(others).collect();
        check_addresses(&nodes)?;
        let table: Vec<u8> = nodes.iter().flat_map(NodeIdentity::to_bytes).collect();
        for node in self.waiting.iter_mut().flatten() {
            node.answer(self.key, None, &table, TABLE_LIMIT).map_err(|error| {
                FabricError::PeerLost {
                    peer: node.node.rank,
                    reason: format!("giving it the table of nodes: {error}"),
                }
            })?;
        }
        self.waiting.clear();
        Ok(nodes)
    }

    fn abort(&mut self) {
        for node in self.waiting.iter_mut().flatten() {
            let _ = node.answer(self.key, Some(Refusal::Aborted), b"", TABLE_LIMIT);
        }
    }
}

/// A node that listens on the loopback interface cannot be reached from other hosts.
fn check_addresses(nodes: &[NodeIdentity]) -> Result<(), FabricError> {
    let one_host = nodes.iter().all(|node| {
        node.host.boot_id == nodes[0].host.boot_id
            && node.host.network_namespace == nodes[0].host.network_namespace
    });
    if one_host {
        return Ok(());
    }
    match nodes.iter().find(|node| node.address.ip().is_loopback()) {
        Some(node) => Err(FabricError::Config(format!(
            "{} listens at {}, which other hosts cannot reach: set STERNA_BIND there to an address \
             of its network, or STERNA_ADDR to one instead of a name",
            node.rank, node.address
        ))),
        None => Ok(()),
    }
}

/// Whether the other side still holds a connection on which it has nothing to say.
fn is_open(stream: &TcpStream) -> bool {
    if stream.set_nonblocking(true).is_err() {
        return false;
    }
    match stream.peek(&mut [0]) {
        Ok(_) => false,
        Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
    }
}

/// Rank 0's listening socket. A literal address is used as it is; a name may mean the loopback
/// interface here and another one elsewhere, so the node listens on all interfaces then.
fn listen(config: &FabricConfig) -> Result<TcpListener, FabricError> {
    let text = config.rendezvous.as_deref().unwrap_or_default();
    let wrong = |why: String| FabricError::Config(format!("STERNA_ADDR={text}: {why}"));
    let addresses = resolve(text).map_err(wrong)?;
    let literal = text.parse::<SocketAddr>().is_ok() || text.starts_with("localhost:");
    let ip = config.bind.unwrap_or_else(|| match addresses[0].ip() {
        ip if literal => ip,
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    });
    let address = SocketAddr::new(ip, addresses[0].port());
    TcpListener::bind(address).map_err(|error| {
        wrong(match error.kind() {
            ErrorKind::AddrInUse => format!(
                "port {} is in use on this host: another job or a leftover process holds it; \
                 choose another port",
                address.port()
            ),
            ErrorKind::AddrNotAvailable => {
                format!("{ip} is no address of this host: it has to be rank 0's")
            }
            _ => format!("cannot listen at {address}: {error}"),
        })
    })
}

fn resolve(text: &str) -> Result<Vec<SocketAddr>, String> {
    let addresses: Vec<SocketAddr> = text
        .to_socket_addrs()
        .map_err(|error| format!("{error}; it has the form host:port"))?
        .collect();
    if addresses.is_empty() { Err("the name has no address".to_owned()) } else { Ok(addresses) }
}

/// Every other rank: goes to rank 0.
fn follow(
    config: &FabricConfig,
    key: &JobKey,
    strangers: &Arc<Strangers>,
    deadline: Instant,
) -> Result<Joined, FabricError> {
    let text = config.rendezvous.as_deref().unwrap_or_default();
    let mut pause = RETRY_PAUSE[0];
    let mut attempt = 0;
    let begun = Instant::now();
    loop {
        let problem = match resolve(text) {
            Ok(addresses) => {
                let address = addresses[attempt % addresses.len()];
                match ask(config, key, strangers, address, deadline) {
                    Ok(joined) => return Ok(joined),
                    Err(Asked::Fault(error)) => return Err(error),
                    Err(Asked::Call(CallError::Complete(why))) if begun.elapsed() < ENDING_MAX => {
                        why
                    }
                    Err(Asked::Call(CallError::Complete(why) | CallError::Refused(why))) => {
                        return Err(FabricError::Config(format!(
                            "rank 0 at {address} refused {}: {why}",
                            config.rank
                        )));
                    }
                    Err(Asked::Call(CallError::Absent(why) | CallError::Unreachable(why))) => why,
                }
            }
            // Names of containers may appear only once these run.
            Err(why) => why,
        };
        attempt += 1;
        if Instant::now() + pause >= deadline {
            return Err(FabricError::JoinTimeout {
                waited_for: "rank 0 and the other nodes".to_owned(),
                seconds: config.join_timeout.as_secs(),
                hint: format!(
                    "check that rank 0 runs and that this node reaches {text} ({problem})"
                ),
            });
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(RETRY_PAUSE[1]);
    }
}

enum Asked {
    Call(CallError),
    Fault(FabricError),
}

impl From<CallError> for Asked {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

impl From<FabricError> for Asked {
    fn from(error: FabricError) -> Self {
        Self::Fault(error)
    }
}

/// One attempt to join.
fn ask(
    config: &FabricConfig,
    key: &JobKey,
    strangers: &Arc<Strangers>,
    rank0: SocketAddr,
    deadline: Instant,
) -> Result<Joined, Asked> {
    // One attempt must not use up the time for all: packets to a host that is not up vanish.
    let stream = dial(rank0, deadline.min(Instant::now() + Duration::from_secs(3)))?;
    let os = |error: std::io::Error| FabricError::Os {
        what: "opening a listening socket for peers".to_owned(),
        reason: error.to_string(),
    };
    // The interface that reaches rank 0 is taken to reach the others as well.
    let ip = match config.bind {
        Some(ip) => ip,
        None => stream.local_addr().map_err(os)?.ip(),
    };
    let listener = TcpListener::bind((ip, 0)).map_err(os)?;
    let door = Door::new(listener, key.clone(), Arc::clone(strangers))?;
    let rdma = find_rdma(config, door.address())?;
    let me = identity(config, door.address(), &rdma)?;
    let transcript = prove(&stream, Purpose::Join, &me, key, deadline)?;
    let table_bytes = config.size * NodeIdentity::BYTES;
    let table = hear_verdict(&stream, key, &transcript, table_bytes, deadline + GRACE)?;
    let mut nodes = Vec::with_capacity(config.size);
    for (rank, bytes) in table.chunks_exact(NodeIdentity::BYTES).enumerate() {
        let node = NodeIdentity::from_bytes(bytes.try_into().expect("an exact chunk"));
        let Some(node) = node.filter(|node| node.rank.index() == rank) else {
            return Err(CallError::Refused("its table of nodes is malformed".to_owned()).into());
        };
        nodes.push(node);
    }
    if nodes[0].address.ip().is_unspecified() {
        nodes[0].address = rank0;
    }
    let doorkeeper = Doorkeeper::start(door)?;
    let strangers = Arc::clone(strangers);
    Ok(Joined { nodes, me, key: key.clone(), doorkeeper, strangers, rdma, deadline })
}
