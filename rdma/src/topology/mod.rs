//! The machine as far as placement needs it: CPUs, NUMA domains, SMT siblings, what this process may use, huge
//! pages, the limit on locked memory. Read once at start from `/sys` and `/proc`; [`PinPlan`] says which thread goes
//! where.

mod cpulist;
mod plan;
mod read;

use std::fmt;

pub use cpulist::{CpuList, CpuListError};
pub use plan::{PinPlan, pin_current_thread};

/// A machine, as seen by this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// NUMA domains that have CPUs; at least one.
    pub domains: Vec<Domain>,
    /// CPUs that this process may run on (affinity mask), at least one.
    pub allowed: CpuList,
    /// CPUs' worth of time that the control group grants, if it limits them, in hundredths of a CPU.
    pub quota_centicpus: Option<u32>,
    /// Groups of CPUs that share a core, each with its smallest CPU first.
    pub cores: Vec<CpuList>,
    /// Huge pages.
    pub huge_pages: HugePages,
    /// Bytes that may be locked; `None` for no limit.
    pub memlock_bytes: Option<u64>,
}

/// A NUMA domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    /// Its number in the system.
    pub number: u32,
    /// Its CPUs.
    pub cpus: CpuList,
}

/// How the system hands out huge pages of 2 MiB.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HugePages {
    /// Reserved pages that are free now.
    pub reserved_free: u64,
    /// Mode for anonymous memory: `always`, `madvise`, `never`, or empty if unknown.
    pub anonymous: String,
    /// Mode for shared memory: `always`, `within_size`, `advise`, `never`, .., or empty if unknown.
    pub shared: String,
}

impl Topology {
    /// Threads that can run at the same time: allowed CPUs, or fewer if the control group grants less.
    #[must_use]
    pub fn parallelism(&self) -> usize {
        let allowed = self.allowed.len();
        self.quota_centicpus
            .map_or(allowed, |centi| allowed.min((centi as usize).div_ceil(100)))
            .max(1)
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let domains = self.domains.len();
        write!(f, "{} of {} CPUs", self.parallelism(), self.cpu_count())?;
        write!(f, " in {domains} NUMA domain{}", if domains == 1 { "" } else { "s" })?;
        let pages = &self.huge_pages;
        let mode =
            |mode: &str| if mode.is_empty() { "unknown".to_owned() } else { mode.to_owned() };
        write!(
            f,
            ", huge pages: {} reserved, anonymous {}, shared {}",
            pages.reserved_free,
            mode(&pages.anonymous),
            mode(&pages.shared)
        )?;
        match self.memlock_bytes {
            None => write!(f, ", memlock unlimited"),
            Some(bytes) => write!(f, ", memlock {} KiB", bytes / 1024),
        }
    }
}

impl Topology {
    fn cpu_count(&self) -> usize {
        self.domains.iter().map(|domain| domain.cpus.len()).sum()
    }
}
