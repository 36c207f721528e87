//! Containers: what has to be handed in so that RDMA works inside one.

use super::report::Check;
use super::system::System;

const DOCKER: &str = "docker run --device=/dev/infiniband --ulimit memlock=-1:-1 --cap-add=IPC_LOCK --network=host ...";

const KUBERNETES: [&str; 8] = [
    "spec:",
    "  hostNetwork: true                  # or a network of the RDMA device (SR-IOV, macvlan)",
    "  containers:",
    "  - securityContext:",
    "      capabilities: { add: [IPC_LOCK] }",
    "    resources:",
    "      limits: { rdma/hca: 1 }        # the name that the cluster's device plugin gives",
    "      # locked memory is not set here: LimitMEMLOCK=infinity for the container runtime's service",
];

pub(crate) fn check(system: &System, variable: &dyn Fn(&str) -> Option<String>) -> Vec<Check> {
    let Some(kind) = kind(system, variable) else {
        return vec![Check::pass("container", "not in a container, as far as one can see")];
    };
    let devices = system.names("sys/class/infiniband");
    let nodes = system.names("dev/infiniband");
    let nodes = nodes.iter().filter(|name| name.starts_with("uverbs")).count();
    let fragment = |check: Check| {
        if kind == "Kubernetes" {
            check.with_details(KUBERNETES.map(str::to_owned).to_vec())
        } else {
            check
        }
    };
    let mut checks = vec![if devices.is_empty() {
        Check::pass("container", format!("{kind}; the host has no RDMA device"))
    } else if nodes == 0 {
        let reason = format!(
            "{kind}: the host has {}, but no /dev/infiniband/uverbs* was handed in",
            devices.join(", ")
        );
        fragment(Check::fail("container", reason, DOCKER))
    } else {
        Check::pass("container", format!("{kind}, {nodes} device file(s) handed in"))
    }];
    // Exclusive devices belong to one network namespace; a container with its own sees none of the host's addresses.
    if !devices.is_empty()
        && system.text("sys/module/ib_core/parameters/netns_mode").as_deref() == Some("N")
    {
        checks.push(Check::warn(
            "network namespaces",
            "RDMA devices belong to one network namespace each (exclusive mode)",
            "move the device in: rdma dev set DEVICE netns CONTAINER; or share devices: rdma system set netns shared",
        ));
    }
    checks
}

fn kind(system: &System, variable: &dyn Fn(&str) -> Option<String>) -> Option<&'static str> {
    if variable("KUBERNETES_SERVICE_HOST").is_some() {
        return Some("Kubernetes");
    }
    if system.exists(".dockerenv") {
        return Some("Docker");
    }
    if system.exists("run/.containerenv") {
        return Some("Podman");
    }
    if variable("container").is_some() {
        return Some("a container");
    }
    if variable("APPTAINER_CONTAINER").is_some() || variable("SINGULARITY_CONTAINER").is_some() {
        return Some("Apptainer");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::report::Level;
    use super::super::system::fixture::Machine;
    use super::*;

    #[test]
    fn a_container_without_device_files_is_told_which_to_hand_in() {
        let files = [(".dockerenv", ""), ("sys/class/infiniband/mlx5_0/node_type", "1: CA")];
        let machine = Machine::new(&files);
        let checks = check(&machine.system, &|_| None);
        assert_eq!(checks[0].level, Level::Fail);
        assert!(
            checks[0].fix.as_deref().is_some_and(|fix| fix.contains("--device=/dev/infiniband"))
        );
        let pod = |name: &str| (name == "KUBERNETES_SERVICE_HOST").then(|| "10.0.0.1".to_owned());
        assert!(
            check(&machine.system, &pod)[0].details.iter().any(|line| line.contains("IPC_LOCK"))
        );
        let complete = Machine::new(&[files[0], files[1], ("dev/infiniband/uverbs0", "")]);
        assert_eq!(check(&complete.system, &|_| None)[0].level, Level::Pass);
    }

    #[test]
    fn a_machine_that_is_no_container_passes() {
        let machine = Machine::new(&[("proc/sys/kernel/osrelease", "6.1")]);
        let checks = check(&machine.system, &|_| None);
        assert_eq!((checks.len(), checks[0].level), (1, Level::Pass));
    }
}
