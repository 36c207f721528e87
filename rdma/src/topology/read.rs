//! Reads the topology from files below a root, so that tests can give it other machines.

use std::fs;
use std::path::Path;

use super::cpulist::CpuList;
use super::{Domain, HugePages, Topology};

impl Topology {
    /// This machine. What cannot be read falls back to one domain with the CPUs that this process may use.
    #[must_use]
    pub fn read() -> Self {
        Self::read_below(Path::new("/"), allowed_now())
    }

    /// The machine whose `/sys` and `/proc` lie below `root`; `allowed` is the affinity mask.
    #[must_use]
    pub fn read_below(root: &Path, allowed: CpuList) -> Self {
        let mut domains = domains(root);
        if domains.is_empty() {
            let online = list(&root.join("sys/devices/system/cpu/online"));
            let cpus = online.filter(|cpus| !cpus.is_empty()).unwrap_or_else(|| allowed.clone());
            domains.push(Domain { number: 0, cpus });
        }
        let all: CpuList =
            domains.iter().flat_map(|domain| domain.cpus.as_slice().iter().copied()).collect();
        let allowed = if allowed.is_empty() { all.clone() } else { allowed };
        Self {
            cores: cores(root, &all),
            quota_centicpus: quota(root),
            huge_pages: huge_pages(root),
            memlock_bytes: memlock(root),
            domains,
            allowed,
        }
    }
}

/// The affinity mask of this process, as `/proc` states it.
fn allowed_now() -> CpuList {
    field(Path::new("/proc/self/status"), "Cpus_allowed_list:")
        .and_then(|text| text.parse().ok())
        .unwrap_or_default()
}

fn text(path: &Path) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn list(path: &Path) -> Option<CpuList> {
    text(path)?.parse().ok()
}

/// What follows `name` on its line.
fn field(path: &Path, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line[name.len()..].trim().to_owned())
}

fn domains(root: &Path) -> Vec<Domain> {
    let Ok(entries) = fs::read_dir(root.join("sys/devices/system/node")) else {
        return Vec::new();
    };
    let mut domains: Vec<Domain> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let number = entry.file_name().to_str()?.strip_prefix("node")?.parse().ok()?;
            let cpus = list(&entry.path().join("cpulist"))?;
            // Memory without CPUs (expanders, GPUs) is no place for a worker.
            (!cpus.is_empty()).then_some(Domain { number, cpus })
        })
        .collect();
    domains.sort_unstable_by_key(|domain| domain.number);
    domains
}

fn cores(root: &Path, all: &CpuList) -> Vec<CpuList> {
    let mut cores: Vec<CpuList> = all
        .as_slice()
        .iter()
        .map(|&cpu| {
            let path = format!("sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
            list(&root.join(path))
                .filter(|siblings| siblings.contains(cpu))
                .unwrap_or_else(|| [cpu].into_iter().collect())
        })
        .collect();
    cores.sort_unstable_by(|a, b| a.as_slice().cmp(b.as_slice()));
    cores.dedup();
    cores
}

/// `cpu.max` of control groups version 2 holds `quota period` in microseconds, or `max period`.
fn quota(root: &Path) -> Option<u32> {
    let group = field(&root.join("proc/self/cgroup"), "0::").unwrap_or_default();
    let below = group.trim_start_matches('/');
    let limit = text(&root.join("sys/fs/cgroup").join(below).join("cpu.max"))?;
    let (quota, period) = limit.split_once(' ')?;
    let (quota, period) = (quota.parse::<u64>().ok()?, period.parse::<u64>().ok()?);
    u32::try_from(quota.checked_mul(100)?.checked_div(period)?.max(1)).ok()
}

impl HugePages {
    /// What this machine offers now; reserved pages come and go.
    #[must_use]
    pub fn read() -> Self {
        huge_pages(Path::new("/"))
    }
}

fn huge_pages(root: &Path) -> HugePages {
    let modes = root.join("sys/kernel/mm/transparent_hugepage");
    // The mode in force stands in brackets: `always [madvise] never`.
    let mode = |file: &str| {
        let text = text(&modes.join(file)).unwrap_or_default();
        text.split_once('[')
            .and_then(|(_, rest)| rest.split_once(']'))
            .map_or_else(String::new, |(mode, _)| mode.to_owned())
    };
    let free = root.join("sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages");
    HugePages {
        reserved_free: text(&free).and_then(|text| text.parse().ok()).unwrap_or(0),
        anonymous: mode("enabled"),
        shared: mode("shmem_enabled"),
    }
}

fn memlock(root: &Path) -> Option<u64> {
    let limits = field(&root.join("proc/self/limits"), "Max locked memory")?;
    limits.split_whitespace().next()?.parse().ok()
}
