//! The devices: whether this user may open them, what they are, and what they can do.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use sterna_rdma::verbs::{Atomics, Device, DeviceEntry, ForkSafety};

use super::Plan;
use super::report::Check;
use super::system::System;

/// READs under way at a time on one queue pair below which small reads wait for each other.
const READS_WANTED: u32 = 16;

/// Queue pairs of a pair of nodes: a link and a lane for each worker, at most.
const QUEUE_PAIRS_PER_LANE: u64 = 1;

pub(crate) fn check(
    system: &System,
    plan: &Plan,
    entries: &[DeviceEntry],
    fork: Option<ForkSafety>,
) -> Vec<Check> {
    let mut checks = vec![nodes(system)];
    for entry in entries {
        match &entry.device {
            Ok(device) => checks.extend(of_device(plan, device)),
            Err(error) => checks.push(Check::fail(
                entry.name.clone(),
                error.to_string(),
                "dmesg | tail, and: ls -l /dev/infiniband",
            )),
        }
    }
    checks.extend(fork.map(of_fork));
    checks
}

/// Device files that exist but cannot be opened are the usual trap of containers and of hosts without udev rules.
fn nodes(system: &System) -> Check {
    let names: Vec<String> = system
        .names("dev/infiniband")
        .into_iter()
        .filter(|name| name.starts_with("uverbs"))
        .collect();
    let closed: Vec<String> = names
        .iter()
        .map(|name| system.path("dev/infiniband").join(name))
        .filter(|path| !may_use(path))
        .map(|path| path.display().to_string())
        .collect();
    if names.is_empty() {
        return Check::fail(
            "device files",
            "there is no /dev/infiniband/uverbs*",
            "modprobe ib_uverbs; in a container: --device=/dev/infiniband",
        );
    }
    if closed.is_empty() {
        return Check::pass("device files", format!("{} may be used", names.join(", ")));
    }
    Check::fail(
        "device files",
        format!("this user may not read and write {}", closed.join(", ")),
        format!(
            "chmod 0666 {}; for good install rdma-core, whose udev rules do it",
            closed.join(" ")
        ),
    )
}

fn may_use(path: &Path) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return false };
    // SAFETY: the path ends with a zero byte and lives during the call.
    unsafe { libc::access(path.as_ptr(), libc::R_OK | libc::W_OK) == 0 }
}

fn of_device(plan: &Plan, device: &Device) -> Vec<Check> {
    let name = &device.name;
    let firmware = if device.firmware.is_empty() { "none" } else { &device.firmware };
    let kind = if device.is_software { ", in software" } else { "" };
    let mut checks = vec![Check::pass(
        name.clone(),
        format!(
            "{}, vendor {:#x} part {}, firmware {firmware}{kind}",
            device.node.display(),
            device.vendor.0,
            device.vendor.1
        ),
    )];
    if device.is_software {
        checks.push(Check::warn(
            format!("{name}: speed"),
            "a device in software: right for trying and testing, slower than tcp",
            "use --fabric tcp where speed counts, or a network card with RDMA",
        ));
    }
    let limits = &device.limits;
    let reads = (limits.reads_served, limits.reads_issued);
    checks.push(reads_at_a_time(name, reads));
    checks.push(queue_pairs(name, limits.queue_pairs, plan));
    checks.push(shared_queues(name, limits.shared_queues, limits.shared_requests));
    checks.push(region_bytes(name, limits.region_bytes, plan));
    checks.push(Check::pass(
        format!("{name}: atomics"),
        match limits.atomics {
            Atomics::None => "none; Sterna needs none",
            Atomics::Device => "among those of the device only; Sterna uses none",
            Atomics::Global => "with those of processors, too; Sterna uses none",
        },
    ));
    checks
}

fn reads_at_a_time(device: &str, (served, issued): (u32, u32)) -> Check {
    let name = format!("{device}: READs at a time");
    let text = format!("a queue pair serves {served} and issues {issued}");
    match served.min(issued) {
        0 => Check::fail(name, format!("{text}: there are no one-sided READs"), "use --fabric tcp"),
        few if few < READS_WANTED => Check::warn(
            name,
            format!("{text}, fewer than {READS_WANTED}: pulls of many small rows are slower"),
            "a driver's setting on some devices (log_max_ra_req_qp with mlxconfig); else nothing",
        ),
        _ => Check::pass(name, text),
    }
}

fn queue_pairs(device: &str, most: u64, plan: &Plan) -> Check {
    let name = format!("{device}: queue pairs");
    let wanted = plan.nodes.saturating_sub(1) * (1 + plan.workers * QUEUE_PAIRS_PER_LANE);
    let text = format!(
        "at most {most}; {} nodes of {} workers use up to {wanted}",
        plan.nodes, plan.workers
    );
    if wanted <= most {
        Check::pass(name, text)
    } else {
        Check::warn(
            name,
            text,
            "start fewer workers (--workers) or nodes on this host; lanes are shared then",
        )
    }
}

fn shared_queues(device: &str, queues: u64, requests: u64) -> Check {
    let name = format!("{device}: shared receive queues");
    if queues == 0 {
        return Check::fail(name, "none", "use --fabric tcp: records over this device need one");
    }
    Check::pass(name, format!("{queues} of up to {requests} requests"))
}

fn region_bytes(device: &str, most: u64, plan: &Plan) -> Check {
    let name = format!("{device}: size of a region");
    if most < plan.memory_bytes {
        let text = format!("at most {} MiB: rows are registered in more pieces", most >> 20);
        return Check::warn(name, text, "nothing; more pieces cost the device some of its cache");
    }
    Check::pass(name, "as much as is planned")
}

fn of_fork(safety: ForkSafety) -> Check {
    let name = "processes that fork";
    match safety {
        ForkSafety::Kernel => Check::pass(name, "the kernel copies registered pages for children"),
        ForkSafety::Library => {
            Check::pass(name, "the library hides registered memory from children")
        }
        ForkSafety::Unsafe => Check::warn(
            name,
            "forking after registering may break transfers",
            "start children with exec (Python: multiprocessing.set_start_method('spawn')), or a kernel of 5.12 or newer",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::Level;
    use super::super::system::fixture::Machine;
    use super::*;

    #[test]
    fn missing_and_closed_device_files_fail_with_the_command_that_helps() {
        let none = nodes(&Machine::new(&[("dev/null", "")]).system);
        assert_eq!(none.level, Level::Fail);
        assert!(none.fix.is_some_and(|fix| fix.contains("ib_uverbs")));
        let machine = Machine::new(&[("dev/infiniband/uverbs0", "")]);
        assert_eq!(nodes(&machine.system).level, Level::Pass);
        // SAFETY: plain system call.
        if unsafe { libc::geteuid() } != 0 {
            use std::os::unix::fs::PermissionsExt as _;
            let path = machine.system.path("dev/infiniband/uverbs0");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).expect("ours");
            let closed = nodes(&machine.system);
            assert_eq!(closed.level, Level::Fail);
            assert!(closed.fix.is_some_and(|fix| fix.contains("chmod 0666")));
        }
    }

    #[test]
    fn limits_below_what_is_planned_are_told_with_both_numbers() {
        let plan = Plan { nodes: 64, workers: 8, memory_bytes: 1 << 40, ..Plan::example() };
        let check = queue_pairs("rxe0", 100, &plan);
        assert_eq!(check.level, Level::Warn);
        assert!(check.reason.contains("100") && check.reason.contains("567"), "{check:?}");
        assert_eq!(queue_pairs("mlx5_0", 1 << 17, &plan).level, Level::Pass);
        assert_eq!(reads_at_a_time("a", (16, 16)).level, Level::Pass);
        assert_eq!(reads_at_a_time("a", (4, 16)).level, Level::Warn);
        assert_eq!(reads_at_a_time("a", (16, 0)).level, Level::Fail);
        assert_eq!(region_bytes("a", 1 << 30, &plan).level, Level::Warn);
        assert_eq!(shared_queues("a", 0, 0).level, Level::Fail);
        assert_eq!(of_fork(ForkSafety::Unsafe).level, Level::Warn);
    }
}
