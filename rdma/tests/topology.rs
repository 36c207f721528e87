//! Reads machines that are not this one from files, and this one for real.

use std::fs;
use std::path::{Path, PathBuf};

use sterna_rdma::topology::{CpuList, Topology};

struct Root(PathBuf);

impl Root {
    fn new(name: &str, files: &[(&str, &str)]) -> Self {
        let root = std::env::temp_dir().join(format!("sterna-{name}-{}", std::process::id()));
        for (path, content) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("make a folder");
            fs::write(path, content).expect("write a fixture");
        }
        Self(root)
    }

    fn read(&self, allowed: &str) -> Topology {
        Topology::read_below(Path::new(&self.0), allowed.parse().expect("a list"))
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn two_domains_with_siblings_huge_pages_and_limits_are_read() {
    let cpu = |n: u32| format!("sys/devices/system/cpu/cpu{n}/topology/thread_siblings_list");
    let (c0, c1, c2, c3) = (cpu(0), cpu(1), cpu(2), cpu(3));
    let root = Root::new(
        "two-domains",
        &[
            ("sys/devices/system/node/node0/cpulist", "0,2\n"),
            ("sys/devices/system/node/node1/cpulist", "1,3\n"),
            ("sys/devices/system/node/node2/cpulist", "\n"),
            (&c0, "0,2\n"),
            (&c2, "0,2\n"),
            (&c1, "1,3\n"),
            (&c3, "1,3\n"),
            ("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n"),
            ("sys/kernel/mm/transparent_hugepage/shmem_enabled", "always [never] deny\n"),
            ("sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "64\n"),
            ("proc/self/cgroup", "0::/job\n"),
            ("sys/fs/cgroup/job/cpu.max", "150000 100000\n"),
            ("proc/self/limits", "Max locked memory         8388608              8388608  bytes\n"),
        ],
    );
    let topology = root.read("0-3");
    assert_eq!(topology.domains.len(), 2, "memory without CPUs is no domain for workers");
    assert_eq!(topology.cores.len(), 2);
    assert_eq!(topology.quota_centicpus, Some(150));
    assert_eq!(topology.parallelism(), 2);
    assert_eq!(topology.huge_pages.reserved_free, 64);
    assert_eq!(topology.memlock_bytes, Some(8 << 20));
    assert_eq!(
        topology.to_string(),
        "2 of 4 CPUs in 2 NUMA domains, huge pages: 64 reserved, anonymous madvise, shared never, \
         memlock 8192 KiB"
    );
}

#[test]
fn a_machine_that_tells_nothing_is_one_domain_of_the_allowed_cpus() {
    let root =
        Root::new("silent", &[("proc/self/limits", "Max locked memory unlimited unlimited\n")]);
    let topology = root.read("4-5");
    assert_eq!(topology.domains.len(), 1);
    assert_eq!(topology.allowed, "4-5".parse::<CpuList>().expect("a list"));
    assert_eq!((topology.parallelism(), topology.memlock_bytes), (2, None));
}

#[test]
fn this_machine_has_a_cpu_to_run_on() {
    let topology = Topology::read();
    assert!(!topology.allowed.is_empty());
    assert!(topology.parallelism() <= topology.allowed.len());
}
