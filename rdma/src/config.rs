//! What a node has to know before it can join its job, and how it learns it from the environment.
//!
//! The launcher sets `STERNA_*`. Under other launchers the usual variables are understood: those
//! of torchrun, Open MPI, PMI and Slurm. The first family of which any variable is set is used,
//! and has to be complete: half a family is a mistake that would otherwise show as a job that
//! never meets.

use std::net::{IpAddr, TcpListener};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use crate::error::FabricError;
use crate::rank::Rank;
use crate::verbs::{GidWish, Wish};

/// Which ways of reaching peers may be used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProviderChoice {
    /// Shared memory for peers of the same host; for the others RDMA where both have a device, else
    /// sockets.
    #[default]
    Auto,
    /// Shared memory only: a peer on another host is an error.
    Shm,
    /// Sockets only.
    Tcp,
    /// RDMA only, also to peers on the same host: a node without a device is an error.
    Verbs,
}

impl ProviderChoice {
    /// Its name in the environment and in messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Shm => "shm",
            Self::Tcp => "tcp",
            Self::Verbs => "verbs",
        }
    }

    /// The choice of this name.
    ///
    /// # Errors
    /// [`FabricError::Config`] for other names.
    pub fn parse(name: &str) -> Result<Self, FabricError> {
        match name {
            "auto" => Ok(Self::Auto),
            "shm" => Ok(Self::Shm),
            "tcp" => Ok(Self::Tcp),
            "verbs" => Ok(Self::Verbs),
            _ => Err(FabricError::Config(format!(
                "STERNA_FABRIC={name} is not known: use auto, verbs, shm or tcp"
            ))),
        }
    }
}

/// How a node joins its job.
#[derive(Debug)]
pub struct FabricConfig {
    /// This node.
    pub rank: Rank,
    /// Number of nodes.
    pub size: usize,
    /// `host:port` where rank 0 listens; needed if `size` is above 1.
    pub rendezvous: Option<String>,
    /// The secret that all nodes of the job share; needed if `size` is above 1.
    pub token: String,
    /// Which ways of reaching peers may be used; the same at all nodes.
    pub choice: ProviderChoice,
    /// Which RDMA device, port and GID are used; all of it is found unless it is set.
    pub rdma: Wish,
    /// This node's number among those of its host.
    pub local_rank: Option<usize>,
    /// Number of nodes on this host.
    pub local_size: Option<usize>,
    /// How long to wait for the other nodes.
    pub join_timeout: Duration,
    /// Address to listen on for peers; by default the one that reaches rank 0.
    pub bind: Option<IpAddr>,
    /// Rank 0's listening socket if somebody opened it before (`STERNA_LISTEN_FD`), so that no
    /// other process can take the port.
    pub listener: Option<TcpListener>,
}

impl FabricConfig {
    /// Limit for joining unless told otherwise.
    pub const JOIN_TIMEOUT: Duration = Duration::from_secs(60);

    /// The shortest token: 16 characters, 64 bits as hexadecimal digits.
    pub const TOKEN_CHARS_MIN: usize = 16;

    /// A job of one node: no sockets, no threads.
    #[must_use]
    pub fn single() -> Self {
        Self::new(Rank(0), 1, None, "")
    }

    /// Node `rank` of a job of `size` nodes that meet at `rendezvous`.
    #[must_use]
    pub fn new(rank: Rank, size: usize, rendezvous: Option<&str>, token: &str) -> Self {
        Self {
            rank,
            size,
            rendezvous: rendezvous.map(str::to_owned),
            token: token.to_owned(),
            choice: ProviderChoice::Auto,
            rdma: Wish::default(),
            local_rank: None,
            local_size: None,
            join_timeout: Self::JOIN_TIMEOUT,
            bind: None,
            listener: None,
        }
    }

    /// Reads the environment. Nothing set: a job of one node. Takes over the socket that
    /// `STERNA_LISTEN_FD` names, so it is called once per process.
    ///
    /// # Errors
    /// [`FabricError::Config`] naming the variables that are missing or contradict each other.
    pub fn from_env() -> Result<Self, FabricError> {
        let mut config = Self::from_variables(&|name| std::env::var(name).ok())?;
        if let Ok(fd) = std::env::var("STERNA_LISTEN_FD")
            && config.rank == Rank(0)
            && config.size > 1
        {
            config.listener = Some(inherit_listener(&fd)?);
        }
        Ok(config)
    }

    /// As [`FabricConfig::from_env`], from any source of variables, without inheriting a socket.
    ///
    /// # Errors
    /// As [`FabricConfig::from_env`].
    pub fn from_variables(variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, FabricError> {
        let environment = Environment { variable };
        let Some(place) = environment.place()? else { return Ok(Self::single()) };
        let mut config = Self::new(
            Rank::from_index(place.rank),
            place.size,
            environment.rendezvous()?.as_deref(),
            &environment.get("STERNA_TOKEN").unwrap_or_default(),
        );
        config.local_rank = place.local_rank;
        config.local_size = place.local_size;
        if let Some(choice) = environment.get("STERNA_FABRIC") {
            config.choice = ProviderChoice::parse(&choice)?;
        }
        config.rdma = environment.rdma()?;
        if let Some(seconds) = environment.number("STERNA_JOIN_TIMEOUT")? {
            config.join_timeout = Duration::from_secs(seconds as u64);
        }
        if let Some(address) = environment.get("STERNA_BIND") {
            config.bind = Some(address.parse().map_err(|_| {
                FabricError::Config(format!("STERNA_BIND={address} is not an IP address"))
            })?);
        }
        config.check()?;
        Ok(config)
    }

    /// What `STERNA_DEVICE`, `STERNA_DEVICE_PORT`, `STERNA_GID`, `STERNA_TRAFFIC_CLASS` and `STERNA_QUEUE_PAIRS` force, also
    /// where no job is set.
    ///
    /// # Errors
    /// [`FabricError::Config`] naming the variable that cannot be understood.
    pub fn rdma_from_env() -> Result<Wish, FabricError> {
        Environment { variable: &|name| std::env::var(name).ok() }.rdma()
    }

    /// Checks that the values can work together.
    ///
    /// # Errors
    /// [`FabricError::Config`] saying which do not and what to set.
    pub fn check(&self) -> Result<(), FabricError> {
        let wrong = |text: String| Err(FabricError::Config(text));
        if self.size == 0 || self.size > Rank::COUNT_MAX {
            return wrong(format!(
                "a job has 1 to {} nodes, not {} (STERNA_SIZE)",
                Rank::COUNT_MAX,
                self.size
            ));
        }
        if self.rank.index() >= self.size {
            return wrong(format!(
                "{} is outside a job of {} nodes (STERNA_RANK, STERNA_SIZE)",
                self.rank, self.size
            ));
        }
        if let (Some(rank), Some(size)) = (self.local_rank, self.local_size)
            && rank >= size
        {
            return wrong(format!("local rank {rank} is outside {size} nodes of this host"));
        }
        if self.size == 1 {
            return Ok(());
        }
        if self.rendezvous.is_none() && self.listener.is_none() {
            return wrong(format!(
                "a job of {} nodes needs a place to meet: set STERNA_ADDR=host:port of rank 0 \
                 (or MASTER_ADDR and MASTER_PORT) to the same at all nodes",
                self.size
            ));
        }
        if self.token.len() < Self::TOKEN_CHARS_MIN {
            return wrong(format!(
                "a job of {} nodes needs a secret of at least {} characters: set STERNA_TOKEN to \
                 the same random text at all nodes, e.g. $(openssl rand -hex 16)",
                self.size,
                Self::TOKEN_CHARS_MIN
            ));
        }
        Ok(())
    }
}

/// A node's place in its job.
struct Place {
    rank: usize,
    size: usize,
    local_rank: Option<usize>,
    local_size: Option<usize>,
}

/// The variables of one launcher: rank, size, local rank, local size.
const FAMILIES: [[&str; 4]; 5] = [
    ["STERNA_RANK", "STERNA_SIZE", "STERNA_LOCAL_RANK", "STERNA_LOCAL_SIZE"],
    ["RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"],
    [
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_LOCAL_RANK",
        "OMPI_COMM_WORLD_LOCAL_SIZE",
    ],
    ["PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"],
    ["SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "SLURM_NTASKS_PER_NODE"],
];

struct Environment<'a> {
    variable: &'a dyn Fn(&str) -> Option<String>,
}

impl Environment<'_> {
    /// A variable; an empty one counts as not set.
    fn get(&self, name: &str) -> Option<String> {
        (self.variable)(name).filter(|value| !value.is_empty())
    }

    fn number(&self, name: &str) -> Result<Option<usize>, FabricError> {
        self.get(name)
            .map(|value| {
                value.trim().parse().map_err(|_| {
                    FabricError::Config(format!("{name}={value} is not a whole number"))
                })
            })
            .transpose()
    }

    fn rdma(&self) -> Result<Wish, FabricError> {
        let byte = |name: &str| {
            let number = self.number(name)?;
            number.map(u8::try_from).transpose().map_err(|_| {
                FabricError::Config(format!("{name}={} is above 255", number.unwrap_or(0)))
            })
        };
        let gid = self.get("STERNA_GID");
        let gid = gid.map(|text| {
            GidWish::parse(&text).ok_or_else(|| {
                FabricError::Config(format!(
                    "STERNA_GID={text} is neither a place in the table of GIDs nor an IP address"
                ))
            })
        });
        Ok(Wish {
            device: self.get("STERNA_DEVICE"),
            port: byte("STERNA_DEVICE_PORT")?,
            gid: gid.transpose()?,
            traffic_class: byte("STERNA_TRAFFIC_CLASS")?.unwrap_or(0),
            queue_pairs: self
                .number("STERNA_QUEUE_PAIRS")?
                .map(|number| u32::try_from(number).unwrap_or(u32::MAX)),
        })
    }

    fn place(&self) -> Result<Option<Place>, FabricError> {
        for [rank, size, local_rank, local_size] in FAMILIES {
            match (self.number(rank)?, self.number(size)?) {
                (None, None) => {}
                (Some(rank_value), Some(size_value)) => {
                    if rank_value >= size_value || size_value > Rank::COUNT_MAX {
                        return Err(FabricError::Config(format!(
                            "{rank}={rank_value} and {size}={size_value} contradict each other: \
                             a job has 1 to {} nodes, ranks start at 0",
                            Rank::COUNT_MAX
                        )));
                    }
                    return Ok(Some(Place {
                        rank: rank_value,
                        size: size_value,
                        local_rank: self.number(local_rank)?,
                        // Slurm writes the number of tasks per node in forms like "4(x2)".
                        local_size: self.number(local_size).unwrap_or(None),
                    }));
                }
                // Slurm sets the size, but no rank, in an allocation outside a job step.
                (None, Some(_)) if rank == "SLURM_PROCID" => {}
                (rank_value, _) => {
                    let (set, missing) =
                        if rank_value.is_some() { (rank, size) } else { (size, rank) };
                    return Err(FabricError::Config(format!(
                        "{set} is set but {missing} is not: set both or none"
                    )));
                }
            }
        }
        if self.get("STERNA_ADDR").is_some() {
            return Err(FabricError::Config(
                "STERNA_ADDR is set but STERNA_RANK and STERNA_SIZE are not".to_owned(),
            ));
        }
        Ok(None)
    }

    fn rendezvous(&self) -> Result<Option<String>, FabricError> {
        if let Some(address) = self.get("STERNA_ADDR") {
            return Ok(Some(address));
        }
        match (self.get("MASTER_ADDR"), self.number("MASTER_PORT")?) {
            (Some(host), Some(port)) if host.contains(':') && !host.starts_with('[') => {
                Ok(Some(format!("[{host}]:{port}")))
            }
            (Some(host), Some(port)) => Ok(Some(format!("{host}:{port}"))),
            (None, None) => Ok(None),
            (Some(_), None) => Err(FabricError::Config(
                "MASTER_ADDR is set but MASTER_PORT is not: set both, or STERNA_ADDR".to_owned(),
            )),
            (None, Some(_)) => Err(FabricError::Config(
                "MASTER_PORT is set but MASTER_ADDR is not: set both, or STERNA_ADDR".to_owned(),
            )),
        }
    }
}

/// Takes over an inherited listening socket.
fn inherit_listener(fd: &str) -> Result<TcpListener, FabricError> {
    let refuse = |why: &str| {
        FabricError::Config(format!(
            "STERNA_LISTEN_FD={fd} {why}: unset it or let rank 0 inherit a \
             listening TCP socket"
        ))
    };
    let number: RawFd = fd.parse().map_err(|_| refuse("is not a number"))?;
    if number < 3 {
        return Err(refuse("is a standard stream"));
    }
    let mut listens: libc::c_int = 0;
    let mut bytes = libc::socklen_t::try_from(size_of::<libc::c_int>()).expect("a small size");
    // SAFETY: `listens` and `bytes` are valid for the call; a wrong descriptor only gives an error.
    let status = unsafe {
        libc::getsockopt(
            number,
            libc::SOL_SOCKET,
            libc::SO_ACCEPTCONN,
            (&raw mut listens).cast(),
            &raw mut bytes,
        )
    };
    if status != 0 || listens == 0 {
        return Err(refuse("is not a listening socket"));
    }
    // SAFETY: the descriptor is open and listening; the launcher left it to this process, which
    // takes it over here only (`from_env` is called once).
    let owned = unsafe { OwnedFd::from_raw_fd(number) };
    socket2::SockRef::from(&owned).set_cloexec(true).map_err(|_| refuse("cannot be kept"))?;
    Ok(TcpListener::from(owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<FabricConfig, FabricError> {
        FabricConfig::from_variables(&|name| {
            pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        })
    }

    const TOKEN: (&str, &str) = ("STERNA_TOKEN", "0123456789abcdef");

    #[test]
    fn nothing_set_is_a_job_of_one_node() {
        let config = read(&[]).expect("a valid environment");
        assert_eq!((config.rank, config.size), (Rank(0), 1));
        assert!(config.rendezvous.is_none());
    }

    #[test]
    fn the_launchers_own_variables_win_over_all_others() {
        let config = read(&[
            ("STERNA_RANK", "2"),
            ("STERNA_SIZE", "3"),
            ("STERNA_ADDR", "10.0.0.1:9"),
            ("STERNA_FABRIC", "tcp"),
            TOKEN,
            ("SLURM_PROCID", "0"),
            ("SLURM_NTASKS", "1"),
        ])
        .expect("a valid environment");
        assert_eq!((config.rank, config.size), (Rank(2), 3));
        assert_eq!(config.rendezvous.as_deref(), Some("10.0.0.1:9"));
        assert_eq!(config.choice, ProviderChoice::Tcp);
    }

    #[test]
    fn rdma_port_and_gid_can_be_forced_and_a_mistake_is_named() {
        let base = [("RANK", "0"), ("WORLD_SIZE", "2"), ("STERNA_ADDR", "a:1"), TOKEN];
        let with = |name, value| read(&[base[0], base[1], base[2], base[3], (name, value)]);
        let rdma = |name, value| with(name, value).expect("a valid environment").rdma;
        assert_eq!(rdma("STERNA_DEVICE", "mlx5_1").device.as_deref(), Some("mlx5_1"));
        assert_eq!(rdma("STERNA_DEVICE_PORT", "2").port, Some(2));
        assert_eq!(rdma("STERNA_GID", "3").gid, Some(GidWish::Index(3)));
        assert!(matches!(rdma("STERNA_GID", "10.0.0.7").gid, Some(GidWish::Address(_))));
        assert_eq!(rdma("STERNA_TRAFFIC_CLASS", "106").traffic_class, 106);
        assert_eq!(rdma("STERNA_QUEUE_PAIRS", "40").queue_pairs, Some(40));
        for (name, value) in
            [("STERNA_DEVICE_PORT", "x"), ("STERNA_GID", "eth0"), ("STERNA_TRAFFIC_CLASS", "256")]
        {
            let error = with(name, value).expect_err(value).to_string();
            assert!(error.contains(name) && error.contains(value), "{error}");
        }
    }

    #[test]
    fn every_known_launcher_is_understood() {
        for [rank, size, local_rank, local_size] in FAMILIES {
            let config = read(&[
                (rank, "1"),
                (size, "4"),
                (local_rank, "1"),
                (local_size, "2"),
                ("MASTER_ADDR", "fe80::1"),
                ("MASTER_PORT", "77"),
                TOKEN,
            ])
            .unwrap_or_else(|error| panic!("{rank}: {error}"));
            assert_eq!((config.rank, config.size), (Rank(1), 4), "{rank}");
            assert_eq!((config.local_rank, config.local_size), (Some(1), Some(2)), "{rank}");
            assert_eq!(config.rendezvous.as_deref(), Some("[fe80::1]:77"));
        }
    }

    #[test]
    fn a_mistake_is_named_with_its_variables() {
        let base = [("RANK", "0"), ("WORLD_SIZE", "2")];
        let cases: [(&[(&str, &str)], &str); 8] = [
            (&[("STERNA_RANK", "0")], "STERNA_SIZE"),
            (&[("WORLD_SIZE", "2")], "RANK"),
            (&[("STERNA_RANK", "3"), ("STERNA_SIZE", "3")], "STERNA_RANK=3"),
            (&[("STERNA_RANK", "x"), ("STERNA_SIZE", "3")], "STERNA_RANK=x"),
            (&[("STERNA_ADDR", "a:1")], "STERNA_RANK"),
            (&base, "STERNA_ADDR"),
            (&[base[0], base[1], ("MASTER_ADDR", "a")], "MASTER_PORT"),
            (
                &[base[0], base[1], ("STERNA_ADDR", "a:1"), ("STERNA_TOKEN", "short")],
                "STERNA_TOKEN",
            ),
        ];
        for (pairs, expected) in cases {
            let error = read(pairs).expect_err(expected).to_string();
            assert!(error.contains(expected), "{error} does not name {expected}");
        }
    }
}
