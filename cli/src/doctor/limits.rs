//! Limits of this process: locked memory, open files, control groups.

use super::report::Check;
use super::system::System;
use super::{Plan, mebibytes};

/// CAP_IPC_LOCK: locks memory without a limit.
const IPC_LOCK_BIT: u64 = 1 << 14;

/// Bytes of the two rings of a link, and what belongs to them.
const LINK_BYTES: u64 = 3 << 20;

/// Files that a node has open besides those of its peers.
const OWN_FILES: u64 = 64;

pub(crate) fn check(system: &System, plan: &Plan) -> Vec<Check> {
    let mut checks = vec![locked_memory(system, plan), open_files(system, plan)];
    checks.extend(memory_group(system, plan));
    checks.extend(huge_page_group(system));
    checks.extend(device_group(system));
    checks.push(shared_memory(system));
    checks
}

fn soft_limit(system: &System, name: &str) -> Option<u64> {
    system.field("proc/self/limits", name)?.split_whitespace().next()?.parse().ok()
}

fn locked_memory(system: &System, plan: &Plan) -> Check {
    let name = "locked memory";
    let needed = plan.memory_bytes + plan.nodes * LINK_BYTES;
    let capabilities = system
        .field("proc/self/status", "CapEff:")
        .and_then(|digits| u64::from_str_radix(&digits, 16).ok());
    if capabilities.is_some_and(|bits| bits & IPC_LOCK_BIT != 0) {
        return Check::pass(name, "unlimited (CAP_IPC_LOCK)");
    }
    let Some(limit) = soft_limit(system, "Max locked memory") else {
        return Check::pass(name, "unlimited");
    };
    let limit_text = format!("limit {} KiB", limit >> 10);
    if limit >= needed {
        return Check::pass(name, limit_text);
    }
    if !plan.has_device && !plan.wants_verbs {
        return Check::pass(name, format!("{limit_text}; only RDMA needs more"));
    }
    Check::fail(
        name,
        format!(
            "{limit_text}, but {} MiB of rows and links of {} nodes are to be registered (--memory, --nodes)",
            mebibytes(needed),
            plan.nodes
        ),
        "ulimit -l unlimited, as root before the job; for good: '* - memlock unlimited' in \
         /etc/security/limits.d/rdma.conf and a new login\n\
         systemd: LimitMEMLOCK=infinity; Docker: --ulimit memlock=-1:-1 --cap-add IPC_LOCK; Slurm: PropagateResourceLimitsExcept=MEMLOCK",
    )
}

fn open_files(system: &System, plan: &Plan) -> Check {
    let name = "open files";
    // Over sockets: a link for each peer and a lane for each worker and peer, the same again for what is served.
    let needed = OWN_FILES + plan.nodes * (1 + 2 * plan.workers);
    match soft_limit(system, "Max open files") {
        Some(limit) if limit < needed => Check::warn(
            name,
            format!(
                "limit {limit}; {} nodes of {} workers over tcp may need {needed}",
                plan.nodes, plan.workers
            ),
            format!("ulimit -n {}", needed.next_power_of_two()),
        ),
        Some(limit) => Check::pass(name, format!("limit {limit}")),
        None => Check::pass(name, "unlimited"),
    }
}

fn memory_group(system: &System, plan: &Plan) -> Option<Check> {
    let limit: u64 = system.group_file("memory.max")?.parse().ok()?;
    let text = format!("the control group may use {} MiB", mebibytes(limit));
    Some(if limit < plan.memory_bytes {
        let planned = mebibytes(plan.memory_bytes);
        Check::fail(
            "memory of the control group",
            format!("{text}, {planned} MiB of rows are planned (--memory)"),
            "raise memory.max (Docker: --memory; Kubernetes: resources.limits.memory; Slurm: --mem)",
        )
    } else {
        Check::pass("memory of the control group", text)
    })
}

fn huge_page_group(system: &System) -> Option<Check> {
    let limit: u64 = system.group_file("hugetlb.2MB.max")?.parse().ok()?;
    Some(Check::warn(
        "huge pages of the control group",
        format!("at most {} MiB of reserved huge pages may be used", mebibytes(limit)),
        "raise hugetlb.2MB.max, or leave it: rows then lie in transparent huge pages",
    ))
}

fn device_group(system: &System) -> Option<Check> {
    let limits = system.group_file("rdma.max")?;
    let limited: Vec<String> = limits
        .lines()
        .filter(|line| line.split_whitespace().skip(1).any(|part| !part.ends_with("=max")))
        .map(str::to_owned)
        .collect();
    (!limited.is_empty()).then(|| {
        Check::warn(
            "RDMA in the control group",
            "the control group limits handles or objects of devices",
            "echo 'DEVICE hca_handle=max hca_object=max' > rdma.max of the group, if jobs fail to make queue pairs",
        )
        .with_details(limited)
    })
}

/// People who know other systems look for this one.
fn shared_memory(system: &System) -> Check {
    let there = if system.exists("dev/shm") { "its size" } else { "its absence" };
    Check::pass("/dev/shm", format!("{there} does not matter: rows lie in memfds"))
}

#[cfg(test)]
mod tests {
    use super::super::report::Level;
    use super::super::system::fixture::Machine;
    use super::*;

    const PLAN: Plan =
        Plan { memory_bytes: 1 << 30, workers: 4, nodes: 16, has_device: true, wants_verbs: false };

    fn machine(limits: &str, capabilities: &str) -> Machine {
        Machine::new(&[
            ("proc/self/limits", limits),
            ("proc/self/status", capabilities),
            ("proc/self/cgroup", "0::/job\n"),
            ("sys/fs/cgroup/job/memory.max", "536870912\n"),
            (
                "sys/fs/cgroup/job/rdma.max",
                "mlx5_0 hca_handle=2 hca_object=2000\nmlx5_1 hca_handle=max hca_object=max\n",
            ),
        ])
    }

    #[test]
    fn too_little_locked_memory_fails_with_a_device_and_passes_without() {
        let machine =
            machine("Max locked memory  8388608  8388608  bytes\n", "CapEff:\t0000000000000000\n");
        let check = locked_memory(&machine.system, &PLAN);
        assert_eq!(check.level, Level::Fail);
        assert!(
            check.reason.contains("8192 KiB") && check.reason.contains("1072 MiB"),
            "{check:?}"
        );
        assert!(check.fix.expect("a fix").contains("memlock unlimited"));
        let without = Plan { has_device: false, ..PLAN };
        assert_eq!(locked_memory(&machine.system, &without).level, Level::Pass);
        let wanted = Plan { has_device: false, wants_verbs: true, ..PLAN };
        assert_eq!(locked_memory(&machine.system, &wanted).level, Level::Fail);
    }

    #[test]
    fn the_capability_to_lock_memory_or_no_limit_is_enough() {
        let may =
            machine("Max locked memory  65536  65536  bytes\n", "CapEff:\t0000000000004000\n");
        assert_eq!(locked_memory(&may.system, &PLAN).level, Level::Pass);
        let free = machine("Max locked memory  unlimited  unlimited  bytes\n", "CapEff:\t0\n");
        assert_eq!(locked_memory(&free.system, &PLAN).level, Level::Pass);
    }

    #[test]
    fn limits_of_control_groups_and_files_are_named_with_their_size() {
        let machine = machine("Max open files  128  4096  files\n", "");
        let checks = check(&machine.system, &PLAN);
        let of = |name: &str| checks.iter().find(|check| check.name.contains(name)).expect(name);
        assert_eq!(of("open files").level, Level::Warn);
        assert_eq!(of("open files").fix.as_deref(), Some("ulimit -n 256"));
        assert_eq!(of("memory of the control group").level, Level::Fail);
        let devices = of("RDMA in the control group");
        assert_eq!(devices.details, ["mlx5_0 hca_handle=2 hca_object=2000"]);
    }
}
