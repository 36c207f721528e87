//! Which thread of a node runs on which CPU.
//!
//! The nodes of a host get disjoint shares of its cores, each inside one NUMA domain as far as they go. Workers get
//! cores of their own; the engine gets one if any is left, else it floats among the node's CPUs. When
//! the host's nodes have more workers than it has CPUs, pinning would only stop the scheduler from
//! helping: nothing is pinned.

use std::fmt;

use super::Topology;

/// Where the threads of one node run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PinPlan {
    /// The CPU of each worker; empty if workers are not pinned.
    pub workers: Vec<u32>,
    /// The CPU of the engine, if it has one of its own.
    pub engine: Option<u32>,
    /// NUMA domain of the first worker, if workers are pinned.
    pub domain: Option<u32>,
    /// Whether engines may spin: there is a CPU for every thread of every node of this host.
    pub may_spin: bool,
}

impl PinPlan {
    /// The plan of node `local_rank` of the `local_size` nodes of this host, each with `workers` workers.
    #[must_use]
    pub fn new(topology: &Topology, workers: usize, local_rank: usize, local_size: usize) -> Self {
        let order = pin_order(topology);
        let needed = workers * local_size;
        let usable = topology.parallelism().min(order.len());
        // A job of one node has no engine to run.
        let engines = if local_size > 1 { local_size } else { 0 };
        let may_spin = needed + engines <= usable;
        if needed > usable || workers == 0 || local_rank >= local_size {
            return Self { may_spin, ..Self::default() };
        }
        let first = local_rank * workers;
        let mine = &order[first..first + workers];
        let engine = (engines > 0 && may_spin).then(|| order[needed + local_rank].cpu);
        Self {
            workers: mine.iter().map(|place| place.cpu).collect(),
            engine,
            domain: mine.first().map(|place| place.domain),
            may_spin,
        }
    }
}

impl fmt::Display for PinPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.workers.is_empty() {
            return write!(f, "threads not pinned");
        }
        let cpus: super::CpuList = self.workers.iter().copied().collect();
        write!(f, "workers on CPU {cpus}")?;
        if let Some(domain) = self.domain {
            write!(f, " (NUMA domain {domain})")?;
        }
        match self.engine {
            Some(cpu) => write!(f, ", engine on CPU {cpu}"),
            None => write!(f, ", engine not pinned"),
        }
    }
}

#[derive(Clone, Copy)]
struct Place {
    cpu: u32,
    domain: u32,
}

/// Allowed CPUs in the order in which threads take them: first one of each core, domain by domain, then the siblings.
fn pin_order(topology: &Topology) -> Vec<Place> {
    let mut order = Vec::new();
    let siblings_max = topology.cores.iter().map(super::CpuList::len).max().unwrap_or(1);
    for sibling in 0..siblings_max {
        for domain in &topology.domains {
            for core in &topology.cores {
                let usable: Vec<u32> = core
                    .as_slice()
                    .iter()
                    .copied()
                    .filter(|&c| topology.allowed.contains(c))
                    .collect();
                let Some(&cpu) = usable.get(sibling) else { continue };
                if domain.cpus.contains(cpu) {
                    order.push(Place { cpu, domain: domain.number });
                }
            }
        }
    }
    order
}

/// Pins the calling thread to `cpu`. Returns false if the system refuses; the thread then floats.
#[must_use]
pub fn pin_current_thread(cpu: u32) -> bool {
    core_affinity::set_for_current(core_affinity::CoreId { id: cpu as usize })
}

#[cfg(test)]
mod tests {
    use super::super::{CpuList, Domain, HugePages};
    use super::*;

    fn machine(domains: &[&str], cores: &[&str], allowed: &str) -> Topology {
        let list = |text: &str| text.parse::<CpuList>().expect(text);
        Topology {
            domains: (0..)
                .zip(domains)
                .map(|(number, cpus)| Domain { number, cpus: list(cpus) })
                .collect(),
            allowed: list(allowed),
            quota_centicpus: None,
            cores: cores.iter().map(|core| list(core)).collect(),
            huge_pages: HugePages::default(),
            memlock_bytes: None,
        }
    }

    #[test]
    fn nodes_of_a_host_get_disjoint_cores_and_stay_in_a_domain() {
        let machine = machine(&["0-3", "4-7"], &["0", "1", "2", "3", "4", "5", "6", "7"], "0-7");
        let plans: Vec<PinPlan> = (0..2).map(|rank| PinPlan::new(&machine, 3, rank, 2)).collect();
        assert_eq!(plans[0].workers, [0, 1, 2]);
        assert_eq!(plans[1].workers, [3, 4, 5]);
        assert_eq!((plans[0].engine, plans[1].engine), (Some(6), Some(7)));
        assert!(plans[0].may_spin);
    }

    #[test]
    fn siblings_of_a_core_are_taken_last() {
        let machine = machine(&["0-3"], &["0,2", "1,3"], "0-3");
        assert_eq!(PinPlan::new(&machine, 3, 0, 1).workers, [0, 1, 2]);
    }

    #[test]
    fn nothing_is_pinned_and_nobody_spins_when_cores_do_not_suffice() {
        let machine = machine(&["0-1"], &["0", "1"], "0-1");
        let plan = PinPlan::new(&machine, 1, 0, 4);
        assert_eq!((plan.workers.len(), plan.engine, plan.may_spin), (0, None, false));
    }

    #[test]
    fn workers_without_a_core_left_for_the_engine_are_pinned_but_do_not_let_it_spin() {
        let machine = machine(&["0-3"], &["0", "1", "2", "3"], "0-3");
        let plan = PinPlan::new(&machine, 2, 1, 2);
        assert_eq!((plan.workers, plan.engine, plan.may_spin), (vec![2, 3], None, false));
    }

    #[test]
    fn cpus_outside_the_affinity_mask_and_above_the_quota_are_not_used() {
        let mut machine = machine(&["0-7"], &["0", "1", "2", "3", "4", "5", "6", "7"], "2,5-7");
        assert_eq!(PinPlan::new(&machine, 2, 1, 2).workers, [6, 7]);
        machine.quota_centicpus = Some(150);
        assert!(PinPlan::new(&machine, 2, 1, 2).workers.is_empty());
    }
}
