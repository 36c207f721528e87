//! CPUs, NUMA domains and slots: what shares what, and whether a card has its slot's full speed.

use std::path::Path;

use sterna_rdma::topology::Topology;

use super::Plan;
use super::report::Check;
use super::system::System;

pub(crate) fn check(system: &System, plan: &Plan, topology: &Topology) -> Vec<Check> {
    let mut checks = vec![cpus(plan, topology), governor(system)];
    for device in system.names("sys/class/infiniband") {
        let slot = Path::new("sys/class/infiniband").join(&device).join("device");
        if system.exists(&slot) {
            checks.push(domain(system, topology, &device, &slot));
            checks.extend(pcie(system, &device, &slot));
            checks.extend(translation(system, &device, &slot));
        }
    }
    checks
}

fn cpus(plan: &Plan, topology: &Topology) -> Check {
    let name = "CPUs";
    let wanted = usize::try_from(plan.workers).unwrap_or(usize::MAX);
    let usable = topology.parallelism();
    let cores = topology
        .cores
        .iter()
        .filter(|core| core.as_slice().iter().any(|&cpu| topology.allowed.contains(cpu)))
        .count();
    let text = format!("{topology}; {wanted} workers planned (--workers)");
    if wanted > usable {
        return Check::warn(
            name,
            format!("{text}, more than can run at a time: nothing is pinned and nobody spins"),
            format!(
                "--workers {usable}, or a wider CPU mask (taskset, cpuset, Slurm --cpus-per-task)"
            ),
        );
    }
    if wanted > cores {
        return Check::warn(
            name,
            format!("{text}: some share a core with another (SMT), which gains little here"),
            format!("--workers {cores}"),
        );
    }
    Check::pass(name, text)
}

fn governor(system: &System) -> Check {
    let name = "clock of the CPUs";
    match system.text("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").as_deref() {
        Some("powersave" | "ondemand" | "conservative")
            if system.text("sys/devices/system/cpu/intel_pstate/status").as_deref()
                != Some("active") =>
        {
            Check::warn(
                name,
                "the governor lets CPUs run slowly between bursts: latencies rise",
                "cpupower frequency-set -g performance",
            )
        }
        Some(governor) => Check::pass(name, format!("governor {governor}")),
        None => Check::pass(name, "not ours to set (a virtual machine, or no driver)"),
    }
}

fn domain(system: &System, topology: &Topology, device: &str, slot: &Path) -> Check {
    let name = format!("{device}: NUMA domain");
    let number = system.text(slot.join("numa_node")).and_then(|text| text.parse::<u32>().ok());
    // A machine of one domain says -1.
    let Some(number) = number.filter(|_| topology.domains.len() > 1) else {
        return Check::pass(name, "one domain");
    };
    let near = topology.domains.iter().find(|domain| domain.number == number);
    let usable = near
        .is_some_and(|near| near.cpus.as_slice().iter().any(|&cpu| topology.allowed.contains(cpu)));
    if usable {
        return Check::pass(name, format!("{number}, with CPUs of this process"));
    }
    let cpus = near.map_or_else(|| "?".to_owned(), |near| near.cpus.to_string());
    Check::warn(
        name,
        format!(
            "{number}, but this process may only run in others: each transfer crosses the sockets"
        ),
        format!("taskset -c {cpus} COMMAND, or numactl --cpunodebind={number} COMMAND"),
    )
}

fn pcie(system: &System, device: &str, slot: &Path) -> Option<Check> {
    let text = |file: &str| system.text(slot.join(file));
    let (speed, speed_max) = (text("current_link_speed")?, text("max_link_speed")?);
    let (width, width_max) = (text("current_link_width")?, text("max_link_width")?);
    let name = format!("{device}: slot");
    let now = format!("{speed} x{width}");
    if speed == speed_max && width == width_max {
        return Some(Check::pass(name, now));
    }
    Some(Check::warn(
        name,
        format!("{now}, but the card can do {speed_max} x{width_max}: its bandwidth is cut"),
        "another slot, a riser of full width, the firmware's setting of the slot",
    ))
}

fn translation(system: &System, device: &str, slot: &Path) -> Option<Check> {
    let kind = system.text(slot.join("iommu_group/type"))?;
    let name = format!("{device}: IOMMU");
    Some(match kind.as_str() {
        "identity" => Check::pass(name, "passes addresses through"),
        translated => Check::warn(
            name,
            format!("translates addresses ({translated}), which costs latency and bandwidth"),
            "iommu=pt on the kernel's command line",
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::super::report::Level;
    use super::super::system::fixture::Machine;
    use super::*;

    const SLOT: &str = "sys/class/infiniband/mlx5_0/device";

    fn judge(allowed: &str, workers: u64) -> Vec<Check> {
        let file = |name: &str| format!("{SLOT}/{name}");
        let (domain, speed, speed_max) =
            (file("numa_node"), file("current_link_speed"), file("max_link_speed"));
        let (width, width_max, group) =
            (file("current_link_width"), file("max_link_width"), file("iommu_group/type"));
        let machine = Machine::new(&[
            ("sys/devices/system/node/node0/cpulist", "0-1"),
            ("sys/devices/system/node/node1/cpulist", "2-3"),
            ("sys/devices/system/cpu/cpu0/topology/thread_siblings_list", "0-1"),
            ("sys/devices/system/cpu/cpu1/topology/thread_siblings_list", "0-1"),
            ("sys/devices/system/cpu/cpu2/topology/thread_siblings_list", "2-3"),
            ("sys/devices/system/cpu/cpu3/topology/thread_siblings_list", "2-3"),
            ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave"),
            (&domain, "1"),
            (&speed, "8.0 GT/s PCIe"),
            (&speed_max, "16.0 GT/s PCIe"),
            (&width, "16"),
            (&width_max, "16"),
            (&group, "DMA"),
        ]);
        let topology =
            Topology::read_below(&machine.system.path(""), allowed.parse().expect("CPUs"));
        check(&machine.system, &Plan { workers, ..Plan::example() }, &topology)
    }

    fn of<'a>(checks: &'a [Check], name: &str) -> &'a Check {
        checks.iter().find(|check| check.name.contains(name)).expect(name)
    }

    #[test]
    fn a_card_of_another_domain_a_slow_slot_and_a_translating_iommu_warn() {
        let checks = judge("0-1", 1);
        assert_eq!(of(&checks, "CPUs").level, Level::Pass);
        for name in ["governor", "NUMA", "slot", "IOMMU"] {
            let name = if name == "governor" { "clock" } else { name };
            assert_eq!(of(&checks, name).level, Level::Warn, "{name}");
        }
        assert!(
            of(&checks, "NUMA").fix.as_deref().is_some_and(|fix| fix.contains("taskset -c 2-3"))
        );
        assert_eq!(of(&judge("0-3", 2), "NUMA").level, Level::Pass);
    }

    #[test]
    fn more_workers_than_cores_or_cpus_warn_with_a_number_that_fits() {
        assert_eq!(of(&judge("0-3", 2), "CPUs").level, Level::Pass);
        assert_eq!(of(&judge("0-3", 3), "CPUs").fix.as_deref(), Some("--workers 2"));
        assert!(
            of(&judge("0-3", 9), "CPUs")
                .fix
                .as_deref()
                .is_some_and(|fix| fix.contains("--workers 4"))
        );
    }
}
