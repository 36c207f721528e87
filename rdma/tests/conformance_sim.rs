//! The conformance suite on the simulator.

mod conformance;

use std::sync::Arc;

use conformance::Cluster;
use sterna_rdma::sim::{SimConfig, SimWorld};
use sterna_rdma::{Fabric, Rank};

/// Nodes of a simulated world.
struct SimCluster {
    world: SimWorld,
}

impl Cluster for SimCluster {
    const SEEDS: std::ops::Range<u64> = 0..12;

    fn start(nodes: usize, seed: u64) -> Self {
        // Rings of all kinds: short in bytes, short in records, ample.
        let config = SimConfig::new(nodes, seed);
        let config = match seed % 3 {
            0 => config,
            1 => SimConfig { ring_bytes: 1 << 20, ring_records: 8, ..config },
            _ => SimConfig { ring_bytes: 2_000, ring_records: 1_000, lane_reads: 128, ..config },
        };
        Self { world: SimWorld::new(config) }
    }

    fn fabric(&mut self, rank: Rank) -> Arc<dyn Fabric> {
        self.world.fabric(rank)
    }

    fn idle(&mut self, _rounds: u32) -> bool {
        self.world.advance()
    }

    fn end(&mut self, rank: Rank, _fabric: Arc<dyn Fabric>) {
        self.world.kill(rank);
    }
}

conformance::conformance!(SimCluster);
conformance::conformance_guards!(SimCluster);
