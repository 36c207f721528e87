//! Huge pages: random access to rows in 4 KiB pages is up to 1.8 times slower, and devices keep a table of pages, too.

use std::path::Path;

use sterna_rdma::topology::{CpuList, Topology};

use super::report::Check;
use super::system::System;
use super::{Plan, mebibytes};

const HUGE_BYTES: u64 = 2 << 20;

/// The first kernel that makes huge pages of small ones on request (MADV_COLLAPSE), for shared memory, too.
const COLLAPSE_SINCE: (u32, u32) = (6, 1);

pub(crate) fn check(system: &System, plan: &Plan) -> Vec<Check> {
    let pages = Topology::read_below(&system.path(""), CpuList::default()).huge_pages;
    let needed = plan.memory_bytes.div_ceil(HUGE_BYTES);
    let fix = format!(
        "sysctl vm.nr_hugepages={needed} (early after boot, while memory is in one piece), or echo advise > \
         /sys/kernel/mm/transparent_hugepage/shmem_enabled"
    );
    let name = "huge pages for rows";
    let planned = mebibytes(plan.memory_bytes);
    let rows = if pages.reserved_free >= needed {
        Check::pass(
            name,
            format!("{} of 2 MiB reserved and free, {needed} planned", pages.reserved_free),
        )
    } else {
        match pages.shared.as_str() {
            mode @ ("always" | "within_size" | "advise" | "force") => {
                Check::pass(name, format!("transparent for shared memory ({mode})"))
            }
            "never" if system.kernel_version() >= COLLAPSE_SINCE => Check::pass(
                name,
                "made on request, since the system does not give them to shared memory by itself (shmem_enabled is never)",
            ),
            mode => Check::warn(
                name,
                format!(
                    "{} reserved and free, {needed} planned for {planned} MiB (--memory), and none for shared memory by \
                     request ({}): access to rows of jobs with peers is up to 1.8 times slower",
                    pages.reserved_free,
                    if mode.is_empty() { "this kernel has none" } else { mode }
                ),
                fix,
            ),
        }
    };
    let mut checks = vec![rows.with_details(by_domain(system, needed))];
    if pages.anonymous == "never" {
        checks.push(Check::warn(
            "huge pages for jobs of one node",
            "transparent huge pages are switched off",
            "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
        ));
    }
    checks
}

/// Reserved pages lie in one NUMA domain each; those of another domain are slower to reach.
fn by_domain(system: &System, needed: u64) -> Vec<String> {
    let nodes = Path::new("sys/devices/system/node");
    let mut lines = Vec::new();
    for node in system.names(nodes) {
        let pages = nodes.join(&node).join("hugepages/hugepages-2048kB");
        let (Some(free), Some(all)) = (
            system.number(pages.join("free_hugepages")),
            system.number(pages.join("nr_hugepages")),
        ) else {
            continue;
        };
        if all > 0 && node.starts_with("node") {
            lines.push(format!(
                "{node}: {free} of {all} free; more there: echo {} > /{}",
                all + needed.saturating_sub(free),
                pages.join("nr_hugepages").display()
            ));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::super::report::Level;
    use super::super::system::fixture::Machine;
    use super::*;

    fn judge(kernel: &str, free: &str, shared: &str) -> Check {
        let machine = Machine::new(&[
            ("proc/sys/kernel/osrelease", kernel),
            ("sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", free),
            ("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never"),
            ("sys/kernel/mm/transparent_hugepage/shmem_enabled", shared),
            ("sys/devices/system/node/node0/hugepages/hugepages-2048kB/free_hugepages", free),
            ("sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages", "64"),
        ]);
        let plan = Plan {
            memory_bytes: 128 << 20,
            workers: 1,
            nodes: 1,
            has_device: false,
            wants_verbs: false,
        };
        check(&machine.system, &plan).remove(0)
    }

    #[test]
    fn reserved_transparent_or_requested_huge_pages_pass_and_none_warns_with_the_number() {
        assert_eq!(judge("5.15.0", "64", "always [never]").level, Level::Pass);
        assert_eq!(judge("5.15.0", "0", "always [advise] never").level, Level::Pass);
        assert_eq!(judge("6.1.0", "0", "always advise [never] deny").level, Level::Pass);
        let old = judge("5.15.0", "3", "always advise [never]");
        assert_eq!(old.level, Level::Warn);
        assert!(old.fix.expect("a fix").contains("vm.nr_hugepages=64"));
        assert!(
            old.details[0].contains("node0: 3 of 64 free") && old.details[0].contains("echo 125")
        );
        assert_eq!(judge("6.8.0", "0", "always advise never [deny]").level, Level::Warn);
    }
}
