//! A machine without an RDMA device: how to have one in software, and what works without.

use super::report::Check;
use super::system::System;

pub(crate) fn check(system: &System) -> Vec<Check> {
    let name = "soft-RoCE";
    let make = "scripts/soft-roce up (of Sterna's repository), or: sudo modprobe rdma_rxe && sudo rdma link add rxe0 type rxe netdev INTERFACE";
    let without = "jobs use shm within a host and tcp between hosts";
    vec![if system.exists("sys/module/rdma_rxe") {
        Check::pass(name, format!("rdma_rxe is loaded; a software device to try RDMA with: {make}"))
    } else if module(system) {
        Check::pass(
            name,
            format!("this kernel has rdma_rxe; a software device to try RDMA with: {make}"),
        )
    } else {
        Check::pass(
            name,
            format!(
                "this kernel has no rdma_rxe (Ubuntu: linux-modules-extra-{}); {without}; ci/guest of Sterna's \
                 repository runs a command in a guest that has a device",
                system.kernel()
            ),
        )
    }]
}

/// Whether modprobe would find it.
fn module(system: &System) -> bool {
    let folder = format!("lib/modules/{}", system.kernel());
    ["modules.dep", "modules.builtin"].iter().any(|list| {
        system.text(format!("{folder}/{list}")).is_some_and(|text| text.contains("/rdma_rxe.ko"))
    })
}

#[cfg(test)]
mod tests {
    use super::super::system::fixture::Machine;
    use super::*;

    #[test]
    fn the_way_to_a_software_device_depends_on_the_kernel() {
        let kernel = ("proc/sys/kernel/osrelease", "6.1.0");
        let modules = "kernel/drivers/infiniband/sw/rxe/rdma_rxe.ko: kernel/net/udp_tunnel.ko\n";
        let with = Machine::new(&[kernel, ("lib/modules/6.1.0/modules.dep", modules)]);
        assert!(check(&with.system)[0].reason.contains("modprobe rdma_rxe"));
        let without = Machine::new(&[kernel]);
        assert!(check(&without.system)[0].reason.contains("linux-modules-extra-6.1.0"));
    }
}
